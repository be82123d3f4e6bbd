"""Isochrones of MIST, from files that a user has fetched: the curve of stars of one age in the Kiel diagram.

A file of the MIST web interface or its packages (``.iso``, or ``.iso.cmd`` with magnitudes) is text. Its
head has lines with ``#``; one of them is the composition, below a line with its names (``Yinit Zinit [Fe/H]
...``). Then follows a block for each age: ``# number of EEPs, cols = 1460 17``, a line of numbers, one of
names, and a row for each point. The age of a block is a column: in years or, as one may choose there, its
logarithm.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from survey import files

Floats = NDArray[np.float64]

AGES = {"log10_isochrone_age_yr": True, "log_age": True, "isochrone_age_yr": False}
"""Columns with the age of a block in years, and whether it is a logarithm."""
NEAR = 0.05
"""dex of age, the step of MIST's own grid; an isochrone farther from the requested age is not used."""
STAGES = (0, 5)
"""Values of the column ``phase``: from the main sequence to the thermally pulsing AGB, without stars that
still contract and those that have lost their shell.
"""
ADVICE = "give a file of MIST isochrones as it was fetched (.iso or .iso.cmd), unpacked"


@dataclass(frozen=True)
class Isochrone:
    """Stars of one age (Gyr) and composition: points in the Kiel diagram, by rising mass."""

    gyr: float
    feh: float
    teff: Floats
    logg: Floats

    @property
    def name(self) -> str:
        """Age and [Fe/H] for a legend."""
        age = f"{self.gyr:.3g} Gyr"
        return f"{age}, [Fe/H] {self.feh:+.2f}" if np.isfinite(self.feh) else age

    @property
    def digest(self) -> str:
        """The same for the same curve; files of equal age and [Fe/H] may differ in rotation or alpha."""
        numbers = np.concatenate([[self.gyr, self.feh], self.teff, self.logg])
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class _Block:
    """A block of a file: the number of its ``cols =`` line, its column names, and its rows."""

    line: int
    names: tuple[str, ...]
    rows: list[str]


def choose(paths: Sequence[str], ages: Sequence[float]) -> tuple[Isochrone, ...]:
    """The isochrones of each file that are nearest to these ages in Gyr, each once."""
    chosen = [isochrone for path in paths for isochrone in nearest(path, read(path), ages)]
    return tuple({isochrone.digest: isochrone for isochrone in chosen}.values())


def nearest(path: str, isochrones: Sequence[Isochrone], ages: Sequence[float]) -> list[Isochrone]:
    """The isochrones of a file nearest to these ages; an error lists the ages in the file."""
    log_age = np.log10([isochrone.gyr for isochrone in isochrones])
    chosen = []
    for age in ages:
        distance = np.abs(log_age - np.log10(age))
        index = int(np.argmin(distance))
        if distance[index] > NEAR:
            there = ", ".join(f"{gyr:.3g}" for gyr in sorted(isochrone.gyr for isochrone in isochrones))
            raise ValueError(
                f"isochrones: {path}: none of {age:g} Gyr; its ages are {there}: give ages= of these, "
                "or another file"
            )
        chosen.append(isochrones[index])
    return chosen


def read(path: str) -> list[Isochrone]:
    """All isochrones of a file."""
    if not files.exists(path) or files.is_folder(path):
        raise FileNotFoundError(f"isochrones: {path}: no such file; {ADVICE}")
    try:
        lines = files.read(path).decode().splitlines()
    except UnicodeDecodeError as error:
        where = f"byte {error.start}: {error.reason}"
        raise ValueError(f"isochrones: {path}: is not text ({where}); {ADVICE}") from error
    feh = _composition(lines)
    isochrones = [_isochrone(path, block, feh) for block in _blocks(path, lines)]
    if not isochrones:
        raise ValueError(f"isochrones: {path}: has no isochrone ({len(lines)} lines); {ADVICE}")
    announced = _announced(lines)
    if announced is not None and announced != len(isochrones):
        raise ValueError(
            f"isochrones: {path}: announces {announced} isochrones and has {len(isochrones)}, "
            f"so it may be cut off; {ADVICE}"
        )
    return isochrones


