"""Offsets and slopes between catalogues are found with honest intervals."""

import numpy as np
import pytest

from survey.label_tables.common_scale import CommonStars, fit_scale
from survey.label_tables.settings import CommonScale


def common(
    seed: int,
    count: int,
    offset: float,
    slope: float,
    errors: tuple[float, float] = (0.1, 0.1),
    outliers: float = 0.0,
) -> CommonStars:
    """Stars whose value in the source = (true - offset) / (1 + slope), so that the fit finds both."""
    draw = np.random.default_rng(seed)
    true = draw.normal(0, 0.8, count)
    value = (true - offset) / (1 + slope) + draw.normal(0, errors[0], count)
    reference = true + draw.normal(0, errors[1], count)
    bad = draw.random(count) < outliers
    value[bad] += draw.choice([-1.5, 1.5], bad.sum())
    return CommonStars("a", "b", "FeH", value, reference, np.tile(errors, (count, 1)))


@pytest.mark.parametrize("errors", [(0.1, 0.1), (0.25, 0.05), (0.05, 0.25)])
def test_no_slope_is_found_where_there_is_none_whatever_the_errors(errors: tuple[float, float]) -> None:
    fits = [fit_scale(common(seed, 400, 0.0, 0.0, errors), CommonScale()) for seed in range(40)]
    slopes = np.array([fit.slope for fit in fits])
    assert abs(slopes.mean()) < 3 * slopes.std() / np.sqrt(40)
    # an ordinary fit to errors of 0.25 would find -0.09
    assert abs(slopes.mean()) < 0.01


def test_95_percent_intervals_contain_the_truth_in_about_95_of_100() -> None:
    inside = np.zeros(2)
    for seed in range(100):
        fit = fit_scale(common(seed, 200, 0.12, -0.08, outliers=0.03), CommonScale(bootstrap=200))
        offset_at_pivot = 0.12 - 0.08 * fit.pivot
        inside += [
            fit.offset_low <= offset_at_pivot <= fit.offset_high,
            fit.slope_low <= -0.08 <= fit.slope_high,
        ]
    assert (inside >= 88).all(), inside


def test_wrong_stars_do_not_move_the_offset() -> None:
    clean, dirty = (fit_scale(common(3, 500, 0.2, 0.0, outliers=share), CommonScale()) for share in (0, 0.1))
    assert dirty.used < 480
    assert dirty.offset == pytest.approx(clean.offset, abs=0.03)


def test_few_stars_give_an_offset_only_and_very_few_nothing() -> None:
    assert np.isnan(fit_scale(common(0, 15, 0.2, 0.0), CommonScale()).offset)
    fit = fit_scale(common(0, 40, 0.2, 0.0), CommonScale())
    assert fit.is_fitted
    assert fit.slope == 0
    assert np.isnan(fit.slope_low)


def test_equal_values_of_most_stars_are_no_reason_to_leave_out_the_others() -> None:
    """Compilations take many values from the same papers."""
    stars = common(0, 300, 0.0, 0.0)
    value = np.where(np.arange(300) < 200, stars.reference_P, stars.value_P)
    fit = fit_scale(CommonStars("a", "b", "FeH", value, stars.reference_P, stars.error_P2), CommonScale())
    assert fit.used > 230


def test_the_same_settings_give_the_same_interval() -> None:
    one, two = (fit_scale(common(5, 300, 0.1, 0.0), CommonScale(seed=3)) for _ in range(2))
    assert one == two
