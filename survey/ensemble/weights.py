"""How much each member of an ensemble counts: equally, as a user says, or as the validation stars show.

For classes the weights that make a named metric best among all weights that are at least 0 and sum to 1; for labels one over the mean squared
error. Few validation stars tell little of the weights: the log loss is therefore pulled a little towards equal weights, and the other metrics,
which go by steps, prefer of equally good weights the ones nearest to equal. Shapes: M members, N spectra, C classes, L labels.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey.ensemble.combine import Floats, How, Told, Weights, voted, votes
from survey.labels import MISSING
from survey.metrics.checks import class_numbers
from survey.metrics.classes import confusion, rates

Metric = Literal["log_loss", "accuracy", "f1_cemp", "f1_mp", "f1_macro"]
"""What weights for classes are to make best."""

SURE = 1e-7
"""No member counts as surer than this that a star is not of its class."""
PRIOR = 3.0
"""Validation stars that each member is given in advance, in the log loss."""
ROUNDS, STILL = 10_000, 1e-9
"""The expectation maximisation ends when no weight moves by more."""
LEAST = 20
"""An error of a label that fewer validation stars tell is chance: one star that a member hits would silence all others."""
EXACT = 1e-12
"""An error this small relative to the largest is none: members without any share the weight."""
STEPS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Weight that is moved from one member to another in the search for the other metrics, coarse steps first."""

Classes = NDArray[Any]
Score = Callable[[NDArray[np.int64]], float]


def equal(told: Told, how: How = "mean") -> Weights:
    """The same weight for all who say a thing."""
    return fixed(told, np.ones(told.members), how)


def fixed(told: Told, given_M: ArrayLike, how: How = "mean") -> Weights:
    """The weights that a user gives, made to sum to 1 over those who say a thing."""
    weight_M = np.asarray(given_M, np.float64)
    if weight_M.shape != (told.members,):
        raise ValueError(
            f"ensemble: weights: {weight_M.size} numbers for {told.members} members; give one for each, in their order"
        )
    if not np.isfinite(weight_M).all() or (weight_M < 0).any():
        raise ValueError(f"ensemble: weights: {weight_M.tolist()}; give finite numbers of 0 or more")
    if not weight_M.any():
        raise ValueError("ensemble: weights: all are 0; give at least one member a weight")
    says_MX = np.concatenate([told.class_givers()[:, None], told.label_givers()], 1)
    for name, says_M in zip(("classes", *told.labels), says_MX.T, strict=True):
        if says_M.any() and not weight_M[says_M].any():
            raise ValueError(
                f"ensemble: weights: all members that give {name} have the weight 0; give one of them a weight"
            )
    weight_MX = _normalised(weight_M[:, None] * says_MX)
    return Weights(weight_MX[:, 0], weight_MX[:, 1:], how)


def from_validation(
    told: Told, class_N: Classes, label_NL: Floats, metric: Metric = "log_loss", how: How = "mean"
) -> Weights:
    """Both kinds of weights from validation stars; members without classes have none for these."""
    class_M = (
        best_simplex(told, class_N, metric, how) if told.class_givers().any() else np.zeros(told.members)
    )
    return Weights(class_M, inverse_mse(told, label_NL), how)


def _normalised(weight_MX: Floats) -> Floats:
    """Weights that sum to 1 over the members; 0 where none has any."""
    total_X = weight_MX.sum(0)
    return np.asarray(weight_MX / np.where(total_X > 0, total_X, 1))


