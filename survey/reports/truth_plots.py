"""Pictures of a list of candidates beside the truth, where it is known: what its stars are, which stars it
misses and where, and how pure and complete it is at each signal to noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from survey.catalog.catalog import TRUTH_STARS, CatalogResult
from survey.catalog.settings import LIST_NAMES, ListName
from survey.catalog.visits import float_column
from survey.labels import MISSING
from survey.metrics.intervals import wilson
from survey.reports.star_planes import Plane, existing, label_column
from survey.reports.style import BLUE, GREY, INK, MAX_POINTS, RED, panels, png

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BINS = 6
"""Bins of signal to noise, at most, with equal numbers of stars."""
MIN_IN_BIN = 10
"""Fewest stars that belong in the list, in a bin of signal to noise."""
MARKS: dict[str, dict[str, Any]] = {
    "found": {"marker": "o", "color": BLUE, "ms": 4, "mew": 0, "alpha": 0.8},
    "missed": {"marker": "o", "mfc": "none", "mec": INK, "ms": 5, "mew": 0.9},
    "wrongly listed": {"marker": "x", "color": RED, "ms": 5, "mew": 1.2},
}
"""How stars are drawn that are listed and belong, belong only, are listed only."""


@dataclass(frozen=True)
class TrueStars:
    """The stars that are known to belong in a list or not, and whether they are listed."""

    table: pa.Table
    belongs_N: Flags
    listed_N: Flags

    @classmethod
    def of_list(cls, table: pa.Table, name: ListName) -> "TrueStars":
        """Of the table of stars of known class, those that this list can be judged by."""
        known = table.filter(table[f"belongs_{name.lower()}"].is_valid())
        columns = (f"belongs_{name.lower()}", f"{name.lower()}_candidate")
        belongs_N, listed_N = (known[column].to_numpy(zero_copy_only=False) for column in columns)
        return cls(known, belongs_N.astype(bool), listed_N.astype(bool))

    @property
    def parts(self) -> dict[str, Flags]:
        """The stars of each mark."""
        belongs_N, listed_N = self.belongs_N, self.listed_N
        return dict(
            zip(MARKS, (belongs_N & listed_N, belongs_N & ~listed_N, listed_N & ~belongs_N), strict=True)
        )


def plot_truth(result: CatalogResult) -> dict[ListName, bytes]:
    """A picture of each list that a star belongs in by its true labels, by the list's name."""
    table = result.table(TRUTH_STARS)
    drawn: dict[ListName, bytes] = {}
    for name in LIST_NAMES if table is not None else ():
        stars = TrueStars.of_list(table, name)
        if stars.belongs_N.any():
            drawn[name] = _plot(name, stars)
    return drawn


