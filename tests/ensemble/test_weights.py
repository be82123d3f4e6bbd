"""Weights of members, against scipy's optimisers, searches over all weights, and scikit-learn."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn import metrics as sk

from survey.ensemble.combine import MemberAnswers
from survey.ensemble.settings import Combination, Metric
from survey.ensemble.weights import (
    PRIOR,
    equal_weights,
    fit_class_weights,
    fit_label_weights,
    fit_weights,
    user_weights,
)
from tests.ensemble import random_members

METRICS: dict[str, Callable[..., float]] = {
    "accuracy": sk.accuracy_score,
    "f1_cemp": lambda truth, predicted: sk.f1_score(
        truth, predicted, labels=[1], average="macro", zero_division=0
    ),
    "f1_mp": lambda truth, predicted: sk.f1_score(
        truth, predicted, labels=[0], average="macro", zero_division=0
    ),
    "f1_macro": lambda truth, predicted: sk.f1_score(
        truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0
    ),
}


def skilled(rows: int, skill: tuple[float, ...], seed: int = 0) -> tuple[MemberAnswers, np.ndarray]:
    """Members that know the true classes more or less well, with the true classes; CEMP is the rarest."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, rows, p=[0.45, 0.1, 0.45])
    truth[:3] = range(3)
    logits = np.stack([rng.normal(0, 1, (rows, 3)) + np.eye(3)[truth] * factor for factor in skill])
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return random_members.class_answers(p), truth


def test_equal_weights_go_to_the_members_with_an_answer() -> None:
    answers = random_members.answers(4)
    answers.p_MNC[1] = np.nan
    answers.value_MNL[:2, :, 1] = np.nan
    weights = equal_weights(answers, "vote")
    assert weights.class_M == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert weights.label_ML == pytest.approx(np.array([[0.25, 0], [0.25, 0], [0.25, 0.5], [0.25, 0.5]]))
    assert weights.combine == "vote"


def test_user_weights_sum_to_one_over_the_members_with_an_answer() -> None:
    answers = random_members.answers(3)
    answers.value_MNL[0, :, 1] = np.nan
    weights = user_weights(answers, [1.2, 1.1, 0.7])
    assert weights.class_M == pytest.approx(np.array([1.2, 1.1, 0.7]) / 3)
    assert weights.label_ML[:, 1] == pytest.approx([0, 1.1 / 1.8, 0.7 / 1.8])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 60), members=st.integers(1, 4))
def test_weights_of_least_log_loss_are_those_that_scipy_finds(seed: int, rows: int, members: int) -> None:
    answers, truth = skilled(rows, tuple(np.random.default_rng(seed).uniform(0, 3, members)), seed)
    p_true = answers.p_MNC[:, np.arange(rows), truth]

    def loss(weight: np.ndarray) -> float:
        return float(-np.log(weight @ p_true).sum() - PRIOR * np.log(weight).sum())

    sums = {"type": "eq", "fun": lambda weight: weight.sum() - 1}
    start = np.full(members, 1 / members)
    other = minimize(
        loss, start, method="SLSQP", bounds=[(1e-6, 1)] * members, constraints=[sums], options={"ftol": 1e-12}
    )
    found = fit_class_weights(answers, truth)
    assert found.sum() == pytest.approx(1)
    assert loss(found) <= other.fun + 1e-6
    assert found == pytest.approx(other.x, abs=1e-3)


def test_the_weights_of_a_true_mixture_are_recovered() -> None:
    """Classes drawn from a mixture of members are best answers by the mixture."""
    rng, true = np.random.default_rng(0), [0.6, 0.3, 0.1]
    p = rng.dirichlet([0.5] * 3, (3, 30_000))
    mixed = np.tensordot(true, p, 1)
    truth = (rng.random((30_000, 1)) > mixed.cumsum(1)).sum(1)
    assert fit_class_weights(random_members.class_answers(p), truth) == pytest.approx(true, abs=0.02)


def test_few_validation_stars_leave_every_member_some_weight() -> None:
    answers, truth = skilled(10, (6, 0.5, 0.5))
    weights = fit_class_weights(answers, truth)
    assert 0.1 < weights[1:].min() < weights[0] < 0.6