def _announced(lines: Sequence[str]) -> int | None:
    """The number of isochrones in the head; None if it is not there."""
    heads = (line for line in lines if line.startswith("#") and "number of isochrones" in line)
    words = next((line.rpartition("=")[2].split() for line in heads), [])
    return int(words[0]) if words and words[0].isdigit() else None


def _composition(lines: Sequence[str]) -> float:
    """[Fe/H] in the head; NaN if it is not there."""
    for names, values in pairwise(lines):
        if names.startswith("#") and "Yinit" in names and "[Fe/H]" in names:
            composition = dict(zip(names.strip("# ").split(), values.strip("# ").split(), strict=False))
            try:
                return float(composition["[Fe/H]"])
            except (KeyError, ValueError):
                return np.nan
    return np.nan


def _blocks(path: str, lines: Sequence[str]) -> Iterator[_Block]:
    """The blocks of a file, each with as many rows as it announces."""
    starts = [
        number for number, line in enumerate(lines) if line.startswith("#") and "number of EEPs" in line
    ]
    for start, end in pairwise([*starts, len(lines)]):
        where = f"isochrones: {path}: line {start + 1}"
        sizes = lines[start].rpartition("=")[2].split()
        heads = [line for line in lines[start + 1 : end] if line.startswith("#")]
        names = next((line.lstrip("# ").split() for line in heads if AGES.keys() & set(line.split())), None)
        rows = [line for line in lines[start + 1 : end] if line.strip() and not line.startswith("#")]
        if names is None:
            raise ValueError(f"{where}: a block without a column of ages ({', '.join(AGES)}); {ADVICE}")
        if not sizes or not sizes[0].isdigit() or int(sizes[0]) != len(rows):
            announced = sizes[0] if sizes else "no"
            raise ValueError(
                f"{where}: a block of {len(rows)} rows that announces {announced}, "
                f"so it may be cut off; {ADVICE}"
            )
        yield _Block(start + 1, tuple(names), rows)


def _isochrone(path: str, block: _Block, feh: float) -> Isochrone:
    """A block as points in the Kiel diagram."""
    where = f"isochrones: {path}: line {block.line}"
    age_column = next(name for name in AGES if name in block.names)
    if missing := [name for name in ("log_Teff", "log_g") if name not in block.names]:
        raise ValueError(
            f"{where}: a block without {', '.join(missing)}; it has {', '.join(block.names[:12])}; {ADVICE}"
        )
    columns = [age_column, "log_Teff", "log_g", *(["phase"] if "phase" in block.names else [])]
    if not block.rows:
        raise ValueError(f"{where}: a block without rows; {ADVICE}")
    try:
        values = np.loadtxt(block.rows, usecols=[block.names.index(name) for name in columns], ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{where}: rows that are not {len(block.names)} numbers each ({error}); {ADVICE}"
        ) from error
    age, teff, logg = values[0, 0], 10 ** values[:, 1], values[:, 2]
    years = 10**age if AGES[age_column] else age
    if not np.isfinite(values[:, :3]).all() or not 0 < years < 1e12 or np.ptp(values[:, 0]) > 0:
        lowest, highest = values[:, 0].min(), values[:, 0].max()
        raise ValueError(
            f"{where}: a block without a single valid age "
            f"({age_column} from {lowest:g} to {highest:g}); {ADVICE}"
        )
    kept = np.ones(len(values), bool)
    if "phase" in columns:
        kept = (values[:, 3] >= STAGES[0]) & (values[:, 3] <= STAGES[1])
    return Isochrone(float(years / 1e9), feh, teff[kept], logg[kept])
