"""How long predictions of a whole survey take to become a catalog, how much memory and disk they want, and whether that grows no faster than they.

    python benchmarks/catalog.py [n=1000000,11214076] [scratch=FOLDER]

Predictions are made up (a sky of plates as LAMOST's, 1.35 visits per star, 75 columns, shards of 1,000 rows), jobs/catalog.py is what is
measured. 11.2 million rows take about half an hour in all and 10 GB of scratch space on two cores. Prints a table for benchmarks/RESULTS.md.
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

from survey.labels import CLASSES, classes, label
from survey.predict import output

ROOT = Path(__file__).resolve().parents[1]
DR8, SHARD = 11_214_076, 1000
LABELS = ("Teff", "logg", "FeH", "CH", "CFe")
NOISE = {"Teff": 80.0, "logg": 0.2, "FeH": 0.12, "CH": 0.15, "CFe": 0.1}
PLATE, RADIUS = 2500, 2.5
"""Stars of a plate; degrees from its centre to its edge."""

AGAIN = (1.0, 0.25, 0.1)
"""Shares of a plate's stars that are observed in its first, second and third visit."""


@dataclass(frozen=True)
class Sky:
    """Stars S with their positions and labels, plate by plate, and which of them each row N is of."""

    ra_S: np.ndarray
    dec_S: np.ndarray
    label_SL: np.ndarray
    class_S: np.ndarray
    star_N: np.ndarray


