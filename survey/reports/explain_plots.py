"""The pictures of an explanation: importance over the mean spectrum, elements, groups, parts of the store."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.explain.explain import Explained
from survey.explain.explanation import TargetRecord
from survey.explain.features import FEATURES
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, SHARE, png, unit

Targets = tuple[TargetRecord, ...]

MOST_ROWS = 8
"""Targets in a picture; further ones come in further pictures."""
TREND = 5
"""Blocks whose share is followed from part to part."""
DARK = 0.3
"""Shares above are drawn so dark that numbers on them are white."""
LABELLED = ("Ca II K", "CN 4215", "CH G band", "C2 Swan 4737", "H beta", "C2 Swan 5165", "Mg b", "Na D")
LABELLED_TOO = ("C2 Swan 5636", "TiO 7054", "H alpha", "Ca II 8542", "O2 A of the air")


def draw(result: Explained) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the pictures."""
    importance, dependence = _frame(result, "importance.parquet"), _frame(result, "dependence.parquet")
    mean, targets = _frame(result, "mean.parquet"), result.document.targets
    yield from _parts("importance", targets, lambda some: _importance(importance, mean, some))
    if len(dependence):
        yield "dependence", _dependence(dependence, targets)
    groups = [group for group in importance["group"].unique() if group != "all"]
    if len(groups) > 1:
        yield from _parts("groups", targets, lambda some: _groups(importance, some, groups))
    batches = _frame(result, "batches.parquet")
    if batches["batch"].nunique() > 1:
        yield from _parts("trend", targets, lambda some: _trend(batches, some))
    for number, spectrum in enumerate(result.document.single, 1):
        single = partial(_single, _frame(result, "single.parquet"), mean, spectrum)
        yield from _parts(f"single-{number}", targets, single)
    if result.document.attention:
        yield "attention", _attention(_frame(result, "attention.parquet"), mean)


def _parts(name: str, targets: Targets, draw_some: Callable[[Targets], bytes]) -> Iterator[tuple[str, bytes]]:
    """As many pictures as all targets need."""
    for number, start in enumerate(range(0, len(targets), MOST_ROWS), 1):
        yield name if number == 1 else f"{name}-{number}", draw_some(targets[start : start + MOST_ROWS])


def _frame(result: Explained, name: str) -> pd.DataFrame:
    table = result.table(name)
    assert table is not None
    return pd.DataFrame(table.to_pydict())


def _importance(frame: pd.DataFrame, mean: pd.DataFrame, targets: Targets) -> bytes:
    """Shares of all blocks by each method, over the mean spectrum."""

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(targets), 1, sharex=True))
        everything = frame[frame["group"] == "all"]
        for axis, target in zip(axes, targets, strict=True):
            of_target = everything[everything["target"] == target.column]
            for number, (method, rows) in enumerate(of_target.groupby("method", sort=False)):
                _steps(axis, rows, "share", SERIES[number], str(method), filled=method == "occlusion")
            axis.set_title(_title(target))
            axis.set_ylabel("share")
            axis.set_ylim(0, of_target["share"].max() * 1.25 + 1e-9)
            _mean_spectrum(axis, mean, mean["wavelength"], mean["all"])
        _mark(axes[0])
        axes[0].legend(ncols=4, loc="upper right")
        axes[-1].set_xlabel("vacuum wavelength at rest (Å)")

    return png(draw, 11, 0.6 + 1.75 * len(targets))


def _steps(axis: Axes, rows: pd.DataFrame, column: str, colour: str, text: str, filled: bool = False) -> None:
    edges = [*rows["low"], rows["high"].iloc[-1]]
    if filled:
        axis.stairs(rows[column], edges, color=colour, alpha=0.35, fill=True, lw=0)
    axis.stairs(rows[column], edges, color=colour, lw=1.2, label=text)


def _mean_spectrum(
    axis: Axes, mean: pd.DataFrame, wave: "pd.Series[float]", flux: "pd.Series[float]"
) -> None:
    """The mean spectrum behind the rest, on an axis of its own without numbers."""
    behind = axis.twinx()
    behind.plot(wave, flux, color=GREY, lw=0.6, alpha=0.8)
    behind.set_yticks([])
    behind.spines["right"].set_visible(False)
    behind.set_zorder(axis.get_zorder() - 1)
    axis.patch.set_visible(False)
    axis.set_xlim(wave.iloc[0], wave.iloc[-1])
    for feature in FEATURES:
        if feature.name in LABELLED + LABELLED_TOO:
            axis.axvspan(feature.low, feature.high, color=INK, alpha=0.06, lw=0)


def _mark(axis: Axes) -> None:
    """The names of some features above the first panel."""
    low, high = axis.get_xlim()
    for feature in FEATURES:
        if feature.name in LABELLED + LABELLED_TOO and low < feature.middle < high:
            axis.annotate(
                feature.name,
                (feature.middle, 1.0),
                (0, 16),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                rotation=60,
                fontsize=7,
                ha="left",
                va="bottom",
                color=INK,
            )


def _title(target: TargetRecord) -> str:
    return f"probability of {target.column.removeprefix('p_')}" if target.is_class else target.column


def _unit(target: TargetRecord) -> str:
    return "probability" if target.is_class else unit(target.column)


def _with_unit(target: TargetRecord) -> str:
    return _title(target) if target.is_class else f"{_title(target)} ({_unit(target)})"


