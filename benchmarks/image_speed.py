"""How fast images become a store, a network and predictions, beside what one would write by hand.

    python -m benchmarks.image_speed [work=benchmarks/work/image_speed] [copies=4]

ingest    EFIGI's 2,993 JPEG files: CPU seconds of decoding alone (Pillow), of the obvious loop (decode, crop,
          resize, array in memory, nothing written), and of survey ingest (also a manifest, checks, shards).
train     Images per second of our loop, resident and streaming, and of a loop by hand over arrays in memory:
          the same network, batch, optimiser and loss, without augmentation.
predict   The same for predictions from a store of `copies` of these images.

One thread. Medians of turns; the variants take turns. Needs ../shared/data.
"""

import io
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from survey import machine
from survey.ensemble.calibrated_run import calibrated
from survey.labelling import samples
from survey.models.settings import Task
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.recipes import merge, read_section
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

ROOT = Path(__file__).resolve().parents[1]
GALAXIES = ROOT.parent / "shared" / "data" / "galaxies"
SIZE = 64
TURNS = 3
BATCH = 64
NETS: dict[str, dict[str, Any]] = {
    "vae": {"model": "vae", "task": "none", "options": {"latent": 40}},
    "views": {"model": "views", "task": "none", "options": {"latent": 40}},
}


def jpegs() -> list[bytes]:
    """The bytes of EFIGI's images."""
    with tarfile.open(GALAXIES / "efigi.tar") as archive:
        files = (archive.extractfile(member) for member in archive.getmembers() if member.isfile())
        return [file.read() for file in files if file is not None]


def decode(data: list[bytes]) -> None:
    """Decoding alone."""
    for item in data:
        Image.open(io.BytesIO(item)).load()


