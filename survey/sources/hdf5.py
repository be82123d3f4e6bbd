"""Spectra in HDF5: datasets `flux` [spectra, pixels] and `wave` [pixels], others if they are there.

`ivar` or `error` and `mask` have the shape of the flux; `wave` may have it too. Every dataset with one value
per spectrum is a column, such as `obsid`, `ra`, `dec`, `rv` or `z`. Datasets that lie in other files are not
read. Needs h5py: pip install h5py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from survey import files
from survey.settings import Settings
from survey.sources import wavelengths
from survey.sources.ascii import ANGSTROM, NAMES
from survey.sources.column_names import visit_columns
from survey.sources.noise import without_errors
from survey.sources.table_files import in_order
from survey.sources.visit import valid_values, visit_name
from survey.spectrum import LogWave, Refused, Spectrum
from survey.tables.access import is_lost
from survey.tables.columns import magnitude_note
from survey.tables.ids import rounded_ids

FILES = ("*.h5", "*.hdf5", "*.hdf")
"""The names of the files."""

LISTS = NAMES | {"mask": ("mask", "andmask", "and_mask", "bad")}
"""The names of the datasets with a value for each pixel, in lower or upper case."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_PIXELS = 300_000
ROWS = 64
"""Spectra that are read at a time."""


class Options(Settings):
    """How HDF5 files are read."""

    group: str = Field("/", description="the group that holds the datasets")
    wave: Literal["angstrom", "nm", "micron", "log10"] = Field(
        "angstrom", description="unit of the wavelengths; log10 = log10 of angstrom, as in a dataset loglam"
    )
    medium: Literal["vacuum", "air"] = Field("vacuum", description="where the wavelengths are measured")


def count(path: str, settings: Options) -> int | None:
    """The number of spectra in a file; None if it has no dataset of fluxes."""
    with _opened(path, settings) as datasets:
        return int(datasets["flux"].shape[0]) if datasets else None


def note(path: str, settings: Options) -> tuple[str, str] | None:
    """What is assumed of a file, in words, without an option that says otherwise; None if nothing is."""
    with _opened(path, settings) as datasets:
        if not datasets:
            return None
        text = "; ".join(filter(None, (magnitude_note(datasets["flux"].parent), rounded_ids(_ids(datasets)))))
    return (text, "") if text else None


def _ids(datasets: dict[str, Any]) -> Iterator[tuple[str, pa.Array]]:
    """The ids of stars that may have lost digits, with the names of their datasets."""
    names = set()
    for role, dataset in datasets.items():
        name = dataset.name.rpartition("/")[2]
        is_id = role.startswith(("column star ", "column gaia_source_id "))
        if is_id and name not in names and dataset.dtype.kind == "f":
            names.add(name)
            yield name, pa.array(dataset[()].astype(dataset.dtype.newbyteorder("=")))


def read_rows(path: str, rows: list[int], settings: Options) -> list[Spectrum | Refused]:
    """The spectra of these rows in this order; a `Refused` stands for a bad row."""
    return list(iterate_rows(path, rows, settings))


def iterate_rows(path: str, rows: list[int], settings: Options) -> Iterator[Spectrum | Refused]:
    """The same one by one. Few are in memory at a time if `rows` rise."""
    with _opened(path, settings) as datasets:
        number = int(datasets["flux"].shape[0]) if datasets else 0
        present = [row for row in sorted(set(rows)) if 0 <= row < number]
        gone = Refused("bad_row", f"{path}: the file has {number} spectra now; copy it again")
        found = (
            spectrum
            for first, stop in _runs(present)
            for spectrum in _read_run(path, datasets, first, stop, settings)
        )
        yield from in_order(rows, found, gone)


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """First row and stop of rising rows that follow each other, at most `ROWS` at a time."""
    for run in np.split(np.array(rows, int), np.flatnonzero(np.diff(rows) > 1) + 1):
        for start in range(0, run.size, ROWS):
            yield int(run[start]), int(run[start : start + ROWS][-1]) + 1


@contextmanager
def _opened(path: str, settings: Options) -> Iterator[dict[str, Any]]:
    """The datasets by role and name; none if the file has no fluxes. A damaged file is a `ValueError`."""
    try:
        import h5py
    except ImportError:
        raise ValueError(
            f"{path}: HDF5 needs a library that is not installed; run pip install h5py"
        ) from None
    with files.open_file(path) as stream:
        if stream.read(len(SIGNATURE)) != SIGNATURE:
            yield {}
            return
        stream.seek(0)
        try:
            with h5py.File(stream, "r") as file:
                yield _datasets(path, file, settings)
        except Refused:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # whatever h5py raises
            if is_lost(path, error):
                raise
            text = str(error)
            raise ValueError(
                text if path in text else f"{path}: no readable HDF5 ({text}); write the file again"
            ) from error


