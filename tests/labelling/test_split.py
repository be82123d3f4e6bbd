"""The split, as a property of hashes: nothing but a star's name and the seed decides."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.labelling.split import PARTS, Split, check, divide, uniform
from survey.settings import SettingsError

NO_CLASS = np.zeros(0, np.int8)


def people(count: int, start: int = 0) -> np.ndarray:
    return np.array([f"star {number}" for number in range(start, start + count)], object)


def dealt(rule: Split, stars: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    return divide(rule, stars, np.full(len(stars), -1, np.int8) if classes is None else classes)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    stratify=st.booleans(),
    folds=st.sampled_from([None, 2, 5]),
    draw=st.integers(0, 2**32 - 1),
)
def test_visits_of_a_star_stay_together_in_any_order(
    seed: int, stratify: bool, folds: int | None, draw: int
) -> None:
    random = np.random.default_rng(draw)
    stars, classes = people(40)[random.integers(0, 40, 150)], random.integers(-1, 3, 150).astype(np.int8)
    rule = Split(seed=seed, stratify=stratify, folds=folds)
    found = dealt(rule, stars, classes)
    assert all(len(set(found[stars == star])) == 1 for star in set(stars))
    order = random.permutation(150)
    assert (dealt(rule, stars[order], classes[order]) == found[order]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), folds=st.sampled_from([None, 4]))
def test_further_stars_change_nobody_s_part(seed: int, folds: int | None) -> None:
    rule = Split(seed=seed, folds=folds)
    assert (dealt(rule, people(300))[:100] == dealt(rule, people(100))).all()


def test_shares_are_right_within_the_chance_of_a_draw() -> None:
    for seed in range(5):
        counts = np.bincount(dealt(Split(seed=seed), people(5000)), minlength=3)
        for count, share in zip(counts, (0.7, 0.1, 0.2), strict=True):
            assert abs(count - 5000 * share) < 4 * np.sqrt(5000 * share * (1 - share))


def test_another_seed_deals_out_anew() -> None:
    assert 0.3 < (dealt(Split(seed=1), people(2000)) == dealt(Split(seed=2), people(2000))).mean() < 0.7


def test_a_whole_number_is_the_star_of_the_same_text() -> None:
    numbers = np.arange(50)
    assert (
        divide(Split(), numbers, NO_CLASS)
        == divide(Split(), np.array([str(n) for n in numbers], object), NO_CLASS)
    ).all()


def test_the_hash_is_fixed_for_all_time() -> None:
    """A run that is evaluated years later must find the same stars in its test part. The value is from b2sum -l 64."""
    assert uniform("0", "3089803084812330368") == pytest.approx(0.7148363109673747, abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(rare=st.integers(0, 60), common=st.integers(0, 300), seed=st.integers(0, 100))
def test_a_rare_class_has_its_share_of_every_part_to_rounding(rare: int, common: int, seed: int) -> None:
    classes = np.repeat(np.array([1, 0], np.int8), [rare, common])
    found = dealt(Split(stratify=True, seed=seed), people(rare + common), classes)
    for number, size in ((1, rare), (0, common)):
        counts = np.bincount(found[classes == number], minlength=3)
        assert np.abs(counts - size * np.array([0.7, 0.1, 0.2])).max() <= 1


def test_a_star_of_two_classes_counts_as_the_rarer_one() -> None:
    stars = np.repeat(people(50), 2)
    classes = np.zeros(100, np.int8)
    classes[:20:2] = 1  # one of two visits of ten stars
    found = dealt(Split(stratify=True), stars, classes)
    assert np.bincount(found[:20:2], minlength=3).tolist() == [7, 1, 2]


@pytest.mark.parametrize("stratify", [False, True])
def test_over_the_folds_every_star_is_tested_exactly_once(stratify: bool) -> None:
    stars, classes = people(400), np.repeat(np.array([0, 1], np.int8), [360, 40])
    tested = np.zeros(400, int)
    for fold in range(5):
        found = dealt(Split(folds=5, fold=fold, stratify=stratify), stars, classes)
        tested += found == PARTS.index("test")
        rest = found[found != PARTS.index("test")]
        assert (rest == PARTS.index("validation")).mean() == pytest.approx(0.1, abs=0.05)
        if stratify:
            assert (found[360:] == PARTS.index("test")).sum() == 8
    assert (tested == 1).all()


def test_a_column_of_the_user_decides_alone() -> None:
    given_N = np.array(["Train", "val ", "TEST", None, "training", "none"], object)
    found = divide(Split(column="part"), people(6), np.zeros(6, np.int8), given_N)
    assert found.tolist() == [0, 1, 2, -1, 0, -1]


def test_a_star_that_a_column_puts_into_two_parts_is_an_error_that_names_it() -> None:
    stars = np.array(["a", "b", "a"], object)
    with pytest.raises(
        ValueError,
        match=r"split: column=part: 1 stars are in two parts, such as a in train and test; put all visits",
    ):
        divide(Split(column="part"), stars, np.zeros(3, np.int8), np.array(["train", "test", "test"], object))


def test_a_column_of_other_words_is_an_error_that_shows_them() -> None:
    with pytest.raises(
        ValueError, match=r"split: column=part: it says 'holdout'; write train, validation, test"
    ):
        divide(Split(column="part"), people(2), np.zeros(2, np.int8), np.array(["train", "holdout"], object))
    with pytest.raises(ValueError, match=r"split: column=part, but no parts are given"):
        divide(Split(column="part"), people(2), np.zeros(2, np.int8))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"parts": [0.7, 0.1, 0.1]}, "sum to 1"),
        ({"parts": [0.0, 0.5, 0.5]}, "the first above 0"),
        ({"parts": [1.2, -0.4, 0.2]}, "sum to 1"),
        ({"folds": 5, "fold": 5}, "numbered from 0 to 4"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"by": "row"}, "'star'"),
    ],
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Split.checked("split", wrong)


def test_a_part_of_fewer_than_two_stars_is_an_error_that_counts() -> None:
    stars = people(10)
    part_N = np.array([0] * 7 + [1] + [2] * 2, np.int8)
    with pytest.raises(
        ValueError,
        match=r"split: validation would hold fewer than 2 of 10 stars \(train 7, validation 1, test 2\)",
    ):
        check(Split(), part_N, stars)
    check(Split(parts=(0.8, 0.0, 0.2)), np.array([0] * 8 + [2] * 2, np.int8), stars)
    check(Split(column="part"), np.array([0] * 8 + [1] * 2, np.int8), stars)
