"""The expected purity of a list down to each of its rows, so that a reader can cut the list where he likes.

A list that ends at a row holds the stars with the score of that row or more. Its purity is counted on
validation stars, as that of the whole list is (`survey.catalog.purity`): at the last row both are the same.
Shapes: N validation stars, K rows of the list, X scores at which purity is counted, C classes.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.answers import ColumnSpec
from survey.catalog.purity import expected_purity
from survey.catalog.thresholds import Threshold, in_any
from survey.catalog.validation_stars import ValidationStars
from survey.catalog.visits import Floats, float_column
from survey.labels import CLASSES
from survey.metrics.intervals import Measure
from survey.tables.columns import described_field

TEXT = "expected purity of the list down to this row, if it ended here"
COLUMNS: dict[str, ColumnSpec] = {
    "purity_to_here": (
        "float32",
        f"{TEXT}; null if no validation star has such a score, or nothing is promised",
        "",
        "stat.probability",
    ),
    "purity_to_here_low": (
        "float32",
        "lower end of the 95 % interval of purity_to_here",
        "",
        "stat.probability;stat.min",
    ),
    "purity_to_here_high": (
        "float32",
        "upper end of the 95 % interval of purity_to_here",
        "",
        "stat.probability;stat.max",
    ),
}
STEPS = 60
"""At most this many scores: purity is counted at rows whose ranks have even logarithms, in between it is
interpolated."""


def with_ranked_purity(ranked: pa.Table, validation: pa.Table, threshold: Threshold) -> pa.Table:
    """A list, best first, with the columns of `COLUMNS` behind its scores."""
    stars = ValidationStars.from_table(validation)
    values_3K = purity_down_to(float_column(ranked, threshold.column), stars, threshold)
    place = max(ranked.column_names.index(name) for name in ("rank", threshold.column)) + 1
    for number, (name, column) in enumerate(COLUMNS.items()):
        field = described_field(name, *column)
        array = pa.array(values_3K[number], field.type, from_pandas=True)
        ranked = ranked.add_column(place + number, field, array)
    return ranked


def purity_down_to(score_K: Floats, stars: ValidationStars, threshold: Threshold) -> Floats:
    """Purity and the ends of its interval (3, K) of the list that ends with each row; scores fall."""
    values_3K = np.full((3, len(score_K)), np.nan)
    if not len(score_K) or threshold.withheld:
        return values_3K
    score_N = _cut_score(stars, threshold)
    last_X = np.flatnonzero(np.append(np.diff(score_K) != 0, True))
    if len(last_X) > STEPS:
        rank_X = np.geomspace(1, len(last_X), STEPS).round().astype(np.int64)
        last_X = last_X[np.unique(rank_X) - 1]
    measures = [_measure(score_N, float(score_K[row]), stars, threshold) for row in last_X[:-1]]
    measures.append(threshold.purity)  # of the list as it is
    known_X = np.isfinite([measure.value for measure in measures])
    rows_X = last_X[known_X]
    if not len(rows_X):
        return values_3K
    # equal scores end together
    end_K = last_of_equal(score_K)
    for number, end in enumerate(("value", "low", "high")):
        known = [getattr(measure, end) for measure, known in zip(measures, known_X, strict=True) if known]
        values_3K[number] = np.interp(end_K, rows_X, known, left=np.nan)
    return values_3K


def last_of_equal(score_K: Floats) -> NDArray[np.int64]:
    """For each row the last row with the same score."""
    last = np.flatnonzero(np.append(np.diff(score_K) != 0, True))
    return np.asarray(last[np.searchsorted(last, np.arange(len(score_K)))])


def _cut_score(stars: ValidationStars, threshold: Threshold) -> Floats:
    """The score down to which the list must go to hold each validation star; -1 = never.

    A star that an inner list brings is ranked by its own score, and is in the whole list at any score.
    """
    score_N = stars.score(threshold.name, threshold.mix)
    brought_N = in_any(threshold.inner, stars.p_NC) & (score_N >= 0)
    return np.where(brought_N, np.maximum(score_N, threshold.value), score_N)


def _measure(score_N: Floats, score: float, stars: ValidationStars, threshold: Threshold) -> Measure:
    """The expected purity of the stars with this score or more; never of more stars than the list has."""
    listed_N = score_N >= max(score, threshold.value)
    k_1C = np.bincount(stars.class_N[listed_N], minlength=len(CLASSES))[None]
    purity = expected_purity(k_1C, stars.n_C, threshold.name, threshold.mix, threshold.optimism[0])
    return purity[0]
