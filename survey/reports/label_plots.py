"""How well labels are told, drawn: each against the truth, its residuals over what may explain them, its errors. Residuals: predicted - true."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from survey.metrics import labels
from survey.metrics.intervals import wilson
from survey.metrics.score import Judged
from survey.reports.style import BLUE, GREY, INK, RED, SERIES, many, png, points, symbol, unit

Floats = NDArray[np.float64]

SNR = "signal to noise"


def known(judged: Judged, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Truth and prediction of a label where the truth is known, and where that is."""
    number = judged.labels.index(name)
    truth_N = judged.label_NL[:, number]
    some = np.isfinite(truth_N)
    said_N = np.zeros_like(truth_N) if judged.mu_NL is None else judged.mu_NL[:, number]
    return truth_N[some], said_N[some], some


def of_label(judged: Judged, name: str) -> bytes | None:
    """One label: against the truth; residuals over it, over temperature (its own: over gravity) and over signal to noise, where these are known;
    the distribution of the residuals, and that against a normal one.
    """
    truth_N, said_N, some = known(judged, name)
    if judged.mu_NL is None or len(truth_N) < 2:
        return None
    residual_N = said_N - truth_N
    over = {
        axis: column[some]
        for axis, column in _over(judged, name).items()
        if (np.isfinite(column[some])).sum() > 1
    }

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 2 + (len(over) > 0))
        _against(axes[0, 0], name, truth_N, said_N, judged.called)
        _residuals(axes[0, 1], name, truth_N, residual_N)
        axes[0, 1].set_xlabel(f"{judged.called} {symbol(name)} ({unit(name)})")
        axes[0, 1].set_title("residual over truth; median and middle 68 %")
        _distribution(axes[1, 0], name, residual_N)
        _normality(axes[1, 1], residual_N)
        for axis, (what, x_N) in zip(axes[:, 2] if over else (), over.items(), strict=False):
            told = np.isfinite(x_N)
            if what == SNR:
                axis.set_xscale("log")
            _residuals(axis, name, x_N[told], residual_N[told])
            axis.set(xlabel=what, title=f"residual over {what.partition(' (')[0]}, n = {told.sum():,}")
        if len(over) == 1:
            axes[1, 2].set_visible(False)

    return png(draw, 9.6 + 4.6 * (len(over) > 0), 8.6)


def _over(judged: Judged, name: str) -> dict[str, Floats]:
    """What residuals of a label are drawn over, beside its truth."""
    other, snr = "logg" if name == "Teff" else "Teff", judged.snr()
    found = {
        f"{judged.called} {symbol(other)} ({unit(other)})": judged.truth(other),
        SNR: None if snr is None else np.where(snr > 0, snr, np.nan),
    }
    return {what: column for what, column in found.items() if column is not None}


def _against(axis: Axes, name: str, truth_N: Floats, said_N: Floats, called: str) -> None:
    low, high = min(truth_N.min(), said_N.min()), max(truth_N.max(), said_N.max())
    edge = 0.03 * (high - low or 1)
    span = (low - edge, high + edge)
    points(axis, truth_N, said_N)
    axis.plot(span, span, color=RED, lw=1)
    axis.set(
        xlim=span,
        ylim=span,
        xlabel=f"{called} {symbol(name)} ({unit(name)})",
        ylabel=f"predicted {symbol(name)} ({unit(name)})",
    )
    axis.set_title(f"{symbol(name)}, {many(len(truth_N))}, R² = {labels.r2(truth_N, said_N):.3f}")


def _residuals(axis: Axes, name: str, x_N: Floats, residual_N: Floats) -> None:
    """Residuals over something, those far off at the edge in red; the running median and middle 68 %."""
    limit = _limit(residual_N)
    far = np.abs(residual_N) > limit
    points(axis, x_N[~far], residual_N[~far])
    if far.any():
        axis.plot(x_N[far], np.sign(residual_N[far]) * limit, "D", color=RED, ms=3, mew=0, clip_on=False)
        axis.annotate(
            f"{far.sum():,} beyond",
            (0.99, 0.98),
            xycoords="axes fraction",
            color=RED,
            fontsize=8.5,
            ha="right",
            va="top",
        )
    axis.axhline(0, color=RED, lw=1)
    log = axis.get_xscale() == "log"
    middle, bounds = running(np.log(x_N) if log else x_N, residual_N)
    middle = np.exp(middle) if log else middle
    for column, style in zip(bounds.T, ("--", "-", "--"), strict=True):
        axis.plot(
            middle,
            column,
            color=INK,
            lw=1.3,
            ls=style,
            path_effects=[withStroke(linewidth=2.8, foreground="white")],
        )
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
    return np.array([np.median(x_N[part]) for part in parts]), np.array(
        [np.quantile(y_N[part], (0.16, 0.5, 0.84)) for part in parts]
    )


