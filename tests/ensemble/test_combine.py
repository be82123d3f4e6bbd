"""Combined answers against the obvious loops, scipy and the moments of mixtures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.ensemble import weights as counting
from survey.ensemble.combine import Combined, Told, Weights, combine
from tests.ensemble import answers

seeds = st.integers(0, 2**32 - 1)
holes = st.sampled_from([0.0, 0.3, 0.8])


def drawn(told: Told, seed: int, how: str = "mean") -> Weights:
    return counting.fixed(told, np.random.default_rng(seed).dirichlet(np.ones(told.members)), how)


def same(one: Combined, other: Combined) -> None:
    for name in ("p_NC", "entropy_N", "doubt_N", "mu_NL", "data_NL", "model_NL", "spread_NL"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-9, nan_ok=True), (
            name
        )


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 5), share=holes)
def test_probabilities_are_the_weighted_mean_of_those_who_answer(
    seed: int, members: int, share: float
) -> None:
    told = answers.told(members, 12, seed=seed, holes=share)
    weights = drawn(told, seed)
    found = combine(told, weights)
    for row in range(len(told)):
        say = [member for member in range(members) if np.isfinite(told.p_MNC[member, row]).all()]
        if not say:
            assert np.isnan(found.p_NC[row]).all()
            assert np.isnan([found.entropy_N[row], found.doubt_N[row]]).all()
            continue
        p = np.average(told.p_MNC[say, row], axis=0, weights=weights.class_M[say])
        assert found.p_NC[row] == pytest.approx(p)
        assert found.entropy_N[row] == pytest.approx(stats.entropy(p))
        own = np.average(
            [stats.entropy(told.p_MNC[member, row]) for member in say], weights=weights.class_M[say]
        )
        assert found.doubt_N[row] == pytest.approx(stats.entropy(p) - own, abs=1e-12)
        assert 0 <= found.doubt_N[row] <= found.entropy_N[row]


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 5), share=holes)
def test_errors_of_labels_are_the_moments_of_the_mixture_of_members(
    seed: int, members: int, share: float
) -> None:
    """Total variance as the mean of mu² + var, less the square of the mean; the passes of a member belong to the model's part."""
    told = answers.told(members, 12, seed=seed, holes=share)
    weights = drawn(told, seed)
    found = combine(told, weights)
    for row, label in np.ndindex(found.mu_NL.shape):
        mu, var, within = (array[:, row, label] for array in (told.mu_MNL, told.var_MNL, told.within_MNL))
        say = np.isfinite(mu)
        if not say.any():
            assert np.isnan(
                [
                    array[row, label]
                    for array in (found.mu_NL, found.data_NL, found.model_NL, found.spread_NL, found.total_NL)
                ]
            ).all()
            continue
        w = weights.label_ML[say, label] / weights.label_ML[say, label].sum()
        assert found.mu_NL[row, label] == pytest.approx(w @ mu[say])
        assert found.model_NL[row, label] ** 2 == pytest.approx(
            w @ (mu[say] ** 2 + within[say]) - (w @ mu[say]) ** 2, abs=1e-9
        )
        assert found.spread_NL[row, label] == pytest.approx(mu[say].std())
        knows = say & np.isfinite(var)
        if not knows.any():
            assert np.isnan([found.data_NL[row, label], found.total_NL[row, label]]).all()
            continue
        data = np.average(var[knows], weights=weights.label_ML[knows, label])
        assert found.data_NL[row, label] == pytest.approx(np.sqrt(data))
        assert found.total_NL[row, label] == pytest.approx(np.sqrt(data + found.model_NL[row, label] ** 2))


def test_the_total_error_is_the_scatter_of_what_the_members_would_draw() -> None:
    rng = np.random.default_rng(1)
    told = answers.of(answers.told(4, 1, 1), rows=[0])
    told = replace(told, within_MNL=np.zeros_like(told.within_MNL))
    weights = drawn(told, 1)
    member = rng.choice(4, 200_000, p=weights.label_ML[:, 0])
    values = rng.normal(told.mu_MNL[member, 0, 0], np.sqrt(told.var_MNL[member, 0, 0]))
    found = combine(told, weights)
    assert found.mu_NL[0, 0] == pytest.approx(values.mean(), abs=0.03)
    assert found.total_NL[0, 0] == pytest.approx(values.std(), rel=0.01)


def test_one_member_is_passed_on_to_the_last_bit() -> None:
    told = answers.told(1, 200)
    for how in ("mean", "vote"):
        found = combine(told, counting.equal(told, how))
        assert how == "vote" or np.array_equal(found.p_NC, told.p_MNC[0])
        assert np.array_equal(found.mu_NL, told.mu_MNL[0])
    assert np.array_equal(found.data_NL, np.sqrt(told.var_MNL[0]))
    still = combine(replace(told, within_MNL=np.zeros_like(told.within_MNL)), counting.equal(told))
    assert np.array_equal(still.total_NL, np.sqrt(told.var_MNL[0]))
    assert not still.model_NL.any()
    assert not still.doubt_N.any()


