"""Intervals where stars have several visits: these are alike, so the intervals are those of stars."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey import labels as rows
from survey.metrics import classes, intervals, labels
from survey.metrics.intervals import Measure
from survey.metrics.score import STAR, extra_columns, metrics_table
from tests.labelled import labelled_answers

STARS, VISITS, LOOKS = 100, 10, 120
STAR_N = np.repeat(np.arange(STARS), VISITS)


def contain(measures: list[Measure], truth: dict[tuple[str, str], float], inside: Counter[str]) -> None:
    """Count whose interval contains the truth."""
    for measure in measures:
        wanted = truth.get((measure.subject, measure.metric))
        if wanted is not None:
            inside[f"{measure.subject}/{measure.metric}"] += measure.low <= wanted <= measure.high


def test_intervals_of_labels_contain_the_truth_though_visits_are_alike() -> None:
    """Stars scatter by 0.2, visits of a star by 0.05 around it."""
    rng, inside, scatter = np.random.default_rng(0), Counter[str](), float(np.hypot(0.2, 0.05))
    truth = {
        "bias": 0.0,
        "scatter": scatter,
        "rmse": scatter,
        "mae": float(np.sqrt(2 / np.pi) * scatter),
        "coverage_68": 0.6827,
        "nll": float(0.5 * (1 + np.log(2 * np.pi)) + np.log(scatter)),
    }
    for _ in range(LOOKS):
        residual = 0.2 * rng.normal(size=STARS)[STAR_N] + 0.05 * rng.normal(size=len(STAR_N))
        sigma = np.full(len(STAR_N), scatter)
        found = labels.measures("FeH", residual * 0, residual, sigma, star_N=STAR_N)
        contain(found, {("FeH", metric): value for metric, value in truth.items()}, inside)
    assert len(inside) == len(truth)
    assert all(0.86 <= count / LOOKS <= 1 for count in inside.values()), inside


def visits(rng: np.random.Generator, star_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities; in nine of ten visits a star has the same noise."""
    stars = int(star_N.max()) + 1
    truth = (np.arange(stars) % 4 == 0).astype(int)[star_N]
    is_own = rng.random(len(star_N)) < 0.1
    noise = np.where(is_own, rng.normal(size=len(star_N)), rng.normal(size=stars)[star_N])
    p = 1 / (1 + np.exp(1.2 - 2.5 * truth - noise))
    return truth, np.stack([1 - p, p], 1)


def test_intervals_of_classes_contain_the_truth_though_visits_are_alike() -> None:
    rng, inside, names = np.random.default_rng(1), Counter[str](), ("NMP", "CEMP")
    wanted = {
        (measure.subject, measure.metric): measure.value
        for measure in classes.measures(*visits(rng, np.arange(400_000)), names)
        if np.isfinite(measure.low)
    }
    for _ in range(LOOKS):
        contain(classes.measures(*visits(rng, STAR_N), names, STAR_N), wanted, inside)
    assert {"all/accuracy", "CEMP/recall", "CEMP/f1", "all/log_loss", "CEMP_search/auc"} <= set(inside)
    assert all(0.84 <= count / LOOKS <= 1 for count in inside.values()), inside


def test_equal_spectra_of_a_star_make_no_interval_narrower() -> None:
    rng = np.random.default_rng(2)
    truth, residual = rng.normal(-1, 0.5, STARS), rng.normal(0, 0.2, STARS)
    once = labels.measures("FeH", truth, truth + residual)
    again = labels.measures("FeH", truth[STAR_N], (truth + residual)[STAR_N], star_N=STAR_N)
    for one, other in zip(once, again, strict=True):
        assert one.value == pytest.approx(other.value)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.15, nan_ok=True)


def test_stars_with_one_visit_each_change_nothing() -> None:
    rng = np.random.default_rng(3)
    truth, value = rng.normal(-1, 0.8, 200), rng.normal(-1, 0.8, 200)
    order, p = rng.permutation(200), rng.dirichlet([1, 1, 1], 200)
    numbers = rng.integers(-1, 3, 200)
    pairs = (
        (labels.measures("FeH", truth, value, star_N=order), labels.measures("FeH", truth, value)),
        (classes.measures(numbers, p, star_N=order), classes.measures(numbers, p)),
    )
    for with_stars, without in pairs:
        np.testing.assert_equal(with_stars, without)


def test_one_star_alone_has_no_interval_of_a_mean_and_its_shares_are_those_of_one_spectrum() -> None:
    same = np.zeros(6, int)
    found = {measure.metric: measure for measure in labels.measures("FeH", same, np.arange(6.0), star_N=same)}
    assert np.isnan([found["mae"].low, found["bias"].high, found["scatter"].low]).all()
    (accuracy, *_) = classes.measure_predictions(same, same, rows.CLASSES, same)
    assert accuracy.low == pytest.approx(float(intervals.wilson(1, 1)[0]))