def _distribution(axis: Axes, name: str, residual_N: Floats) -> None:
    limit, middle, spread = (
        _limit(residual_N),
        float(np.median(residual_N)),
        labels.robust_scatter(residual_N),
    )
    edges = np.linspace(-limit, limit, int(np.clip(np.sqrt(len(residual_N)), 10, 80)) + 1)
    axis.hist(residual_N, edges.tolist(), color=BLUE, alpha=0.45)
    if spread > 0:
        x = np.linspace(-limit, limit, 400)
        height = len(residual_N) * (edges[1] - edges[0]) / (spread * np.sqrt(2 * np.pi))
        axis.plot(
            x,
            height * np.exp(-0.5 * ((x - middle) / spread) ** 2),
            color=RED,
            lw=1.3,
            label="normal: median, robust scatter",
        )
        axis.legend(loc="upper left")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.18)  # room for the words
    told = {
        "MAE": np.abs(residual_N).mean(),
        "bias": residual_N.mean(),
        "scatter": residual_N.std(),
        "robust": spread,
    }
    digits = 1 if told["MAE"] >= 10 else 3
    lines = "\n".join(f"{word} {value:.{digits}f}" for word, value in told.items())
    axis.annotate(lines, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=8.5)
    axis.set(
        xlabel=f"residual {symbol(name)} ({unit(name)})",
        ylabel="spectra",
        title="distribution of the residuals",
    )


def _normality(axis: Axes, residual_N: Floats) -> None:
    """Residuals against a normal distribution of the same median and robust scatter, with where 95 % of each would lie."""
    spread = labels.robust_scatter(residual_N) or 1.0
    ordered = np.sort(residual_N - np.median(residual_N)) / spread
    size = len(ordered)
    rank = np.unique(np.round(np.geomspace(1, size, 300)).astype(int))
    rank = np.unique(
        np.concatenate([rank, size + 1 - rank, np.linspace(1, size, min(size, 400)).astype(int)])
    )
    expected = ndtri((rank - 0.5) / size)
    axis.fill_between(
        expected,
        *(ndtri(beta.ppf(level, rank, size + 1 - rank)) for level in (0.025, 0.975)),
        color=GREY,
        alpha=0.35,
        lw=0,
    )
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
            axis.set(xlabel=SNR, title=f"{symbol(name)}, n = {told.sum():,}")

    columns = min(3, len(names))
    return png(draw, 4.4 * columns, 3.7 * -(-len(names) // columns))


def coverage(judged: Judged) -> bytes | None:
    """Whether predicted errors are true: share of truths within intervals of every level, and where truths lie in their distributions (PIT)."""
    sigma_of = {
        name: sigma
        for name in judged.labels
        if (sigma := judged.sigma(name)) is not None and len(known(judged, name)[0]) > 1
    }
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
            left.plot(
                level, hits / len(inside), color=color, lw=1.4, label=f"{symbol(name)}, n = {len(inside):,}"
            )
            density, edges = np.histogram(place, 20, (0, 1), density=True)
            right.stairs(density, edges, color=color, lw=1.4)
        left.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        right.axhline(1, color=GREY, lw=1, ls=":")
        left.set(
            xlabel="level of the predicted interval",
            ylabel="share of truths inside",
            title="coverage; bands: 95 %, dotted: true errors",
        )
        right.set(
            xlabel="truth in its predicted distribution (PIT)",
            ylabel="density",
            title="∪: errors too small, ∩: too large",
            ylim=(0, None),
        )
        left.legend(loc="upper left")

    return png(draw, 9.6, 4.5)
