"""The purity down to each row: against counting by hand, and equal to the list's own at its last row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit, logit

from survey.catalog.ranked_purity import STEPS, last_of_equal, purity_down_to
from survey.catalog.settings import LIST_NAMES, ListGoal, ListName
from survey.catalog.thresholds import choose_threshold
from survey.catalog.validation_stars import ValidationStars
from tests.catalog import mixed_stars
from tests.catalog.mixed_stars import p_of
from tests.catalog.test_catalog import list_of, plain

TRUE = {"MP": (0, 1), "CEMP": (1,)}
GOAL = ListGoal(goal="f1", prior="validation")


@pytest.mark.parametrize("name", LIST_NAMES)
def test_each_row_has_the_share_of_validation_stars_above_its_score(name: ListName) -> None:
    validation = mixed_stars.validation((300, 200, 400))
    threshold = choose_threshold(validation, name, GOAL)
    score_N = threshold.score(p_of(validation))
    true_N = np.isin(validation["true_class"].to_numpy(), TRUE[name])
    score_K = np.linspace(0.999, threshold.value + 0.01, 60)
    value_K, low_K, high_K = purity_down_to(score_K, ValidationStars.from_table(validation), threshold)
    for score, value, low, high in zip(score_K[:-1], value_K, low_K, high_K, strict=False):
        listed_N = score_N >= score
        if not listed_N.any():
            assert np.isnan(value)
            continue
        assert value == pytest.approx(expit(logit(true_N[listed_N].mean()) - threshold.optimism[0]))
        assert low <= value <= high
        assert high - low < 0.75
    assert (value_K[-1], low_K[-1], high_K[-1]) == threshold.purity[2:5]


def test_the_purity_falls_on_the_whole_towards_the_end_and_equal_scores_share_it() -> None:
    validation = mixed_stars.validation((1000, 1000, 1000))
    threshold = choose_threshold(validation, "MP", ListGoal(goal="completeness", level=0.95))
    score_K = np.repeat(np.linspace(0.99, threshold.value, 20), 5)
    value_K = purity_down_to(score_K, ValidationStars.from_table(validation), threshold)[0]
    assert (np.ptp(value_K.reshape(20, 5), axis=1) == 0).all()
    assert value_K[0] > value_K[-1] + 0.05
    assert last_of_equal(np.array([3.0, 3.0, 2.0, 1.0, 1.0])).tolist() == [1, 1, 2, 4, 4]


def test_a_long_list_is_counted_at_some_rows_and_close_to_all_of_them() -> None:
    validation = mixed_stars.validation((2000, 2000, 2000))
    threshold = choose_threshold(validation, "MP", GOAL)
    stars = ValidationStars.from_table(validation)
    score_K = np.sort(np.random.default_rng(0).uniform(threshold.value, 1, 200 * STEPS))[::-1]
    value_K = purity_down_to(score_K, stars, threshold)[0]
    some = np.array([50, 500, 5000, 11_000])
    exact = [purity_down_to(score_K[[row, -1]], stars, threshold)[0][0] for row in some]
    assert value_K[some] == pytest.approx(exact, abs=0.01)
    assert value_K[-1] == threshold.purity.value


def test_a_star_that_the_inner_list_brings_is_counted_at_its_own_score() -> None:
    """And at the end at the latest, where the whole list is."""
    validation = mixed_stars.validation((300, 200, 400))
    inner = choose_threshold(validation, "CEMP", ListGoal(goal="completeness", level=1.0))
    outer = choose_threshold(validation, "MP", ListGoal(goal="purity", level=0.99), inner=(inner,))
    stars = ValidationStars.from_table(validation)
    score_K = np.array([0.999, outer.value + 1e-6, 0.2])
    value_K = purity_down_to(score_K, stars, outer)[0]
    assert value_K[-1] == outer.purity.value
    assert value_K[1] >= value_K[2]


def test_an_empty_list_and_a_score_above_all_validation_stars() -> None:
    validation = mixed_stars.validation((300, 200, 400))
    threshold = choose_threshold(validation, "MP", GOAL)
    stars = ValidationStars.from_table(validation)
    assert purity_down_to(np.empty(0), stars, threshold).shape == (3, 0)
    assert np.isnan(purity_down_to(np.array([1.0, 0.9]), stars, threshold)[:, 0]).all()


@pytest.mark.parametrize("name", LIST_NAMES)
def test_the_last_row_of_a_list_has_the_purity_of_the_list(name: Any) -> None:
    _, result = plain()
    table = list_of(result, name)
    purity = result.document.thresholds[name].purity
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    shown = [last[f"purity_to_here{end}"] for end in ("", "_low", "_high")]
    assert shown == pytest.approx([purity.value, purity.low, purity.high], abs=1e-6)
    expected = result.document.expected[name]
    assert purity.value is not None
    assert expected.true == pytest.approx(purity.value * table.num_rows)
    columns = table.column_names
    assert columns.index("purity_to_here") == columns.index(f"score_{name.lower()}") + 1
    assert pa.types.is_float32(table.schema.field("purity_to_here").type)
