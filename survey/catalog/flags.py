"""What speaks against a star's values, as documented bits: those that ask for a second look (`flag_warn`) and those that forbid use (`flag_bad`).

Every bit is a row of `BITS`: its severity, its meaning, and its test upon the columns of a table. A bit has one value in both columns, so they
can be joined. A test whose columns are not there is not made. Shapes: N stars (or visits).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from survey.catalog.visits import Flags, label_names, numbers
from survey.labels import label
from survey.predict.output import Column
from survey.settings import Settings, SettingsError
from survey.store.quality import Flag

Severity = Literal["warn", "bad"]
Ranges = Mapping[str, tuple[float, float]]
"""The lowest and highest training value of each label."""

COLUMNS: dict[str, Column] = {
    "flag_warn": (
        "int32",
        "bits that ask for a second look; 0 = none (see the table of flags)",
        "",
        "meta.code.qual",
    ),
    "flag_bad": ("int32", "bits that forbid use; 0 = none (see the table of flags)", "", "meta.code.error"),
}
SPECTRUM = (
    Flag.COVERAGE
    | Flag.BAD_PIXELS
    | Flag.FEW_PIXELS
    | Flag.OUTLIERS
    | Flag.LOW_CONTINUUM
    | Flag.NEGATIVE
    | Flag.FIBER
)
"""Bits of a store that say the spectrum itself is poor."""


class Bit(IntFlag):
    """Bits of `flag_warn` and `flag_bad`; `BITS` tells what each says."""

    SPECTRUM = 1
    NO_VELOCITY = 2
    LOW_SNR = 4
    VERY_LOW_SNR = 8
    OUT_OF_DOMAIN = 16
    FAR_OUT_OF_DOMAIN = 32
    MEMBERS_DISAGREE = 64
    VISITS_DISAGREE = 128
    CLASSES_DISAGREE = 256
    IDENTITY = 512
    LARGE_ERROR = 1024
    WIDE_INTERVAL = 2048
    EDGE = 4096
    NO_ANSWER = 8192
    NOT_A_STAR = 16384
    UNKNOWN_OBJECT = 32768


class Limits(Settings):
    """From where on a star is flagged."""

    snr_warn: float = Field(10.0, ge=0, description="least signal to noise without a warning")
    snr_bad: float = Field(3.0, ge=0, description="least signal to noise of use")
    domain_warn: float = Field(
        1.0,
        gt=0,
        description="largest distance from the training spectra without a warning (1 % of validation is beyond 1)",
    )
    domain_bad: float = Field(2.0, gt=0, description="largest distance of use")
    doubt: float = Field(0.2, gt=0, description="largest disagreement of members about the class (nats)")
    error: dict[str, float] = Field(
        {"Teff": 250.0, "logg": 0.5, "vmic": 0.5, "rv": 20.0},
        description="largest error of a label without a warning, in its unit",
    )
    error_dex: float = Field(
        0.35, gt=0, description="the same for every label in dex that `error` does not name"
    )
    interval: float = Field(
        3.0, gt=0, description="an interval wider than this many largest errors to either side is wide"
    )
    edge: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description="share of a label's training range that counts as its edge, at either end",
    )

    def largest_error(self, name: str) -> float:
        """The largest error of a label without a warning; infinite where no limit is set."""
        return self.error.get(name, self.error_dex if label(name).unit == "dex" else np.inf)


@dataclass(frozen=True)
class Case:
    """What is asked: the stars, the training stars' ranges, the limits."""

    table: pa.Table
    ranges: Ranges
    limits: Limits

    def has(self, column: str) -> bool:
        """Whether the stars have this column."""
        return column in self.table.column_names


Test = Callable[[Case], Flags | None]
"""Which stars have a bit; None where the columns to tell it by are not there."""


@dataclass(frozen=True)
class Row:
    """A bit: how bad it is, what it says, and which stars have it."""

    bit: Bit
    severity: Severity
    about: str
    test: Test


def dictionary() -> pa.Table:
    """Every bit: number, value, name, severity, description."""
    rows = [
        {
            "bit": int(row.bit).bit_length() - 1,
            "value": int(row.bit),
            "name": str(row.bit.name),
            "severity": row.severity,
            "description": row.about,
        }
        for row in BITS
    ]
    types = {
        "bit": pa.int32(),
        "value": pa.int32(),
        "name": pa.string(),
        "severity": pa.string(),
        "description": pa.string(),
    }
    return pa.Table.from_pylist(rows, pa.schema(list(types.items())))


def named(names: Sequence[str]) -> int:
    """The bits of these names, in any case, together."""
    bits = 0
    for name in names:
        if name.upper() not in Bit.__members__:
            raise SettingsError(
                f"catalog: leave_out: there is no flag {name!r}; there are {', '.join(Bit.__members__).lower()}"
            )
        bits |= Bit[name.upper()]
    return bits


