"""What a prediction costs beside a plain loop over arrays in memory, what asking all members in one pass saves, and how near the peak it is.

    python benchmarks/predict.py [n=6000] [nets=prism,bganet,echelle] [files=0] [work=benchmarks/work/predict]

The plain loop: the same networks, batch, threads and allocator settings on arrays in memory; nothing is read, calibrated or written. Ours: a worker
of the job, from the store on disk to finished tables and markers. Both on one core, then two of each (two processes; two actors of Ray). With
files=50000 it also makes so many mock files and goes from them to predictions, with the time of each stage and the memory. Where there is a GPU
all rates are those of the GPU. Medians of turns; some minutes.
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
from training import peak  # the program beside this one

from survey import machine
from survey.cluster import actors
from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.mock import Mock, make
from survey.models import summary
from survey.predict.autotune import Trial
from survey.predict.inputs import FromFiles, FromStore, from_files, spectra
from survey.predict.worker import COLUMNS, Asking, Choice, Worker, chosen
from survey.predict.workers import alone
from survey.settings import section
from survey.store.ingest import Ingest, ingest
from survey.store.store import open_store
from survey.training.batches import Spectra, together
from survey.training.train import Train, begin
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
TURNS = 3
REPEATED = 3
"""How often all shards are done, so that fresh threads and their fresh memory are forgotten as they are in a long job."""
GPU = torch.cuda.is_available()


def prepared(work: Path, n: int, nets: list[str]) -> None:
    """A store of mock spectra, runs of one epoch on it, and the ensemble of them."""
    recipe = section(ROOT / "recipes" / "cemp.yaml", "ingest")
    make(Mock(out=str(work / "files"), n=n, broken=0.0, balance="reference"))
    ingest(
        Ingest.checked(
            "ingest", recipe | {"input": str(work / "files"), "store": str(work / "store"), "workers": 1}
        )
    )
    for net in nets:
        given = {
            "store": str(work / "store"),
            "labels": str(work / "files" / "labels.parquet"),
            "run": str(work / net),
            "model": net,
            "epochs": 1,
        }
        given |= {
            "targets": ["Teff", "logg", "FeH", "CFe"],
            "tracking": {"use": "never"},
            "split": {"stratify": True},
            "gpu": "never",
        }
        settings = Train.checked("training", given)
        if begin(settings):
            learn(settings)
    build(
        Build.checked(
            "ensemble",
            {"runs": [str(work / net) for net in nets], "ensemble": str(work / "ensemble"), "gpu": "never"},
        )
    )


def asking(work: Path, ensemble: str, origin: FromStore | FromFiles, batch: int = 64) -> Asking:
    """What a worker needs to know; its output is thrown away."""
    shutil.rmtree(work / "said", ignore_errors=True)
    path = str(work / ensemble)
    return Asking(
        str(work / "said"),
        path,
        open_ensemble(path).id,
        origin,
        Choice(batch, "float32", False),
        "benchmark",
        0,
        False,
        False,
    )


def held(origin: FromStore) -> Spectra:
    """All spectra in memory."""
    return together(
        [spectra(origin.load(shard, COLUMNS).spectra, origin.path, False) for shard in range(origin.shards)]
    )


def plain(path: str, some: Spectra, batch: int, threads: int) -> float:
    """Spectra per second of the loop that one would write."""
    machine.settle(threads)
    device = machine.device()
    nets = [run.net for run in open_ensemble(path, device).members.runs]
    with torch.inference_mode():
        for net in nets:
            net(*(part[:batch].to(device) for part in (some.flux, some.ivar)))
        started, kept = time.perf_counter(), []
        for start in range(0, len(some), batch):
            flux, ivar = (part[start : start + batch].to(device) for part in (some.flux, some.ivar))
            kept.append([{name: value.cpu() for name, value in net(flux, ivar).items()} for net in nets])
        return len(some) / (time.perf_counter() - started)


def ours(asked: Asking, threads: int = 1) -> float:
    """Spectra per second of a worker that is ready, from the store to the tables."""
    worker = Worker(asked, threads, GPU)
    worker(0)
    started = time.perf_counter()
    rows = sum(
        marker["rows"]
        for marker in alone(threads, GPU)(lambda *_: worker, [*range(asked.origin.shards)] * REPEATED)
    )
    return rows / (time.perf_counter() - started)


def chosen_batch(asked: Asking) -> Choice:
    """The batch that a job finds by itself."""
    return chosen(Trial(asked, {"batch": None, "precision": "auto", "compile": "never"}, 1, GPU)(0))


@contextmanager
def one_core() -> Iterator[None]:
    """This process has one core for all its threads, reading ahead included."""
    before = os.sched_getaffinity(0)
    if not GPU:
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def one_worker(work: Path, origin: FromStore, nets: list[str]) -> None:
    """Worker against plain loop, network by network and all together; one pass for all against one for each."""
    some, limit = held(origin), peak(1)
    flops = {net: summary.megaflop(open_ensemble(str(work / net)).members.runs[0].net) for net in nets}
    print(
        f"convolution peak of one thread: {limit:.0f} GFLOP/s; {len(some):,} spectra in {origin.shards} shards\n"
    )
    print("| asked | batch | plain loop, spectra/s | worker, from the store | ratio | share of the peak |")
    print("| --- " * 6 + "|")
    alone_s: list[float] = []
    for name in (*nets, "ensemble"):
        asked = asking(work, name, origin)
        with one_core():
            choice = chosen_batch(asked)
            asked = replace(asked, choice=choice)
            pairs = [(plain(str(work / name), some, choice.batch, 1), ours(asked)) for _ in range(TURNS)]
        loop, rate = (median(values) for values in zip(*pairs, strict=True))
        flop = sum(flops.values()) if name == "ensemble" else flops[name]
        print(
            f"| {name} | {choice.batch} | {loop:,.0f} | {rate:,.0f} | {rate / loop:.2f} | {flop * rate / 1e3 / limit:.0%} |",
            flush=True,
        )
        alone_s.append(1 / rate)
    *each, everything = alone_s
    print(
        f"\nall members in one pass: {sum(each) / everything:.2f} x as fast as one pass for each ({1 / sum(each):,.0f} spectra/s)"
    )


def _plain_share(path: str, store: str, batch: int, part: int, barrier: Any, answers: Any) -> None:
    origin = FromStore.of(open_store(store))
    some = held(origin)[part::2]
    barrier.wait()
    answers.put(plain(path, some, batch, 1))


def two_workers(work: Path, origin: FromStore) -> None:
    """Two actors of Ray against two processes of the plain loop, each with a thread of its own."""
    batch, rates = chosen_batch(asking(work, "ensemble", origin)).batch, []
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    for _ in range(TURNS):
        given = (str(work / "ensemble"), str(work / "store"), batch)
        loops = [
            context.Process(target=_plain_share, args=(*given, part, barrier, answers)) for part in range(2)
        ]
        for process in loops:
            process.start()
        loop = answers.get() + answers.get()
        for process in loops:
            process.join()
        rates.append((loop, by_actors(asking(work, "ensemble", origin, batch))))
    loop, rate = (median(values) for values in zip(*rates, strict=True))
    print(
        f"\ntwo actors of Ray: {rate:,.0f} spectra/s; two processes of the plain loop: {loop:,.0f}; ratio {rate / loop:.2f}"
    )


def by_actors(asked: Asking) -> float:
    """Spectra per second once both actors are at work: from the third result on to the last but one."""
    shards = [*range(asked.origin.shards)] * REPEATED
    moments = [
        (time.perf_counter(), marker["rows"])
        for marker in actors.crew(2, 1, False)(partial(Worker, asked), shards)
    ]
    steady = moments[2:-1]
    return sum(rows for _, rows in steady) / (steady[-1][0] - moments[1][0])


class Timed:
    """Stands before an object and adds up the seconds that one of its methods takes."""

    def __init__(self, object_: Any, name: str) -> None:
        self.object, self.name, self.seconds = object_, name, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.object, name)
        return partial(self._timed, found) if name == self.name else found

    def _timed(self, method: Callable[..., Any], *given: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*given, **more)
        finally:
            self.seconds += time.perf_counter() - started


def watched(every: float, stop: threading.Event, seen: list[int]) -> None:
    """Memory of this process, now and then."""
    while not stop.wait(every):
        seen.append(psutil.Process().memory_info().rss >> 20)


def files_to_predictions(work: Path, n: int) -> None:
    """Mock files straight to predictions on one core: spectra/s, the share of each stage, and whether memory stays flat."""
    recipe = section(ROOT / "recipes" / "cemp.yaml", "ingest")
    for name in ("many", "listed"):
        shutil.rmtree(work / name, ignore_errors=True)
    make(Mock(out=str(work / "many"), n=n))
    origin, _ = from_files(
        Ingest.checked("ingest", recipe | {"input": str(work / "many"), "store": str(work / "listed")})
    )
    worker = Worker(asking(work, "ensemble", origin), 1, GPU)
    reader, net = Timed(origin, "load"), Timed(worker.ensemble, "said")
    worker.asking, worker.ensemble = replace(worker.asking, origin=reader), net
    seen: list[int] = []
    stop = threading.Event()
    threading.Thread(target=watched, args=(0.5, stop, seen), daemon=True).start()
    started = time.perf_counter()
    with one_core():
        markers = [
            worker(shard) for shard in range(origin.shards)
        ]  # one after the other, so that the stages can be told apart
    whole = time.perf_counter() - started
    stop.set()
    rows, third = sum(marker["rows"] for marker in markers), max(1, len(seen) // 3)
    stages = {
        "files to spectra": reader.seconds,
        "networks": net.seconds,
        "tables": whole - reader.seconds - net.seconds,
    }
    print(
        f"\nfiles to predictions, one core: {rows:,} of {n:,} files in {whole:.0f} s, {n / whole:,.0f} files/s"
    )
    print("  " + ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in stages.items()))
    print(f"  memory, MiB: at most {max(seen[:third])} in the first third, {max(seen[-third:])} in the last")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    count, members = int(given.get("n", 6000)), given.get("nets", "prism,bganet,echelle").split(",")
    folder = Path(given.get("work", ROOT / "benchmarks" / "work" / "predict")) / str(count)
    prepared(folder, count, members)
    stored = FromStore.of(open_store(str(folder / "store")))
    one_worker(folder, stored, members)
    if not GPU:
        two_workers(folder, stored)
    if int(given.get("files", 0)):
        files_to_predictions(folder, int(given["files"]))
