"""What speaks against the values of a star, as documented bits: `flag_warn` asks for a second look,
`flag_bad` forbids use, `flag_info` is good to know.

A warning may change the decision whether a star is a candidate: among mock stars with a warning the lists are
wrong nine times as often as among the others. Bits with which they are not wrong more often, or which never
stand alone, are an information. Each bit is a row of `DEFINITIONS`:
its severity, its description, and its test on the columns of a table. A bit has the same value in each
column, so the columns can be combined. A test is left out if its columns are missing. Shapes: N stars (or
visits).
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import ColumnSpec
from survey.catalog.bands import is_cool_carbon_star, is_m_subdwarf
from survey.catalog.flag_settings import DEFAULT_KINDS, CatalogFlag, FlagLimits, Kind, SecondKey
from survey.catalog.flag_tests import (
    FlagInput,
    FlagTest,
    Ranges,
    above,
    any_label,
    at_edge,
    by_bands,
    extrapolated,
    hot_star,
    is_true,
    keys_disagree,
    large_error,
    lines_deny,
    low_snr,
    molecular_bands,
    object_type,
    one_key,
    store_flag,
    survey_type,
    wide_interval,
)
from survey.catalog.kinds import KIND_BITS, kinds, tells_kind
from survey.store.schema import Flag

Severity = Literal["warn", "bad", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
COLUMNS: dict[str, ColumnSpec] = {
    "flag_warn": (
        "int32",
        "bits that ask for a second look; 0 = none (flags.csv describes them)",
        "",
        "meta.code.qual",
    ),
    "flag_bad": ("int32", "bits that forbid use; 0 = none (flags.csv describes them)", "", "meta.code.error"),
    "flag_info": (
        "int32",
        "bits that are good to know and decide nothing; 0 = none (flags.csv describes them)",
        "",
        "meta.code",
    ),
}
"""The columns of the flags, in the order of the severities."""
POOR_SPECTRUM = Flag.COVERAGE | Flag.BAD_PIXELS | Flag.FEW_PIXELS | Flag.OUTLIERS | Flag.NEGATIVE
"""Bits of a store that mark a poor spectrum.

