"""Calibration on stars of which it is known how wrong the members are, judged by other such stars."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from survey.ensemble import calibration as calibrate
from survey.ensemble.calibration import Calibration, fit
from survey.ensemble.combine import Combined, combine
from survey.ensemble.weights import equal
from survey.metrics.classes import reliability
from tests.ensemble import answers


def tempered(rows: int, temperature: float, seed: int = 0) -> tuple[Combined, np.ndarray]:
    """Classes drawn from probabilities, told as if at another temperature: 0.5 is twice too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3))
    truth = (rng.random((rows, 1)) > softmax(logits, 1).cumsum(1)).sum(1)
    told = answers.classified(softmax(logits / temperature, 1)[None])
    return combine(told, equal(told)), truth


def scattered(
    rows: int,
    factor: float,
    law: tuple[float, float] = (0.05, 2.0),
    slope: float = 0.0,
    seed: int = 0,
    knows: bool = True,
):
    """Members that scatter around the truth by a law of signal to noise, and tell errors that are too small by a factor."""
    rng = np.random.default_rng(seed)
    snr, truth = rng.lognormal(3.2, 0.6, rows), rng.normal(-1, 0.8, rows)
    sigma, model = np.hypot(law[0], law[1] / snr), 0.03
    common = rng.normal(0, sigma)
    mu = truth + common + rng.normal(0, model, (4, rows))
    said = sigma / factor / (snr / 25) ** slope
    told = answers.labelled(mu, np.tile(said, (4, 1)) if knows else np.nan)
    return combine(told, equal(told)), truth[:, None], snr


def none(rows: int) -> np.ndarray:
    return np.full(rows, -1)


def ece(combined: Combined, truth: np.ndarray) -> float:
    return reliability(combined.p_NC.argmax(1) == truth, combined.p_NC.max(1)).ece


def shares(calibration: Calibration, seed: int, **how: object) -> list[tuple[float, float]]:
    """How many new truths lie within one error and within the interval: of all stars, and in bins of signal to noise."""
    new, truth, snr = scattered(12_000, seed=seed, **how)
    said = calibration.apply(new, snr)
    low, high = calibration.interval(said)
    within = np.abs(said.mu_NL - truth)[:, 0] <= said.total_NL[:, 0]
    held = ((low <= truth) & (truth <= high))[:, 0]
    edges = np.quantile(snr, [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])
    bins = [np.ones(len(snr), bool), *((snr >= one) & (snr <= other) for one, other in pairwise(edges))]
    return [(within[some].mean(), held[some].mean()) for some in bins]


@pytest.mark.parametrize("temperature", [0.4, 0.7, 1.0, 1.6])
def test_a_temperature_is_found_again(temperature: float) -> None:
    """Answers told at a temperature are brought back by its inverse: below 1 they were too sure."""
    combined, truth = tempered(20_000, temperature)
    found = fit(combined, truth, np.empty((20_000, 0)), np.full(20_000, np.nan))
    assert found.temperature == pytest.approx(1 / temperature, rel=0.05)
    new, truth = tempered(20_000, temperature, seed=1)
    after = ece(found.apply(new, np.full(20_000, np.nan)), truth)
    assert after < 0.01
    assert temperature == 1 or after < ece(new, truth) / 3


def test_the_likeliest_class_stays_and_probabilities_stay_probabilities() -> None:
    combined, truth = tempered(2000, 0.3)
    said = fit(combined, truth, np.empty((2000, 0)), np.full(2000, 30.0)).apply(combined, np.full(2000, 30.0))
    assert np.array_equal(said.p_NC.argmax(1), combined.p_NC.argmax(1))
    assert said.p_NC.sum(1) == pytest.approx(1)
    assert (said.entropy_N >= combined.entropy_N - 1e-12).all()


def test_the_share_of_disagreement_in_the_entropy_stays() -> None:
    told = answers.told(4, 300, 0)
    combined = combine(told, equal(told))
    found = replace(calibrate.none(()), temperature=2.0)
    said = found.apply(combined, np.full(300, np.nan))
    assert said.doubt_N / said.entropy_N == pytest.approx(combined.doubt_N / combined.entropy_N)
    assert (said.doubt_N <= said.entropy_N).all()


def test_stars_all_called_right_do_not_make_answers_certain() -> None:
    """Every validation star right says that answers are too timid, but a lucky draw says so too."""
    truth = np.arange(60) % 3
    told = answers.classified(np.where(np.eye(3)[truth] > 0, 0.9, 0.05)[None])
    found = fit(combine(told, equal(told)), truth, np.empty((60, 0)), np.full(60, 30.0))
    assert 0.7 < found.temperature < 1


def test_impossible_answers_that_come_true_are_survived() -> None:
    truth = np.arange(90) % 3
    told = answers.classified(np.eye(3)[(truth + (np.arange(90) < 9)) % 3][None])
    found = fit(combine(told, equal(told)), truth, np.empty((90, 0)), np.full(90, 30.0))
    said = found.apply(combine(told, equal(told)), np.full(90, 30.0))
    assert found.temperature > 2
    assert np.isfinite(said.p_NC).all()
    assert said.p_NC.max() < 0.99


