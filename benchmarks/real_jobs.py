"""Jobs of the program as benchmarks run them: their rate, and the CPU seconds of their processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.side_by_side import ONE_THREAD
from survey.status.look import look

ROOT = Path(__file__).resolve().parents[1]


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
                times, line = process.cpu_times(), " ".join(process.cmdline()[:1])
                found[process.pid] = Processor(times.user + times.system, line.startswith("ray::"))
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
