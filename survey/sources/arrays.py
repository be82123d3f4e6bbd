"""Users' own spectra: many in one file, an ``X.npy`` with an optional ``y.csv`` beside it, or a Parquet of lists.

`count` looks at headers only and finds what is wrong with a whole file; `read_rows` reads the rows that are asked for, in that order, and
refuses single bad ones. Files are on this machine or in a bucket. Wavelengths are vacuum and of the observed frame, as everywhere.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from survey.settings import Settings
from survey.sources import table_files, wavelengths
from survey.sources import visit as visits
from survey.spectrum import GRIDS, Grid, LogWave, Refused, Spectrum

KNOWN = {**GRIDS, "lamost3909": Grid(3.5682, 3.9590, 1e-4, "log")}
"""The grids that have a name; the last is that of LAMOST's own files and of computed spectra made to look like them."""

ALIASES = {
    "visit": ("visit", "combined_file", "filename", "file", "file_name"),
    "star": ("star", "designation", "desig", "combined_desig", "source_id", "thing_id"),
    "obsid": ("obsid", "combined_obsid"),
    "release": ("release", "data_v"),
    "ra": ("ra", "combined_ra", "ra_obs"),
    "dec": ("dec", "combined_dec", "dec_obs"),
    "lmjd": ("lmjd", "combined_lmjd"),
    "planid": ("planid", "combined_planid"),
    "spid": ("spid", "combined_spid"),
    "fiberid": ("fiberid", "combined_fiberid"),
    "fiber_mask": ("fiber_mask", "fibermask", "fibermas", "fib_mask"),
    "class": ("class", "combined_class"),
    "subclass": ("subclass", "combined_subclass"),
    "z": ("z", "combined_z", "redshift"),
    "z_err": ("z_err", "combined_z_err"),
    **{f"snr_{band}": (f"snr_{band}", f"snr{band}", f"sn_{band}", f"combined_snr{band}") for band in "ugriz"},
}
"""Names, in any case, under which a table may give a column of a visit; the first that is there counts."""


class Points(Settings):
    """A grid in figures."""

    start: float = Field(description="first wavelength in vacuum angstrom, or its log10")
    stop: float = Field(description="last wavelength, included")
    step: float = Field(description="step between points")
    scale: Literal["linear", "log"] = Field("linear", description="angstrom, or log10 angstrom")


class Options(Settings):
    """How arrays are read."""

    grid: str | Points | None = Field(
        None,
        description=f"wavelengths of the pixels: one of {', '.join(KNOWN)}, or start, stop, step, scale; null = told by the length",
    )


def count(path: str, settings: Options) -> int:
    """The number of spectra in a file; a `ValueError` if the file as a whole cannot be used."""
    with table_files.opened(path) as table:
        if not table.has_wave:
            _grid(path, table.pixels, settings)
        return table.count


def read_rows(path: str, rows: list[int], settings: Options) -> list[Spectrum | Refused]:
    """The spectra of these rows, in this order, each or why not."""
    with table_files.opened(path) as table:
        missing = [row for row in rows if not 0 <= row < table.count]
        if missing:
            raise ValueError(
                f"{path}: there is no row {missing[0]}, the file has {table.count}; make the manifest anew"
            )
        grid = None if table.has_wave else _grid(path, table.pixels, settings)
        wave = (
            None
            if grid is None
            else LogWave(grid.start, grid.step, len(grid))
            if grid.scale == "log"
            else grid.wave
        )
        columns = _visit_columns(table.names)
        found: dict[int, Spectrum | Refused] = {}
        with np.errstate(all="ignore"):
            for number, row in table.rows(sorted(set(rows)), tuple(columns.values())):
                facts = {column: row.facts[name] for column, name in columns.items()}
                facts |= {"survey": "arrays", "layout": table.layout}
                found[number] = _spectrum(row, wave, facts, f"{Path(path).stem}-{number}")
        return [found[row] for row in rows]


def _spectrum(
    row: table_files.Row, wave: LogWave | np.ndarray | None, facts: dict[str, Any], default: str
) -> Spectrum | Refused:
    """A spectrum of one row; without an inverse variance every finite pixel weighs 1."""
    try:
        flux = _numbers(row.flux, "flux")
        wave = wavelengths.settled(_numbers(row.wave, "wave")) if wave is None else wave
        ivar = (
            np.isfinite(flux).astype(np.float32)
            if row.ivar is table_files.NO_COLUMN
            else _numbers(row.ivar, "ivar")
        )
        bad, suspect = _mask(row.bad, len(flux)), _mask(row.suspect, len(flux))
    except Refused as refused:
        return refused
    if len(flux) != len(wave) or len(ivar) != len(flux):
        return Refused("bad_row", f"{len(flux)} of flux, {len(ivar)} of ivar, {len(wave)} wavelengths")
    visit = visits.sound(facts.items())
    visit["visit"] = visits.identity(visit, visits.stem(visit.get("visit", default)))
    return Spectrum(wave, flux, ivar, bad, suspect, visit)


def _numbers(value: Any, name: str) -> np.ndarray:
    """A list of a row as floating-point numbers; more than a few are needed for wavelengths to rise."""
    if (
        not isinstance(value, np.ndarray)
        or value.ndim != 1
        or value.dtype.kind not in "fiu"
        or len(value) < 2
    ):
        raise Refused(
            "bad_row",
            f"{name} is {'null' if value is None else f'{np.shape(value)} of {np.asarray(value).dtype}'}, no list of numbers",
        )
    return (
        value.astype(np.float32)
        if value.dtype.itemsize < 4
        else value
        if value.dtype.kind == "f"
        else value.astype(float)
    )


def _mask(value: Any, size: int) -> np.ndarray | None:
    """A mask of packed bits or of one number for each pixel."""
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
    """The grid that was named, or the named one of this length; `pixels` is None where lists may have any length."""
    wanted = settings.grid
    names = f"one of {', '.join(KNOWN)}, or start, stop, step and scale"
    if isinstance(wanted, Points):
        grid = Grid(wanted.start, wanted.stop, wanted.step, wanted.scale)
    elif wanted is None:
        fitting = [known for known in KNOWN.values() if len(known) == pixels]
        if not fitting:
            found = "lists of any length" if pixels is None else f"{pixels} pixels"
            raise ValueError(
                f"{path}: {found} and no wavelengths; give options.arrays.grid= ({names}), or a column wave or loglam in a Parquet"
            )
        grid = fitting[0]
    elif wanted in KNOWN:
        grid = KNOWN[wanted]
    else:
        raise ValueError(f"{path}: there is no grid {wanted!r}; give options.arrays.grid= ({names})")
    if pixels is not None and len(grid) != pixels:
        raise ValueError(
            f"{path}: {pixels} pixels, but the grid {wanted} has {len(grid)} points; give options.arrays.grid= ({names}) of these spectra"
        )
    return grid


def _visit_columns(names: list[str]) -> dict[str, str]:
    """Which column of a table gives each column of a visit."""
    there = {name.lower(): name for name in names}
    found = {
        column: [there[alias] for alias in aliases if alias in there] for column, aliases in ALIASES.items()
    }
    return {column: options[0] for column, options in found.items() if options}
