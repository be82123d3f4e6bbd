"""The cost of a shard for one worker, and for several plain processes beside each other, without Ray.

    python -m benchmarks.side_by_side WORK SCRATCH SHARDS...      # one process; starts when a line comes

A machine may not do twice the work with two cores: units, caches and memory are shared. `measure` starts so
many processes, each with one thread, lets them begin together, and returns what a row has cost. What a worker
does is what a worker of a real job does: `ingest` makes shards of a store from files, `predict` predicts
shards of a store with the shipped ensemble, `count` only counts (nothing but the units of a core), `copy`
only copies memory.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from survey.predict.workers import SHARDS_AHEAD

ROOT = Path(__file__).resolve().parents[1]
SHARD = 500
"""Rows of a shard in the measurements."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Settings = dict[str, str | int | float]


@dataclass(frozen=True)
class Cost:
    """What a row has cost a process: CPU seconds, seconds of the clock, bytes written; how many rows."""

    cpu: float
    clock: float
    written: float
    rows: int


def ingest_settings(scratch: Path, name: str) -> Settings:
    """The ingest of the mock survey in a folder."""
    paths = {"input": str(scratch / "files"), "store": str(scratch / name)}
    return {**paths, "shard": SHARD, "refuse_above": 1.0}


def predict_settings(scratch: Path, store: str, name: str) -> Settings:
    """The prediction of a store with the shipped ensemble."""
    paths = {"store": str(scratch / store), "predictions": str(scratch / name)}
    return {**paths, "threads": 1, "gpu": "never", "batch": 256, "precision": "float32"}


def measure(work: str, scratch: Path, shards: list[int], processes: int = 1) -> Cost:
    """What a row costs while so many processes do the same work: the mean over them."""
    command = [sys.executable, "-m", "benchmarks.side_by_side", work, str(scratch), *map(str, shards)]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ONE_THREAD, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", f"{' '.join(command)} does not start"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    costs = [json.loads(process.communicate()[0]) for process in started]
    means = {name: sum(cost[name] for cost in costs) / len(costs) for name in ("cpu", "clock", "written")}
    return Cost(**means, rows=costs[0]["rows"])


def prepare_ingest(scratch: Path, folder: Path) -> tuple[Callable[[int], Any], Callable[[int], int]]:
    """The function that makes a shard of a store, and the rows of a shard."""
    from survey.store.ingest import plan_shards
    from survey.store.make import make_shard
    from survey.store.settings import Ingest

    _, spec = plan_shards(Ingest.from_dict("ingest", ingest_settings(scratch, folder.name)))
    return partial(make_shard, spec), spec.manifest.rows_in


def prepare_predict(scratch: Path, folder: Path) -> tuple[Callable[[int], Any], Callable[[int], int]]:
    """The worker that predicts a shard, and the rows of a shard."""
    from survey.predict.predict import begin, make_spec, shipped_ensemble
    from survey.predict.settings import Predict
    from survey.predict.worker import Worker
    from survey.predict.workers import local_workers

    settings = Predict.from_dict("predict", predict_settings(scratch, "store", folder.name))
    begun = begin(settings, shipped_ensemble())
    spec = replace(make_spec(settings, begun, local_workers(1, False)), compares_threads=False)
    return Worker(spec, 1, 1, False), begun.inputs.rows_in


def prepare_count(scratch: Path, folder: Path) -> tuple[Callable[[int], Any], Callable[[int], int]]:
    """A loop that needs nothing but a core."""
    del scratch, folder
    return lambda shard: sum(range(5_000_000 + shard)), lambda shard: SHARD


def prepare_copy(scratch: Path, folder: Path) -> tuple[Callable[[int], Any], Callable[[int], int]]:
    """Copies of an array that no cache holds."""
    del scratch, folder
    array, other = np.ones(16_000_000), np.empty(16_000_000)
    return lambda shard: np.copyto(other, array), lambda shard: SHARD


WORK = {
    "ingest": (prepare_ingest, 1),
    "predict": (prepare_predict, SHARDS_AHEAD),
    "count": (prepare_count, 1),
    "copy": (prepare_copy, 1),
}
"""What a process does, and how many shards it has at a time, as in a real job."""


def work(name: str, scratch: Path, shards: list[int]) -> None:
    """One process: it sets up, makes a shard, waits for a line, then makes all shards and writes its cost."""
    prepare, at_a_time = WORK[name]
    folder = scratch / f"side-{os.getpid()}"
    make, rows_in = prepare(scratch, folder)
    make(shards[0])
    print("ready", flush=True)
    sys.stdin.readline()
    cpu, clock = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(make, shards))
    cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    kinds = ("spectra", "refused", "predictions", "markers")
    made = [path.stat().st_size for kind in kinds for path in (folder / kind).rglob("*") if path.is_file()]
    rows = sum(map(rows_in, shards))
    print(json.dumps(asdict(Cost(cpu / rows, clock / rows, sum(made) / rows, rows))))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), [int(word) for word in sys.argv[3:]])
