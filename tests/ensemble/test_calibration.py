"""Calibration on stars with known errors of the members, checked on other such stars."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from survey.ensemble.calibration import Calibration, fit_calibration, no_calibration
from survey.metrics.classes import reliability
from tests.ensemble import random_members
from tests.ensemble.random_members import combined


def at_temperature(rows: int, temperature: float, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Classes drawn from probabilities, and answers as if at another temperature:
    at 0.5 they are too sharp.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3))
    truth = (rng.random((rows, 1)) > softmax(logits, 1).cumsum(1)).sum(1)
    return combined(random_members.class_answers(softmax(logits / temperature, 1)[None])), truth


def scattered(
    rows: int,
    factor: float,
    law: tuple[float, float] = (0.05, 2.0),
    slope: float = 0.0,
    seed: int = 0,
    has_errors: bool = True,
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Members that scatter around the truth by a law of signal to noise, with errors too small by a factor.

    The answers, the true labels and the signals to noise.
    """
    rng = np.random.default_rng(seed)
    snr, truth = rng.lognormal(3.2, 0.6, rows), rng.normal(-1, 0.8, rows)
    sigma, model = np.hypot(law[0], law[1] / snr), 0.03
    common = rng.normal(0, sigma)
    value = truth + common + rng.normal(0, model, (4, rows))
    error = sigma / factor / (snr / 25) ** slope
    answers = random_members.label_answers(value, np.tile(error, (4, 1)) if has_errors else np.nan)
    return combined(answers), truth[:, None], snr


def unknown_classes(rows: int) -> np.ndarray:
    return np.full(rows, -1)


def fit(answers: Any, class_N: Any, label_NL: Any, snr_N: Any, coverage: float = 0.95) -> Any:
    return fit_calibration(answers, class_N, label_NL, snr_N, coverage)


def fit_classes(answers: Any, truth: np.ndarray) -> Any:
    return fit(answers, truth, np.empty((len(truth), 0)), np.full(len(truth), 30.0))


def ece(answers: Any, truth: np.ndarray) -> float:
    return reliability(answers.p_NC.argmax(1) == truth, answers.p_NC.max(1)).ece


def shares(calibration: Any, seed: int, **options: Any) -> list[tuple[float, float]]:
    """Shares of new true values within one error and within the interval: of all
    stars, and in bins of S/N.
    """
    new, truth, snr = scattered(12_000, seed=seed, **options)
    answers = calibration.apply(new, snr)
    within = np.abs(answers.value_NL - truth)[:, 0] <= answers.err_NL[:, 0]
    inside = ((answers.low_NL <= truth) & (truth <= answers.high_NL))[:, 0]
    edges = np.quantile(snr, [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])
    bins = [np.ones(len(snr), bool), *((snr >= low) & (snr <= high) for low, high in pairwise(edges))]
    return [(float(within[mask].mean()), float(inside[mask].mean())) for mask in bins]


@pytest.mark.parametrize("temperature", [0.4, 0.7, 1.0, 1.6])
def test_a_temperature_is_recovered(temperature: float) -> None:
    """The calibration of answers at a temperature is its inverse."""
    answers, truth = at_temperature(20_000, temperature)
    calibration = fit_classes(answers, truth)
    assert calibration.temperature == pytest.approx(1 / temperature, rel=0.05)
    new, truth = at_temperature(20_000, temperature, seed=1)
    after = ece(calibration.apply(new, np.full(20_000, np.nan)), truth)
    assert after < 0.01
    assert temperature == 1 or after < ece(new, truth) / 3


def test_the_likeliest_class_stays_and_probabilities_sum_to_one() -> None:
    answers, truth = at_temperature(2000, 0.3)
    calibrated = fit_classes(answers, truth).apply(answers, np.full(2000, 30.0))
    assert np.array_equal(calibrated.p_NC.argmax(1), answers.p_NC.argmax(1))
    assert np.array_equal(calibrated.predicted_class_N, answers.predicted_class_N)
    assert calibrated.p_NC.sum(1) == pytest.approx(1)
    assert (calibrated.class_entropy_N >= answers.class_entropy_N - 1e-12).all()


def test_the_share_of_disagreement_in_the_entropy_stays() -> None:
    answers = combined(random_members.answers(4, 300, 0))
    calibration: Any = replace(no_calibration(()), temperature=2.0)
    calibrated = calibration.apply(answers, np.full(300, np.nan))
    before = answers.class_entropy_model_N / answers.class_entropy_N
    assert calibrated.class_entropy_model_N / calibrated.class_entropy_N == pytest.approx(before)
    assert (calibrated.class_entropy_model_N <= calibrated.class_entropy_N).all()