def sky(n: int, seed: int = 0) -> Sky:
    """So many visits of the northern sky; exposures, each a visit of a plate, in no order."""
    random = np.random.default_rng(seed)
    plates = max(int(n / sum(AGAIN)) // PLATE + 1, 2)
    stars = plates * PLATE
    plate_S = np.repeat(np.arange(plates), PLATE)
    height = random.uniform(*np.sin(np.radians([-10, 60])), plates)
    far, turn = RADIUS * np.sqrt(random.random(stars)), random.uniform(0, 2 * np.pi, stars)
    dec_S = np.degrees(np.arcsin(height))[plate_S] + far * np.sin(turn)
    ra_S = (random.uniform(0, 360, plates)[plate_S] + far * np.cos(turn) / np.cos(np.radians(dec_S))) % 360
    feh, cfe = random.normal(-0.35, 0.3, stars), random.normal(0.1, 0.15, stars)
    poor = random.random(stars) < 0.03
    feh[poor], cfe[poor] = random.normal(-2, 0.5, poor.sum()), random.normal(0.3, 0.45, poor.sum())
    label_SL = np.stack(
        [random.uniform(4200, 7500, stars), random.uniform(0.5, 4.8, stars), feh, feh + cfe, cfe], 1
    ).astype(np.float32)
    seen = [np.flatnonzero(random.random(stars) < share) for share in AGAIN]
    cuts = [np.split(rows, np.searchsorted(rows, np.arange(PLATE, stars, PLATE))) for rows in seen]
    exposures = [part for visit in cuts for part in visit]
    star_N = np.concatenate([exposures[number] for number in random.permutation(len(exposures))])[:n].astype(
        np.int32
    )
    return Sky(ra_S, dec_S, label_SL, classes(feh, cfe), star_N)


def table(made: Sky, star_N: np.ndarray, first: int) -> pa.Table:
    """The predictions of rows of these stars."""
    random, count = np.random.default_rng([1, first]), len(star_N)
    moved = (random.random(count) < 0.1) * random.normal(0, 0.3 / 3600, count)
    snr = np.exp(random.normal(3.3, 0.7, count))
    odds = 5.0 * np.eye(len(CLASSES))[made.class_S[star_N]] + random.normal(
        0, 12 / np.sqrt(snr)[:, None], (count, len(CLASSES))
    )
    p_NC = np.exp(odds - odds.max(1, keepdims=True))
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
        "ra": (made.ra_S[star_N] + moved) % 360,
        "dec": made.dec_S[star_N],
        "lmjd": random.integers(55800, 59000, count),
        "snr": snr,
        "domain": random.gamma(4, 0.1, count),
        "flags": np.zeros(count, int),
        "entropy": -(p_NC * np.log(p_NC + 1e-30)).sum(1),
        "said": p_NC.argmax(1),
        **{f"p_{name.lower()}": p_NC[:, number] for number, name in enumerate(CLASSES)},
    }
    for number, name in enumerate(LABELS):
        sigma = NOISE[name] * np.sqrt(1 + (25 / snr) ** 2)
        value = made.label_SL[star_N, number] + random.normal(0, 1, count) * sigma
        columns |= {
            name: value,
            f"{name}_err": sigma,
            f"{name}_err_data": 0.9 * sigma,
            f"{name}_err_model": 0.44 * sigma,
            f"{name}_spread": 0.3 * sigma,
        }
        columns |= {f"{name}_low": value - sigma, f"{name}_high": value + sigma}
    schema = output.schema(CLASSES, LABELS)
    arrays = [
        pa.array(columns[field.name]) if field.name in columns else _anything(field, random, count)
        for field in schema
    ]
    return pa.table(
        [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
    )


def _anything(field: pa.Field, random: np.random.Generator, count: int) -> pa.Array:
    """A column of which only the size matters."""
    if pa.types.is_floating(field.type):
        return pa.array(random.normal(1, 0.1, count))
    if pa.types.is_integer(field.type):
        return pa.array(random.integers(0, 16, count))
    return pa.array([f"{field.name[:6]}-{number % 7}" for number in range(count)])


def make_shards(folder: Path, made: Sky, shards: range) -> None:
    """The files of some shards."""
    for shard in shards:
        star_N = made.star_N[shard * SHARD : (shard + 1) * SHARD]
        path = folder / "predictions" / f"part-{shard:05d}.parquet"
        path.write_bytes(output.packed(table(made, star_N, shard * SHARD)).to_pybytes())


def make(folder: Path, n: int) -> None:
    """A finished folder of predictions, with what validation stars were told."""
    made = sky(n)
    (folder / "predictions").mkdir(parents=True)
    shards = -(-n // SHARD)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        list(
            pool.map(
                partial(make_shards, folder, made),
                [range(at, min(at + 200, shards)) for at in range(0, shards, 200)],
            )
        )
    some = np.random.default_rng(9).choice(len(made.ra_S), 5000, replace=False)
    told = table(made, some, 10**8).append_column("true_class", pa.array(made.class_S[some], pa.int8()))
    for number, name in enumerate(LABELS):
        told = told.append_column(f"true_{name}", pa.array(made.label_SL[some, number]))
    pq.write_table(told, folder / output.VALIDATION)
    members = [{"name": "made up", "model": "none", "id": "0" * 16}]
    about = {
        "version": output.VERSION,
        "id": hashlib.sha256(str(n).encode()).hexdigest()[:16],
        "rows": n,
        "shards": shards,
        "labels": LABELS,
        "classes": CLASSES,
        "units": {name: label(name).unit for name in LABELS},
        "ensemble": {"path": "made up", "id": "0" * 16, "about": {"members": members, "ranges": {}}},
        "source": {"kind": "store", "path": "made up", "id": "0" * 16},
    }
    (folder / output.PREDICTIONS).write_text(json.dumps(about))


@dataclass
class Watched:
    """What a job took: seconds, GB of memory (its processes' own and their share of what they share), GB on the disk at most, its last lines."""

    seconds: float
    memory: float
    disk: float
    stages: list[str]


def watched(arguments: list[str], folder: Path) -> Watched:
    """A job from its start to its end."""
    begin, memory, disk = time.monotonic(), 0, 0
    with tempfile.TemporaryFile("w+") as said:
        job = subprocess.Popen(
            [sys.executable, "jobs/catalog.py", *arguments], cwd=ROOT, stdout=said, stderr=said
        )
        family = psutil.Process(job.pid)
        while job.poll() is None:
            try:
                memory = max(
                    memory,
                    sum(one.memory_full_info().pss for one in (family, *family.children(recursive=True))),
                )
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            disk = max(disk, size(folder))
            time.sleep(0.5)
        seconds = time.monotonic() - begin
        said.seek(0)
        lines = said.read().splitlines()
    if job.returncode:
        raise SystemExit("\n".join(lines[-20:]))
    return Watched(
        seconds, memory / 1e9, disk / 1e9, [line for line in lines if " in " in line and "catalog:" in line]
    )


def size(folder: Path) -> int:
    """Bytes of all files below a folder; those that vanish meanwhile do not count."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_size  # noqa: PTH116, PTH118 - thousands of files, twice a second
            except FileNotFoundError:
                continue
    return total


def main() -> None:
    """One row for each number of predictions."""
    asked = dict(item.split("=", 1) for item in sys.argv[1:])
    numbers = [int(text) for text in asked.get("n", f"1000000,{DR8}").split(",")]
    scratch = Path(asked.get("scratch") or tempfile.mkdtemp(prefix="survey-bench-"))
    rows, rates = [], []
    for n in numbers:
        given, made = scratch / f"predictions{n}", scratch / f"catalog{n}"
        shutil.rmtree(made, ignore_errors=True)
        if not (given / output.PREDICTIONS).exists():
            shutil.rmtree(given, ignore_errors=True)
            make(given, n)
        took = watched([f"predictions={given}", f"catalog={made}"], made)
        about = json.loads((made / "catalog.json").read_text())
        rates.append(n / took.seconds)
        lists = ", ".join(f"{count:,} {kind}" for kind, count in about["candidates"].items())
        figures = (
            f"{took.seconds:.0f} s | {rates[-1]:,.0f} | {rates[-1] / rates[0]:.2f} | {took.memory:.2f} GB"
        )
        disk = f"{size(given) / 1e9:.2f} GB | {took.disk:.2f} GB | {size(made / 'hats') / 1e9:.2f} GB, {about['tiles']} tiles"
        rows.append(f"| {n:,} | {about['stars']:,} | {figures} | {disk} | {lists} |")
        print("\n".join(took.stages))
        if "scratch" not in asked:
            shutil.rmtree(given)
            shutil.rmtree(made)
    print(f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores\n")
    print(
        "| rows | stars | time | rows/s | ratio | peak memory | predictions | most on disk meanwhile | HATS | candidates |"
    )
    print("| " + " | ".join(["---"] * 10) + " |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
