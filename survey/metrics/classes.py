"""Metrics of classes: counts, shares with intervals, areas under curves, calibration.

The predicted class of a spectrum is the most probable one. Spectra whose true class is unknown are left out.
`star_N` has a number per star: where stars have several spectra, intervals are those of stars.
Shapes: N spectra, C classes, M bins, R draws, X any leading axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.labels import CLASSES, MISSING
from survey.metrics import checks
from survey.metrics.curves import precision_recall, roc
from survey.metrics.intervals import (
    Counts,
    Floats,
    Measure,
    count_stars,
    percentile_interval,
    resample_means,
    share_measure,
    wilson,
)
from survey.metrics.settings import SEARCHES
from survey.metrics.star_visits import Visits, independent, is_positive

Flags = NDArray[np.bool_]

SMALLEST_PROBABILITY = 1e-12
"""A smaller probability of the true class counts as this one in the log loss."""


@dataclass(frozen=True)
class Reliability:
    """For each bin of probability: its mean, the observed frequency with its interval, spectra and stars."""

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    n: Counts
    stars: Counts

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of probability and frequency."""
        total = self.n.sum()
        return float((self.n * np.abs(self.predicted - self.observed)).sum() / total) if total else np.nan


def searches(names: Sequence[str]) -> dict[str, list[int]]:
    """The searches that are possible among these classes, with the numbers of their positive classes."""
    return {
        search: [names.index(name) for name in positives]
        for search, positives in SEARCHES.items()
        if set(positives) < set(names)
    }


def confusion(class_N: ArrayLike, predicted_N: ArrayLike, size: int) -> Counts:
    """How often spectra of a true class (row) were predicted as a class (column)."""
    column_N = np.asarray(predicted_N).astype(np.int64)
    row_N = checks.class_numbers(class_N, size, len(column_N))
    is_known_N = row_N != MISSING
    row_N, column_N = row_N[is_known_N], column_N[is_known_N]
    wrong_N = (column_N < 0) | (column_N >= size)
    if wrong_N.any():
        raise ValueError(
            f"metrics: predicted classes: one is {column_N[wrong_N][0]}; give a class from 0 to {size - 1}"
        )
    return np.bincount(row_N * size + column_N, minlength=size * size).reshape(size, size)


def merge_classes(counts_CC: Counts, positives: Sequence[int]) -> Counts:
    """The confusion matrix (negative, positive) of a search for some of the classes."""
    is_positive_C = np.isin(np.arange(len(counts_CC)), positives).astype(np.int64)
    side_2C = np.stack([1 - is_positive_C, is_positive_C])
    return np.asarray(side_2C @ counts_CC @ side_2C.T)


