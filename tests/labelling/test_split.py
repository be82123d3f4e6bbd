"""The split: only the name of a star and the seed decide its part."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.labelling.settings import PARTS, Split
from survey.labelling.split import check_parts, hash_to_unit, parts_of_stars
from survey.settings import SettingsError

NO_CLASS = np.zeros(0, np.int8)


def star_names(count: int, start: int = 0) -> np.ndarray:
    return np.array([f"star {number}" for number in range(start, start + count)], object)


def split(rule: Split, stars: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    return parts_of_stars(rule, stars, np.full(len(stars), -1, np.int8) if classes is None else classes)


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
    stars, classes = star_names(40)[random.integers(0, 40, 150)], random.integers(-1, 3, 150).astype(np.int8)
    rule = Split(seed=seed, stratify=stratify, folds=folds)
    found = split(rule, stars, classes)
    assert all(len(set(found[stars == star])) == 1 for star in set(stars))
    order = random.permutation(150)
    assert (split(rule, stars[order], classes[order]) == found[order]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), folds=st.sampled_from([None, 4]))
def test_more_stars_do_not_change_the_part_of_a_star(seed: int, folds: int | None) -> None:
    rule = Split(seed=seed, folds=folds)
    assert (split(rule, star_names(300))[:100] == split(rule, star_names(100))).all()


def test_shares_are_right_within_the_scatter_of_a_binomial_draw() -> None:
    for seed in range(5):
        counts = np.bincount(split(Split(seed=seed), star_names(5000)), minlength=3)
        for count, share in zip(counts, (0.7, 0.1, 0.2), strict=True):
            assert abs(count - 5000 * share) < 4 * np.sqrt(5000 * share * (1 - share))


def test_another_seed_gives_another_split() -> None:
    assert (
        0.3 < (split(Split(seed=1), star_names(2000)) == split(Split(seed=2), star_names(2000))).mean() < 0.7
    )


def test_a_star_named_by_a_number_is_the_star_of_the_same_text() -> None:
    numbers = np.arange(50)
    assert (
        parts_of_stars(Split(), numbers, NO_CLASS)
        == parts_of_stars(Split(), np.array([str(n) for n in numbers], object), NO_CLASS)
    ).all()


def test_the_hash_never_changes() -> None:
    """An evaluation years later must find the same stars in the test part. The value is from b2sum -l 64."""
    assert hash_to_unit("0", "3089803084812330368") == pytest.approx(0.7148363109673747, abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(rare=st.integers(0, 60), common=st.integers(0, 300), seed=st.integers(0, 100))
def test_a_rare_class_has_its_rounded_share_in_every_part(rare: int, common: int, seed: int) -> None:
    classes = np.repeat(np.array([1, 0], np.int8), [rare, common])
    found = split(Split(stratify=True, seed=seed), star_names(rare + common), classes)
    for number, size in ((1, rare), (0, common)):
        counts = np.bincount(found[classes == number], minlength=3)
        assert np.abs(counts - size * np.array([0.7, 0.1, 0.2])).max() <= 1


def test_a_star_of_two_classes_counts_as_the_rarer_class() -> None:
    stars = np.repeat(star_names(50), 2)
    classes = np.zeros(100, np.int8)
    classes[:20:2] = 1  # one of two visits of ten stars
    found = split(Split(stratify=True), stars, classes)
    assert np.bincount(found[:20:2], minlength=3).tolist() == [7, 1, 2]


@pytest.mark.parametrize("stratify", [False, True])
def test_every_star_is_in_the_test_part_of_exactly_one_fold(stratify: bool) -> None:
    stars, classes = star_names(400), np.repeat(np.array([0, 1], np.int8), [360, 40])
    tested = np.zeros(400, int)
    for fold in range(5):
        found = split(Split(folds=5, fold=fold, stratify=stratify), stars, classes)
        tested += found == PARTS.index("test")
        others = found[found != PARTS.index("test")]
        assert (others == PARTS.index("validation")).mean() == pytest.approx(0.1, abs=0.05)
        if stratify:
            assert (found[360:] == PARTS.index("test")).sum() == 8
    assert (tested == 1).all()


def test_a_column_of_the_user_decides_the_parts() -> None:
    user_part_N = np.array(["Train", "val ", "TEST", None, "training", "none"], object)
    found = parts_of_stars(Split(column="part"), star_names(6), np.zeros(6, np.int8), user_part_N)
    assert found.tolist() == [0, 1, 2, -1, 0, -1]


def test_a_star_in_two_parts_of_a_column_is_an_error_that_names_it() -> None:
    stars = np.array(["a", "b", "a"], object)
    with pytest.raises(
        ValueError,
        match=r"split: column=part: 1 stars are in two parts, such as a in train and test; put all visits",
    ):
        parts_of_stars(
            Split(column="part"), stars, np.zeros(3, np.int8), np.array(["train", "test", "test"], object)
        )


def test_a_column_of_other_words_is_an_error_that_lists_them() -> None:
    with pytest.raises(
        ValueError, match=r"split: column=part: contains 'holdout'; write train, validation, test"
    ):
        parts_of_stars(
            Split(column="part"), star_names(2), np.zeros(2, np.int8), np.array(["train", "holdout"], object)
        )
    with pytest.raises(ValueError, match=r"split: column=part: no parts were read"):
        parts_of_stars(Split(column="part"), star_names(2), np.zeros(2, np.int8))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parts": [0.7, 0.1, 0.1]}, "sum to 1"),
        ({"parts": [0.0, 0.5, 0.5]}, "the first above 0"),
        ({"parts": [1.2, -0.4, 0.2]}, "sum to 1"),
        ({"folds": 5, "fold": 5}, "give a number from 0 to 4"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"by": "row"}, "'star'"),
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Split.from_dict("split", wrong)


def test_a_part_of_fewer_than_two_stars_is_an_error_that_counts() -> None:
    stars = star_names(10)
    part_N = np.array([0] * 7 + [1] + [2] * 2, np.int8)
    with pytest.raises(
        ValueError,
        match=r"split: validation would hold fewer than 2 of 10 stars \(train 7, validation 1, test 2\)",
    ):
        check_parts(Split(), part_N, stars)
    check_parts(Split(parts=(0.8, 0.0, 0.2)), np.array([0] * 8 + [2] * 2, np.int8), stars)
    check_parts(Split(column="part"), np.array([0] * 8 + [1] * 2, np.int8), stars)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (Split(), "label more stars, change the shares split.parts=, or give split.stratify=true"),
        (Split(stratify=True), "label more stars, or change the shares split.parts="),
    ],
)
def test_too_few_stars_are_answered_with_what_is_not_given_yet(settings: Split, advice: str) -> None:
    with pytest.raises(ValueError, match=r"split: validation would hold fewer than 2 of 12 stars") as caught:
        check_parts(settings, np.array([0] * 9 + [1] + [2] * 2, np.int8), star_names(12))
    assert str(caught.value).endswith(advice)
