"""Pictures of a label table: how catalogues agree, which ranges their labels cover, where the stars are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.label_tables.label_tables import COMMON, SCALES, TABLE, LabelsResult
from survey.reports.style import (
    BLUE,
    GREY,
    INK,
    RED,
    SERIES,
    count_text,
    label_text,
    plot_points,
    png,
    symbol,
)

Floats = NDArray[np.float64]

SHOWN = ("Teff", "logg", "FeH", "CFe")
CLASS_COLOURS = {"NMP": GREY, "MP": BLUE, "CEMP": RED}
MANY = 5000
"""From so many stars on the sky, their points become smaller."""
OTHERS = "other sources"
"""Those that have no colour of their own."""
FEW = 3
"""Fewer stars in common than this are not drawn."""
RANGE = (0.5, 99.5)
"""Percentiles that a picture of ranges shows; the few values beyond are counted at its ends."""


def plots(result: LabelsResult) -> Iterator[tuple[str, bytes]]:
    """The pictures by name: one of overlaps for each pair of sources, one of ranges, one of the sky."""
    yield from _overlaps(result)
    columns = ["ra", "dec", "class", *SHOWN, *(f"source_{name}" for name in SHOWN)]
    table = result.table(TABLE)
    assert table is not None
    data = {name: table[name].to_pandas().to_numpy() for name in columns if name in table.column_names}
    if shown := [name for name in SHOWN if np.isfinite(data[name].astype(float)).any()]:
        yield "ranges", _ranges(data, shown)
    if np.isfinite(data["ra"].astype(float)).any():
        yield "sky", _sky(data)


def _overlaps(result: LabelsResult) -> Iterator[tuple[str, bytes]]:
    """For each source, its values against those of the reference for the stars in common."""
    common, scales = result.table(COMMON), result.table(SCALES)
    if common is None or scales is None or not common.num_rows:
        return
    frame, fits = common.to_pandas(), scales.to_pylist()
    for (source, reference), rows in frame.groupby(["source", "reference"], sort=True):
        shown = [name for name in rows["label"].unique() if (rows["label"] == name).sum() >= FEW]
        if not shown:
            continue

        def draw(
            figure: Figure, rows: Any = rows, shown: list[str] = shown, pair: Any = (source, reference)
        ) -> None:
            axes = figure.subplots(1, len(shown), squeeze=False)[0]
            for axis, name in zip(axes, shown, strict=True):
                part = rows[rows["label"] == name]
                fit = next((fit for fit in fits if fit["label"] == name and fit["source"] == pair[0]), None)
                _draw_overlap(
                    axis, name, part["value"].to_numpy(), part["reference_value"].to_numpy(), fit, pair
                )

        yield f"overlap-{source}-{reference}", png(draw, 3.5 * len(shown) + 0.4, 3.7)


def _draw_overlap(
    axis: Axes, name: str, value: Floats, reference: Floats, fit: dict[str, Any] | None, pair: tuple[str, str]
) -> None:
    """The difference of two sources against the value of the first, with the fitted line and its interval."""
    difference = reference - value
    plot_points(axis, value, difference)
    axis.axhline(0, color=INK, lw=0.8, ls=":")
    title = f"{symbol(name)}, {count_text(len(value), 'stars')}"
    if fit and fit["offset"] is not None:
        ends = np.array([value.min(), value.max()])
        slope = fit["slope"] or 0.0
        line = fit["offset"] + slope * (ends - fit["pivot"])
        axis.plot(ends, line, color=RED, lw=1.6)
        low, high = fit["offset_low"] - fit["offset"], fit["offset_high"] - fit["offset"]
        axis.fill_between(ends, line + low, line + high, color=RED, alpha=0.25, lw=0)
        digits = 1 if name == "Teff" else 3
        interval = f"[{fit['offset_low']:+.{digits}f}, {fit['offset_high']:+.{digits}f}]"
        title += f"\noffset {fit['offset']:+.{digits}f} {interval}"
        if fit["slope_low"] is not None:
            title += f"\nslope {slope:+.3f} [{fit['slope_low']:+.3f}, {fit['slope_high']:+.3f}]"
    spread = np.percentile(np.abs(difference), 99) * 1.3 + 1e-6
    axis.set(
        xlabel=f"{label_text(name)} of {pair[0]}",
        ylabel=f"{pair[1]} - {pair[0]}",
        title=title,
        ylim=(-spread, spread),
    )


def _ranges(data: dict[str, NDArray[Any]], names: Sequence[str]) -> bytes:
    """How many rows have which value of these labels, by class and by source."""
    kinds = data["class"].astype(object)
    source_of = {name: data[f"source_{name}"].astype(object) for name in names}
    values_of = {name: data[name].astype(float) for name in names}
    known_of = {name: np.isfinite(values) for name, values in values_of.items()}
    colours = _source_colours([source_of[name][known_of[name]] for name in names])

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, len(names), squeeze=False, sharex="col")
        for column, name in enumerate(names):
            values, known, source = values_of[name], known_of[name], source_of[name]
            low, high = np.percentile(values[known], RANGE)
            low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
            bins, clipped = np.linspace(low, high, 41), np.clip(values, low, high)
            is_other = known & ~np.isin(source.astype(str), list(colours))
            by_class = [(kind, known & (kinds == kind), colour) for kind, colour in CLASS_COLOURS.items()]
            by_source = [
                (word, is_other if word == OTHERS else known & (source == word), colour)
                for word, colour in colours.items()
            ]
            for row, parts in enumerate((by_class, by_source)):
                axis = axes[row, column]
                for word, part, colour in parts:
                    if part.any():
                        axis.hist(clipped[part], bins, histtype="step", lw=1.6, color=colour, label=word)
                axis.set_yscale("log")
                axis.set_ylim(bottom=0.7)
            axes[0, column].set_title(f"{symbol(name)}, {count_text(int(known.sum()), 'rows')}")
            axes[1, column].set_xlabel(label_text(name))
        axes[0, 0].set_ylabel("rows, by class")
        axes[1, 0].set_ylabel("rows, by source")
        for row, order in enumerate((CLASS_COLOURS, colours)):
            _legend(axes[row], list(order))

    return png(draw, 3.1 * len(names) + 1.6, 5.2)


def _source_colours(sources: Sequence[NDArray[Any]]) -> dict[str, str]:
    """The colour of each source in all panels, that with most values first; the last one is of all others."""
    counts = Counter(word for words in sources for word in words.tolist() if word)
    ordered = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    if len(ordered) > len(SERIES):
        ordered = [*ordered[: len(SERIES) - 1], OTHERS]
    return dict(zip(ordered, SERIES, strict=False))


def _legend(axes: Sequence[Axes], order: Sequence[str]) -> None:
    """One legend of all panels of a row, in this order."""
    handles: dict[str, Any] = {}
    for axis in axes:
        found, words = axis.get_legend_handles_labels()
        handles |= dict(zip(words, found, strict=True))
    shown = [word for word in order if word in handles]
    axes[-1].legend([handles[word] for word in shown], shown, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _sky(data: dict[str, NDArray[Any]]) -> bytes:
    """The stars on the sky in equal areas, metal-poor ones above the others."""
    ra, dec = data["ra"].astype(float), data["dec"].astype(float)
    kinds = data["class"].astype(object)
    shrink = min(1.0, MANY / max(len(ra), 1))
    sizes = {"NMP": 4 * shrink, "MP": 5 * shrink, "CEMP": 14 * shrink**0.7}

    def draw(figure: Figure) -> None:
        axis = figure.add_subplot(projection="mollweide")
        x, y = np.radians(180 - ra), np.radians(dec)
        none = np.array([kind not in CLASS_COLOURS for kind in kinds])
        if none.any():
            text = f"no class ({none.sum():,})"
            axis.scatter(x[none], y[none], s=3 * shrink, color="#d5dae0", lw=0, label=text)
        for kind, colour in CLASS_COLOURS.items():
            part = kinds == kind
            axis.scatter(
                x[part],
                y[part],
                s=sizes[kind],
                color=colour,
                lw=0,
                alpha=0.8,
                label=f"{kind} ({part.sum():,})",
            )
        hours = np.arange(-150, 151, 60)
        axis.set_xticks(np.radians(hours), [f"{int((180 - hour) / 15)} h" for hour in hours], color=INK)
        axis.grid(color="#e4e8ec")
        axis.set_title(count_text(len(ra), "rows"))
        legend = axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for handle in filter(None, legend.legend_handles):
            handle.set(sizes=[20])

    return png(draw, 9.5, 4.6)
