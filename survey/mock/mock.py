"""A mock survey on disk or in a bucket: plans of thousands of files in the survey's own formats, a table of the truth, a catalogue.

Work is cut into chunks of files; the part of the label table that a chunk writes last is the proof that it is done, so a run that was stopped
goes on where it was. Inside, spectra are computed in batches of 100 files that depend on the seed and their number alone.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.parquet as pq
from isal import igzip
from pydantic import Field, field_validator

from survey import files
from survey.mock import damage, population, truth_table
from survey.mock.exposure import SUSPECT, Exposure, expose
from survey.mock.layouts import NAMES, WRITERS, Layout, Pixels, night
from survey.mock.light import LOW, MEDIUM_BLUE, MEDIUM_RED, Window
from survey.mock.population import BLOCK, Table
from survey.progress import Progress
from survey.settings import Settings, SettingsError

BATCH = 100
SINGLES = 3
"""Single exposures in a medium-resolution file."""
FIRST_SDSS = 120
"""Pixels of the low-resolution grid before 3804 angstrom, where the mock SDSS spectra start."""
Done = dict[str, Any]
Run = Callable[[Callable[[int], Done], Iterable[int]], Iterable[Done]]


class Mock(Settings):
    """A mock survey."""

    INERT: ClassVar[frozenset[str]] = frozenset({"out", "workers"})

    out: str = Field(description="folder or s3:// prefix to write to")
    n: int = Field(2000, ge=1, description="number of files, defective ones included")
    seed: int = Field(0, ge=0, description="another seed, another sky")
    broken: float = Field(0.02, ge=0, le=1, description="share of defective files, all kinds alike")
    balance: Literal["reference", "balanced"] = Field(
        "reference", description="classes as in the published reference set, or a third each"
    )
    layouts: dict[Layout, float] = Field(
        {"lrs_image": 0.6, "lrs_table": 0.25, "lrs_image_subcont": 0.15},
        description=f"weight of each layout of {', '.join(NAMES)}",
    )
    visits: float = Field(0.15, ge=0, le=1, description="share of stars that are observed 2 to 4 times")
    gz: float = Field(0.8, ge=0, le=1, description="share of gzipped files")
    snr: float = Field(1.0, gt=0, description="factor on the signal to noise (median 32 in g)")
    chunk: int = Field(
        1000, ge=BATCH, multiple_of=BATCH, description="files per piece of work, a multiple of 100"
    )
    workers: int | None = Field(None, ge=1, description="processes that write; null = one for each CPU")

    @field_validator("layouts")
    @classmethod
    def _some_weight(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("needs weights of at least 0, one above")
        return value

    @property
    def deal(self) -> population.Deal:
        """What the stars are drawn with."""
        return population.Deal(self.seed, self.balance, self.visits)


def make(settings: Mock, run: Run = map) -> dict[str, Any]:
    """The mock survey under `settings.out`, what is there already left as it is; returns what mock.json says, and `new`: files written now."""
    done = files.join(settings.out, "mock.json")
    begun = files.join(settings.out, "mock-begun.json")
    for path in (done, begun):
        _check_same(settings, path)
    if files.exists(done):
        return dict(json.loads(files.read(done))) | {"new": 0}
    about = {"fingerprint": settings.fingerprint(), "settings": settings.lasting()}
    files.write(begun, json.dumps(about, indent=2).encode())
    there = set(files.names(files.join(settings.out, "labels")))
    missing = [number for number in range(-(-settings.n // settings.chunk)) if _part(number) not in there]
    new = 0
    results = run(partial(write_chunk, settings), missing)
    with Progress("mock", total=settings.n, unit="files") as bar:
        bar.add(settings.n - sum(_size(settings, number) for number in missing))
        for result in results:
            new += result["files"]
            bar.add(result["files"])
    summary = about | _joined(settings)
    files.write(done, json.dumps(summary, indent=2).encode())
    for number in range(-(-settings.n // settings.chunk)):
        files.remove(files.join(settings.out, "labels", _part(number)))
    files.remove(begun)
    return summary | {"new": new}


def _check_same(settings: Mock, path: str) -> None:
    if not files.exists(path):
        return
    before = json.loads(files.read(path))
    if before["fingerprint"] != settings.fingerprint():
        now = json.loads(json.dumps(settings.lasting()))
        other = {name: value for name, value in before["settings"].items() if now.get(name) != value}
        told = ", ".join(f"{name} was {value!r} and is {now.get(name)!r}" for name, value in other.items())
        raise SettingsError(
            f"mock: {path}: made with other settings ({told}); give out= another folder, or remove this one"
        )


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _size(settings: Mock, chunk: int) -> int:
    return min(settings.n - chunk * settings.chunk, settings.chunk)


def write_chunk(settings: Mock, number: int) -> Done:
    """Write the files of a chunk and then its part of the label table; returns how many files."""
    first = number * settings.chunk
    stop = first + _size(settings, number)
    rows: list[Table] = []
    for batch in range(first // BATCH, -(-stop // BATCH)):
        table, contents = compute(settings, batch)
        count = min(stop - batch * BATCH, BATCH)
        _write_all(
            settings.out,
            [(table["path"][row], content) for row, content in zip(range(count), contents, strict=False)],
        )
        rows.append({name: column[:count] for name, column in table.items()})
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    files.write(
        files.join(settings.out, "labels", _part(number)), truth_table.parquet(truth_table.labels(joined))
    )
    return {"files": stop - first}


def _write_all(out: str, contents: list[tuple[str, bytes | None]]) -> None:
    """Files by path; None stands for a folder. Objects go to a bucket 32 at a time."""
    named = [(files.join(out, path), content) for path, content in contents]
    if files.is_remote(out):
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda item: files.write(item[0], item[1] or b""), named))
        return
    for path, content in named:
        if content is None:
            Path(path).mkdir(parents=True, exist_ok=True)
        else:
            files.write(path, content)


def compute(settings: Mock, batch: int) -> tuple[Table, Iterator[bytes | None]]:
    """The truth of a batch of 100 files, and their bytes one after the other."""
    table = facts(settings, batch)
    spectra = _exposures(settings, table, batch)
    for column, band in enumerate("ugriz"):
        low = spectra["low"][0].snr[:, column] if "low" in spectra else np.full(BATCH, np.nan)
        medium = spectra["blue" if band in "ug" else "red"][0].snr[:, column] if "blue" in spectra else low
        table[f"snr_{band}"] = np.round(np.where(table["layout"] == "mrs", medium, low), 2)
    return table, (_bytes(settings, table, spectra, row) for row in range(BATCH))


def facts(settings: Mock, batch: int) -> Table:
    """All that is known of the files of a batch before any light is computed."""
    number, start = divmod(batch * BATCH, BLOCK)
    whole = population.block(settings.deal, number)
    table = {name: column[start : start + BATCH] for name, column in whole.items()}
    draw = np.random.default_rng([settings.seed, 4, batch])
    names = np.array(list(settings.layouts))
    edges = np.cumsum([settings.layouts[name] for name in settings.layouts])
    table["layout"] = names[
        np.minimum(np.searchsorted(edges / edges[-1], table["star_draw"], side="right"), len(names) - 1)
    ]
    kinds = np.array(damage.names(local=not files.is_remote(settings.out)))
    hit = population.steps(settings.seed, 1, batch * BATCH, BATCH) < settings.broken
    kind = kinds[(population.steps(settings.seed, 2, batch * BATCH, BATCH) * len(kinds)).astype(int)]
    table["defect"] = np.where(hit, kind, "")
    packed = np.array([bool(name) and damage.DEFECTS[name].packed for name in table["defect"]])
    table["gz"] = (draw.random(BATCH) < settings.gz) | packed
    table["early"] = draw.random(BATCH) < np.where(table["layout"] == "sdss", 0.5, 0.08)
    short = draw.random(BATCH)
    table["size"] = np.where(
        short < 0.55,
        LOW.size,
        np.where(short < 0.95, draw.integers(3904, 3909, BATCH), draw.integers(3748, 3904, BATCH)),
    )
    table["release"] = np.array(["LAMOST DR5", "LAMOST DR7", "LAMOST DR8"])[draw.integers(0, 3, BATCH)]
    table["z"] = table["rv"] / 299792.458
    table["z_err"] = np.round(1.5e-5 * np.sqrt(1 + (60.0 / table["snr"]) ** 2), 8)
    known = draw.random(BATCH) > 0.02
    table["z_survey"] = np.where(
        known, np.round(table["z"] + table["z_err"] * draw.normal(0, 1, BATCH), 8), -9999.0
    )
    table["unit"] = draw.integers(0, 3, BATCH)
    return truth_table.named(table)


def _exposures(settings: Mock, table: Table, batch: int) -> dict[str, list[Exposure]]:
    """What each spectrograph that is needed here sees of all stars of a batch."""
    needed: dict[str, Window] = {"low": LOW} if (table["layout"] != "mrs").any() else {}
    needed |= {"blue": MEDIUM_BLUE, "red": MEDIUM_RED} if (table["layout"] == "mrs").any() else {}
    seen = {}
    for code, (name, window) in enumerate(needed.items()):
        draw = np.random.default_rng([settings.seed, 5, batch, code + (name != "low")])
        seen[name] = expose(table, window, draw, settings.snr, repeats=1 if name == "low" else SINGLES)
    return seen


def _bytes(settings: Mock, table: Table, spectra: dict[str, list[Exposure]], row: int) -> bytes | None:
    """One file; None stands for a folder."""
    known = {name: column[row].item() for name, column in table.items()}
    known |= night(known["lmjd"]) | truth_table.card_values(known)
    parts = _parts(known, spectra, row)
    known["step"] = (
        damage.STEPS.get(known["defect"], "0.0001") if known["layout"] == "lrs_image_subcont" else "0.0001"
    )
    if not known["defect"]:
        data = WRITERS[known["layout"]](known, parts)
        return bytes(igzip.compress(data, 1, mtime=0)) if known["gz"] else data
    return _defective(settings, known, parts)


def _defective(settings: Mock, known: dict[str, Any], parts: list[Pixels]) -> bytes | None:
    """The same for a file with a defect."""
    defect, draw = damage.DEFECTS[known["defect"]], np.random.default_rng([settings.seed, 6, known["index"]])
    known = defect.applied("cards", known, draw)
    parts = [defect.applied("pixels", part, draw) for part in parts]
    data = defect.applied("file", WRITERS[known["layout"]](known, parts), draw)
    if known["gz"]:
        data = igzip.compress(data, 1, mtime=0)
    return None if defect.stage == "folder" else bytes(defect.applied("packed", data, draw))


def _parts(known: dict[str, Any], spectra: dict[str, list[Exposure]], row: int) -> list[Pixels]:
    """The pixels of each part of a file, copies that may be damaged."""
    if known["layout"] != "mrs":
        first = FIRST_SDSS if known["layout"] == "sdss" else 0
        wave = _loglam(LOW) if known["layout"] == "sdss" else _angstrom(LOW)
        return [_pixels(spectra["low"][0], row, wave, slice(first, known["size"]))]
    arms = [
        (spectra["blue"], _loglam(MEDIUM_BLUE), slice(0, 4100)),
        (spectra["red"], _loglam(MEDIUM_RED), slice(0, 3720)),
    ]
    together = [_mean([_pixels(one, row, wave, span) for one in exposures]) for exposures, wave, span in arms]
    return together + [
        _pixels(one, row, wave, slice(None)) for exposures, wave, _ in arms for one in exposures
    ]


def _pixels(seen: Exposure, row: int, wave: np.ndarray, span: slice) -> Pixels:
    return {
        "flux": seen.flux[row, span].copy(),
        "ivar": seen.ivar[row, span].copy(),
        "wave": wave[span].copy(),
        "bad": seen.bad[row, span],
        "suspect": seen.suspect[row, span],
        "continuum": seen.continuum[row, span],
    }


def _mean(parts: list[Pixels]) -> Pixels:
    """Exposures added up by their weights."""
    ivar = np.sum([part["ivar"] for part in parts], axis=0)
    flux = np.sum([part["ivar"] * part["flux"] for part in parts], axis=0) / np.maximum(ivar, 1e-30)
    bad = np.all([part["bad"] for part in parts], axis=0)
    suspect = np.where(np.any([part["suspect"] > 0 for part in parts], axis=0), SUSPECT, 0).astype(np.int16)
    return parts[0] | {"flux": flux, "ivar": ivar, "bad": bad, "suspect": suspect}


@cache
def _angstrom(window: Window) -> np.ndarray:
    return window.wave().astype(np.float32)


@cache
def _loglam(window: Window) -> np.ndarray:
    return (window.start + window.step * np.arange(window.size)).astype(np.float32)


def _joined(settings: Mock) -> dict[str, Any]:
    """The parts become one label table and one catalogue; returns the counts."""
    counts: dict[str, Counter[str]] = {"classes": Counter(), "layouts": Counter(), "defects": Counter()}
    whole, catalog, listed = io.BytesIO(), [truth_table.catalog_head()], io.BytesIO()
    everyone: set[str] = set()
    with pq.ParquetWriter(whole, truth_table.SCHEMA, compression="zstd") as writer:
        for number in range(-(-settings.n // settings.chunk)):
            part = pq.read_table(
                io.BytesIO(files.read(files.join(settings.out, "labels", _part(number)))),
                schema=truth_table.SCHEMA,
            )
            writer.write_table(part)
            catalog.append(truth_table.catalog(part))
            if settings.n <= truth_table.CSV_LIMIT:
                listed.write(truth_table.csv(part, ",", head=number == 0))
            for name, column in (("classes", "class"), ("layouts", "layout"), ("defects", "defect")):
                counts[name].update(value for value in part[column].to_pylist() if value)
            everyone.update(part["star"].to_pylist())
    files.write(files.join(settings.out, "labels.parquet"), whole.getvalue())
    files.write(files.join(settings.out, "catalog.csv.gz"), b"".join(catalog))
    if settings.n <= truth_table.CSV_LIMIT:
        files.write(files.join(settings.out, "labels.csv"), listed.getvalue())
    return {"files": settings.n, "stars": len(everyone)} | {
        name: dict(sorted(counter.items())) for name, counter in counts.items()
    }
