"""Plots of a search: how it went, what mattered, which settings did well, and of several metrics what cannot be had together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from survey.reports.style import BLUE, GREY, INK, RED, SIGNED, png, symbol, unit
from survey.search.results import importances, rows
from survey.search.target import Quest
from survey.training.train import Train

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]
NAMES = {"mae": "mean absolute error", "rmse": "root mean square error", "bias": "bias (size)", "r2": "$R^2$"}
WIDEST = 5
"""Panels of a row."""


def pictures(quest: Quest) -> dict[str, bytes]:
    """Every plot for which there are trials enough, by name."""
    told = rows(quest)
    if not told:
        return {}
    made = {"history": history(quest, told)}
    if mattered := [importances(quest, number) for number in range(len(quest.aim.metrics))]:
        made |= {"importances": _importances(quest, mattered)} if any(mattered) else {}
    finished = [row for row in told if row["state"] == "complete"]
    keys = [
        one.key
        for one in quest.aim.space.knobs
        if len({str(row.get(f"set_{one.key}")) for row in _tried(quest, finished)}) > 1
    ]
    if len(finished) > 1 and keys:
        made |= {
            "parallel": parallel(quest, _tried(quest, finished), keys),
            "slices": slices(quest, _tried(quest, told), keys),
        }
    if len(quest.aim.metrics) > 1 and finished:
        made["front"] = front(quest, finished)
    return made


def metric_name(metric: str) -> str:
    """A metric as a plot's axis tells it."""
    kind, _, name = metric.partition("_")
    if kind in NAMES and name and name != "mean":
        return f"{NAMES[kind]} of {symbol(name)}" + (
            f" ({unit(name)})" if kind != "r2" and unit(name) else ""
        )
    return {"training_seconds": "training (s)"}.get(metric, metric.replace("_", " "))


def history(quest: Quest, told: Rows) -> bytes:
    """Trials in their order with the best so far; stopped and failed ones marked."""
    metrics = quest.aim.metrics

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(metrics), 1, squeeze=False, sharex=True)[:, 0]
        for axis, metric, sign in zip(axes, metrics, quest.aim.signs, strict=True):
            _history(axis, told, metric, sign)
        counts = {
            state: sum(row["state"] == state for row in told)
            for state in ("complete", "pruned", "failed", "running")
        }
        axes[0].set_title(
            f"{_subject(quest)}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}"
        )
        axes[-1].set_xlabel("trial")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return png(draw, 7.5, 1.2 + 3 * len(metrics))


def _subject(quest: Quest) -> str:
    made = quest.aim.train.get("targets") or Train.model_fields["targets"].default
    return symbol(made[0]) if len(made) == 1 else quest.aim.name


def _history(axis: Axes, told: Rows, metric: str, sign: int) -> None:
    by_state = {
        state: [row for row in told if row["state"] == state] for state in ("complete", "pruned", "failed")
    }
    x, y = _xy(by_state["complete"], metric)
    if len(x):
        best = sign * np.minimum.accumulate(sign * y)
        axis.step(
            [*x, len(told) - 1], [*best, best[-1]], where="post", color=INK, lw=1.2, label="best so far"
        )
        axis.plot(x, y, "o", color=BLUE, ms=5, mew=0, label="complete")
        _bounded(axis, y)
    px, py = _xy(by_state["pruned"], metric)
    if len(px):
        low, high = axis.get_ylim()
        axis.plot(
            px,
            np.clip(py, low, high),
            "o",
            mfc="none",
            mec=GREY,
            ms=5,
            clip_on=False,
            label="stopped early (best until then)",
        )
    for row in told:
        if row["recipe_as_it_is"] and np.isfinite(row[metric]):
            axis.axhline(row[metric], color=RED, lw=0.9, ls=":", label="the recipe as it is")
    if by_state["failed"]:
        at, edge = [row["trial"] for row in by_state["failed"]], axis.get_xaxis_transform()
        axis.plot(at, [0.02] * len(at), "x", color=RED, ms=6, label="failed", transform=edge)
    axis.set_ylabel(metric_name(metric))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best")


