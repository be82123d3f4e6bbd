"""How well classes are predicted, in plots: confusion matrices, curves over all thresholds, and calibration.

scikit-learn draws them; the style, the intervals and the numbers of spectra are added here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from survey.labels import CLASSES, MISSING, Criterion
from survey.metrics import classes, labels
from survey.metrics.classes import Reliability
from survey.metrics.intervals import Measure
from survey.metrics.score import STAR, LabelledAnswers
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, SHARE, count_text, png

Matrix = tuple[str, NDArray[np.int64], Sequence[str]]
"""Title, counts (true class, predicted class), names of the classes."""
Scores = tuple[NDArray[np.bool_], NDArray[np.float64]]
"""Whether each spectrum is what is searched for, and its score."""

FEW = 5
"""Bins with spectra of fewer stars are drawn in another colour."""


def confusion_matrices(labelled: LabelledAnswers, criterion: Criterion = "carbon_0.7") -> bytes | None:
    """Confusion matrices: by class probabilities, by predicted labels, and of the classes of [Fe/H].

    A cell has its count and its share of the true class; a class without a spectrum has dashes.
    """
    matrices = [matrix for matrix in _matrices(labelled, criterion) if matrix[1].sum()]
    if not matrices:
        return None

    def draw(figure: Figure) -> None:
        for axis, matrix in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True):
            _draw_matrix(axis, *matrix)

    return png(draw, 4.6 * len(matrices), 4.6)


def _matrices(labelled: LabelledAnswers, criterion: Criterion) -> list[Matrix]:
    matrices: list[Matrix] = []
    if labelled.p_NC is not None:
        names = labelled.classes
        counts_CC = classes.confusion(labelled.class_N, labelled.p_NC.argmax(1), len(names))
        matrices.append(("by class probabilities", counts_CC, names))
    if labelled.value_NL is None:
        return matrices
    by_labels_N = labels.classes_by_labels(labelled.labels, labelled.value_NL, criterion)
    if by_labels_N is not None and labelled.classes == CLASSES:
        counts_CC = classes.confusion(labelled.class_N, by_labels_N, len(CLASSES))
        matrices.append(("by predicted labels", counts_CC, CLASSES))
    true_feh, feh = labelled.true_label("FeH"), labelled.value("FeH")
    if true_feh is not None and feh is not None:
        names = labels.IRON_CLASSES
        true_N, predicted_N = labels.iron_classes(true_feh), labels.iron_classes(feh)
        matrices.append(("[Fe/H] classes", classes.confusion(true_N, predicted_N, len(names)), names))
    return matrices


def _draw_matrix(axis: Axes, title: str, counts_CC: NDArray[np.int64], names: Sequence[str]) -> None:
    true_C = counts_CC.sum(1)
    share_CC = counts_CC / np.maximum(true_C[:, None], 1)
    display = ConfusionMatrixDisplay(share_CC, display_labels=names)
    display.plot(ax=axis, cmap=SHARE, colorbar=False, im_kw={"vmin": 0, "vmax": 1}, text_kw={"fontsize": 10})
    for (row, column), text in np.ndenumerate(display.text_):
        text.set_text(f"{counts_CC[row, column]:,}\n{share_CC[row, column]:.1%}" if true_C[row] else "-")
        text.set_color("white" if share_CC[row, column] > 0.65 else INK)
    axis.set_yticks(range(len(names)), [f"{name}\n({n:,})" for name, n in zip(names, true_C, strict=True)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    accuracy, n = np.trace(counts_CC) / counts_CC.sum(), int(counts_CC.sum())
    axis.set(
        xlabel="predicted",
        ylabel="true",
        title=f"{title}\naccuracy {accuracy:.1%}, {count_text(n)}",
    )


def search_scores(labelled: LabelledAnswers) -> dict[str, Scores]:
    """Truth and score of each search; if the classes have no search, of each class against the others."""
    if labelled.p_NC is None:
        return {}
    class_N, p_NC = classes.with_known_class(labelled.class_N, labelled.p_NC, len(labelled.classes))
    searches = classes.searches(labelled.classes) or {
        name: [number] for number, name in enumerate(labelled.classes)
    }
    scores = {
        name.replace("_", " "): (np.isin(class_N, positives), p_NC[:, positives].sum(1).clip(0, 1))
        for name, positives in searches.items()
    }
    return {name: score for name, score in scores.items() if score[0].any() and not score[0].all()}


def stars_of_known_class(labelled: LabelledAnswers) -> NDArray[np.int64] | None:
    """The stars of the spectra of a known class, by number; None where stars are not known."""
    star_N = labelled.extra.get(STAR)
    return None if star_N is None else star_N[np.asarray(labelled.class_N) != MISSING]


def threshold_curves(labelled: LabelledAnswers) -> bytes | None:
    """ROC and precision-recall curves of each search, with the intervals of their areas."""
    scores = search_scores(labelled)
    if not scores:
        return None
    star_N = stars_of_known_class(labelled)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for color, (name, (positive, score)) in zip(SERIES * len(scores), scores.items(), strict=False):
            found = classes.measure_scores(name, positive, score, star_N)
            measures = {measure.metric: measure for measure in found}
            size = f"{int(positive.sum()):,} of {len(positive):,}"
            auc, average = _interval(measures["auc"]), _interval(measures["average_precision"])
            _draw_roc(left, positive, score, color, f"{name} ({size}), area {auc}")
            _draw_precision(right, positive, score, color, f"{name}, average precision {average}")
        left.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        left.set(
            xlabel="false positive rate",
            ylabel="recall",
            title=f"ROC, {count_text(len(positive))}; dotted: by chance",
        )
        right.set(xlabel="recall", ylabel="precision", title="precision and recall; dotted: by chance")
        for axis in (left, right):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03), aspect="auto")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))

    return png(draw, 10.5, 5.4)


def _interval(measure: Measure) -> str:
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def _draw_roc(
    axis: Axes, positive: NDArray[np.bool_], score: NDArray[np.float64], color: str, text: str
) -> None:
    display = RocCurveDisplay.from_predictions(
        positive, score, ax=axis, curve_kwargs={"color": color, "lw": 1.6}
    )
    display.line_.set_label(text)


def _draw_precision(
    axis: Axes, positive: NDArray[np.bool_], score: NDArray[np.float64], color: str, text: str
) -> None:
    display = PrecisionRecallDisplay.from_predictions(
        positive,
        score,
        ax=axis,
        drop_intermediate=True,
        plot_chance_level=True,
        chance_level_kw={"color": color, "lw": 0.8, "ls": ":", "label": "_chance"},
        curve_kwargs={"color": color, "lw": 1.6},
    )
    display.line_.set_label(text)


def calibration(labelled: LabelledAnswers) -> bytes | None:
    """Predicted probabilities against frequencies, of the predicted class and of each search."""
    if labelled.p_NC is None or (np.asarray(labelled.class_N) == MISSING).all():
        return None
    class_N, p_NC = classes.with_known_class(labelled.class_N, labelled.p_NC, len(labelled.classes))
    events: dict[str, tuple[NDArray[Any], NDArray[np.float64]]] = {
        "predicted class": (p_NC.argmax(1) == class_N, p_NC.max(1))
    }
    events |= search_scores(labelled)
    star_N = stars_of_known_class(labelled)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, len(events), sharex="col", squeeze=False, height_ratios=(3, 1))
        for (above, below), (name, (event, p)) in zip(axes.T, events.items(), strict=True):
            reliability = classes.reliability(event, p, star_N=star_N)
            _draw_calibration(above, reliability, p)
            above.set_title(f"{name}\ncalibration error {reliability.ece:.3f}, n = {len(event):,}")
            below.hist(p, np.linspace(0, 1, 21).tolist(), color=GREY)
            below.set(xlabel="predicted probability", yscale="log", xlim=(-0.02, 1.02))
        axes[0, 0].set_ylabel("frequency")
        axes[1, 0].set_ylabel("spectra")

    return png(draw, 3.9 * len(events), 5.4)


def _draw_calibration(axis: Axes, reliability: Reliability, p: NDArray[np.float64]) -> None:
    """The calibration curve with its 95 % intervals; bins with few stars in red, with no line to them."""
    observed, predicted = reliability.observed, reliability.predicted
    is_few = reliability.stars < FEW
    enough = np.where(is_few, np.nan, observed)
    display = CalibrationDisplay(enough, predicted, p, estimator_name="calibration")
    display.plot(ax=axis, ref_line=False, color=BLUE, lw=1, alpha=0.5, marker="")
    error = np.stack([observed - reliability.low, reliability.high - observed])
    for chosen, color in ((~is_few, BLUE), (is_few, RED)):
        if chosen.any():
            axis.errorbar(
                predicted[chosen],
                observed[chosen],
                error[:, chosen],
                fmt="o",
                color=color,
                ms=4,
                lw=1,
                label=f"fewer than {FEW} stars" if color == RED else None,
            )
    axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    legend = axis.legend(handles=axis.containers[-1:], loc="lower right")
    legend.set_visible(bool(is_few.any()))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xlabel="", ylabel="")
