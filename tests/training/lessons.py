"""A small store of toy stars whose lines follow their labels, and trainings on it that take a second."""

import atexit
import csv
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from survey.spectrum import Grid
from survey.store.indices import INDICES
from survey.store.schema import array_column, spectra_schema
from survey.store.settings import Bits, Prepare
from survey.store.store import STORE, StoreDocument, StoreSettings, to_parquet
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import finish_store

GRID = Grid(4000.0, 4598.0, 2.0)
STARS = 240


def stars(count: int = STARS, seed: int = 0, first: int = 1000) -> dict[str, np.ndarray]:
    """Labels of toy stars; a third of the metal-poor ones are rich in carbon."""
    rng = np.random.default_rng(seed)
    feh = rng.uniform(-3, 0.3, count)
    cfe = np.where(
        (feh < -1) & (rng.random(count) < 0.4), rng.uniform(0.8, 2, count), rng.uniform(-0.3, 0.5, count)
    )
    return {
        "obsid": first + np.arange(count),
        "Teff": rng.uniform(4500, 6500, count),
        "logg": rng.uniform(1, 4.8, count),
        "FeH": feh,
        "CFe": cfe,
        "CH": feh + cfe,
    }


def spectra(labels: dict[str, np.ndarray], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Flux and ivar of these stars, with a few bad pixels.

    Three groups of lines follow the metals, one band follows carbon, and one line follows temperature.
    """
    rng, wave = np.random.default_rng(seed), GRID.wave
    depth = {
        4100: 0.3 * (labels["Teff"] - 4000) / 2500,
        4300: 0.1 * np.exp(0.5 * labels["CH"]),
        4450: 0.2 * np.exp(0.7 * labels["FeH"]),
    }
    depth |= {
        4200: 0.15 * np.exp(0.7 * labels["FeH"]) * labels["logg"] / 3,
        4550: 0.2 * np.exp(0.6 * labels["FeH"]),
    }
    flux = np.ones((len(labels["FeH"]), len(wave)))
    for centre, strength in depth.items():
        flux -= strength[:, None] * np.exp(-(((wave - centre) / 12) ** 2))
    sigma = rng.uniform(0.005, 0.05, len(flux))[:, None]
    flux += sigma * rng.standard_normal(flux.shape)
    ivar = np.broadcast_to(1 / sigma**2, flux.shape).copy()
    bad = rng.random(flux.shape) < 0.01
    flux[bad], ivar[bad] = 1, 0
    return flux.astype(np.float32), ivar.astype(np.float32)


def made_up_indices(labels: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Indices that follow the metals and the temperature, with some noise."""
    rng, weights = np.random.default_rng(seed), np.random.default_rng(5)
    metals, heat = np.exp(0.7 * labels["FeH"]), (labels["Teff"] - 4500) / 2000
    return {
        name: weights.uniform(2, 5) * metals + weights.uniform(-2, 2) * heat + rng.normal(0, 0.1, len(metals))
        for name in INDICES
    }


def store(
    folder: Path,
    count: int = STARS,
    size: int = 50,
    continuum: bool = False,
    seed: int = 0,
    first: int = 1000,
    with_indices: bool = False,
) -> Path:
    """A finished store of toy stars, with indices of lines or without, and `labels.csv` beside it."""
    made = _made(count, size, continuum, seed, first, with_indices)
    shutil.copytree(made / "store", folder, dirs_exist_ok=True)
    shutil.copy2(made / "labels.csv", folder.parent)
    return folder


@functools.cache
def kept_folder() -> Path:
    """A folder of this process for what is made once and copied for each test."""
    folder = tempfile.mkdtemp(prefix="lessons-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _made(count: int, size: int, continuum: bool, seed: int, first: int, with_indices: bool) -> Path:
    """A folder with this store and its labels, which stays as it is."""
    place = Path(tempfile.mkdtemp(dir=kept_folder()))
    folder = place / "store"
    labels = stars(count, seed, first)
    flux, ivar = spectra(labels, seed + 1)
    schema = spectra_schema(GRID, continuum)
    numbers = -(-count // size)
    spectra_files = []
    for number in range(numbers):
        here = slice(number * size, (number + 1) * size)
        known: dict[str, Any] = {
            "path": [f"/x/spec-{obsid}.fits" for obsid in labels["obsid"][here]],
            "row": [-1] * len(flux[here]),
            "visit": [f"v{obsid}" for obsid in labels["obsid"][here]],
            "obsid": labels["obsid"][here],
            "survey": ["toy"] * len(flux[here]),
            "layout": ["toy"] * len(flux[here]),
            "snr": np.sqrt(np.median(ivar[here], 1)),
            "flags": [0] * len(flux[here]),
        }
        if with_indices:
            known |= {name: values[here] for name, values in made_up_indices(labels, seed).items()}
        arrays = {"flux": flux[here], "ivar": ivar[here], "continuum": np.ones_like(flux[here])}
        columns = [
            array_column(np.ascontiguousarray(arrays[field.name]))
            if field.name in arrays
            else pa.array(known.get(field.name, [None] * len(flux[here])), field.type)
            for field in schema
        ]
        spectra_files.append(to_parquet(pa.table(columns, schema=schema)))
    settings = StoreSettings(shard=size, sources=(), options={}, prepare=Prepare(), bits=Bits())
    document = StoreDocument(
        version=STORE.version,
        id=f"toy-{seed}",
        shards=numbers,
        files=count,
        rows_in=count,
        written=count,
        refused={},
        grid=GRID,
        fingerprint="toy",
        settings=settings,
    )
    finish_store(folder, document, spectra_files)
    with (folder.parent / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(labels)
        writer.writerows(zip(*(column.tolist() for column in labels.values()), strict=True))
    return place


def shift(table: Path) -> None:
    """[Fe/H] of the table is 0.5 dex higher from now on."""
    first, *lines = table.read_text().splitlines()
    column, rows = first.split(",").index("FeH"), [line.split(",") for line in lines]
    for row in rows:
        row[column] = str(float(row[column]) + 0.5)
    table.write_text("\n".join([first, *map(",".join, rows)]) + "\n")


def training(folder: Path, **changes: Any) -> Train:
    """Settings of a short training on `folder/store` into `folder/run`."""
    values: dict[str, Any] = {
        "store": str(folder / "store"),
        "labels": str(folder / "labels.csv"),
        "run": str(folder / "run"),
        "model": "prism",
        "options": {"components": 16, "hidden": 32},
        "targets": ["FeH", "CFe"],
        "epochs": 6,
        "batch": 16,
        "optimiser": {"lr": 3e-3},
        "tracking": {"use": "never"},
        "gpu": "never",
        "threads": 1,
    }
    return Train.from_dict("train", values | changes)


def train(folder: Path, **changes: Any) -> Path:
    """A finished run of such a training."""
    settings = training(folder, **changes)
    if plan(settings):
        learn(settings)
    return Path(settings.run)
