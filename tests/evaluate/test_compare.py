"""Answers of several about the same spectra: differences, and what their intervals say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as sk

from survey.evaluate import compare
from survey.evaluate.compare import BETTER, OPEN, WORSE, table
from survey.metrics.score import Evaluation, Judged

ALL = Evaluation()


def judged(said_N: np.ndarray, truth_N: np.ndarray, **more: np.ndarray) -> Judged:
    """Answers about [Fe/H] alone."""
    return Judged(
        np.full(len(truth_N), -1), truth_N[:, None], ("FeH",), mu_NL=said_N[:, None], about=dict(more)
    )


def rows(found: object, **wanted: str) -> list[dict]:
    return [row for row in found.to_pylist() if all(row[name] == value for name, value in wanted.items())]  # type: ignore[attr-defined]


def row(found: object, **wanted: str) -> dict:
    (one,) = rows(found, **{"kind": "all"} | wanted)
    return one


@pytest.fixture
def two() -> tuple[np.ndarray, dict[str, Judged]]:
    """Two with the same large errors, of which the second makes a little less."""
    dice = np.random.default_rng(0)
    truth, error = dice.normal(-1, 0.5, 400), dice.normal(0, 0.3, 400)
    return truth, {
        "one": judged(truth + error, truth),
        "two": judged(truth + 0.9 * error + dice.normal(0, 0.01, 400), truth),
    }


def test_a_small_difference_is_told_though_the_intervals_of_both_overlap(
    two: tuple[np.ndarray, dict[str, Judged]],
) -> None:
    _, judged_of = two
    found = table(judged_of, [f"star {number}" for number in range(400)], ALL)
    one, other = (row(found, metric="mae", who=who) for who in ("one", "two"))
    assert one["low"] < other["high"]
    assert other["difference"] == pytest.approx(other["value"] - one["value"])
    assert other["difference_high"] < 0
    assert other["verdict"] == BETTER
    assert one["difference"] is None
    assert one["verdict"] is None
    swapped = table(dict(reversed(judged_of.items())), [f"star {number}" for number in range(400)], ALL)
    assert row(swapped, metric="mae", who="one")["verdict"] == WORSE


def test_intervals_agree_with_those_of_another_library(two: tuple[np.ndarray, dict[str, Judged]]) -> None:
    truth, judged_of = two
    found = table(judged_of, [str(number) for number in range(400)], ALL)
    off = [np.abs(one.mu_NL[:, 0] - truth) for one in judged_of.values() if one.mu_NL is not None]

    def apart(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(two.mean(axis) - one.mean(axis))

    told = bootstrap(
        off, apart, paired=True, n_resamples=2000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    mine = row(found, metric="mae", who="two")
    assert mine["difference_low"] == pytest.approx(told.low, rel=0.1)
    assert mine["difference_high"] == pytest.approx(told.high, rel=0.1)
    assert row(found, metric="rmse", who="two")["value"] == pytest.approx(np.sqrt((off[1] ** 2).mean()))


def test_visits_of_a_star_count_as_one_so_that_repeating_them_makes_nothing_surer(
    two: tuple[np.ndarray, dict[str, Judged]],
) -> None:
    truth, judged_of = two
    stars = [str(number) for number in range(400)]
    index = np.repeat(np.arange(400), 5)
    repeated = {
        name: judged(one.mu_NL[index, 0], truth[index])
        for name, one in judged_of.items()
        if one.mu_NL is not None
    }
    once, again = table(judged_of, stars, ALL), table(repeated, [stars[place] for place in index], ALL)
    wide = [row(found, metric="mae", who="two") for found in (once, again)]
    assert wide[0]["high"] - wide[0]["low"] == pytest.approx(wide[1]["high"] - wide[1]["low"], rel=1e-6)
    assert (wide[1]["rows"], wide[1]["stars"]) == (2000, 400)


def test_more_stars_than_blocks_are_drawn_in_blocks_at_the_same_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = np.random.default_rng(1)
    truth = dice.normal(0, 1, 3000)
    one = {
        "one": judged(truth + dice.normal(0, 0.1, 3000), truth),
        "two": judged(truth + dice.normal(0, 0.1, 3000), truth),
    }
    stars = [str(number) for number in range(3000)]
    few = row(table(one, stars, ALL), metric="mae", who="two")
    monkeypatch.setattr(compare, "BLOCKS", 5000)
    whole = row(table(one, stars, ALL), metric="mae", who="two")
    assert few["high"] - few["low"] == pytest.approx(whole["high"] - whole["low"], rel=0.15)
    assert few["value"] == pytest.approx(whole["value"])


def test_a_bias_is_better_if_it_is_smaller_whatever_its_sign() -> None:
    truth = np.random.default_rng(2).normal(0, 1, 200)
    noise = np.random.default_rng(3).normal(0, 0.05, 200)
    found = table(
        {"low": judged(truth - 0.3 + noise, truth), "high": judged(truth + 0.1 + noise, truth)},
        list(map(str, range(200))),
        ALL,
    )
    assert row(found, metric="bias", who="high")["value"] == pytest.approx(0.1, abs=0.02)
    assert row(found, metric="bias", who="high")["difference"] == pytest.approx(-0.2, abs=0.02)
    assert row(found, metric="bias", who="high")["verdict"] == BETTER
    assert row(found, metric="scatter", who="high")["verdict"] == OPEN


def test_classes_are_compared_by_accuracy_and_f1_of_which_more_is_better() -> None:
    dice = np.random.default_rng(4)
    truth = dice.integers(-1, 3, 300)
    right, half = (
        np.eye(3)[np.maximum(truth, 0)] * 0.9 + 0.1 / 3,
        np.eye(3)[np.where(dice.random(300) < 0.5, np.maximum(truth, 0), 0)],
    )
    blank = np.zeros((300, 0))
    both = {"half": Judged(truth, blank, p_NC=half), "right": Judged(truth, blank, p_NC=right)}
    found = table(both, list(map(str, range(300))), ALL)
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


def test_only_what_the_first_and_another_tell_is_compared_where_the_truth_is_known() -> None:
    truth = np.where(np.arange(60) < 20, np.nan, np.linspace(-2, 0, 60))
    wide = Judged(
        np.full(60, -1), np.stack([truth, np.zeros(60)], 1), ("FeH", "CFe"), mu_NL=np.zeros((60, 2))
    )
    found = table({"one": judged(np.zeros(60), truth), "two": wide}, list(map(str, range(60))), ALL)
    assert {one["subject"] for one in found.to_pylist()} == {"FeH"}
    assert row(found, metric="mae", who="two")["n"] == 40
    assert row(found, metric="mae", who="two")["verdict"] == OPEN  # the same answers
    assert (
        table(
            {"one": judged(np.zeros(60), truth * np.nan), "two": wide}, list(map(str, range(60))), ALL
        ).num_rows
        == 0
    )


def test_groups_are_those_of_the_first_and_one_star_has_no_interval() -> None:
    truth, snr = np.linspace(-2, 0, 30), np.where(np.arange(30) < 29, 25.0, 200.0)
    one = judged(truth + 0.1, truth, snr=snr, logg=np.where(np.arange(30) < 10, 2.0, 4.5))
    found = table({"one": one, "two": replace(one, about={})}, list(map(str, range(30))), ALL)
    assert {(each["kind"], each["group"]): each["rows"] for each in found.to_pylist()} == {
        ("all", "all"): 30,
        ("snr", "20-30"): 29,
        ("snr", ">100"): 1,
        ("gravity", "giant"): 10,
        ("gravity", "dwarf"): 20,
    }
    alone = rows(found, kind="snr", group=">100", metric="mae", who="two")[0]
    assert (alone["low"], alone["difference_low"], alone["verdict"], alone["few"]) == (None, None, OPEN, True)
