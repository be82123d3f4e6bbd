"""How well labels are told, drawn: each against the truth, residuals, their errors, and the Kiel diagram. Residuals are predicted minus true."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from survey.inference.evaluation import Judged
from survey.labels import label
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, SIGNED, many, png, points, symbol, unit
from survey.training.metrics import labels
from survey.training.metrics.intervals import wilson

Floats = NDArray[np.float64]


def known(judged: Judged, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Truth and prediction of a label where the truth is known, and where that is."""
    number = judged.labels.index(name)
    truth_N = judged.label_NL[:, number]
    some = np.isfinite(truth_N)
    said_N = np.zeros_like(truth_N) if judged.mu_NL is None else judged.mu_NL[:, number]
    return truth_N[some], said_N[some], some


def of_label(judged: Judged, name: str) -> bytes | None:
    """One label in four panels: against the truth, residuals over the truth, their distribution, and that against a normal one."""
    truth_N, said_N, _ = known(judged, name)
    if judged.mu_NL is None or len(truth_N) < 2:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 2)
        _against(axes[0, 0], name, truth_N, said_N)
        _residuals(axes[0, 1], name, truth_N, said_N - truth_N)
        axes[0, 1].set_xlabel(f"true {symbol(name)} ({unit(name)})")
        axes[0, 1].set_title("residual over truth; median and middle 68 %")
        _distribution(axes[1, 0], name, said_N - truth_N)
        _normality(axes[1, 1], said_N - truth_N)

    return png(draw, 9.6, 8.6)


def _against(axis: Axes, name: str, truth_N: Floats, said_N: Floats) -> None:
    low, high = min(truth_N.min(), said_N.min()), max(truth_N.max(), said_N.max())
    edge = 0.03 * (high - low or 1)
    span = (low - edge, high + edge)
    points(axis, truth_N, said_N)
    axis.plot(span, span, color=RED, lw=1)
    axis.set(xlim=span, ylim=span, xlabel=f"true {symbol(name)} ({unit(name)})", ylabel=f"predicted {symbol(name)} ({unit(name)})")
    axis.set_title(f"{symbol(name)}, {many(len(truth_N))}, R² = {labels.r2(truth_N, said_N):.3f}")


def _residuals(axis: Axes, name: str, x_N: Floats, residual_N: Floats) -> None:
    """Residuals over something, those far off at the edge in red; the running median and middle 68 %."""
    limit = _limit(residual_N)
    far = np.abs(residual_N) > limit
    points(axis, x_N[~far], residual_N[~far])
    if far.any():
        axis.plot(x_N[far], np.sign(residual_N[far]) * limit, "D", color=RED, ms=3, mew=0, clip_on=False)
        axis.annotate(f"{far.sum():,} beyond", (0.99, 0.98), xycoords="axes fraction", color=RED, fontsize=8.5, ha="right", va="top")
    axis.axhline(0, color=RED, lw=1)
    log = axis.get_xscale() == "log"
    middle, bounds = running(np.log(x_N) if log else x_N, residual_N)
    middle = np.exp(middle) if log else middle
    for column, style in zip(bounds.T, ("--", "-", "--"), strict=True):
        axis.plot(middle, column, color=INK, lw=1.3, ls=style, path_effects=[withStroke(linewidth=2.8, foreground="white")])
    axis.set(ylim=(-limit * 1.02, limit * 1.02), ylabel=f"residual {symbol(name)} ({unit(name)})")


def _limit(residual_N: Floats) -> float:
    """How far a plot of residuals reaches."""
    return max(6 * labels.robust_scatter(residual_N), float(np.quantile(np.abs(residual_N), 0.98)), 1e-9)


def running(x_N: Floats, y_N: Floats, least: int = 15, bins: int = 20) -> tuple[Floats, Floats]:
    """Median x, and the 16th, 50th and 84th percentile of y, in bins of equal width; neighbours are joined until each holds so many points."""
    edges = np.linspace(x_N.min(), x_N.max(), bins + 1)[1:-1] if len(x_N) else np.zeros(0)
    order = np.argsort(x_N)
    cuts = [0]
    for cut in np.searchsorted(x_N[order], edges):
        if cut - cuts[-1] >= least and len(x_N) - cut >= least:
            cuts.append(int(cut))
    if len(x_N) < least:
        return np.zeros(0), np.zeros((0, 3))
    parts = np.split(order, cuts[1:])
    return np.array([np.median(x_N[part]) for part in parts]), np.array([np.quantile(y_N[part], (0.16, 0.5, 0.84)) for part in parts])


