"""What augmentation does to a spectrum, drawn: one panel per method with the spectrum before, after, and the difference."""

from io import BytesIO
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from survey.reports.style import BLUE, GREY, INK, RED
from survey.training.augment import METHODS, Augment, alone, augmented

TRIES = 5
"""Draws of each method, of which the one of most effect is shown: a single one may do next to nothing."""
NEAR = (4260.0, 4380.0)
"""Vacuum angstrom shown close up: the G band of CH, and Hγ beside it."""
ABOUT = {
    "max_pixels": "up to ±{:g} pixel",
    "sigma": "sigma up to {:g} pixel",
    "by": "up to ±{:g}",
    "strength": "up to {:g}",
    "sd": "standard deviation {:g}",
    "bands": "{} gaps",
    "width": "up to {} pixels wide",
}
"""How a strength is told in a title."""


def picture(settings: Augment, wave: np.ndarray, flux: np.ndarray, ivar: np.ndarray, seed: int = 0) -> bytes:
    """Every method at the strengths of these settings, used or not, and all that are used together, on one spectrum, as a PNG."""
    values = settings.lasting()
    shown = {_title(name, values): (alone(settings, name), TRIES - 1) for name in METHODS}
    together = Augment.checked("augment", values | {"probability": 1.0})
    often = values["probability"] * any(values[name]["probability"] for name in METHODS)
    shown[f"all together, as the probabilities fall   {_often(often)}"] = together, TRIES // 2
    rows = (len(shown) + 1) // 2
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(16, 2.7 * rows + 0.4))
        head, body = cast(np.ndarray, figure.subfigures(2, 1, height_ratios=[0.4, 2.7 * rows], hspace=0))
        head.text(
            0.02,
            0.4,
            "augmentation   grey: before, blue: after, red: difference; shaded: pixels that become bad",
            fontsize=12,
            va="center",
        )
        cells = cast(np.ndarray, body.subfigures(rows, 2, wspace=0, hspace=0)).ravel()
        for cell, (title, (drawn, rank)) in zip(cells, shown.items(), strict=False):
            _panel(
                cell, title, wave, np.where(ivar > 0, flux, np.nan), *_after(drawn, flux, ivar, seed, rank)
            )
        sink = BytesIO()
        figure.savefig(sink, dpi=100)
    return sink.getvalue()


def _after(
    settings: Augment, flux: np.ndarray, ivar: np.ndarray, seed: int, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """The spectrum as a network gets it, NaN where nothing ever was, and the pixels that become bad; of some draws that of this rank by effect."""
    flux_BP, ivar_BP = (
        torch.from_numpy(np.array(values, np.float32)).expand(TRIES, -1) for values in (flux, ivar)
    )
    made_BP, left_BP, _ = augmented(settings, flux_BP, ivar_BP, None, torch.Generator().manual_seed(seed))
    effect_B = (made_BP - torch.where(ivar_BP > 0, flux_BP, 1.0)).square().mean(1)
    row = int(effect_B.argsort()[rank])
    bad = left_BP[row].numpy() == 0
    return np.where(bad & (ivar <= 0), np.nan, made_BP[row].numpy()), bad & (ivar > 0)


def _title(name: str, values: dict[str, Any]) -> str:
    """A method, its strengths, and how often it is used."""
    strengths = [
        ABOUT.get(key, f"{key} {{}}").format(value)
        for key, value in values[name].items()
        if key != "probability"
    ]
    often = values["probability"] * values[name]["probability"]
    return "   ".join(filter(None, (name.replace("_", " "), ", ".join(strengths), _often(often))))


def _often(share: float) -> str:
    return f"used on {share:.0%}" if share else "not used"


def _panel(
    cell: SubFigure, title: str, wave: np.ndarray, before: np.ndarray, after: np.ndarray, gone: np.ndarray
) -> None:
    """Above the spectrum, below the difference; left all of it, right close up."""
    near = (wave >= NEAR[0]) & (wave <= NEAR[1])
    near = near if near.sum() > 20 else np.arange(len(wave)) < 120
    sizes = {
        "width_ratios": [2, 1],
        "height_ratios": [3, 1.2],
        "left": 0.1,
        "right": 0.985,
        "top": 0.88,
        "bottom": 0.15,
        "wspace": 0.05,
        "hspace": 0.1,
    }
    axes = cell.subplots(2, 2, gridspec_kw=sizes, sharex="col", sharey="row")
    axes[0, 0].set_title(
        title, loc="left", color=GREY if title.endswith("not used") else INK, fontweight="bold"
    )
    difference = after - before
    for column, part, width in ((0, slice(None), 0.4), (1, near, 0.9)):
        over, under = axes[:, column]
        over.plot(wave[part], before[part], color=GREY, lw=2.5 * width)
        over.plot(wave[part], after[part], color=BLUE, lw=width)
        under.axhline(0.0, color=INK, lw=0.6)
        under.plot(wave[part], difference[part], color=RED, lw=width)
        under.set_xlim(wave[part][0], wave[part][-1])
        under.xaxis.set_major_locator(MaxNLocator(6 // (column + 1), prune="both"))
        for axis in (over, under):
            axis.fill_between(
                wave[part],
                0,
                1,
                where=gone[part],
                transform=axis.get_xaxis_transform(),
                color=RED,
                alpha=0.25,
                lw=0,
            )
    low, high = _reach(np.concatenate((before, after)))
    axes[0, 0].set_ylim(min(low, 0.8) - 0.05, max(high, 1.1) + 0.05)
    most = max(map(abs, _reach(difference[difference != 0])))
    axes[1, 0].set_ylim(-1.2 * most - 1e-4, 1.2 * most + 1e-4)
    axes[1, 0].yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes[1, 0].set_xlabel("vacuum wavelength (Å)", labelpad=1)
    for axis, name in zip(axes[:, 0], ("flux", "difference"), strict=True):
        axis.set_ylabel(name)
        axis.yaxis.set_label_coords(-0.115, 0.5)


def _reach(shown: np.ndarray) -> tuple[float, float]:
    """Limits that single wild pixels do not decide."""
    finite = shown[np.isfinite(shown)]
    return (
        (float(np.percentile(finite, 0.2)), float(np.percentile(finite, 99.8))) if len(finite) else (0.0, 0.0)
    )
