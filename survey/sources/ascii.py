"""Spectra as text, one per file: columns of wavelength, flux and, if there, the error of the flux.

Columns are separated by blanks, tabs, commas or semicolons. A line that begins with #, ! or % is a comment.
If a line before the numbers names the columns (`NAMES`), the names decide; else the columns are wavelength,
flux and error. Positions, velocities and names of stars come from a catalogue whose rows name the files.
"""

import re
from typing import Literal

import numpy as np
from pydantic import Field

from survey.settings import Settings
from survey.sources import wavelengths
from survey.sources.noise import without_errors
from survey.spectrum import LogWave, Refused, Spectrum

FILES = ("*.txt", "*.dat", "*.asc", "*.ascii", "*.csv", "*.tsv")
"""The names of the files."""

NAMES = {
    "wave": ("wave", "wavelength", "lambda", "lam", "wl", "loglam", "log_lambda"),
    "flux": ("flux", "intensity", "counts", "normalized_flux", "normalised_flux", "norm_flux"),
    "error": ("error", "err", "sigma", "flux_error", "flux_err", "fluxerr", "e_flux", "uncertainty"),
    "ivar": ("ivar", "flux_ivar", "inverse_variance", "invvar"),
}
"""The names of the columns, in lower or upper case, without their units in brackets."""

FEWEST, MOST = 50, 300_000
"""Pixels of a spectrum."""
ANGSTROM = {"angstrom": 1.0, "nm": 10.0, "micron": 1e4}
NO_NUMBER = {"", "-", "--", "nan", "null", "none", "n/a"}
COMMENT = ("#", "!", "%")
NO_ERROR = re.compile(
    rf"\b({'|'.join(NAMES['ivar'])}|inverse[ _-]variances?)\b"
    r"|\b(snr|s/n|signal[ _-]to[ _-]noise)\b(?!.*\d)",  # with a number it is that of the spectrum
    re.IGNORECASE,
)
"""What a third column may hold in place of an error."""


class Options(Settings):
    """How text files are read."""

    wave: Literal["angstrom", "nm", "micron", "log10"] = Field(
        "angstrom", description="unit of the wavelengths; log10 = log10 of angstrom, as in a column loglam"
    )
    medium: Literal["vacuum", "air"] = Field("vacuum", description="where the wavelengths are measured")
    third: Literal["error", "ivar", "none"] | None = Field(
        None,
        description="what a third column without a name holds; none = it is not read; "
        "null = error, unless a line before the numbers speaks of ivar or snr",
    )


def read_bytes(data: bytes, name: str, settings: Options) -> list[Spectrum] | None:
    """The spectrum of a text file; None if the file is no text, or no table of numbers."""
    try:
        text = bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    first = next((index for index, (_, line) in enumerate(lines) if _begins_with_numbers(line, 1)), None)
    if first is None or not any(_begins_with_numbers(line, 2) for _, line in lines[first:]):
        return None
    size = len(_cells(lines[first][1]))
    header = [line for _, line in lines[:first] if not _begins_with_numbers(line, 0)]
    names, columns = _named_columns(header, size)
    if columns is None:
        if names and size > 3:
            return None
        columns = _unnamed_columns(header, size, settings.third)
    rows = [(number, line) for number, line in lines[first:] if not line.startswith(COMMENT)]
    if not FEWEST <= len(rows) <= MOST:
        raise Refused("unknown_layout", f"{len(rows)} rows; a spectrum has {FEWEST} to {MOST} pixels")
    is_log10 = settings.wave == "log10" or (bool(names) and names[columns["wave"]].startswith("log"))
    return [_spectrum(_read_columns(rows, columns), is_log10, settings)]


def _cells(line: str) -> list[str]:
    """The cells of a line."""
    delimiter = next((mark for mark in ",;\t" if mark in line), None)
    return [cell.strip() for cell in line.split(delimiter)]


def _begins_with_numbers(line: str, finite: int) -> bool:
    """Whether a line begins with two numbers; so many of them must be finite, the others may be NaN."""
    cells = _cells(line)
    try:
        numbers = [_number(cell) for cell in cells[:2]]
    except ValueError:
        return False
    return len(numbers) == 2 and bool(np.isfinite(numbers[:finite]).all())


def _number(cell: str) -> float:
    """A number, also as Fortran writes it; NaN for a cell without a value."""
    if cell.lower() in NO_NUMBER:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return float(cell.upper().replace("D", "E"))


def _named_columns(header: list[str], size: int) -> tuple[list[str], dict[str, int] | None]:
    """The names of the columns, and the number of each known one, by the nearest line that names wavelength
    and flux. Else None, with the names of the last line."""
    for line in reversed(header):
        names = _names(line, size)
        found = {
            role: names.index(next(name for name in known if name in names))
            for role, known in NAMES.items()
            if any(name in names for name in known)
        }
        if {"wave", "flux"} <= found.keys():
            return names, found
    return _names(header[-1], size) if header else [], None


def _names(line: str, size: int) -> list[str]:
    """The names of the columns in lower case; none if the line does not name so many."""
    text = re.sub(r"^(columns?|names?)\s*[:=]", "", line.lstrip("#!% "), flags=re.IGNORECASE)
    without_units = re.sub(r"\s*[\[(].*?[\])]", "", text.partition("#")[0])
    cells = without_units.strip("| ").split("|") if "|" in without_units else _cells(without_units.strip())
    names = [name.strip("\"' ").lower() for name in cells]
    return names if len(names) == size else []


def _unnamed_columns(header: list[str], size: int, third: str | None) -> dict[str, int]:
    """The number of each column by the order: wavelength, flux, and what the third one holds."""
    columns = {"wave": 0, "flux": 1}
    if size < 3 or third == "none":
        return columns
    if third is None and (line := next(filter(NO_ERROR.search, header), None)):
        raise Refused(
            "unknown_layout",
            f"the third column may be no error: a line before the numbers is {line[:60]!r}; "
            "give options.ascii.third=error, ivar or none",
        )
    return columns | {third or "error": 2}


def _read_columns(rows: list[tuple[int, str]], columns: dict[str, int]) -> dict[str, np.ndarray]:
    """The numbers of these columns."""
    values: dict[str, list[float]] = {role: [] for role in columns}
    for number, line in rows:
        cells = _cells(line)
        try:
            for role, column in columns.items():
                values[role].append(_number(cells[column]))
        except (ValueError, IndexError):
            raise Refused("bad_row", f"line {number} is {line[:60]!r}, which has no {role}") from None
    return {role: np.array(numbers) for role, numbers in values.items()}


def _spectrum(values: dict[str, np.ndarray], is_log10: bool, settings: Options) -> Spectrum:
    """The spectrum of these columns, in rising vacuum wavelengths."""
    wave = values["wave"]
    angstrom = wavelengths.from_log10(wave) if is_log10 else wave * ANGSTROM[settings.wave]
    order = slice(None, None, -1 if angstrom[0] > angstrom[-1] else 1)
    wavelengths.check(angstrom[order])
    if settings.medium == "air":
        angstrom = wavelengths.air_to_vacuum(angstrom)
    vacuum: LogWave | np.ndarray = wavelengths.log_linear_or_list(angstrom[order])
    flux = values["flux"][order]
    ivar = values.get("ivar")
    if "error" in values and ivar is None:
        ivar = 1 / np.where(values["error"] > 0, values["error"], np.inf) ** 2
    if ivar is None or not (ivar > 0).any():
        return without_errors(vacuum, flux)
    return Spectrum(vacuum, flux, ivar[order])
