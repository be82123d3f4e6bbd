"""Bounds keep what is near a list, say honestly what they miss, and rule out nothing that is unsure."""

import numpy as np
import pytest

from survey.answers import Answers
from survey.ensemble.bounds import MARGIN, MISSED, NEAR, Bounds, ListBound
from survey.labels import CLASSES


def answers(
    p_mp: np.ndarray, p_cemp: np.ndarray, domain: np.ndarray | None = None, label: float = 0.0
) -> Answers:
    """Answers with these probabilities; the last spectrum has this label, the others 0."""
    p_NC, value_NL = np.stack([p_mp, p_cemp, 1 - p_mp - p_cemp], 1), np.zeros((len(p_mp), 1))
    value_NL[-1] = label
    return Answers(("FeH",), CLASSES, p_NC=p_NC, value_NL=value_NL, domain_N=domain)


def metal_poor(one: Answers) -> np.ndarray:
    """The probability of the MP list."""
    assert one.p_NC is not None
    return np.asarray(one.p_NC[:, :2].sum(1))


def simulated(stars: int, draws: int, seed: int) -> tuple[Answers, Answers, np.ndarray]:
    """Answers of a fast network and of an ensemble, which agree but for the star and the draw."""
    rng = np.random.default_rng(seed)
    star_N = np.repeat(np.arange(stars), draws)
    true_N = rng.normal(-2, 3, stars)[star_N]
    fast_N = true_N + rng.normal(0, 1, stars)[star_N] + rng.normal(0, 0.5, len(star_N))
    odds = [np.exp(values) / (1 + np.exp(values)) for values in (fast_N, true_N)]
    alone, together = (answers(0.5 * p_N, 0.4 * p_N) for p_N in odds)
    return alone, together, star_N


def test_few_near_spectra_are_ruled_out() -> None:
    alone, together, star_N = simulated(800, 10, 0)
    bounds = Bounds.fit(alone, together, star_N)
    near_N = metal_poor(together) >= NEAR
    ruled_out_N = bounds.rules_out(alone)
    assert ruled_out_N[near_N].mean() <= MISSED
    assert ruled_out_N.mean() > 0.1
    assert bounds.lists["MP"].near == near_N.sum()
    lowest = np.quantile(metal_poor(alone)[near_N], MISSED, method="lower")
    assert bounds.lists["MP"].value == pytest.approx(MARGIN * lowest)


def test_the_interval_holds_what_is_missed_of_other_stars() -> None:
    held = []
    for seed in range(40):
        alone, together, star_N = simulated(300, 10, seed)
        bounds = Bounds.fit(alone, together, star_N)
        others, truth, _ = simulated(3000, 5, seed + 1000)
        near_N = metal_poor(truth) >= NEAR
        missed = bounds.rules_out(others)[near_N].mean()
        assert bounds.lists["MP"].high is not None
        held.append(missed <= bounds.lists["MP"].high)
    assert np.mean(held) > 0.9


def test_what_is_unsure_or_far_goes_on() -> None:
    bounds = Bounds(
        lists={name: ListBound(value=0.9, near=50, stars=50, missed=0) for name in ("MP", "CEMP")}
    )
    p_mp = np.array([0.01, 0.01, 0.01, 0.2, np.nan, 0.01])
    domain = np.array([0.5, 1.5, np.nan, 0.5, 0.5, 0.5])
    fast = answers(p_mp, np.zeros(6), domain, label=np.nan)
    assert bounds.rules_out(fast).tolist() == [True, False, False, False, False, False]
    assert bounds.rules_out(answers(p_mp, np.zeros(6))).tolist() == [True, True, True, False, False, True]


def test_with_few_stars_near_a_list_nothing_is_ruled_out() -> None:
    alone, together, star_N = simulated(12, 40, 0)
    bounds = Bounds.fit(alone, together, star_N)
    assert bounds.lists["MP"].value == 0
    assert bounds.lists["MP"].share is None
    assert not bounds.rules_out(alone).any()
