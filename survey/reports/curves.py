"""How a training went, epoch by epoch: losses, what early stopping watches, errors of labels, and the learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from survey.reports.style import BLUE, GREY, INK, RED, SERIES, png, symbol, unit

SCORES = ("accuracy", "f1_weighted", "f1_MP_search", "f1_CEMP", "f1_macro", "r2_mean")
"""Metrics that are better the nearer they are to 1, drawn together where they are there; others of their kind only without these."""

Floats = NDArray[np.float64]


def picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The history of a run, a row per epoch (`epoch`, `lr`, `train_loss`, `validation_loss`, metrics), as one PNG; gaps and NaN are left out."""
    if not rows:
        raise ValueError("curves: a history of 0 epochs; give at least one row")
    names = list(dict.fromkeys(name for row in rows for name in row))
    column = {name: _numbers([row.get(name) for row in rows]) for name in names}
    place = np.arange(len(rows), dtype=np.float64)
    epoch = np.where(np.isfinite(column["epoch"]), column["epoch"], place) if "epoch" in column else place
    errors = [
        name
        for name in names
        if name.removeprefix("validation_").startswith("mae_") and np.isfinite(column[name]).any()
    ]
    scores = _scores(column)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 2, sharex=True).ravel()
        axes[0].set_xlim(epoch.min() - 0.5, epoch.max() + 0.5)
        _losses(axes[0], epoch, column)
        _lines(
            axes[1], epoch, {name.replace("_", " "): column[name] for name in scores}, "scores (1 is perfect)"
        )
        _errors(axes[2], epoch, {name: column[name] for name in errors})
        _lines(axes[3], epoch, {"lr": column["lr"]} if "lr" in column else {}, "learning rate")
        if "lr" in column and (column["lr"] > 0).any():
            axes[3].set_yscale("log")
        for axis in axes[2:]:
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return png(draw, 10.5, 7.2)


def _numbers(values: Sequence[Any]) -> Floats:
    """A column as numbers, NaN where a row has none."""
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)


def _scores(column: Mapping[str, Floats]) -> list[str]:
    """Which scores are drawn, with or without the prefix of the validation."""
    wanted = [name for score in SCORES for name in (score, f"validation_{score}") if name in column]
    found = wanted or [name for name in column if name.removeprefix("validation_").startswith(("f1_", "r2_"))]
    return [name for name in found if np.isfinite(column[name]).any()][: len(SERIES)]


def _line(axis: Axes, epoch: Floats, values: Floats, color: str, told: str) -> None:
    some = np.isfinite(values)
    axis.plot(
        epoch[some],
        values[some],
        color=color,
        lw=1.4,
        marker="o" if some.sum() < 30 else "",
        ms=3,
        label=told,
    )


def _losses(axis: Axes, epoch: Floats, column: Mapping[str, Floats]) -> None:
    """Losses of training and validation, and where the latter was lowest."""
    found = {name: column[f"{name}_loss"] for name in ("train", "validation") if f"{name}_loss" in column}
    _lines(axis, epoch, found, "loss", (GREY, BLUE))
    validation = found.get("validation")
    if validation is not None and np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        axis.axvline(epoch[best], color=RED, lw=0.8, ls=":")
        axis.set_title(f"loss; validation lowest in epoch {epoch[best]:g}: {validation[best]:.4g}")
    values = np.concatenate([np.zeros(0), *found.values()])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        axis.set_yscale("log")


def _lines(
    axis: Axes, epoch: Floats, lines: Mapping[str, Floats], title: str, colors: Sequence[str] = SERIES
) -> None:
    axis.set_title(title)
    for (name, values), color in zip(lines.items(), colors, strict=False):
        _line(axis, epoch, values, color, name)
    if not any(np.isfinite(values).any() for values in lines.values()):
        axis.annotate("none recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
        axis.set_yticks([])
    elif len(lines) > 1:
        axis.legend()


def _errors(axis: Axes, epoch: Floats, lines: Mapping[str, Floats]) -> None:
    """Mean absolute errors of labels as multiples of their best, which the legend tells in units: one panel serves kelvin and dex."""
    told = {}
    for name, values in lines.items():
        best = float(np.nanmin(values))
        row = name.removeprefix("validation_").removeprefix("mae_")
        told[f"{symbol(row)}, best {best:.3g} {unit(row)}"] = values / best if best > 0 else values
    _lines(axis, epoch, told, "mean absolute error / best")
    if len(told) == 1:
        axis.legend()
    if told:
        axis.axhline(1, color=INK, lw=0.6, ls=":")
