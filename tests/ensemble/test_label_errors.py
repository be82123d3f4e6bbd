"""Laws, scales and half widths of errors, on residuals with a known distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from survey.ensemble.label_errors import (
    WITHIN,
    ErrorScale,
    NoiseLaw,
    fit_error_scale,
    fit_noise_law,
    interval_half_width,
)


def noisy(rows: int, seed: int = 0) -> tuple[np.random.Generator, np.ndarray]:
    """A random generator, and signals to noise like those of a survey."""
    rng = np.random.default_rng(seed)
    return rng, np.maximum(rng.lognormal(3.2, 0.7, rows), 1)


@pytest.mark.parametrize(("a", "b"), [(0.05, 2.0), (60.0, 900.0), (0.1, 0.0), (0.0, 3.0)])
def test_a_law_is_recovered_also_with_outliers(a: float, b: float) -> None:
    rng, snr = noisy(4000)
    model = rng.gamma(4, 0.2 * np.hypot(a, b / 25) / 4, 4000)
    residual = rng.normal(0, np.sqrt(a**2 + (b / snr) ** 2 + model**2))
    clean, spoilt = (
        fit_noise_law(residual, model, snr),
        fit_noise_law(np.where(rng.random(4000) < 0.02, 50 * residual, residual), model, snr),
    )
    for found, slack in ((clean, 0.15), (spoilt, 0.25)):
        ratio = found.sigma(snr) / NoiseLaw(a, b).sigma(snr)
        assert (abs(np.quantile(ratio, [0.05, 0.5, 0.95]) / np.median(ratio) - 1) < slack).all(), (
            "its course with signal to noise"
        )
        assert np.median(ratio) == pytest.approx(1, abs=0.08), "and its size"


def test_a_law_is_small_where_the_scatter_among_members_explains_the_residuals() -> None:
    rng, snr = noisy(2000)
    found = fit_noise_law(rng.normal(0, 0.1, 2000), np.full(2000, 0.5), snr)
    assert 0 < np.median(found.sigma(snr)) < 0.1


def test_a_law_is_constant_for_a_single_signal_to_noise() -> None:
    rng, _ = noisy(1)
    found = fit_noise_law(rng.normal(0, 0.3, 2000), np.zeros(2000), np.full(2000, 25.0))
    assert found.b == 0
    assert found.a == pytest.approx(0.3, rel=0.25)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), unit=st.floats(1e-6, 1e6))
def test_the_unit_of_a_label_and_the_order_of_stars_change_nothing(seed: int, unit: float) -> None:
    rng, snr = noisy(120, seed)
    model = rng.gamma(2, 0.05, 120)
    residual = rng.normal(0, np.hypot(np.hypot(0.1, 2 / snr), model))
    rows = rng.permutation(120)
    first, second = (
        fit_noise_law(residual, model, snr),
        fit_noise_law(unit * residual[rows], unit * model[rows], snr[rows]),
    )
    assert second.sigma(snr) == pytest.approx(unit * first.sigma(snr), rel=0.02)
    sigma = first.sigma(snr)
    assert fit_error_scale(unit * residual[rows], unit * sigma[rows], snr[rows]).at(snr) == pytest.approx(
        fit_error_scale(residual, sigma, snr).at(snr), rel=1e-4
    )


@pytest.mark.parametrize("tails", [stats.norm(), stats.t(3)])
@pytest.mark.parametrize(("factor", "slope"), [(0.4, 0.0), (2.5, 0.0), (1.5, 0.4), (0.7, -0.3)])
def test_a_scale_is_recovered_with_any_tails(factor: float, slope: float, tails: stats.rv_continuous) -> None:
    rng, snr = noisy(6000)
    sigma = rng.gamma(5, 0.02, 6000)
    pull = tails.rvs(6000, random_state=rng) / tails.ppf(0.5 + WITHIN / 2)
    found = fit_error_scale(pull * sigma * factor * (snr / 25) ** slope, sigma, snr)
    middle = np.quantile(snr, [0.05, 0.5, 0.95])
    assert found.at(middle) == pytest.approx(factor * (middle / 25) ** slope, rel=0.12)


def test_a_scale_is_constant_outside_the_fitted_signals_to_noise() -> None:
    found = ErrorScale(2.0, 0.5, 10.0, 20.0, 40.0)
    assert found.at(np.array([1.0, 10.0, 20.0, 40.0, 900.0])) == pytest.approx(
        2 * np.sqrt([0.5, 0.5, 1, 2, 2])
    )


def test_a_few_stars_make_no_slope() -> None:
    slopes = []
    for seed in range(40):
        rng, snr = noisy(25, seed)
        slopes.append(fit_error_scale(rng.normal(0, 1, 25), np.ones(25), snr).slope)
    assert np.abs(slopes).max() < 0.6
    assert np.std(slopes) < 0.25


def test_residuals_of_0_leave_all_fits_finite() -> None:
    rng, snr = noisy(100)
    residual = rng.normal(0, 1, 100)
    residual[:10] = 0
    assert np.isfinite(fit_error_scale(residual, np.ones(100), snr)).all()
    assert np.isfinite(fit_noise_law(residual, np.zeros(100), snr)).all()


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 400), coverage=st.sampled_from([0.5, 0.6827, 0.9, 0.95, 0.99]))
def test_a_half_width_is_the_pull_of_the_conformal_rank(n: int, coverage: float) -> None:
    pull = np.random.default_rng(n).normal(0, 1, n)
    found, enough = interval_half_width(pull, coverage)
    at_most = np.sort(abs(pull)) <= found
    wanted = (n + 1) * coverage  # this many of n + 1 exchangeable stars must lie within
    assert enough == (n >= wanted - 1e-6)
    assert at_most.sum() == min(int(np.ceil(wanted - 1e-6)), n)


def test_intervals_contain_new_true_values_with_the_promised_share() -> None:
    """Averaged over many calibrations with few stars the share is at least the coverage, and at most 1 / (n
    + 1) more.
    """
    rng = np.random.default_rng(0)
    inside = [
        abs(pull[-20:]) <= interval_half_width(pull[:40], 0.9)[0]
        for pull in stats.t(2).rvs((1500, 60), random_state=rng)
    ]
    share = np.mean(inside)
    assert 0.9 - 0.007 < share < 0.9 + 1 / 41 + 0.007
