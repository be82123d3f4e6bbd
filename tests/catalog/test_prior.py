"""Mixes of classes: re-weighting against Bayes, estimates against the plain loop and a general maximiser, intervals against known mixes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from survey.catalog.prior import Tally, adjusted, mix
from tests.catalog import mixed_stars
from tests.catalog.mixed_stars import BALANCED, SKY, probabilities, stars

NAN = np.nan


def surveyed(
    size: int, seed: int, mixed: tuple[float, ...] = SKY, learned: tuple[float, ...] = BALANCED
) -> np.ndarray:
    random = np.random.default_rng(seed)
    return probabilities(stars(random, tuple(random.multinomial(size, mixed)))[1], learned)


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0.01, 1), min_size=6, max_size=6))
def test_adjusted_probabilities_are_those_that_bayes_gives_under_the_other_mix(shares: list[float]) -> None:
    one, two = np.array(shares[:3]) / sum(shares[:3]), np.array(shares[3:]) / sum(shares[3:])
    feature_N2 = np.random.default_rng(0).normal(0, 1.5, (50, 2))
    assert adjusted(probabilities(feature_N2, one), one, two) == pytest.approx(
        probabilities(feature_N2, two), abs=1e-4
    )


def test_a_star_without_probabilities_has_none_in_any_mix_and_sure_ones_stay_defined() -> None:
    found = adjusted([[NAN, NAN, NAN], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], BALANCED, (0.0, 0.5, 0.5))
    assert np.isnan(found[0]).all()
    assert found[1:].sum(1) == pytest.approx(1)
    assert found[2, 2] == pytest.approx(1)


def test_the_estimate_is_that_of_the_plain_loop_and_of_a_general_maximiser() -> None:
    p_NC = surveyed(1000, 1)
    shares = np.array(BALANCED)
    for _ in range(800):
        weighted = p_NC * shares / BALANCED
        shares = (weighted / weighted.sum(1, keepdims=True)).mean(0)

    def loss(two: np.ndarray) -> float:
        return -float(np.log(np.clip(p_NC @ (3 * np.append(two, 1 - two.sum())), 1e-300, None)).sum())

    best = minimize(
        loss, [0.3, 0.3], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 1000}
    ).x
    assert shares[:2] == pytest.approx(best, abs=1e-5)
    known = mixed_stars.validation((1000, 1000, 1000))
    found = mix(columns(known), known["true_class"].to_numpy(), "estimated", Tally.of(p_NC))
    weighted = np.array(found.told_C)
    again = np.array(BALANCED)
    for _ in range(800):
        one = p_NC * again / weighted
        again = (one / one.sum(1, keepdims=True)).mean(0)
    assert found.share_C == pytest.approx(again, abs=5e-4)


def columns(table: object) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in ("p_mp", "p_cemp", "p_nmp")], 1)  # type: ignore[index]


@pytest.mark.parametrize("learned", [BALANCED, (0.2, 0.05, 0.75), (0.6, 0.3, 0.1)])
def test_the_mix_that_probabilities_suppose_is_the_one_they_were_learned_under(
    learned: tuple[float, ...],
) -> None:
    table = mixed_stars.validation((3000, 600, 6000), 3, learned)
    found = mix(columns(table), table["true_class"].to_numpy())
    assert np.log(found.told_C / learned) == pytest.approx(0, abs=0.15)
    assert found.share_C == pytest.approx(np.array([3000, 600, 6000]) / 9600)


@pytest.mark.parametrize("learned", [BALANCED, (0.2, 0.05, 0.75)])
def test_the_survey_s_mix_is_found_whatever_the_network_has_learned_from(learned: tuple[float, ...]) -> None:
    table = mixed_stars.validation((1500, 1500, 1500), 4, learned)
    found = mix(
        columns(table),
        table["true_class"].to_numpy(),
        "estimated",
        Tally.of(surveyed(40_000, 5, SKY, learned)),
    )
    low, high = np.quantile(found.drawn_RC, [0.025, 0.975], axis=0)
    assert (low < SKY).all()
    assert (high > SKY).all()
    assert found.share_C == pytest.approx(SKY, abs=0.02)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_interval_of_the_mix_holds_it_as_often_as_it_says() -> None:
    held = np.zeros(3)
    for seed in range(60):
        table = mixed_stars.validation((200, 200, 200), seed)
        found = mix(
            columns(table), table["true_class"].to_numpy(), "estimated", Tally.of(surveyed(5000, 1000 + seed))
        )
        low, high = np.quantile(found.drawn_RC, [0.025, 0.975], axis=0)
        held += (low <= SKY) & (high >= SKY)
    assert (held >= 0.88 * 60).all(), held


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 300))
def test_a_tally_of_parts_joined_is_that_of_the_whole(seed: int, cut: int) -> None:
    p_NC = np.random.default_rng(seed).dirichlet([0.3, 0.1, 0.5], 300)
    p_NC[::7] = NAN
    whole, parts = Tally.of(p_NC), Tally.joined([Tally.of(p_NC[:cut]), Tally.of(p_NC[cut:])])
    assert len(whole) == len(parts) == np.isfinite(p_NC[:, 0]).sum()
    assert whole.n_B @ whole.p_BC == pytest.approx(np.nansum(p_NC, 0))
    assert parts.n_B @ parts.p_BC == pytest.approx(np.nansum(p_NC, 0))


def test_a_given_mix_is_taken_with_any_sum() -> None:
    table = mixed_stars.validation((50, 50, 50))
    found = mix(columns(table), table["true_class"].to_numpy(), {"MP": 10, "CEMP": 2, "NMP": 88})
    assert (found.how, found.share_C.tolist()) == ("given", [0.1, 0.02, 0.88])
    assert (found.drawn_RC == found.share_C).all()
    assert found.adjusted(columns(table)) == pytest.approx(adjusted(columns(table), found.told_C, SKY))


def test_too_few_stars_of_a_class_are_noted_and_fit_nothing() -> None:
    table = mixed_stars.validation((100, 0, 100))
    found = mix(columns(table), table["true_class"].to_numpy())
    assert found.notes == (
        "too few validation stars of CEMP (0) to tell what mix their probabilities suppose",
    )
    assert found.share_C.tolist() == [0.5, 0, 0.5]
    assert np.isfinite(found.adjusted(columns(table))).all()


def test_a_survey_without_answers_has_the_mix_of_validation() -> None:
    table = mixed_stars.validation((30, 20, 50))
    for survey in (None, Tally.of(np.full((3, 3), NAN)), Tally.of(np.empty((0, 3)))):
        found = mix(columns(table), table["true_class"].to_numpy(), "estimated", survey)
        assert found.share_C.tolist() == [0.3, 0.2, 0.5]
        assert "too few spectra of the survey have class probabilities" in found.notes[-1]


def test_nothing_known_is_no_crash() -> None:
    found = mix(np.empty((0, 3)), np.empty(0, int))
    assert found.share_C == pytest.approx(1 / 3)
    assert found.told_C == pytest.approx(1 / 3)


def test_a_mix_is_told_as_json() -> None:
    table = mixed_stars.validation((30, 20, 50))
    told = json.loads(json.dumps(mix(columns(table), table["true_class"].to_numpy()).told()))
    assert told["how"] == "validation"
    assert told["classes"]["CEMP"]["share"] == pytest.approx(0.2)
    assert told["classes"]["CEMP"]["low"] < 0.2 < told["classes"]["CEMP"]["high"]


@pytest.mark.parametrize(
    "prior",
    [
        {"MP": 1.0},
        {"MP": 1, "CEMP": -1, "NMP": 1},
        {"MP": 0, "CEMP": 0, "NMP": 0},
        {"MP": 1, "CEMP": 1, "nmp": 1},
    ],
)
def test_a_given_mix_that_is_none_is_told(prior: dict[str, float]) -> None:
    with pytest.raises(
        ValueError,
        match=r"catalog: prior=.*; give a share of at least 0 for each of MP, CEMP, NMP, not all 0",
    ):
        mix(np.full((1, 3), 1 / 3), [0], prior)


def test_shares_that_cannot_be_re_weighted_are_told() -> None:
    with pytest.raises(
        ValueError,
        match=r"catalog: classes mixed as \[1\.0, 0\.0, 0\.0\], told under \[0\.0, 0\.5, 0\.5\]; give shares",
    ):
        adjusted([[1.0, 0, 0]], [0, 0.5, 0.5], [1, 0, 0])
