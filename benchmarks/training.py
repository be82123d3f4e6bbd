"""What the training loop costs beside a hand-written one, how it scales over Ray workers, and that it repeats itself.

    python benchmarks/training.py [nets=prism,echelle] [work=benchmarks/work/training]

The hand-written loop: the same network, batch, threads, allocator settings, optimiser and losses on arrays in memory, no augmentation, nothing
written down. Ours: everything that a run does, checkpoints and validation apart (both are timed, and shown by themselves). Medians of turns.
"""

import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from survey import machine
from survey.cluster.train import fit
from survey.labelling import samples
from survey.models import summary
from survey.models.settings import Task
from survey.settings import read_section
from survey.store.settings import Ingest
from survey.store.ingest import ingest
from survey.store.store import open_store
from survey.training import run
from survey.training.batches import read_spectra
from survey.training.settings import Train

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "physics"
TURNS = 3
NETS = {"prism": 10, "bganet": 6, "starnet": 1, "echelle": 1, "rrnet": 1}
"""Networks and the epochs of a turn."""


def settings(work: Path, name: str, **changes: Any) -> Train:
    """A training without augmentation, on the reference set."""
    values = {
        "store": str(work / "reference"),
        "labels": str(DATA / "reference.parquet"),
        "run": str(work / name),
        "tracking": {"use": "never"},
        "start": "plain",
        "gpu": "never",
    }
    return Train.from_dict("training", values | changes)


def ours(work: Path, **changes: Any) -> list[dict[str, float]]:
    """The history of a fresh run."""
    shutil.rmtree(work / "turn", ignore_errors=True)
    made = settings(work, "turn", **changes)
    fit(made)
    return run.history(made.run)


def by_hand(work: Path, net: str, epochs: int, threads: int) -> float:
    """Spectra per second of the loop that one would write."""
    machine.settle(threads)
    train = samples.read(str(work / "turn")).part("train")
    spectra = read_spectra(open_store(str(work / "reference")), train.shard_row_N2, False)
    task = Task("cls_reg", train.labels)
    model = run.build(net, {}, task, spectra.flux.shape[1])
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
            answers = model(spectra.flux[rows], spectra.ivar[rows])
            loss = nn.functional.cross_entropy(answers["logits"], classes[rows]) + nn.functional.mse_loss(
                answers["mu"], label[rows]
            )
            optimiser.zero_grad()
            loss.backward()
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


def loops(work: Path, nets: list[str]) -> None:
    """Ours against the hand-written loop, resident and streaming."""
    limit = peak(1)
    print(f"convolution peak of one thread: {limit:.0f} GFLOP/s\n")
    print(
        "| network | by hand, spectra/s | resident | streaming | whole epoch (validation, checkpoint) | share of the peak |"
    )
    print("| --- " * 6 + "|")
    for net, epochs in ((net, NETS[net]) for net in nets):
        rates: dict[str, list[float]] = {"hand": [], "resident": [], "streaming": [], "whole": []}
        for _ in range(TURNS):
            for data in ("resident", "streaming"):
                rows = ours(work, model=net, epochs=epochs, threads=1, data=data)
                rates[data].append(max(row["spectra_per_second"] for row in rows))
            seen = epochs * run.run_document(str(work / "turn"))["parts"]["train"]["spectra"] // 64 * 64
            rates["whole"].append(seen / sum(row["seconds"] for row in rows))
            rates["hand"].append(by_hand(work, net, epochs, 1))
        hand, resident, streaming, whole = (
            median(rates[name]) for name in ("hand", "resident", "streaming", "whole")
        )
        flop = 3 * summary.megaflop(run.open_run(str(work / "turn")).net) * resident / 1e3
        print(
            f"| {net} | {hand:,.0f} | {resident / hand:.2f} | {streaming / hand:.2f} | {whole / hand:.2f} | {flop / limit:.0%} |",
            flush=True,
        )


def workers(work: Path) -> None:
    """One and two Ray Train workers with one thread each, and what both end with."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    ends: dict[int, dict[str, float]] = {}
    for _ in range(TURNS):
        for count in (1, 2):
            rows = ours(
                work, model="echelle", epochs=2, threads=1, workers=count, augment={"preset": "light"}
            )
            rates[count].append(max(row["spectra_per_second"] for row in rows))
            ends[count] = rows[-1]
    print(
        f"\ntwo Ray Train workers of one thread: {median(rates[2]) / median(rates[1]):.2f} x one ({median(rates[1]):,.0f} spectra/s)"
    )
    names = ("train_loss", "validation_loss", "validation_accuracy", "validation_mae_FeH")
    worst = max(abs(ends[2][name] / ends[1][name] - 1) for name in names)
    print(
        f"the same metrics for one and two workers: largest difference {worst:.1e} of {json.dumps({name: round(ends[1][name], 4) for name in names})}"
    )
    same = [
        ours(work, model="echelle", epochs=1, threads=1, augment={"preset": "light"})[-1]["validation_loss"]
        for _ in range(2)
    ]
    print(f"two runs of one seed: {'identical' if same[0] == same[1] else f'differ: {same}'}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    folder = Path(given.get("work", ROOT / "benchmarks" / "work" / "training"))
    recipe = read_section(ROOT / "recipes" / "cemp.yaml", "ingest")
    ingest(
        Ingest.from_dict(
            "ingest",
            recipe
            | {"input": str(DATA / "reference.parquet"), "store": str(folder / "reference"), "workers": 1},
        )
    )
    loops(folder, given["nets"].split(",") if "nets" in given else list(NETS))
    workers(folder)
