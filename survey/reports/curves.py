"""The curves of a training, epoch by epoch: losses, scores, errors of labels, and the learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from survey.reports.style import BLUE, GREY, INK, RED, SERIES, colour_and_style, png, symbol, unit

SCORES = ("accuracy", "f1_weighted", "f1_MP_search", "f1_CEMP", "f1_macro", "r2_mean")
"""Scores that are drawn, if they are there; 1 is perfect. Without any of them, other f1 and r2 scores are
drawn.
"""
MARKED_EPOCHS = 30
"""Below this number of epochs, each is marked by a point."""
LOG_RATIO = 30
"""The loss is drawn on a logarithmic axis if its largest value is more than this many times the smallest."""


Floats = NDArray[np.float64]


def picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The history of a run as PNG."""
    if not rows:
        raise ValueError("curves: the history has 0 epochs; give at least one row")
    return png(lambda figure: draw(figure, rows), 13.5, 7.2)


def draw(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the history of a run: a row is an epoch, with epoch, lr, train_loss, validation_loss and metrics.

    Missing numbers and NaN are left out.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _numbers([row.get(name) for row in rows]) for name in names}
    number = np.arange(len(rows), dtype=np.float64)
    epoch = columns.get("epoch", number)
    epoch = np.where(np.isfinite(epoch), epoch, number)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    axes[0].set_xlim(epoch.min() - 0.5, epoch.max() + 0.5)
    _draw_losses(axes[0], epoch, columns)
    scores = {_without_prefix(name).replace("_", " "): columns[name] for name in _score_names(columns)}
    _draw_lines(axes[1], epoch, scores, "scores in validation (1 is perfect)")
    _draw_errors(axes[2], epoch, columns)
    rates = {"lr": columns["lr"]} if "lr" in columns else {}
    _draw_lines(axes[3], epoch, rates, "learning rate")
    if any((values > 0).any() for values in rates.values()):
        axes[3].set_yscale("log")
    for axis in axes[2:]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _numbers(values: Sequence[Any]) -> Floats:
    """A column as numbers, NaN where a row has none."""
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)


def _without_prefix(name: str) -> str:
    return name.removeprefix("validation_")


def _score_names(columns: Mapping[str, Floats]) -> list[str]:
    """The scores that are drawn, with or without the prefix `validation_`."""
    preferred = [name for score in SCORES for name in (score, f"validation_{score}") if name in columns]
    others = [name for name in columns if _without_prefix(name).startswith(("f1_", "r2_"))]
    return [name for name in preferred or others if np.isfinite(columns[name]).any()]


def _draw_line(axis: Axes, epoch: Floats, values: Floats, color: str, style: str, label: str) -> None:
    is_known = np.isfinite(values)
    marker = "o" if is_known.sum() < MARKED_EPOCHS else ""
    axis.plot(
        epoch[is_known], values[is_known], color=color, ls=style, lw=1.4, marker=marker, ms=3, label=label
    )


def _draw_losses(axis: Axes, epoch: Floats, columns: Mapping[str, Floats]) -> None:
    """Losses of training and validation, and the epoch with the lowest validation loss."""
    losses = {name: columns[f"{name}_loss"] for name in ("train", "validation") if f"{name}_loss" in columns}
    _draw_lines(axis, epoch, losses, "loss", (GREY, BLUE))
    validation = losses.get("validation")
    if validation is not None and np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        axis.axvline(epoch[best], color=RED, lw=0.8, ls=":")
        axis.set_title(f"loss; lowest in validation: {validation[best]:.4g} in epoch {epoch[best]:g}")
    values = np.concatenate([np.zeros(0), *losses.values()])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > LOG_RATIO * values.min():
        axis.set_yscale("log")


def _draw_lines(
    axis: Axes, epoch: Floats, lines: Mapping[str, Floats], title: str, colors: Sequence[str] = SERIES
) -> None:
    axis.set_title(title)
    for number, (name, values) in enumerate(lines.items()):
        color, style = colour_and_style(number, colors)
        _draw_line(axis, epoch, values, color, style, name)
    if not any(np.isfinite(values).any() for values in lines.values()):
        axis.annotate("none recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
        axis.set_yticks([])
    elif len(lines) > 1:
        _legend_beside(axis)


def _legend_beside(axis: Axes) -> None:
    """The legend on the right of a panel: inside, it would lie on the curves of some training."""
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)


def _draw_errors(axis: Axes, epoch: Floats, columns: Mapping[str, Floats]) -> None:
    """Mean absolute errors of labels, as multiples of the best: one panel serves kelvin and dex.

    The legend gives the best error in units of the label.
    """
    lines = {}
    for name, values in columns.items():
        label = _without_prefix(name)
        if not label.startswith("mae_") or not np.isfinite(values).any():
            continue
        label, best = label.removeprefix("mae_"), float(np.nanmin(values))
        lines[f"{symbol(label)}, best {best:.3g} {unit(label)}"] = values / best if best > 0 else values
    _draw_lines(axis, epoch, lines, "mean absolute error in validation / best")
    if len(lines) == 1:
        _legend_beside(axis)
    if lines:
        axis.axhline(1, color=INK, lw=0.6, ls=":")