@pytest.mark.parametrize("combination", ["mean", "vote"])
@pytest.mark.parametrize("metric", list(METRICS))
def test_no_other_weights_give_a_better_metric(metric: Metric, combination: Combination) -> None:
    answers, truth = skilled(120, (1.0, 1.6, 1.3), seed=3)

    def classes(weight: np.ndarray) -> np.ndarray:
        weights = user_weights(answers, weight, combination)
        return np.asarray(random_members.combined(answers, weights).p_NC.argmax(1))

    def worth(weight: np.ndarray) -> float:
        return float(METRICS[metric](truth, classes(weight)))

    found = fit_class_weights(answers, truth, metric, combination)
    grid = [
        np.array([one, other, 12 - one - other])
        for one, other in product(range(13), repeat=2)
        if one + other <= 12
    ]
    distinct = np.unique([classes(weight) for weight in grid], axis=0)  # many weights give the same classes
    best = max(METRICS[metric](truth, predicted) for predicted in distinct)
    assert worth(found) >= best - 0.004
    assert worth(found) >= worth(np.ones(3))


@pytest.mark.parametrize("metric", ["log_loss", *METRICS])
def test_members_with_equal_answers_have_equal_weights(metric: Metric) -> None:
    answers, truth = skilled(60, (1.5,))
    assert fit_class_weights(random_members.select(answers, [0, 0, 0]), truth, metric) == pytest.approx(
        [1 / 3] * 3
    )


@pytest.mark.parametrize("metric", list(METRICS))
def test_among_equally_good_weights_the_most_equal_ones_are_taken(metric: Metric) -> None:
    answers, truth = skilled(60, (9.0, 8.0, 7.0))
    assert fit_class_weights(answers, truth, metric) == pytest.approx([1 / 3] * 3)


def test_a_metric_that_changes_in_steps_leaves_out_a_wrong_member() -> None:
    answers, truth = skilled(200, (3.0, -4.0))
    weights = fit_class_weights(answers, truth, "accuracy")
    assert weights[0] > 0.8


def test_stars_of_unknown_class_and_members_without_classes_have_no_influence() -> None:
    answers, truth = skilled(80, (1.0, 2.0, 1.5))
    expected = fit_class_weights(random_members.select(answers, [0, 1], slice(0, 60)), truth[:60])
    answers.p_MNC[2] = np.nan
    truth[60:70] = -1
    answers.p_MNC[0, 70:] = np.nan
    assert fit_class_weights(answers, truth) == pytest.approx([*expected, 0])


def test_weights_of_labels_are_one_over_the_mean_squared_error() -> None:
    answers, truth = random_members.answers(3, 50), np.random.default_rng(1).normal(0, 2, (50, 2))
    truth[:10, 0] = np.nan
    answers.value_MNL[0, 40:, 0] = np.nan
    answers.value_MNL[2, :, 1] = np.nan
    found = fit_label_weights(answers, truth)
    for label, rows, members in ((0, slice(10, 40), [0, 1, 2]), (1, slice(0, 50), [0, 1])):
        one_over = np.array(
            [
                1 / sk.mean_squared_error(truth[rows, label], answers.value_MNL[member, rows, label])
                for member in members
            ]
        )
        assert found[members, label] == pytest.approx(one_over / one_over.sum())
    assert found[2, 1] == 0


def test_a_label_without_truth_and_members_without_error_have_equal_weights() -> None:
    answers = random_members.answers(3, 20)
    truth = np.stack([np.full(20, np.nan), answers.value_MNL[0, :, 1]], 1)
    answers.value_MNL[1, :, 1] = answers.value_MNL[0, :, 1]
    found = fit_label_weights(answers, truth)
    assert found[:, 0] == pytest.approx([1 / 3] * 3)
    assert found[:, 1] == pytest.approx([0.5, 0.5, 0], abs=1e-9)


def test_a_label_with_few_known_stars_has_equal_weights() -> None:
    answers, truth = random_members.answers(3, 40), np.random.default_rng(1).normal(0, 2, (40, 2))
    truth[1:, 0], truth[0, 0] = np.nan, answers.value_MNL[0, 0, 0]
    found = fit_label_weights(answers, truth)
    assert found[:, 0] == pytest.approx([1 / 3] * 3)
    assert found[:, 1] != pytest.approx([1 / 3] * 3)


def test_fitted_weights_are_of_classes_and_of_labels() -> None:
    answers, truth, labels = random_members.answers(3), np.arange(40) % 3, np.zeros((40, 2))
    weights = fit_weights(answers, truth, labels, "accuracy", "vote")
    assert weights.class_M == pytest.approx(fit_class_weights(answers, truth, "accuracy", "vote"))
    assert weights.label_ML == pytest.approx(fit_label_weights(answers, labels))
    assert weights.combine == "vote"
    assert not fit_weights(
        random_members.label_answers([[1.0, 2.0]] * 2), np.array([-1, -1]), np.zeros((2, 1))
    ).class_M.any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["log_loss", "accuracy"]))
