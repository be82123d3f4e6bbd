"""What an ingest or a prediction would take: some of its shards are really made, into a temporary folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from survey import files, machine
from survey.cluster.work import is_few
from survey.estimate.cost import WORKER_IS_GPU, Cost, Requests
from survey.estimate.settings import Prices
from survey.folder import SETTINGS
from survey.predict.inputs import FilesInput
from survey.predict.predict import begin, make_spec, shipped_ensemble
from survey.predict.settings import Predict
from survey.predict.worker import Worker
from survey.predict.workers import local_workers
from survey.scratch import scratch_folder
from survey.status.look import look
from survey.store import manifest
from survey.store.make import ShardSpec, make_shard
from survey.store.settings import Ingest

FILE_GETS = 1
"""Requests that read a survey file."""
SHARD_GETS, SHARD_PUTS = 3, 3
"""Requests of a shard besides its files: rows of the manifest; two tables and a marker."""
PAGE = 1000
"""Objects in one answer of a listing."""
MOST = 20
"""Shards that are measured at most."""


@dataclass
class _Measured:
    """Some shards that were really made: their number, rows, and seconds."""

    shards: int
    rows: int
    seconds: float


def estimate_ingest(settings: Ingest, prices: Prices) -> Cost:
    """An ingest: its input is listed and some shards are made, in a temporary folder."""
    with scratch_folder("plan") as folder:
        here = settings.model_copy(update={"store": folder})
        started = time.monotonic()
        plan = manifest.plan(here, folder)
        listing = time.monotonic() - started
        spec = ShardSpec.from_settings(here)
        measured = _measure(lambda shard: make_shard(spec, shard), spec.manifest, prices)
        written = _bytes_below(folder, ("spectra", "refused", "markers"))
        read = _input_bytes(spec.manifest)
    done, rows = _done(settings.store), _rows(spec.manifest)
    cost = _cost(plan.shards, rows, done, measured, settings.workers, prices)
    share = max(plan.shards - done, 0) / plan.shards
    cost.measured += f"; the input was listed in {listing:.1f} s"
    cost.bytes_read = None if read is None else read * share
    cost.bytes_written = written / measured.rows * rows * share
    _add_requests(cost, settings.input, settings.files, settings.store, plan, share)
    return cost


def _add_requests(
    cost: Cost, source: str, folder: str, output: str, plan: manifest.IngestPlan, share: float
) -> None:
    """The requests of reading files one by one, and of writing shards."""
    if files.is_remote(folder or source):
        cost.requests.get += round(FILE_GETS * plan.rows * share)
        cost.requests.list += 0 if folder else -(-plan.rows // PAGE)
    if files.is_remote(output):
        cost.requests.get += round(SHARD_GETS * plan.shards * share)
        cost.requests.put += round(SHARD_PUTS * plan.shards * share)
        cost.assumed.append("tables are written as fast to the bucket as to a local disk")


def estimate_prediction(settings: Predict, prices: Prices) -> Cost:
    """A prediction: the ensemble is opened, and some shards are predicted into a temporary folder."""
    with scratch_folder("plan") as folder:
        here = settings.model_copy(update={"predictions": folder})
        gpu = settings.gpu == "auto" and machine.device().type == "cuda"
        begun = begin(here, files.absolute(settings.ensemble or shipped_ensemble()))
        inputs = begun.inputs
        spec = replace(make_spec(here, begun, local_workers(1, gpu)), compares_threads=False)
        started = time.monotonic()
        worker = Worker(spec, 1 if settings.threads == "auto" else settings.threads, 1, gpu)
        opening = time.monotonic() - started
        measured = _measure(worker, inputs, prices)
        written = _bytes_below(folder, ("predictions", "refused", "markers"))
        read = _prediction_bytes(inputs)
    rows, done = _rows(inputs), _done(settings.predictions)
    gpus = torch.cuda.device_count() if gpu else 0
    cost = _cost(inputs.shards, rows, done, measured, settings.workers, prices, gpus)
    share = max(inputs.shards - done, 0) / inputs.shards
    cost.measured += f"; a worker opens the ensemble in {opening:.1f} s"
    if settings.cascade and not begun.cascade:
        cost.assumed.append(
            "the cascade is not fitted yet, so all members saw all spectra here; fitting it takes minutes, "
            "and the shards will be faster"
        )
    cost.bytes_read = None if read is None else read * share
    cost.bytes_written = written / measured.rows * rows * share
    if settings.input and begun.plan:
        folder_of_files = str(settings.ingest.get("files", ""))
        _add_requests(cost, settings.input, folder_of_files, settings.predictions, begun.plan, share)
    else:
        is_remote = files.is_remote(str(settings.store))
        cost.requests.get += round(inputs.shards * share) if is_remote else 0
        is_remote = files.is_remote(settings.predictions)
        cost.requests.put += round(2 * inputs.shards * share) if is_remote else 0
    return cost


def _prediction_bytes(inputs: Any) -> float | None:
    if isinstance(inputs, FilesInput):
        return _input_bytes(inputs.spec.manifest)
    return float(sum(written.size for _, written, _ in inputs.tables))


def _measure(make: Callable[[int], Any], inputs: Any, prices: Prices) -> _Measured:
    """Make shards from all over the input for some seconds; the first twice, because it also sets up."""
    step = max(inputs.shards // MOST, 1)
    shards = list(range(0, inputs.shards, step))[:MOST]
    make(shards[0])
    measured = _Measured(0, 0, 0.0)
    for shard in shards:
        started = time.monotonic()
        make(shard)
        measured.seconds += time.monotonic() - started
        measured.shards += 1
        measured.rows += max(inputs.rows_in(shard), 1)
        if measured.seconds > prices.seconds:
            break
    return measured


def _cost(
    shards: int,
    rows: int,
    done: int,
    measured: _Measured,
    workers: int | None,
    prices: Prices,
    gpus: int = 0,
) -> Cost:
    """The work of the shards that are left, by the rows of those that were measured.

    Without a wish for workers, the job starts one for each GPU of the machine, or else for each CPU; few
    shards are made by one.
    """
    left = max(shards - done, 0)
    each = measured.seconds / measured.rows
    usual = 1 if is_few(left, workers) else gpus or machine.cpus()
    count = min(prices.workers or workers or usual, max(left, 1))
    assumed = ["all workers are as fast as this one, and have work all the time"]
    return Cost(
        work=f"{left:,} of {shards:,} shards, {rows:,} rows in all",
        measured=f"{measured.shards} shards ({measured.rows:,} rows) in {measured.seconds:.1f} s, one worker",
        seconds=each * rows * left / max(shards, 1),
        workers=count,
        requests=Requests(),
        assumed=[*assumed, WORKER_IS_GPU] if gpus else assumed,
    )


def _rows(inputs: Any) -> int:
    """The rows of all shards; an empty one counts as one row, because it takes some time too."""
    return sum(max(inputs.rows_in(shard), 1) for shard in range(inputs.shards))


def _done(output: str) -> int:
    """The finished shards of a folder."""
    path = files.absolute(output)
    return look(path).done if files.exists(files.join(path, SETTINGS)) else 0


def _input_bytes(listed: manifest.Manifest) -> float | None:
    """Bytes of all files of a manifest, by the sizes that its listing knows; None if it knows none."""
    sizes = [size for part in listed.parts for size in listed.read(part, ["size"])["size"].to_pylist()]
    known = [size for size in sizes if size is not None]
    return sum(known) / len(known) * len(sizes) if known else None


def _bytes_below(folder: str, kinds: tuple[str, ...]) -> float:
    """Bytes of the files of some kinds."""
    paths = [path for kind in kinds for path in Path(folder, kind).rglob("*") if path.is_file()]
    return float(sum(path.stat().st_size for path in paths))
