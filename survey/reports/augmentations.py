"""How augmentation changes a spectrum: for each method that is used, the spectrum before and after, and the
difference.
"""

from io import BytesIO
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from survey.reports.style import BLUE, GREY, INK, RED
from survey.training.augment import augment
from survey.training.augment_settings import METHOD_NAMES, Augment, single_method
from survey.training.batches import Spectra

DRAWS = 5
"""Draws of each method; the one with the largest effect is shown: a single one may change almost nothing."""
CLOSE_UP = (4260.0, 4380.0)
"""Vacuum wavelengths in angstrom of the close-up: the G band of CH, and Hγ next to it."""
STRENGTHS = {
    "max_pixels": "up to ±{:g} pixel",
    "sigma": "sigma up to {:g} pixel",
    "ivar_noise.strength": "up to {:g} times the noise",
    "strength": "up to {:g}",
    "sd": "standard deviation {:g}",
    "bands": "{} gaps",
    "width": "up to {} pixels wide",
}
"""The text of a strength in a title, by its name, or by that of its method too."""
HEAD = (
    "augmentation of a training spectrum; grey: before, blue: after, red: difference; "
    "shaded: pixels that become bad"
)
SHADE = "#ecd3c7"
"""The colour behind pixels that become bad: full, because a translucent one makes brown lines."""
LOOK = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
PANEL_ROW = 2.7
"""Height of a row of panels, in inches."""

Values = NDArray[Any]


def is_used(settings: Augment) -> bool:
    """Whether any method is ever used."""
    return bool(_used(settings))


def _used(settings: Augment) -> dict[str, float]:
    """The methods that are used, and on which share of the spectra."""
    values = settings.result_settings()
    shares = {name: values["probability"] * values[name]["probability"] for name in METHOD_NAMES}
    return {name: share for name, share in shares.items() if share}