def _datasets(path: str, file: Any, settings: Options) -> dict[str, Any]:
    """The datasets of spectra and of columns, checked by their shapes."""
    if settings.group not in file:
        raise ValueError(f"{path}: there is no group {settings.group}; give options.hdf5.group=")
    found = {name: item for name, item in _inside(file[settings.group]) if not _is_elsewhere(item)}
    by_lower = {name.lower(): name for name in found}
    roles = {
        role: found[by_lower[next(name for name in names if name in by_lower)]]
        for role, names in LISTS.items()
        if any(name in by_lower for name in names)
    }
    if "flux" not in roles:
        _check_groups(path, file[settings.group], settings.group)
        return {}
    shape = roles["flux"].shape
    if len(shape) != 2 or shape[1] > MOST_PIXELS or "wave" not in roles:
        raise ValueError(
            f"{path}: a dataset flux {shape} and the datasets {', '.join(found)}; give flux as [spectra, "
            f"pixels] with at most {MOST_PIXELS:,} pixels, and wave as [pixels] or [spectra, pixels]"
        )
    for role, dataset in roles.items():
        if dataset.shape != shape and not (role == "wave" and dataset.shape == shape[1:]):
            raise ValueError(f"{path}: {role} has the shape {dataset.shape}, but flux has {shape}")
    columns = {
        name: item for name, item in found.items() if item.shape == shape[:1] and item.dtype.kind in "biufSO"
    }
    names = visit_columns(list(columns))
    return roles | {f"column {column} {name}": columns[name] for column, name in names}


def _check_groups(path: str, group: Any, name: str) -> None:
    """An error if the fluxes lie in groups inside this one: it names them."""
    import h5py

    groups = [key for key in group if isinstance(group.get(key, getlink=True), h5py.HardLink)]
    groups = [key for key in groups if isinstance(group[key], h5py.Group)]
    with_flux = [key for key in groups if {inner.lower() for inner in group[key]} & set(LISTS["flux"])]
    if with_flux:
        raise ValueError(
            f"{path}: no dataset flux in group {name}; the groups are {', '.join(groups)[:300]}; "
            f"give options.hdf5.group={with_flux[0]}"
        )


def _inside(group: Any) -> Iterator[tuple[str, Any]]:
    """The datasets of a group. A link into another file is not followed."""
    import h5py

    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            item = group[name]
            if isinstance(item, h5py.Dataset) and item.shape is not None:
                yield name, item


def _is_elsewhere(dataset: Any) -> bool:
    """Whether the values of a dataset lie in other files."""
    return bool(dataset.is_virtual or dataset.external)


def _read_run(
    path: str, datasets: dict[str, Any], first: int, stop: int, settings: Options
) -> Iterator[tuple[int, Spectrum | Refused]]:
    """The spectra of rows that follow each other."""
    lists = {
        role: dataset[()] if role == "wave" and dataset.ndim == 1 else dataset[first:stop]
        for role, dataset in datasets.items()
    }
    is_log10 = settings.wave == "log10" or datasets["wave"].name.rpartition("/")[2].lower().startswith("log")
    for number in range(first, stop):
        values = {
            role: read if role == "wave" and read.ndim == 1 else read[number - first]
            for role, read in lists.items()
        }
        try:
            with np.errstate(all="ignore"):
                yield number, _spectrum(values, is_log10, f"{Path(path).stem}-{number}", settings)
        except Refused as refused:
            yield number, refused


def _spectrum(values: dict[str, Any], is_log10: bool, name: str, settings: Options) -> Spectrum:
    """The spectrum of one row, in rising vacuum wavelengths."""
    for role in LISTS:
        if role in values and values[role].dtype.kind not in "biuf":
            raise Refused("bad_row", f"{role} is {values[role].dtype}, no numbers")
    wave = values["wave"].astype(float)
    angstrom = wavelengths.from_log10(wave) if is_log10 else wave * ANGSTROM.get(settings.wave, 1.0)
    if angstrom.size < 2:
        raise Refused("bad_row", f"{angstrom.size} pixels")
    order = slice(None, None, -1 if angstrom[0] > angstrom[-1] else 1)
    wavelengths.check(angstrom[order])
    if settings.medium == "air":
        angstrom = wavelengths.air_to_vacuum(angstrom)
    vacuum: LogWave | np.ndarray = wavelengths.log_linear_or_list(angstrom[order])
    visit = valid_values(
        (role.split(" ", 2)[1], _cell(value)) for role, value in values.items() if role.startswith("column ")
    )
    visit |= {"survey": "hdf5", "layout": "hdf5"}
    visit["visit"] = visit_name(visit, visit.get("visit", name))
    flux = values["flux"][order].astype(float)
    bad = values["mask"][order] != 0 if "mask" in values else None
    ivar = values["ivar"][order].astype(float) if "ivar" in values else None
    if ivar is None and "error" in values:
        error = values["error"][order].astype(float)
        ivar = 1 / np.where(error > 0, error, np.inf) ** 2
    if ivar is None:
        return without_errors(vacuum, flux, bad, None, visit)
    return Spectrum(vacuum, flux, ivar, bad, None, visit)


def _cell(value: Any) -> Any:
    """A value of a column as a type of Python."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value
