"""What classifiers say about classes: rows of one object stay together, and numbers are comparable."""

import numpy as np
import pytest

from survey.latent.classifiers import LabelledRows, labelled_rows, score_classifiers
from survey.latent.row_labels import RowClasses
from survey.latent.settings import Classifiers
from tests.latent.drawn_latents import drawn

FEW_TREES = Classifiers(trees=30)


def question(class_N: np.ndarray, names: tuple[str, ...] = ("a", "b", "c")) -> RowClasses:
    return RowClasses("kind", names, class_N.astype(np.int32))


def rows_of(
    count: int, features: dict[str, np.ndarray], class_N: np.ndarray, least: int = 10
) -> LabelledRows | str:
    objects = np.array([f"star {number}" for number in range(count)], object)
    return labelled_rows(question(class_N), np.arange(count), objects, features, Classifiers(least=least))


def by_name(found: list[dict[str, object]], metric: str) -> dict[tuple[object, object], float]:
    return {
        (row["features"], row["classifier"]): float(str(row["value"]))
        for row in found
        if row["metric"] == metric and not row["class"]
    }


def test_a_latent_that_knows_the_class_is_better_than_numbers_that_do_not() -> None:
    latent_ND, class_N = drawn(600, width=8, spread=2.0)
    noise_NS = np.random.default_rng(3).normal(size=(600, 4)).astype(np.float32)
    rows = rows_of(600, {"latent": latent_ND, "statistics": noise_NS}, class_N)
    assert isinstance(rows, LabelledRows)
    found = score_classifiers(rows, FEW_TREES)
    balanced = by_name(found, "balanced_accuracy")
    for classifier in ("forest", "linear"):
        assert balanced["latent", classifier] > 0.95
        assert balanced["statistics", classifier] < 0.5
    assert balanced["nothing", "majority"] == pytest.approx(1 / 3)
    for row in found:
        assert row["low"] <= row["value"] <= row["high"]


def test_all_visits_of_a_star_are_in_one_part() -> None:
    """The class is drawn by star and cannot be known, but a visit gives the star away."""
    generator = np.random.default_rng(0)
    star_N = np.repeat(np.arange(200), 5)
    class_N = generator.integers(2, size=200)[star_N]
    latent_ND = generator.normal(size=(200, 6))[star_N].astype(np.float32)
    objects = np.array([f"star {number}" for number in star_N], object)
    latents = {"latent": latent_ND}
    rows = labelled_rows(question(class_N, ("a", "b")), np.arange(1000), objects, latents, FEW_TREES)
    assert isinstance(rows, LabelledRows)
    found = by_name(score_classifiers(rows, FEW_TREES), "balanced_accuracy")
    assert found["latent", "forest"] < 0.65


def test_a_rare_class_is_left_out_and_one_class_is_nothing_to_learn() -> None:
    latent_ND, class_N = drawn(300, width=4)
    class_N[class_N == 2] = 1
    class_N[:5] = 2
    rows = rows_of(300, {"latent": latent_ND}, class_N)
    assert isinstance(rows, LabelledRows)
    assert rows.classes == ("a", "b")
    assert len(rows.class_N) == 295
    why = rows_of(300, {"latent": latent_ND}, np.zeros(300, int))
    assert "1 classes with 10 stars" in str(why)


@pytest.mark.parametrize(("share", "purpose"), [(0.98, "learn from"), (0.01, "test")])
def test_a_part_without_a_class_is_one_sentence(share: float, purpose: str) -> None:
    latent_ND, _ = drawn(60, width=4)
    objects = np.array([f"star {number}" for number in range(60)], object)
    settings = Classifiers(test=share)
    class_N = question(np.arange(60) % 3)
    why = labelled_rows(class_N, np.arange(60), objects, {"latent": latent_ND}, settings)
    assert why == f"no star or object of the class a is left to {purpose} (classifiers.test={share:g})"


def test_rows_count_only_where_all_features_are_known() -> None:
    latent_ND, class_N = drawn(300, width=4)
    statistics_NS = np.ones((300, 2), np.float32)
    statistics_NS[:50, 1] = np.nan
    rows = rows_of(300, {"latent": latent_ND, "statistics": statistics_NS}, class_N)
    assert isinstance(rows, LabelledRows)
    assert len(rows.class_N) == len(rows.features["latent"]) == 250


def test_the_majority_is_what_a_confusion_by_hand_gives() -> None:
    class_N = np.array([0] * 240 + [1] * 60)
    latent_ND = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    rows = rows_of(300, {"latent": latent_ND}, class_N)
    assert isinstance(rows, LabelledRows)
    found = score_classifiers(rows, FEW_TREES)
    majority = {row["metric"]: row for row in found if row["classifier"] == "majority" and not row["class"]}
    assert majority["accuracy"]["value"] == pytest.approx(0.8)  # 72 of 90: the split keeps the shares
    assert majority["macro_f1"]["value"] == pytest.approx(0.8 * 2 / 1.8 / 2)
    assert majority["accuracy"]["n"] == 90
