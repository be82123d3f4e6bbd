"""How long the catalog of a whole survey takes, how much memory and disk it needs, and whether that grows
linearly.

    python -m benchmarks.catalog [n=1000000,11214076] [scratch=FOLDER]

The predictions are made up (a sky of plates as LAMOST's, 1.35 visits per star, 75 columns, shards of 1,000
rows); jobs/catalog.py is measured. 11.2 million rows take about half an hour in all and 10 GB of scratch
space on two cores. Prints a table for benchmarks/RESULTS.md.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.checked import WrittenFile
from survey.folder import Folder
from survey.labels import CLASSES, classes, label
from survey.predict import output
from survey.store.markers import SHARDS, marker_table, shard_file

ROOT = Path(__file__).resolve().parents[1]
DR8, SHARD = 11_214_076, 1000
LABELS = ("Teff", "logg", "FeH", "CH", "CFe")
NOISE = {"Teff": 80.0, "logg": 0.2, "FeH": 0.12, "CH": 0.15, "CFe": 0.1}
PLATE, RADIUS = 2500, 2.5
"""Stars of a plate; degrees from its centre to its edge."""

VISIT_SHARES = (1.0, 0.25, 0.1)
"""Shares of the stars of a plate that are observed in its first, second and third visit."""


@dataclass(frozen=True)
class Sky:
    """Stars S with positions and labels, plate by plate, and the star of each row N."""

    ra_S: np.ndarray
    dec_S: np.ndarray
    label_SL: np.ndarray
    class_S: np.ndarray
    star_N: np.ndarray


def make_sky(n: int, seed: int = 0) -> Sky:
    """A northern sky with `n` visits. An exposure observes one plate; exposures come in random order."""
    random = np.random.default_rng(seed)
    plates = max(int(n / sum(VISIT_SHARES)) // PLATE + 1, 2)
    stars = plates * PLATE
    plate_S = np.repeat(np.arange(plates), PLATE)
    sin_dec = random.uniform(np.sin(np.radians(-10)), np.sin(np.radians(60)), plates)
    distance, angle = RADIUS * np.sqrt(random.random(stars)), random.uniform(0, 2 * np.pi, stars)
    dec_S = np.degrees(np.arcsin(sin_dec))[plate_S] + distance * np.sin(angle)
    offset_S = distance * np.cos(angle) / np.cos(np.radians(dec_S))
    ra_S = (random.uniform(0, 360, plates)[plate_S] + offset_S) % 360
    feh, cfe = random.normal(-0.35, 0.3, stars), random.normal(0.1, 0.15, stars)
    poor = random.random(stars) < 0.03
    feh[poor], cfe[poor] = random.normal(-2, 0.5, poor.sum()), random.normal(0.3, 0.45, poor.sum())
    teff, logg = random.uniform(4200, 7500, stars), random.uniform(0.5, 4.8, stars)
    label_SL = np.stack([teff, logg, feh, feh + cfe, cfe], 1).astype(np.float32)
    return Sky(ra_S, dec_S, label_SL, classes(feh, cfe), _visits(stars, random)[:n].astype(np.int32))


def _visits(stars: int, random: np.random.Generator) -> np.ndarray:
    """The stars of all exposures, one exposure after the other."""
    exposures: list[np.ndarray] = []
    for share in VISIT_SHARES:
        observed = np.flatnonzero(random.random(stars) < share)
        exposures += np.split(observed, np.searchsorted(observed, np.arange(PLATE, stars, PLATE)))
    return np.concatenate([exposures[number] for number in random.permutation(len(exposures))])


def make_table(sky: Sky, star_N: np.ndarray, first: int) -> pa.Table:
    """Made-up predictions of these stars, one row each; `first` is the number of the first row."""
    random, count = np.random.default_rng([1, first]), len(star_N)
    moved = (random.random(count) < 0.1) * random.normal(0, 0.3 / 3600, count)
    snr = np.exp(random.normal(3.3, 0.7, count))
    noise_NC = random.normal(0, 12 / np.sqrt(snr)[:, None], (count, len(CLASSES)))
    logit_NC = 5.0 * np.eye(len(CLASSES))[sky.class_S[star_N]] + noise_NC
    p_NC = np.exp(logit_NC - logit_NC.max(1, keepdims=True))
    p_NC /= p_NC.sum(1, keepdims=True)
    names = [
        f"spec-55859-F{star // PLATE:05d}_sp{star % 16 + 1:02d}-{row:09d}"
        for row, star in enumerate(star_N.tolist(), first)
    ]
    columns = {
        "path": [f"/lamost/dr8/{name}.fits.gz" for name in names],
        "row": np.full(count, -1),
        "visit": names,
        "star": [f"LAMOST J{star:018d}" for star in star_N],
        "obsid": np.arange(first, first + count),
        "ra": (sky.ra_S[star_N] + moved) % 360,
        "dec": sky.dec_S[star_N],
        "lmjd": random.integers(55800, 59000, count),
        "snr": snr,
        "domain": random.gamma(4, 0.1, count),
        "flags": np.zeros(count, int),
        "class_entropy": -(p_NC * np.log(p_NC + 1e-30)).sum(1),
        "predicted_class": p_NC.argmax(1),
        **{f"p_{name.lower()}": p_NC[:, number] for number, name in enumerate(CLASSES)},
    }
    for number, name in enumerate(LABELS):
        columns |= _label_columns(name, sky.label_SL[star_N, number], snr, random)
    schema = output.schema(CLASSES, LABELS)
    arrays = [
        pa.array(columns[field.name]) if field.name in columns else _filler(field, random, count)
        for field in schema
    ]
    cast = [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)]
    return pa.table(cast, schema=schema)


def _label_columns(
    name: str, true_N: np.ndarray, snr: np.ndarray, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """A label with its errors and interval."""
    sigma = NOISE[name] * np.sqrt(1 + (25 / snr) ** 2)
    value = true_N + random.normal(0, 1, len(true_N)) * sigma
    return {
        name: value,
        f"{name}_err": sigma,
        f"{name}_err_data": 0.9 * sigma,
        f"{name}_err_model": 0.44 * sigma,
        f"{name}_spread": 0.3 * sigma,
        f"{name}_low": value - sigma,
        f"{name}_high": value + sigma,
    }


def _filler(field: pa.Field, random: np.random.Generator, count: int) -> pa.Array:
    """A column of which only the size matters."""
    if pa.types.is_floating(field.type):
        return pa.array(random.normal(1, 0.1, count))
    if pa.types.is_integer(field.type):
        return pa.array(random.integers(0, 16, count))
    return pa.array([f"{field.name[:6]}-{number % 7}" for number in range(count)])


def write_shards(folder: Path, sky: Sky, shards: range) -> None:
    """Write the files of some shards."""
    for shard in shards:
        star_N = sky.star_N[shard * SHARD : (shard + 1) * SHARD]
        path = folder / "predictions" / f"part-{shard:05d}.parquet"
        path.write_bytes(output.to_parquet(make_table(sky, star_N, shard * SHARD)).to_pybytes())


def write_predictions(folder: Path, n: int) -> None:
    """Write finished predictions, with validation stars."""
    sky, shards = make_sky(n), -(-n // SHARD)
    (folder / "predictions").mkdir(parents=True)
    blocks = [range(start, min(start + 200, shards)) for start in range(0, shards, 200)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        list(pool.map(partial(write_shards, folder, sky), blocks))
    chosen = np.random.default_rng(9).choice(len(sky.ra_S), 5000, replace=False)
    validation = make_table(sky, chosen, 10**8)
    validation = validation.append_column("true_class", pa.array(sky.class_S[chosen], pa.int8()))
    for number, name in enumerate(LABELS):
        validation = validation.append_column(f"true_{name}", pa.array(sky.label_SL[chosen, number]))
    pq.write_table(validation, folder / output.VALIDATION)
    predictions = Folder(str(folder), output.PREDICTIONS)
    predictions.begin({"n": n})
    markers = [marker(folder, shard) for shard in range(shards)]
    files.write_table(predictions.file(SHARDS), marker_table(markers))
    predictions.finish(document(n, shards), [SHARDS])


def marker(folder: Path, shard: int) -> output.PredictionMarker:
    """The marker of a shard, with the size and the checksum of its file."""
    return output.PredictionMarker(
        shard=shard,
        rows_in=SHARD,
        rows=SHARD,
        no_answer=0,
        outside_training=0,
        per_class={},
        refused={},
        settings="",
        version=0,
        predictions=WrittenFile.at(shard_file(str(folder), "predictions", shard)),
    )


def document(n: int, shards: int) -> output.PredictionsDocument:
    """The document of the predictions."""
    member = output.MemberReference(name="made up", path="made up", id="0" * 16, model="none")
    return output.PredictionsDocument(
        version=output.PREDICTIONS.version,
        id=hashlib.sha256(str(n).encode()).hexdigest()[:16],
        shards=shards,
        rows_in=n,
        rows=n,
        no_answer=0,
        outside_training=0,
        refused={},
        per_class={},
        labels=LABELS,
        classes=CLASSES,
        units={name: label(name).unit for name in LABELS},
        ensemble=output.EnsembleReference(
            path="made up", id="0" * 16, members=(member,), calibrated=True, domain=True, ranges={}
        ),
        source=output.InputReference(kind="store", path="made up", id="0" * 16),
        choice=output.Choice(batch=1, precision="float32"),
        settings={"n": n},
        fingerprint="",
    )


@dataclass
class Cost:
    """The cost of a job: seconds, largest memory and largest use of the disk in GB, and its log."""

    seconds: float
    memory: float
    disk: float
    log: list[str]


def measure(arguments: list[str], folder: Path) -> Cost:
    """Run a job to its end and measure it."""
    start, memory, disk = time.monotonic(), 0, 0
    with tempfile.TemporaryFile("w+") as printed:
        command = [sys.executable, "jobs/catalog.py", *arguments]
        job = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=printed)
        process = psutil.Process(job.pid)
        while job.poll() is None:
            try:
                family = (process, *process.children(recursive=True))
                memory = max(memory, sum(member.memory_full_info().pss for member in family))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            disk = max(disk, size(folder))
            time.sleep(0.5)
        seconds = time.monotonic() - start
        printed.seek(0)
        lines = printed.read().splitlines()
    if job.returncode:
        raise SystemExit("\n".join(lines[-20:]))
    log = [line for line in lines if " in " in line and "catalog:" in line]
    return Cost(seconds, memory / 1e9, disk / 1e9, log)


def size(folder: Path) -> int:
    """Bytes of all files below a folder; a file that is removed meanwhile does not count."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:  # thousands of files twice a second: pathlib is too slow
                total += os.stat(os.path.join(where, name)).st_size  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return total


