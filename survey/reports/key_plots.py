"""A picture of the two keys: [Fe/H] by the networks and by indices of lines, of all stars, and of those MP
candidates, listed or kept out, whose keys contradict each other.
"""

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from survey.answers import LINE_COLUMNS
from survey.catalog.catalog import CatalogResult
from survey.catalog.flag_settings import CatalogFlag
from survey.labels import METAL_POOR, label
from survey.reports.star_planes import Plane, column, count_stars, draw_plane, read_stars
from survey.reports.style import BLUE, INK, RED, png

FEH = label("FeH")
KEYS = Plane(
    "the two keys; dotted: they are equal",
    column("FeH", "[Fe/H] by the networks (dex)", FEH.low, FEH.high, 0.05),
    column("FeH_lines", "[Fe/H] from lines (dex)", FEH.low, FEH.high, 0.05),
)
NEEDED = ("FeH", "FeH_err", *LINE_COLUMNS, "flag_warn")


def plot_keys(result: CatalogResult) -> bytes | None:
    """[Fe/H] by networks and by lines; None if no MP candidate or no star kept out of the list has both."""
    listed, next_best = (result.table(f"{name}.parquet") for name in ("mp_candidates", "next_mp"))
    if listed is None or next_best is None or not set(NEEDED) <= set(listed.column_names):
        return None
    listed = listed.select(NEEDED)
    reasons = next_best["not_listed"].to_pylist()
    left_out_N = np.array(["keys disagree" in reason for reason in reasons], bool)
    left_out = next_best.select(NEEDED).filter(pa.array(left_out_N))
    shown = pa.concat_tables([listed, left_out])
    if not KEYS.has_numbers(shown):
        return None
    doubtful = listed.filter(pa.array((listed["flag_warn"].to_numpy() & CatalogFlag.KEYS_DISAGREE) != 0))
    counts = count_stars(read_stars(result.folder, KEYS.x.needs | KEYS.y.needs), [KEYS])[KEYS.name]

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        draw_plane(axis, KEYS, counts, shown, BLUE)
        for table, marker in ((doubtful, "o"), (left_out, "X")):
            axis.plot(
                KEYS.x.value(table), KEYS.y.value(table), marker, color=RED, ms=5.5, mec="white", mew=0.4
            )
        axis.axline((0, 0), slope=1, color=INK, lw=0.8, ls=":")
        for draw_limit in (axis.axvline, axis.axhline):
            draw_limit(METAL_POOR["MP"], color=RED, lw=1, ls="--")
        figure.suptitle(
            f"blue: {listed.num_rows:,} MP candidates; red: {doubtful.num_rows:,} with KEYS_DISAGREE\n"
            f"red crosses: {left_out.num_rows:,} of the best stars, kept out of the list; "
            f"grey: all {result.document.stars:,} stars",
            x=0.01,
            ha="left",
            fontsize=11,
        )

    return png(draw, 7.0, 6.4)
