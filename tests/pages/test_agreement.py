"""Kappa of two and of several people, against scikit-learn, statsmodels and a published table."""

import random

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from survey.pages.agreement import (
    cohen_kappa,
    fleiss_kappa,
    group_agreement,
    pairs_agreement,
    second_looks,
)

KINDS = ["accept", "reject", "unsure"]


def two_lists(seed: int, size: int) -> tuple[list[str], list[str]]:
    chance = random.Random(seed)
    first = [chance.choice(KINDS) for _ in range(size)]
    return first, [each if chance.random() < 0.6 else chance.choice(KINDS) for each in first]


@pytest.mark.parametrize("seed", range(5))
def test_cohen_kappa_is_that_of_scikit_learn(seed: int) -> None:
    first, second = two_lists(seed, 30 + 40 * seed)
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_cohen_kappa_is_that_of_statsmodels() -> None:
    """statsmodels 0.14 gives 0.5934500282326369 for the table [[49, 11, 12], [11, 55, 7], [7, 6, 42]]."""
    assert cohen_kappa(*two_lists(5, 200)) == pytest.approx(0.5934500282326369)


def test_kappa_is_not_defined_where_all_verdicts_are_the_same() -> None:
    assert cohen_kappa(["accept"] * 5, ["accept"] * 5) is None
    assert fleiss_kappa(np.array([[3, 0, 0]] * 5)) is None


def test_fleiss_kappa_is_that_of_the_published_example() -> None:
    """Ten subjects, fourteen raters, five categories (the table in Fleiss' kappa of Wikipedia): 0.210.

    statsmodels gives 0.20993070442195522.
    """
    table = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]]
    table += [[7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    assert fleiss_kappa(np.array(table)) == pytest.approx(0.20993070442195522)


def test_stars_with_different_numbers_of_verdicts_have_no_fleiss_kappa() -> None:
    with pytest.raises(ValueError, match="different numbers of verdicts"):
        fleiss_kappa(np.array([[2, 1], [1, 1]]))


def test_two_people_are_compared_on_the_stars_that_both_judged() -> None:
    people = {
        "ann": {"a": "accept", "b": "reject", "c": "accept"},
        "bob": {"b": "reject", "c": "reject", "d": "accept"},
    }
    [found] = pairs_agreement(people)
    assert (found.who, found.stars, found.share) == (("ann", "bob"), 2, 0.5)


def test_three_people_are_compared_on_the_stars_that_all_judged() -> None:
    people = {
        "ann": {"a": "accept", "b": "reject", "c": "accept"},
        "bob": {"a": "accept", "b": "reject"},
        "cai": {"a": "accept", "b": "accept"},
    }
    found = group_agreement(people, KINDS)
    assert found is not None
    assert (found.stars, found.share) == (2, 0.5)
    assert group_agreement({"ann": people["ann"], "bob": people["bob"]}, KINDS) is None


def test_a_second_look_is_compared_with_the_first_look_of_the_same_person() -> None:
    first = {"ann": {"a": "accept", "b": "reject"}, "bob": {"a": "reject"}}
    second = {"ann": {"a": "accept", "b": "accept", "x": "unsure"}}
    [found] = second_looks(first, second)
    assert (found.who, found.stars, found.share) == (("ann",), 2, 0.5)