COLUMNS = (
    "rows",
    "stars",
    "time",
    "rows/s",
    "ratio",
    "peak memory",
    "predictions",
    "largest disk use",
    "HATS",
    "candidates",
)


def main() -> None:
    """Print one row for each number of predictions."""
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    numbers = [int(text) for text in arguments.get("n", f"1000000,{DR8}").split(",")]
    scratch = Path(arguments.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    rows, rates = [], []
    for n in numbers:
        predictions, catalog = scratch / f"predictions{n}", scratch / f"catalog{n}"
        shutil.rmtree(catalog, ignore_errors=True)
        if not (predictions / output.PREDICTIONS.file).exists():
            shutil.rmtree(predictions, ignore_errors=True)
            write_predictions(predictions, n)
        cost = measure([f"predictions={predictions}", f"catalog={catalog}"], catalog)
        result = json.loads((catalog / "catalog.json").read_text())
        rates.append(n / cost.seconds)
        cells = (
            f"{n:,}",
            f"{result['stars']:,}",
            f"{cost.seconds:.0f} s",
            f"{rates[-1]:,.0f}",
            f"{rates[-1] / rates[0]:.2f}",
            f"{cost.memory:.2f} GB",
            f"{size(predictions) / 1e9:.2f} GB",
            f"{cost.disk:.2f} GB",
            f"{size(catalog / 'hats') / 1e9:.2f} GB, {result['tiles']} tiles",
            ", ".join(f"{count:,} {name}" for name, count in result["candidates"].items()),
        )
        rows.append(f"| {' | '.join(cells)} |")
        print("\n".join(cost.log))
        if "scratch" not in arguments:
            shutil.rmtree(predictions)
            shutil.rmtree(catalog)
    print(f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores\n")
    print(f"| {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * len(COLUMNS))} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