def test_many_stars_are_drawn_in_blocks_with_the_same_width(monkeypatch: pytest.MonkeyPatch) -> None:
    star_N = np.repeat(np.arange(3000), 2)
    residual = np.random.default_rng(4).normal(size=3000)[star_N]
    widths = []
    for blocks in (intervals.BLOCKS, 10_000):
        monkeypatch.setattr(intervals, "BLOCKS", blocks)
        drawn = intervals.resample_means(residual[:, None], star_N=star_N)
        widths.append(float(np.ptp(np.quantile(drawn, [0.025, 0.975]))))
    assert widths == pytest.approx([2 * 1.96 / np.sqrt(3000)] * 2, rel=0.1)


def test_the_table_of_metrics_knows_the_stars_of_a_table_of_answers() -> None:
    names = pa.chunked_array([["b", "a", None], ["b", None, "a"]])
    number_N = extra_columns(pa.table({"star": names}))[STAR]
    assert number_N[0] == number_N[3]
    assert number_N[1] == number_N[5]
    assert len(set(number_N.tolist())) == 4
    rng = np.random.default_rng(5)
    truth = rng.normal(-1, 0.5, (STARS, 1))[STAR_N]
    value = truth + rng.normal(0, 0.2, (STARS, 1))[STAR_N]

    def width(**extra: Any) -> float:
        answers = labelled_answers(np.full(len(STAR_N), -1), truth, ("FeH",), value_NL=value, extra=extra)
        wanted = ("all", "mae")
        table = metrics_table(answers).to_pylist()
        (mae,) = [row for row in table if (row["kind"], row["metric"]) == wanted]
        return float(mae["high"] - mae["low"])

    assert width(star=STAR_N) == pytest.approx(np.sqrt(VISITS) * width(), rel=0.2)


@pytest.mark.parametrize(
    "sizes", [[1] * 90 + [20] * 10, [5] * 60, [10] * 10], ids=["unequal", "equal", "few"]
)
@pytest.mark.parametrize("common", [1.0, 0.5, 0.0])
def test_an_interval_of_a_share_holds_though_stars_have_unequal_numbers_of_visits(
    sizes: list[int], common: float
) -> None:
    """In a share of the stars all visits are right or wrong together."""
    rng, star_N, inside = np.random.default_rng(6), np.repeat(np.arange(len(sizes)), sizes), 0
    for _ in range(400):
        right_N, own_N = rng.random(len(sizes)) < 0.8, rng.random(len(star_N)) < 0.8
        flag_N = np.where((rng.random(len(sizes)) < common)[star_N], right_N[star_N], own_N)
        measure = intervals.flag_measure("all", "accuracy", flag_N, star_N)
        inside += measure.low <= 0.8 <= measure.high
    assert inside >= 0.93 * 400


def test_one_wrong_visit_of_few_stars_does_not_make_an_interval_that_of_visits() -> None:
    star_N, right_N = np.repeat(np.arange(10), 10), np.ones(100, bool)
    all_right = intervals.flag_measure("all", "accuracy", right_N, star_N)
    assert all_right.low == pytest.approx(float(intervals.wilson(10, 10)[0]))
    right_N[0] = False
    measure = intervals.flag_measure("all", "accuracy", right_N, star_N)
    assert measure.low < all_right.low + 0.1


def test_values_that_do_not_vary_count_by_the_squares_of_the_visits() -> None:
    star_N = np.repeat(np.arange(100), [1] * 90 + [20] * 10)
    assert intervals.independent_share(np.ones(290), star_N) == pytest.approx(290 / (90 + 10 * 400))
    assert intervals.independent_share(np.zeros(0), np.zeros(0, np.int64)) == 1


def test_the_frequencies_of_bins_have_the_intervals_of_stars() -> None:
    rng = np.random.default_rng(7)
    p, right = np.repeat(rng.random(STARS), VISITS), np.repeat(rng.random(STARS) < 0.5, VISITS)
    alike = classes.reliability(right, p, 4, STAR_N)
    once = classes.reliability(right[::VISITS], p[::VISITS], 4)
    assert alike.n.tolist() == (VISITS * once.n).tolist()
    assert alike.stars.tolist() == once.stars.tolist() == once.n.tolist()
    np.testing.assert_allclose([alike.low, alike.high], [once.low, once.high])


def test_numbers_from_the_visits_of_few_stars_are_marked() -> None:
    """Four stars of class 1 with ten visits each; of the others there are 96."""
    rng = np.random.default_rng(8)
    class_N, p_NC = (np.arange(STARS) < 4).astype(int)[STAR_N], rng.dirichlet([1, 1, 1], len(STAR_N))
    truth, value = rng.normal(-1, 0.5, (STARS, 1))[STAR_N], rng.normal(-1, 0.5, (len(STAR_N), 1))
    answers = labelled_answers(
        class_N, truth, ("FeH",), p_NC=p_NC, value_NL=value, extra={"star": STAR_N}, classes=rows.CLASSES
    )
    table = [row for row in metrics_table(answers).to_pylist() if row["kind"] == "all"]
    few = {(row["subject"], row["metric"]) for row in table if row["few"]}
    assert {("CEMP", "recall"), ("CEMP", "f1"), ("CEMP_search", "auc")} <= few
    assert not few & {("all", "accuracy"), ("FeH", "mae"), ("MP", "recall"), ("CEMP", "precision")}
    assert all(
        row["n"] in (40, 400) for row in table if (row["subject"], row["metric"]) == ("CEMP", "recall")
    )