@pytest.mark.parametrize(
    "how",
    [
        {"factor": 3.0},
        {"factor": 0.3},
        {"factor": 1.0, "slope": 0.5},
        {"factor": 2.0, "slope": -0.4},
        {"factor": 1.0, "knows": False},
        {"factor": 1.0, "knows": False, "law": (0.1, 0.5)},
    ],
    ids=[
        "over-confident",
        "under-confident",
        "worse at high S/N",
        "worse at low S/N",
        "no errors told",
        "no errors told, flat",
    ],
)
def test_calibrated_errors_and_intervals_hold_at_every_signal_to_noise(how: dict[str, float]) -> None:
    combined, truth, snr = scattered(2500, **how)
    found = fit(combined, none(2500), truth, snr)
    overall, *bins = shares(found, seed=1, **how)
    assert overall == pytest.approx((0.683, 0.95), abs=0.02)
    for within, held in bins:
        assert within == pytest.approx(0.683, abs=0.04)
        assert held == pytest.approx(0.95, abs=0.03)
    assert found.notes == ()


def test_another_coverage_makes_other_intervals() -> None:
    combined, truth, snr = scattered(2500, 2.0)
    for coverage in (0.5, 0.8, 0.99):
        found = fit(combined, none(2500), truth, snr, coverage)
        assert shares(found, seed=1, factor=2.0)[0][1] == pytest.approx(coverage, abs=0.02)


def test_residuals_far_off_do_not_blow_up_the_errors_of_the_others() -> None:
    combined, truth, snr = scattered(2500, 1.5)
    spoilt = np.where(np.arange(2500)[:, None] % 50 == 0, truth + 30, truth)
    clean, other = (
        fit(combined, none(2500), known, snr).errors[0].scale.of(snr) for known in (truth, spoilt)
    )
    assert other == pytest.approx(clean, rel=0.08)


def test_both_parts_of_an_error_are_scaled_and_the_spread_stays_as_it_is() -> None:
    combined, truth, snr = scattered(2500, 2.0)
    said = fit(combined, none(2500), truth, snr).apply(combined, snr)
    assert said.data_NL / combined.data_NL == pytest.approx(said.model_NL / combined.model_NL)
    assert said.total_NL == pytest.approx(np.hypot(said.data_NL, said.model_NL))
    assert np.array_equal(said.spread_NL, combined.spread_NL)
    assert np.array_equal(said.mu_NL, combined.mu_NL)


def test_a_spectrum_without_told_error_among_others_follows_the_law() -> None:
    combined, truth, snr = scattered(2500, 3.0)
    found = fit(combined, none(2500), truth, snr)
    said = found.apply(
        replace(combined, data_NL=np.where(np.arange(2500)[:, None] < 1250, np.nan, combined.data_NL)), snr
    )
    for half in (slice(0, 1250), slice(1250, None)):
        assert (np.abs(said.mu_NL - truth) <= said.total_NL)[half].mean() == pytest.approx(0.683, abs=0.04)


def test_an_unknown_signal_to_noise_counts_as_the_median_one() -> None:
    combined, truth, snr = scattered(500, 1.0, knows=False)
    known = np.where(np.arange(500) < 100, np.nan, snr)
    found = fit(combined, none(500), truth, known)
    assert found.snr == pytest.approx(np.median(snr[100:]))
    assert np.array_equal(
        found.apply(combined, np.full(500, np.nan)).total_NL,
        found.apply(combined, np.full(500, found.snr)).total_NL,
    )
    blind = fit(combined, none(500), truth, np.full(500, np.nan))
    assert blind.errors[0].law.b == 0
    assert np.isfinite(blind.apply(combined, snr).total_NL).all()


def test_a_signal_to_noise_below_one_counts_as_one() -> None:
    combined, truth, snr = scattered(500, 1.0, knows=False)
    found = fit(combined, none(500), truth, np.where(np.arange(500) < 20, -3.0, snr))
    assert np.isfinite(found.apply(combined, snr).total_NL).all()
    one, other = (found.apply(combined, np.full(500, value)).total_NL for value in (-9.0, 1.0))
    assert np.array_equal(one, other)


def test_what_nobody_said_stays_unknown() -> None:
    combined, truth, snr = scattered(200, 1.0, knows=False)
    found = fit(combined, none(200), truth, snr)
    mu = combined.mu_NL.copy()
    mu[3] = np.nan
    said = found.apply(replace(combined, mu_NL=mu), snr)
    low, high = found.interval(said)
    assert np.isnan([said.total_NL[3, 0], low[3, 0], high[3, 0]]).all()
    assert np.isfinite(np.delete(said.total_NL, 3)).all()
    told = answers.told(2, 30, 0, holes=0.7)
    warm = replace(calibrate.none(()), temperature=2.0).apply(combine(told, equal(told)), np.full(30, np.nan))
    assert (
        np.isnan(warm.p_NC).any(1).sum() == np.isnan(warm.doubt_N).sum() == (~told.says_class().any(0)).sum()
    )


