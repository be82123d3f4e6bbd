"""The purity from a sample has no bias, and its interval holds the truth as often as it says."""

import numpy as np
import pytest

from survey.followup.choice import choose
from survey.followup.stratified import expected_error, merge_unobserved, stratified_purity
from survey.metrics.intervals import wilson
from tests.followup.test_choice import counts, settings, sky

DRAWS = 150


@pytest.mark.parametrize(
    ("hours", "certify", "allocation", "power"),
    [
        (30.0, 0.3, "neyman", 1.7),
        (30.0, 0.3, "proportional", 0.5),
        (25.0, 0.5, "neyman", 4.0),
        (20.0, 1.0, "neyman", 1.0),
    ],
)
def test_the_purity_has_no_bias_and_its_interval_holds_the_truth(
    hours: float, certify: float, allocation: str, power: float
) -> None:
    """The truth does not follow the scores: they are wrong by a power."""
    p, cost, snr = sky(300)
    random = np.random.default_rng(7)
    errors, naive, holds = [], [], []
    for seed in range(DRAWS):
        true = random.random(len(p)) < p**power
        given = settings(hours=hours, certify=certify, seed=seed, strata={"allocation": allocation})
        choice = choose(p, cost, snr, given)
        found = stratified_purity(*counts(choice, true), "list")
        errors.append(found.value - true.mean())
        naive.append(true[choice.order].mean() - true.mean())
        holds.append(found.low <= true.mean() <= found.high)
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(DRAWS)
    assert np.mean(holds) >= 0.9
    if certify < 1 and power > 1:
        assert np.mean(naive) > 0.05


def test_a_list_that_is_observed_completely_has_an_exact_purity() -> None:
    found = stratified_purity([10, 20], [10, 20], [5, 19], "list")
    assert (found.value, found.low, found.high) == (0.8, 0.8, 0.8)


def test_one_stratum_of_a_long_list_has_about_the_interval_of_wilson() -> None:
    found = stratified_purity([10**6], [50], [40], "list")
    low, high = wilson(40, 50)
    assert found.value == 0.8
    assert found.low == pytest.approx(low, abs=0.005)
    assert found.high == pytest.approx(high, abs=0.005)


def test_all_true_is_no_certainty() -> None:
    found = stratified_purity([50, 50], [3, 3], [3, 3], "list")
    assert found.value == found.high == 1
    assert 0.4 < found.low < 0.75


def test_the_estimate_is_the_mean_of_strata_by_their_size() -> None:
    found = stratified_purity([90, 10], [10, 10], [9, 2], "list")
    assert found.value == pytest.approx(0.9 * 0.9 + 0.1 * 0.2)
    assert found.low < found.value < found.high


def test_a_stratum_without_results_is_joined_with_its_neighbour() -> None:
    (size, n, true), merged = merge_unobserved([10, 20, 30, 0], [5, 0, 6, 0], [5, 0, 3, 0])
    assert (size.tolist(), n.tolist(), true.tolist(), merged) == ([10, 50], [5, 6], [5, 3], 1)
    assert np.isnan(stratified_purity([10], [0], [0], "list").value)


def test_the_error_that_is_announced_is_that_of_the_results() -> None:
    p, cost, snr = sky(300)
    random = np.random.default_rng(3)
    values = []
    for seed in range(DRAWS):
        choice = choose(p, cost, snr, settings(hours=20.0, certify=1.0, seed=seed))
        size, n, _ = counts(choice, np.zeros(len(p)))
        true = random.random(len(p)) < p
        values.append(stratified_purity(*counts(choice, true), "list").value - true.mean())
    half = choice.strata
    share = [p[choice.stratum_N == number].mean() for number in range(half)]
    assert expected_error(size[half:], n[half:], share, len(p)) == pytest.approx(
        1.96 * np.std(values), rel=0.2
    )
