"""Pictures of the maps of a latent space: one for each map, with panels by class, cluster, signal to noise
and outlier score.

Shapes: N rows that are drawn.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.latent.latent import MAP, OUTLIERS, LatentResult
from survey.latent.outliers import BY_CENTRE, OUTLIER
from survey.reports.style import DENSITY, GREY, INK, SERIES, STEPS, count_text, png

MOST_POINTS = 30_000
"""Random rows that are drawn, of more."""
COLORS = (*SERIES[:-1], "#d6568f", "#5aa9c9", "#7d9a3c")
MOST_COMPONENTS = 5
NAMES = {"pca": "principal component", "umap": "UMAP", "pacmap": "PaCMAP"}
NONE = "none"
WIDTH, HEIGHT = 10.5, 10.5
INSIDE = 0.002
"""Share of the rows at each end of an axis that may lie outside the picture; these are drawn at its edge."""

Numbers = NDArray[np.float64]
Panel = Callable[[Figure, Axes, Numbers], None]


def plot_maps(result: LatentResult) -> dict[str, bytes]:
    """A picture of each map, and of the first components, by their names."""
    table = result.table(MAP)
    outliers = result.table(OUTLIERS)
    if table is None or outliers is None:
        return {}
    marked = _places_of_outliers(table, outliers)
    if table.num_rows > MOST_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(table.num_rows, MOST_POINTS, replace=False))
        table = table.take(pa.array(chosen))
    pictures = {f"map_{name}": _plot(result, name, table, marked) for name in result.document.maps}
    if "pca_3" in table.column_names:
        pictures["components"] = _plot_components(result, table)
    return pictures


def _plot_components(result: LatentResult, table: pa.Table) -> bytes:
    """The first components against each other, coloured by class."""
    names = [f"pca_{number}" for number in range(1, MOST_COMPONENTS + 1)]
    names = [name for name in names if name in table.column_names]
    groups, shares = result.document.groups, result.document.shares
    panel = _by_word(table, "group", list(groups.rows))

    def draw(figure: Figure) -> None:
        count = len(names) - 1
        grid = figure.subplots(count, count, squeeze=False, sharex="col", sharey="row")
        axes: list[list[Axes]] = grid.tolist()
        for row, column in np.ndindex(count, count):
            axis = axes[row][column]
            if column > row:
                axis.set_visible(False)
                continue
            xy_N2 = np.stack([_numbers(table, names[column]), _numbers(table, names[row + 1])], 1)
            panel(figure, axis, np.clip(xy_N2, *_limits(xy_N2)))
            if row == count - 1:
                axis.set_xlabel(f"component {column + 1} ({shares[column]:.0%})")
            if column == 0:
                axis.set_ylabel(f"component {row + 2} ({shares[row + 1]:.0%})")
            handles = axis.get_legend_handles_labels()
            legend = axis.get_legend()
            if legend:
                legend.remove()
        legend = figure.legend(*handles, loc="upper right", title=f"by {groups.by}")
        for handle in filter(None, legend.legend_handles):
            handle.set(sizes=[40], alpha=1)
        figure.suptitle(
            "principal components and their shares of the variance", x=0.01, ha="left", fontsize=12
        )

    return png(draw, 2 + 2.2 * (len(names) - 1), 1.5 + 2.1 * (len(names) - 1))


def _places_of_outliers(table: pa.Table, outliers: pa.Table) -> pa.Table:
    """The rows of the map that are outliers by the distance from the centre of their class."""
    is_listed = np.array(
        [
            by == BY_CENTRE and kind == OUTLIER
            for by, kind in zip(outliers["by"].to_pylist(), outliers["kind"].to_pylist(), strict=True)
        ],
        bool,
    )
    listed = outliers.filter(pa.array(is_listed))
    places = [(_numbers(part, "shard") * 1e9 + _numbers(part, "row_in_shard")) for part in (table, listed)]
    return table.filter(pa.array(np.isin(places[0], places[1])))


def _plot(result: LatentResult, name: str, table: pa.Table, marked: pa.Table) -> bytes:
    document = result.document
    shares = document.shares
    panels: list[tuple[str, Panel]] = [
        (f"by {document.groups.by}", _by_word(table, "group", list(document.groups.rows)))
    ]
    if document.groups.by != "cluster" and document.clusters.keys() - {"-1"}:
        panels.append(("by cluster", _by_cluster(table)))
    if "snr" in table.column_names and np.isfinite(_numbers(table, "snr")).any():
        panels.append(("by signal to noise", _by_number(table, "snr", DENSITY, "S/N")))
    if np.isfinite(_numbers(table, "centre_ratio")).any():
        text = "distance from the centre of the class / median"
        panels.append(
            ("by outlier score; circles: the first outliers", _by_number(table, "centre_ratio", STEPS, text))
        )
    text = "distance to neighbours / median"
    panels.append(("by loneliness (density score)", _by_number(table, "density_score", STEPS, text)))
    panels = panels[:4]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False, sharex=True, sharey=True).ravel()
        xy_N2 = _places(table, name)
        low_2, high_2 = _limits(xy_N2)
        for axis, (title, panel) in zip(axes, panels, strict=False):
            panel(figure, axis, np.clip(xy_N2, low_2, high_2))
            axis.set_title(title)
            if title.startswith("by outlier"):
                axis.plot(
                    *np.clip(_places(marked, name), low_2, high_2).T, "o", ms=9, mfc="none", mec=INK, mew=1.0
                )
            for number, set_label in ((1, axis.set_xlabel), (2, axis.set_ylabel)):
                share = f" ({shares[number - 1]:.0%} of variance)" if name == "pca" else ""
                set_label(f"{NAMES[name]} {number}{share}")
            if name != "pca":
                axis.set(xticks=[], yticks=[])
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        rows = document.rows - document.no_latent
        drawn = f", {table.num_rows:,} drawn" if table.num_rows < document.rows else ""
        outside = int(((xy_N2 < low_2) | (xy_N2 > high_2)).any(1).sum())
        drawn += f"; {outside:,} far outside, drawn at the edge" if outside else ""
        figure.suptitle(
            f"latent space, {document.width} features: {count_text(rows, 'rows')}{drawn}",
            x=0.01,
            ha="left",
            fontsize=12,
        )

    return png(draw, WIDTH, HEIGHT if len(panels) > 2 else HEIGHT / 1.8)


def _numbers(table: pa.Table, name: str) -> Numbers:
    return np.asarray(table[name].to_numpy(), np.float64)


def _places(table: pa.Table, name: str) -> Numbers:
    return np.stack([_numbers(table, f"{name}_{axis}") for axis in (1, 2)], 1)


def _limits(xy_N2: Numbers) -> tuple[Numbers, Numbers]:
    """The ends of the axes: nearly all rows lie inside, so that one far row does not hide the others."""
    known_N2 = xy_N2[np.isfinite(xy_N2).all(1)]
    if not len(known_N2):
        return np.zeros(2), np.ones(2)
    low_2, high_2 = np.quantile(known_N2, [INSIDE, 1 - INSIDE], axis=0)
    margin_2 = 0.15 * (high_2 - low_2)
    return low_2 - margin_2, high_2 + margin_2


def _size(rows: int) -> float:
    """The area of a point, so that few rows are seen and many do not hide each other."""
    return float(np.clip(30_000 / max(rows, 1), 2.0, 16.0))


def _by_cluster(table: pa.Table) -> Panel:
    number_N = _numbers(table, "cluster").astype(int)
    words = np.where(number_N < 0, NONE, np.char.add("cluster ", number_N.astype(str)))
    order = [f"cluster {number}" for number in sorted(set(number_N[number_N >= 0].tolist()))]
    return _words(words.astype(object), order)


def _by_word(table: pa.Table, name: str, order: Sequence[str]) -> Panel:
    words = np.array([word or NONE for word in table[name].to_pylist()], object)
    return _words(words, order)


def _words(word_N: NDArray[np.object_], order: Sequence[str]) -> Panel:
    """Points coloured by a word; the most common words have colours of their own."""
    counts = Counter(word_N.tolist())
    counts.pop(NONE, 0)
    shown = [word for word, _ in counts.most_common(len(COLORS))]
    shown.sort(key=lambda word: list(order).index(word) if word in order else len(order))

    def draw(_: Figure, axis: Axes, xy_N2: Numbers) -> None:
        size = _size(len(word_N))
        other_N = ~np.isin(word_N, shown)
        rest = f"other or none ({other_N.sum():,})"
        if other_N.any():
            axis.scatter(
                xy_N2[other_N, 0],
                xy_N2[other_N, 1],
                s=size,
                c=GREY,
                alpha=0.35,
                lw=0,
                label=rest,
                rasterized=True,
            )
        color_of = dict(zip(shown, COLORS, strict=False))
        for word in sorted(shown, key=lambda word: -counts[word]):  # rare ones on top
            is_word_N = word_N == word
            label = f"{word} ({counts[word]:,})"
            axis.scatter(
                xy_N2[is_word_N, 0],
                xy_N2[is_word_N, 1],
                s=size,
                c=color_of[word],
                alpha=0.75,
                lw=0,
                label=label,
                rasterized=True,
            )
        handles, labels = axis.get_legend_handles_labels()
        order_of = {f"{word} ({counts[word]:,})": number for number, word in enumerate(shown)}
        pairs = sorted(
            zip(handles, labels, strict=True), key=lambda pair: order_of.get(pair[1], len(order_of))
        )
        legend = axis.legend(
            *zip(*pairs, strict=True), loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3
        )
        for handle in filter(None, legend.legend_handles):
            handle.set(sizes=[40], alpha=1)

    return draw


def _by_number(table: pa.Table, name: str, colors: Colormap, label: str) -> Panel:
    """Points coloured by a number, high ones on top."""
    value_N = _numbers(table, name)

    def draw(figure: Figure, axis: Axes, xy_N2: Numbers) -> None:
        known_N = np.isfinite(value_N)
        size = _size(len(value_N))
        if (~known_N).any():
            axis.scatter(
                xy_N2[~known_N, 0], xy_N2[~known_N, 1], s=size, c=GREY, alpha=0.3, lw=0, rasterized=True
            )
        low, high = np.quantile(value_N[known_N], [0.02, 0.98]) if known_N.any() else (0.1, 1)
        order = np.flatnonzero(known_N)[np.argsort(value_N[known_N])]
        norm = LogNorm(low, high, clip=True) if 0 < low < high else None
        drawn = axis.scatter(
            xy_N2[order, 0],
            xy_N2[order, 1],
            c=value_N[order],
            s=size,
            cmap=colors,
            norm=norm,
            lw=0,
            rasterized=True,
        )
        bar = figure.colorbar(
            drawn, ax=axis, label=label, extend="both", location="bottom", shrink=0.8, aspect=30
        )
        if norm is not None and high / low < 20:
            bar.minorticks_off()
            ticks = np.geomspace(low, high, 4).tolist()
            bar.set_ticks(ticks, labels=[f"{float(f'{tick:.2g}'):g}" for tick in ticks])

    return draw