def rates(counts_XCC: Counts) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class.

    NaN where no spectrum was predicted as the class (precision), where none is of the class (recall), where
    both is the case (F1).
    """
    hits_XC = np.diagonal(counts_XCC, axis1=-2, axis2=-1).astype(np.float64)
    predicted_XC, true_XC = counts_XCC.sum(-2), counts_XCC.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits_XC / predicted_XC, hits_XC / true_XC, 2 * hits_XC / (predicted_XC + true_XC)


def f1_of_class(counts_XCC: Counts, number: int) -> Floats:
    """F1 of one class, as `rates` defines it."""
    hits_X = counts_XCC[..., number, number]
    both_X = counts_XCC[..., number].sum(-1) + counts_XCC[..., number, :].sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * hits_X / both_X)


def averages(counts_XCC: Counts) -> dict[str, Floats]:
    """Averages over classes: precision, recall and F1 weighted by spectra, and the plain mean of F1.

    An undefined rate counts as 0.
    """
    true_XC = counts_XCC.sum(-1)
    precision_XC, recall_XC, f1_XC = rates(counts_XCC)
    weighted = {"precision_weighted": precision_XC, "recall_weighted": recall_XC, "f1_weighted": f1_XC}
    with np.errstate(invalid="ignore", divide="ignore"):
        weight_XC = true_XC / true_XC.sum(-1, keepdims=True)
        averages_X = {
            name: np.asarray((weight_XC * _or_zero(rate_XC)).sum(-1)) for name, rate_XC in weighted.items()
        }
        return averages_X | {"f1_macro": np.asarray(_or_zero(f1_XC).sum(-1) / np.isfinite(f1_XC).sum(-1))}


def _or_zero(rate_XC: Floats) -> Floats:
    return np.where(np.isfinite(rate_XC), rate_XC, 0.0)


def measure_predictions(
    class_N: ArrayLike,
    predicted_N: ArrayLike,
    names: Sequence[str],
    star_N: Counts | None = None,
    overall: str = "all",
) -> list[Measure]:
    """Accuracy, averages, and precision, recall and F1 of each class, from predicted classes."""
    counts_CC = confusion(class_N, predicted_N, len(names))
    return measure_counts(counts_CC, names, overall, Visits.of(class_N, predicted_N, len(names), star_N))


def measure_counts(
    counts_CC: Counts, names: Sequence[str], overall: str = "all", visits: Visits | None = None
) -> list[Measure]:
    """Accuracy, averages, and precision, recall and F1 of each class, from a confusion matrix."""
    if not counts_CC.sum():
        return []
    visits = visits or Visits.single(counts_CC)
    results = [_accuracy(counts_CC, visits, overall), *_measure_averages(counts_CC, visits, overall)]
    for number, name in enumerate(names):
        results += _measure_class(counts_CC, visits, number, name)
    return [measure for measure in results if np.isfinite(measure.value)]


def _accuracy(counts_CC: Counts, visits: Visits, subject: str) -> Measure:
    hits, n = int(np.trace(counts_CC)), int(counts_CC.sum())
    return share_measure(subject, "accuracy", hits, n, visits.all, visits.stars)


def _measure_averages(counts_CC: Counts, visits: Visits, overall: str) -> list[Measure]:
    n = int(counts_CC.sum())
    worth, drawn = n * visits.all, averages(visits.drawn_RCC)
    results = []
    for name, value in averages(counts_CC).items():
        low, high = percentile_interval(drawn[name], float(value))
        if low == high:  # every class was predicted as one class only: the bootstrap has no scatter
            low, high = (
                map(float, wilson(worth * value, worth)) if name.endswith("weighted") else (np.nan, np.nan)
            )
        results.append(Measure(overall, name, float(value), low, high, n, visits.stars))
    return results


def _measure_class(counts_CC: Counts, visits: Visits, number: int, name: str) -> list[Measure]:
    """Precision, recall and F1 of one class."""
    f1, f1_R = (f1_of_class(counts, number) for counts in (counts_CC, visits.drawn_RCC))
    hits = int(counts_CC[number, number])
    predicted, true = int(counts_CC[:, number].sum()), int(counts_CC[number].sum())
    of_predicted, of_true = float(visits.predicted_C[number]), float(visits.true_C[number])
    least, true_stars = min(of_predicted, of_true), visits.true_stars[number]
    low, high = _f1_interval(f1_R, float(f1), hits * least, (predicted + true - hits) * least)
    return [
        share_measure(name, "precision", hits, predicted, of_predicted, visits.predicted_stars[number]),
        share_measure(name, "recall", hits, true, of_true, true_stars),
        Measure(name, "f1", float(f1), low, high, true, true_stars),
    ]


def _f1_interval(f1_R: Floats, value: float, hits: float, union: float) -> tuple[float, float]:
    """The interval of the bootstrap, or one from Wilson's where the bootstrap has no width.

    That happens among few spectra without an error or without a hit. F1 is a function of hits / union.
    """
    low, high = percentile_interval(f1_R, value)
    if low < high or not union:
        return low, high
    bounds = np.array(wilson(hits, union))
    low, high = 2 * bounds / (1 + bounds)
    return float(low), float(high)


def reliability(
    event_N: ArrayLike, p_N: ArrayLike, bins: int = 10, star_N: Counts | None = None
) -> Reliability:
    """Predicted probability of an event against its frequency, in bins of equal width without empty ones."""
    event_N, p_N = np.asarray(event_N, np.float64), np.asarray(p_N, np.float64)
    bin_N = np.minimum((p_N * bins).astype(np.int64), bins - 1)
    n_M, predicted_M, observed_M = (np.bincount(bin_N, weight, bins) for weight in (None, p_N, event_N))
    is_filled_M = n_M > 0
    n_M, predicted_M, observed_M = n_M[is_filled_M], predicted_M[is_filled_M], observed_M[is_filled_M]
    share_M, stars_M = np.ones(len(n_M)), n_M.astype(np.int64)
    if star_N is not None:
        inside_M = [bin_N == number for number in np.flatnonzero(is_filled_M)]
        share_M = np.array([independent(event_N, star_N, inside_N) for inside_N in inside_M])
        stars_M = np.array([len(np.unique(star_N[inside_N])) for inside_N in inside_M], np.int64)
    low_M, high_M = wilson(observed_M * share_M, n_M * share_M)
    return Reliability(predicted_M / n_M, observed_M / n_M, low_M, high_M, n_M.astype(np.int64), stars_M)


def log_losses(truth_N: ArrayLike, p_NC: Floats) -> Floats:
    """-log of the probability of the true class."""
    p_N = p_NC[np.arange(len(p_NC)), np.asarray(truth_N)]
    return np.asarray(-np.log(np.clip(p_N, SMALLEST_PROBABILITY, 1)))


def brier_scores(truth_N: ArrayLike, p_NC: Floats) -> Floats:
    """Squared distance of the probabilities and the true class, summed over classes (0 to 2)."""
    return np.asarray(((p_NC - np.eye(p_NC.shape[1])[np.asarray(truth_N)]) ** 2).sum(1))


def with_known_class(class_N: ArrayLike, p_NC: ArrayLike, classes: int) -> tuple[NDArray[np.int64], Floats]:
    """True classes and checked probabilities of the spectra whose true class is known."""
    p_NC = checks.probabilities(p_NC, classes)
    truth_N = checks.class_numbers(class_N, classes, len(p_NC))
    is_known_N = truth_N != MISSING
    return truth_N[is_known_N], p_NC[is_known_N]


def measures(
    class_N: ArrayLike, p_NC: ArrayLike, names: Sequence[str] = CLASSES, star_N: Counts | None = None
) -> list[Measure]:
    """All metrics of class probabilities: over all classes, of each class, of each search."""
    truth_N, p_NC = with_known_class(class_N, p_NC, len(names))
    if not len(truth_N):
        return []
    star_N = None if star_N is None else star_N[np.asarray(class_N) != MISSING]
    predicted_N = p_NC.argmax(1)
    results = measure_predictions(truth_N, predicted_N, names, star_N)
    results += _measure_probabilities(truth_N, p_NC, predicted_N, star_N)
    for search, positives in searches(list(names)).items():
        results += measure_search(search, truth_N, predicted_N, positives, star_N)
        results += measure_scores(search, np.isin(truth_N, positives), p_NC[:, positives].sum(1), star_N)
    return results


def measure_search(
    search: str,
    class_N: ArrayLike,
    predicted_N: ArrayLike,
    positives: Sequence[int],
    star_N: Counts | None = None,
) -> list[Measure]:
    """Accuracy, and precision, recall and F1 of the positives of a search."""
    sides = is_positive(class_N, positives), is_positive(predicted_N, positives)
    counts_22 = confusion(*sides, 2)
    if not counts_22.sum():
        return []
    visits = Visits.of(*sides, 2, star_N) or Visits.single(counts_22)
    found = [_accuracy(counts_22, visits, search), *_measure_class(counts_22, visits, 1, search)]
    return [measure for measure in found if np.isfinite(measure.value)]


def _measure_probabilities(
    truth_N: NDArray[np.int64], p_NC: Floats, predicted_N: NDArray[np.int64], star_N: Counts | None
) -> list[Measure]:
    """Log loss, Brier score and calibration error over all classes."""
    n, stars = len(truth_N), count_stars(star_N)
    scores_NK = np.stack([log_losses(truth_N, p_NC), brier_scores(truth_N, p_NC)], 1)
    drawn_RK = resample_means(scores_NK, star_N=star_N)
    results = []
    for name, score_N, drawn_R in zip(("log_loss", "brier"), scores_NK.T, drawn_RK.T, strict=True):
        value = float(score_N.mean())
        results.append(Measure("all", name, value, *percentile_interval(drawn_R, value), n, stars))
    ece = reliability(predicted_N == truth_N, p_NC.max(1)).ece
    return [*results, Measure("all", "ece", ece, n=n, stars=stars)]


def measure_scores(
    search: str, positive_N: Flags, score_N: Floats, star_N: Counts | None = None
) -> list[Measure]:
    """Areas under the curves of a search, and its calibration error.

    Intervals are Wilson's, for the number of independent spectra that an area is worth: for the ROC curve by
    the variance of Hanley and McNeil 1982, for the average precision the number of positives (Boyd et al.
    2013).
    """
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    score_N = np.clip(score_N, 0, 1)
    area, average = roc(positive_N, score_N).area, precision_recall(positive_N, score_N).area
    ece, stars = (
        reliability(positive_N, score_N).ece,
        None if star_N is None else count_stars(star_N[positive_N]),
    )
    results = [Measure(search, "ece", ece, n=positives + negatives, stars=count_stars(star_N))]
    of_positives, of_negatives = (
        independent(score_N, star_N, side_N) for side_N in (positive_N, ~positive_N)
    )
    if positives:
        hits = average * positives
        results.append(share_measure(search, "average_precision", hits, positives, of_positives, stars))
    if positives and negatives:
        few, many = positives * of_positives, negatives * of_negatives
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)  # as Hanley and McNeil name them
        variance = area * (1 - area) + (few - 1) * (q1 - area**2) + (many - 1) * (q2 - area**2)
        worth: float = min(few, many)
        if 0 < area < 1:
            worth = few * many * area * (1 - area) / variance
        low, high = wilson(area * worth, worth)
        results.append(Measure(search, "auc", area, float(low), float(high), positives, stars))
    return results
