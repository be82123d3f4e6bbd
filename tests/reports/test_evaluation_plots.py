"""Plots of labelled answers: which ones the answers allow, and the numbers in their axes."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.testing import assert_allclose
from scipy.special import ndtri

from survey.answers import Answers
from survey.metrics import classes, curves, labels
from survey.metrics.intervals import wilson
from survey.metrics.score import LabelledAnswers
from survey.reports import class_plots, kiel_plots, label_plots, style
from survey.reports.evaluate import evaluation_pictures
from tests.reports.labelled_stars import LABELS, labelled_stars

ALL_LABELS = {"coverage", "snr", "kiel", "kiel_FeH", "kiel_CFe"}
OF_CLASSES = {"confusion", "curves", "reliability"}

PLOTS: dict[str, Callable[[LabelledAnswers], bytes | None]] = {
    "confusion": class_plots.confusion_matrices,
    "curves": class_plots.threshold_curves,
    "reliability": class_plots.calibration,
    "label": lambda stars: label_plots.label_residuals(stars, "FeH"),
    "coverage": label_plots.coverage,
    "snr": label_plots.residuals_by_snr,
    "kiel": kiel_plots.kiel,
    "abundance": lambda stars: kiel_plots.abundance(stars, "CFe"),
}


def check_picture(name: str, size: int) -> None:
    data = PLOTS[name](labelled_stars(size))
    assert data is not None
    assert data.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", data[16:24])) > 500


@pytest.mark.parametrize("name", PLOTS)
def test_each_plot_is_a_png_of_many_spectra(name: str) -> None:
    check_picture(name, style.MAX_POINTS + 1)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("size", [12, pytest.param(style.MAX_POINTS + 1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", [name if name == "coverage" else pytest.param(name, marks=pytest.mark.long) for name in PLOTS]
)
def test_the_panels_of_each_plot_find_their_places(name: str, size: int) -> None:
    check_picture(name, size)


def answers_of(stars: LabelledAnswers, **changes: Any) -> LabelledAnswers:
    """The stars with other answers."""
    return replace(stars, answers=replace(stars.answers, **changes))


@pytest.mark.usefixtures("figures")
def test_the_answers_decide_which_plots_there_are() -> None:
    stars = labelled_stars(40)
    expected = OF_CLASSES | {f"label_{name}" for name in LABELS} | ALL_LABELS
    assert set(evaluation_pictures(stars, "aoki2007")) == expected
    assert set(evaluation_pictures(replace(answers_of(stars, value_NL=None), sigma_NL=None))) == OF_CLASSES
    answers = Answers(("FeH", "CFe"), stars.classes, value_NL=np.zeros((40, 2)))
    two_labels = LabelledAnswers(answers, stars.class_N, stars.label_NL[:, :2])
    assert set(evaluation_pictures(two_labels)) == {"confusion", "label_FeH", "label_CFe"}


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("size", [1, pytest.param(5, marks=pytest.mark.long)])
def test_few_spectra_and_unknown_truths_can_be_drawn(size: int) -> None:
    stars = labelled_stars(size)
    assert "confusion" in evaluation_pictures(stars)
    assert evaluation_pictures(stars.at(np.zeros(size, bool))) == {}
    truth_NL = stars.label_NL.copy()
    truth_NL[:, 0] = np.nan
    unknown = replace(stars, label_NL=truth_NL, class_N=np.full(size, -1))
    assert "label_FeH" not in evaluation_pictures(unknown)


@pytest.mark.usefixtures("figures")
def test_perfect_answers_can_be_drawn() -> None:
    stars = labelled_stars(30)
    perfect = answers_of(stars, value_NL=stars.label_NL)
    assert set(evaluation_pictures(perfect)) >= {"label_Teff", "coverage", "snr", "kiel_CFe"}


def test_a_confusion_matrix_shows_counts_and_shares_of_the_true_class(figures: list[Figure]) -> None:
    stars = labelled_stars(200)
    class_plots.confusion_matrices(stars)
    assert stars.p_NC is not None
    counts_CC = classes.confusion(stars.class_N, stars.p_NC.argmax(1), 3)
    axis = figures[0].axes[0]
    [image] = axis.get_images()
    assert_allclose(np.asarray(image.get_array()), counts_CC / counts_CC.sum(1, keepdims=True))
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    for (row, column), count in np.ndenumerate(counts_CC):
        assert texts[column, row] == f"{count:,}\n{count / counts_CC[row].sum():.1%}"
    assert [label.get_text() for label in axis.get_xticklabels()] == list(stars.classes)


def test_a_class_without_a_spectrum_has_dashes_in_its_row(figures: list[Figure]) -> None:
    stars = labelled_stars(60)
    assert stars.p_NC is not None
    class_plots.confusion_matrices(replace(stars, class_N=np.where(stars.class_N == 1, 0, stars.class_N)))
    texts = {text.get_position(): text.get_text() for text in figures[0].axes[0].texts}
    assert [texts[column, 1] for column in range(3)] == ["-", "-", "-"]
    assert "%" in texts[0, 0]


def test_the_curves_are_those_of_the_metrics(figures: list[Figure]) -> None:
    stars = labelled_stars(300, seed=3)
    class_plots.threshold_curves(stars)
    left, right = figures[0].axes
    roc = [line for line in left.get_lines() if str(line.get_label()).startswith("MP")]
    precision = [line for line in right.get_lines() if str(line.get_label()).startswith("MP")]
    assert (len(roc), len(precision)) == (1, 1)
    positive, score = class_plots.search_scores(stars)["MP search"]
    curve = curves.roc(positive, score)
    x, y = (np.asarray(values, float) for values in roc[0].get_data())
    assert np.trapezoid(y, x) == pytest.approx(curve.area)
    recall, value = (np.asarray(values, float) for values in precision[0].get_data())
    average = -(np.diff(recall) * value[:-1]).sum()
    assert average == pytest.approx(curves.precision_recall(positive, score).area)
    chance = [line.get_ydata() for line in right.get_lines() if line not in precision]
    assert any(np.allclose(np.asarray(level, float), positive.mean()) for level in chance)


def test_the_calibration_curve_has_the_frequencies_of_the_bins(figures: list[Figure]) -> None:
    stars = labelled_stars(300, seed=4)
    class_plots.calibration(stars)
    above, below = figures[0].axes[0], figures[0].axes[len(figures[0].axes) // 2]
    assert stars.p_NC is not None
    p_N = stars.p_NC.max(1)
    reliability = classes.reliability(stars.p_NC.argmax(1) == stars.class_N, p_N)
    curve = above.get_lines()[0]
    assert_allclose(np.asarray(curve.get_xdata(), float), reliability.predicted)
    enough = np.where(reliability.n < class_plots.FEW, np.nan, reliability.observed)
    assert_allclose(np.asarray(curve.get_ydata(), float), enough)
    bars = [patch for patch in below.patches if isinstance(patch, Rectangle)]
    assert sum(bar.get_height() for bar in bars) == len(stars)


def test_residuals_are_drawn_at_their_values_and_those_beyond_the_limit_at_the_edge(
    figures: list[Figure],
) -> None:
    stars = labelled_stars(100, seed=5)
    assert stars.value_NL is not None
    value_NL = stars.value_NL.copy()
    value_NL[7, 0] += 100
    stars = answers_of(stars, value_NL=value_NL)
    label_plots.label_residuals(stars, "FeH")
    against_truth, residuals = figures[0].axes[0], figures[0].axes[1]
    points = against_truth.get_lines()[0]
    assert_allclose(np.asarray(points.get_data(), float), [stars.label_NL[:, 0], value_NL[:, 0]])
    inside, beyond = residuals.get_lines()[:2]
    residual_N = np.delete(value_NL[:, 0] - stars.label_NL[:, 0], 7)
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in (inside, beyond)])
    assert len(drawn) == 100
    assert set(np.asarray(inside.get_ydata(), float)) <= set(residual_N)
    assert np.asarray(beyond.get_xdata(), float)[-1] in stars.label_NL[:, 0]
    assert np.abs(drawn).max() < 5


def test_the_distribution_of_the_residuals_is_theirs_beside_a_normal_one(figures: list[Figure]) -> None:
    stars = labelled_stars(300, seed=5)
    label_plots.label_residuals(stars, "FeH")
    assert stars.value_NL is not None
    residual_N = stars.value_NL[:, 0] - stars.label_NL[:, 0]
    axis = next(axis for axis in figures[0].axes if axis.get_title() == "distribution of the residuals")
    bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
    counts, _ = np.histogram(residual_N, edges)
    assert [bar.get_height() for bar in bars] == counts.tolist()
    x, y = (np.asarray(values, float) for values in axis.get_lines()[0].get_data())
    assert np.trapezoid(y, x) == pytest.approx(300 * (edges[1] - edges[0]), rel=0.02)
    assert x[y.argmax()] == pytest.approx(np.median(residual_N), abs=x[1] - x[0])
    assert f"bias {residual_N.mean():.3f}" in axis.texts[0].get_text()


def test_residuals_stand_against_the_quantiles_of_a_normal_distribution(figures: list[Figure]) -> None:
    stars = labelled_stars(99, seed=5)
    label_plots.label_residuals(stars, "FeH")
    assert stars.value_NL is not None
    residual_N = stars.value_NL[:, 0] - stars.label_NL[:, 0]
    scaled = np.sort(residual_N - np.median(residual_N)) / labels.robust_scatter(residual_N)
    axis = next(axis for axis in figures[0].axes if "QQ" in axis.get_title())
    diagonal, points = axis.get_lines()
    x, y = (np.asarray(values, float) for values in points.get_data())
    assert_allclose(x, ndtri((np.arange(99) + 0.5) / 99), atol=1e-12)
    assert_allclose(y, scaled.clip(-10, 10))
    assert_allclose(*np.asarray(diagonal.get_data(), float))


def test_deviations_in_errors_have_their_median_and_their_ranges(figures: list[Figure]) -> None:
    stars = labelled_stars(400, seed=6)
    label_plots.coverage(stars)
    axis = figures[0].axes[1]
    assert [text.get_text() for text in axis.get_yticklabels()] == [style.symbol(name) for name in LABELS]
    assert stars.value_NL is not None
    deviation_N = (stars.label_NL[:, 0] - stars.value_NL[:, 0]) / 0.1
    range_95, range_68, median = (np.asarray(line.get_xdata(), float) for line in axis.get_lines()[:3])
    assert median == pytest.approx([np.median(deviation_N)], abs=0.02)
    for ends, outside in ((range_68, 0.3173), (range_95, 0.0455)):
        assert ends == pytest.approx(np.quantile(deviation_N, [outside / 2, 1 - outside / 2]), abs=0.1)
    dotted = {
        float(np.asarray(line.get_xdata())[0]) for line in axis.get_lines() if line.get_linestyle() == ":"
    }
    assert dotted == {-2, -1, 0, 1, 2}


def test_the_coverage_is_the_share_of_truths_inside_the_intervals(figures: list[Figure]) -> None:
    stars = labelled_stars(400, seed=6)
    label_plots.coverage(stars)
    line = figures[0].axes[0].get_lines()[0]
    level, share = (np.asarray(values, float) for values in line.get_data())
    assert stars.value_NL is not None
    pit_N = labels.pit(stars.label_NL[:, 0], stars.value_NL[:, 0], np.full(400, 0.1))
    for index in (10, 50, 90):
        inside = (np.abs(2 * pit_N - 1) <= level[index]).mean()
        assert share[index] == pytest.approx(inside)


def test_a_kiel_diagram_has_the_stars_at_their_places_with_hot_and_low_gravity_first(
    figures: list[Figure],
) -> None:
    stars = labelled_stars(50, seed=7)
    kiel_plots.kiel(stars)
    left, right = figures[0].axes[:2]
    assert stars.value_NL is not None
    for axis, values_NL in ((left, stars.label_NL), (right, stars.value_NL)):
        points = axis.collections[-1]
        assert_allclose(np.asarray(points.get_offsets()), np.asarray(values_NL[:, 2:4]))
        assert_allclose(np.asarray(points.get_array()), np.asarray(values_NL[:, 0]))
    assert left.get_xlim()[0] > left.get_xlim()[1]
    assert left.get_ylim()[0] > left.get_ylim()[1]


def test_running_quantiles_have_enough_points_and_reach_into_the_tail() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(0, 0.2, 2000), np.linspace(1, 2, 40)])
    middle, bounds = label_plots.running_quantiles(x, 3 * x, min_points=15)
    assert middle[-1] > 1.5
    assert (np.diff(middle) > 0).all()
    assert np.allclose(bounds[:, 1], 3 * middle)
    assert label_plots.running_quantiles(x[:10], x[:10], min_points=15)[1].shape == (0, 3)
    assert len(label_plots.running_quantiles(np.zeros(100), np.ones(100))[0]) == 1


def test_classes_without_a_search_are_each_drawn_against_the_others() -> None:
    answers = Answers((), ("M0", "M1", "M2", "M3"), p_NC=np.eye(4))
    stars = LabelledAnswers(answers, np.array([0, 1, 2, 3]), np.zeros((4, 0)))
    assert list(class_plots.search_scores(stars)) == ["M0", "M1", "M2", "M3"]
    assert class_plots.threshold_curves(stars) is not None


def test_symbols_and_units_are_those_of_papers() -> None:
    symbols = [style.symbol(name) for name in ("FeH", "CFe", "Teff", "rv")]
    assert symbols == ["[Fe/H]", "[C/Fe]", r"$T_\mathrm{eff}$", "rv"]
    units = [style.unit(name) for name in ("Teff", "logg", "rv")]
    assert units == ["K", "log$_{10}$(cm s$^{-2}$)", "km s$^{-1}$"]


def test_residuals_over_signal_to_noise_are_at_their_values(figures: list[Figure]) -> None:
    stars = labelled_stars(60, seed=8)
    label_plots.residuals_by_snr(stars)
    assert stars.value_NL is not None
    for number, axis in enumerate(figures[0].axes[:4]):
        points = np.asarray(axis.get_lines()[0].get_xydata(), float)
        residual_N = stars.value_NL[:, number] - stars.label_NL[:, number]
        expected = dict(zip(stars.extra["snr_g"].tolist(), residual_N.tolist(), strict=True))
        assert all(y == pytest.approx(expected[x]) for x, y in points.tolist())
        assert len(points) > 50
        assert axis.get_xscale() == "log"


@pytest.mark.parametrize("name", ["FeH", "CFe"])
def test_an_abundance_is_drawn_true_predicted_and_as_their_difference(
    figures: list[Figure], name: str
) -> None:
    stars = labelled_stars(80, seed=9)
    kiel_plots.abundance(stars, name)
    number = LABELS.index(name)
    assert stars.value_NL is not None
    truth_N, value_N = stars.label_NL[:, number], stars.value_NL[:, number]
    for axis, color_N in zip(figures[0].axes, (truth_N, value_N, value_N - truth_N), strict=False):
        colored = axis.collections[-1]
        assert_allclose(np.sort(np.asarray(colored.get_array())), np.sort(color_N))
        assert_allclose(np.sort(np.asarray(colored.get_offsets()), 0), np.sort(stars.label_NL[:, [2, 3]], 0))


def test_one_grey_band_says_where_the_coverage_of_right_errors_lies(figures: list[Figure]) -> None:
    label_plots.coverage(labelled_stars(400, seed=6))
    axis = figures[0].axes[0]
    (band,) = axis.collections
    vertices = np.asarray(band.get_paths()[0].vertices)
    at_half = vertices[np.isclose(vertices[:, 0], 0.5), 1]
    low, high = (float(end) for end in wilson(200, 400))
    assert (at_half.min(), at_half.max()) == pytest.approx((low, high))
    assert len(axis.get_lines()) == len(LABELS)
