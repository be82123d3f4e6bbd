"""Predictions shard by shard: a text, and a picture on which a shard that is unlike the others stands out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey import files
from survey.evaluate.drift import BATCHES, EIGHTY_FOUR, ERROR, SHARE, SIXTEEN, Trend
from survey.labels import label
from survey.metrics.score import aligned
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, png, symbol, unit

Floats = NDArray[np.float64]

TREND = "trend.png"
SHOWN = 20
"""Shards that are named in the text; the table has them all."""


def summary(trend: Trend, pictures: Sequence[str]) -> str:
    """What there is of the predictions, what they tell, and which shards are unlike the others."""
    rows, silent = int(trend.column("rows").sum()), int(trend.column("silent").sum())
    state = "finished" if trend.finished else "not finished: look again as shards come in"
    lines = [
        f"predicted  {trend.path}, {state}",
        f"shards     {trend.table.num_rows:,} there, {trend.new:,} new since the last look",
        f"spectra    {rows:,}{f', {silent:,} without an answer' if silent else ''}",
    ]
    cells = [
        ["", "median over shards", "16 %", "84 %", "median error", "lowest shard", "highest shard"],
        *(_label(trend, name) for name in trend.labels),
    ]
    shares = [[name, *_share(trend, f"{SHARE}{name}")] for name in trend.classes]
    shares += (
        [["far off (domain > 1)", *_share(trend, "outside")]]
        if np.isfinite(trend.column("outside")).any()
        else []
    )
    blocks = ["\n".join(lines)]
    blocks += [aligned(cells)] if trend.labels else []
    blocks += [aligned([["share", "of all", "lowest shard", "highest shard"], *shares])] if shares else []
    blocks += [_unlike(trend)]
    return "\n\n".join(
        [
            *blocks,
            f"look at    {trend.folder}  {BATCHES}, {', '.join(path.rpartition('/')[2] for path in pictures)}",
        ]
    )


def _label(trend: Trend, name: str) -> list[str]:
    digits = 1 if label(name).unit == "K" else 3
    middle = [
        _middle(trend.column(column))
        for column in (name, f"{name}{SIXTEEN}", f"{name}{EIGHTY_FOUR}", f"{name}{ERROR}")
    ]
    values = trend.column(name)[np.isfinite(trend.column(name))]
    ends = [values.min(), values.max()] if len(values) else [np.nan, np.nan]
    return [name, *("-" if np.isnan(value) else f"{value:.{digits}f}" for value in (*middle, *ends))]


def _middle(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _share(trend: Trend, name: str) -> list[str]:
    values, rows = trend.column(name), trend.column("rows")
    known = np.isfinite(values)
    if not known.any():
        return ["-", "-", "-"]
    return [
        f"{value:.2%}"
        for value in (
            np.average(values[known], weights=np.maximum(rows[known], 1)),
            values[known].min(),
            values[known].max(),
        )
    ]


def _unlike(trend: Trend) -> str:
    found = trend.unlike
    if not found:
        return "no shard is unlike the others"
    lines = [f"  shard {shard}: {', '.join(names)}" for shard, names in list(found.items())[:SHOWN]]
    more = [f"  and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
    return "\n".join([f"{len(found):,} of {trend.table.num_rows:,} shards unlike the others:", *lines, *more])


def picture(trend: Trend) -> bytes:
    """Each label over the shards (median and middle 68 %), and shares of classes and of what is far off; red: unlike the others."""
    shares = [f"{SHARE}{name}" for name in trend.classes]
    shares += ["outside"] if np.isfinite(trend.column("outside")).any() else []
    panels = len(trend.labels) + bool(shares) + 1

    def draw(figure: Figure) -> None:
        columns = 2 if panels > 1 else 1
        axes = figure.subplots(-(-panels // columns), columns, squeeze=False, sharex=True).ravel()
        for axis in axes[panels:]:
            axis.set_visible(False)
        for axis, name in zip(axes, trend.labels, strict=False):
            _band(axis, trend, name)
            axis.set(ylabel=f"{symbol(name)} ({unit(name)})", title=f"{symbol(name)}: median and middle 68 %")
        last = list(axes[len(trend.labels) : panels])
        for axis, names, title in zip(
            last[::-1], (["snr"], shares), ("median signal to noise", "share of spectra"), strict=False
        ):
            for name, color in zip(names, SERIES, strict=False):
                _line(axis, trend, name, color, "far off" if name == "outside" else name.removeprefix(SHARE))
            axis.set_title(title)
            if len(names) > 1:
                axis.legend(loc="upper left", ncols=len(names), bbox_to_anchor=(0, 1.0))
                axis.set_ylim(0, axis.get_ylim()[1] * 1.25)
        for axis in axes[max(panels - columns, 0) : panels]:
            axis.set_xlabel("shard")
            axis.tick_params(labelbottom=True)

    return png(draw, 11, 1 + 2.5 * -(-panels // 2))


def _band(axis: Axes, trend: Trend, name: str) -> None:
    shard = trend.column("shard")
    axis.fill_between(
        shard,
        trend.column(f"{name}{SIXTEEN}"),
        trend.column(f"{name}{EIGHTY_FOUR}"),
        color=BLUE,
        alpha=0.18,
        lw=0,
    )
    axis.axhline(_middle(trend.column(name)), color=GREY, lw=0.8, ls=":")
    _line(axis, trend, name, BLUE, None)


def _line(axis: Axes, trend: Trend, name: str, color: str, told: str | None) -> None:
    shard, values = trend.column("shard"), trend.column(name)
    few = len(shard) <= 60
    axis.plot(shard, values, "o-" if few else "-", color=color, ms=3, lw=1.1, label=told)
    marked = np.isin(shard, [number for number, names in trend.unlike.items() if name in names])
    if marked.any():
        axis.plot(shard[marked], values[marked], "D", color=RED, ms=5, mec=INK, mew=0.6)


def write(trend: Trend) -> list[str]:
    """Draw the trend; the path of the picture."""
    path = files.join(trend.folder, TREND)
    files.write(path, picture(trend))
    return [path]