def of(
    table: pa.Table, ranges: Ranges, limits: Limits | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`flag_warn` and `flag_bad` of every row."""
    case = Case(table, ranges, limits or Limits())
    found: dict[Severity, NDArray[np.int32]] = {
        "warn": np.zeros(table.num_rows, np.int32),
        "bad": np.zeros(table.num_rows, np.int32),
    }
    for row in BITS:
        hit_N = row.test(case)
        if hit_N is not None:
            found[row.severity] |= np.where(hit_N, np.int32(row.bit), np.int32(0))
    return found["warn"], found["bad"]


def _store(bits: Flag) -> Test:
    """Where the store has set one of these bits."""
    return lambda case: (
        (case.table["flags"].fill_null(0).to_numpy() & int(bits)) != 0 if case.has("flags") else None
    )


def _said(column: str) -> Test:
    """Where a column of true and false says so."""
    return lambda case: case.table[column].fill_null(False).to_numpy() if case.has(column) else None


def _beyond(column: str, limit: str) -> Test:
    """Where a column exceeds a limit; what is not known does not."""
    return lambda case: (
        numbers(case.table, column) > getattr(case.limits, limit) if case.has(column) else None
    )


def _noisy(limit: str) -> Test:
    """Where the signal to noise, of all visits where there are several, is too low or not known."""

    def test(case: Case) -> Flags | None:
        column = next((name for name in ("snr_total", "snr") if case.has(name)), None)
        return None if column is None else ~(numbers(case.table, column) >= getattr(case.limits, limit))

    return test


def _typed(*kinds: str) -> Test:
    """Where the survey's pipeline says that the object is one of these."""

    def test(case: Case) -> Flags | None:
        if not case.has("class"):
            return None
        column = pc.utf8_upper(case.table["class"].cast(pa.string()))
        return np.asarray(
            pc.fill_null(pc.is_in(column, pa.array(kinds)), False).to_numpy(zero_copy_only=False)
        )

    return test


def _any_label(hit: Callable[[Case, str], Flags]) -> Test:
    """Where any label is hit."""

    def test(case: Case) -> Flags | None:
        hits = [hit(case, name) for name in label_names(case.table)]
        return np.logical_or.reduce(hits) if hits else None

    return test


def _large(case: Case, name: str) -> Flags:
    return numbers(case.table, f"{name}_err") > case.limits.largest_error(name)


def _wide(case: Case, name: str) -> Flags:
    width_N = numbers(case.table, f"{name}_high") - numbers(case.table, f"{name}_low")
    return width_N > 2 * case.limits.interval * case.limits.largest_error(name)


def _edge(case: Case, name: str) -> Flags:
    low, high = case.ranges.get(name, (-np.inf, np.inf))
    margin = case.limits.edge * (high - low) if np.isfinite(high - low) else 0.0
    value_N = numbers(case.table, name)
    return (value_N < low + margin) | (value_N > high - margin)


BITS = (
    Row(
        Bit.SPECTRUM,
        "warn",
        "a visit's spectrum is poor: coverage, pixels, outliers, continuum, flux or fibre (see flags)",
        _store(SPECTRUM),
    ),
    Row(
        Bit.NO_VELOCITY,
        "warn",
        "a visit's spectrum is not in the rest frame: no velocity was known",
        _store(Flag.NO_VELOCITY),
    ),
    Row(Bit.LOW_SNR, "warn", "the signal to noise is low", _noisy("snr_warn")),
    Row(Bit.VERY_LOW_SNR, "bad", "the signal to noise is too low for use, or not known", _noisy("snr_bad")),
    Row(
        Bit.OUT_OF_DOMAIN,
        "warn",
        "farther from the training spectra than 99 % of validation spectra",
        _beyond("domain", "domain_warn"),
    ),
    Row(
        Bit.FAR_OUT_OF_DOMAIN,
        "bad",
        "so far from the training spectra that nothing can be told",
        _beyond("domain", "domain_bad"),
    ),
    Row(
        Bit.MEMBERS_DISAGREE,
        "warn",
        "the members of the ensemble disagree about the class",
        _beyond("doubt", "doubt"),
    ),
    Row(Bit.VISITS_DISAGREE, "warn", "visits of the star contradict each other", _said("visits_disagree")),
    Row(
        Bit.CLASSES_DISAGREE,
        "warn",
        "the class by probabilities is not the one by parameters",
        _said("classes_disagree"),
    ),
    Row(Bit.IDENTITY, "warn", "[C/Fe] is not [C/H] - [Fe/H] within the errors", _said("identity_violated")),
    Row(Bit.LARGE_ERROR, "warn", "the error of a label is large", _any_label(_large)),
    Row(Bit.WIDE_INTERVAL, "warn", "the interval of a label is wide", _any_label(_wide)),
    Row(
        Bit.EDGE,
        "warn",
        "a label lies at the edge of the training stars' range, or beyond",
        _any_label(_edge),
    ),
    Row(Bit.NO_ANSWER, "bad", "the networks gave no answer", _said("no_answer")),
    Row(
        Bit.NOT_A_STAR, "bad", "the survey's pipeline calls it a galaxy or a quasar", _typed("GALAXY", "QSO")
    ),
    Row(Bit.UNKNOWN_OBJECT, "warn", "the survey's pipeline could not say what it is", _typed("UNKNOWN")),
)
