"""Pictures of what to expect of the lists: purity and completeness by threshold, and in bins of signal to
noise and temperature.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from survey.catalog.catalog import CURVES, SELECTION, CatalogResult
from survey.catalog.document import IntervalRecord
from survey.catalog.settings import LIST_NAMES, ListName
from survey.reports.style import BLUE, GREY, INK, RED, SHARE, label_text, png

METRICS = ("completeness", "purity")
"""What is expected of a list."""
METRIC_COLORS = {"purity": BLUE, "completeness": RED}
CELL = (1.05, 0.52)
"""Width and height of a bin, in inches."""

Rows = list[dict[str, Any]]


def why_not_promised(result: CatalogResult) -> str:
    """Why nothing is promised of the lists; empty if something is promised of any."""
    reasons = [threshold.withheld for threshold in result.document.thresholds.values()]
    return f"nothing is promised of the lists: {reasons[0][0]}" if reasons and all(reasons) else ""


def plot_curves(result: CatalogResult) -> bytes | None:
    """Expected purity and completeness by threshold with their intervals, and the threshold that was chosen.

    Each has a panel of its own: intervals over each other cannot be read.
    """
    table = result.table(CURVES)
    rows: Rows = [] if table is None else table.to_pylist()
    names = [name for name in LIST_NAMES if any(_known(rows, name, metric) for metric in METRICS)]
    if not names:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(METRICS), len(names), squeeze=False, sharex=True)
        for axis, (metric, name) in zip(axes.flat, product(METRICS, names), strict=True):
            _curve(axis, _known(rows, name, metric), METRIC_COLORS[metric])
            threshold = result.document.thresholds[name]
            value = _interval(getattr(threshold, metric))
            axis.axvline(threshold.value, color=INK, lw=1, ls="--")
            _chosen(axis, threshold.value, getattr(threshold, metric), METRIC_COLORS[metric])
            axis.set(xlim=(0, 1), ylim=(0, 1.02), ylabel=f"expected {metric}")
            axis.set_title(f"{name} list: {metric} {value} at the threshold {threshold.value:.3f}")
        for axis in axes[-1]:
            axis.set_xlabel("threshold in score (shaded: 95 % interval)")

    return png(draw, 5.4 * len(names), 6.4)


def _interval(measure: IntervalRecord) -> str:
    if measure.value is None:
        return "unknown"
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"


def _known(rows: Rows, name: ListName, metric: str) -> Rows:
    """The rows of one list and metric that have a value."""
    of_list = (row for row in rows if (row["search"], row["metric"]) == (name, metric))
    return [row for row in of_list if row["value"] is not None]


def _curve(axis: Axes, rows: Rows, color: str) -> None:
    x = [row["threshold"] for row in rows]
    axis.fill_between(
        x, [row["low"] for row in rows], [row["high"] for row in rows], color=color, alpha=0.2, lw=0
    )
    axis.plot(x, [row["value"] for row in rows], color=color, lw=1.8)


def _chosen(axis: Axes, threshold: float, measure: IntervalRecord, color: str) -> None:
    """What the list promises, as a point with its interval on the curve."""
    if measure.value is None or measure.low is None or measure.high is None:
        return
    reach = [[measure.value - measure.low], [measure.high - measure.value]]
    axis.errorbar([threshold], [measure.value], reach, fmt="o", ms=5, color=color, mec="white", capsize=3)


def plot_selection(result: CatalogResult) -> bytes | None:
    """Completeness and purity by signal to noise and temperature: the selection function of each list.

    Bins without a validation star are left out, and so are panels without any.
    """
    table = result.table(SELECTION)
    rows: Rows = [] if table is None else table.to_pylist()
    names = [name for name in LIST_NAMES if any(_known(rows, name, metric) for metric in METRICS)]
    if not names:
        return None
    bins = {name: [_bins(rows, name, column) for column in ("snr", "Teff")] for name in names}
    widths = [1.2 + CELL[0] * max(len(snr), 3) for snr, _ in bins.values()]
    height = 0.9 + CELL[1] * max(len(teff) for _, teff in bins.values())

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(METRICS), len(names), squeeze=False, width_ratios=widths)
        for axis, (metric, name) in zip(axes.flat, product(METRICS, names), strict=True):
            known = _known(rows, name, metric)
            axis.set_visible(bool(known))
            _cells(axis, known, *bins[name])
            n = "stars that belong" if metric == "completeness" else "listed stars"
            axis.set_title(f"{name} list: {metric} (n: {n})")
        text = "expected share, its 95 % interval, number of validation stars (pale: too few)"
        figure.suptitle(text, x=0.01, ha="left")

    return png(draw, sum(widths), 0.4 + height * len(METRICS))


def _bins(rows: Rows, name: ListName, column: str) -> list[str]:
    """The bins of a list with a value, in their order."""
    with_value = {row[column] for metric in METRICS for row in _known(rows, name, metric)}
    return [bin_ for bin_ in dict.fromkeys(row[column] for row in rows) if bin_ in with_value]


def _cells(axis: Axes, rows: Rows, snr: Sequence[str], teff: Sequence[str]) -> None:
    """Shares in bins, each with its interval and its number of stars; pale if these are few."""
    share, opacity = np.full((len(teff), len(snr)), np.nan), np.ones((len(teff), len(snr)))
    for cell in rows:
        row, column = teff.index(cell["Teff"]), snr.index(cell["snr"])
        share[row, column] = cell["value"]
        opacity[row, column] = 0.25 if cell["few"] else 1
        text = f"{cell['value']:.2f}\n{cell['low']:.2f} to {cell['high']:.2f}\nn = {cell['n']:,}"
        color = "white" if cell["value"] > 0.7 and not cell["few"] else INK
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=GREY, lw=0.5))
        axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color=color, linespacing=1.05)
    axis.imshow(share, cmap=SHARE, vmin=0, vmax=1, aspect="auto", alpha=opacity)
    axis.set_xticks(range(len(snr)), snr)
    axis.set_yticks(range(len(teff)), teff)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="signal to noise", ylabel=label_text("Teff"))
