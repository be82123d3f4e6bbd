"""Users' own spectra, many in one file: an ``X.npy`` with an optional ``y.csv`` beside it, or a Parquet of
lists.

`count` reads headers only and reports what is wrong with a complete file. `read_rows` reads some rows in the
given order and refuses single bad ones. Files are on this machine or in a bucket. Wavelengths are vacuum
angstrom, in the observed frame or, with `prepare.velocity=rest`, in the rest frame. Without a column of
inverse variances or errors, the noise is estimated from the flux, in counts as well as in normalised spectra.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from survey.settings import Settings
from survey.sources import table_files, wavelengths
from survey.sources.column_names import visit_columns
from survey.sources.noise import without_errors
from survey.sources.visit import valid_values, visit_name
from survey.spectrum import GRIDS, Grid, LogWave, Refused, Spectrum
from survey.tables.columns import magnitude_note
from survey.tables.ids import rounded_ids

NAMED_GRIDS = {**GRIDS, "lamost3909": Grid(3.5682, 3.9590, 1e-4, "log")}
"""The grids that have a name. The last is that of LAMOST's files, and of computed spectra that imitate them.
"""


class GridPoints(Settings):
    """A grid by its numbers."""

    start: float = Field(description="first wavelength in vacuum angstrom, or its log10")
    stop: float = Field(description="last wavelength, included")
    step: float = Field(description="distance of two points")
    scale: Literal["linear", "log"] = Field("linear", description="angstrom, or log10 angstrom")


class Options(Settings):
    """How arrays are read."""

    grid: str | GridPoints | None = Field(
        None,
        description=f"wavelengths of the pixels: one of {', '.join(NAMED_GRIDS)}, "
        "or start, stop, step and scale; null = the named grid with this number of points",
    )


def count(path: str, settings: Options) -> int:
    """The number of spectra in a file; a `ValueError` if the complete file cannot be used."""
    with table_files.open_spectra(path) as table:
        table.check_complete()
        if not table.has_wave:
            _grid(path, table.pixels, settings)
        return table.count


def note(path: str, settings: Options) -> tuple[str, str] | None:
    """What is assumed of a file, in words, and the option that says otherwise, or ""; None if nothing is."""
    with table_files.open_spectra(path) as table:
        texts = [magnitude_note(table.names), _rounded_ids(table)]
        guessed = None if table.has_wave or settings.grid is not None else _guess(table.pixels)
        if guessed:
            texts.append(f"wavelengths: taken as {guessed}, because it has {table.pixels} points")
        text = "; ".join(filter(None, texts))
        return (text, "grid" if guessed else "") if text else None


def _rounded_ids(table: table_files.ArrayFile | table_files.ParquetFile) -> str:
    """Which ids of stars are numbers that lost digits, so that they are not used."""
    columns = visit_columns(table.names)
    names = dict.fromkeys(name for key, name in columns if key in ("star", "gaia_source_id"))
    return rounded_ids((name, ids) for name in names if (ids := table.ids(name)) is not None)


def read_rows(path: str, rows: list[int], settings: Options) -> list[Spectrum | Refused]:
    """The spectra of these rows in this order; a `Refused` stands for a bad row."""
    return list(iterate_rows(path, rows, settings))


def iterate_rows(path: str, rows: list[int], settings: Options) -> Iterator[Spectrum | Refused]:
    """The same one by one. Few are in memory at a time if `rows` rise."""
    with table_files.open_spectra(path) as table:
        present = [row for row in sorted(set(rows)) if 0 <= row < table.complete]
        gone = Refused("bad_row", f"the file has {table.complete} complete rows now; copy it again")
        yield from table_files.in_order(rows, _spectra(path, table, present, settings), gone)


def _spectra(
    path: str, table: table_files.ArrayFile | table_files.ParquetFile, rows: list[int], settings: Options
) -> Iterator[tuple[int, Spectrum | Refused]]:
    wave = None if table.has_wave else _pixel_wavelengths(_grid(path, table.pixels, settings))
    columns = visit_columns(table.names)
    for number, row in table.rows(rows, tuple(dict.fromkeys(name for _, name in columns))):
        values = [(column, row.visit[name]) for column, name in columns]
        values += [("survey", "arrays"), ("layout", table.layout)]
        with np.errstate(all="ignore"):
            spectrum = _spectrum(row, wave, values, f"{Path(path).stem}-{number}")
        yield number, spectrum


def _pixel_wavelengths(grid: Grid) -> LogWave | np.ndarray:
    return LogWave(grid.start, grid.step, len(grid)) if grid.scale == "log" else grid.wave


def _spectrum(
    row: table_files.SpectrumRow, wave: LogWave | np.ndarray | None, values: list[tuple[str, Any]], name: str
) -> Spectrum | Refused:
    """The spectrum of one row."""
    has_errors = row.ivar is not table_files.NO_COLUMN
    try:
        flux = _numbers(row.flux, "flux")
        wave = wavelengths.log_linear_or_list(_numbers(row.wave, "wave")) if wave is None else wave
        ivar = _numbers(row.ivar, "ivar") if has_errors else flux
        bad, suspect = _mask(row.bad, len(flux)), _mask(row.suspect, len(flux))
    except Refused as refused:
        return refused
    if len(flux) != len(wave) or len(ivar) != len(flux):
        return Refused("bad_row", f"{len(flux)} of flux, {len(ivar)} of ivar, {len(wave)} wavelengths")
    visit = valid_values(values)
    visit["visit"] = visit_name(visit, visit.get("visit", name))
    if not has_errors:
        return without_errors(wave, flux, bad, suspect, visit)
    return Spectrum(wave, flux, ivar, bad, suspect, visit)


def _numbers(value: Any, name: str) -> np.ndarray:
    """A list of a row as floating-point numbers. At least two are needed, so that wavelengths can rise."""
    is_array = isinstance(value, np.ndarray)
    if not is_array or value.ndim != 1 or value.dtype.kind not in "fiu" or len(value) < 2:
        content = "null" if value is None else f"{np.shape(value)} of {np.asarray(value).dtype}"
        raise Refused("bad_row", f"{name} is {content}, not a list of numbers")
    if value.dtype.itemsize < 4:
        return np.asarray(value.astype(np.float32))
    return np.asarray(value if value.dtype.kind == "f" else value.astype(float))


def _mask(value: Any, size: int) -> np.ndarray | None:
    """A mask from packed bits, or from one number for each pixel."""
    if value is None or value is table_files.NO_COLUMN:
        return None
    if isinstance(value, bytes):
        if len(value) != -(-size // 8):
            raise Refused("bad_row", f"a mask of {len(value)} bytes for {size} pixels")
        return np.unpackbits(np.frombuffer(value, np.uint8), count=size).astype(bool)
    if not isinstance(value, np.ndarray) or value.shape != (size,) or value.dtype.kind not in "biuf":
        raise Refused("bad_row", f"a mask of {np.shape(value)} {np.asarray(value).dtype} for {size} pixels")
    masked: np.ndarray = value != 0
    return masked


def _grid(path: str, pixels: int | None, settings: Options) -> Grid:
    """The grid of the settings, or the named grid of this length. `pixels` is None if the length varies."""
    grid = settings.grid
    allowed = f"one of {', '.join(NAMED_GRIDS)}, or start, stop, step and scale"
    if grid is None:
        guessed = _guess(pixels)
        if guessed is None:
            content = "lists of any length" if pixels is None else f"{pixels} pixels"
            raise ValueError(
                f"{path}: {content} and no wavelengths; give options.arrays.grid= ({allowed}), "
                "or a column wave or loglam in a Parquet"
            )
        found = NAMED_GRIDS[guessed]
    elif not isinstance(grid, str):
        found = Grid(grid.start, grid.stop, grid.step, grid.scale)
    elif grid in NAMED_GRIDS:
        found = NAMED_GRIDS[grid]
    else:
        raise ValueError(f"{path}: there is no grid {grid!r}; give options.arrays.grid= ({allowed})")
    if pixels is not None and len(found) != pixels:
        raise ValueError(
            f"{path}: {pixels} pixels, but the grid {grid} has {len(found)} points; "
            f"give options.arrays.grid= ({allowed}) of these spectra"
        )
    return found


def _guess(pixels: int | None) -> str | None:
    """The name of the first named grid with this number of points."""
    return next((name for name, named in NAMED_GRIDS.items() if len(named) == pixels), None)
