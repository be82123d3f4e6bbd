"""Pictures of the lists of candidates: among all stars of the catalog on the sky, in the Kiel diagram, in
iron and carbon, by rank, and against the distance from the training spectra.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.catalog.ranked_purity import COLUMNS as PURITY_COLUMNS
from survey.catalog.settings import ListName
from survey.catalog.visits import float_column
from survey.labels import METAL_POOR
from survey.reports.shown_lists import ShownList
from survey.reports.star_planes import (
    Plane,
    PlaneCounts,
    column,
    count_stars,
    draw_plane,
    existing,
    label_planes,
    read_stars,
)
from survey.reports.style import BLUE, INK, RED, panels, png

CARBON_LIMITS = {"carbon_0.7": 0.7, "carbon_1.0": 1.0}
"""The limit in [C/Fe] of a criterion that has one for all stars."""
ROW, WIDTH = 4.0, 15.0
"""Height of a row of panels and width of the picture, in inches."""

Panel = Callable[[Axes], None]


def plot_lists(result: CatalogResult, lists: Sequence[ShownList]) -> dict[ListName, bytes]:
    """A picture of each list, by its name."""
    planes = {shown.name: _planes(shown.name, shown.table.column_names) for shown in lists}
    together = [plane for each in planes.values() for plane in each]
    columns = {need for plane in together for need in plane.x.needs | plane.y.needs}
    counts = count_stars(read_stars(result.folder, columns), together)
    drawn = {shown.name: _plot(result, shown, planes[shown.name], counts) for shown in lists}
    return {name: png for name, png in drawn.items() if png is not None}


def _planes(name: ListName, columns: Collection[str]) -> list[Plane]:
    """The planes of a list that its columns allow."""
    score = f"score_{name.lower()}"
    sky = Plane(
        "sky",
        column("ra", "right ascension (deg)", 0, 360, 0.25, falls=True),
        column("dec", "declination (deg)", -90, 90, 0.25),
    )
    distance = Plane(
        "distance from the training spectra (1: 99 % of validation)",
        column(score, f"{name} score", -0.02, 1.02, 0.01),
        column("domain", "domain", 0, 20, 0.05),
    )
    return [*existing([sky], columns), *label_planes(columns), *existing([distance], columns)]


def _plot(
    result: CatalogResult, shown: ShownList, planes: Sequence[Plane], counts: dict[str, PlaneCounts]
) -> bytes | None:
    """The stars of a list among all stars; panels without a number are left out."""
    table = shown.table
    drawn: list[Panel] = [
        partial(_draw_plane, result=result, shown=shown, plane=plane, counts=counts[plane.name])
        for plane in planes
        if plane.has_numbers(table)
    ]
    score = f"score_{shown.name.lower()}"
    if score in table.column_names:
        drawn.append(partial(_draw_scores, table=table, score_N=float_column(table, score)))
    if not drawn:
        return None

    def draw(figure: Figure) -> None:
        for axis, panel in zip(panels(figure, len(drawn)), drawn, strict=True):
            panel(axis)
        among = f"grey: all {result.document.stars:,} stars, by number in a cell"
        separator = ", " if len(drawn) > 2 else "\n"
        figure.suptitle(
            f"blue: {shown.text(table.num_rows)}{separator}{among}", x=0.01, ha="left", fontsize=12
        )

    rows = -(-len(drawn) // 3)
    return png(draw, WIDTH * min(len(drawn), 3) / 3, 0.5 + ROW * rows)


def _draw_plane(
    axis: Axes, *, result: CatalogResult, shown: ShownList, plane: Plane, counts: PlaneCounts
) -> None:
    draw_plane(axis, plane, counts, shown.table, BLUE)
    for draw_limit, value in _limits(axis, result, shown.name, plane):
        draw_limit(value, color=RED, lw=1, ls="--")


def _limits(
    axis: Axes, result: CatalogResult, name: ListName, plane: Plane
) -> Iterable[tuple[Callable[..., object], float]]:
    """The limits that decide, in a plane that shows them: of the classes, of the list, of the domain."""
    settings, needs = result.document.settings, (plane.x.needs, plane.y.needs)
    if "FeH" in needs[0]:
        yield axis.axvline, METAL_POOR["MP"]
    if "CFe" in needs[1] and name == "CEMP" and settings["criterion"] in CARBON_LIMITS:
        yield axis.axhline, CARBON_LIMITS[settings["criterion"]]
    if "domain" in needs[1]:
        if name in result.document.thresholds:
            yield axis.axvline, result.document.thresholds[name].value
        for limit in ("domain_warn", "domain_bad"):
            yield axis.axhline, settings["limits"][limit]


def _draw_scores(axis: Axes, *, table: pa.Table, score_N: np.ndarray) -> None:
    """The score by rank, and the expected purity of the list down to each rank, with its interval."""
    rank = np.arange(1, len(score_N) + 1)
    axis.plot(rank, score_N, color=BLUE, lw=1.5)
    purity, low, high = (float_column(table, name) for name in PURITY_COLUMNS)
    title = "score by rank"
    if np.isfinite(purity).any():
        axis.fill_between(rank, low, high, color=INK, alpha=0.12, lw=0)
        axis.plot(rank, purity, color=INK, lw=1.2, ls="--")
        title += "; dashed: expected purity down to it"
    axis.set(ylim=(0, 1.02), xlim=(0.5, len(score_N) + 0.5), xlabel="rank", ylabel="score")
    axis.set_title(title)