def _distribution(axis: Axes, name: str, residual_N: Floats) -> None:
    limit, middle, spread = _limit(residual_N), float(np.median(residual_N)), labels.robust_scatter(residual_N)
    edges = np.linspace(-limit, limit, int(np.clip(np.sqrt(len(residual_N)), 10, 80)) + 1)
    axis.hist(residual_N, edges.tolist(), color=BLUE, alpha=0.45)
    if spread > 0:
        x = np.linspace(-limit, limit, 400)
        height = len(residual_N) * (edges[1] - edges[0]) / (spread * np.sqrt(2 * np.pi))
        axis.plot(x, height * np.exp(-0.5 * ((x - middle) / spread) ** 2), color=RED, lw=1.3, label="normal: median, robust scatter")
        axis.legend(loc="upper left")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.18)  # room for the words
    told = {"MAE": np.abs(residual_N).mean(), "bias": residual_N.mean(), "scatter": residual_N.std(), "robust": spread}
    digits = 1 if told["MAE"] >= 10 else 3
    lines = "\n".join(f"{word} {value:.{digits}f}" for word, value in told.items())
    axis.annotate(lines, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=8.5)
    axis.set(xlabel=f"residual {symbol(name)} ({unit(name)})", ylabel="spectra", title="distribution of the residuals")


def _normality(axis: Axes, residual_N: Floats) -> None:
    """Residuals against a normal distribution of the same median and robust scatter, with where 95 % of each would lie."""
    spread = labels.robust_scatter(residual_N) or 1.0
    ordered = np.sort(residual_N - np.median(residual_N)) / spread
    size = len(ordered)
    rank = np.unique(np.round(np.geomspace(1, size, 300)).astype(int))
    rank = np.unique(np.concatenate([rank, size + 1 - rank, np.linspace(1, size, min(size, 400)).astype(int)]))
    expected = ndtri((rank - 0.5) / size)
    axis.fill_between(expected, *(ndtri(beta.ppf(level, rank, size + 1 - rank)) for level in (0.025, 0.975)), color=GREY, alpha=0.35, lw=0)
    axis.plot(expected, expected, color=RED, lw=1)
    axis.plot(expected, np.clip(ordered[rank - 1], -10, 10), "o", color=BLUE, ms=3, mew=0)
    axis.set(xlabel="normal quantile", ylabel="residual / robust scatter")
    axis.set_title("against a normal distribution (QQ); grey: 95 %")


