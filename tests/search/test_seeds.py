"""The gain of a search: the best two trials, one of which other seeds chose, and the recipe."""

import numpy as np
import pytest
from scipy import stats

from survey.search.seeds import SeedScores, gain


@pytest.mark.parametrize(("choices", "level"), [(1, 0.95), (2, 0.975)])
def test_the_interval_of_a_gain_is_that_of_welch(choices: int, level: float) -> None:
    recipe, best = [0.31, 0.35, 0.32, 0.36], [0.30, 0.29, 0.33]
    found = gain(SeedScores.from_values(recipe), SeedScores.from_values(best), 1, choices)
    expected = stats.ttest_ind(recipe, best, equal_var=False).confidence_interval(level)
    assert found
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_the_better_of_two_trials_like_the_recipe_is_seldom_called_a_certain_gain() -> None:
    rng = np.random.default_rng(0)
    certain = 0
    for _ in range(800):
        recipe, *two = (SeedScores.from_values(list(rng.normal(1, 0.1, 10))) for _ in range(3))
        found = gain(recipe, min(two, key=lambda scores: scores.mean), 1, choices=2)
        assert found
        assert found.interval
        certain += found.interval[0] > 0
    assert certain / 800 < 0.035  # 0.025 by the level; 0.045 with the interval of a single comparison
