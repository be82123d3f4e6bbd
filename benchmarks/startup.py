"""How soon a job answers: its help, a misspelt setting, its first result.

    python -m benchmarks.startup [runs=5] [n=2000] [parts=door,shard,training]

door      CPU seconds (user + system, median of runs) of every job's --help and of a misspelt setting, beside
          `python -c "import pydantic, yaml"` in the same turns: the least that checked settings cost
shard     seconds from the command to the first finished shard, of a mock survey of n files, without Ray
training  seconds from the command to the plan of a training (its first step follows) and to its first epoch

Takes about three minutes on two cores. Prints tables for benchmarks/RESULTS.md.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.settings import JOBS

ROOT = Path(__file__).resolve().parents[1]
BASE = [sys.executable, "-c", "import pydantic, yaml"]
GOAL = 0.7
"""A job should answer within so many CPU seconds."""


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a finished command and its children."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def job(name: str, *arguments: str) -> list[str]:
    """The command of a job."""
    return [sys.executable, f"jobs/{name}.py", *arguments]


def door_rows(runs: int) -> list[str]:
    """One row for each job; all commands take turns, so that a busy machine slows all of them."""
    commands = {"base": BASE}
    for name in JOBS:
        commands[f"{name} help"] = job(name, "--help")
        commands[f"{name} error"] = job(name, "recipes/cemp.yaml", "wrokers=3")
    for command in commands.values():  # the first run compiles and fills the file cache
        cpu_seconds(command)
    seconds: dict[str, list[float]] = {key: [] for key in commands}
    for _ in range(runs):
        for key, command in commands.items():
            seconds[key].append(cpu_seconds(command))
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = [f"| import pydantic, yaml | {median['base']:.2f} s | | 1.0 |"]
    for name in JOBS:
        helped, failed = median[f"{name} help"], median[f"{name} error"]
        ratios = f"{helped / median['base']:.1f}; {failed / median['base']:.1f}"
        late = "" if max(helped, failed) <= GOAL else f" (over {GOAL} s)"
        rows.append(f"| jobs/{name}.py | {helped:.2f} s | {failed:.2f} s | {ratios}{late} |")
    return rows


def seconds_until(command: list[str], *conditions: Callable[[], bool]) -> list[float]:
    """Seconds from the start of a command until each condition holds; it runs to its end."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds: list[float] = []
    while len(seconds) < len(conditions):
        is_running = process.poll() is None
        if conditions[len(seconds)]():
            seconds.append(time.monotonic() - started)
        elif not is_running:
            message = process.stderr.read().decode() if process.stderr else ""
            raise SystemExit(f"{' '.join(command)} ended without its result: {message}")
        else:
            time.sleep(0.01)
    process.communicate()
    return seconds


def has_file(folder: Path, pattern: str) -> Callable[[], bool]:
    """Whether a file of that pattern is in the folder."""
    return lambda: any(folder.glob(pattern))


def shard_rows(work: Path) -> list[str]:
    """Time to the first finished shard of an ingest."""
    store = work / "store"
    command = job("ingest", "recipes/cemp.yaml", f"input={work / 'files'}", f"store={store}", "workers=1")
    first, last = seconds_until(command, has_file(store, "markers/*.json"), has_file(store, "store.json"))
    return [
        f"| from the command to the first finished shard (1,000 files, workers=1) | {first:.1f} s |",
        f"| from the command to the finished store | {last:.1f} s |",
    ]


def training_rows(work: Path) -> list[str]:
    """Time to the first epoch of a training on the store."""
    run = work / "run"
    command = job("train", "recipes/cemp.yaml", f"store={work / 'store'}", f"run={run}")
    command += [f"labels={work / 'files' / 'labels.parquet'}", "epochs=2", "tracking.use=never"]
    plan, epoch = seconds_until(command, has_file(run, "plan.json"), has_file(run, "checkpoints/*"))
    return [
        f"| from the command to the plan of a training (its first step follows) | {plan:.1f} s |",
        f"| from the command to the end of the first epoch (default network) | {epoch:.1f} s |",
    ]


def main() -> None:
    """Measure the parts that are requested, and print a table of each."""
    arguments = dict(item.split("=", 1) for item in sys.argv[1:])
    parts = arguments.get("parts", "door,shard,training").split(",")
    print(f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores")
    if "door" in parts:
        print("\n| command | --help | a misspelt setting | ratio of each to the imports |")
        print("| --- | --- | --- | --- |")
        print("\n".join(door_rows(int(arguments.get("runs", 5)))))
    if "shard" in parts or "training" in parts:
        work = Path(tempfile.mkdtemp(prefix="survey-startup-"))
        make(Mock(out=str(work / "files"), n=int(arguments.get("n", 2000)), broken=0.0))
        rows = shard_rows(work) + (training_rows(work) if "training" in parts else [])
        print("\n| what | time |\n| --- | --- |")
        print("\n".join(rows))
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
