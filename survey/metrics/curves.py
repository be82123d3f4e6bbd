"""Curves over all thresholds of a score. Shape: N spectra."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from survey.metrics import checks
from survey.metrics.intervals import Floats


@dataclass(frozen=True)
class Curve:
    """Points (x, y) for every threshold, the strictest first, and the area under them (NaN: undefined)."""

    x: Floats
    y: Floats
    threshold: Floats
    area: float


def roc(positive_N: ArrayLike, score_N: ArrayLike) -> Curve:
    """The true positive rate (y) over the false positive rate (x)."""
    hits, false, threshold = _cumulative_counts(positive_N, score_N)
    if not hits[-1] or not false[-1]:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0), np.nan)
    x, y = false / false[-1], hits / hits[-1]
    return Curve(x, y, threshold, float(np.trapezoid(y, x)))


def precision_recall(positive_N: ArrayLike, score_N: ArrayLike) -> Curve:
    """Precision (y) over recall (x). The area is the average precision, a sum of steps without a bias."""
    hits, false, threshold = _cumulative_counts(positive_N, score_N)
    if not hits[-1]:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0), np.nan)
    recall, precision = hits / hits[-1], hits[1:] / (hits[1:] + false[1:])
    area = float((np.diff(recall) * precision).sum())
    return Curve(recall, np.concatenate([precision[:1], precision]), threshold, area)


def _cumulative_counts(positive_N: ArrayLike, score_N: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The positives and negatives with a score of at least each threshold.

    The thresholds are the distinct scores from the highest down, after one that no score reaches.
    """
    positive_N, score_N = np.asarray(positive_N, np.bool_), checks.finite("scores", score_N)
    order = np.argsort(-score_N, kind="stable")
    positive_N, score_N = positive_N[order], score_N[order]
    last = np.flatnonzero(np.append(np.diff(score_N) != 0, True)) if len(score_N) else np.zeros(0, np.int64)
    hits = np.cumsum(positive_N)[last].astype(np.float64)
    zero = np.zeros(1)
    return (
        np.concatenate([zero, hits]),
        np.concatenate([zero, last + 1 - hits]),
        np.concatenate([[np.inf], score_N[last]]),
    )
