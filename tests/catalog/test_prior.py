"""Class mixes: re-weighting against Bayes, estimates against the plain loop and a general maximiser,
intervals against known mixes.
"""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from survey.catalog.flags import FlagRules
from survey.catalog.prior import (
    RAREST,
    BinnedProbabilities,
    ClassMix,
    adjust,
    cautious,
    class_mix,
    ordinary_probabilities,
    survey_probabilities,
)
from survey.catalog.settings import Prior
from tests.catalog import mixed_stars
from tests.catalog.mixed_stars import BALANCED, SKY, p_of, probabilities, stars

NAN = np.nan


def survey_of(
    size: int, seed: int, shares: tuple[float, ...] = SKY, trained: tuple[float, ...] = BALANCED
) -> np.ndarray:
    """The class probabilities of a survey."""
    random = np.random.default_rng(seed)
    return probabilities(stars(random, tuple(random.multinomial(size, shares)))[1], trained)


def mix_of(
    counts: tuple[int, ...],
    prior: Prior = "validation",
    survey: np.ndarray | None = None,
    seed: int = 0,
    trained: tuple[float, ...] = BALANCED,
) -> ClassMix:
    """The mix of a survey, with validation stars of each class."""
    table = mixed_stars.validation(counts, seed, trained)
    binned = None if survey is None else BinnedProbabilities.of_stars(survey)
    return class_mix(p_of(table), table["true_class"].to_numpy(), prior, binned)