@settings(max_examples=20, deadline=None)
@given(seed=seeds, members=st.integers(2, 5), share=holes, how=st.sampled_from(["mean", "vote"]))
def test_neither_the_order_of_members_nor_that_of_spectra_nor_the_size_of_weights_changes_anything(
    seed: int, members: int, share: float, how: str
) -> None:
    told, rng = answers.told(members, 15, seed=seed, holes=share), np.random.default_rng(seed)
    given_M = rng.gamma(1, 1, members)
    order, rows = rng.permutation(members), rng.permutation(len(told))
    first = combine(told, counting.fixed(told, given_M, how))
    moved = answers.of(told, order, rows)
    second = combine(moved, counting.fixed(moved, 7 * given_M[order], how))
    chosen = {name: array[rows] for name, array in vars(first).items() if isinstance(array, np.ndarray)}
    same(replace(first, **chosen), second)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, members=st.integers(1, 6), share=holes)
def test_a_vote_goes_to_the_class_with_most_weight_and_a_tie_to_the_likelier_one(
    seed: int, members: int, share: float
) -> None:
    told = answers.told(members, 20, seed=seed, holes=share)
    weights = counting.equal(told, "vote")
    found = combine(told, weights)
    means = combine(told, replace(weights, how="mean")).p_NC
    for row in range(len(told)):
        said = [p.argmax() for p in told.p_MNC[:, row] if np.isfinite(p).all()]
        if not said:
            assert np.isnan(found.p_NC[row]).all()
            continue
        votes = np.bincount(said, minlength=3)
        most = np.flatnonzero(votes == votes.max())
        assert found.p_NC[row].argmax() == max(most, key=lambda number, row=row: means[row, number])
        assert found.p_NC[row].sum() == pytest.approx(1)
        if len(most) == 1:
            assert found.p_NC[row] == pytest.approx(votes / votes.sum())


def test_classes_that_tie_divide_their_votes_by_their_probabilities() -> None:
    told = answers.classified([[[0.9, 0.1, 0.0]], [[0.3, 0.6, 0.1]]])
    found = combine(told, counting.equal(told, "vote"))
    assert found.p_NC[0] == pytest.approx([0.6 / 0.95, 0.35 / 0.95, 0])
    assert found.doubt_N == pytest.approx(found.entropy_N)


def test_weights_that_sum_to_one_but_for_rounding_still_tie() -> None:
    told = answers.classified([[[0.8, 0.2, 0]], [[0.8, 0.2, 0]], [[0.1, 0.9, 0]]])
    found = combine(told, counting.fixed(told, [0.1, 0.2, 0.3], "vote"))
    assert (
        found.p_NC[0].argmax() == combine(told, counting.fixed(told, [0.1, 0.2, 0.3])).p_NC[0].argmax() == 1
    )


def test_without_classes_or_without_labels_there_are_none() -> None:
    told = answers.labelled([[1.0, 2.0]], 0.5)
    found = combine(told, counting.equal(told))
    assert (found.p_NC, found.entropy_N, found.doubt_N) == (None, None, None)
    assert len(found) == 2
    told = answers.classified([[[0.2, 0.8]]])
    assert combine(told, counting.equal(told)).mu_NL is None


def test_weights_are_the_same_after_json() -> None:
    told = answers.told(4, 5, 3)
    weights = drawn(told, 3)
    again = Weights.of(weights.told())
    assert np.array_equal(again.class_M, weights.class_M)
    assert np.array_equal(again.label_ML, weights.label_ML)
    bare = answers.classified([[[0.2, 0.8]]] * 3)
    assert Weights.of(counting.equal(bare, "vote").told()).label_ML.shape == (3, 0)


def changed(**arrays: object) -> Told:
    return replace(answers.told(), **arrays)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: changed(p_MNC=np.ones((3, 40, 2)) / 2),
            r"p_MNC has shape \(3, 40, 2\); 3 members, 40 spectra and 3 columns need \(3, 40, 3\)",
        ),
        (
            lambda: changed(mu_MNL=np.full((3, 40, 2), np.inf)),
            "mu_MNL of member 0 is infinite in row 0; give NaN where a member has no sound",
        ),
        (
            lambda: changed(var_MNL=np.full((3, 40, 2), -1.0)),
            "a variance is below 0; give var_MNL and within_MNL as squares",
        ),
        (
            lambda: changed(p_MNC=np.full((3, 40, 3), 2.0)),
            r"member 0 gives \[2.0, 2.0, 2.0\] in row 0, which are no class probabilities; put a softmax",
        ),
        (
            lambda: combine(answers.told(), Weights(np.ones(2) / 2, np.ones((3, 2)) / 3)),
            r"weights class_M of shape \(2,\) for 3 members and 2 labels",
        ),
        (
            lambda: combine(answers.told(), Weights(np.ones(3) / 3, np.ones((3, 1)) / 3)),
            r"weights label_ML of shape \(3, 1\) .* they need \(3, 2\)",
        ),
    ],
)
def test_what_cannot_be_combined_is_told(wrong: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
