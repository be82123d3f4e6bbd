"""The speed of a prediction compared with a plain loop over arrays in memory.

    python -m benchmarks.predict [n=6000] [nets=prism,bganet,echelle] [files=0] [work=benchmarks/work/predict]

Plain loop: the same networks, batch, threads and allocator settings on arrays in memory; nothing is read,
calibrated or written. Worker: a worker of the job, from the store on disk to finished tables and markers.
Both run on one core, then two of each (two processes; two actors of Ray). It also shows what one pass for all
members saves, and the share of the peak. With files=50000 it makes so many mock files and predicts them, with
the time of each stage and the memory. Where there is a GPU, all rates are those of the GPU. Medians of turns;
some minutes.
"""

import multiprocessing
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks.training import peak
from survey import machine
from survey.cluster.work import shard_workers
from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.mock.mock import make
from survey.mock.settings import Mock
from survey.models import summary
from survey.predict.autotune import Autotuner, TrialRequest
from survey.predict.inputs import PredictionInput, StoreInput, list_files, to_spectra
from survey.predict.output import Choice
from survey.predict.worker import INPUT_COLUMNS, PredictionSpec, Worker
from survey.predict.workers import local_workers
from survey.recipes import read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training.batches import Spectra, concatenate
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
TURNS = 3
REPEATS = 3
"""How often all shards are predicted. A new thread is slow at first, which a long job does not notice."""
GPU = torch.cuda.is_available()


def prepare(work: Path, n: int, nets: list[str]) -> None:
    """Makes a store of mock spectra, runs of one epoch on it, and their ensemble."""
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    make(Mock(out=str(work / "files"), n=n, broken=0.0, balance="reference"))
    paths = {"input": str(work / "files"), "store": str(work / "store"), "workers": 1}
    ingest(Ingest.from_dict("ingest", recipe | paths))
    for net in nets:
        values = {
            "store": str(work / "store"),
            "labels": str(work / "files" / "labels.parquet"),
            "run": str(work / net),
            "model": net,
            "epochs": 1,
            "targets": ["Teff", "logg", "FeH", "CFe"],
            "tracking": {"use": "never"},
            "split": {"stratify": True},
            "gpu": "never",
        }
        settings = Train.from_dict("training", values)
        if plan(settings):
            learn(settings)
    runs = [str(work / net) for net in nets]
    build(Build.from_dict("ensemble", {"runs": runs, "ensemble": str(work / "ensemble"), "gpu": "never"}))


def prediction_spec(
    work: Path, ensemble: str, inputs: PredictionInput, choice: Choice | None = None
) -> PredictionSpec:
    """What a worker needs; its output is thrown away."""
    shutil.rmtree(work / "predictions", ignore_errors=True)
    path = str(work / ensemble)
    return PredictionSpec(
        folder=str(work / "predictions"),
        ensemble=path,
        ensemble_id=open_ensemble(path).id,
        inputs=inputs,
        choice=choice or Choice(batch=64, precision="float32"),
        fingerprint="benchmark",
        seed=0,
        members=False,
        embeddings=False,
    )


def in_memory(inputs: StoreInput) -> Spectra:
    """All spectra in memory."""
    tables = (inputs.load(shard, INPUT_COLUMNS).spectra for shard in range(inputs.shards))
    return concatenate([to_spectra(table, inputs.path, ()) for table in tables])


def plain_loop(path: str, spectra: Spectra, batch: int, threads: int) -> float:
    """Spectra per second of a loop over batches, as one would write it."""
    machine.settle(threads)
    device = machine.device()
    nets = [run.net for run in open_ensemble(path, device).members.runs]
    with torch.inference_mode():
        for net in nets:
            net(*(array[:batch].to(device) for array in (spectra.flux, spectra.ivar)))
        started, outputs = time.perf_counter(), []
        for start in range(0, len(spectra), batch):
            flux, ivar = (array[start : start + batch].to(device) for array in (spectra.flux, spectra.ivar))
            outputs.append([{name: value.cpu() for name, value in net(flux, ivar).items()} for net in nets])
        return len(spectra) / (time.perf_counter() - started)


def worker_rate(spec: PredictionSpec, threads: int = 1) -> float:
    """Spectra per second of a worker that is ready, from the store to the tables."""
    worker = Worker(spec, threads, threads, GPU)
    worker(0)
    shards = [*range(spec.inputs.shards)] * REPEATS
    started = time.perf_counter()
    results = local_workers(threads, GPU)(lambda *_: worker, shards)
    rows = sum(int(marker["rows"]) for marker in results)
    return rows / (time.perf_counter() - started)


def chosen(spec: PredictionSpec) -> Choice:
    """Batch size and precision, as a job chooses them by its trial."""
    tuner = Autotuner(spec, TrialRequest(None, "auto", "never"), 1, 1, GPU)
    return Choice.model_validate(tuner(0))


