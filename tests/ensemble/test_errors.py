"""Laws, scales and reaches of errors on residuals whose distribution is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.ensemble.errors import WITHIN, Law, Scale, law, reach, scale


def noisy(rows: int, seed: int = 0) -> tuple[np.random.Generator, np.ndarray]:
    """Random numbers and signals to noise as a survey has them."""
    rng = np.random.default_rng(seed)
    return rng, np.maximum(rng.lognormal(3.2, 0.7, rows), 1)


@pytest.mark.parametrize(("a", "b"), [(0.05, 2.0), (60.0, 900.0), (0.1, 0.0), (0.0, 3.0)])
def test_a_law_is_found_again_also_under_outliers(a: float, b: float) -> None:
    rng, snr = noisy(4000)
    model = rng.gamma(4, 0.2 * np.hypot(a, b / 25) / 4, 4000)
    residual = rng.normal(0, np.sqrt(a**2 + (b / snr) ** 2 + model**2))
    clean, spoilt = (
        law(residual, model, snr),
        law(np.where(rng.random(4000) < 0.02, 50 * residual, residual), model, snr),
    )
    for found, slack in ((clean, 0.15), (spoilt, 0.25)):
        ratio = found.sigma(snr) / Law(a, b).sigma(snr)
        assert (abs(np.quantile(ratio, [0.05, 0.5, 0.95]) / np.median(ratio) - 1) < slack).all(), (
            "its course with signal to noise is right"
        )
        assert np.median(ratio) == pytest.approx(1, abs=0.08), "and its size"


def test_where_members_scatter_more_than_they_err_the_data_are_left_little() -> None:
    rng, snr = noisy(2000)
    found = law(rng.normal(0, 0.1, 2000), np.full(2000, 0.5), snr)
    assert 0 < np.median(found.sigma(snr)) < 0.1


def test_without_different_signals_to_noise_a_law_is_constant() -> None:
    rng, _ = noisy(1)
    found = law(rng.normal(0, 0.3, 2000), np.zeros(2000), np.full(2000, 25.0))
    assert found.b == 0
    assert found.a == pytest.approx(0.3, rel=0.25)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), unit=st.floats(1e-6, 1e6))
def test_the_unit_of_a_label_and_the_order_of_stars_change_nothing(seed: int, unit: float) -> None:
    rng, snr = noisy(120, seed)
    model = rng.gamma(2, 0.05, 120)
    residual = rng.normal(0, np.hypot(np.hypot(0.1, 2 / snr), model))
    rows = rng.permutation(120)
    first, second = law(residual, model, snr), law(unit * residual[rows], unit * model[rows], snr[rows])
    assert second.sigma(snr) == pytest.approx(unit * first.sigma(snr), rel=0.02)
    sigma = first.sigma(snr)
    assert scale(unit * residual[rows], unit * sigma[rows], snr[rows]).of(snr) == pytest.approx(
        scale(residual, sigma, snr).of(snr), rel=1e-4
    )


@pytest.mark.parametrize("tails", [stats.norm(), stats.t(3)])
@pytest.mark.parametrize(("factor", "slope"), [(0.4, 0.0), (2.5, 0.0), (1.5, 0.4), (0.7, -0.3)])
def test_a_scale_is_found_again_whatever_the_tails(
    factor: float, slope: float, tails: stats.rv_continuous
) -> None:
    rng, snr = noisy(6000)
    sigma = rng.gamma(5, 0.02, 6000)
    pull = tails.rvs(6000, random_state=rng) / tails.ppf(0.5 + WITHIN / 2)
    found = scale(pull * sigma * factor * (snr / 25) ** slope, sigma, snr)
    middle = np.quantile(snr, [0.05, 0.5, 0.95])
    assert found.of(middle) == pytest.approx(factor * (middle / 25) ** slope, rel=0.12)


def test_beyond_the_signals_to_noise_that_were_seen_a_scale_changes_no_more() -> None:
    found = Scale(2.0, 0.5, 10.0, 20.0, 40.0)
    assert found.of(np.array([1.0, 10.0, 20.0, 40.0, 900.0])) == pytest.approx(
        2 * np.sqrt([0.5, 0.5, 1, 2, 2])
    )


def test_a_few_stars_make_no_slope() -> None:
    slopes = []
    for seed in range(40):
        rng, snr = noisy(25, seed)
        slopes.append(scale(rng.normal(0, 1, 25), np.ones(25), snr).slope)
    assert np.abs(slopes).max() < 0.6
    assert np.std(slopes) < 0.25


def test_an_exact_answer_among_others_is_no_trouble() -> None:
    rng, snr = noisy(100)
    residual = rng.normal(0, 1, 100)
    residual[:10] = 0
    assert np.isfinite(scale(residual, np.ones(100), snr)).all()
    assert np.isfinite(law(residual, np.zeros(100), snr)).all()


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 400), coverage=st.sampled_from([0.5, 0.6827, 0.9, 0.95, 0.99]))
def test_a_reach_is_the_pull_of_the_conformal_rank(n: int, coverage: float) -> None:
    pull = np.random.default_rng(n).normal(0, 1, n)
    found, enough = reach(pull, coverage)
    at_most = np.sort(abs(pull)) <= found
    wanted = (n + 1) * coverage  # so many of n + 1 exchangeable stars must lie within
    assert enough == (n >= wanted - 1e-6)
    assert at_most.sum() == min(int(np.ceil(wanted - 1e-6)), n)


def test_intervals_of_that_reach_hold_new_truths_as_often_as_promised() -> None:
    """Averaged over many calibrations with few stars the share is at least the coverage, and at most 1 / (n + 1) more."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1500):
        pull = stats.t(2).rvs(60, random_state=rng)
        held.append(abs(pull[-20:]) <= reach(pull[:40], 0.9)[0])
    share = np.mean(held)
    assert 0.9 - 0.007 < share < 0.9 + 1 / 41 + 0.007