def _bounded(axis: Axes, y: Floats) -> None:
    """Some trials are far worse than all others: they lie on the edge."""
    low, middle = float(y.min()), float(np.median(y))
    high = max(float(np.quantile(y, 0.9)), middle)
    room = 0.08 * max(high - low, 1e-3 * abs(middle), 1e-9)
    if y.max() <= high + 3 * (high - low) and y.min() >= low:
        high = float(y.max())
    axis.set_ylim(low - room, high + room)


def _xy(some: Rows, metric: str) -> tuple[Floats, Floats]:
    pairs = [(row["trial"], row[metric]) for row in some if np.isfinite(row[metric])]
    x, y = np.array(pairs, float).reshape(-1, 2).T
    return x, y


def _importances(quest: Quest, mattered: Sequence[Mapping[str, float]]) -> bytes:
    """The share of the differences between trials that each setting explains."""
    keys = sorted({key for one in mattered for key in one}, key=lambda key: mattered[0].get(key, 0.0))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(mattered), squeeze=False, sharey=True)[0]
        for axis, one, metric in zip(axes, mattered, quest.aim.metrics, strict=True):
            axis.barh(range(len(keys)), [one.get(key, 0.0) for key in keys], color=BLUE, height=0.6)
            axis.set_yticks(range(len(keys)), keys)
            axis.set(xlabel=f"importance for\n{metric_name(metric)}", xlim=(0, None))
        figure.suptitle(f"{_subject(quest)}: settings without conditions", x=0.01, ha="left", fontsize=10)

    return png(draw, 3.0 + 3.2 * len(mattered), 1.4 + 0.32 * len(keys))


def _tried(quest: Quest, told: Rows) -> Rows:
    """The trials whose settings the space knows, and that have a value."""
    return [row for row in told if not row["recipe_as_it_is"] and np.isfinite(row[quest.aim.metrics[0]])]