@contextmanager
def one_core() -> Iterator[None]:
    """All threads of this process share one core."""
    before = os.sched_getaffinity(0)
    if not GPU:
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def compare_one_worker(work: Path, inputs: StoreInput, nets: list[str]) -> None:
    """Worker against plain loop, for each network and the ensemble; one pass for all against one for each."""
    spectra, limit = in_memory(inputs), peak(1)
    flops = {net: summary.megaflop(open_ensemble(str(work / net)).members.runs[0].net) for net in nets}
    print(f"convolution peak of one thread: {limit:.0f} GFLOP/s; {len(spectra):,} spectra", end=" ")
    print(f"in {inputs.shards} shards\n")
    print("| networks | batch | plain loop, spectra/s | worker, from the store | ratio | share of peak |")
    print("| --- " * 6 + "|")
    seconds = {}
    for name in (*nets, "ensemble"):
        spec = prediction_spec(work, name, inputs)
        with one_core():
            choice = chosen(spec)
            spec = replace(spec, choice=choice)
            pairs = [
                (plain_loop(str(work / name), spectra, choice.batch, 1), worker_rate(spec))
                for _ in range(TURNS)
            ]
        loop, rate = (median(values) for values in zip(*pairs, strict=True))
        flop = sum(flops.values()) if name == "ensemble" else flops[name]
        share = flop * rate / 1e3 / limit
        cells = (name, choice.batch, f"{loop:,.0f}", f"{rate:,.0f}", f"{rate / loop:.2f}", f"{share:.0%}")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        seconds[name] = 1 / rate
    separate, together = sum(seconds[net] for net in nets), seconds["ensemble"]
    print(f"\nall members in one pass: {separate / together:.2f} x as fast as one pass for each", end=" ")
    print(f"({1 / separate:,.0f} spectra/s)")


def _half_of_loop(path: str, store: str, batch: int, part: int, barrier: Any, rates: Any) -> None:
    spectra = in_memory(StoreInput.from_store(open_store(store)))[part::2]
    barrier.wait()
    rates.put(plain_loop(path, spectra, batch, 1))


def compare_two_workers(work: Path, inputs: StoreInput) -> None:
    """Two actors of Ray against two processes of the plain loop, each with one thread."""
    choice = chosen(prediction_spec(work, "ensemble", inputs))
    context = multiprocessing.get_context("spawn")
    barrier, loop_rates, pairs = context.Barrier(2), context.Queue(), []
    for _ in range(TURNS):
        values = (str(work / "ensemble"), str(work / "store"), choice.batch)
        loops = [
            context.Process(target=_half_of_loop, args=(*values, part, barrier, loop_rates))
            for part in range(2)
        ]
        for process in loops:
            process.start()
        loop = loop_rates.get() + loop_rates.get()
        for process in loops:
            process.join()
        pairs.append((loop, actors_rate(prediction_spec(work, "ensemble", inputs, choice))))
    loop, rate = (median(values) for values in zip(*pairs, strict=True))
    print(f"\ntwo actors of Ray: {rate:,.0f} spectra/s; two processes of the plain loop: {loop:,.0f}", end="")
    print(f"; ratio {rate / loop:.2f}")


def actors_rate(spec: PredictionSpec) -> float:
    """Spectra per second of two actors, from the third result to the last but one."""
    shards = [*range(spec.inputs.shards)] * REPEATS
    results = shard_workers(2, 1, False)(partial(Worker, spec), shards)
    moments = [(time.perf_counter(), marker["rows"]) for marker in results]
    steady = moments[2:-1]
    return float(sum(rows for _, rows in steady) / (steady[-1][0] - moments[1][0]))


class Stopwatch:
    """Takes the place of an object and adds up the seconds that one of its methods needs."""

    def __init__(self, target: Any, name: str) -> None:
        self.target, self.name, self.seconds = target, name, 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.target, name)
        return partial(self._timed, attribute) if name == self.name else attribute

    def _timed(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - started


def watch_memory(interval: float, stop: threading.Event, mebibytes: list[int]) -> None:
    """Records the memory of this process until it is stopped."""
    while not stop.wait(interval):
        mebibytes.append(psutil.Process().memory_info().rss >> 20)


def files_to_predictions(work: Path, n: int) -> None:
    """Predicts mock files on one core: the rate, the share of each stage, and the memory over time."""
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    for name in ("many", "listed"):
        shutil.rmtree(work / name, ignore_errors=True)
    make(Mock(out=str(work / "many"), n=n))
    paths = {"input": str(work / "many"), "store": str(work / "listed")}
    inputs, *_ = list_files(Ingest.from_dict("ingest", recipe | paths))
    worker = Worker(prediction_spec(work, "ensemble", inputs), 1, 1, GPU)
    reader, networks = Stopwatch(inputs, "load"), Stopwatch(worker.ensemble, "predict")
    stand_ins: Any = (replace(worker.spec, inputs=reader), networks)  # type: ignore[arg-type]
    worker.spec, worker.ensemble = stand_ins
    mebibytes: list[int] = []
    stop = threading.Event()
    threading.Thread(target=watch_memory, args=(0.5, stop, mebibytes), daemon=True).start()
    started = time.perf_counter()
    with one_core():
        # one after the other, so that the stages do not overlap
        markers = [worker(shard) for shard in range(inputs.shards)]
    total = time.perf_counter() - started
    stop.set()
    rows, third = sum(marker["rows"] for marker in markers), max(1, len(mebibytes) // 3)
    stages = {"files to spectra": reader.seconds, "networks": networks.seconds}
    stages["tables"] = total - sum(stages.values())
    print(f"\nfiles to predictions, one core: {rows:,} of {n:,} files in {total:.0f} s", end=", ")
    print(f"{n / total:,.0f} files/s")
    print("  " + ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in stages.items()))
    print(f"  memory, MiB: at most {max(mebibytes[:third])} in the first third", end=", ")
    print(f"{max(mebibytes[-third:])} in the last")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    count, members = int(given.get("n", 6000)), given.get("nets", "prism,bganet,echelle").split(",")
    folder = Path(given.get("work", ROOT / "benchmarks" / "work" / "predict")) / str(count)
    prepare(folder, count, members)
    stored = StoreInput.from_store(open_store(str(folder / "store")))
    compare_one_worker(folder, stored, members)
    if not GPU:
        compare_two_workers(folder, stored)
    if int(given.get("files", 0)):
        files_to_predictions(folder, int(given["files"]))