def by_snr(judged: Judged) -> bytes | None:
    """Residuals of every label over the signal to noise."""
    snr = judged.snr()
    names = [name for name in judged.labels if len(known(judged, name)[0]) > 1]
    if snr is None or judged.mu_NL is None or not names or not (snr > 0).any():
        return None

    def draw(figure: Figure) -> None:
        columns = min(3, len(names))
        axes = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis, name in zip(axes, names, strict=False):
            truth_N, said_N, some = known(judged, name)
            told = snr[some] > 0
            if told.sum() > 1:
                axis.set_xscale("log")
                _residuals(axis, name, snr[some][told], (said_N - truth_N)[told])
            axis.set(xlabel="signal to noise", title=f"{symbol(name)}, n = {told.sum():,}")

    columns = min(3, len(names))
    return png(draw, 4.4 * columns, 3.7 * -(-len(names) // columns))


def coverage(judged: Judged) -> bytes | None:
    """Whether predicted errors are true: share of truths within intervals of every level, and where truths lie in their distributions (PIT)."""
    sigma_of = {name: sigma for name in judged.labels if (sigma := judged.sigma(name)) is not None and len(known(judged, name)[0]) > 1}
    if not sigma_of:
        return None
    level = np.linspace(0, 1, 101)[1:-1]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for color, (name, sigma_N) in zip(SERIES * len(sigma_of), sigma_of.items(), strict=False):
            truth_N, said_N, some = known(judged, name)
            place = labels.pit(truth_N, said_N, sigma_N[some])
            inside = np.sort(np.abs(2 * place - 1))
            hits = np.searchsorted(inside, level, side="right")
            left.fill_between(level, *wilson(hits, len(inside)), color=color, alpha=0.15, lw=0)
            left.plot(level, hits / len(inside), color=color, lw=1.4, label=f"{symbol(name)}, n = {len(inside):,}")
            density, edges = np.histogram(place, 20, (0, 1), density=True)
            right.stairs(density, edges, color=color, lw=1.4)
        left.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        right.axhline(1, color=GREY, lw=1, ls=":")
        left.set(xlabel="level of the predicted interval", ylabel="share of truths inside", title="coverage; bands: 95 %, dotted: true errors")
        right.set(xlabel="truth in its predicted distribution (PIT)", ylabel="density", title="∪: errors too small, ∩: too large", ylim=(0, None))
        left.legend(loc="upper left")

    return png(draw, 9.6, 4.5)


def kiel(judged: Judged) -> bytes | None:
    """Kiel diagrams of the truth and of the prediction, coloured by [Fe/H]."""
    teff, logg, teff_said, logg_said = judged.truth("Teff"), judged.truth("logg"), judged.said("Teff"), judged.said("logg")
    if teff is None or logg is None or teff_said is None or logg_said is None:
        return None
    some = np.isfinite(teff) & np.isfinite(logg)
    if not some.any():
        return None
    unknown = np.full(len(judged), np.nan)
    true_color, said_color = (unknown if feh is None else feh for feh in (judged.truth("FeH"), judged.said("FeH")))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        left = _stars(axes[0], teff[some], logg[some], true_color[some], "viridis", (-3.0, 0.5))
        right = _stars(axes[1], teff_said[some], logg_said[some], said_color[some], "viridis", (-3.0, 0.5))
        for axis, title in zip(axes, ("true", "predicted"), strict=True):
            axis.set_title(f"{title}, {many(int(some.sum()))}")
        if not (np.isnan(true_color).all() and np.isnan(said_color).all()):
            drawn = left if np.isnan(said_color).all() else right
            figure.colorbar(drawn, ax=axes, label=f"{symbol('FeH')} ({unit('FeH')})", extend="both", pad=0.02)
        axes[0].invert_xaxis()
        axes[0].invert_yaxis()
        axes[1].set_ylabel("")

    return png(draw, 10.2, 4.8)


def carbon(judged: Judged) -> bytes | None:
    """Where in the Kiel diagram [C/Fe] goes wrong; the largest errors on top."""
    teff, logg, truth, said = judged.truth("Teff"), judged.truth("logg"), judged.truth("CFe"), judged.said("CFe")
    if teff is None or logg is None or truth is None or said is None:
        return None
    some = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(truth)
    if some.sum() < 2:
        return None
    error = (said - truth)[some]
    order = np.argsort(np.abs(error))
    limit = max(float(np.quantile(np.abs(error), 0.98)), 1e-9)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        drawn = _stars(axis, teff[some][order], logg[some][order], error[order], SIGNED, (-limit, limit))
        figure.colorbar(drawn, ax=axis, label=f"{symbol('CFe')} predicted - true ({unit('CFe')})", extend="both", pad=0.02)
        axis.invert_xaxis()
        axis.invert_yaxis()
        axis.set_title(f"error of {symbol('CFe')}, {many(len(error))}")

    return png(draw, 6.4, 4.8)


def _stars(axis: Axes, teff: Floats, logg: Floats, color: Floats, colors: str | Colormap, limits: tuple[float, float]) -> PathCollection:
    """Stars in a Kiel diagram, grey where there is no number to colour them by."""
    size = float(np.clip(2e4 / max(len(teff), 1), 2, 16))
    axis.set(xlabel=f"{symbol('Teff')} ({label('Teff').unit})", ylabel=f"{symbol('logg')} ({unit('logg')})")
    missing = np.isnan(color)
    axis.scatter(teff[missing], logg[missing], s=size, color=GREY, lw=0, alpha=0.7)
    return axis.scatter(teff[~missing], logg[~missing], c=color[~missing], s=size, cmap=colors, vmin=limits[0], vmax=limits[1], lw=0)