def _places(quest: Quest, key: str, told: Rows) -> tuple[Floats, list[tuple[float, str]]]:
    """Where the values of a setting lie from 0 to 1 (NaN: not set), and the ticks of its axis."""
    one = quest.aim.space.distributions()[key]
    values = [row.get(f"set_{key}") for row in told]
    if isinstance(one, CategoricalDistribution):
        knob = next(knob for knob in quest.aim.space.knobs if knob.key == key)
        step = max(len(knob.choices) - 1, 1)
        found = [np.nan if value is None else knob.choices.index(value) / step for value in values]
        return np.array(found, float), [
            (number / step, _short(choice)) for number, choice in enumerate(knob.choices)
        ]
    scale = np.log10 if one.log else np.asarray
    low, high = scale(one.low), scale(one.high)
    numbers = np.array([np.nan if value is None else value for value in values], float)
    middle = 10 ** ((low + high) / 2) if one.log else (low + high) / 2
    return (scale(numbers) - low) / (high - low), [
        (0.0, _short(one.low)),
        (0.5, _short(float(middle))),
        (1.0, _short(one.high)),
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parallel(quest: Quest, told: Rows, keys: Sequence[str]) -> bytes:
    """A line for each trial through its settings to its value; the better, the bluer and the more in front."""
    metric, sign = quest.aim.metrics[0], quest.aim.signs[0]
    score = sign * np.array([row[metric] for row in told], float)
    rank = score.argsort().argsort() / max(len(score) - 1, 1)
    columns = [_places(quest, key, told) for key in keys]
    low, high = float(score.min()), float(np.quantile(score, 0.9))
    last = np.clip((score - low) / max(high - low, 1e-12), 0, 1)
    paths = np.stack([*(places for places, _ in columns), 1 - last], 1)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for number in np.argsort(-rank):
            some = np.isfinite(paths[number])
            points = np.stack([np.flatnonzero(some), paths[number][some]], 1)
            axis.add_collection(
                LineCollection([points], colors=[SIGNED(rank[number])], lw=0.8 + 1.4 * (rank[number] < 0.1))
            )
        for place, (_, ticks) in enumerate(columns):
            axis.axvline(place, color=INK, lw=0.8)
            for at, told_there in ticks:
                axis.annotate(
                    told_there,
                    (place, at),
                    (4, 0),
                    textcoords="offset points",
                    fontsize=7.5,
                    va="center",
                    color=INK,
                )
        axis.axvline(len(keys), color=INK, lw=0.8)
        for at, value in ((1.0, sign * low), (0.0, sign * high)):
            axis.annotate(
                f"{value:.3g}", (len(keys), at), (4, 0), textcoords="offset points", fontsize=7.5, va="center"
            )
        axis.set_xticks(range(len(keys) + 1), [*keys, metric], rotation=20, ha="right", fontsize=8.5)
        axis.set(xlim=(-0.1, len(keys) + 0.35), ylim=(-0.04, 1.04), yticks=[])
        axis.spines["left"].set_visible(False)
        axis.set_title(f"{_subject(quest)}: {len(told)} complete trials, the best blue, the worst red")

    return png(draw, 2.5 + 1.25 * (len(keys) + 1), 4.6)


def slices(quest: Quest, told: Rows, keys: Sequence[str]) -> bytes:
    """Each setting by itself against the value; darker later, hollow where stopped early."""
    metric = quest.aim.metrics[0]
    y = np.array([row[metric] for row in told], float)
    complete = np.array([row["state"] == "complete" for row in told])
    usual = [row[metric] for row in rows(quest) if row["recipe_as_it_is"] and np.isfinite(row[metric])]

    def draw(figure: Figure) -> None:
        columns = min(WIDEST, len(keys))
        axes = figure.subplots(-(-len(keys) // columns), columns, squeeze=False, sharey=True)
        for axis in axes.ravel()[len(keys) :]:
            axis.set_visible(False)
        _bounded(axes[0, 0], y[complete])
        low, high = axes[0, 0].get_ylim()
        for axis, key in zip(axes.ravel(), keys, strict=False):
            x, ticks = _places(quest, key, told)
            stopped = ~complete & np.isfinite(x)
            if stopped.any():  # unclipped nothing would be taken for something at the figure's corner
                axis.plot(
                    x[stopped],
                    np.clip(y, low, high)[stopped],
                    "o",
                    mfc="none",
                    mec=GREY,
                    ms=4,
                    alpha=0.7,
                    clip_on=False,
                )
            axis.scatter(
                x[complete],
                np.clip(y, low, high)[complete],
                c=np.flatnonzero(complete),
                cmap="Blues",
                vmin=-len(y),
                s=22,
                lw=0,
            )
            axis.set_xticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=8)
            axis.set(xlabel=key, xlim=(-0.08, 1.08))
            if usual:
                axis.axhline(usual[0], color=RED, lw=0.9, ls=":")
        for axis in axes[:, 0]:
            axis.set_ylabel(metric.replace("_", " "), fontsize=9)
        told_above = f"{_subject(quest)}, {metric_name(metric)}: later trials darker, stopped ones hollow, dotted: the recipe"
        figure.suptitle(told_above, x=0.01, ha="left", fontsize=10)

    wide = min(WIDEST, len(keys))
    return png(draw, 1.0 + 2.5 * max(wide, 3), 0.9 + 2.6 * -(-len(keys) // wide))


def front(quest: Quest, finished: Rows) -> bytes:
    """The first two metrics against each other, and the trials that none betters in all."""
    first, second = quest.aim.metrics[:2]
    best = {one.number for one in quest.study.study.best_trials}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for row in finished:
            on = row["trial"] in best
            axis.plot(row[first], row[second], "o", color=BLUE if on else GREY, ms=6 if on else 4, mew=0)
            if row["recipe_as_it_is"]:
                axis.plot(row[first], row[second], "o", mfc="none", mec=RED, ms=11)
                axis.annotate(
                    "the recipe as it is",
                    (row[first], row[second]),
                    (9, 6),
                    textcoords="offset points",
                    color=RED,
                    fontsize=8.5,
                )
        edge = np.array(sorted((row[first], row[second]) for row in finished if row["trial"] in best))
        if len(quest.aim.metrics) == 2:
            axis.plot(*edge.T, color=BLUE, lw=0.9)
        for metric, scaled in ((first, axis.set_xscale), (second, axis.set_yscale)):
            values = [row[metric] for row in finished]
            if min(values) > 0 and max(values) > 8 * min(values):
                scaled("log")
        axis.set(xlabel=metric_name(first), ylabel=metric_name(second))
        axis.set_title(f"{_subject(quest)}: {len(best)} of {len(finished)} trials that none betters in all")

    return png(draw, 6.2, 4.8)
