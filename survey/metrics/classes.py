"""How well classes are told: counts, shares with intervals, curves over all thresholds, and whether probabilities mean what they say.

A spectrum's class is the most probable one. Spectra whose class is not known are left out. Shapes: N spectra, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.labels import CLASSES, MISSING
from survey.metrics import checks
from survey.metrics.intervals import (
    Counts,
    Floats,
    Measure,
    between,
    confusions_drawn,
    means_drawn,
    share,
    wilson,
)

Flags = NDArray[np.bool_]

PROBLEMS = {"MP_search": ("MP", "CEMP"), "CEMP_search": ("CEMP",)}
"""Searches as yes or no: the classes that are a yes, against all others."""


@dataclass(frozen=True)
class Curve:
    """What every threshold would give, from the strictest on: (x, y) at each threshold, and the area that sums it up (NaN: not defined)."""

    x: Floats
    y: Floats
    threshold: Floats
    area: float


@dataclass(frozen=True)
class Reliability:
    """In bins of what was said (mean probability): how often it was so, with its interval, and how many spectra."""

    said: Floats
    found: Floats
    low: Floats
    high: Floats
    n: Counts

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance between said and found."""
        return (
            float((self.n * np.abs(self.said - self.found)).sum() / self.n.sum()) if self.n.sum() else np.nan
        )


def problems(names: Sequence[str]) -> dict[str, list[int]]:
    """The searches that make sense among classes of these names, with the numbers of the classes that are a yes."""
    return {
        problem: [names.index(one) for one in yes]
        for problem, yes in PROBLEMS.items()
        if set(yes) < set(names)
    }


def confusion(class_N: ArrayLike, called_N: ArrayLike, size: int) -> Counts:
    """How often a true class (row) was called a class (column)."""
    said_N = np.asarray(called_N).astype(np.int64)
    truth_N = checks.class_numbers(class_N, size, len(said_N))
    truth_N, said_N = truth_N[truth_N != MISSING], said_N[truth_N != MISSING]
    wrong = (said_N < 0) | (said_N >= size)
    if wrong.any():
        raise ValueError(
            f"metrics: a spectrum was called class {said_N[wrong][0]}; classes are 0 to {size - 1}: give one of these"
        )
    return np.bincount(truth_N * size + said_N, minlength=size * size).reshape(size, size)


def merged(counts_CC: Counts, yes: Sequence[int]) -> Counts:
    """The confusion matrix (no, yes) of a search for some of the classes."""
    member = np.isin(np.arange(len(counts_CC)), yes).astype(np.int64)
    side_2C = np.stack([1 - member, member])
    return np.asarray(side_2C @ counts_CC @ side_2C.T)


