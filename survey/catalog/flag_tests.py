"""The tests behind the flags: which stars have a bit, from the columns of a table and the limits.

A test gives None if the columns that it reads are missing. Shape: N stars (or visits).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.catalog import bands
from survey.catalog.flag_settings import FlagLimits
from survey.catalog.visits import Flags, float_column, label_names
from survey.labelling.survey_types import OTHER_KINDS, survey_kinds
from survey.labels import METAL_POOR
from survey.store.schema import Flag

MOSTLY = 0.5
"""A lower probability of not being metal-poor means that it is."""
Ranges = Mapping[str, tuple[float, float]]
"""The lowest and the highest training value of each label."""


@dataclass(frozen=True)
class FlagInput:
    """What a test reads: the stars, the ranges of the training stars, the limits."""

    table: pa.Table
    ranges: Ranges
    limits: FlagLimits

    def has(self, column: str) -> bool:
        """Whether the stars have this column."""
        return column in self.table.column_names


FlagTest = Callable[[FlagInput], Flags | None]
"""Which stars have a bit; None if the columns of the test are missing."""


def store_flag(bits: Flag) -> FlagTest:
    """Rows with one of these bits of the store."""
    return lambda stars: (
        (stars.table["flags"].fill_null(0).to_numpy() & int(bits)) != 0 if stars.has("flags") else None
    )


def is_true(column: str) -> FlagTest:
    """Rows in which a column of true and false is true."""
    return lambda stars: stars.table[column].fill_null(False).to_numpy() if stars.has(column) else None


def above(column: str, limit: str) -> FlagTest:
    """Rows in which a column is above a limit; null is not."""
    return lambda stars: (
        float_column(stars.table, column) > getattr(stars.limits, limit) if stars.has(column) else None
    )


def low_snr(limit: str) -> FlagTest:
    """Rows whose signal to noise is too low or null; for a star, that of all its visits together."""

    def test(stars: FlagInput) -> Flags | None:
        column = next((name for name in ("snr_total", "snr") if stars.has(name)), None)
        return (
            None if column is None else ~(float_column(stars.table, column) >= getattr(stars.limits, limit))
        )

    return test


def object_type(*types: str) -> FlagTest:
    """Rows which the pipeline of the survey calls one of these."""

    def test(stars: FlagInput) -> Flags | None:
        if not stars.has("class"):
            return None
        column = pc.utf8_upper(stars.table["class"].cast(pa.string()))
        is_type = pc.fill_null(pc.is_in(column, pa.array(types)), False)
        return np.asarray(is_type.to_numpy(zero_copy_only=False))

    return test


def molecular_bands(stars: FlagInput) -> Flags | None:
    """Rows with bands of TiO and of CaH. Both are needed: carbon stars have other bands in one of them."""
    if not (stars.has("tio5") and stars.has("cah2")):
        return None
    tio5_N, cah2_N = float_column(stars.table, "tio5"), float_column(stars.table, "cah2")
    return np.asarray((tio5_N < stars.limits.tio5) & (cah2_N < stars.limits.cah2))


def hot_star(stars: FlagInput) -> Flags | None:
    """Rows with a wide H delta, or a high Teff by the networks: above 15,000 K H delta is narrow again."""
    if not (stars.has("h_delta") or stars.has("Teff")):
        return None
    teff_N = float_column(stars.table, "Teff") - np.nan_to_num(float_column(stars.table, "Teff_err"))
    is_wide_N = float_column(stars.table, "h_delta") > stars.limits.h_delta
    return np.asarray(is_wide_N | (teff_N > stars.limits.teff))


def by_bands(test: Callable[[pa.Table, FlagLimits], Flags]) -> FlagTest:
    """Rows which the bands of molecules say to be of a kind."""
    return lambda stars: test(stars.table, stars.limits) if any(map(stars.has, bands.NEEDED)) else None


def survey_type(stars: FlagInput) -> Flags | None:
    """Rows which the pipeline of the survey gives a type for which the lists were not tested."""
    return np.isin(survey_kinds(stars.table), [*OTHER_KINDS, "sky"])


def keys_disagree(stars: FlagInput) -> Flags | None:
    """Rows in which [Fe/H] by the networks and by lines differ by more than the limits; null does not."""
    if not (stars.has("FeH") and stars.has("FeH_lines")):
        return None
    difference_N = float_column(stars.table, "FeH") - float_column(stars.table, "FeH_lines")
    network_N, lines_N = (float_column(stars.table, name) for name in ("FeH_err", "FeH_lines_err"))
    return np.abs(difference_N) > stars.limits.key_difference(np.hypot(np.nan_to_num(network_N), lines_N))


def lines_deny(stars: FlagInput) -> Flags | None:
    """Rows which are not metal-poor by lines, by more than the limits; null is not known to be so."""
    if not stars.has("FeH_lines"):
        return None
    above_N = float_column(stars.table, "FeH_lines") - METAL_POOR["MP"]
    return above_N > stars.limits.key_difference(float_column(stars.table, "FeH_lines_err"))


def one_key(stars: FlagInput) -> Flags | None:
    """Rows that the networks call metal-poor, and about which the lines say nothing."""
    if not (stars.has("p_nmp") and stars.has("FeH_lines")):
        return None
    return (float_column(stars.table, "p_nmp") < MOSTLY) & np.isnan(float_column(stars.table, "FeH_lines"))


def any_label(test_label: Callable[[FlagInput, str], Flags], *endings: str) -> FlagTest:
    """Rows in which any label passes a test, which reads columns of these endings."""

    def test(stars: FlagInput) -> Flags | None:
        names = [name for name in label_names(stars.table) if all(stars.has(name + end) for end in endings)]
        by_label = [test_label(stars, name) for name in names]
        return np.logical_or.reduce(by_label) if by_label else None

    return test


def large_error(stars: FlagInput, name: str) -> Flags:
    """Rows whose error of a label is above its limit."""
    return float_column(stars.table, f"{name}_err") > stars.limits.largest_error(name)


def wide_interval(stars: FlagInput, name: str) -> Flags:
    """Rows whose interval of a label is wide."""
    width_N = float_column(stars.table, f"{name}_high") - float_column(stars.table, f"{name}_low")
    return width_N > 2 * stars.limits.interval * stars.limits.largest_error(name)


def at_edge(stars: FlagInput, name: str) -> Flags:
    """Rows whose label is at the edge of the range of the training stars, or outside."""
    low, high = stars.ranges.get(name, (-np.inf, np.inf))
    margin = stars.limits.edge * (high - low) if np.isfinite(high - low) else 0.0
    value_N = float_column(stars.table, name)
    return (value_N < low + margin) | (value_N > high - margin)


def extrapolated(stars: FlagInput, name: str) -> Flags:
    """Rows whose label is outside the range of the training stars."""
    low, high = stars.ranges.get(name, (-np.inf, np.inf))
    margin = stars.limits.edge * (high - low) if np.isfinite(high - low) else 0.0
    value_N = float_column(stars.table, name)
    return (value_N < low - margin) | (value_N > high + margin)