def test_a_few_stars_that_are_all_right_do_not_make_probabilities_certain() -> None:
    """If all validation stars are right, the probabilities are too soft; but luck gives the same picture."""
    truth = np.arange(60) % 3
    answers = random_members.class_answers(np.where(np.eye(3)[truth] > 0, 0.9, 0.05)[None])
    assert 0.7 < fit_classes(combined(answers), truth).temperature < 1


def test_true_classes_of_probability_0_leave_everything_finite() -> None:
    truth = np.arange(90) % 3
    answers = combined(random_members.class_answers(np.eye(3)[(truth + (np.arange(90) < 9)) % 3][None]))
    calibration = fit_classes(answers, truth)
    calibrated = calibration.apply(answers, np.full(90, 30.0))
    assert calibration.temperature > 2
    assert np.isfinite(calibrated.p_NC).all()
    assert calibrated.p_NC.max() < 0.99


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 3.0},
        {"factor": 0.3},
        {"factor": 1.0, "slope": 0.5},
        {"factor": 2.0, "slope": -0.4},
        {"factor": 1.0, "has_errors": False},
        {"factor": 1.0, "has_errors": False, "law": (0.1, 0.5)},
    ],
    ids=[
        "over-confident",
        "under-confident",
        "worse at high S/N",
        "worse at low S/N",
        "no errors of members",
        "no errors of members, flat",
    ],
)
def test_calibrated_errors_and_intervals_hold_at_every_signal_to_noise(options: dict[str, Any]) -> None:
    answers, truth, snr = scattered(2500, **options)
    calibration = fit(answers, unknown_classes(2500), truth, snr)
    overall, *bins = shares(calibration, seed=1, **options)
    assert overall == pytest.approx((0.683, 0.95), abs=0.02)
    for within, inside in bins:
        assert within == pytest.approx(0.683, abs=0.04)
        assert inside == pytest.approx(0.95, abs=0.03)
    assert calibration.notes == ()


def test_another_coverage_gives_other_intervals() -> None:
    answers, truth, snr = scattered(2500, 2.0)
    for coverage in (0.5, 0.8, 0.99):
        calibration = fit(answers, unknown_classes(2500), truth, snr, coverage)
        assert shares(calibration, seed=1, factor=2.0)[0][1] == pytest.approx(coverage, abs=0.02)


def test_a_few_far_off_residuals_do_not_enlarge_the_errors_of_the_others() -> None:
    answers, truth, snr = scattered(2500, 1.5)
    with_outliers = np.where(np.arange(2500)[:, None] % 50 == 0, truth + 30, truth)
    clean, other = (
        fit(answers, unknown_classes(2500), label_NL, snr).errors[0].scale.at(snr)
        for label_NL in (truth, with_outliers)
    )
    assert other == pytest.approx(clean, rel=0.08)


def test_both_parts_of_an_error_are_scaled_and_the_spread_stays() -> None:
    answers, truth, snr = scattered(2500, 2.0)
    calibrated = fit(answers, unknown_classes(2500), truth, snr).apply(answers, snr)
    scale_of_data = calibrated.err_data_NL / answers.err_data_NL
    assert scale_of_data == pytest.approx(calibrated.err_model_NL / answers.err_model_NL)
    assert calibrated.err_NL == pytest.approx(np.hypot(calibrated.err_data_NL, calibrated.err_model_NL))
    assert np.array_equal(calibrated.spread_NL, answers.spread_NL)
    assert np.array_equal(calibrated.value_NL, answers.value_NL)


def test_a_spectrum_without_an_error_follows_the_law() -> None:
    answers, truth, snr = scattered(2500, 3.0)
    calibration = fit(answers, unknown_classes(2500), truth, snr)
    err_data_NL = np.where(np.arange(2500)[:, None] < 1250, np.nan, answers.err_data_NL)
    calibrated = calibration.apply(replace(answers, err_data_NL=err_data_NL, err_NL=None), snr)
    within = np.abs(calibrated.value_NL - truth) <= calibrated.err_NL
    for half in (slice(0, 1250), slice(1250, None)):
        assert within[half].mean() == pytest.approx(0.683, abs=0.04)


def test_an_unknown_signal_to_noise_counts_as_the_median() -> None:
    answers, truth, snr = scattered(500, 1.0, has_errors=False)
    calibration = fit(answers, unknown_classes(500), truth, np.where(np.arange(500) < 100, np.nan, snr))
    assert calibration.snr == pytest.approx(np.median(snr[100:]))
    unknown, median = (calibration.apply(answers, np.full(500, value)) for value in (np.nan, calibration.snr))
    assert np.array_equal(unknown.err_NL, median.err_NL)
    without_snr = fit(answers, unknown_classes(500), truth, np.full(500, np.nan))
    assert without_snr.errors[0].law.b == 0
    assert np.isfinite(without_snr.apply(answers, snr).err_NL).all()