def _plot(name: ListName, stars: TrueStars) -> bytes:
    shown = stars.table.filter(pa.array(stars.belongs_N | stars.listed_N))
    kiel = Plane("Kiel diagram, true labels", label_column("Teff", "true_"), label_column("logg", "true_"))
    carbon = Plane("iron and carbon, true labels", label_column("FeH", "true_"), label_column("CFe", "true_"))
    predicted = Plane("iron and carbon, predicted labels", label_column("FeH"), label_column("CFe"))
    drawn: list[Callable[[Axes], None]] = []
    if stars.listed_N.any():
        drawn.append(partial(_contents, stars=stars))
    drawn += [
        partial(_marked, stars=stars, plane=plane)
        for plane in existing((carbon, predicted, kiel), shown.column_names)
        if plane.has_numbers(shown)
    ]
    if edges := _snr_edges(stars):
        drawn.append(partial(_by_snr, stars=stars, edges=edges))

    def draw(figure: Figure) -> None:
        for axis, panel in zip(panels(figure, len(drawn)), drawn, strict=True):
            panel(axis)
        counts = ", ".join(f"{part.sum():,} {text}" for text, part in stars.parts.items())
        figure.suptitle(
            f"{name} list beside the truth: {counts}, of {len(stars.belongs_N):,} stars of known class",
            x=0.01,
            ha="left",
            fontsize=12,
        )

    return png(draw, 5.0 * min(len(drawn), 3), 0.5 + 4.0 * -(-len(drawn) // 3))


def _contents(axis: Axes, *, stars: TrueStars) -> None:
    """How many stars of the list are of each true class."""
    listed = stars.table.filter(pa.array(stars.listed_N))
    cemp_N, mp_N = (_belongs(listed, name) for name in ("CEMP", "MP"))
    kinds = {"CEMP": cemp_N == 1, "MP": (mp_N == 1) & (cemp_N == 0), "NMP": mp_N == 0}
    counts = {text: int(kind_N.sum()) for text, kind_N in kinds.items()}
    if other := int(((mp_N == 1) & (cemp_N == MISSING)).sum()):
        counts["MP or CEMP"] = other
    total = listed.num_rows
    low, high = wilson(list(counts.values()), total)
    rectangles = axis.barh(list(counts), list(counts.values()), color=GREY, height=0.6)
    texts = [
        f"{count:,}: {count / total:.0%} ({at_least:.0%} to {at_most:.0%})"
        for count, at_least, at_most in zip(counts.values(), low, high, strict=True)
    ]
    axis.bar_label(rectangles, texts, padding=4, fontsize=8.5)
    axis.set(xlim=(0, 1.75 * max(counts.values())), xlabel="listed stars of known class")
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_title("what the listed stars are, 95 % intervals")


def _belongs(table: pa.Table, name: ListName) -> NDArray[np.int8]:
    """Whether stars belong in a list: 1, 0, or `MISSING`."""
    column = table[f"belongs_{name.lower()}"].cast(pa.int8()).fill_null(MISSING)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _marked(axis: Axes, *, stars: TrueStars, plane: Plane) -> None:
    """Stars that are found, missed and wrongly listed; of very many, some."""
    x_N, y_N = plane.x.value(stars.table), plane.y.value(stars.table)
    for text, part_N in stars.parts.items():
        known = np.flatnonzero(part_N & np.isfinite(x_N) & np.isfinite(y_N))
        if len(known) > MAX_POINTS:
            text = f"{text} ({MAX_POINTS:,} of {len(known):,})"
            known = known[np.linspace(0, len(known) - 1, MAX_POINTS).astype(int)]
        if len(known):
            axis.plot(x_N[known], y_N[known], ls="", label=text, **MARKS[text.partition(" (")[0]])
    axis.set(xlabel=plane.x.text, ylabel=plane.y.text, title=plane.title)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_locator(MaxNLocator(6))
    if plane.x.falls:
        axis.invert_xaxis()
    if plane.y.falls:
        axis.invert_yaxis()
    axis.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")


def _snr_edges(stars: TrueStars) -> list[float]:
    """Edges of bins that hold equal numbers of the stars that belong in the list; none without numbers."""
    snr_N = float_column(stars.table, "snr_total")[stars.belongs_N]
    snr_N = snr_N[np.isfinite(snr_N)]
    bins = min(len(snr_N) // MIN_IN_BIN, BINS)
    if bins < 2:
        return []
    inner = np.unique(np.quantile(snr_N, np.linspace(0, 1, bins + 1)[1:-1])).tolist()
    return [-np.inf, *inner, np.inf]


def _by_snr(axis: Axes, *, stars: TrueStars, edges: list[float]) -> None:
    """Completeness and purity in bins of signal to noise, with Wilson's intervals."""
    snr_N, hits_N = float_column(stars.table, "snr_total"), stars.belongs_N & stars.listed_N
    places = np.arange(len(edges) - 1)
    bin_N = np.where(np.isfinite(snr_N), np.searchsorted(edges, snr_N, "right") - 1, -1)
    hits = np.array([(hits_N & (bin_N == place)).sum() for place in places])
    kinds = (("completeness", stars.belongs_N, RED, "s", 0.1), ("purity", stars.listed_N, BLUE, "o", -0.1))
    for text, part_N, color, marker, shift in kinds:
        n = np.array([(part_N & (bin_N == place)).sum() for place in places])
        used = n > 0
        share, (low, high) = hits[used] / n[used], wilson(hits[used], n[used])
        error = np.abs(np.stack([low, high]) - share)
        x = places[used] + shift
        axis.errorbar(x, share, error, fmt=marker, color=color, ms=5, lw=1.2, label=text)
    names = [f"{low:.0f} to {high:.0f}" for low, high in pairwise(edges)]
    names[0], names[-1] = f"below {edges[1]:.0f}", f"from {edges[-2]:.0f}"
    axis.set_xticks(places, names, fontsize=8.5)
    axis.set(ylim=(0, 1.03), xlabel="signal to noise of all visits", ylabel="share")
    axis.set_title("by signal to noise, 95 % intervals")
    axis.legend(loc="lower right")
