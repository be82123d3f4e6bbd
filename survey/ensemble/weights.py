"""The weight of each member: equal, as a user says, or fitted to validation stars, each with one visit.

For classes: the weights with the best value of a metric, among all weights that are at least 0 and sum to
1. For labels: one over the mean squared error. A few validation stars say little about the weights.
Therefore the log loss is pulled a little towards equal weights; the other metrics change in steps, and
among equally good weights the ones nearest to equal weights are taken. Shapes: M members, N spectra, C
classes, L labels.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.ensemble.calibration import one_visit
from survey.ensemble.combine import Floats, MemberAnswers, Weights, vote_shares, votes
from survey.ensemble.settings import Combination, Metric
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import confusion, rates

SMALLEST = 1e-7
"""A smaller probability of the true class counts as this."""
PRIOR = 3.0
"""Stars that each member is credited with in advance, in the log loss; this pulls towards equal weights."""
ROUNDS, CONVERGED = 10_000, 1e-9
"""The expectation maximisation ends when no weight changes by more."""
LEAST = 20
"""With fewer validation stars the error of a label is chance: one lucky star would give a member all the
weight.
"""
EXACT = 1e-12
"""An error this small relative to the largest counts as 0: members without any error share the weight."""
STEPS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Weight that the search moves from one member to another, for the metrics that change in steps; coarse
first.
"""

Classes = NDArray[Any]
Codes = NDArray[np.int64]
Score = Callable[[NDArray[np.int64]], float]


def equal_weights(answers: MemberAnswers, combine: Combination = "mean") -> Weights:
    """The same weight for all members that give the classes, or a label."""
    return user_weights(answers, np.ones(answers.members), combine)


def user_weights(answers: MemberAnswers, weights: ArrayLike, combine: Combination = "mean") -> Weights:
    """The weights of a user, divided by their sum over the members that give the classes, or a label."""
    weight_M = np.asarray(weights, np.float64)
    if weight_M.shape != (answers.members,):
        raise ValueError(
            f"ensemble: weights: {weight_M.size} numbers for {answers.members} members; "
            "give one per member, in their order"
        )
    if not np.isfinite(weight_M).all() or (weight_M < 0).any():
        raise ValueError(f"ensemble: weights: {weight_M.tolist()}; give finite numbers of 0 or more")
    if not weight_M.any():
        raise ValueError("ensemble: weights: all are 0; give at least one member a weight above 0")
    gives_MX = np.concatenate([answers.gives_class()[:, None], answers.gives_label()], 1)
    for name, gives_M in zip(("classes", *answers.labels), gives_MX.T, strict=True):
        if gives_M.any() and not weight_M[gives_M].any():
            raise ValueError(
                f"ensemble: weights: all members that give {name} have the weight 0; give one of them a "
                "weight"
            )
    weight_MX = _normalise(weight_M[:, None] * gives_MX)
    return Weights(weight_MX[:, 0], weight_MX[:, 1:], combine)


def fit_weights(
    answers: MemberAnswers,
    class_N: Classes,
    label_NL: Floats,
    metric: Metric = "log_loss",
    combine: Combination = "mean",
    star_N: Codes | None = None,
) -> Weights:
    """The weights for classes and for labels, fitted to validation stars; a member without classes has none
    for them. `star_N` is a number per star; without it each spectrum is of a star of its own.
    """
    if answers.gives_class().any():
        class_M = fit_class_weights(answers, class_N, metric, combine, star_N)
    else:
        class_M = np.zeros(answers.members)
    return Weights(class_M, fit_label_weights(answers, label_NL, star_N), combine)


def _normalise(weight_MX: Floats) -> Floats:
    """Weights that sum to 1 over the members; 0 where no member has any."""
    total_X = weight_MX.sum(0)
    return np.asarray(weight_MX / np.where(total_X > 0, total_X, 1))


