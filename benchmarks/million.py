"""A survey on one machine: files -> predictions -> catalog, one command each, killed on the way.

    python -m benchmarks.million [n=1000000] [names=N] [networks=shipped] [cascade=false] [kills=2]
                                 [work=benchmarks/work/million] [workers=N]

The files are those of `survey mock`, 4 % of them metal-poor, each gzipped and different from all others
(50 GB for a million). With more `names` than files, each file has several names (hard links), so that a
survey may be larger than the disk. `networks=own` trains `echelle` and `prism` on another mock survey first,
which is not timed: to the shipped networks mock files look unlike stars. The prediction is killed with all
its processes, as by a power cut, `kills` times, and the same command continues it. Then every name has to
have exactly one row or one refusal, every star one row, and no temporary file may be left. While the
commands run, memory and open files of all their processes are looked at every few seconds. Prints tables for
RESULTS.md.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from survey.status.look import look

ROOT = Path(__file__).resolve().parents[1]
DR8 = 11_214_076
LEARNED = 8000
"""Files of the mock survey that networks of our own learn."""
MEMBERS = "members=[{model: echelle, optimiser: {lr: 2e-3}}, {model: prism, epochs: 30}]"
LOOK_S = 5.0
QUARTERS = 4


@dataclass
class Watch:
    """What the processes of a command need: looked at until the command ends."""

    process: subprocess.Popen[bytes]
    memory: list[float] = field(default_factory=list)
    """GB of all processes together; pages that several share are counted once."""
    largest: float = 0.0
    descriptors: list[int] = field(default_factory=list)
    cpu: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            each, descriptors = [], 0
            for process in family(self.process.pid):
                with suppress(psutil.Error):
                    each.append(process.memory_full_info().pss / 1e9)
                    descriptors += process.num_fds()
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
            if each:
                self.memory.append(sum(each))
                self.largest = max(self.largest, *each)
                self.descriptors.append(descriptors)
            time.sleep(LOOK_S)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def kill(pid: int) -> None:
    """Ends a process and all that it started at once."""
    for process in family(pid):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Part:
    """One command from its start to its end or its death."""

    name: str
    seconds: float
    watch: Watch
    end: str

    def row(self) -> str:
        """Its row of the table."""
        watch = self.watch
        clock, cpu = (f"{seconds / 60:.1f} min" for seconds in (self.seconds, sum(watch.cpu.values())))
        return (
            f"| {self.name} | {clock} | {cpu} | {self.end} "
            f"| {max(watch.memory, default=0):.2f} GB | {watch.largest:.2f} GB |"
        )

    def flat(self) -> str:
        """Memory and open files in each quarter of its time."""
        memory = [f"{median(part):.2f}" for part in np.array_split(self.watch.memory, QUARTERS) if len(part)]
        opened = [
            f"{median(part):.0f}" for part in np.array_split(self.watch.descriptors, QUARTERS) if len(part)
        ]
        return f"| {self.name} | {', '.join(memory)} GB | {', '.join(opened)} |"


def run(name: str, folder: Path, arguments: list[str], log: Path, kill_at: int | None = None) -> Part:
    """A command of the program; killed when its folder has so many finished shards, if `kill_at` is given."""
    started = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{name.split()[0]}.py"), "cemp", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | {"RAY_ADDRESS": "local"},
            start_new_session=True,
        )
    watch = Watch(process)
    while kill_at is not None and process.poll() is None:
        if finished_shards(folder) >= kill_at:
            kill(process.pid)
            break
        time.sleep(0.5)
    code = process.wait()
    end = "killed" if code == -signal.SIGKILL else f"ended with {code}"
    return Part(name, time.monotonic() - started, watch, end)


def finished_shards(folder: Path) -> int:
    """The number of markers in a folder."""
    return sum(1 for _ in (folder / "markers").glob("*")) if folder.exists() else 0


def check(work: Path, files: Path, names: int) -> list[str]:
    """What is wrong with the predictions and the catalog: nothing, if all is well."""
    problems = []
    predicted, refused = (
        ds.dataset(work / "predictions" / part).to_table(columns=["path"])["path"].cast(pa.large_string())
        for part in ("predictions", "refused")
    )
    seen = pa.chunked_array([*predicted.chunks, *refused.chunks], pa.large_string())
    seen = pc.replace_substring_regex(seen, f"^{files}/", "")
    expected = pa.array(names_below(files), pa.large_string())
    counts = f"{len(expected):,} files: {len(predicted):,} predicted, {len(refused):,} refused"
    different = pc.count_distinct(seen).as_py()
    missing = len(expected) - pc.sum(pc.is_in(expected, value_set=seen.combine_chunks())).as_py()
    if missing or not len(seen) == different == len(expected) == names:
        problems.append(f"{counts}, {different:,} different files, {missing:,} missing")
    stars = ds.dataset(work / "catalog" / "hats" / "stars" / "dataset").to_table(columns=["star"])["star"]
    if len(stars) != (distinct := pc.count_distinct(stars).as_py()):
        problems.append(f"{len(stars):,} stars, {distinct:,} different ones")
    problems += [
        f"left: {path}"
        for part in ("predictions", "catalog")
        for path in (work / part).rglob("*")
        if "tmp" in path.name or "claim" in path.name
    ]
    print(f"\n{counts}; {len(stars):,} stars", flush=True)
    return problems


def names_below(folder: Path) -> Iterator[str]:
    """The paths of the spectra below a folder, relative to it; some of the broken ones are folders."""
    for place, folders, names in os.walk(folder):
        below = os.path.relpath(place, folder)
        yield from (f"{below}/{name}" for name in (*folders, *names) if name.startswith("spec-"))


def link_names(files: Path, folder: Path, names: int) -> None:
    """Give the files so many names: each has one in every copy of the folder, until there are enough.

    A file beside the folder says how many there are, so that this is done once.
    """
    given, done = 0, folder.with_suffix(".count")
    if done.exists() and done.read_text() == str(names):
        return
    for copy in range(10**6):
        for below in names_below(files):
            if given == names:
                done.write_text(str(names))
                return
            target = folder / f"{copy:02d}" / below
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                if (files / below).is_dir():
                    target.mkdir()
                else:
                    target.hardlink_to(files / below)
            given += 1


def own_ensemble(work: Path, log: Path) -> str:
    """An ensemble of networks that learned a mock survey of the same kind, with its cascade."""
    files, store, ensemble = (work / name for name in ("learned", "store", "ensemble"))
    labels = f"labels={files / 'labels.parquet'}"
    steps = {
        "mock": [f"out={files}", f"n={LEARNED}", "seed=1"],
        "ingest": [f"input={files}", f"store={store}"],
        "ensemble": [f"store={store}", labels, f"ensemble={ensemble}", MEMBERS, "population.spectra=50000"],
    }
    for job, arguments in steps.items():
        if (part := run(job, work, arguments, log)).end != "ended with 0":
            raise SystemExit(f"{job} {part.end}: see {log}")
    arguments = [f"ensemble={ensemble}", f"input={files}", f"predictions={work / 'said'}", "cascade=true"]
    run("predict", work, arguments, log)
    return f"ensemble={ensemble}"


def main() -> None:
    """The road, and the tables."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    n, kills = int(given.get("n", 1_000_000)), int(given.get("kills", 2))
    names = int(given.get("names", n))
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "million")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    log, files = work / "log.txt", work / "files"
    parts = []
    if state(files) != "finished":
        parts.append(run("mock", files, [f"out={files}", f"n={n}", "gz=1", "balance=survey"], log))
    if names > n:
        link_names(files, work / "names", names)
        files = work / "names"
    chosen = [f"{name}={given[name]}" for name in ("workers", "cascade") if name in given]
    chosen += [own_ensemble(work, log)] if given.get("networks") == "own" else []
    for name in ("predictions", "catalog"):
        shutil.rmtree(work / name, ignore_errors=True)
    arguments = [f"input={files}", f"predictions={work / 'predictions'}", *chosen]
    shards = -(-names // 1000)
    for number in range(1, kills + 1):
        at = shards * number // (kills + 1)
        parts.append(run("predict", work / "predictions", arguments, log, kill_at=at))
    parts.append(run("predict", work / "predictions", arguments, log))
    arguments = [f"predictions={work / 'predictions'}", f"catalog={work / 'catalog'}"]
    parts.append(run("catalog", work / "catalog", arguments, log))
    print("| command | clock | CPU | end | memory of all | of the largest process |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(part.row() for part in parts))
    print("\n| command | memory of all, by quarters of its time | open files |")
    print("| --- | --- | --- |")
    print("\n".join(part.flat() for part in parts))
    problems = check(work, files, names)
    road = sum(part.seconds for part in parts if part.name != "mock")
    print(f"files to catalog: {road / 60:.1f} minutes, {names / road:,.0f} files/s", end="; ")
    print(f"{DR8:,} files: {road / names * DR8 / 3600:.2f} hours")
    print("\n".join(problems) or "no file lost, none doubled, nothing left behind")
    raise SystemExit(bool(problems))


def state(folder: Path) -> str:
    """The state of the folder of a job."""
    with suppress(FileNotFoundError, ValueError):
        return look(str(folder)).state
    return "missing"


if __name__ == "__main__":
    main()
