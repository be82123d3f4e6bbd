"""Plots of a search: its history, what mattered, which values were good, and the trials that no other trial
beats.

Optuna draws the importances and the Pareto front. Its other plots were compared with these and leave out
what a search needs: they show no trial that was stopped early or failed, and not the recipe; the ticks of a
logarithmic setting overlap; one very poor trial hides the differences between all others.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.visualization import matplotlib as optuna_plots

from survey.reports.style import BLUE, GREY, INK, LOOK, RED, SIGNED, png, symbol, unit
from survey.search.results import comparable, importances, rows
from survey.search.schedule import TargetSchedule
from survey.training.settings import Train

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]
NAMES = {"mae": "mean absolute error", "rmse": "root mean square error", "bias": "bias (size)", "r2": "$R^2$"}
MAX_COLUMNS = 5
"""Panels side by side."""


def pictures(schedule: TargetSchedule) -> dict[str, bytes]:
    """Every plot that has enough trials, by name."""
    trials = rows(schedule)
    if not trials:
        return {}
    drawn = {"history": history(schedule, trials)}
    for number, metric in enumerate(schedule.target.metrics):
        if (study := comparable(schedule, number)) and importances(schedule, number):
            name = "importances" if number == 0 else f"importances-{metric}"
            drawn[name] = importance_charts(schedule, study, number)
    complete = [row for row in trials if row["state"] == "complete"]
    keys = _varied(schedule, _with_values(schedule, complete))
    if len(complete) > 1 and keys:
        drawn["parallel"] = parallel(schedule, _with_values(schedule, complete), keys)
        drawn["slices"] = slices(schedule, _with_values(schedule, trials), keys)
    if len(schedule.target.metrics) > 1 and complete:
        drawn["front"] = front(schedule, complete)
    return drawn


def _varied(schedule: TargetSchedule, trials: Rows) -> list[str]:
    """The settings that have more than one value in these trials."""
    keys = [dimension.key for dimension in schedule.target.space.dimensions]
    return [key for key in keys if len({str(row.get(f"set_{key}")) for row in trials}) > 1]


def _with_values(schedule: TargetSchedule, trials: Rows) -> Rows:
    """The trials that have values of the space and a finite first metric: not the recipe, and no failed
    trial.
    """
    metric = schedule.target.metrics[0]
    return [row for row in trials if not row["recipe_as_it_is"] and np.isfinite(row[metric])]


def metric_name(metric: str) -> str:
    """A metric as the axis of a plot names it."""
    kind, _, label = metric.partition("_")
    if kind in NAMES and label and label != "mean":
        in_unit = f" ({unit(label)})" if kind != "r2" and unit(label) else ""
        return f"{NAMES[kind]} of {symbol(label)}{in_unit}"
    return {"training_seconds": "training (s)"}.get(metric, metric.replace("_", " "))


def _subject(schedule: TargetSchedule) -> str:
    """What the search was for, in a title."""
    labels = schedule.target.train.get("targets") or Train.model_fields["targets"].default
    return symbol(labels[0]) if len(labels) == 1 else schedule.target.name


def history(schedule: TargetSchedule, trials: Rows) -> bytes:
    """Each metric by trial, with the best so far; trials that were stopped early or failed have marks of
    their own.
    """
    metrics = schedule.target.metrics

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(metrics), 1, squeeze=False, sharex=True)[:, 0]
        for axis, metric, sign in zip(axes, metrics, schedule.target.signs, strict=True):
            _draw_history(axis, trials, metric, sign)
        states = [row["state"] for row in trials]
        counts = {state: states.count(state) for state in ("complete", "pruned", "failed", "running")}
        counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        axes[0].set_title(f"{_subject(schedule)}: {counted}")
        axes[-1].set_xlabel("trial")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return png(draw, 7.5, 1.2 + 3 * len(metrics))


def _draw_history(axis: Axes, trials: Rows, metric: str, sign: int) -> None:
    x, y = _points(trials, "complete", metric)
    if len(x):
        best = sign * np.minimum.accumulate(sign * y)
        steps = [*x, len(trials) - 1], [*best, best[-1]]
        axis.step(*steps, where="post", color=INK, lw=1.2, label="best so far")
        axis.plot(x, y, "o", color=BLUE, ms=5, mew=0, label="complete")
        _limit(axis, y, sign)
    x, y = _points(trials, "pruned", metric)
    if len(x):
        y = np.clip(y, *axis.get_ylim())
        axis.plot(x, y, "o", mfc="none", mec=GREY, ms=5, clip_on=False, label="stopped early (best epoch)")
    for row in trials:
        if row["recipe_as_it_is"] and np.isfinite(row[metric]):
            axis.axhline(row[metric], color=RED, lw=0.9, ls=":", label="the recipe itself")
    if failed := [row["trial"] for row in trials if row["state"] == "failed"]:
        edge = axis.get_xaxis_transform()
        axis.plot(failed, [0.02] * len(failed), "x", color=RED, ms=6, label="failed", transform=edge)
    axis.set_ylabel(metric_name(metric))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best")


def _points(trials: Rows, state: str, metric: str) -> tuple[Floats, Floats]:
    """Number and metric of the trials in a state, if the metric is finite."""
    chosen = [row for row in trials if row["state"] == state and np.isfinite(row[metric])]
    x = np.array([row["trial"] for row in chosen], float)
    return x, np.array([row[metric] for row in chosen], float)


def _limit(axis: Axes, y: Floats, sign: int) -> None:
    """Limits between which the better trials are easy to distinguish; far worse ones lie on the edge.

    The sign is 1 for a metric that is better when it is smaller, else -1.
    """
    score = sign * y
    best, middle = float(score.min()), float(np.median(score))
    worst = max(float(np.quantile(score, 0.9)), middle)
    margin = 0.08 * max(worst - best, 1e-3 * abs(middle), 1e-9)
    if score.max() <= worst + 3 * (worst - best):
        worst = float(score.max())
    axis.set_ylim(*sorted((sign * (best - margin), sign * (worst + margin))))


def _positions(schedule: TargetSchedule, key: str, trials: Rows) -> tuple[Floats, list[tuple[float, str]]]:
    """The values of a setting on an axis from 0 to 1 (NaN: not set), and the ticks of this axis."""
    dimension = next(each for each in schedule.target.space.dimensions if each.key == key)
    values = [row.get(f"set_{key}") for row in trials]
    if dimension.choices:
        last = max(len(dimension.choices) - 1, 1)
        places = [np.nan if value is None else dimension.choices.index(value) / last for value in values]
        ticks = [(place / last, _short(choice)) for place, choice in enumerate(dimension.choices)]
        return np.array(places, float), ticks
    scale = np.log10 if dimension.log else np.asarray
    low, high = float(scale(dimension.low)), float(scale(dimension.high))
    numbers = np.array([np.nan if value is None else value for value in values], float)
    middle = 10 ** ((low + high) / 2) if dimension.log else (low + high) / 2
    ticks = [(0.0, _short(dimension.low)), (0.5, _short(middle)), (1.0, _short(dimension.high))]
    return (scale(numbers) - low) / (high - low), ticks


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parallel(schedule: TargetSchedule, trials: Rows, keys: Sequence[str]) -> bytes:
    """A line for each trial through its settings to its metric; the better, the
    bluer and the more in front.
    """
    metric, sign = schedule.target.metrics[0], schedule.target.signs[0]
    score = sign * np.array([row[metric] for row in trials], float)
    rank = score.argsort().argsort() / max(len(score) - 1, 1)
    low, high = float(score.min()), float(np.quantile(score, 0.9))
    columns = [_positions(schedule, key, trials) for key in keys]
    goodness = 1 - np.clip((score - low) / max(high - low, 1e-12), 0, 1)
    columns.append((goodness, [(1.0, f"{sign * low:.3g}"), (0.0, f"{sign * high:.3g}")]))
    paths = np.stack([positions for positions, _ in columns], 1)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for number in np.argsort(-rank):
            is_set = np.isfinite(paths[number])
            line = np.stack([np.flatnonzero(is_set), paths[number][is_set]], 1)
            width = 0.8 + 1.4 * (rank[number] < 0.1)
            axis.add_collection(LineCollection([line], colors=[SIGNED(rank[number])], lw=width))
        for place, (_, ticks) in enumerate(columns):
            axis.axvline(place, color=INK, lw=0.8)
            for position, text in ticks:
                _write(axis, text, (place, position))
        axis.set_xticks(range(len(columns)), [*keys, metric], rotation=20, ha="right", fontsize=8.5)
        axis.set(xlim=(-0.1, len(columns) - 0.65), ylim=(-0.04, 1.04), yticks=[])
        axis.spines["left"].set_visible(False)
        axis.set_title(f"{_subject(schedule)}: {len(trials)} complete trials, the best blue, the worst red")

    return png(draw, 2.5 + 1.25 * len(columns), 4.6)


def _write(axis: Axes, text: str, point: tuple[float, float]) -> None:
    """A tick's text beside an axis of parallel lines, on white, so that lines do not strike it out."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    axis.annotate(
        text, point, (4, 0), textcoords="offset points", fontsize=7.5, va="center", color=INK, bbox=box
    )