def fit_class_weights(
    answers: MemberAnswers,
    class_N: Classes,
    metric: Metric = "log_loss",
    combine: Combination = "mean",
    star_N: Codes | None = None,
) -> Floats:
    """The weights (M) with the best metric on validation stars; class -1 is unknown.

    `f1_cemp` and `f1_mp` are the F1 of that class. The log loss is always that of the mean of
    probabilities, because votes have none.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"ensemble: metric: there is no {metric!r}; there are {', '.join(get_args(Metric))}")
    gives_M = answers.gives_class()
    truth_N = class_numbers(class_N, len(answers.classes), len(answers))
    usable_N = (truth_N != MISSING) & answers.has_class()[gives_M].all(0)
    if not gives_M.any() or not usable_N.any():
        raise ValueError(
            f"ensemble: weights from validation: none of {len(answers):,} validation spectra has a known "
            "class and an answer of every member; give weights=equal, or validation stars with classes"
        )
    visit_V = one_visit(usable_N, np.arange(len(answers)) if star_N is None else star_N)
    truth_N, p_MNC = truth_N[visit_V], answers.p_MNC[gives_M][:, visit_V]
    weight_M = np.zeros(answers.members)
    if metric == "log_loss":
        weight_M[gives_M] = _least_log_loss(p_MNC, truth_N)
    else:
        weight_M[gives_M] = _search(p_MNC, truth_N, _score(metric, answers.classes, truth_N), combine)
    return weight_M


def _least_log_loss(p_MNC: Floats, truth_N: NDArray[np.int64]) -> Floats:
    """The weights of least log loss, by expectation maximisation.

    The loss decreases in every round and has one minimum.
    """
    p_true_MN = np.clip(p_MNC[:, np.arange(len(truth_N)), truth_N], SMALLEST, 1)
    members, rows = p_true_MN.shape
    weight_M = np.full(members, 1 / members)
    for _ in range(ROUNDS):
        previous_M = weight_M
        expected_M = weight_M * (p_true_MN / (weight_M @ p_true_MN)).sum(1)
        weight_M = (expected_M + PRIOR) / (rows + members * PRIOR)
        if np.abs(weight_M - previous_M).max() < CONVERGED:
            break
    return np.asarray(weight_M / weight_M.sum())


def _score(metric: Metric, classes: tuple[str, ...], truth_N: NDArray[np.int64]) -> Score:
    """A metric of predicted classes, from 0 to 1."""
    if metric == "accuracy":
        return lambda predicted_N: float((predicted_N == truth_N).mean())
    upper = [name.upper() for name in classes]
    wanted_class = metric.removeprefix("f1_").upper()
    if metric != "f1_macro" and wanted_class not in upper:
        raise ValueError(
            f"ensemble: metric={metric}: the members have no class {wanted_class}, but {', '.join(classes)}; "
            "give metric=f1_macro or log_loss"
        )
    wanted = list(range(len(classes))) if metric == "f1_macro" else [upper.index(wanted_class)]
    if absent := [classes[number] for number in wanted if not (truth_N == number).any()]:
        raise ValueError(
            f"ensemble: metric={metric}: none of {len(truth_N):,} validation stars is "
            f"{' or '.join(absent)}; give "
            "metric=log_loss, or a split with such stars in its validation part (split.stratify=true)"
        )

    def f1(predicted_N: NDArray[np.int64]) -> float:
        f1_C = rates(confusion(truth_N, predicted_N, len(classes)))[2]
        return float(np.nan_to_num(f1_C[wanted]).mean())

    return f1


def _search(p_MNC: Floats, truth_N: NDArray[np.int64], score: Score, combine: Combination) -> Floats:
    """The weights of best score that climbs find; among equals the ones nearest to equal weights.

    The climbs start from equal weights, from those of least log loss, and from each member alone.
    """
    members, vote_MNC = len(p_MNC), votes(p_MNC)

    def worth(weight_M: Floats) -> tuple[float, float]:
        if combine == "vote":
            share_MN = np.broadcast_to(weight_M[:, None], p_MNC.shape[:2])
            p_NC = vote_shares(p_MNC, vote_MNC, share_MN)
        else:
            p_NC = np.tensordot(weight_M, p_MNC, 1)
        from_equal = float(((weight_M - 1 / members) ** 2).sum())
        return score(p_NC.argmax(1)), -round(from_equal, 9)

    starts = [np.full(members, 1 / members), _least_log_loss(p_MNC, truth_N), *np.eye(members)]
    ends = [_climb(start_M, worth) for start_M in starts]
    return max(ends, key=worth)


def _climb(weight_M: Floats, worth: Callable[[Floats], tuple[float, float]]) -> Floats:
    """Moves weight from one member to another, each time by the best move, until no move is better."""
    best_M, best = weight_M, worth(weight_M)
    for step in STEPS:
        while True:
            moved = list(_moves(best_M, step))
            values = [worth(moved_M) for moved_M in moved]
            if not values or max(values) <= best:
                break
            best = max(values)
            best_M = moved[values.index(best)]
    return best_M


def _moves(weight_M: Floats, step: float) -> Iterator[Floats]:
    """All weights with a step less for one member and as much more for another."""
    for giver, taker in permutations(range(len(weight_M)), 2):
        if weight_M[giver] > 0:
            moved_M = weight_M.copy()
            moved_M[taker] += min(step, weight_M[giver])
            moved_M[giver] -= min(step, weight_M[giver])
            yield moved_M


def fit_label_weights(answers: MemberAnswers, label_NL: Floats, star_N: Codes | None = None) -> Floats:
    """Weights (M, L) in proportion to one over the mean squared error on validation stars; NaN labels are
    unknown.

    A star counts for a label if the label is known and all members that give the label have an answer. If
    these stars are too few, the members that give the label have equal weights.
    """
    truth_NL = np.asarray(label_NL, np.float64)
    if truth_NL.shape != answers.value_MNL.shape[1:]:
        raise ValueError(
            f"ensemble: true labels of shape {truth_NL.shape}, answers of shape "
            f"{answers.value_MNL.shape[1:]}; give one row per spectrum and one column per label"
        )
    gives_ML = answers.gives_label()
    usable_NL = np.isfinite(truth_NL) & (answers.has_label() | ~gives_ML[:, None]).all(0)
    if star_N is not None:
        for number, usable_N in enumerate(usable_NL.T.copy()):
            usable_NL[:, number] = np.isin(np.arange(len(usable_N)), one_visit(usable_N, star_N))
    square_MNL = np.where(usable_NL & gives_ML[:, None], (answers.value_MNL - truth_NL) ** 2, 0)
    mse_ML = square_MNL.sum(1) / np.maximum(usable_NL.sum(0), 1)
    least_L = np.where(usable_NL.sum(0) < LEAST, 0, np.max(mse_ML, 0) * EXACT)
    return _normalise(gives_ML / np.where(least_L > 0, np.maximum(mse_ML, least_L), 1))
