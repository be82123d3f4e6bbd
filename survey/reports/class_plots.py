"""How well classes are told, drawn: confusion matrices, curves over all thresholds, and whether probabilities mean what they say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.labels import CLASSES, MISSING, Criterion
from survey.metrics import classes, labels
from survey.metrics.classes import Curve, Reliability
from survey.metrics.intervals import Measure
from survey.metrics.score import Judged
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, SHARE, many, png

Matrix = tuple[str, NDArray[np.int64], Sequence[str]]
Search = tuple[NDArray[np.bool_], NDArray[np.float64]]


def confusions(judged: Judged, criterion: Criterion = "carbon_0.7") -> bytes | None:
    """Confusion matrices by class probabilities, by predicted labels and of classes of [Fe/H]: counts and shares of each true class."""
    matrices = [one for one in _matrices(judged, criterion) if one[1].sum()]
    if not matrices:
        return None

    def draw(figure: Figure) -> None:
        for axis, matrix in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True):
            _matrix(axis, *matrix)

    return png(draw, 4.6 * len(matrices), 4.6)


def _matrices(judged: Judged, criterion: Criterion) -> list[Matrix]:
    found: list[Matrix] = []
    if judged.p_NC is not None:
        found.append(
            (
                "by class probabilities",
                classes.confusion(judged.class_N, judged.p_NC.argmax(1), len(judged.classes)),
                judged.classes,
            )
        )
    if judged.mu_NL is None:
        return found
    said_N = labels.classes_by_labels(judged.labels, judged.mu_NL, criterion)
    if said_N is not None and judged.classes == CLASSES:
        found.append(
            ("by predicted labels", classes.confusion(judged.class_N, said_N, len(CLASSES)), CLASSES)
        )
    feh, said = judged.truth("FeH"), judged.said("FeH")
    if feh is not None and said is not None:
        counts_CC = classes.confusion(labels.iron_classes(feh), labels.iron_classes(said), len(labels.IRON))
        found.append(("[Fe/H] classes", counts_CC, labels.IRON))
    return found


def _matrix(axis: Axes, title: str, counts_CC: NDArray[np.int64], names: Sequence[str]) -> None:
    share_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    axis.imshow(share_CC, cmap=SHARE, vmin=0, vmax=1)
    for row, column in np.ndindex(counts_CC.shape):
        told = f"{counts_CC[row, column]:,}\n{share_CC[row, column]:.1%}"
        axis.text(
            column,
            row,
            told,
            ha="center",
            va="center",
            color="white" if share_CC[row, column] > 0.6 else INK,
            fontsize=10,
        )
    true_C = counts_CC.sum(1)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), [f"{name}\n({n:,})" for name, n in zip(names, true_C, strict=True)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("called")
    axis.set_ylabel("true")
    axis.set_title(
        f"{title}\naccuracy {np.trace(counts_CC) / counts_CC.sum():.1%}, {many(int(counts_CC.sum()))}"
    )


def searches(judged: Judged) -> dict[str, Search]:
    """Truth and score of each search; of each class against the others where the classes know no search."""
    if judged.p_NC is None:
        return {}
    class_N, p_NC = classes.known(judged.class_N, judged.p_NC, len(judged.classes))
    wanted = classes.problems(judged.classes) or {
        name: [number] for number, name in enumerate(judged.classes)
    }
    found = {
        name.replace("_", " "): (np.isin(class_N, yes), p_NC[:, yes].sum(1).clip(0, 1))
        for name, yes in wanted.items()
    }
    return {name: search for name, search in found.items() if search[0].any() and not search[0].all()}


def curves(judged: Judged) -> bytes | None:
    """ROC and precision-recall curves of every search."""
    found = searches(judged)
    if not found or judged.p_NC is None:
        return None
    bounds: dict[tuple[str, str], Measure] = {
        (name, one.metric): one
        for name, (yes, score) in found.items()
        for one in classes.of_scores(name, yes, score)
    }

    def told(name: str, metric: str) -> str:
        one = bounds[name, metric]
        return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for color, (name, (yes, score)) in zip(SERIES * len(found), found.items(), strict=False):
            size = f"{int(yes.sum()):,} of {len(yes):,}"
            _curve(left, classes.roc(yes, score), color, f"{name} ({size}), area {told(name, 'auc')}")
            _curve(
                right,
                classes.precision_recall(yes, score),
                color,
                f"{name}, average precision {told(name, 'average_precision')}",
            )
            right.axhline(yes.mean(), color=color, lw=0.8, ls=":")
        left.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        left.set(
            xlabel="share of the others taken in",
            ylabel="share found (recall)",
            title=f"ROC, {many(len(yes))}; dotted: by chance",
        )
        right.set(
            xlabel="share found (recall)",
            ylabel="share that is right (precision)",
            title="precision and recall; dotted: by chance",
        )
        for axis in (left, right):
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))

    return png(draw, 10.5, 5.4)


def _curve(axis: Axes, curve: Curve, color: str, told: str) -> None:
    axis.plot(curve.x, curve.y, color=color, lw=1.6, label=told)


def calibration(judged: Judged) -> bytes | None:
    """What was said against how often it was so, for the class that was called and for each search, over how often it was said."""
    if judged.p_NC is None or (np.asarray(judged.class_N) == MISSING).all():
        return None
    class_N, p_NC = classes.known(judged.class_N, judged.p_NC, len(judged.classes))
    events: dict[str, tuple[NDArray[Any], NDArray[np.float64]]] = {
        "the class called": (p_NC.argmax(1) == class_N, p_NC.max(1))
    } | searches(judged)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, len(events), sharex="col", squeeze=False, height_ratios=(3, 1))
        for (above, below), (name, (so, said)) in zip(axes.T, events.items(), strict=True):
            found = classes.reliability(so, said)
            _reliability(above, found)
            above.set_title(f"{name}\ncalibration error {found.ece:.3f}, n = {len(so):,}")
            below.hist(said, np.linspace(0, 1, 21).tolist(), color=GREY)
            below.set(xlabel="probability that was given", yscale="log", xlim=(-0.02, 1.02))
        axes[0, 0].set_ylabel("share that was so")
        axes[1, 0].set_ylabel("spectra")

    return png(draw, 3.9 * len(events), 5.4)


def _reliability(axis: Axes, found: Reliability) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    error = np.stack([found.found - found.low, found.high - found.found])
    axis.plot(found.said, found.found, color=BLUE, lw=1, alpha=0.5)
    many_M = found.n >= 5
    for chosen, color in ((many_M, BLUE), (~many_M, RED)):
        if chosen.any():
            told = None if color == BLUE else "fewer than 5 spectra"
            axis.errorbar(
                found.said[chosen],
                found.found[chosen],
                error[:, chosen],
                fmt="o",
                color=color,
                ms=4,
                lw=1,
                label=told,
            )
    if not many_M.all():
        axis.legend(loc="lower right")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
