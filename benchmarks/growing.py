"""A survey that grows night by night: memory, open files and leftovers of ingest and predict.

    python -m benchmarks.growing [minutes=5] [how=process,ray,commands] [n=400] [scratch=FOLDER]

Each round, a night of n mock files is added; then the same ingest extends the store, and the same predict the
predictions. `minutes` are those of each of the three ways:

process   one Python process calls ingest and predict in a loop, without Ray
ray       the same loop, with Ray's tasks and actors
commands  `survey ingest` and `survey predict` on a Ray that `ray start` has begun

After each round, the memory that a process has for itself (its unique set size: what it shares changes with
other programs) and its open files are looked at; of commands, their largest. A slope is that of Theil and Sen
with its interval of 95 %, over the rounds after the first third. At the end each file has one row or one
refusal, and no temporary file is left. Prints tables for benchmarks/RESULTS.md.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from scipy.stats import theilslopes

from survey.cluster.work import make_map, shard_workers
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.predict.workers import local_workers
from survey.status.look import look
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from tests.processes import ROOT, Job, Workplace, new_workplace

WAYS = ("process", "ray", "commands")
WORKERS, SHARD = 2, 100
"""More than one shard in a night, because a single one is made without Ray."""
WARM_UP = 1 / 3
"""Share of the rounds that no slope is taken of: caches and heaps fill."""
ROLES = {
    "raylet": "raylet",
    "gcs_server": "gcs_server",
    "ray::": "workers of Ray",
    "agent": "agents of Ray",
    "growing": "driver",
    "monitor": "monitors of Ray",
    "dashboard": "dashboard of Ray",
}
"""Parts of command lines, and what such a process is."""


@dataclass
class Series:
    """What was seen of the processes of one role: MB, open files, and how many they were, by round."""

    rounds: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)

    def add(self, number: int, memory: float, descriptors: int, processes: int) -> None:
        """What was seen after a round."""
        self.rounds.append(number)
        self.memory.append(memory)
        self.descriptors.append(descriptors)
        self.processes.append(processes)

    def slope(self, values: list[float]) -> str:
        """The slope per 100 rounds with its interval, after the warm-up."""
        first = int(len(values) * WARM_UP)
        if len(values) - first < 5:
            return "too few rounds"
        found = theilslopes(values[first:], self.rounds[first:], 0.95)
        return f"{100 * found.slope:+.2f} [{100 * found.low_slope:+.2f}, {100 * found.high_slope:+.2f}]"

    def row(self, role: str) -> str:
        """A row of the table."""
        first, last = int(len(self.memory) * WARM_UP), len(self.memory) - 1
        files = [float(count) for count in self.descriptors]
        return (
            f"| {role} | {self.processes[first]}, {self.processes[last]} "
            f"| {self.memory[0]:.0f}, {self.memory[first]:.0f}, {self.memory[last]:.0f} MB "
            f"| {self.slope(self.memory)} MB | {self.descriptors[first]}, {self.descriptors[last]} "
            f"| {self.slope(files)} |"
        )


def role_of(process: psutil.Process) -> str:
    """What a process is, by its command line."""
    text = " ".join(process.cmdline()[:6])
    return next((role for part, role in ROLES.items() if part in text), "others")


def finish(job: Job) -> None:
    """Wait for a command, which must succeed."""
    if job.wait():
        raise SystemExit(job.out + job.err)


def look_at(processes: list[psutil.Process], number: int, seen: dict[str, Series]) -> None:
    """Add what these processes hold now to the series of their roles."""
    memory: dict[str, float] = defaultdict(float)
    descriptors: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    for process in processes:
        with suppress(psutil.Error):
            role = role_of(process)
            memory[role] += process.memory_full_info().uss / 1e6
            descriptors[role] += process.num_fds()
            count[role] += 1
    for role in memory:
        seen[role].add(number, memory[role], descriptors[role], count[role])


def ingest_settings(folder: Path) -> dict[str, str | int | float]:
    """The ingest of all nights."""
    paths = {"input": str(folder / "files"), "store": str(folder / "store")}
    return {**paths, "shard": SHARD, "refuse_above": 1.0}


def predict_settings(folder: Path) -> dict[str, str | int | float]:
    """The prediction of the store with the shipped ensemble."""
    paths = {"store": str(folder / "store"), "predictions": str(folder / "predictions")}
    return {**paths, "threads": 1, "gpu": "never", "batch": 256, "precision": "float32"}


def drive(folder: Path, how: str) -> None:
    """The driver of a loop: a line comes when there is a new night, a line goes when it is predicted."""
    with_ray = how == "ray"
    run = make_map(WORKERS if with_ray else 1)
    workers = shard_workers(WORKERS, 1, False) if with_ray else local_workers(1, False)
    for _ in sys.stdin:
        ingest(Ingest.from_dict("ingest", ingest_settings(folder)), run)
        predict(Predict.from_dict("predict", predict_settings(folder)), workers)
        print("done", flush=True)


class Loop:
    """Rounds in one long-lived process."""

    def __init__(self, place: Workplace, folder: Path, how: str) -> None:
        self.place = place
        command = [sys.executable, "-m", "benchmarks.growing", "drive", str(folder), how]
        environment = place.environment | {"TMPDIR": str(folder / "tmp")}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def round(self, number: int, seen: dict[str, Series]) -> None:
        """Let the process work, then look at it and at all that it has started."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"night\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != b"done\n":
            raise SystemExit(f"the driver has ended with {self.process.wait()}: see its log")
        look_at(self.place.processes(), number, seen)

    def end(self) -> None:
        """Let the process end by itself."""
        self.process.communicate()


