"""How the plots of a report look: colours, fonts, how names and units are set, and a picture as the bytes of a PNG."""

import re
from collections.abc import Callable
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
"""Colours of curves that share a panel, in this order."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#c9dcf0", BLUE, INK])
SHARE = LinearSegmentedColormap.from_list("share", ["#ffffff", "#8fb6dd", BLUE])
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#dfe5ea", RED])
"""Colours of few to many, of shares, and of below and above 0."""
CROWD = 1500
"""More points than this are shown as their density."""

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


def png(draw: Callable[[Figure], None], width: float, height: float, dpi: int = 150) -> bytes:
    """A figure of so many inches, drawn by a function, as PNG."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        draw(figure)
        sink = BytesIO()
        figure.savefig(sink, dpi=dpi)
    return sink.getvalue()


def symbol(name: str) -> str:
    """A label as papers write it: [Fe/H] for FeH."""
    return SYMBOLS.get(name) or next((alias for alias in label(name).aliases if alias.startswith("[")), name)


def unit(name: str) -> str:
    """The unit of a label, set for print."""
    return re.sub(r"([a-z])(-?\d+)", r"\1$^{\2}$", label(name).unit.replace("log10", r"log$_{10}$"))


def points(axis: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Points one by one, or where they are many their density."""
    if len(x) <= CROWD:
        axis.plot(x, y, "o", color=BLUE, ms=3, mew=0, alpha=0.5)
    else:
        across: Literal["linear", "log"] = "log" if axis.get_xscale() == "log" else "linear"
        axis.hexbin(x, y, gridsize=70, bins="log", mincnt=1, cmap=DENSITY, linewidths=0.1, xscale=across)


def many(n: int, what: str = "spectra") -> str:
    """A number of things as a title tells it."""
    return f"n = {n:,} {what}"
