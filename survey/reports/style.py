"""How the plots of a report look: colours, fonts, names and units, and a figure as the bytes of a PNG."""

import re
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from survey.labels import label

INK, BLUE, RED, GREY = "#1f2933", "#2563ab", "#c2410c", "#9aa5b1"
SERIES = (BLUE, RED, INK, "#0f8a6d", "#8b5cb8", "#b7880b", GREY)
"""Colours of the curves in one panel, in this order."""
STYLES = ("-", "--", ":")
"""Styles of lines where there are more of them than colours."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#c9dcf0", BLUE, INK])
CROWD = LinearSegmentedColormap.from_list("crowd", ["#e4e8ec", GREY, "#4b5763"])
SHARE = LinearSegmentedColormap.from_list("share", ["#ffffff", "#8fb6dd", BLUE])
STEPS = LinearSegmentedColormap.from_list("steps", [BLUE, "#79a6d8", "#4f5a66", "#e8946a", RED])
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#dfe5ea", RED])
"""Colours from few to many; the same behind other stars; of shares; of lines from low to high; from below 0
to above."""
PANEL_COLUMNS = 3
"""Panels side by side."""
MAX_POINTS = 1500
"""More points than this are drawn as their density."""

LOOK = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
SYMBOLS = {"Teff": r"$T_\mathrm{eff}$", "logg": r"$\log\,g$"}


def colour_and_style(number: int, colours: Sequence[str] = SERIES) -> tuple[str, str]:
    """The look of a line by its number: where there are more lines than colours, styles tell them apart."""
    return colours[number % len(colours)], STYLES[number // len(colours) % len(STYLES)]


def png(draw: Callable[[Figure], None], width: float, height: float, dpi: int = 150) -> bytes:
    """A figure of this size in inches, drawn by a function, as PNG."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        draw(figure)
        sink = BytesIO()
        figure.savefig(sink, dpi=dpi)
    return sink.getvalue()


def panels(figure: Figure, count: int, *, sharey: bool = False) -> list[Axes]:
    """So many panels, in at most `PANEL_COLUMNS` columns."""
    columns = min(PANEL_COLUMNS, count)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, sharey=sharey).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return list(axes[:count])


def symbol(name: str) -> str:
    """The symbol of a label in papers: [Fe/H] for FeH."""
    return SYMBOLS.get(name) or next((alias for alias in label(name).aliases if alias.startswith("[")), name)


def unit(name: str) -> str:
    """The unit of a label, with superscripts."""
    return re.sub(r"([a-z])(-?\d+)", r"\1$^{\2}$", label(name).unit.replace("log10", r"log$_{10}$"))


def plot_points(axis: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Draw points one by one, or as their density if they are many."""
    if len(x) <= MAX_POINTS:
        axis.plot(x, y, "o", color=BLUE, ms=3, mew=0, alpha=0.5)
    else:
        scale: Literal["linear", "log"] = "log" if axis.get_xscale() == "log" else "linear"
        axis.hexbin(x, y, gridsize=70, bins="log", mincnt=1, cmap=DENSITY, linewidths=0.1, xscale=scale)


def label_text(name: str) -> str:
    """The symbol of a label with its unit, for an axis."""
    return f"{symbol(name)} ({unit(name)})"


def value_text(name: str, value: float) -> str:
    """The value of a label, rounded to what can be read off a spectrum: 10 K, or 0.01 dex."""
    return f"{round(value, -1):.0f}" if label(name).unit == "K" else f"{value:.2f}"


def count_text(n: int, what: str = "spectra") -> str:
    """A number of spectra, or of something else, for a title."""
    return f"n = {n:,} {what}"
