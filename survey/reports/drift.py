"""The report of predictions shard by shard: a text, and a plot that marks the shards that depart from the
others.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from survey import files
from survey.answers import Floats
from survey.evaluate.drift import BATCHES, EIGHTY_FOUR, ERROR, SHARE, SIXTEEN, Drift
from survey.labels import label
from survey.metrics.text import aligned
from survey.reports.style import BLUE, GREY, INK, RED, colour_and_style, png, symbol, unit

PICTURE = "drift.png"
LEGEND_COLUMNS = 5
SHOWN = 20
"""Shards that the text names; the table has all."""


def summary(drift: Drift, pictures: Sequence[str]) -> str:
    """How many shards there are, their medians and shares, and which shards depart from the others."""
    rows, no_answer = int(drift.column("rows").sum()), int(drift.column("no_answer").sum())
    state = "finished" if drift.finished else "not finished: run it again to see new shards"
    lines = [
        f"predicted  {drift.path}, {state}",
        f"shards     {drift.table.num_rows:,} there, {drift.new:,} new since the last look",
        f"spectra    {rows:,}{f', {no_answer:,} without an answer' if no_answer else ''}",
    ]
    blocks = ["\n".join(lines)]
    if drift.labels:
        head = ["", "median over shards", "16 %", "84 %", "median error", "lowest shard", "highest shard"]
        blocks.append(aligned([head, *(_label(drift, name) for name in drift.labels)]))
    shares = [[name, *_share(drift, f"{SHARE}{name}")] for name in drift.classes]
    if np.isfinite(drift.column("outside_training")).any():
        shares.append(["far off (domain > 1)", *_share(drift, "outside_training")])
    if shares:
        blocks.append(aligned([["share", "of all", "lowest shard", "highest shard"], *shares]))
    names = ", ".join(path.rpartition("/")[2] for path in pictures)
    return "\n\n".join([*blocks, _departing(drift), f"look at    {drift.folder}  {BATCHES}, {names}"])


def _label(drift: Drift, name: str) -> list[str]:
    digits = 1 if label(name).unit == "K" else 3
    columns = (name, f"{name}{SIXTEEN}", f"{name}{EIGHTY_FOUR}", f"{name}{ERROR}")
    medians = [_median(drift.column(column)) for column in columns]
    values = drift.column(name)[np.isfinite(drift.column(name))]
    ends = [values.min(), values.max()] if len(values) else [np.nan, np.nan]
    return [name, *("-" if np.isnan(value) else f"{value:.{digits}f}" for value in (*medians, *ends))]


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan


def _share(drift: Drift, name: str) -> list[str]:
    values, rows = drift.column(name), drift.column("rows")
    finite = np.isfinite(values)
    if not finite.any():
        return ["-", "-", "-"]
    mean = np.average(values[finite], weights=np.maximum(rows[finite], 1))
    return [f"{value:.2%}" for value in (mean, values[finite].min(), values[finite].max())]


def _departing(drift: Drift) -> str:
    departing = drift.departing
    if not departing:
        return "no shard departs from the others"
    title = f"{len(departing):,} of {drift.table.num_rows:,} shards depart from the others:"
    lines = [f"  shard {shard}: {', '.join(names)}" for shard, names in list(departing.items())[:SHOWN]]
    more = [f"  and {len(departing) - SHOWN:,} more"] if len(departing) > SHOWN else []
    return "\n".join([title, *lines, *more])


def picture(drift: Drift) -> bytes:
    """Each label over the shards (median and middle 68 %), and the shares; red: the shard departs from the
    others.
    """
    shares = [f"{SHARE}{name}" for name in drift.classes]
    if np.isfinite(drift.column("outside_training")).any():
        shares.insert(0, "outside_training")
    panels = len(drift.labels) + bool(shares) + 1
    columns = 2 if panels > 1 else 1

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-panels // columns), columns, squeeze=False, sharex=True).ravel()
        for axis in axes[panels:]:
            axis.set_visible(False)
        for axis, name in zip(axes, drift.labels, strict=False):
            _band(axis, drift, name)
            axis.set(ylabel=f"{symbol(name)} ({unit(name)})", title=f"{symbol(name)}: median and middle 68 %")
        _lines(axes[panels - 1], drift, ["snr"], "median signal to noise")
        _widen(axes[panels - 1], _median(drift.column("snr")))
        if shares:
            _lines(axes[panels - 2], drift, shares, "share of spectra")
        for axis in axes[max(panels - columns, 0) : panels]:
            axis.set_xlabel("shard")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axis.tick_params(labelbottom=True)

    return png(draw, 11, 1 + 2.5 * -(-panels // 2))


def _lines(axis: Axes, drift: Drift, names: Sequence[str], title: str) -> None:
    for number, name in enumerate(names):
        color, style = colour_and_style(number)
        words = "far off" if name == "outside_training" else name.removeprefix(SHARE)
        _line(axis, drift, name, color, words, style)
    axis.set_title(title)
    if len(names) > 1:
        axis.legend(loc="upper left", ncols=LEGEND_COLUMNS, bbox_to_anchor=(0, 1.0))
        axis.set_ylim(0, axis.get_ylim()[1] * (1 + 0.25 * -(-len(names) // LEGEND_COLUMNS)))


def _widen(axis: Axes, value: float) -> None:
    """Limits at least a tenth of the value apart, so that tiny differences do not look large."""
    low, high = axis.get_ylim()
    more = (0.1 * abs(value) - (high - low)) / 2
    if more > 0:
        axis.set_ylim(low - more, high + more)


def _band(axis: Axes, drift: Drift, name: str) -> None:
    low, high = drift.column(f"{name}{SIXTEEN}"), drift.column(f"{name}{EIGHTY_FOUR}")
    axis.fill_between(drift.column("shard"), low, high, color=BLUE, alpha=0.18, lw=0)
    axis.axhline(_median(drift.column(name)), color=GREY, lw=0.8, ls=":")
    _line(axis, drift, name, BLUE, None)


def _line(axis: Axes, drift: Drift, name: str, color: str, words: str | None, style: str = "-") -> None:
    shard, values = drift.column("shard"), drift.column(name)
    few = len(shard) <= 60
    axis.plot(shard, values, ls=style, marker="o" if few else "", color=color, ms=3, lw=1.1, label=words)
    marked = np.isin(shard, [number for number, names in drift.departing.items() if name in names])
    if marked.any():
        axis.plot(shard[marked], values[marked], "D", color=RED, ms=5, mec=INK, mew=0.6)


def write(drift: Drift) -> list[str]:
    """Draw the plot; its path."""
    path = files.join(drift.folder, PICTURE)
    files.write(path, picture(drift))
    return [path]
