"""Combined answers, against plain loops, scipy and the moments of mixtures."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.ensemble.combine import MemberAnswers, Weights
from survey.ensemble.settings import Combination
from survey.ensemble.weights import equal_weights, user_weights
from tests.ensemble import random_members
from tests.ensemble.random_members import combined

seeds = st.integers(0, 2**32 - 1)
missing_shares = st.sampled_from([0.0, 0.3, 0.8])
COMBINATIONS: tuple[Combination, ...] = ("mean", "vote")
ARRAYS = (
    "p_NC",
    "class_entropy_N",
    "class_entropy_model_N",
    "value_NL",
    "err_data_NL",
    "err_model_NL",
    "spread_NL",
)


def random_weights(answers: MemberAnswers, seed: int) -> Weights:
    return user_weights(answers, np.random.default_rng(seed).dirichlet(np.ones(answers.members)))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 5), share=missing_shares)
def test_probabilities_are_the_weighted_mean_of_the_members_that_answer(
    seed: int, members: int, share: float
) -> None:
    answers = random_members.answers(members, 12, seed=seed, missing=share)
    weights = random_weights(answers, seed)
    result = combined(answers, weights)
    for row in range(len(answers)):
        used = [member for member in range(members) if np.isfinite(answers.p_MNC[member, row]).all()]
        if not used:
            assert np.isnan(result.p_NC[row]).all()
            assert np.isnan([result.class_entropy_N[row], result.class_entropy_model_N[row]]).all()
            continue
        p = np.average(answers.p_MNC[used, row], axis=0, weights=weights.class_M[used])
        assert result.p_NC[row] == pytest.approx(p)
        assert result.class_entropy_N[row] == pytest.approx(stats.entropy(p))
        entropies = [stats.entropy(answers.p_MNC[member, row]) for member in used]
        mean = np.average(entropies, weights=weights.class_M[used])
        assert result.class_entropy_model_N[row] == pytest.approx(stats.entropy(p) - mean, abs=1e-12)
        assert 0 <= result.class_entropy_model_N[row] <= result.class_entropy_N[row]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 5), share=missing_shares)
def test_errors_of_labels_are_the_moments_of_the_mixture_of_members(
    seed: int, members: int, share: float
) -> None:
    """The total variance is the mean of value² + variance, less the square of the mean."""
    answers = random_members.answers(members, 12, seed=seed, missing=share)
    weights = random_weights(answers, seed)
    result = combined(answers, weights)
    for row, label in np.ndindex(result.value_NL.shape):
        value, var_data, var_passes = (
            array[:, row, label]
            for array in (answers.value_MNL, answers.var_data_MNL, answers.var_passes_MNL)
        )
        used = np.isfinite(value)
        errors = (result.err_data_NL, result.err_model_NL, result.spread_NL, result.err_NL)
        if not used.any():
            assert np.isnan([array[row, label] for array in (result.value_NL, *errors)]).all()
            continue
        w = weights.label_ML[used, label] / weights.label_ML[used, label].sum()
        mean = w @ value[used]
        assert result.value_NL[row, label] == pytest.approx(mean)
        var_model = w @ (value[used] ** 2 + var_passes[used]) - mean**2
        assert result.err_model_NL[row, label] ** 2 == pytest.approx(var_model, abs=1e-9)
        assert result.spread_NL[row, label] == pytest.approx(value[used].std())
        has_var = used & np.isfinite(var_data)
        if not has_var.any():
            assert np.isnan([result.err_data_NL[row, label], result.err_NL[row, label]]).all()
            continue
        mean_var = np.average(var_data[has_var], weights=weights.label_ML[has_var, label])
        assert result.err_data_NL[row, label] == pytest.approx(np.sqrt(mean_var))
        whole_error = np.sqrt(mean_var + result.err_model_NL[row, label] ** 2)
        assert result.err_NL[row, label] == pytest.approx(whole_error)


def test_the_whole_error_is_the_scatter_of_draws_from_the_members() -> None:
    rng = np.random.default_rng(1)
    answers = random_members.select(random_members.answers(4, 1, 1), rows=[0])
    answers = replace(answers, var_passes_MNL=np.zeros_like(answers.var_passes_MNL))
    weights = random_weights(answers, 1)
    member = rng.choice(4, 200_000, p=weights.label_ML[:, 0])
    values = rng.normal(answers.value_MNL[member, 0, 0], np.sqrt(answers.var_data_MNL[member, 0, 0]))
    result = combined(answers, weights)
    assert result.value_NL[0, 0] == pytest.approx(values.mean(), abs=0.03)
    assert result.err_NL[0, 0] == pytest.approx(values.std(), rel=0.01)


def test_the_answers_of_a_single_member_stay_the_same_to_the_last_bit() -> None:
    answers = random_members.answers(1, 200)
    for combination in COMBINATIONS:
        result = combined(answers, equal_weights(answers, combination))
        assert combination == "vote" or np.array_equal(result.p_NC, answers.p_MNC[0])
        assert np.array_equal(result.value_NL, answers.value_MNL[0])
        assert np.array_equal(result.err_data_NL, np.sqrt(answers.var_data_MNL[0]))
    without_passes = replace(answers, var_passes_MNL=np.zeros_like(answers.var_passes_MNL))
    result = combined(without_passes)
    assert np.array_equal(result.err_NL, np.sqrt(answers.var_data_MNL[0]))
    assert not result.err_model_NL.any()
    assert not result.class_entropy_model_N.any()


@settings(max_examples=20, deadline=None)
@given(seed=seeds, members=st.integers(2, 5), share=missing_shares, combination=st.sampled_from(COMBINATIONS))
def test_the_order_of_members_and_spectra_and_the_scale_of_weights_change_nothing(
    seed: int, members: int, share: float, combination: Combination
) -> None:
    answers = random_members.answers(members, 15, seed=seed, missing=share)
    rng = np.random.default_rng(seed)
    weight_M = rng.gamma(1, 1, members)
    order, rows = rng.permutation(members), rng.permutation(len(answers))
    first = combined(answers, user_weights(answers, weight_M, combination)).at(rows)
    moved = random_members.select(answers, order, rows)
    second = combined(moved, user_weights(moved, 7 * weight_M[order], combination))
    for name in ARRAYS:
        one, other = getattr(first, name), getattr(second, name)
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True), name


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 6), share=missing_shares)
def test_the_class_with_most_votes_wins_and_a_tie_goes_to_the_likelier_class(
    seed: int, members: int, share: float
) -> None:
    answers = random_members.answers(members, 20, seed=seed, missing=share)
    weights = equal_weights(answers, "vote")
    result = combined(answers, weights)
    means = combined(answers, replace(weights, combine="mean")).p_NC
    for row in range(len(answers)):
        predicted = [p.argmax() for p in answers.p_MNC[:, row] if np.isfinite(p).all()]
        if not predicted:
            assert np.isnan(result.p_NC[row]).all()
            continue
        votes = np.bincount(predicted, minlength=3)
        most = np.flatnonzero(votes == votes.max())
        assert result.p_NC[row].argmax() == most[means[row, most].argmax()]
        assert result.p_NC[row].sum() == pytest.approx(1)
        if len(most) == 1:
            assert result.p_NC[row] == pytest.approx(votes / votes.sum())


def test_classes_that_tie_divide_their_votes_by_their_probabilities() -> None:
    answers = random_members.class_answers([[[0.9, 0.1, 0.0]], [[0.3, 0.6, 0.1]]])
    result = combined(answers, equal_weights(answers, "vote"))
    assert result.p_NC[0] == pytest.approx([0.6 / 0.95, 0.35 / 0.95, 0])
    assert result.class_entropy_model_N == pytest.approx(result.class_entropy_N)


def test_votes_tie_although_their_weights_are_rounded() -> None:
    answers = random_members.class_answers([[[0.8, 0.2, 0]], [[0.8, 0.2, 0]], [[0.1, 0.9, 0]]])
    by_votes = combined(answers, user_weights(answers, [0.1, 0.2, 0.3], "vote"))
    by_mean = combined(answers, user_weights(answers, [0.1, 0.2, 0.3]))
    assert by_votes.p_NC[0].argmax() == by_mean.p_NC[0].argmax() == 1


def test_parts_that_no_member_predicts_are_none() -> None:
    result = combined(random_members.label_answers([[1.0, 2.0]], 0.5))
    assert (result.p_NC, result.class_entropy_N, result.class_entropy_model_N) == (None, None, None)
    assert result.predicted_class_N is None
    assert len(result) == 2
    assert combined(random_members.class_answers([[[0.2, 0.8]]])).value_NL is None


def test_weights_are_the_same_after_json() -> None:
    answers = random_members.answers(4, 5, 3)
    weights = random_weights(answers, 3)
    again = Weights.from_dict(weights.to_dict())
    assert np.array_equal(again.class_M, weights.class_M)
    assert np.array_equal(again.label_ML, weights.label_ML)
    classes_only = equal_weights(random_members.class_answers([[[0.2, 0.8]]] * 3), "vote")
    assert Weights.from_dict(classes_only.to_dict()).label_ML.shape == (3, 0)


def changed(**arrays: Any) -> MemberAnswers:
    return replace(random_members.answers(), **arrays)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: changed(p_MNC=np.ones((3, 40, 2)) / 2),
            r"p_MNC has shape \(3, 40, 2\); 3 members, 40 spectra and 3 columns need \(3, 40, 3\)",
        ),
        (
            lambda: changed(value_MNL=np.full((3, 40, 2), np.inf)),
            "value_MNL of member 0 is infinite in row 0; give NaN where a member has no answer",
        ),
        (
            lambda: changed(var_data_MNL=np.full((3, 40, 2), -1.0)),
            "a variance is below 0; give var_data_MNL and var_passes_MNL as squares",
        ),
        (
            lambda: changed(p_MNC=np.full((3, 40, 3), 2.0)),
            r"member 0, row 0: \[2.0, 2.0, 2.0\] are no class probabilities; apply a softmax",
        ),
        (
            lambda: combined(random_members.answers(), Weights(np.ones(2) / 2, np.ones((3, 2)) / 3)),
            r"weights class_M have shape \(2,\); 3 members and 2 labels need \(3,\)",
        ),
        (
            lambda: combined(random_members.answers(), Weights(np.ones(3) / 3, np.ones((3, 1)) / 3)),
            r"weights label_ML have shape \(3, 1\); .* need \(3, 2\)",
        ),
    ],
)
def test_answers_that_cannot_be_combined_are_an_error(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
