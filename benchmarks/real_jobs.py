"""Jobs of the program as benchmarks run them: rate, CPU seconds of the processes, and the share of Ray."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from benchmarks.side_by_side import ONE_THREAD
from survey.cluster.work import make_map, shard_workers
from survey.status.look import look

ROOT = Path(__file__).resolve().parents[1]
CPUS = os.cpu_count() or 1
IDLE_S = 15
"""Seconds in which Ray is looked at without work."""
EMPTY_SHARDS, WARM_SHARDS = 1000, 100
"""Shards without work, and those of them before the time is taken."""


@dataclass(frozen=True)
class Processor:
    """What a process has used: CPU seconds; whether it is a worker of Ray."""

    seconds: float
    is_worker: bool


def cpu_by_process(pid: int) -> dict[int, Processor]:
    """CPU seconds of a process and all that it has started."""
    found = {}
    with suppress(psutil.Error):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()  # a task of Ray Data has a name, and no command line
                found[process.pid] = Processor(times.user + times.system, process.name().startswith("ray::"))
    return found


@dataclass(frozen=True)
class RealJob:
    """Rows per second by the times of markers, and seconds with start and end.

    `of_workers`, `of_ray`: CPU seconds of a row after the first shard, of the workers, and of the driver and
    Ray's own processes. A single worker is the driver.
    """

    rate: float
    seconds: float
    of_workers: float
    of_ray: float


def run_job(job: str, folder: Path, workers: int, *arguments: str) -> RealJob:
    """Run a job of the program, with one thread of BLAS as the plain processes have."""
    shutil.rmtree(folder, ignore_errors=True)
    started, first, done = time.monotonic(), dict[int, Processor](), 0
    last = first
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments, f"workers={workers}"]
    environment = os.environ | ONE_THREAD | {"RAY_ADDRESS": "local"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            last = last | cpu_by_process(process.pid)
            if not done:
                first, done = last, sum(1 for _ in (folder / "markers").glob("*"))
            time.sleep(0.2)
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: {log.read()}")
    state = look(str(folder))
    rows = state.rows_each * ((state.total or 1) - done)
    used = {True: 0.0, False: 0.0}
    for pid, processor in last.items():
        before = first[pid].seconds if pid in first else 0.0
        used[processor.is_worker or workers == 1] += (processor.seconds - before) / rows
    rate = (state.rate or 0.0) * state.rows_each
    return RealJob(rate, time.monotonic() - started, of_workers=used[True], of_ray=used[False])


@dataclass(frozen=True)
class Overhead:
    """What Ray takes for a shard: seconds of the driver, CPU seconds of all processes.

    `idle`: the CPUs that it takes without any work.
    """

    clock: float
    cpu: float
    idle: float


def overhead(how: str) -> Overhead:
    """What Ray takes for a shard without work: for tasks as in an ingest, or actors as in a prediction."""
    if how == "ingest":
        results = make_map(CPUS)(_nothing, range(EMPTY_SHARDS))
    else:
        results = shard_workers(CPUS, 1, False)(_worker, range(EMPTY_SHARDS))
    seen = [
        (time.monotonic(), cpu_by_process(os.getpid()))
        for number, _ in enumerate(results, 1)
        if number in (WARM_SHARDS, EMPTY_SHARDS)
    ]
    (started, before), (ended, after) = seen
    time.sleep(IDLE_S / 3)  # actors end
    still = cpu_by_process(os.getpid())
    time.sleep(IDLE_S)
    idle = more_cpu(still, cpu_by_process(os.getpid())) / IDLE_S
    ray.shutdown()
    count, clock = EMPTY_SHARDS - WARM_SHARDS, ended - started
    return Overhead(clock / count, max(more_cpu(before, after) - idle * clock, 0.0) / count, idle)


def more_cpu(before: dict[int, Processor], after: dict[int, Processor]) -> float:
    """CPU seconds that the processes of `after` have used since `before`."""
    known = {pid: processor.seconds for pid, processor in before.items()}
    return sum(processor.seconds - known.get(pid, 0.0) for pid, processor in after.items())


def _nothing(shard: int) -> dict[str, Any]:
    return {"shard": shard}


def _worker(threads: Any, cpus: int, gpu: bool) -> Callable[[int], dict[str, Any]]:
    del threads, cpus, gpu
    return _nothing