def rates(counts_XCC: Counts) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class; NaN where none was called so, where there is none, where both is so."""
    hits_XC = np.diagonal(counts_XCC, axis1=-2, axis2=-1).astype(np.float64)
    said_XC, true_XC = counts_XCC.sum(-2), counts_XCC.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits_XC / said_XC, hits_XC / true_XC, 2 * hits_XC / (said_XC + true_XC)


def averages(counts_XCC: Counts) -> dict[str, Floats]:
    """Precision, recall and F1 averaged over classes by their numbers of spectra, F1 also by plain mean; what is not defined counts 0 there."""
    true_XC = counts_XCC.sum(-1)
    precision_XC, recall_XC, f1_XC = rates(counts_XCC)
    present_XC = np.isfinite(f1_XC)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight_XC = true_XC / true_XC.sum(-1, keepdims=True)
        made = {
            name: np.asarray((weight_XC * np.nan_to_num(rate_XC)).sum(-1))
            for name, rate_XC in (
                ("precision_weighted", precision_XC),
                ("recall_weighted", recall_XC),
                ("f1_weighted", f1_XC),
            )
        }
        return made | {"f1_macro": np.asarray(np.nan_to_num(f1_XC).sum(-1) / present_XC.sum(-1))}


def of_counts(counts_CC: Counts, names: Sequence[str], overall: str = "all") -> list[Measure]:
    """Accuracy, averages, and precision, recall and F1 of each class, from a confusion matrix."""
    n, hits = int(counts_CC.sum()), int(np.trace(counts_CC))
    if not n:
        return []
    drawn_RCC = confusions_drawn(counts_CC)
    made = [share(overall, "accuracy", hits, n)]
    drawn = averages(drawn_RCC)
    for name, value in averages(counts_CC).items():
        low, high = between(drawn[name], float(value))
        if low == high:  # each class was called one thing only: the bootstrap sees no spread
            low, high = map(float, wilson(n * value, n)) if name.endswith("weighted") else (np.nan, np.nan)
        made.append(Measure(overall, name, float(value), low, high, n))
    f1_C, f1_RC = rates(counts_CC)[2], rates(drawn_RCC)[2]
    for number, name in enumerate(names):
        hit, said, true = (
            int(counts_CC[number, number]),
            int(counts_CC[:, number].sum()),
            int(counts_CC[number].sum()),
        )
        low, high = _f1_between(f1_RC[:, number], float(f1_C[number]), hit, said + true - hit)
        made += [share(name, "precision", hit, said), share(name, "recall", hit, true)]
        made.append(Measure(name, "f1", float(f1_C[number]), low, high, true))
    return [measure for measure in made if np.isfinite(measure.value)]


def _f1_between(f1_R: Floats, value: float, hits: int, union: int) -> tuple[float, float]:
    """The bootstrap's interval; where that has no width (no error, or no hit, among few), Wilson's of hits / union, of which F1 is a function."""
    low, high = between(f1_R, value)
    if low < high or not union:
        return low, high
    bounds = np.array(wilson(hits, union))
    low, high = 2 * bounds / (1 + bounds)
    return float(low), float(high)


def roc(yes_N: ArrayLike, score_N: ArrayLike) -> Curve:
    """Share of the yes found (y) over share of the no taken for a yes (x)."""
    found, wrong, threshold = _stairs(yes_N, score_N)
    if not found[-1] or not wrong[-1]:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0), np.nan)
    x, y = wrong / wrong[-1], found / found[-1]
    return Curve(x, y, threshold, float(np.trapezoid(y, x)))


def precision_recall(yes_N: ArrayLike, score_N: ArrayLike) -> Curve:
    """Precision (y) over recall (x); the area is the average precision, a sum of steps that flatters nobody."""
    found, wrong, threshold = _stairs(yes_N, score_N)
    if not found[-1]:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0), np.nan)
    recall, precision = found / found[-1], found[1:] / (found[1:] + wrong[1:])
    return Curve(
        recall,
        np.concatenate([precision[:1], precision]),
        threshold,
        float((np.diff(recall) * precision).sum()),
    )


def _stairs(yes_N: ArrayLike, score_N: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """How many yes and no lie at or above each distinct score, from above; first that none does."""
    yes_N, score_N = np.asarray(yes_N, np.bool_), checks.finite("scores", score_N)
    order = np.argsort(-score_N, kind="stable")
    yes_N, score_N = yes_N[order], score_N[order]
    last = np.flatnonzero(np.append(np.diff(score_N) != 0, True)) if len(score_N) else np.zeros(0, np.int64)
    found = np.cumsum(yes_N)[last].astype(np.float64)
    start = np.zeros(1)
    return (
        np.concatenate([start, found]),
        np.concatenate([start, last + 1 - found]),
        np.concatenate([[np.inf], score_N[last]]),
    )


def reliability(so_N: ArrayLike, p_N: ArrayLike, bins: int = 10) -> Reliability:
    """What was said of an event against how often it was so, in bins of equal width; empty bins are left out."""
    so_N, p_N = np.asarray(so_N, np.float64), np.asarray(p_N, np.float64)
    bin_N = np.minimum((p_N * bins).astype(np.int64), bins - 1)
    n_M, said_M, found_M = (np.bincount(bin_N, weight, bins) for weight in (None, p_N, so_N))
    full = n_M > 0
    n_M, said_M, found_M = n_M[full], said_M[full], found_M[full]
    low_M, high_M = wilson(found_M, n_M)
    return Reliability(said_M / n_M, found_M / n_M, low_M, high_M, n_M.astype(np.int64))


def log_losses(truth_N: ArrayLike, p_NC: Floats) -> Floats:
    """-log of the probability given to the true class; none counts below 1e-12."""
    return np.asarray(-np.log(np.clip(p_NC[np.arange(len(p_NC)), np.asarray(truth_N)], 1e-12, 1)))


def briers(truth_N: ArrayLike, p_NC: Floats) -> Floats:
    """Squared distance, summed over classes (0 to 2), between the probabilities and the true class."""
    return np.asarray(((p_NC - np.eye(p_NC.shape[1])[np.asarray(truth_N)]) ** 2).sum(1))


def known(class_N: ArrayLike, said_NC: ArrayLike, classes: int) -> tuple[NDArray[np.int64], Floats]:
    """True classes and checked probabilities of the spectra whose class is known."""
    p_NC = checks.probabilities(said_NC, classes)
    truth_N = checks.class_numbers(class_N, classes, len(p_NC))
    some = truth_N != MISSING
    return truth_N[some], p_NC[some]


def measures(class_N: ArrayLike, said_NC: ArrayLike, names: Sequence[str] = CLASSES) -> list[Measure]:
    """Everything that class probabilities are judged by: all classes together, each class, each search."""
    truth_N, p_NC = known(class_N, said_NC, len(names))
    if not len(truth_N):
        return []
    said_N = p_NC.argmax(1)
    counts_CC = confusion(truth_N, said_N, len(names))
    found = of_counts(counts_CC, names) + _probable(truth_N, p_NC, said_N)
    for problem, yes in problems(list(names)).items():
        found += of_search(problem, merged(counts_CC, yes)) + of_scores(
            problem, np.isin(truth_N, yes), p_NC[:, yes].sum(1)
        )
    return found


def of_search(problem: str, counts_22: Counts) -> list[Measure]:
    """Accuracy, precision, recall and F1 of the yes of a search."""
    return [
        measure._replace(subject=problem)
        for measure in of_counts(counts_22, ("no", problem))
        if measure.metric == "accuracy" or measure.subject == problem
    ]


def _probable(truth_N: NDArray[np.int64], p_NC: Floats, said_N: NDArray[np.int64]) -> list[Measure]:
    """Whether the probabilities mean what they say, over all classes."""
    n = len(truth_N)
    parts_NK = np.stack([log_losses(truth_N, p_NC), briers(truth_N, p_NC)], 1)
    drawn_RK = means_drawn(parts_NK)
    made = [
        Measure("all", name, float(values.mean()), *between(drawn_R, float(values.mean())), n)
        for name, values, drawn_R in zip(("log_loss", "brier"), parts_NK.T, drawn_RK.T, strict=True)
    ]
    return [*made, Measure("all", "ece", reliability(said_N == truth_N, p_NC.max(1)).ece, n=n)]


def of_scores(problem: str, yes_N: Flags, score_N: Floats) -> list[Measure]:
    """Areas under the curves of a search and its calibration.

    Intervals are Wilson's for the number of independent spectra that an area is worth: for the ROC curve by the variance of Hanley and
    McNeil 1982, for the average precision the number of yes (Boyd et al. 2013).
    """
    yes, no = int(yes_N.sum()), int((~yes_N).sum())
    score_N = np.clip(score_N, 0, 1)
    area, average = roc(yes_N, score_N).area, precision_recall(yes_N, score_N).area
    made = [Measure(problem, "ece", reliability(yes_N, score_N).ece, n=yes + no)]
    if yes:
        made.append(share(problem, "average_precision", average * yes, yes))
    if yes and no:
        one, two = area / (2 - area), 2 * area**2 / (1 + area)
        spread = area * (1 - area) + (yes - 1) * (one - area**2) + (no - 1) * (two - area**2)
        worth = yes * no * area * (1 - area) / spread if 0 < area < 1 else min(yes, no)
        low, high = wilson(area * worth, worth)
        made.append(Measure(problem, "auc", area, float(low), float(high), yes))
    return made