def test_no_calibration_changes_nothing() -> None:
    told = answers.told(3, 50, 2)
    combined = combine(told, equal(told))
    found = calibrate.none(told.labels)
    same = found.apply(combined, np.full(50, np.nan))
    for name, array in vars(combined).items():
        assert (
            np.array_equal(getattr(same, name), array, equal_nan=True)
            if isinstance(array, np.ndarray)
            else getattr(same, name) == array
        )
    low, high = found.interval(same)
    assert (high - low) / same.total_NL == pytest.approx(2 * 1.959964)


def test_a_calibration_is_the_same_after_json() -> None:
    told = answers.told(3, 60, 2)
    combined = combine(told, equal(told))
    truth = np.stack([np.zeros(60), np.full(60, np.nan)], 1)
    for found in (
        fit(combined, np.arange(60) % 3, truth, np.linspace(5, 90, 60)),
        calibrate.none(told.labels),
    ):
        text = json.dumps(found.told(), allow_nan=False)
        again = Calibration.of(json.loads(text))
        assert again.told() == found.told()
        one, other = (which.apply(combined, np.linspace(1, 200, 60)) for which in (found, again))
        assert np.array_equal(one.total_NL, other.total_NL, equal_nan=True)
        assert np.array_equal(one.p_NC, other.p_NC)


def test_too_few_stars_change_nothing_and_are_noted() -> None:
    told = answers.told(2, 30, 2)
    combined = combine(told, equal(told))
    truth = np.zeros((30, 2))
    truth[:15, 0] = np.nan
    known = np.where(np.arange(30) < 19, 0, -1)
    found = fit(combined, known, truth, np.full(30, 20.0), 0.99)
    assert found.temperature == 1
    assert found.notes == (
        "classes: 19 validation stars of known class, 20 are needed; probabilities are left as they are",
        "L0: 15 validation stars of known L0, 20 are needed; errors are left as they are",
        "L1: 30 validation stars are too few for intervals of 99 %; they are as wide as the largest error seen",
    )
    said = found.apply(combined, np.full(30, 20.0))
    assert np.array_equal(said.total_NL[:, 0], combined.total_NL[:, 0])
    low, high = found.interval(said)
    assert ((low[:, 1] <= 0) & (high[:, 1] >= 0)).all()
    assert np.isfinite(high).all()


def test_answers_that_are_the_truth_are_left_as_they_are() -> None:
    told = answers.labelled(np.ones((2, 40)), 0.1)
    found = fit(combine(told, equal(told)), none(40), np.ones((40, 1)), np.full(40, 20.0))
    assert found.notes == ("FeH: the answers are the truth to the last digit; errors are left as they are",)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knows=st.booleans())
def test_the_order_of_stars_changes_nothing(seed: int, knows: bool) -> None:
    rng = np.random.default_rng(seed)
    told = answers.told(3, 80, 2, seed=seed, holes=0.1)
    if not knows:
        told.var_MNL[:] = np.nan
    truth, classes, snr, rows = (
        rng.normal(0, 1, (80, 2)),
        rng.integers(-1, 3, 80),
        rng.lognormal(3, 1, 80),
        rng.permutation(80),
    )
    moved = answers.of(told, rows=rows)
    first = fit(combine(told, equal(told)), classes, truth, snr)
    second = fit(combine(moved, equal(moved)), classes[rows], truth[rows], snr[rows])
    assert second.temperature == pytest.approx(first.temperature, rel=1e-4)
    one, other = first.apply(combine(told, equal(told)), snr), second.apply(combine(told, equal(told)), snr)
    assert other.total_NL == pytest.approx(one.total_NL, rel=0.02, nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"coverage": 1.0},
            "coverage=1; give the share of truths that an interval is to hold, above 0 and below 1",
        ),
        (
            {"label_NL": np.zeros((40, 3))},
            r"true labels of shape \(40, 3\), answers of shape \(40, 2\); give both for the same spectra",
        ),
        ({"snr_N": np.zeros(3)}, r"signal to noise of shape \(3,\) beside 40 spectra; give one for each"),
        ({"class_N": np.full(40, 7)}, "a true class is 7; classes are 0 to 2, and -1 where not known"),
    ],
)
def test_what_cannot_be_calibrated_is_told(changes: dict[str, object], message: str) -> None:
    told = answers.told()
    given = {"class_N": none(40), "label_NL": np.zeros((40, 2)), "snr_N": np.full(40, 20.0)} | changes
    with pytest.raises(ValueError, match=message):
        fit(combine(told, equal(told)), **given)


def test_answers_about_other_labels_are_told() -> None:
    told = answers.told()
    with pytest.raises(ValueError, match="it was fitted for Teff, the answers are about L0, L1; fit it anew"):
        calibrate.none(("Teff",)).apply(combine(told, equal(told)), np.full(40, 20.0))