The fibre's own mask and a low continuum somewhere do not: stars with them are classified as well as others.
"""

Bits = NDArray[np.int32]


@dataclass(frozen=True)
class FlagDefinition:
    """A bit: its severity, its description, and the test for it."""

    bit: CatalogFlag
    severity: Severity
    description: str
    test: FlagTest


@dataclass(frozen=True)
class FlagRules:
    """How stars get flags, and which flags keep a star out of the lists.

    Each `flag_bad` does, and so do the other flags in `leave_out` (bits). If the second key is required, so
    does `KEYS_DISAGREE` for a star that is not metal-poor by its lines. The flags of a kind keep no star out
    whose kind is in `ask`.
    """

    limits: FlagLimits = field(default_factory=FlagLimits)
    ranges: Ranges = field(default_factory=dict)
    leave_out: int = 0
    second_key: SecondKey = "require"
    ask: tuple[Kind, ...] = DEFAULT_KINDS

    def flags(self, table: pa.Table) -> tuple[Bits, ...]:
        """The flags of each row, one array for each of `COLUMNS`."""
        stars = FlagInput(table, self.ranges, self.limits)
        bits = {severity: np.zeros(table.num_rows, np.int32) for severity in SEVERITIES}
        for definition in DEFINITIONS:
            set_N = definition.test(stars)
            if set_N is not None:
                bits[definition.severity] |= np.where(set_N, np.int32(definition.bit), np.int32(0))
        return tuple(bits.values())

    def excluding(self, table: pa.Table, warn_N: Bits, bad_N: Bits, info_N: Bits) -> Bits:
        """The flags of each row that keep it out of the lists."""
        bits_N = np.asarray(bad_N | ((warn_N | info_N) & np.int32(self.leave_out)))
        denied_N = lines_deny(FlagInput(table, self.ranges, self.limits))
        if self.second_key == "require" and denied_N is not None:
            bits_N |= np.where(denied_N, warn_N & np.int32(CatalogFlag.KEYS_DISAGREE), np.int32(0))
        may_be_asked_N = np.isin(kinds(table, warn_N | bad_N | info_N), self.ask)
        return np.where(may_be_asked_N, bits_N & ~np.int32(KIND_BITS), bits_N)

    def keep_out(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows may not be in the lists, because of their flags or their kind."""
        excluded_N = np.asarray(self.excluding(table, *self.flags(table)) != 0)
        return excluded_N | self.is_other_kind(table)

    def is_other_kind(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows are of a kind that is not asked.

        In a table without any column that tells a kind, only those of which a flag tells it.
        """
        kind_N = kinds(table, np.bitwise_or.reduce(self.flags(table)))
        other_N = np.isin(kind_N, self.ask, invert=True)
        return other_N if tells_kind(table) else np.asarray(other_N & (kind_N != "unknown"))

    def untested(self, table: pa.Table) -> list[str]:
        """The flags in `leave_out` that no row of a table can have."""
        stars = FlagInput(table, self.ranges, self.limits)
        missing = [row.bit for row in DEFINITIONS if row.test(stars) is None]
        if "n_visits" in table.column_names and (table["n_visits"].to_numpy() < 2).all():
            missing.append(CatalogFlag.VISITS_DISAGREE)
        return names_of(self.leave_out & sum(missing))

    def may_be_asked(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows are of a kind that is asked."""
        return np.isin(kinds(table, np.bitwise_or.reduce(self.flags(table))), self.ask)


def names_of(bits: int) -> list[str]:
    """The names of the flags with these bits."""
    return [str(flag.name) for flag in CatalogFlag if bits & flag]


def words_of(bits: int) -> str:
    """The flags with these bits in plain words: low snr, hot star."""
    return ", ".join(name.lower().replace("_", " ") for name in names_of(bits))


def flag_table() -> pa.Table:
    """All bits: number, value, name, severity, description."""
    rows = [
        {
            "bit": int(definition.bit).bit_length() - 1,
            "value": int(definition.bit),
            "name": str(definition.bit.name),
            "severity": definition.severity,
            "description": definition.description,
        }
        for definition in DEFINITIONS
    ]
    columns = [
        ("bit", pa.int32()),
        ("value", pa.int32()),
        ("name", pa.string()),
        ("severity", pa.string()),
        ("description", pa.string()),
    ]
    return pa.Table.from_pylist(rows, pa.schema(columns))


DEFINITIONS = (
    FlagDefinition(
        CatalogFlag.SPECTRUM,
        "warn",
        "the spectrum of a visit is poor: coverage, pixels, outliers or flux (see flags)",
        store_flag(POOR_SPECTRUM),
    ),
    FlagDefinition(
        CatalogFlag.NO_VELOCITY,
        "warn",
        "the spectrum of a visit is not in the rest frame: its velocity is unknown",
        store_flag(Flag.NO_VELOCITY),
    ),
    FlagDefinition(CatalogFlag.LOW_SNR, "warn", "the signal to noise is low", low_snr("snr_warn")),
    FlagDefinition(
        CatalogFlag.VERY_LOW_SNR,
        "bad",
        "the signal to noise is too low for use, or unknown",
        low_snr("snr_bad"),
    ),
    FlagDefinition(
        CatalogFlag.OUT_OF_DOMAIN,
        "warn",
        "the spectrum is farther from the training spectra of each class than 99 % of the validation spectra",
        above("domain", "domain_warn"),
    ),
    FlagDefinition(
        CatalogFlag.FAR_OUT_OF_DOMAIN,
        "bad",
        "the spectrum is too far from the training spectra for any prediction",
        above("domain", "domain_bad"),
    ),
    FlagDefinition(
        CatalogFlag.MEMBERS_DISAGREE,
        "warn",
        "the members of the ensemble disagree on the class",
        above("class_entropy_model", "class_entropy_model"),
    ),
    FlagDefinition(
        CatalogFlag.VISITS_DISAGREE,
        "warn",
        "the visits of the star contradict each other",
        is_true("visits_disagree"),
    ),
    FlagDefinition(
        CatalogFlag.CLASSES_DISAGREE,
        "warn",
        "the class by probabilities is not the class by labels",
        is_true("classes_disagree"),
    ),
    FlagDefinition(
        CatalogFlag.CARBON_INCONSISTENT,
        "warn",
        "[C/Fe] is not [C/H] - [Fe/H] within the errors",
        is_true("carbon_inconsistent"),
    ),
    FlagDefinition(
        CatalogFlag.LARGE_ERROR, "warn", "the error of a label is large", any_label(large_error, "_err")
    ),
    FlagDefinition(
        CatalogFlag.WIDE_INTERVAL,
        "info",
        "the interval of a label is wide",
        any_label(wide_interval, "_low", "_high"),
    ),
    FlagDefinition(
        CatalogFlag.EDGE,
        "info",
        "a label is at the edge of the range of the training stars, or outside",
        any_label(at_edge),
    ),
    FlagDefinition(CatalogFlag.NO_ANSWER, "bad", "the networks gave no answer", is_true("no_answer")),
    FlagDefinition(
        CatalogFlag.NOT_A_STAR,
        "bad",
        "the pipeline of the survey calls it a galaxy or a quasar",
        object_type("GALAXY", "QSO"),
    ),
    FlagDefinition(
        CatalogFlag.UNKNOWN_OBJECT,
        "warn",
        "the pipeline of the survey does not know what it is",
        object_type("UNKNOWN"),
    ),
    FlagDefinition(
        CatalogFlag.FIBER, "info", "the survey's own mask of the fibre is not 0", store_flag(Flag.FIBER)
    ),
    FlagDefinition(
        CatalogFlag.NOISE_ESTIMATED,
        "info",
        "the file gives no errors: the signal to noise is estimated from the flux",
        store_flag(Flag.NOISE_ESTIMATED),
    ),
    FlagDefinition(
        CatalogFlag.LOW_CONTINUUM,
        "info",
        "the continuum of a visit is near or below 0 somewhere: these pixels are not used",
        store_flag(Flag.LOW_CONTINUUM),
    ),
    FlagDefinition(
        CatalogFlag.EXTRAPOLATED,
        "warn",
        "a label is outside the range of the training stars, by more than the limit `edge`",
        any_label(extrapolated),
    ),
    FlagDefinition(
        CatalogFlag.MOLECULAR_BANDS,
        "bad",
        "bands of TiO and CaH: an M or a late K star, for which the lists were not tested",
        molecular_bands,
    ),
    FlagDefinition(
        CatalogFlag.HOT_STAR,
        "bad",
        "H delta as wide as above 7,300 K, or Teff above 7,500 K: the lists were not tested for such stars",
        hot_star,
    ),
    FlagDefinition(
        CatalogFlag.KEYS_DISAGREE,
        "warn",
        "[Fe/H] by the networks and by indices of lines (FeH_lines) contradict each other",
        keys_disagree,
    ),
    FlagDefinition(
        CatalogFlag.SURVEY_TYPE,
        "bad",
        "the survey's own type is M, O, B, white dwarf, carbon star or sky: the lists were not tested for it",
        survey_type,
    ),
    FlagDefinition(
        CatalogFlag.CARBON_BANDS,
        "bad",
        "bands of C2 and CH, and strong Na D: a cool carbon star, for which the lists were not tested",
        by_bands(is_cool_carbon_star),
    ),
    FlagDefinition(
        CatalogFlag.M_SUBDWARF,
        "bad",
        "strong bands of CaH with little TiO: an M subdwarf, for which the lists were not tested",
        by_bands(is_m_subdwarf),
    ),
    FlagDefinition(
        CatalogFlag.ONE_KEY,
        "info",
        "the networks call it metal-poor, and indices of lines give no estimate (FeH_lines is null)",
        one_key,
    ),
)