def obvious(data: list[bytes]) -> np.ndarray:
    """Decode, convert, resize; an array of all images."""
    images = (Image.open(io.BytesIO(item)).convert("RGB").resize((SIZE, SIZE)) for item in data)
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def make_store(work: Path, source: Path | str) -> str:
    """A new store of images."""
    section = read_section(ROOT / "recipes" / "galaxies.yaml", "ingest")
    path = work / "store"
    shutil.rmtree(path, ignore_errors=True)
    own = {"input": str(source), "store": str(path), "refuse_above": 1.0, "workers": 1}
    ingest(Ingest.from_dict("ingest", merge(section, own)))
    return str(path)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def show(*cells: str) -> None:
    """A row of a table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def compare_ingest(work: Path) -> None:
    """CPU milliseconds an image."""
    data = jpegs()
    folder = work / "files"
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(data):
        (folder / f"g{number:05d}.jpg").write_bytes(item)
    times: dict[str, list[float]] = {"decode": [], "obvious loop": [], "ingest, files": [], "ingest, tar": []}
    for _ in range(TURNS):
        times["decode"].append(cpu_seconds(lambda: decode(data)))
        times["obvious loop"].append(cpu_seconds(lambda: obvious(data)))
        times["ingest, tar"].append(cpu_seconds(lambda: make_store(work, GALAXIES / "efigi.tar")))
        times["ingest, files"].append(cpu_seconds(lambda: make_store(work, folder)))
    floor = median(times["decode"])
    show(f"{len(data):,} JPEG of 88 pixels -> {SIZE}", "CPU ms an image", "x decoding")
    show("---", "---", "---")
    for name, values in times.items():
        show(name, f"{median(values) / len(data) * 1e3:.3f}", f"{median(values) / floor:.2f}")


def train(work: Path, store: str, net: str, data: str) -> list[dict[str, float]]:
    """The history of a new run."""
    shutil.rmtree(work / net, ignore_errors=True)
    values = {
        "store": store,
        "labels": "none",
        "run": str(work / net),
        "epochs": 2,
        "batch": BATCH,
        "threads": 1,
        "data": data,
        "gpu": "never",
        "tracking": {"use": "never"},
        "initialise": "plain",
    }
    settings = Train.from_dict("train", values | NETS[net])
    if plan(settings):
        learn(settings)
    return runs.history(settings.run)


def by_hand(work: Path, store: str, net: str) -> float:
    """Images per second of a loop by hand."""
    machine.settle(1)
    part = samples.read(str(work / net)).part("train")
    spectra = read_spectra(open_store(store), part.shard_row_N2, ("image",))
    assert spectra.image is not None
    shape = spectra.image.shape[1:]
    model = runs.build(
        NETS[net]["model"],
        NETS[net]["options"],
        Task("none", (), 0, False),
        0,
        (shape[0], shape[1], shape[2]),
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    steps = len(part) // BATCH
    model.train()
    started = time.perf_counter()
    order = torch.randperm(len(part))
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        outputs = model(spectra.flux[rows], spectra.ivar[rows], None, spectra.image[rows])
        loss = outputs["own_loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return steps * BATCH / (time.perf_counter() - started)


def compare_training(work: Path, store: str) -> None:
    """Our loop against one by hand."""
    show("training", "by hand, images/s", "resident", "streaming")
    show("---", "---", "---", "---")
    for net in NETS:
        rates: dict[str, list[float]] = {"resident": [], "streaming": [], "hand": []}
        for _ in range(TURNS):
            for data in ("streaming", "resident"):
                rows = train(work, store, net, data)
                rates[data].append(max(row["spectra_per_second"] for row in rows))
            rates["hand"].append(by_hand(work, store, net))
        hand = median(rates["hand"])
        show(
            net, f"{hand:,.0f}", *(f"{median(rates[name]) / hand:.2f}" for name in ("resident", "streaming"))
        )


def compare_prediction(work: Path, copies: int) -> None:
    """Predictions from a store against a loop over arrays in memory."""
    machine.settle(1)
    folder = work / "many"
    folder.mkdir(exist_ok=True)
    for number, item in enumerate(jpegs() * copies):
        path = folder / f"g{number:06d}.jpg"
        if not path.exists():
            path.write_bytes(item)
    store = make_store(work, folder)
    opened = open_store(store)
    places = np.array(
        [
            (shard, row)
            for shard in range(opened.shards)
            for row in range(opened.spectra(shard, ["snr"]).num_rows)
        ]
    )
    spectra = read_spectra(opened, places, ("image",))
    assert spectra.image is not None
    show("prediction", "by hand, images/s", "survey predict, from the store", "ratio")
    show("---", "---", "---", "---")
    for net in NETS:
        ensemble = calibrated(str(work / net), 1, gpu=False)
        model = runs.open_run(str(work / net), torch.device("cpu")).net.eval()
        rates: dict[str, list[float]] = {"hand": [], "ours": []}
        for _ in range(TURNS):
            with torch.inference_mode():
                started = time.perf_counter()
                for start in range(0, len(places), 256):
                    rows = slice(start, start + 256)
                    model(spectra.flux[rows], spectra.ivar[rows], None, spectra.image[rows])
            rates["hand"].append(len(places) / (time.perf_counter() - started))
            shutil.rmtree(work / "predictions", ignore_errors=True)
            values = {
                "ensemble": ensemble,
                "store": store,
                "predictions": str(work / "predictions"),
                "workers": 1,
                "threads": 1,
                "batch": 256,
                "precision": "float32",
                "gpu": "never",
            }
            started = time.perf_counter()
            predict(Predict.from_dict("predict", values))
            rates["ours"].append(len(places) / (time.perf_counter() - started))
        hand, own = median(rates["hand"]), median(rates["ours"])
        show(net, f"{hand:,.0f}", f"{own:,.0f}", f"{own / hand:.2f}")


def main(work: str = "", copies: str = "4") -> None:
    """Print all tables."""
    folder = Path(work or ROOT / "benchmarks" / "work" / "image_speed")
    folder.mkdir(parents=True, exist_ok=True)
    compare_ingest(folder)
    sys.stdout.write("\n")
    compare_training(folder, make_store(folder, GALAXIES / "efigi.tar"))
    sys.stdout.write("\n")
    compare_prediction(folder, int(copies))


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