def slices(schedule: TargetSchedule, trials: Rows, keys: Sequence[str]) -> bytes:
    """The metric against each setting; later trials are darker, those that were stopped early are hollow."""
    metric, sign = schedule.target.metrics[0], schedule.target.signs[0]
    y = np.array([row[metric] for row in trials], float)
    is_complete = np.array([row["state"] == "complete" for row in trials])
    recipe = [row[metric] for row in rows(schedule) if row["recipe_as_it_is"] and np.isfinite(row[metric])]
    columns = min(MAX_COLUMNS, len(keys))
    lines = -(-len(keys) // columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axis in axes.ravel()[len(keys) :]:
            axis.set_visible(False)
        _limit(axes[0, 0], y[is_complete], sign)
        shown_y = np.clip(y, *axes[0, 0].get_ylim())
        for axis, key in zip(axes.ravel(), keys, strict=False):
            x, ticks = _positions(schedule, key, trials)
            _draw_slice(axis, x, shown_y, is_complete)
            axis.set_xticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=8)
            axis.set(xlabel=key, xlim=(-0.08, 1.08))
            if recipe:
                axis.axhline(recipe[0], color=RED, lw=0.9, ls=":")
        for axis in axes[:, 0]:
            axis.set_ylabel(metric.replace("_", " "), fontsize=9)
        title = f"{_subject(schedule)}, {metric_name(metric)}"
        marks = "later trials darker, stopped ones hollow, dotted: the recipe"
        figure.suptitle(f"{title}: {marks}", x=0.01, ha="left", fontsize=10)

    return png(draw, 1.0 + 2.5 * max(columns, 3), 0.9 + 2.6 * lines)


