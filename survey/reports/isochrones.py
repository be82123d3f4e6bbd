"""Isochrones of MIST, from files that a user has fetched: where stars of one age and composition lie in the Kiel diagram. None is made up here.

A file of the MIST web interface or its packages (``.iso``, or ``.iso.cmd`` with magnitudes) is text: a head of lines with ``#``, in it a line of the
composition under one that names it (``Yinit Zinit [Fe/H] ...``); then a block for each age, with ``# number of EEPs, cols = 1460 17``, a line of
numbers, one of names, and a row for each point. The age of a block is a column of it: its logarithm or, as one may choose there, in years.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from survey import files

Floats = NDArray[np.float64]

AGES = {"log10_isochrone_age_yr": True, "log_age": True, "isochrone_age_yr": False}
"""Columns that hold the age of a block in years, and whether they hold its logarithm."""
NEAR = 0.05
"""dex of age: the steps of MIST's own grid; farther off an age is not that which was asked for."""
STAGES = (0, 5)
"""Of the column ``phase``: the main sequence to the thermally pulsing AGB, without stars that contract still and those that have shed their shell."""
ADVICE = "give a file of MIST isochrones as it was fetched (.iso or .iso.cmd), unpacked"


@dataclass(frozen=True)
class Isochrone:
    """Stars of one age (Gyr) and composition, by rising mass: points in the Kiel diagram."""

    gyr: float
    feh: float
    teff: Floats
    logg: Floats

    @property
    def name(self) -> str:
        """What it is, as a legend says it."""
        return (
            f"{self.gyr:.3g} Gyr, [Fe/H] {self.feh:+.2f}" if np.isfinite(self.feh) else f"{self.gyr:.3g} Gyr"
        )


@dataclass(frozen=True)
class _Block:
    """A block of a file: the line of its ``cols =``, the rows that it announces, its names, and where its rows are."""

    line: int
    announced: int
    names: tuple[str, ...]
    rows: list[str]


def chosen(paths: Sequence[str], ages: Sequence[float]) -> tuple[Isochrone, ...]:
    """The isochrones of each file that are nearest to ages in Gyr, each once."""
    found = [one for path in paths for one in nearest(path, read(path), ages)]
    return tuple({(one.gyr, one.feh, len(one.teff)): one for one in found}.values())


def nearest(path: str, there: Sequence[Isochrone], ages: Sequence[float]) -> list[Isochrone]:
    """Those of a file that are of these ages, or an error that lists the ages it has."""
    log = np.log10([one.gyr for one in there])
    found = []
    for age in ages:
        place = int(np.argmin(np.abs(log - np.log10(age))))
        if abs(log[place] - np.log10(age)) > NEAR:
            told = ", ".join(f"{one.gyr:.3g}" for one in sorted(there, key=lambda one: one.gyr))
            raise ValueError(
                f"isochrones: {path}: none of {age:g} Gyr; its ages are {told}: give ages= of these, or another file"
            )
        found.append(there[place])
    return found


def read(path: str) -> list[Isochrone]:
    """All isochrones of a file."""
    if not files.exists(path) or files.is_folder(path):
        raise FileNotFoundError(f"isochrones: {path}: no such file; {ADVICE}")
    try:
        lines = files.read(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"isochrones: {path}: no text (byte {error.start}: {error.reason}); {ADVICE}"
        ) from error
    feh = _composition(lines)
    found = [_isochrone(path, block, feh) for block in _blocks(path, lines)]
    announced = next(
        (
            line.rpartition("=")[2].split()
            for line in lines
            if line.startswith("#") and "number of isochrones" in line
        ),
        [],
    )
    if not found:
        raise ValueError(f"isochrones: {path}: no block of an age in it ({len(lines)} lines); {ADVICE}")
    if announced and announced[0].isdigit() and int(announced[0]) != len(found):
        raise ValueError(
            f"isochrones: {path}: announces {announced[0]} isochrones and holds {len(found)}: cut off? {ADVICE}"
        )
    return found


def _composition(lines: Sequence[str]) -> float:
    """[Fe/H] of the head; NaN where it does not say."""
    for names, values in pairwise(lines):
        if names.startswith("#") and "Yinit" in names and "[Fe/H]" in names:
            told = dict(zip(names.strip("# ").split(), values.strip("# ").split(), strict=False))
            try:
                return float(told["[Fe/H]"])
            except (KeyError, ValueError):
                return np.nan
    return np.nan


def _blocks(path: str, lines: Sequence[str]) -> Iterator[_Block]:
    """The blocks of a file, each with as many rows as it announces."""
    starts = [
        number for number, line in enumerate(lines) if line.startswith("#") and "number of EEPs" in line
    ]
    for start, end in pairwise([*starts, len(lines)]):
        sizes = lines[start].rpartition("=")[2].split()
        heads = [line for line in lines[start + 1 : end] if line.startswith("#")]
        names = next((line.lstrip("# ").split() for line in heads if AGES.keys() & set(line.split())), None)
        rows = [line for line in lines[start + 1 : end] if line.strip() and not line.startswith("#")]
        if names is None:
            raise ValueError(
                f"isochrones: {path}: line {start + 1}: a block whose names have no age ({', '.join(AGES)}); {ADVICE}"
            )
        if not sizes or not sizes[0].isdigit() or int(sizes[0]) != len(rows):
            told = sizes[0] if sizes else "no"
            raise ValueError(
                f"isochrones: {path}: line {start + 1}: a block of {len(rows)} rows that announces {told}: cut off? {ADVICE}"
            )
        yield _Block(start + 1, int(sizes[0]), tuple(names), rows)


def _isochrone(path: str, block: _Block, feh: float) -> Isochrone:
    """A block as points in the Kiel diagram."""
    where = f"isochrones: {path}: line {block.line}"
    log_age = next(name for name in AGES if name in block.names)
    if missing := [name for name in ("log_Teff", "log_g") if name not in block.names]:
        raise ValueError(
            f"{where}: a block without {', '.join(missing)}; it has {', '.join(block.names[:12])}; {ADVICE}"
        )
    wanted = [log_age, "log_Teff", "log_g", *(["phase"] if "phase" in block.names else [])]
    if not block.rows:
        raise ValueError(f"{where}: a block without rows; {ADVICE}")
    try:
        values = np.loadtxt(block.rows, usecols=[block.names.index(name) for name in wanted], ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{where}: rows that are no table of {len(block.names)} numbers ({error}); {ADVICE}"
        ) from error
    age, teff, logg = values[0, 0], 10 ** values[:, 1], values[:, 2]
    years = 10**age if AGES[log_age] else age
    if not np.isfinite(values[:, :3]).all() or not 0 < years < 1e12 or np.ptp(values[:, 0]) > 0:
        raise ValueError(
            f"{where}: a block that is of no one age (from {values[:, 0].min():g} to {values[:, 0].max():g} {log_age}); {ADVICE}"
        )
    kept = (
        (values[:, 3] >= STAGES[0]) & (values[:, 3] <= STAGES[1])
        if len(wanted) > 3
        else np.ones(len(values), bool)
    )
    return Isochrone(float(years / 1e9), feh, teff[kept], logg[kept])