class Commands:
    """Rounds of two commands on a Ray that runs all the time."""

    def __init__(self, place: Workplace, folder: Path) -> None:
        self.place = place
        self.temporary = str(folder / "tmp")
        options = ["--num-cpus=2", "--node-ip-address=127.0.0.1", f"--temp-dir={place.folder / 'ray'}"]
        finish(place.start("ray", "start", "--head", *options, "--object-store-memory=100000000"))
        self.settings = {"ingest": ingest_settings(folder), "predict": predict_settings(folder)}

    def round(self, number: int, seen: dict[str, Series]) -> None:
        """Run both commands and keep their largest memory, then look at Ray."""
        for name, settings in self.settings.items():
            words = [f"{key}={value}" for key, value in settings.items()]
            environment = {"RAY_ADDRESS": "", "TMPDIR": self.temporary}
            job = self.place.python(f"jobs/{name}.py", *words, f"workers={WORKERS}", **environment)
            largest, opened = 0.0, 0
            while job.process.poll() is None:
                with suppress(psutil.Error):
                    process = psutil.Process(job.process.pid)
                    largest = max(largest, process.memory_full_info().uss / 1e6)
                    opened = max(opened, process.num_fds())
                time.sleep(0.2)
            finish(job)
            seen[f"`survey {name}`, its largest"].add(number, largest, opened, 1)
        look_at(self.place.processes(), number, seen)

    def end(self) -> None:
        """Stop Ray: its processes by their mark, because `ray stop` ends every Ray of the machine."""
        self.place.sweep()


def wrong(folder: Path, files: int) -> list[str]:
    """What is not as it should be at the end: rows that are missing or doubled, and leftovers."""
    store, predictions = look(str(folder / "store")), look(str(folder / "predictions"))
    spectra, refused = store.rows["spectra"], sum(store.refused.values())
    found = []
    if spectra + refused != files or predictions.rows["spectra"] != spectra:
        found.append(f"{files} files, {spectra} spectra, {refused} refused, {predictions.rows} predicted")
    made = [path for name in ("store", "predictions") for path in (folder / name).rglob("*")]
    left = [path for path in made if "tmp" in path.name or "claim" in path.name]
    return found + [f"left: {path.name}" for path in (*left, *(folder / "tmp").iterdir())]


def grow(folder: Path, how: str, minutes: float, n: int) -> Iterator[str]:
    """Rounds of one of the three ways, and its rows of the table."""
    for name in ("files", "tmp"):
        (folder / name).mkdir(parents=True)
    seen: dict[str, Series] = defaultdict(Series)
    seconds: list[float] = []
    with new_workplace() as place:
        driver = Commands(place, folder) if how == "commands" else Loop(place, folder, how)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            night = folder / "files" / f"night-{len(seconds):05d}"
            make(Mock(out=str(night), n=n, seed=len(seconds), workers=1))
            started = time.monotonic()
            driver.round(len(seconds), seen)
            seconds.append(time.monotonic() - started)
        driver.end()
    for role, series in sorted(seen.items()):
        if len(series.rounds) > 1:
            yield f"| {how} {series.row(role)}"
    third = max(len(seconds) // 3, 1)
    clock = [sum(part) / len(part) for part in (seconds[:third], seconds[-third:])]
    problems = "; ".join(wrong(folder, len(seconds) * n)) or "each file once, nothing left"
    yield (
        f"| {how} | all | {len(seconds)} rounds of {n} files: {problems}; a round takes {clock[0]:.1f} s "
        f"in the first third, {clock[1]:.1f} s in the last | | | | |"
    )


def main() -> None:
    """The table."""
    if sys.argv[1:2] == ["drive"]:
        drive(Path(sys.argv[2]), sys.argv[3])
        return
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    minutes, n = float(given.get("minutes", 5)), int(given.get("n", 400))
    scratch = Path(given.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| how | what | processes | memory at first, after the warm-up, at last | in 100 rounds ", end="")
    print("| open files | in 100 rounds |\n| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for how in given.get("how", ",".join(WAYS)).split(","):
        for row in grow(scratch / how, how, minutes, n):
            print(row, flush=True)
        shutil.rmtree(scratch / how)
    if "scratch" not in given:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