def test_a_signal_to_noise_below_one_counts_as_one() -> None:
    answers, truth, snr = scattered(500, 1.0, has_errors=False)
    calibration = fit(answers, unknown_classes(500), truth, np.where(np.arange(500) < 20, -3.0, snr))
    assert np.isfinite(calibration.apply(answers, snr).err_NL).all()
    below, one = (calibration.apply(answers, np.full(500, value)).err_NL for value in (-9.0, 1.0))
    assert np.array_equal(below, one)


def test_unknown_answers_stay_unknown() -> None:
    answers, truth, snr = scattered(200, 1.0, has_errors=False)
    calibration = fit(answers, unknown_classes(200), truth, snr)
    value_NL = answers.value_NL.copy()
    value_NL[3] = np.nan
    calibrated = calibration.apply(replace(answers, value_NL=value_NL), snr)
    assert np.isnan([calibrated.err_NL[3, 0], calibrated.low_NL[3, 0], calibrated.high_NL[3, 0]]).all()
    assert np.isfinite(np.delete(calibrated.err_NL, 3)).all()
    members = random_members.answers(2, 30, 0, missing=0.7)
    warmer: Any = replace(no_calibration(()), temperature=2.0)
    classes = warmer.apply(combined(members), np.full(30, np.nan))
    count = (~members.has_class().any(0)).sum()
    assert np.isnan(classes.p_NC).any(1).sum() == np.isnan(classes.class_entropy_model_N).sum() == count


def test_no_calibration_changes_nothing() -> None:
    members = random_members.answers(3, 50, 2)
    answers = combined(members)
    same: Any = no_calibration(members.labels).apply(answers, np.full(50, np.nan))
    for name, array in answers.arrays().items():
        assert np.array_equal(getattr(same, name), array, equal_nan=True), name
    assert (same.high_NL - same.low_NL) / same.err_NL == pytest.approx(2 * 1.959964)


def test_a_calibration_is_the_same_after_json() -> None:
    members = random_members.answers(3, 60, 2)
    answers = combined(members)
    truth = np.stack([np.zeros(60), np.full(60, np.nan)], 1)
    fitted = fit(answers, np.arange(60) % 3, truth, np.linspace(5, 90, 60))
    calibration: Any
    for calibration in (fitted, no_calibration(members.labels)):
        again: Any = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False)))
        assert again.to_dict() == calibration.to_dict()
        one, other = (each.apply(answers, np.linspace(1, 200, 60)) for each in (calibration, again))
        assert np.array_equal(one.err_NL, other.err_NL, equal_nan=True)
        assert np.array_equal(one.p_NC, other.p_NC)


def test_too_few_stars_change_nothing_and_are_noted() -> None:
    answers = combined(random_members.answers(2, 30, 2))
    truth = np.zeros((30, 2))
    truth[:15, 0] = np.nan
    calibration = fit(answers, np.where(np.arange(30) < 19, 0, -1), truth, np.full(30, 20.0), 0.99)
    assert calibration.temperature == 1
    assert calibration.notes == (
        "classes: 19 validation stars have a known class, 20 are needed; probabilities are not calibrated",
        "L0: 15 validation stars have a known L0, 20 are needed; errors are not calibrated",
        "L1: 30 validation stars are too few for intervals of 99 %; "
        "they are as wide as the largest error of these stars",
    )
    calibrated = calibration.apply(answers, np.full(30, 20.0))
    assert np.array_equal(calibrated.err_NL[:, 0], answers.err_NL[:, 0])
    assert ((calibrated.low_NL[:, 1] <= 0) & (calibrated.high_NL[:, 1] >= 0)).all()
    assert np.isfinite(calibrated.high_NL).all()


def test_errors_of_answers_that_equal_the_truth_are_not_calibrated() -> None:
    answers = combined(random_members.label_answers(np.ones((2, 40)), 0.1))
    calibration = fit(answers, unknown_classes(40), np.ones((40, 1)), np.full(40, 20.0))
    note = "FeH: the answers equal the truth to the last digit; errors are not calibrated"
    assert calibration.notes == (note,)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), has_errors=st.booleans())
