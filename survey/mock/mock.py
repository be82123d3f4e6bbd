"""A mock survey on disk or in a bucket: files in the survey's own formats, a table of true labels, a
catalogue.

The work is divided into chunks of files. A chunk writes its part of the label table last, so this part
proves that the chunk is complete, and a run that was stopped continues where it was. One process at a time
makes a survey. Within a chunk, spectra are computed in batches of 100 files. A batch depends only on the seed
and its number.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from isal import igzip

from survey import files
from survey.claim import claim
from survey.mock import (
    damage,
    galaxies,
    galsim_package,
    label_catalogues,
    population,
    star_images,
    truth_table,
)
from survey.mock.chunks import Done, batches, chunk_size, part_name, part_path, write_all
from survey.mock.exposure import SUSPECT, Exposure, expose
from survey.mock.layouts import WRITERS, CardValues, Pixels, night
from survey.mock.light import LOW, MEDIUM_BLUE, MEDIUM_RED, Window
from survey.mock.population import BLOCK, Table
from survey.mock.settings import BATCH, Mock
from survey.progress import Progress
from survey.settings import SettingsError, differences

SINGLES = 3
"""Single exposures in a medium-resolution file."""
FIRST_SDSS = 120
"""Pixels of the low-resolution grid below 3804 angstrom, where the mock SDSS spectra start."""

Run = Callable[[Callable[[int], Done], Iterable[int]], Iterable[Done]]
"""Applies a function to items and gives the results in any order, as `map` does."""


def make(settings: Mock, run: Run = map) -> dict[str, Any]:
    """Write the mock survey to `settings.out`; files that are there already stay.

    Returns the content of mock.json, and as `new` how many files this run wrote.
    """
    with claim(settings.out, "mock", "out", settings.plain()):
        return _make(settings, run)


def _make(settings: Mock, run: Run) -> dict[str, Any]:
    finished = files.join(settings.out, "mock.json")
    started = files.join(settings.out, "mock-begun.json")
    for path in (finished, started):
        _check_same_settings(settings, path)
    if files.exists(finished):
        return dict(files.read_json(finished)) | {"new": 0}
    if settings.has_images:
        galsim_package.load()
    if not files.exists(started):
        _check_empty(settings)
    document = {"fingerprint": settings.fingerprint(), "settings": settings.plain()}
    files.write(started, json.dumps(document, indent=2).encode())
    chunks = range(-(-settings.n // settings.chunk))
    complete = set(files.names(files.join(settings.out, "labels")))
    missing = [number for number in chunks if part_name(number) not in complete]
    new = 0
    results = run(partial(write_chunk, settings), missing)
    with Progress("mock", total=settings.n, unit="files") as bar:
        bar.add(settings.n - sum(chunk_size(settings, number) for number in missing))
        for result in results:
            new += result["files"]
            bar.add(result["files"])
    document |= _join_parts(settings, chunks)
    if settings.extras and settings.objects == "stars":
        document["catalogues"] = label_catalogues.write_catalogues(settings)
    files.write(finished, json.dumps(document, indent=2).encode())
    for number in chunks:
        files.remove(part_path(settings, number))
    files.remove(started)
    return document | {"new": new}


def _check_same_settings(settings: Mock, path: str) -> None:
    if not files.exists(path):
        return
    before = files.read_json(path)
    if before["fingerprint"] != settings.fingerprint():
        changes = "; ".join(differences(before["settings"], settings.plain()))
        raise SettingsError(
            f"mock: {path}: was made with other settings: {changes}; "
            "give the same settings again, or another out=, or remove this folder"
        )


def _check_empty(settings: Mock) -> None:
    others = files.names(settings.out)
    if others:
        raise SettingsError(
            f"mock: out: {settings.out}: holds {', '.join(others[:3])} but is no mock survey; "
            "give an empty or a new folder"
        )


def write_chunk(settings: Mock, chunk: int) -> Done:
    """Write the files of a chunk, then its part of the label table. Returns the number of files."""
    if settings.objects == "galaxies":
        return galaxies.write_chunk(settings, chunk)
    tables: list[Table] = []
    for batch, count in batches(settings, chunk):
        table, contents = compute(settings, batch)
        rows = zip(table["path"][:count].tolist(), contents, strict=False)
        write_all(settings.out, [row for row, kept in zip(rows, _is_written(table), strict=False) if kept])
        tables.append({name: column[:count] for name, column in table.items()})
        if settings.objects == "m_stars":
            write_all(settings.out, star_images.images(settings, tables[-1]))
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    files.write(part_path(settings, chunk), truth_table.parquet(truth_table.labels(joined)))
    return {"files": chunk_size(settings, chunk)}


def _is_written(table: Table) -> list[bool]:
    """Which files are written; a part of the M stars has no spectrum."""
    return [bool(kept) for kept in table.get("has_spectrum", np.ones(len(table["path"]), bool))]


def compute(settings: Mock, batch: int) -> tuple[Table, Iterator[bytes | None]]:
    """The true labels of a batch of 100 files, and their bytes one after the other."""
    table = describe(settings, batch)
    spectra = exposures(settings, table, batch)
    for column, band in enumerate("ugriz"):
        low = spectra["low"][0].snr[:, column] if "low" in spectra else np.full(BATCH, np.nan)
        medium = spectra["blue" if band in "ug" else "red"][0].snr[:, column] if "blue" in spectra else low
        table[f"snr_{band}"] = np.round(np.where(table["layout"] == "mrs", medium, low), 2)
    return table, (_file_bytes(settings, table, spectra, row) for row in range(BATCH))


def describe(settings: Mock, batch: int) -> Table:
    """All properties of the files of a batch, before any spectrum is computed."""
    number, start = divmod(batch * BATCH, BLOCK)
    star_settings = population.StarSettings(
        settings.seed, settings.balance, settings.visits, settings.objects
    )
    block = population.block(star_settings, number)
    table = {name: column[start : start + BATCH] for name, column in block.items()}
    draw = np.random.default_rng([settings.seed, 4, batch])
    names = np.array(list(settings.layouts))
    edges = np.cumsum([settings.layouts[name] for name in settings.layouts])
    layout = np.searchsorted(edges / edges[-1], table["star_draw"], side="right")
    table["layout"] = names[np.minimum(layout, len(names) - 1)]
    table["defect"] = _draw_defects(settings, batch)
    packed = np.array([bool(name) and damage.DEFECTS[name].packed for name in table["defect"]])
    table["gz"] = (draw.random(BATCH) < settings.gz) | packed
    table["early"] = draw.random(BATCH) < np.where(table["layout"] == "sdss", 0.5, 0.08)
    table["size"] = _draw_sizes(draw)
    table["release"] = np.array(["LAMOST DR5", "LAMOST DR7", "LAMOST DR8"])[draw.integers(0, 3, BATCH)]
    table["z"] = table["rv"] / 299792.458
    table["z_err"] = np.round(1.5e-5 * np.sqrt(1 + (60.0 / table["snr"]) ** 2), 8)
    has_z = draw.random(BATCH) > 0.02
    measured_z = np.round(table["z"] + table["z_err"] * draw.normal(0, 1, BATCH), 8)
    table["z_survey"] = np.where(has_z, measured_z, -9999.0)
    table["unit"] = draw.integers(0, 3, BATCH)
    table = truth_table.add_names(table)
    return table | star_images.describe(settings, table) if settings.objects == "m_stars" else table


def _draw_defects(settings: Mock, batch: int) -> np.ndarray:
    """The defect of each file, empty where there is none."""
    kinds = np.array(damage.names(local=not files.is_remote(settings.out)))
    is_defective = population.even_spread(settings.seed, 1, batch * BATCH, BATCH) < settings.broken
    position = population.even_spread(settings.seed, 2, batch * BATCH, BATCH)
    return np.where(is_defective, kinds[(position * len(kinds)).astype(int)], "")


def _draw_sizes(draw: np.random.Generator) -> np.ndarray:
    """Pixels of each low-resolution file: most have all of them."""
    share = draw.random(BATCH)
    slightly_shorter, shorter = draw.integers(3904, 3909, BATCH), draw.integers(3748, 3904, BATCH)
    return np.where(share < 0.55, LOW.size, np.where(share < 0.95, slightly_shorter, shorter))


def exposures(settings: Mock, table: Table, batch: int) -> dict[str, list[Exposure]]:
    """The exposures of all stars of a batch, by spectrograph, for the spectrographs that the layouts need."""
    needed: dict[str, Window] = {"low": LOW} if (table["layout"] != "mrs").any() else {}
    needed |= {"blue": MEDIUM_BLUE, "red": MEDIUM_RED} if (table["layout"] == "mrs").any() else {}
    spectra = {}
    for code, (name, window) in enumerate(needed.items()):
        draw = np.random.default_rng([settings.seed, 5, batch, code + (name != "low")])
        count = 1 if name == "low" else SINGLES
        spectra[name] = expose(table, window, draw, settings.snr, exposures=count)
    return spectra


def _file_bytes(settings: Mock, table: Table, spectra: dict[str, list[Exposure]], row: int) -> bytes | None:
    """One file; None means a folder."""
    values = card_values(table, row)
    parts = pixels_of_parts(values, spectra, row)
    if not values["defect"]:
        data = WRITERS[values["layout"]](values, parts)
        return bytes(igzip.compress(data, 1, mtime=0)) if values["gz"] else data
    return defective_bytes(settings, values, parts)


def card_values(table: Table, row: int) -> CardValues:
    """Everything that the writer of a file needs except the pixels."""
    values = {name: column[row].item() for name, column in table.items()}
    values |= night(values["lmjd"]) | truth_table.card_values(values)
    step = "0.0001"
    if values["layout"] == "lrs_image_subcont":
        step = damage.STEPS.get(values["defect"], step)
    return values | {"step": step}


def defective_bytes(settings: Mock, values: CardValues, parts: list[Pixels]) -> bytes | None:
    """One file with a defect; None means a folder."""
    defect = damage.DEFECTS[values["defect"]]
    draw = np.random.default_rng([settings.seed, 6, values["index"]])
    values = defect.apply("cards", values, draw)
    parts = [defect.apply("pixels", part, draw) for part in parts]
    data = defect.apply("file", WRITERS[values["layout"]](values, parts), draw)
    if values["gz"]:
        data = igzip.compress(data, 1, mtime=0)
    return None if defect.stage == "folder" else bytes(defect.apply("packed", data, draw))


def pixels_of_parts(values: CardValues, spectra: dict[str, list[Exposure]], row: int) -> list[Pixels]:
    """The pixels of each part of a file, as copies that may be damaged."""
    if values["layout"] != "mrs":
        first = FIRST_SDSS if values["layout"] == "sdss" else 0
        wave = _log_wave(LOW) if values["layout"] == "sdss" else _wave(LOW)
        return [_pixels(spectra["low"][0], row, wave, slice(first, values["size"]))]
    arms = [
        (spectra["blue"], _log_wave(MEDIUM_BLUE), slice(0, 4100)),
        (spectra["red"], _log_wave(MEDIUM_RED), slice(0, 3720)),
    ]
    coadds, singles = [], []
    for arm, wave, span in arms:
        coadds.append(_coadd([_pixels(exposure, row, wave, span) for exposure in arm]))
        singles += [_pixels(exposure, row, wave, slice(None)) for exposure in arm]
    return coadds + singles


def _pixels(exposure: Exposure, row: int, wave: np.ndarray, span: slice) -> Pixels:
    return {
        "flux": exposure.flux[row, span].copy(),
        "ivar": exposure.ivar[row, span].copy(),
        "wave": wave[span].copy(),
        "bad": exposure.bad[row, span],
        "suspect": exposure.suspect[row, span],
        "continuum": exposure.continuum[row, span],
    }


def _coadd(parts: list[Pixels]) -> Pixels:
    """The mean of exposures, weighted by inverse variance."""
    ivar = np.sum([part["ivar"] for part in parts], axis=0)
    flux = np.sum([part["ivar"] * part["flux"] for part in parts], axis=0) / np.maximum(ivar, 1e-30)
    bad = np.all([part["bad"] for part in parts], axis=0)
    suspect = np.where(np.any([part["suspect"] > 0 for part in parts], axis=0), SUSPECT, 0).astype(np.int16)
    return parts[0] | {"flux": flux, "ivar": ivar, "bad": bad, "suspect": suspect}


@cache
def _wave(window: Window) -> np.ndarray:
    return window.wave().astype(np.float32)


@cache
def _log_wave(window: Window) -> np.ndarray:
    return (window.start + window.step * np.arange(window.size)).astype(np.float32)


def _join_parts(settings: Mock, chunks: range) -> dict[str, Any]:
    """Join the parts to one label table and one catalogue. Returns the counts."""
    if settings.objects == "galaxies":
        return galaxies.join_parts(settings, chunks)
    schema = truth_table.schema(settings.objects)
    kinds = {"classes": "class", "layouts": "layout", "defects": "defect"}
    if settings.objects == "m_stars":
        kinds |= {"classes": "subclass", "image_defects": "image_defect"}
    counts: dict[str, Counter[str]] = {name: Counter() for name in kinds}
    objects = [truth_table.objects_head()]
    parquet, catalog, text = io.BytesIO(), [truth_table.catalog_head()], io.BytesIO()
    stars: set[str] = set()
    with pq.ParquetWriter(parquet, schema, compression="zstd") as writer:
        for number in chunks:
            data = files.read(part_path(settings, number))
            part = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False).cast(schema)
            writer.write_table(part)
            catalog.append(truth_table.catalog(part))
            if settings.n <= truth_table.CSV_LIMIT:
                text.write(truth_table.csv(part, ",", head=number == 0))
            if settings.objects == "m_stars":
                objects.append(truth_table.objects(part))
            for name, column in kinds.items():
                counts[name].update(value for value in part[column].to_pylist() if value)
            stars.update(part["star"].to_pylist())
    files.write(files.join(settings.out, "labels.parquet"), parquet.getvalue())
    files.write(files.join(settings.out, "catalog.csv.gz"), b"".join(catalog))
    if settings.n <= truth_table.CSV_LIMIT:
        files.write(files.join(settings.out, "labels.csv"), text.getvalue())
    if settings.objects == "m_stars":
        files.write(files.join(settings.out, "objects.csv"), b"".join(objects))
    sorted_counts = {name: dict(sorted(counter.items())) for name, counter in counts.items()}
    return {"files": settings.n, "stars": len(stars)} | sorted_counts