def _dependence(frame: pd.DataFrame, targets: Targets) -> bytes:
    """How much each target changes without the lines of each element."""
    elements = list(dict.fromkeys(frame["element"]))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        shares = frame.pivot(index="target", columns="element", values="share")
        sizes = frame.pivot(index="target", columns="element", values="size")
        order = [target.column for target in targets]
        image = shares.loc[order, elements].to_numpy()
        axis.imshow(image, cmap=SHARE, vmin=0, vmax=max(0.5, image.max()), aspect="auto")
        axis.set_xticks(range(len(elements)), elements)
        axis.set_yticks(range(len(targets)), [_with_unit(target) for target in targets])
        for row, target in enumerate(targets):
            for column, element in enumerate(elements):
                value = float(sizes.loc[target.column, element])
                text = f"{value:.0f}" if target.unit == "K" else f"{value:.2f}"
                weight = "bold" if element == target.own_element else "normal"
                colour = "white" if image[row, column] > DARK else INK
                number = axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
                number.set_fontweight(weight)
        axis.set_title("mean change without all lines of an element; bold: the element of the label itself")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)

    return png(draw, 3.2 + 0.62 * len(elements), 1.0 + 0.42 * len(targets))


def _groups(frame: pd.DataFrame, targets: Targets, groups: list[str]) -> bytes:
    """The importance by occlusion in each group of spectra."""

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(targets), 1, sharex=True))
        occlusion = frame[frame["method"] == "occlusion"]
        for axis, target in zip(axes, targets, strict=True):
            for number, group in enumerate(groups):
                rows = occlusion[(occlusion["target"] == target.column) & (occlusion["group"] == group)]
                count = rows["spectra"].iloc[0]
                _steps(axis, rows, "size", SERIES[number % len(SERIES)], f"{group} ({count:,})")
            axis.set_title(_title(target))
            axis.set_ylabel(f"change ({_unit(target)})")
        axes[0].legend(ncols=3, loc="upper right")
        axes[-1].set_xlabel("vacuum wavelength at rest (Å)")

    return png(draw, 11, 0.6 + 1.75 * len(targets))


def _trend(frame: pd.DataFrame, targets: Targets) -> bytes:
    """The shares of the most important blocks from part to part of the store."""

    def draw(figure: Figure) -> None:
        columns = min(4, len(targets))
        axes = figure.subplots(-(-len(targets) // columns), columns, squeeze=False, sharex=True).ravel()
        for axis in axes[len(targets) :]:
            axis.set_visible(False)
        for axis, target in zip(axes, targets, strict=False):
            of_target = frame[frame["target"] == target.column]
            best = of_target.groupby("block")["share"].mean().nlargest(TREND).index
            for number, block in enumerate(best):
                rows = of_target[of_target["block"] == block]
                name = rows["features"].iloc[0].split(",")[0] or f"{rows['low'].iloc[0]:.0f} Å"
                axis.plot(rows["batch"], rows["share"], "o-", ms=3, color=SERIES[number], label=name)
            axis.set_title(_title(target))
            axis.set_ylim(bottom=0)
            axis.legend(fontsize=7)
        figure.supxlabel("part of the spectra, in the order of the store", fontsize=10)
        figure.supylabel("share of the importance", fontsize=10)

    return png(draw, 12, 0.8 + 2.8 * -(-len(targets) // 4))


def _single(frame: pd.DataFrame, mean: pd.DataFrame, name: str, targets: Targets) -> bytes:
    """What each block of one spectrum adds to each target."""

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(targets), 1, sharex=True))
        of_one = frame[frame["group"] == name]
        for axis, target in zip(axes, targets, strict=True):
            rows = of_one[of_one["target"] == target.column]
            adds, edges = -rows["change"].to_numpy(), [*rows["low"], rows["high"].iloc[-1]]
            axis.stairs(np.maximum(adds, 0), edges, color=RED, alpha=0.6, fill=True, lw=0)
            axis.stairs(np.minimum(adds, 0), edges, color=BLUE, alpha=0.6, fill=True, lw=0)
            axis.axhline(0, color=INK, lw=0.6)
            value = rows["value"].iloc[0]
            text = f"{value:.0f}" if target.unit == "K" else f"{value:.2f}"
            axis.set_title(f"{_title(target)} = {text}: what each block adds")
            axis.set_ylabel(_unit(target))
            _mean_spectrum(axis, mean, mean["wavelength"], mean["all"])
        _mark(axes[0])
        axes[-1].set_xlabel("vacuum wavelength at rest (Å)")
        figure.suptitle(f"{name} (grey: the mean spectrum)", fontsize=10, x=0.01, ha="left")

    return png(draw, 11, 0.9 + 1.75 * len(targets))


def _attention(frame: pd.DataFrame, mean: pd.DataFrame) -> bytes:
    """How much each network with attention looks at each part of a spectrum."""
    members = list(dict.fromkeys(frame["member"]))

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(members), 1, sharex=True))
        for axis, member in zip(axes, members, strict=True):
            of_member = frame[frame["member"] == member]
            for number, (group, rows) in enumerate(of_member.groupby("group", sort=False)):
                _steps(axis, rows, "weight", SERIES[number % len(SERIES)], str(group))
            axis.set_title(f"attention of {member}")
            axis.set_ylim(bottom=0)
            _mean_spectrum(axis, mean, mean["wavelength"], mean["all"])
        axes[0].legend(ncols=4, loc="upper right")
        axes[-1].set_xlabel("vacuum wavelength at rest (Å)")

    return png(draw, 11, 0.6 + 2.0 * len(members))
