"""Differences between answers about the same spectra, and their intervals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as sk

from survey.evaluate import compare
from survey.evaluate.compare import BETTER, OPEN, WORSE, comparison_table
from survey.metrics.intervals import wilson
from survey.metrics.score import LabelledAnswers
from survey.metrics.settings import ScoreSettings
from tests.labelled import labelled_answers

ALL = ScoreSettings()
Pair = tuple[np.ndarray, dict[str, LabelledAnswers]]


def iron_answers(value_N: np.ndarray, truth_N: np.ndarray, **extra: np.ndarray) -> LabelledAnswers:
    """Answers about [Fe/H] only."""
    return labelled_answers(
        np.full(len(truth_N), -1), truth_N[:, None], ("FeH",), value_NL=value_N[:, None], extra=dict(extra)
    )


def rows(table: pa.Table, **wanted: str) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def row(table: pa.Table, **wanted: str) -> dict[str, Any]:
    (only,) = rows(table, **{"kind": "all"} | wanted)
    return only


def stars(count: int) -> list[str]:
    return [f"star {number}" for number in range(count)]


@pytest.fixture
def two() -> Pair:
    """Two with the same large errors; those of the second are a little smaller."""
    dice = np.random.default_rng(0)
    truth, error = dice.normal(-1, 0.5, 400), dice.normal(0, 0.3, 400)
    return truth, {
        "one": iron_answers(truth + error, truth),
        "two": iron_answers(truth + 0.9 * error + dice.normal(0, 0.01, 400), truth),
    }


def test_a_small_difference_is_certain_though_the_intervals_of_both_overlap(
    two: Pair,
) -> None:
    _, labelled = two
    found = comparison_table(labelled, stars(400), ALL)
    one, other = (row(found, metric="mae", who=who) for who in ("one", "two"))
    assert one["low"] < other["high"]
    assert other["difference"] == pytest.approx(other["value"] - one["value"])
    assert other["difference_high"] < 0
    assert other["verdict"] == BETTER
    assert one["difference"] is None
    assert one["verdict"] is None
    swapped = comparison_table(dict(reversed(labelled.items())), stars(400), ALL)
    assert row(swapped, metric="mae", who="one")["verdict"] == WORSE


def test_intervals_agree_with_those_of_scipy(two: Pair) -> None:
    truth, labelled = two
    table = comparison_table(labelled, stars(400), ALL)
    size = [np.abs(one.value_NL[:, 0] - truth) for one in labelled.values() if one.value_NL is not None]

    def difference(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(two.mean(axis) - one.mean(axis))

    rng = np.random.default_rng(3)
    scipy = bootstrap(size, difference, paired=True, n_resamples=2000, method="percentile", rng=rng)
    mae = row(table, metric="mae", who="two")
    assert mae["difference_low"] == pytest.approx(scipy.confidence_interval.low, rel=0.1)
    assert mae["difference_high"] == pytest.approx(scipy.confidence_interval.high, rel=0.1)
    rmse = np.sqrt((size[1] ** 2).mean())
    assert row(table, metric="rmse", who="two")["value"] == pytest.approx(rmse)


def test_repeated_visits_of_a_star_make_no_interval_narrower(two: Pair) -> None:
    _, labelled = two
    names = stars(400)
    index = np.repeat(np.arange(400), 5)
    repeated = {name: one.at(index) for name, one in labelled.items()}
    once = row(comparison_table(labelled, names, ALL), metric="mae", who="two")
    visits = row(
        comparison_table(repeated, [names[number] for number in index], ALL), metric="mae", who="two"
    )
    assert once["high"] - once["low"] == pytest.approx(visits["high"] - visits["low"], rel=1e-6)
    assert (visits["rows"], visits["stars"]) == (2000, 400)


def test_stars_in_blocks_give_intervals_of_the_same_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = np.random.default_rng(1)
    truth = dice.normal(0, 1, 3000)
    labelled = {
        "one": iron_answers(truth + dice.normal(0, 0.1, 3000), truth),
        "two": iron_answers(truth + dice.normal(0, 0.1, 3000), truth),
    }
    few = row(comparison_table(labelled, stars(3000), ALL), metric="mae", who="two")
    monkeypatch.setattr(compare, "BLOCKS", 5000)
    single = row(comparison_table(labelled, stars(3000), ALL), metric="mae", who="two")
    assert few["high"] - few["low"] == pytest.approx(single["high"] - single["low"], rel=0.15)
    assert few["value"] == pytest.approx(single["value"])


def test_a_bias_is_better_if_its_absolute_value_is_smaller() -> None:
    truth = np.random.default_rng(2).normal(0, 1, 200)
    noise = np.random.default_rng(3).normal(0, 0.05, 200)
    found = comparison_table(
        {"low": iron_answers(truth - 0.3 + noise, truth), "high": iron_answers(truth + 0.1 + noise, truth)},
        stars(200),
        ALL,
    )
    assert row(found, metric="bias", who="high")["value"] == pytest.approx(0.1, abs=0.02)
    assert row(found, metric="bias", who="high")["difference"] == pytest.approx(-0.2, abs=0.02)
    assert row(found, metric="bias", who="high")["verdict"] == BETTER
    assert row(found, metric="scatter", who="high")["verdict"] == OPEN


def test_a_larger_accuracy_or_f1_of_classes_is_better() -> None:
    dice = np.random.default_rng(4)
    truth = dice.integers(-1, 3, 300)
    right, half = (
        np.eye(3)[np.maximum(truth, 0)] * 0.9 + 0.1 / 3,
        np.eye(3)[np.where(dice.random(300) < 0.5, np.maximum(truth, 0), 0)],
    )
    blank = np.zeros((300, 0))
    both = {
        "half": labelled_answers(truth, blank, p_NC=half),
        "right": labelled_answers(truth, blank, p_NC=right),
    }
    found = comparison_table(both, stars(300), ALL)
    known = truth >= 0
    assert row(found, subject="all", metric="accuracy", who="half")["value"] == pytest.approx(
        (half.argmax(1) == truth)[known].mean()
    )
    assert row(found, subject="all", metric="accuracy", who="right")["verdict"] == BETTER
    f1 = sk.f1_score(truth[known] == 1, half.argmax(1)[known] == 1)
    assert row(found, subject="CEMP", metric="f1", who="half")["value"] == pytest.approx(f1)
    search = sk.f1_score(truth[known] < 2, half.argmax(1)[known] < 2)
    assert row(found, subject="MP_search", metric="f1", who="half")["value"] == pytest.approx(search)
    assert row(found, subject="all", metric="f1_macro", who="right")["n"] == known.sum()


def test_only_labels_of_the_first_and_another_with_a_known_truth_are_compared() -> None:
    truth = np.where(np.arange(60) < 20, np.nan, np.linspace(-2, 0, 60))
    wide = labelled_answers(
        np.full(60, -1), np.stack([truth, np.zeros(60)], 1), ("FeH", "CFe"), value_NL=np.zeros((60, 2))
    )
    found = comparison_table({"one": iron_answers(np.zeros(60), truth), "two": wide}, stars(60), ALL)
    assert {one["subject"] for one in found.to_pylist()} == {"FeH"}
    assert row(found, metric="mae", who="two")["n"] == 40
    assert row(found, metric="mae", who="two")["verdict"] == OPEN  # the same answers
    assert (
        comparison_table(
            {"one": iron_answers(np.zeros(60), truth * np.nan), "two": wide}, stars(60), ALL
        ).num_rows
        == 0
    )


def test_groups_are_those_of_the_first_and_one_star_has_no_interval() -> None:
    truth, snr = np.linspace(-2, 0, 30), np.where(np.arange(30) < 29, 25.0, 200.0)
    one = iron_answers(truth + 0.1, truth, snr=snr, logg=np.where(np.arange(30) < 10, 2.0, 4.5))
    found = comparison_table({"one": one, "two": replace(one, extra={})}, stars(30), ALL)
    assert {(each["kind"], each["group"]): each["rows"] for each in found.to_pylist()} == {
        ("all", "all"): 30,
        ("snr", "20-30"): 29,
        ("snr", ">100"): 1,
        ("gravity", "giant"): 10,
        ("gravity", "dwarf"): 20,
    }
    alone = rows(found, kind="snr", group=">100", metric="mae", who="two")[0]
    assert (alone["low"], alone["difference_low"], alone["verdict"], alone["few"]) == (None, None, OPEN, True)


def test_values_that_are_the_same_in_each_draw_have_no_interval_without_width() -> None:
    """Of 40 stars with two visits each, 4 are CEMP; the first finds none of them, the second all."""
    truth = np.repeat(np.where(np.arange(40) < 4, 1, 2), 2)
    blank = np.zeros((80, 0))
    labelled = {
        "none": labelled_answers(truth, blank, p_NC=np.eye(3)[np.full(80, 2)]),
        "all": labelled_answers(truth, blank, p_NC=np.eye(3)[truth]),
    }
    found = comparison_table(labelled, [star for star in stars(40) for _ in range(2)], ALL)
    low, high = (float(bound) for bound in wilson(0, 4))
    none = row(found, subject="CEMP", metric="f1", who="none")
    assert (none["value"], none["low"]) == (0, low)
    assert none["high"] == pytest.approx(2 * high / (1 + high))
    search = row(found, subject="CEMP_search", metric="f1", who="none")
    assert (search["low"], search["high"]) == (none["low"], none["high"])
    every = row(found, subject="CEMP", metric="f1", who="all")
    assert every["value"] == every["high"] == 1
    assert every["low"] == pytest.approx(2 * (1 - high) / (2 - high))
    accuracy = row(found, subject="all", metric="accuracy", who="all")
    assert accuracy["low"] == pytest.approx(float(wilson(40, 40)[0]))
    macro = row(found, subject="all", metric="f1_macro", who="all")
    assert (macro["value"], macro["low"], macro["high"]) == (1, None, None)


def test_a_label_of_a_single_star_has_no_interval() -> None:
    truth = np.where(np.arange(30) == 7, -1.0, np.nan)
    labelled = {who: iron_answers(np.zeros(30), truth) for who in ("one", "two")}
    mae = row(comparison_table(labelled, stars(30), ALL), metric="mae", who="one")
    assert (mae["value"], mae["low"], mae["high"]) == (1, None, None)


def test_with_few_stars_nothing_is_called_better_or_worse() -> None:
    """Of 30 stars, only 19 have a true value; the errors of the second are ten times as small."""
    dice = np.random.default_rng(5)
    for known, verdict in ((compare.LEAST_STARS - 1, OPEN), (compare.LEAST_STARS, BETTER)):
        truth = np.where(np.arange(30) < known, dice.normal(-1, 0.5, 30), np.nan)
        error = dice.normal(0.3, 0.02, 30)
        labelled = {
            "one": iron_answers(np.nan_to_num(truth) + error, truth),
            "two": iron_answers(np.nan_to_num(truth) + 0.1 * error, truth),
        }
        mae = row(comparison_table(labelled, stars(30), ALL), metric="mae", who="two")
        assert mae["difference_high"] < 0
        assert mae["verdict"] == verdict


@pytest.mark.parametrize("count", [2, 3, 5, 8, 12, 20, 40])
def test_equal_models_seldom_differ_however_few_stars_there_are(count: int) -> None:
    dice, verdicts = np.random.default_rng(count), []
    for _ in range(150):
        truth = dice.normal(-1, 0.5, count)
        labelled = {who: iron_answers(truth + dice.normal(0, 0.1, count), truth) for who in ("one", "two")}
        verdicts.append(
            row(comparison_table(labelled, stars(count), ALL), metric="mae", who="two")["verdict"]
        )
    assert sum(verdict != OPEN for verdict in verdicts) / 150 < 0.11