def test_the_order_of_stars_changes_nothing(seed: int, has_errors: bool) -> None:
    rng = np.random.default_rng(seed)
    members = random_members.answers(3, 80, 2, seed=seed, missing=0.1)
    if not has_errors:
        members.var_data_MNL[:] = np.nan
    truth, classes = rng.normal(0, 1, (80, 2)), rng.integers(-1, 3, 80)
    snr, rows = rng.lognormal(3, 1, 80), rng.permutation(80)
    answers, moved = combined(members), combined(random_members.select(members, rows=rows))
    first = fit(answers, classes, truth, snr)
    second = fit(moved, classes[rows], truth[rows], snr[rows])
    assert second.temperature == pytest.approx(first.temperature, rel=1e-4)
    one, other = (calibration.apply(answers, snr).err_NL for calibration in (first, second))
    assert other == pytest.approx(one, rel=0.02, nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"coverage": 1.0},
            "coverage=1; give the share of true values that an interval shall contain, above 0 and below 1",
        ),
        (
            {"label_NL": np.zeros((40, 3))},
            r"true labels of shape \(40, 3\), answers of shape \(40, 2\); give both for the same spectra",
        ),
        ({"snr_N": np.zeros(3)}, r"signal to noise of shape \(3,\) for 40 spectra; give one per spectrum"),
        ({"class_N": np.full(40, 7)}, "true classes: one is 7; "),
    ],
)
def test_answers_that_cannot_be_calibrated_are_an_error(changes: dict[str, Any], message: str) -> None:
    options = {
        "class_N": unknown_classes(40),
        "label_NL": np.zeros((40, 2)),
        "snr_N": np.full(40, 20.0),
    } | changes
    with pytest.raises(ValueError, match=message):
        fit(combined(random_members.answers()), **options)


def test_answers_with_other_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="it was fitted for Teff, the answers have L0, L1; fit it again"):
        no_calibration(("Teff",)).apply(combined(random_members.answers()), np.full(40, 20.0))


def visits(stars: int, each: int, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Answers about visits that are wrong by the same amount for each visit of a star; the stars."""
    rng, star = np.random.default_rng(seed), np.repeat(np.arange(stars), each)
    value = rng.normal(0, 1, stars)[star] + rng.normal(0, 0.1, len(star))
    return combined(random_members.label_answers(value[None], 1.0)), np.zeros((len(star), 1)), star


def test_intervals_hold_for_new_stars_if_the_visits_of_a_star_are_alike() -> None:
    """Ten visits of each star: counted as stars, they would give an interval that holds fewer new stars."""
    inside = []
    for seed in range(120):
        answers, truth, star = visits(25, 10, seed)
        snr = np.full(len(star), 30.0)
        calibration = fit_calibration(answers, unknown_classes(len(star)), truth, snr, 0.9, star)
        new, truth, _ = visits(200, 1, 10_000 + seed)
        calibrated: Any = calibration.apply(new, np.full(200, 30.0))
        inside.append(((calibrated.low_NL <= truth) & (truth <= calibrated.high_NL)).mean())
    assert 0.89 < np.mean(inside) < 0.945


def test_many_visits_of_few_stars_change_nothing_and_are_noted() -> None:
    answers, truth, star = visits(19, 10, 0)
    calibration = fit_calibration(answers, unknown_classes(190), truth, np.full(190, 30.0), star_N=star)
    assert calibration.notes == (
        "FeH: 19 validation stars have a known FeH, 20 are needed; errors are not calibrated",
    )
    answers, classes = at_temperature(190, 0.5)
    calibration = fit_calibration(answers, classes, np.empty((190, 0)), np.full(190, 30.0), star_N=star)
    assert calibration.temperature == 1
    assert not calibration.is_fitted
    assert calibration.notes == (
        "classes: 19 validation stars have a known class, 20 are needed; probabilities are not calibrated",
    )


def test_stars_with_one_visit_each_are_calibrated_as_without_stars() -> None:
    answers, truth, snr = scattered(300, 2.0)
    star = np.random.default_rng(0).permutation(300)
    with_stars = fit_calibration(answers, unknown_classes(300), truth, snr, star_N=star)
    assert with_stars.is_fitted
    assert with_stars.to_dict() == fit(answers, unknown_classes(300), truth, snr).to_dict()


def test_an_error_of_0_is_unknown_where_errors_are_fitted_and_where_they_are_applied() -> None:
    rng = np.random.default_rng(0)
    answers = combined(random_members.label_answers(rng.normal(0, 0.2, (1, 300)), 0.0))
    snr = rng.uniform(10, 60, 300)
    calibration: Any = fit(answers, unknown_classes(300), np.zeros((300, 1)), snr)
    calibrated = calibration.apply(answers, snr)
    assert (calibrated.err_NL > 0.05).all()
    inside = (calibrated.low_NL <= 0) & (calibrated.high_NL >= 0)
    assert inside.mean() == pytest.approx(0.95, abs=0.02)
    same: Any = no_calibration(("FeH",)).apply(answers, snr)
    assert (same.err_NL == 0).all()
