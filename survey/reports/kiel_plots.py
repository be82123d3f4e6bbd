"""Kiel diagrams (temperature and gravity): of truth and prediction, and of each abundance with its errors;
with isochrones if given.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.labels import label
from survey.metrics.score import LabelledAnswers
from survey.reports.isochrones import Isochrone
from survey.reports.style import GREY, INK, SIGNED, count_text, png, symbol, unit

Floats = NDArray[np.float64]

AGE_STYLES = ("-", "--", ":", "-.")
"""Line styles of the ages of isochrones, in turn."""
IRON_COLORS = (INK, "#8b5cb8", "#0f8a6d", "#b7880b")
"""Colours of the [Fe/H] of isochrones, in turn."""
LEGEND_COLUMNS = 4
"""Columns of the legend of isochrones below the diagrams."""


def kiel(labelled: LabelledAnswers, isochrones: Sequence[Isochrone] = ()) -> bytes | None:
    """Kiel diagrams of the truth and of the prediction, coloured by [Fe/H]."""
    true_teff, true_logg = labelled.true_label("Teff"), labelled.true_label("logg")
    teff, logg = labelled.value("Teff"), labelled.value("logg")
    if true_teff is None or true_logg is None or teff is None or logg is None:
        return None
    known_N = np.isfinite(true_teff) & np.isfinite(true_logg)
    if not known_N.any():
        return None
    unknown = np.full(len(labelled), np.nan)
    true_feh, feh = labelled.true_label("FeH"), labelled.value("FeH")
    true_feh, feh = (unknown if true_feh is None else true_feh), (unknown if feh is None else feh)
    stars = ((true_teff, true_logg, true_feh), (teff, logg, feh))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        collections = [
            _stars(axis, x[known_N], y[known_N], color[known_N], "viridis", (-3.0, 0.5))
            for axis, (x, y, color) in zip(axes, stars, strict=True)
        ]
        for axis, title in zip(axes, (labelled.labels_name, "predicted"), strict=True):
            axis.set_title(f"{title}, {count_text(int(known_N.sum()))}")
        if not (np.isnan(true_feh).all() and np.isnan(feh).all()):
            colored = collections[0] if np.isnan(feh).all() else collections[1]
            text = f"{symbol('FeH')} ({unit('FeH')})"
            figure.colorbar(colored, ax=axes, label=text, extend="both", pad=0.02)
        _finish(figure, axes, isochrones)

    return png(draw, 10.2, 4.8 + _legend_height(isochrones))


def abundance_labels(labelled: LabelledAnswers) -> list[str]:
    """The labels that are abundances."""
    return [name for name in labelled.labels if label(name).ucd.startswith("phys.abund")]


def abundance(labelled: LabelledAnswers, name: str, isochrones: Sequence[Isochrone] = ()) -> bytes | None:
    """An abundance in the Kiel diagram: the truth, the prediction, and their difference.

    Stars are at their true Teff and logg; if these are unknown for all stars, at the predicted ones.
    """
    truth, predicted, position = labelled.true_label(name), labelled.value(name), _positions(labelled)
    if truth is None or predicted is None or position is None:
        return None
    teff, logg, source = position
    known_N = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(truth)
    if known_N.sum() < 2:
        return None
    truth, predicted, teff, logg = (values[known_N] for values in (truth, predicted, teff, logg))
    error = predicted - truth
    limit = _limit(error)
    limits = (float(np.quantile(truth, 0.01)), float(np.quantile(truth, 0.99)))
    panels: tuple[tuple[Floats, str, str | Colormap, tuple[float, float]], ...] = (
        (truth, labelled.labels_name, "viridis", limits),
        (predicted, "predicted", "viridis", limits),
        (error, f"predicted - {labelled.labels_name}", SIGNED, (-limit, limit)),
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 3, sharex=True, sharey=True)
        for axis, (color, title, colors, bounds) in zip(axes, panels, strict=True):
            order = np.argsort(np.abs(color - np.median(color)))  # unusual stars on top
            colored = _stars(axis, teff[order], logg[order], color[order], colors, bounds)
            axis.set_title(f"{title}, {count_text(len(error))}" if axis is axes[0] else title)
            axis.set_xlabel(f"{source} {axis.get_xlabel()}")
            text = f"{symbol(name)} ({unit(name)})"
            figure.colorbar(colored, ax=axis, location="right", label=text, extend="both", pad=0.02)
        axes[0].set_ylabel(f"{source} {axes[0].get_ylabel()}")
        _finish(figure, axes, isochrones)

    return png(draw, 14.4, 4.6 + _legend_height(isochrones))


def _positions(labelled: LabelledAnswers) -> tuple[Floats, Floats, str] | None:
    """Temperatures and gravities, and where they come from."""
    for source, values_of in ((labelled.labels_name, labelled.true_label), ("predicted", labelled.value)):
        teff, logg = values_of("Teff"), values_of("logg")
        if teff is not None and logg is not None and (np.isfinite(teff) & np.isfinite(logg)).any():
            return teff, logg, source
    return None


def _limit(error: Floats) -> float:
    return max(float(np.quantile(np.abs(error), 0.98)), 1e-9)


def _stars(
    axis: Axes, teff: Floats, logg: Floats, color: Floats, colors: str | Colormap, limits: tuple[float, float]
) -> PathCollection:
    """Draw stars in a Kiel diagram, in grey if there is no number for their colour."""
    size = float(np.clip(2e4 / max(len(teff), 1), 2, 16))
    axis.set(xlabel=f"{symbol('Teff')} ({label('Teff').unit})", ylabel=f"{symbol('logg')} ({unit('logg')})")
    missing = np.isnan(color)
    axis.scatter(teff[missing], logg[missing], s=size, color=GREY, lw=0, alpha=0.7)
    low, high = limits
    x, y, c = teff[~missing], logg[~missing], color[~missing]
    return axis.scatter(x, y, c=c, s=size, cmap=colors, vmin=low, vmax=high, lw=0)


def _finish(figure: Figure, axes: Sequence[Axes], isochrones: Sequence[Isochrone]) -> None:
    """Turn the axes as astronomers do, with limits around the stars; add isochrones and their legend."""
    first = axes[0]
    xlim, ylim = first.get_xlim(), first.get_ylim()
    ages = sorted({isochrone.gyr for isochrone in isochrones})
    irons = sorted({isochrone.feh for isochrone in isochrones})
    for axis in axes:
        for isochrone in isochrones:
            color = IRON_COLORS[irons.index(isochrone.feh) % len(IRON_COLORS)]
            style = AGE_STYLES[ages.index(isochrone.gyr) % len(AGE_STYLES)]
            axis.plot(
                isochrone.teff, isochrone.logg, color=color, ls=style, lw=1.1, alpha=0.9, label=isochrone.name
            )
    first.set(xlim=xlim[::-1], ylim=ylim[::-1])
    for axis in axes[1:]:
        axis.set_ylabel("")
    if isochrones:
        figure.legend(
            *first.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=LEGEND_COLUMNS,
            title="MIST isochrones",
            title_fontsize=9,
        )


def _legend_height(isochrones: Sequence[Isochrone]) -> float:
    """Inches for the legend."""
    return 0.4 + 0.22 * -(-len(isochrones) // LEGEND_COLUMNS) if isochrones else 0.0
