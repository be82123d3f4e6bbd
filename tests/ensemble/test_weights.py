"""Weights of members against scipy's optimisers, searches over every weight, and scikit-learn."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn import metrics as sk

from survey.ensemble.combine import Told, combine
from survey.ensemble.weights import PRIOR, best_simplex, equal, fixed, from_validation, inverse_mse
from tests.ensemble import answers

METRICS = {
    "accuracy": sk.accuracy_score,
    "f1_cemp": lambda truth, said: sk.f1_score(truth, said, labels=[1], average="macro", zero_division=0),
    "f1_mp": lambda truth, said: sk.f1_score(truth, said, labels=[0], average="macro", zero_division=0),
    "f1_macro": lambda truth, said: sk.f1_score(
        truth, said, labels=[0, 1, 2], average="macro", zero_division=0
    ),
}


def judged(rows: int, skill: tuple[float, ...], seed: int = 0) -> tuple[Told, np.ndarray]:
    """Members that know more or less of the true classes, of which CEMP is the rarest."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, rows, p=[0.45, 0.1, 0.45])
    truth[:3] = range(3)
    logits = np.stack([rng.normal(0, 1, (rows, 3)) + np.eye(3)[truth] * one for one in skill])
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return answers.classified(p), truth


def test_equal_weights_are_shared_by_those_who_say_a_thing() -> None:
    told = answers.told(4)
    told.p_MNC[1] = np.nan
    told.mu_MNL[:2, :, 1] = np.nan
    weights = equal(told, "vote")
    assert weights.class_M == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert weights.label_ML == pytest.approx(np.array([[0.25, 0], [0.25, 0], [0.25, 0.5], [0.25, 0.5]]))
    assert weights.how == "vote"


def test_given_weights_sum_to_one_over_those_who_say_a_thing() -> None:
    told = answers.told(3)
    told.mu_MNL[0, :, 1] = np.nan
    weights = fixed(told, [1.2, 1.1, 0.7])
    assert weights.class_M == pytest.approx(np.array([1.2, 1.1, 0.7]) / 3)
    assert weights.label_ML[:, 1] == pytest.approx([0, 1.1 / 1.8, 0.7 / 1.8])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 60), members=st.integers(1, 4))
def test_weights_of_least_log_loss_are_those_that_scipy_finds(seed: int, rows: int, members: int) -> None:
    told, truth = judged(rows, tuple(np.random.default_rng(seed).uniform(0, 3, members)), seed)
    own = told.p_MNC[:, np.arange(rows), truth]

    def loss(weight: np.ndarray) -> float:
        return float(-np.log(weight @ own).sum() - PRIOR * np.log(weight).sum())

    sums = {"type": "eq", "fun": lambda weight: weight.sum() - 1}
    start = np.full(members, 1 / members)
    other = minimize(
        loss, start, method="SLSQP", bounds=[(1e-6, 1)] * members, constraints=[sums], options={"ftol": 1e-12}
    )
    found = best_simplex(told, truth)
    assert found.sum() == pytest.approx(1)
    assert loss(found) <= other.fun + 1e-6
    assert found == pytest.approx(other.x, abs=1e-3)


def test_the_weights_behind_the_truth_are_found_again() -> None:
    """Classes drawn from a mixture of members are best told by the mixture."""
    rng, true = np.random.default_rng(0), [0.6, 0.3, 0.1]
    p = rng.dirichlet([0.5] * 3, (3, 30_000))
    mixed = np.tensordot(true, p, 1)
    truth = (rng.random((30_000, 1)) > mixed.cumsum(1)).sum(1)
    assert best_simplex(answers.classified(p), truth) == pytest.approx(true, abs=0.02)


def test_few_validation_stars_do_not_silence_a_member() -> None:
    told, truth = judged(10, (6, 0.5, 0.5))
    weights = best_simplex(told, truth)
    assert 0.1 < weights[1:].min() < weights[0] < 0.6


@pytest.mark.parametrize("how", ["mean", "vote"])
@pytest.mark.parametrize("metric", list(METRICS))
def test_no_other_weights_give_a_better_metric(metric: str, how: str) -> None:
    told, truth = judged(120, (1.0, 1.6, 1.3), seed=3)

    def worth(weight: np.ndarray) -> float:
        return METRICS[metric](truth, combine(told, fixed(told, weight, how)).p_NC.argmax(1))

    found = best_simplex(told, truth, metric, how)
    grid = [
        np.array([one, other, 20 - one - other])
        for one, other in product(range(21), repeat=2)
        if one + other <= 20
    ]
    best = max(worth(weight) for weight in grid)
    assert worth(found) >= best - 0.004
    assert worth(found) >= worth(np.ones(3))


@pytest.mark.parametrize("metric", ["log_loss", *METRICS])
def test_members_that_say_the_same_count_the_same(metric: str) -> None:
    told, truth = judged(60, (1.5,))
    assert best_simplex(answers.of(told, [0, 0, 0]), truth, metric) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("metric", list(METRICS))
def test_of_equally_good_weights_the_most_equal_ones_are_taken(metric: str) -> None:
    told, truth = judged(60, (9.0, 8.0, 7.0))
    assert best_simplex(told, truth, metric) == pytest.approx([1 / 3] * 3)


def test_a_member_that_is_wrong_is_left_out_by_a_metric_that_goes_by_steps() -> None:
    told, truth = judged(200, (3.0, -4.0))
    weights = best_simplex(told, truth, "accuracy")
    assert weights[0] > 0.8