def interval(mix: ClassMix) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of the shares."""
    low_C, high_C = np.quantile(mix.drawn_RC, [0.025, 0.975], axis=0)
    return low_C, high_C


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0.01, 1), min_size=6, max_size=6))
def test_adjusted_probabilities_are_those_of_bayes_under_the_other_mix(shares: list[float]) -> None:
    first, second = np.array(shares[:3]) / sum(shares[:3]), np.array(shares[3:]) / sum(shares[3:])
    feature_N2 = np.random.default_rng(0).normal(0, 1.5, (50, 2))
    adjusted = adjust(probabilities(feature_N2, tuple(first)), first, second)
    assert adjusted == pytest.approx(probabilities(feature_N2, tuple(second)), abs=1e-3)


def test_how_likely_a_star_is_of_another_kind_does_not_depend_on_the_shares_of_classes() -> None:
    p_NC = np.array([[0.1, 0.6, 0.3], [0.1, 0.2, 0.2], [0.0, 0.0, 0.0]])
    adjusted = adjust(p_NC, BALANCED, (0.04, 0.0005, 0.9595))
    assert adjusted.sum(1) == pytest.approx(p_NC.sum(1))
    assert adjusted[:2] / adjusted[:2].sum(1, keepdims=True) == pytest.approx(
        adjust(p_NC[:2] / p_NC[:2].sum(1, keepdims=True), BALANCED, (0.04, 0.0005, 0.9595))
    )


def test_a_rare_class_keeps_its_score_beside_a_small_chance_of_another_kind() -> None:
    columns = {"p_mp": [0.0, 0.0], "p_cemp": [0.9, 0.9], "p_nmp": [0.1, 0.1], "other_kind": [0.1, None]}
    p_NC = ordinary_probabilities(pa.table(columns))
    assert p_NC[:, 2] == pytest.approx([0.0, 0.1]), "null = as if there were no stars of other kinds"
    sure, unsure = adjust(p_NC, BALANCED, (0.04, 0.0005, 0.9595))[:, 1]
    assert sure == pytest.approx(0.9, abs=1e-3)
    assert unsure < 0.01
    assert ordinary_probabilities(pa.table({"other_kind": [0.5]})).shape == (1, 0)


@pytest.mark.parametrize("row", [[0.9, 0.9, 0.9], [-0.5, 1.0, 0.5], [-2.0, -1.0, 0.0]])
def test_numbers_that_are_no_probabilities_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="not probabilities"):
        class_mix([[0.2, 0.3, 0.1], [0.0, 0.0, 0.0], row], [0, 1, 2])


def test_unknown_probabilities_stay_unknown_and_certain_ones_stay_defined() -> None:
    adjusted = adjust([[NAN, NAN, NAN], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], BALANCED, (0.0, 0.5, 0.5))
    assert np.isnan(adjusted[0]).all()
    assert adjusted[1:].sum(1) == pytest.approx(1)
    assert adjusted[2, 2] == pytest.approx(1)


def estimate_by_loop(p_NC: np.ndarray, assumed_C: np.ndarray) -> np.ndarray:
    """The EM algorithm star by star."""
    shares = np.array(BALANCED)
    for _ in range(800):
        weighted = p_NC * shares / assumed_C
        shares = (weighted / weighted.sum(1, keepdims=True)).mean(0)
    return shares


def test_the_estimate_is_that_of_the_plain_loop_and_of_a_general_maximiser() -> None:
    p_NC = survey_of(1000, 1)

    def loss(two: np.ndarray) -> float:
        return -float(np.log(np.clip(p_NC @ (3 * np.append(two, 1 - two.sum())), 1e-300, None)).sum())

    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 1000}
    best = minimize(loss, [0.3, 0.3], method="Nelder-Mead", options=options).x
    assert estimate_by_loop(p_NC, np.array(BALANCED))[:2] == pytest.approx(best, abs=1e-5)
    mix = mix_of((1000, 1000, 1000), "estimated", p_NC)
    assert mix.share_C == pytest.approx(estimate_by_loop(p_NC, mix.assumed_C), abs=5e-4)


@pytest.mark.parametrize("trained", [BALANCED, (0.2, 0.05, 0.75), (0.6, 0.3, 0.1)])
def test_the_shares_that_probabilities_assume_are_those_of_the_training(trained: tuple[float, ...]) -> None:
    mix = mix_of((3000, 600, 6000), seed=3, trained=trained)
    assert np.log(mix.assumed_C / trained) == pytest.approx(0, abs=0.15)
    assert mix.share_C == pytest.approx(np.array([3000, 600, 6000]) / 9600)


@pytest.mark.parametrize("trained", [BALANCED, (0.2, 0.05, 0.75)])
def test_the_mix_of_the_survey_is_found_with_any_training_set(trained: tuple[float, ...]) -> None:
    mix = mix_of((1500, 1500, 1500), "estimated", survey_of(40_000, 5, SKY, trained), 4, trained)
    low_C, high_C = interval(mix)
    assert (low_C < SKY).all()
    assert (high_C > SKY).all()
    assert mix.share_C == pytest.approx(SKY, abs=0.02)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_interval_of_the_mix_holds_the_truth_as_often_as_it_says() -> None:
    inside = np.zeros(3)
    for seed in range(60):
        low_C, high_C = interval(mix_of((200, 200, 200), "estimated", survey_of(5000, 1000 + seed), seed))
        inside += (low_C <= SKY) & (high_C >= SKY)
    assert (inside >= 0.88 * 60).all(), inside


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 300))
def test_binned_parts_joined_are_the_same_as_all_stars_binned(seed: int, cut: int) -> None:
    p_NC = np.random.default_rng(seed).dirichlet([0.3, 0.1, 0.5], 300)
    p_NC[::7] = NAN
    together = BinnedProbabilities.of_stars(p_NC)
    parts = [BinnedProbabilities.of_stars(part) for part in (p_NC[:cut], p_NC[cut:])]
    joined = BinnedProbabilities.joined(parts)
    assert len(together) == len(joined) == np.isfinite(p_NC[:, 0]).sum()
    assert together.n_B @ together.p_BC == pytest.approx(np.nansum(p_NC, 0))
    assert joined.n_B @ joined.p_BC == pytest.approx(np.nansum(p_NC, 0))


def test_given_shares_may_have_any_sum() -> None:
    mix = mix_of((50, 50, 50), {"MP": 10, "CEMP": 2, "NMP": 88})
    assert (mix.how, mix.share_C.tolist()) == ("given", [0.1, 0.02, 0.88])
    assert (mix.drawn_RC == mix.share_C).all()
    p_NC = p_of(mixed_stars.validation((50, 50, 50)))
    assert mix.adjust(p_NC) == pytest.approx(adjust(p_NC, mix.assumed_C, SKY))


def test_too_few_stars_of_a_class_are_noted_and_not_fitted() -> None:
    mix = mix_of((100, 0, 100))
    note = "too few validation stars of CEMP (0) to fit the class shares that probabilities assume"
    assert mix.notes == (note,)
    assert mix.share_C.tolist() == [0.5, 0, 0.5]
    assert np.isfinite(mix.adjust(p_of(mixed_stars.validation((100, 0, 100))))).all()


@pytest.mark.parametrize("survey", [None, np.full((3, 3), NAN), np.empty((0, 3))])
def test_a_survey_without_answers_has_the_mix_of_validation(survey: np.ndarray | None) -> None:
    mix = mix_of((30, 20, 50), "estimated", survey)
    assert mix.share_C.tolist() == [0.3, 0.2, 0.5]
    assert "too few stars of the survey have class probabilities" in mix.notes[-1]


def test_without_any_star_all_shares_are_equal() -> None:
    mix = class_mix(np.empty((0, 3)), np.empty(0, int))
    assert mix.share_C == pytest.approx(1 / 3)
    assert mix.assumed_C == pytest.approx(1 / 3)


def test_a_mix_has_a_record_in_json() -> None:
    record = json.loads(mix_of((30, 20, 50)).record().model_dump_json())
    assert record["how"] == "validation"
    assert record["classes"]["CEMP"]["share"] == pytest.approx(0.2)
    assert record["classes"]["CEMP"]["low"] < 0.2 < record["classes"]["CEMP"]["high"]


@pytest.mark.parametrize(
    "prior",
    [
        {"MP": 1.0},
        {"MP": 1, "CEMP": -1, "NMP": 1},
        {"MP": 0, "CEMP": 0, "NMP": 0},
        {"MP": 1, "CEMP": 1, "nmp": 1},
    ],
)
def test_given_shares_that_make_no_mix_are_refused(prior: dict[str, float]) -> None:
    message = r"; give each of MP, CEMP, NMP a share of at least 0, such as \{MP: 4, CEMP: 1, NMP: 95\}"
    with pytest.raises(ValueError, match=message):
        class_mix(np.full((1, 3), 1 / 3), [0], prior)


def test_shares_that_cannot_be_re_weighted_are_refused() -> None:
    message = r"cannot be re-weighted from class shares \[0\.0, 0\.5, 0\.5\] to \[1\.0, 0\.0, 0\.0\]"
    with pytest.raises(ValueError, match=message):
        adjust([[1.0, 0, 0]], [0, 0.5, 0.5], [1, 0, 0])


def mix_with_cemp(how: str, low: float, high: float) -> ClassMix:
    """A mix whose share of CEMP stars is somewhere between these."""
    cemp_R = np.linspace(low, high, 400)
    drawn_RC = np.stack([np.full(400, 0.1), cemp_R, 0.9 - cemp_R], 1)
    return ClassMix(how, np.full(3, 1 / 3), drawn_RC.mean(0), drawn_RC, 1000)


def test_a_vague_share_is_replaced_by_its_lower_end() -> None:
    mix, notes = cautious(mix_with_cemp("estimated", 0.001, 0.14), "CEMP")
    assert mix.share_C[1] < 0.006
    assert mix.share_C.sum() == pytest.approx(1)
    assert "share of CEMP between 0.4" in notes[0]
    assert "give them: 'cemp.prior={MP: 4, CEMP: 1, NMP: 95}'" in notes[0]
    assert mix.drawn_RC[:, 1].max() == 0.14, "the intervals keep the uncertainty"


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.0, 1e-9), (1e-9, 1e-9)])
def test_no_class_gets_a_share_of_0(low: float, high: float) -> None:
    mix, notes = cautious(mix_with_cemp("estimated", low, high), "CEMP")
    assert mix.share_C[1] >= 0.999 * RAREST
    assert "0.00% and 0.00%" not in notes[0]


@pytest.mark.parametrize(("how", "low", "high"), [("estimated", 0.01, 0.03), ("given", 0.001, 0.14)])
def test_a_certain_or_given_share_is_kept(how: str, low: float, high: float) -> None:
    mix = mix_with_cemp(how, low, high)
    assert cautious(mix, "MP") == (mix, ())


def test_a_star_that_is_observed_again_and_again_counts_once() -> None:
    class_N, feature_N2 = stars(np.random.default_rng(3), (100, 20, 880))
    p_NC, again_N = probabilities(feature_N2), np.where(class_N == 1, 10, 1)
    star_V = np.repeat(np.arange(1000, dtype=np.int32), again_N)
    parts = np.array_split(np.arange(len(star_V)), 3)
    shards = [mixed_stars.table(class_N[star_V[part]], p_NC[star_V[part]]) for part in parts]
    predictions: Any = SimpleNamespace(tables=lambda columns: iter(shards))
    binned = survey_probabilities(predictions, FlagRules(), star_V)
    once = BinnedProbabilities.of_stars(p_NC)
    assert len(binned) == 1000
    assert binned.n_B[np.lexsort(binned.p_BC.T)] == pytest.approx(once.n_B[np.lexsort(once.p_BC.T)])