def test_the_order_of_members_and_stars_changes_no_weight(seed: int, metric: Metric) -> None:
    answers, truth = skilled(50, (1.0, 1.7, 0.4), seed)
    rng = np.random.default_rng(seed)
    order, rows = rng.permutation(3), rng.permutation(50)
    first, second = (
        fit_class_weights(answers, truth, metric),
        fit_class_weights(random_members.select(answers, order, rows), truth[rows], metric),
    )
    if metric == "log_loss":
        assert second == pytest.approx(first[order], abs=1e-6)
    else:
        values = [
            METRICS[metric](truth, np.tensordot(one, answers.p_MNC, 1).argmax(1))
            for one in (first, second[np.argsort(order)])
        ]
        assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda answers: user_weights(answers, [1, 2]),
            "weights: 2 numbers for 3 members; give one per member, in their order",
        ),
        (
            lambda answers: user_weights(answers, [1, -2, 1]),
            r"weights: \[1.0, -2.0, 1.0\]; give finite numbers of 0 or more",
        ),
        (lambda answers: user_weights(answers, [1, np.nan, 1]), "give finite numbers of 0 or more"),
        (
            lambda answers: user_weights(answers, [0, 0, 0]),
            "weights: all are 0; give at least one member a weight above 0",
        ),
        (
            lambda answers: fit_class_weights(answers, np.zeros(40), "f2"),  # type: ignore[arg-type]
            "metric: there is no 'f2'; there are log_loss, accuracy, f1_cemp",
        ),
        (
            lambda answers: fit_class_weights(answers, np.full(40, -1)),
            "none of 40 validation spectra has a known class .* give weights=equal",
        ),
        (
            lambda answers: fit_class_weights(answers, np.arange(40) % 2 * 2, "f1_cemp"),
            "f1_cemp: none of 40 validation stars is CEMP; give metric=log_loss",
        ),
        (
            lambda answers: fit_class_weights(answers, np.zeros(40), "f1_macro"),
            "none of 40 validation stars is CEMP or NMP",
        ),
        (
            lambda answers: fit_label_weights(answers, np.zeros((40, 3))),
            r"true labels of shape \(40, 3\), answers of shape \(40, 2\)",
        ),
    ],
)
def test_impossible_weights_are_an_error(wrong: Callable[[MemberAnswers], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(random_members.answers(3))


def test_a_class_that_no_member_has_is_an_error() -> None:
    answers = replace(random_members.class_answers(np.full((2, 5, 2), 0.5)), classes=("M0", "M1"))
    with pytest.raises(
        ValueError, match="the members have no class CEMP, but M0, M1; give metric=f1_macro or log_loss"
    ):
        fit_class_weights(answers, np.zeros(5), "f1_cemp")


def test_a_label_whose_members_all_have_weight_0_is_an_error() -> None:
    answers = random_members.answers(3)
    answers.value_MNL[:2, :, 1] = np.nan
    with pytest.raises(
        ValueError, match="all members that give L1 have the weight 0; give one of them a weight"
    ):
        user_weights(answers, [1, 1, 0])


def test_ten_visits_of_few_stars_are_no_validation_stars() -> None:
    answers, star_N = random_members.answers(3, 150), np.repeat(np.arange(15), 10)
    truth = np.random.default_rng(1).normal(0, 2, (150, 2))
    assert fit_label_weights(answers, truth, star_N) == pytest.approx(np.full((3, 2), 1 / 3))
    assert fit_label_weights(answers, truth) != pytest.approx(np.full((3, 2), 1 / 3))


def test_equal_visits_of_stars_change_no_weight() -> None:
    answers, class_N = skilled(50, (1.0, 1.7, 0.4), 0)
    labels, row_N = (
        np.random.default_rng(2).normal(0, 2, (50, len(answers.labels))),
        np.repeat(np.arange(50), 5),
    )
    again = answers.at(np.arange(3), row_N)
    once = fit_weights(answers, class_N, labels)
    weights = fit_weights(again, class_N[row_N], labels[row_N], star_N=row_N)
    assert weights.class_M == pytest.approx(once.class_M)
    assert weights.label_ML == pytest.approx(once.label_ML)
