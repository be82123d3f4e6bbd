"""Kiel diagrams (temperature and gravity): of truth and prediction, and of each abundance with where it goes wrong; with isochrones where given."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey.labels import label
from survey.metrics.score import Judged
from survey.reports.isochrones import Isochrone
from survey.reports.style import GREY, INK, SIGNED, many, png, symbol, unit

Floats = NDArray[np.float64]

STROKES = ("-", "--", ":", "-.")
"""Isochrones of different ages, in turn; those of different [Fe/H] differ in colour."""
WIDE, NARROW = 4, 2
"""Columns of the legend below several diagrams, and below one."""
SHADES = (INK, "#8b5cb8", "#0f8a6d", "#b7880b")


def kiel(judged: Judged, isochrones: Sequence[Isochrone] = ()) -> bytes | None:
    """Kiel diagrams of the truth and of the prediction, coloured by [Fe/H]."""
    teff, logg, teff_said, logg_said = (
        judged.truth("Teff"),
        judged.truth("logg"),
        judged.said("Teff"),
        judged.said("logg"),
    )
    if teff is None or logg is None or teff_said is None or logg_said is None:
        return None
    some = np.isfinite(teff) & np.isfinite(logg)
    if not some.any():
        return None
    unknown = np.full(len(judged), np.nan)
    true_color, said_color = (
        unknown if feh is None else feh for feh in (judged.truth("FeH"), judged.said("FeH"))
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        left = _stars(axes[0], teff[some], logg[some], true_color[some], "viridis", (-3.0, 0.5))
        right = _stars(axes[1], teff_said[some], logg_said[some], said_color[some], "viridis", (-3.0, 0.5))
        for axis, title in zip(axes, (judged.called, "predicted"), strict=True):
            axis.set_title(f"{title}, {many(int(some.sum()))}")
        if not (np.isnan(true_color).all() and np.isnan(said_color).all()):
            drawn = left if np.isnan(said_color).all() else right
            figure.colorbar(drawn, ax=axes, label=f"{symbol('FeH')} ({unit('FeH')})", extend="both", pad=0.02)
        _finish(figure, axes, isochrones)

    return png(draw, 10.2, 4.8 + _room(isochrones))


def carbon(judged: Judged, isochrones: Sequence[Isochrone] = ()) -> bytes | None:
    """Where in the Kiel diagram [C/Fe] goes wrong; the largest errors on top."""
    teff, logg, truth, said = (
        judged.truth("Teff"),
        judged.truth("logg"),
        judged.truth("CFe"),
        judged.said("CFe"),
    )
    if teff is None or logg is None or truth is None or said is None:
        return None
    some = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(truth)
    if some.sum() < 2:
        return None
    error = (said - truth)[some]
    order = np.argsort(np.abs(error))
    limit = _limit(error)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        drawn = _stars(axis, teff[some][order], logg[some][order], error[order], SIGNED, (-limit, limit))
        figure.colorbar(
            drawn,
            ax=axis,
            label=f"{symbol('CFe')} predicted - {judged.called} ({unit('CFe')})",
            extend="both",
            pad=0.02,
        )
        axis.set_title(f"error of {symbol('CFe')}, {many(len(error))}")
        _finish(figure, [axis], isochrones)

    return png(draw, 6.4, 4.8 + _room(isochrones, NARROW))


def abundances(judged: Judged) -> list[str]:
    """The labels that are abundances."""
    return [name for name in judged.labels if label(name).ucd == "phys.abund"]


def abundance(judged: Judged, name: str, isochrones: Sequence[Isochrone] = ()) -> bytes | None:
    """Where stars of an abundance lie in the Kiel diagram: by the truth, by the prediction, and by how far these are apart.

    Stars lie where their true Teff and logg put them; where these are not known of any, where the predicted ones do.
    """
    truth, said, place = judged.truth(name), judged.said(name), _places(judged)
    if truth is None or said is None or place is None:
        return None
    teff, logg, whose = place
    some = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(truth)
    if some.sum() < 2:
        return None
    error = (said - truth)[some]
    limit, limits = (
        _limit(error),
        (float(np.quantile(truth[some], 0.01)), float(np.quantile(truth[some], 0.99))),
    )
    named = f"{symbol(name)} ({unit(name)})"
    panels = (
        (truth[some], judged.called),
        (said[some], "predicted"),
        (error, f"predicted - {judged.called}"),
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 3, sharex=True, sharey=True)
        for axis, (color, title) in zip(axes, panels, strict=True):
            apart = color is error
            order = np.argsort(np.abs(color - np.median(color)))  # what is unusual on top
            drawn = _stars(
                axis,
                teff[some][order],
                logg[some][order],
                color[order],
                SIGNED if apart else "viridis",
                (-limit, limit) if apart else limits,
            )
            axis.set_title(f"{title}, {many(len(error))}" if axis is axes[0] else title)
            axis.set_xlabel(f"{whose} {axis.get_xlabel()}")
            figure.colorbar(drawn, ax=axis, location="right", label=named, extend="both", pad=0.02)
        axes[0].set_ylabel(f"{whose} {axes[0].get_ylabel()}")
        _finish(figure, axes, isochrones)

    return png(draw, 14.4, 4.6 + _room(isochrones))


def _places(judged: Judged) -> tuple[Floats, Floats, str] | None:
    """Temperatures and gravities, and whose they are."""
    for whose, find in ((judged.called, judged.truth), ("predicted", judged.said)):
        teff, logg = find("Teff"), find("logg")
        if teff is not None and logg is not None and (np.isfinite(teff) & np.isfinite(logg)).any():
            return teff, logg, whose
    return None


def _limit(error: Floats) -> float:
    return max(float(np.quantile(np.abs(error), 0.98)), 1e-9)


def _stars(
    axis: Axes, teff: Floats, logg: Floats, color: Floats, colors: str | Colormap, limits: tuple[float, float]
) -> PathCollection:
    """Stars in a Kiel diagram, grey where there is no number to colour them by."""
    size = float(np.clip(2e4 / max(len(teff), 1), 2, 16))
    axis.set(xlabel=f"{symbol('Teff')} ({label('Teff').unit})", ylabel=f"{symbol('logg')} ({unit('logg')})")
    missing = np.isnan(color)
    axis.scatter(teff[missing], logg[missing], s=size, color=GREY, lw=0, alpha=0.7)
    return axis.scatter(
        teff[~missing],
        logg[~missing],
        c=color[~missing],
        s=size,
        cmap=colors,
        vmin=limits[0],
        vmax=limits[1],
        lw=0,
    )


def _finish(figure: Figure, axes: Sequence[Axes], isochrones: Sequence[Isochrone]) -> None:
    """Axes as astronomers have them, around the stars; isochrones within, and what they are below."""
    first = axes[0]
    across, up = first.get_xlim(), first.get_ylim()
    ages, irons = sorted({one.gyr for one in isochrones}), sorted({one.feh for one in isochrones})
    for axis in axes:
        for one in isochrones:
            color, stroke = (
                SHADES[irons.index(one.feh) % len(SHADES)],
                STROKES[ages.index(one.gyr) % len(STROKES)],
            )
            axis.plot(one.teff, one.logg, color=color, ls=stroke, lw=1.1, alpha=0.9, label=one.name)
    first.set(xlim=across[::-1], ylim=up[::-1])
    for axis in axes[1:]:
        axis.set_ylabel("")
    if isochrones:
        handles, names = first.get_legend_handles_labels()
        columns = WIDE if len(axes) > 1 else NARROW
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=columns,
            title="MIST isochrones",
            title_fontsize=9,
        )


def _room(isochrones: Sequence[Isochrone], columns: int = WIDE) -> float:
    """Inches for the legend."""
    return 0.4 + 0.22 * -(-len(isochrones) // columns) if isochrones else 0.0
