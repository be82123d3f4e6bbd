"""What the training loop costs compared with a hand-written one, how it scales over Ray workers and threads.

    python -m benchmarks.training [nets=prism,echelle] [parts=loops,workers,threads] [work=FOLDER]

loops     Our loop against a hand-written one: the same network, batch, threads, allocator settings,
          optimiser and losses on arrays in memory, without augmentation, and nothing is written. Ours does
          all that a run does; validation and checkpoints are timed too, and shown separately.
workers   One and two Ray workers, and whether one seed gives one result.
threads   `jobs/train.py` with one thread, with all threads, and with threads=auto, on a quiet machine and
          with 2, 4 and 8 busy processes beside it. "all, spinning" is the default of OpenMP: threads spin
          while they wait.

Medians of turns; the variants take turns, so that changes of the machine meet all of them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from survey import machine
from survey.cluster.work import fit
from survey.labelling import samples
from survey.models import summary
from survey.models.settings import Task
from survey.recipes import read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.settings import Train

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
TURNS = 3
NETS = {"prism": 10, "bganet": 6, "starnet": 1, "echelle": 1, "rrnet": 1}
"""Networks and the epochs of a turn."""
BUSY = (0, 2, 4, 8)
"""Numbers of busy processes beside a training."""
THREADS: dict[str, tuple[str, dict[str, str]]] = {
    "one": ("1", {}),
    "all": (str(machine.cpus()), {}),
    "auto": ("auto", {}),
    "all, spinning": (str(machine.cpus()), {"GOMP_SPINCOUNT": "300000"}),
}
"""Numbers of threads, and changes of the environment."""


WINDOW = 512
"""Spectra that are shuffled together. A survey has many windows; this store is smaller than the default."""


def values(work: Path, name: str) -> dict[str, Any]:
    """A training without augmentation, on the reference set."""
    return {
        "store": str(work / "reference"),
        "labels": str(DATA / "reference.parquet"),
        "run": str(work / name),
        "tracking": {"use": "never"},
        "initialise": "plain",
        "gpu": "never",
    }


def ours(work: Path, **changes: Any) -> list[dict[str, float]]:
    """The history of a new run."""
    shutil.rmtree(work / "turn", ignore_errors=True)
    settings = Train.from_dict("training", values(work, "turn") | changes)
    fit(settings)
    return runs.history(settings.run)


def by_hand(work: Path, net: str, epochs: int, threads: int) -> float:
    """Spectra per second of a hand-written loop."""
    machine.settle(threads)
    train = samples.read(str(work / "turn")).part("train")
    spectra = read_spectra(open_store(str(work / "reference")), train.shard_row_N2)
    model = runs.build(net, {}, Task("cls_reg", train.labels), spectra.flux.shape[1])
    mean, spread = train.label_NL.mean(0), train.label_NL.std(0)
    label = torch.tensor((train.label_NL - mean) / spread).float()
    classes = torch.tensor(train.class_N).long()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    steps = len(train) // 64
    started = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(train))
        for step in range(steps):
            rows = order[step * 64 : (step + 1) * 64]
            outputs = model(spectra.flux[rows], spectra.ivar[rows])
            class_loss = nn.functional.cross_entropy(outputs["logits"], classes[rows])
            loss = class_loss + nn.functional.mse_loss(outputs["mu"], label[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    return epochs * steps * 64 / (time.perf_counter() - started)


def peak(threads: int) -> float:
    """GFLOP/s of a large convolution, the most that a network could use."""
    machine.settle(threads)
    layer, x = nn.Conv1d(128, 128, 7, padding=3), torch.randn(64, 128, 1024)
    best = 0.0
    with torch.inference_mode():
        for _ in range(8):
            started = time.perf_counter()
            layer(x)
            best = max(best, 2 * 64 * 1024 * 128 * 128 * 7 / (time.perf_counter() - started) / 1e9)
    return best


def compare_loops(work: Path, nets: list[str]) -> None:
    """Our loop against the hand-written one, resident and streaming."""
    limit = peak(1)
    print(f"convolution peak of one thread: {limit:.0f} GFLOP/s\n")
    columns = ("network", "by hand, spectra/s", "resident", "streaming")
    print(f"| {' | '.join(columns)} | whole epoch (validation, checkpoint) | share of the peak |")
    print("| --- " * 6 + "|")
    for net in nets:
        epochs = NETS[net]
        rates: dict[str, list[float]] = {"hand": [], "resident": [], "streaming": [], "whole": []}
        for _ in range(TURNS):
            for data in ("resident", "streaming"):
                rows = ours(work, model=net, epochs=epochs, threads=1, data=data, window=WINDOW)
                rates[data].append(max(row["spectra_per_second"] for row in rows))
            train = runs.run_document(str(work / "turn")).parts["train"]
            count = epochs * train.spectra // 64 * 64
            rates["whole"].append(count / sum(row["seconds"] for row in rows))
            rates["hand"].append(by_hand(work, net, epochs, 1))
        hand, *others = (median(rates[name]) for name in ("hand", "resident", "streaming", "whole"))
        flop = 3 * summary.megaflop(runs.open_run(str(work / "turn")).net) * others[0] / 1e3
        shares = " | ".join(f"{rate / hand:.2f}" for rate in others)
        print(f"| {net} | {hand:,.0f} | {shares} | {flop / limit:.0%} |", flush=True)


def compare_workers(work: Path) -> None:
    """One and two Ray workers with one thread each, and the results of both."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    ends: dict[int, dict[str, float]] = {}
    training: dict[str, Any] = {"model": "echelle", "threads": 1, "augment": {"preset": "light"}}
    for _ in range(TURNS):
        for count in (1, 2):
            rows = ours(work, epochs=2, workers=count, **training)
            rates[count].append(max(row["spectra_per_second"] for row in rows))
            ends[count] = rows[-1]
    ratio = median(rates[2]) / median(rates[1])
    print(f"\ntwo Ray workers of one thread: {ratio:.2f} x one ({median(rates[1]):,.0f} spectra/s)")
    names = ("train_loss", "validation_loss", "validation_accuracy", "validation_mae_FeH")
    worst = max(abs(ends[2][name] / ends[1][name] - 1) for name in names)
    shown = json.dumps({name: round(ends[1][name], 4) for name in names})
    print(f"metrics of one and two workers: largest relative difference {worst:.1e} of {shown}")
    losses = [ours(work, epochs=1, **training)[-1]["validation_loss"] for _ in range(2)]
    print(f"two runs of one seed: {'identical' if losses[0] == losses[1] else f'differ: {losses}'}")


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Other work on the machine: processes that compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def job_rate(work: Path, net: str, epochs: int, threads: str, environment: dict[str, str]) -> float:
    """Spectra per second of all training steps of a job; validation and checkpoints do not count."""
    shutil.rmtree(work / "turn", ignore_errors=True)
    arguments = [f"{name}={json.dumps(value)}" for name, value in values(work, "turn").items()]
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), f"model={net}", f"epochs={epochs}"]
    subprocess.run(
        [*command, f"threads={threads}", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        check=True,
    )
    rows = runs.history(str(work / "turn"))
    return len(rows) / sum(1 / row["spectra_per_second"] for row in rows)


def compare_threads(work: Path, nets: list[str]) -> None:
    """Numbers of threads, on a quiet machine and beside other work."""
    print(f"\n{machine.cpus()} CPUs; load of other work at the start: {os.getloadavg()[0]:.1f}\n")
    print(f"| network | busy processes | one, spectra/s | {' | '.join([*THREADS][1:])} |")
    print("| --- " * (2 + len(THREADS)) + "|")
    for net in nets:
        for busy in BUSY:
            rates: dict[str, list[float]] = {name: [] for name in THREADS}
            with busy_processes(busy):
                for _ in range(TURNS):
                    for name, (threads, environment) in THREADS.items():
                        rates[name].append(job_rate(work, net, max(NETS[net] // 3, 1), threads, environment))
            one, *others = (median(rates[name]) for name in THREADS)
            shares = " | ".join(f"{rate / one:.2f}" for rate in others)
            print(f"| {net} | {busy} | {one:,.0f} | {shares} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    folder = Path(given.get("work", ROOT / "benchmarks" / "work" / "training")).absolute()
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    ingested = {"input": str(DATA / "reference.parquet"), "store": str(folder / "reference"), "workers": 1}
    ingest(Ingest.from_dict("ingest", recipe | ingested))
    nets, parts = given.get("nets", ",".join(NETS)).split(","), given.get("parts", "loops,workers,threads")
    if "loops" in parts:
        compare_loops(folder, nets)
    if "workers" in parts:
        compare_workers(folder)
    if "threads" in parts:
        compare_threads(folder, nets)
