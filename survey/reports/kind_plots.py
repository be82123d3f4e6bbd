"""A picture of the stars of other kinds that have lists of their own, among all stars: M subdwarfs in the
plane of TiO and CaH, carbon stars in that of C2 and Na D.
"""

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.catalog.bands import SOLAR_TIO5, SUBDWARFS
from survey.catalog.catalog import CatalogResult
from survey.catalog.visits import Floats, float_column
from survey.reports.star_planes import Plane, Quantity, column, count_stars, draw_plane, read_stars
from survey.reports.style import BLUE, INK, RED, png


def _cah(table: pa.Table) -> Floats:
    return float_column(table, "cah2") + float_column(table, "cah3")


def _unknown(table: pa.Table) -> Floats:
    return np.full(table.num_rows, np.nan)


CAH = Quantity("CaH2 + CaH3", 0.4, 2.4, 0.02, _cah, _unknown, frozenset({"cah2", "cah3"}))
PLANES = {
    "m_subdwarfs": Plane("M subdwarfs: little TiO for their CaH", CAH, column("tio5", "TiO5", 0, 1.3, 0.02)),
    "carbon_stars": Plane(
        "carbon stars: bands of C2",
        column("na_d", "Na D (angstrom)", -4, 26, 0.25),
        column("c2_5165", "C2 5165 (angstrom)", -10, 60, 0.5),
    ),
}

NAMES = {"m_subdwarfs": "M subdwarfs", "carbon_stars": "stars rich in carbon"}


def plot_kinds(result: CatalogResult) -> bytes | None:
    """Both lists among all stars; None without a star in them."""
    lists = {name: result.table(f"{name}.parquet") for name in PLANES}
    shown = {
        name: table
        for name, table in lists.items()
        if table is not None and table.num_rows and PLANES[name].has_numbers(table)
    }
    if not shown:
        return None
    planes = [PLANES[name] for name in shown]
    columns = {need for plane in planes for need in plane.x.needs | plane.y.needs}
    counts = count_stars(read_stars(result.folder, columns), planes)
    limits = result.document.settings["limits"]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(shown), squeeze=False).flat
        for axis, (name, table) in zip(axes, shown.items(), strict=True):
            plane = PLANES[name]
            draw_plane(axis, plane, counts[plane.name], table, BLUE)
            if name == "m_subdwarfs":
                _draw_zeta(axis, {**SUBDWARFS, "sdM": limits["zeta"]}, limits["cah"])
            else:
                axis.axhline(limits["c2"], color=RED, lw=1, ls="--")
                axis.axvline(limits["carbon_sodium"], color=RED, lw=1, ls=":")
        texts = ", ".join(f"{table.num_rows:,} {NAMES[name]}" for name, table in shown.items())
        title = f"blue: {texts}; grey: all {result.document.stars:,} stars"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)

    return png(draw, 6.0 * len(shown), 4.8)


def _draw_zeta(axis: Axes, classes: dict[str, float], largest: float) -> None:
    """The upper limits of zeta of the classes, up to the largest CaH2 + CaH3 of an M star."""
    low, high = axis.get_xlim()
    cah = np.linspace(max(low, CAH.low), min(high, largest), 60)
    for name, zeta in classes.items():
        tio5 = 1 - zeta * (1 - np.polyval(SOLAR_TIO5, cah))
        axis.plot(cah, tio5, color=RED, lw=1, ls="--")
        axis.annotate(
            f"{name} above", (cah[0], tio5[0]), (2, 3), textcoords="offset points", color=INK, size=8
        )
