"""A million survey files on one machine: files -> predictions -> catalog, one command each, killed twice.

    python benchmarks/million.py [n=1000000] [work=benchmarks/work/million] [kills=2] [workers=N]

The files are those of `survey mock`, each gzipped and different from all others (53 GB for a million), the
ensemble is the shipped one. The prediction is killed with all its processes, as by a power cut, `kills`
times, and the same command continues it. Then every file has to have exactly one row or one refusal, every
star one row, and no temporary file may be left. While the commands run, memory and open files of all their
processes are looked at every few seconds. Prints tables for benchmarks/RESULTS.md.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow.dataset as ds

from survey.status.look import look

ROOT = Path(__file__).resolve().parents[1]
DR8 = 11_200_000
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


def check(work: Path, names: int) -> list[str]:
    """What is wrong with the predictions and the catalog: nothing, if all is well."""
    problems = []
    folder = work / "predictions"
    predicted = ds.dataset(folder / "predictions").to_table(columns=["path"])["path"].to_pylist()
    refused = ds.dataset(folder / "refused").to_table(columns=["path"])["path"].to_pylist()
    seen = Counter(predicted) + Counter(refused)
    expected = {str(path.relative_to(work / "files")) for path in (work / "files").rglob("spec-*")}
    found = {name.removeprefix(f"{work / 'files'}/") for name in seen}
    counts = f"{len(expected):,} files: {len(predicted):,} predicted, {len(refused):,} refused"
    if seen.total() != len(seen) or found != expected or len(expected) != names:
        problems.append(f"{counts}, of {len(seen):,} different files")
    stars = ds.dataset(work / "catalog" / "hats" / "stars" / "dataset").to_table(columns=["star"])["star"]
    if len(stars) != len(stars.unique()):
        problems.append(f"{len(stars):,} stars, {len(stars.unique()):,} different ones")
    problems += [
        f"left: {path}"
        for part in ("predictions", "catalog")
        for path in (work / part).rglob("*")
        if "tmp" in path.name or "claim" in path.name
    ]
    print(f"\n{counts}; {len(stars):,} stars", flush=True)
    return problems


def main() -> None:
    """The road, and the tables."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    n, kills = int(given.get("n", 1_000_000)), int(given.get("kills", 2))
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "million")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log.txt"
    parts = []
    if look_for_mock(work / "files") != "finished":
        parts.append(run("mock", work / "files", [f"out={work / 'files'}", f"n={n}", "gz=1"], log))
    for name in ("predictions", "catalog"):
        shutil.rmtree(work / name, ignore_errors=True)
    workers = [f"workers={given['workers']}"] if "workers" in given else []
    arguments = [f"input={work / 'files'}", f"predictions={work / 'predictions'}", *workers]
    shards = -(-n // 1000)
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
    problems = check(work, n)
    road = sum(part.seconds for part in parts if part.name != "mock")
    print(f"files to catalog: {road / 60:.1f} minutes, {n / road:,.0f} files/s", end="; ")
    print(f"{DR8:,} files: {road / n * DR8 / 3600:.1f} hours")
    print("\n".join(problems) or "no file lost, none doubled, nothing left behind")
    raise SystemExit(bool(problems))


def look_for_mock(folder: Path) -> str:
    """Whether the files are there."""
    with suppress(FileNotFoundError, ValueError):
        return look(str(folder)).state
    return "missing"


if __name__ == "__main__":
    main()
