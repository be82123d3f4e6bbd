"""A picture of who is asked whether it is metal-poor: stars by kind, and what keeps the others out."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports.style import BLUE, GREY, RED, png

ROW = 0.32
"""Height of a bar, in inches."""


def plot_asked(result: CatalogResult) -> bytes | None:
    """Stars by kind, and by what keeps them out; None without any star."""
    document = result.document
    counts, asked_kinds = document.counts, set(document.settings["ask"])
    kinds = counts.get("kind", {})
    if not kinds:
        return None
    reasons = {f"unsure: {name}": count for name, count in counts["unsure"].items()}
    reasons |= {f"not_fgk: {name}": count for name, count in counts["not_fgk"].items()}
    kind_colors = {name: BLUE if name in asked_kinds else GREY for name in kinds}
    reason_colors = {name: RED if name.startswith("unsure") else GREY for name in reasons}

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _draw_counts(left, kinds, kind_colors, "kinds; blue: asked")
        _draw_counts(right, reasons, reason_colors, "what keeps stars out; red: unsure")
        asked = counts["asked"]
        title = ", ".join(f"{asked.get(name, 0):,} {name}" for name in ("yes", "not_fgk", "unsure"))
        figure.suptitle(f"{document.stars:,} stars: {title}", x=0.01, ha="left", fontsize=11)

    return png(draw, 11.0, 1.6 + ROW * max(len(kinds), len(reasons), 3))


def _draw_counts(axis: Axes, counts: Mapping[str, int], colors: Mapping[str, str], title: str) -> None:
    """A bar for each number, the largest on top, with its number beside it."""
    names = sorted(counts, key=lambda name: counts[name])
    values = [counts[name] for name in names]
    drawn = axis.barh([name.replace("_", " ") for name in names], values, color=[colors[n] for n in names])
    axis.bar_label(drawn, [f"{value:,}" for value in values], padding=3, fontsize=8.5)
    axis.set(xscale="log", xlim=(0.7, 12 * max(values, default=1)), xlabel="stars")
    axis.set_title(title)