def best_simplex(told: Told, class_N: Classes, metric: Metric = "log_loss", how: How = "mean") -> Floats:
    """The weights (M) with which the metric is best on validation stars; class -1 is unknown.

    `f1_cemp` and `f1_mp` are the F1 of that class. The log loss is that of the mean of probabilities also where members vote, as votes have none.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"ensemble: metric: there is no {metric!r}; there are {', '.join(get_args(Metric))}")
    says_M = told.class_givers()
    truth_N = class_numbers(class_N, len(told.classes), len(told))
    some_N = (truth_N != MISSING) & told.says_class()[says_M].all(0)
    if not says_M.any() or not some_N.any():
        raise ValueError(
            f"ensemble: weights from validation: of {len(told):,} validation spectra none has a known class and an answer of every member; "
            "give weights=equal, or validation stars with classes"
        )
    truth_N, p_MNC = truth_N[some_N], told.p_MNC[says_M][:, some_N]
    weight_M = np.zeros(told.members)
    weight_M[says_M] = (
        _likeliest(p_MNC, truth_N)
        if metric == "log_loss"
        else _searched(p_MNC, truth_N, _score(metric, told.classes, truth_N), how)
    )
    return weight_M


def _likeliest(p_MNC: Floats, truth_N: NDArray[np.int64]) -> Floats:
    """The weights of least log loss, by expectation maximisation: it goes down in every round, and the loss has one minimum."""
    own_MN = np.clip(p_MNC[:, np.arange(len(truth_N)), truth_N], SURE, 1)
    members, rows = own_MN.shape
    weight_M = np.full(members, 1 / members)
    for _ in range(ROUNDS):
        before_M = weight_M
        due_M = weight_M * (own_MN / (weight_M @ own_MN)).sum(1)
        weight_M = (due_M + PRIOR) / (rows + members * PRIOR)
        if np.abs(weight_M - before_M).max() < STILL:
            break
    return np.asarray(weight_M / weight_M.sum())


def _score(metric: Metric, classes: tuple[str, ...], truth_N: NDArray[np.int64]) -> Score:
    """A metric of the classes that stars are called, from 0 to 1."""
    if metric == "accuracy":
        return lambda called_N: float((called_N == truth_N).mean())
    upper = [name.upper() for name in classes]
    one = metric.removeprefix("f1_").upper()
    if metric != "f1_macro" and one not in upper:
        raise ValueError(
            f"ensemble: metric={metric}: the members have no class {one}, but {', '.join(classes)}; give metric=f1_macro or log_loss"
        )
    wanted = list(range(len(classes))) if metric == "f1_macro" else [upper.index(one)]
    if absent := [classes[number] for number in wanted if not (truth_N == number).any()]:
        raise ValueError(
            f"ensemble: metric={metric}: none of {len(truth_N):,} validation stars is {' or '.join(absent)}; "
            "give metric=log_loss, or a split with such stars in its validation part (split.stratify=true)"
        )
    return lambda called_N: float(
        np.nan_to_num(rates(confusion(truth_N, called_N, len(classes)))[2][wanted]).mean()
    )


def _searched(p_MNC: Floats, truth_N: NDArray[np.int64], score: Score, how: How) -> Floats:
    """The weights of best score that walks find from equal weights, those of least log loss, and each member alone; of equals the most equal."""
    members, vote_MNC = len(p_MNC), votes(p_MNC)

    def worth(weight_M: Floats) -> tuple[float, float]:
        share_MN = np.broadcast_to(weight_M[:, None], p_MNC.shape[:2])
        p_NC = voted(p_MNC, vote_MNC, share_MN) if how == "vote" else np.tensordot(weight_M, p_MNC, 1)
        return score(p_NC.argmax(1)), -round(float(((weight_M - 1 / members) ** 2).sum()), 9)

    starts = [np.full(members, 1 / members), _likeliest(p_MNC, truth_N), *np.eye(members)]
    ends = [_climbed(start_M, worth) for start_M in starts]
    return max(ends, key=worth)


def _climbed(weight_M: Floats, worth: Callable[[Floats], tuple[float, float]]) -> Floats:
    """Where a walk ends that takes, as long as one is better, the best of all moves of a step's weight from one member to another."""
    best_M, value = weight_M, worth(weight_M)
    for step in STEPS:
        while True:
            moved = list(_moves(best_M, step))
            values = [worth(one_M) for one_M in moved]
            if not values or max(values) <= value:
                break
            value = max(values)
            best_M = moved[values.index(value)]
    return best_M


def _moves(weight_M: Floats, step: float) -> Iterator[Floats]:
    """The weights with a step less for one member and as much more for another."""
    for giver, taker in permutations(range(len(weight_M)), 2):
        if weight_M[giver] > 0:
            moved_M = weight_M.copy()
            moved_M[taker] += min(step, weight_M[giver])
            moved_M[giver] -= min(step, weight_M[giver])
            yield moved_M


def inverse_mse(told: Told, label_NL: Floats) -> Floats:
    """Weights (M, L) in proportion to one over the mean squared error on validation stars; NaN labels are unknown.

    A label counts where it is known and all who give it do; where that is of too few stars, those who give it have equal weights.
    """
    truth_NL = np.asarray(label_NL, np.float64)
    if truth_NL.shape != told.mu_MNL.shape[1:]:
        raise ValueError(
            f"ensemble: true labels of shape {truth_NL.shape} beside answers of shape {told.mu_MNL.shape[1:]}; give one row per spectrum, "
            "one column per label"
        )
    says_ML = told.label_givers()
    some_NL = np.isfinite(truth_NL) & (told.says_label() | ~says_ML[:, None]).all(0)
    square_MNL = np.where(some_NL & says_ML[:, None], (told.mu_MNL - truth_NL) ** 2, 0)
    mse_ML = square_MNL.sum(1) / np.maximum(some_NL.sum(0), 1)
    least_L = np.where(some_NL.sum(0) < LEAST, 0, np.max(mse_ML, 0) * EXACT)
    return _normalised(says_ML / np.where(least_L > 0, np.maximum(mse_ML, least_L), 1))