def _draw_slice(axis: Axes, x: Floats, y: Floats, is_complete: NDArray[np.bool_]) -> None:
    stopped = ~is_complete & np.isfinite(x)
    if stopped.any():  # an empty, unclipped set of points would be drawn at the figure's corner
        axis.plot(x[stopped], y[stopped], "o", mfc="none", mec=GREY, ms=4, alpha=0.7, clip_on=False)
    numbers = np.flatnonzero(is_complete)
    axis.scatter(x[numbers], y[numbers], c=numbers, cmap="Blues", vmin=-len(y), s=22, lw=0)


def importance_charts(schedule: TargetSchedule, study: optuna.Study, number: int) -> bytes:
    """The share of the differences in a metric that each setting explains, drawn by Optuna.

    Each metric has a picture of its own: Optuna mixes up the names of the bars of several.
    """

    def finish(axis: Axes) -> None:
        for bar in axis.patches:
            bar.set_facecolor(BLUE)
        axis.set_ylabel("")
        axis.set_xlabel(f"importance for {metric_name(schedule.target.metrics[number])}")
        axis.set_title(f"{_subject(schedule)}: settings without conditions", fontsize=10)
        if legend := axis.get_legend():
            legend.remove()

    keys = len(importances(schedule, number))
    return _drawn_by_optuna(
        lambda: optuna_plots.plot_param_importances(study), finish, 6.2, 1.4 + 0.32 * keys
    )


def front(schedule: TargetSchedule, complete: Rows) -> bytes:
    """The first two metrics of each trial, and the trials that no other trial beats, drawn by Optuna."""
    first, second = schedule.target.metrics[:2]
    study = schedule.study.optuna_study
    best = {trial.number for trial in study.best_trials}

    def finish(axis: Axes) -> None:
        for points, color in zip(reversed(axis.collections), (BLUE, GREY), strict=False):
            points.set_color(color)
        for row in complete:
            if row["recipe_as_it_is"]:
                axis.plot(row[first], row[second], "o", mfc="none", mec=RED, ms=11, label="the recipe itself")
        for metric, set_scale in ((first, axis.set_xscale), (second, axis.set_yscale)):
            values = [row[metric] for row in complete]
            if min(values) > 0 and max(values) > 8 * min(values):
                set_scale("log")
        axis.set(xlabel=metric_name(first), ylabel=metric_name(second))
        title = f"{_subject(schedule)}: no trial beats {len(best)} of {len(complete)} in all metrics"
        axis.set_title(title, fontsize=10)
        axis.legend()

    def plot() -> Axes:
        return optuna_plots.plot_pareto_front(
            study, target_names=[first, second], targets=lambda trial: trial.values[:2]
        )

    return _drawn_by_optuna(plot, finish, 6.2, 4.8)


def _drawn_by_optuna(
    plot: Callable[[], Axes], finish: Callable[[Axes], None], width: float, height: float
) -> bytes:
    """A plot of Optuna in the look of our plots, as PNG. Optuna turns the style
    ggplot on, which ends here.
    """
    with mpl.rc_context(LOOK | {"figure.figsize": (width, height)}), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axis = plot()
        figure = axis.get_figure(root=True)
        axis.set_facecolor("white")
        axis.grid(visible=False)
        axis.tick_params(colors=INK, labelsize=9)
        for side, spine in axis.spines.items():
            spine.set(edgecolor=INK, visible=side in ("left", "bottom"))
        finish(axis)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set(color=INK, fontsize=10)
        sink = BytesIO()
        if figure is not None:
            figure.savefig(sink, dpi=150, bbox_inches="tight", facecolor="white")
            plt.close(figure)
    return sink.getvalue()
