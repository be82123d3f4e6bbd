"""The selection function of a list, from validation stars: its expected purity and completeness in bins of
signal to noise and temperature, and for each threshold that could have been chosen.

The purity of a bin takes for granted that the classes are spread over the bins in the survey as in
validation. The completeness of a bin does not. Shapes: N stars, C classes, X bins or thresholds.
"""

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.prior import FEW
from survey.catalog.purity import expected_completeness, expected_purity
from survey.catalog.selection_settings import SelectionBins
from survey.catalog.thresholds import Threshold
from survey.catalog.validation_stars import ValidationStars
from survey.catalog.visits import Flags, float_column
from survey.labels import CLASSES
from survey.metrics.intervals import Measure

SNR = ("snr_total", "snr", "snr_g")
"""Columns of signal to noise, best first."""
TEFF = ("Teff", "true_Teff")
"""Columns of temperature, best first: a user of the catalog has the predicted one."""

MEASURE_FIELDS = (
    ("metric", pa.string(), "purity (with the class shares of the survey) or completeness"),
    ("value", pa.float64(), "the value to be expected; null without validation stars"),
    ("low", pa.float64(), "lower end of its 95 % interval"),
    ("high", pa.float64(), "upper end of its 95 % interval"),
    (
        "n",
        pa.int64(),
        "validation stars behind it: those in the list (purity), or those that belong in it (completeness)",
    ),
    ("few", pa.bool_(), "these are too few for a useful value"),
)


def _schema(*fields: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, type_, metadata={"description": text}) for name, type_, text in fields])


BINS = _schema(
    ("search", pa.string(), "the list: MP or CEMP"),
    ("snr", pa.string(), "bin of signal to noise, or all"),
    ("Teff", pa.string(), "bin of temperature (K), or all"),
    ("snr_low", pa.float64(), "lower edge in signal to noise, included; null = open"),
    ("snr_high", pa.float64(), "upper edge in signal to noise, excluded; null = open"),
    ("Teff_low", pa.float64(), "lower edge in temperature (K), included; null = open"),
    ("Teff_high", pa.float64(), "upper edge in temperature (K), excluded; null = open"),
    *MEASURE_FIELDS,
)
CURVES = _schema(
    ("search", pa.string(), "the list: MP or CEMP"),
    ("threshold", pa.float64(), "a star is in the list if its score is at least this"),
    *MEASURE_FIELDS,
)
POINTS = 101
"""Thresholds of a curve, besides the one that was chosen."""


@dataclass(frozen=True)
class Bin:
    """A bin: its name, its edges (infinite = open), and which stars are in it."""

    name: str
    low: float
    high: float
    inside_N: Flags


def selection_function(
    validation: pa.Table, threshold: Threshold, bins: SelectionBins | None = None
) -> pa.Table:
    """Purity and completeness at a threshold: in total, by signal to noise, by temperature, and by both.

    The columns are those of `BINS`.
    """
    bins, stars = bins or SelectionBins(), ValidationStars.from_table(validation)
    name, mix, n_C = threshold.name, threshold.mix, stars.n_C
    listed_N = threshold.validation_score(stars) >= threshold.value
    snr_bins = _bins(validation, SNR, bins.snr, stars.row_N)
    teff_bins = _bins(validation, TEFF, bins.teff, stars.row_N)
    cells = list(product(snr_bins, teff_bins))
    inside_XN = np.stack([snr.inside_N & teff.inside_N for snr, teff in cells])
    n_XC, k_XC = _class_counts(inside_XN, stars.class_N), _class_counts(inside_XN & listed_N, stars.class_N)
    purity_optimism, completeness_optimism = threshold.optimism
    purity = expected_purity(k_XC, n_C, name, mix, purity_optimism)
    present_XC = n_XC / np.maximum(n_C, 1)
    completeness = expected_completeness(k_XC, n_XC, name, mix, completeness_optimism, present_XC)
    # the first cell holds all stars: what the list promises, to the last digit
    in_cells = list(zip(purity, completeness, strict=True))
    in_cells[0] = threshold.purity, threshold.completeness
    rows = [
        {"search": name, "snr": snr.name, "Teff": teff.name}
        | _edges("snr", snr)
        | _edges("Teff", teff)
        | _measure_row(measure)
        for (snr, teff), measures in zip(cells, in_cells, strict=True)
        for measure in measures
    ]
    return pa.Table.from_pylist(_promised(rows, threshold), BINS)


def threshold_curve(validation: pa.Table, threshold: Threshold) -> pa.Table:
    """Purity and completeness at other thresholds; columns as in `CURVES`.

    Class mix and optimism are those of this threshold, which is one of the points: there the curve has the
    values that the list promises.
    """
    stars = ValidationStars.from_table(validation)
    name, mix = threshold.name, threshold.mix
    score_N = threshold.validation_score(stars)
    threshold_X = np.union1d(np.linspace(0, 1, POINTS), [threshold.value])
    k_XC = _class_counts(np.stack([score_N >= value for value in threshold_X]), stars.class_N)
    purity = expected_purity(k_XC, stars.n_C, name, mix, threshold.optimism[0])
    completeness = expected_completeness(k_XC, stars.n_C, name, mix, threshold.optimism[1])
    chosen = threshold.purity, threshold.completeness
    rows = [
        {"search": name, "threshold": float(value)} | _measure_row(measure)
        for value, measures in zip(threshold_X, zip(purity, completeness, strict=True), strict=True)
        for measure in (chosen if value == threshold.value else measures)
    ]
    return pa.Table.from_pylist(_promised(rows, threshold), CURVES)


def _promised(rows: list[dict[str, Any]], threshold: Threshold) -> list[dict[str, Any]]:
    """The rows; without their values if nothing is promised of the list."""
    nothing = dict.fromkeys(("value", "low", "high")) if threshold.withheld else {}
    return [row | nothing for row in rows]


def _class_counts(chosen_XN: Flags, class_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of chosen stars of each class (X, C)."""
    return np.stack([np.bincount(class_N[chosen_N], minlength=len(CLASSES)) for chosen_N in chosen_XN])


def _bins(
    validation: pa.Table, columns: tuple[str, ...], edges: tuple[float, ...], row_N: NDArray[np.int64]
) -> list[Bin]:
    """A bin of all stars, then the bins in the first of these columns that the table has."""
    column = next((name for name in columns if name in validation.column_names), None)
    all_stars = Bin("all", -np.inf, np.inf, np.ones(len(row_N), bool))
    if column is None or not edges:
        return [all_stars]
    value_N = float_column(validation, column)[row_N]
    ends = [-np.inf, *edges, np.inf]
    names = [f"<{edges[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(edges)), f">{edges[-1]:g}"]
    bins = [
        Bin(name, low, high, (value_N >= low) & (value_N < high))
        for name, (low, high) in zip(names, pairwise(ends), strict=True)
    ]
    return [all_stars, *bins]


def _edges(column: str, bin_: Bin) -> dict[str, float | None]:
    return {
        f"{column}_low": bin_.low if np.isfinite(bin_.low) else None,
        f"{column}_high": bin_.high if np.isfinite(bin_.high) else None,
    }


def _measure_row(measure: Measure) -> dict[str, Any]:
    known = np.isfinite(measure.value)
    bounds = {name: getattr(measure, name) if known else None for name in ("value", "low", "high")}
    return {"metric": measure.metric} | bounds | {"n": measure.n, "few": measure.n < FEW}