def test_stars_of_unknown_class_and_members_without_classes_do_not_count() -> None:
    told, truth = judged(80, (1.0, 2.0, 1.5))
    expected = best_simplex(answers.of(told, [0, 1], slice(0, 60)), truth[:60])
    told.p_MNC[2] = np.nan
    truth[60:70] = -1
    told.p_MNC[0, 70:] = np.nan
    assert best_simplex(told, truth) == pytest.approx([*expected, 0])


def test_weights_of_labels_are_one_over_the_mean_squared_error() -> None:
    told, truth = answers.told(3, 50), np.random.default_rng(1).normal(0, 2, (50, 2))
    truth[:10, 0] = np.nan
    told.mu_MNL[0, 40:, 0] = np.nan
    told.mu_MNL[2, :, 1] = np.nan
    found = inverse_mse(told, truth)
    for label, rows, members in ((0, slice(10, 40), [0, 1, 2]), (1, slice(0, 50), [0, 1])):
        one_over = np.array(
            [
                1 / sk.mean_squared_error(truth[rows, label], told.mu_MNL[member, rows, label])
                for member in members
            ]
        )
        assert found[members, label] == pytest.approx(one_over / one_over.sum())
    assert found[2, 1] == 0


def test_a_label_without_known_truth_and_members_without_error_share_equally() -> None:
    told = answers.told(3, 20)
    truth = np.stack([np.full(20, np.nan), told.mu_MNL[0, :, 1]], 1)
    told.mu_MNL[1, :, 1] = told.mu_MNL[0, :, 1]
    found = inverse_mse(told, truth)
    assert found[:, 0] == pytest.approx([1 / 3] * 3)
    assert found[:, 1] == pytest.approx([0.5, 0.5, 0], abs=1e-9)


def test_a_label_that_few_stars_tell_is_shared_equally() -> None:
    told, truth = answers.told(3, 40), np.random.default_rng(1).normal(0, 2, (40, 2))
    truth[1:, 0], truth[0, 0] = np.nan, told.mu_MNL[0, 0, 0]
    found = inverse_mse(told, truth)
    assert found[:, 0] == pytest.approx([1 / 3] * 3)
    assert found[:, 1] != pytest.approx([1 / 3] * 3)


def test_validation_gives_both_kinds_of_weights() -> None:
    told, truth, labels = answers.told(3), np.arange(40) % 3, np.zeros((40, 2))
    weights = from_validation(told, truth, labels, "accuracy", "vote")
    assert weights.class_M == pytest.approx(best_simplex(told, truth, "accuracy", "vote"))
    assert weights.label_ML == pytest.approx(inverse_mse(told, labels))
    assert weights.how == "vote"
    assert not from_validation(
        answers.labelled([[1.0, 2.0]] * 2), np.array([-1, -1]), np.zeros((2, 1))
    ).class_M.any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["log_loss", "accuracy"]))
def test_neither_the_order_of_members_nor_that_of_stars_changes_a_weight(seed: int, metric: str) -> None:
    told, truth = judged(50, (1.0, 1.7, 0.4), seed)
    rng = np.random.default_rng(seed)
    order, rows = rng.permutation(3), rng.permutation(50)
    first, second = (
        best_simplex(told, truth, metric),
        best_simplex(answers.of(told, order, rows), truth[rows], metric),
    )
    if metric == "log_loss":
        assert second == pytest.approx(first[order], abs=1e-6)
    else:
        values = [
            METRICS[metric](truth, np.tensordot(one, told.p_MNC, 1).argmax(1))
            for one in (first, second[np.argsort(order)])
        ]
        assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda told: fixed(told, [1, 2]),
            "weights: 2 numbers for 3 members; give one for each, in their order",
        ),
        (
            lambda told: fixed(told, [1, -2, 1]),
            r"weights: \[1.0, -2.0, 1.0\]; give finite numbers of 0 or more",
        ),
        (lambda told: fixed(told, [1, np.nan, 1]), "give finite numbers of 0 or more"),
        (lambda told: fixed(told, [0, 0, 0]), "weights: all are 0; give at least one member a weight"),
        (
            lambda told: best_simplex(told, np.zeros(40), "f2"),
            "metric: there is no 'f2'; there are log_loss, accuracy, f1_cemp",
        ),
        (
            lambda told: best_simplex(told, np.full(40, -1)),
            "of 40 validation spectra none has a known class .* give weights=equal",
        ),
        (
            lambda told: best_simplex(told, np.arange(40) % 2 * 2, "f1_cemp"),
            "f1_cemp: none of 40 validation stars is CEMP; give metric=log_loss",
        ),
        (
            lambda told: best_simplex(told, np.zeros(40), "f1_macro"),
            "none of 40 validation stars is CEMP or NMP",
        ),
        (
            lambda told: inverse_mse(told, np.zeros((40, 3))),
            r"true labels of shape \(40, 3\) beside answers of shape \(40, 2\)",
        ),
    ],
)
def test_weights_that_cannot_be_are_told(wrong: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(answers.told(3))


def test_a_class_that_no_member_has_is_told() -> None:
    told = replace(answers.classified(np.full((2, 5, 2), 0.5)), classes=("M0", "M1"))
    with pytest.raises(
        ValueError, match="the members have no class CEMP, but M0, M1; give metric=f1_macro or log_loss"
    ):
        best_simplex(told, np.zeros(5), "f1_cemp")


def test_a_label_whose_members_all_have_no_weight_is_told() -> None:
    told = answers.told(3)
    told.mu_MNL[:2, :, 1] = np.nan
    with pytest.raises(
        ValueError, match="all members that give L1 have the weight 0; give one of them a weight"
    ):
        fixed(told, [1, 1, 0])