def picture(settings: Augment, wave: Values, flux: Values, ivar: Values, seed: int = 0) -> bytes:
    """The panels of one spectrum as a PNG."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(16, PANEL_ROW * _rows(len(_panels(settings))) + 0.4))
        draw(figure, settings, wave, flux, ivar, seed)
        sink = BytesIO()
        figure.savefig(sink, dpi=100)
    return sink.getvalue()


def draw(figure: Figure, settings: Augment, wave: Values, flux: Values, ivar: Values, seed: int = 0) -> None:
    """A panel for each method that is used, and one for all together if they are several."""
    panels = _panels(settings)
    rows = _rows(len(panels))
    head, body = cast(NDArray[Any], figure.subfigures(2, 1, height_ratios=[0.4, PANEL_ROW * rows], hspace=0))
    head.text(0.02, 0.4, HEAD, fontsize=12, va="center")
    cells = cast(NDArray[Any], body.subfigures(rows, 2, squeeze=False, wspace=0, hspace=0)).ravel()
    before = np.where(ivar > 0, flux, np.nan)
    for cell, (title, shown, rank) in zip(cells, panels, strict=False):
        after, became_bad = augmented_spectrum(shown, flux, ivar, seed, rank)
        _draw_panel(cell, title, wave, before, after, became_bad)


def augmented_spectrum(
    settings: Augment, flux: Values, ivar: Values, seed: int, rank: int
) -> tuple[Values, Values]:
    """The flux as a network gets it (NaN where it was bad before), and the pixels that become bad.

    Of several draws, the one with this rank of effect; 0 is the smallest effect.
    """
    flux_BP, ivar_BP = (
        torch.from_numpy(np.array(values, np.float32)).expand(DRAWS, -1) for values in (flux, ivar)
    )
    changed = augment(settings, Spectra(flux_BP, ivar_BP), torch.Generator().manual_seed(seed))
    effect_B = (changed.flux - torch.where(ivar_BP > 0, flux_BP, 1.0)).square().mean(1)
    row = int(effect_B.argsort()[rank])
    bad = changed.ivar[row].numpy() == 0
    return np.where(bad & (ivar <= 0), np.nan, changed.flux[row].numpy()), bad & (ivar > 0)


def _rows(panels: int) -> int:
    return -(-panels // 2)


def _panels(settings: Augment) -> list[tuple[str, Augment, int]]:
    """Title, settings and rank of the shown draw of each panel."""
    values, used = settings.result_settings(), _used(settings)
    panels = [
        (_title(name, values[name], share), single_method(settings, name), DRAWS - 1)
        for name, share in used.items()
    ]
    if len(used) < 2:
        return panels
    together = Augment.from_dict("augment", values | {"probability": 1.0})
    title = f"all methods, each with its probability   used on {values['probability']:.0%} of the spectra"
    return [*panels, (title, together, DRAWS // 2)]


def _title(name: str, values: dict[str, Any], share: float) -> str:
    """A method, its strengths, and how often it is used."""
    strengths = ", ".join(
        STRENGTHS.get(f"{name}.{key}", STRENGTHS.get(key, f"{key} {{}}")).format(value)
        for key, value in values.items()
        if key != "probability"
    )
    return "   ".join(
        filter(None, (name.replace("_", " "), strengths, f"used on {share:.0%} of the spectra"))
    )


def _draw_panel(
    cell: SubFigure, title: str, wave: Values, before: Values, after: Values, became_bad: Values
) -> None:
    """The spectrum on top, the difference below; the full range on the left, the close-up on the right."""
    sizes = {
        "width_ratios": [2, 1],
        "height_ratios": [3, 1.2],
        "left": 0.12,
        "right": 0.985,
        "top": 0.88,
        "bottom": 0.15,
        "wspace": 0.05,
        "hspace": 0.1,
    }
    axes = cell.subplots(2, 2, gridspec_kw=sizes, sharex="col", sharey="row")
    axes[0, 0].set_title(title, loc="left", color=INK, fontweight="bold")
    close = (wave >= CLOSE_UP[0]) & (wave <= CLOSE_UP[1])
    close = close if close.sum() > 20 else np.arange(len(wave)) < 120
    for column, pixels, width in ((0, np.full(len(wave), True), 0.4), (1, close, 0.9)):
        shown = (values[pixels] for values in (wave, before, after, became_bad))
        _draw_column(axes[0, column], axes[1, column], width, *shown)
        axes[1, column].xaxis.set_major_locator(MaxNLocator(6 // (column + 1), prune="both"))
    _set_limits(axes, before, after)
    axes[1, 0].set_xlabel("vacuum wavelength (Å)", labelpad=1)
    for axis, name in zip(axes[:, 0], ("flux", "difference"), strict=True):
        axis.set_ylabel(name)
        axis.yaxis.set_label_coords(-0.14, 0.5)


def _draw_column(
    upper: Axes, lower: Axes, width: float, wave: Values, before: Values, after: Values, became_bad: Values
) -> None:
    upper.plot(wave, before, color=GREY, lw=2.5 * width)
    upper.plot(wave, after, color=BLUE, lw=width)
    lower.axhline(0.0, color=INK, lw=0.6)
    lower.plot(wave, after - before, color=RED, lw=width)
    lower.set_xlim(wave[0], wave[-1])
    for axis in (upper, lower):
        across = axis.get_xaxis_transform()
        axis.fill_between(wave, 0, 1, where=became_bad, transform=across, color=SHADE, lw=0, zorder=0)


def _set_limits(axes: Values, before: Values, after: Values) -> None:
    low, high = _range_without_outliers(np.concatenate((before, after)))
    axes[0, 0].set_ylim(min(low, 0.8) - 0.05, max(high, 1.1) + 0.05)
    difference = after - before
    most = max(map(abs, _range_without_outliers(difference[difference != 0])))
    axes[1, 0].set_ylim(-1.2 * most - 1e-4, 1.2 * most + 1e-4)
    axes[1, 0].yaxis.set_major_locator(MaxNLocator(3, symmetric=True))


def _range_without_outliers(values: Values) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 0.0
    return float(np.percentile(finite, 0.2)), float(np.percentile(finite, 99.8))
