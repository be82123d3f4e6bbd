"""How well labels are predicted, in plots: each label against the truth, its residuals, and its errors.

A residual is predicted - true.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta

from survey.metrics import labels
from survey.metrics.intervals import independent_share, wilson
from survey.metrics.score import STAR, LabelledAnswers
from survey.reports.style import (
    BLUE,
    GREY,
    INK,
    PANEL_COLUMNS,
    RED,
    SERIES,
    count_text,
    panels,
    plot_points,
    png,
    symbol,
    unit,
)

Floats = NDArray[np.float64]

SNR = "signal to noise"
SIGMA_LEVELS = ndtr([-2, -1, 0, 1, 2])
"""Shares of a normal distribution below these numbers of standard deviations."""


def with_known_truth(labelled: LabelledAnswers, name: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Truth and prediction of a label for the spectra with a known truth, and which spectra these are."""
    number = labelled.labels.index(name)
    truth_N = labelled.label_NL[:, number]
    known_N = np.isfinite(truth_N)
    value_NL = labelled.value_NL
    predicted_N = np.zeros_like(truth_N) if value_NL is None else value_NL[:, number]
    return truth_N[known_N], predicted_N[known_N], known_N


def label_residuals(labelled: LabelledAnswers, name: str) -> bytes | None:
    """One label against the truth, and its residuals: over the truth, as a distribution, against a normal
    one.

    The residuals are also drawn over temperature (those of temperature: over gravity) and over signal to
    noise, if these are known.
    """
    truth_N, predicted_N, known_N = with_known_truth(labelled, name)
    if labelled.value_NL is None or len(truth_N) < 2:
        return None
    residual_N = predicted_N - truth_N
    columns = {text: column[known_N] for text, column in _explaining_columns(labelled, name).items()}
    columns = {text: column for text, column in columns.items() if np.isfinite(column).sum() > 1}

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 2 + (len(columns) > 0))
        _against_truth(axes[0, 0], name, truth_N, predicted_N, labelled.labels_name)
        _residuals(axes[0, 1], name, truth_N, residual_N)
        axes[0, 1].set_xlabel(f"{labelled.labels_name} {symbol(name)} ({unit(name)})")
        axes[0, 1].set_title("residual over truth; median and middle 68 %")
        _distribution(axes[1, 0], name, residual_N)
        _normality(axes[1, 1], residual_N, independent_share_of(residual_N, labelled, known_N))
        for axis, (text, x_N) in zip(axes[:, 2] if columns else (), columns.items(), strict=False):
            finite_N = np.isfinite(x_N)
            if text == SNR:
                axis.set_xscale("log")
            _residuals(axis, name, x_N[finite_N], residual_N[finite_N])
            axis.set(xlabel=text, title=f"residual over {text.partition(' (')[0]}, n = {finite_N.sum():,}")
        if len(columns) == 1:
            axes[1, 2].set_visible(False)

    return png(draw, 9.6 + 4.6 * (len(columns) > 0), 8.6)


def _explaining_columns(labelled: LabelledAnswers, name: str) -> dict[str, Floats]:
    """What residuals of a label are drawn over, in addition to its truth."""
    other, snr = "logg" if name == "Teff" else "Teff", labelled.snr()
    columns = {
        f"{labelled.labels_name} {symbol(other)} ({unit(other)})": labelled.true_label(other),
        SNR: None if snr is None else np.where(snr > 0, snr, np.nan),
    }
    return {text: column for text, column in columns.items() if column is not None}


def _against_truth(axis: Axes, name: str, truth_N: Floats, predicted_N: Floats, labels_name: str) -> None:
    low, high = min(truth_N.min(), predicted_N.min()), max(truth_N.max(), predicted_N.max())
    edge = 0.03 * (high - low or 1)
    span = (low - edge, high + edge)
    plot_points(axis, truth_N, predicted_N)
    axis.plot(span, span, color=RED, lw=1)
    axis.set(
        xlim=span,
        ylim=span,
        xlabel=f"{labels_name} {symbol(name)} ({unit(name)})",
        ylabel=f"predicted {symbol(name)} ({unit(name)})",
        title=f"{symbol(name)}, {count_text(len(truth_N))}, R² = {labels.r2(truth_N, predicted_N):.3f}",
    )


def _residuals(axis: Axes, name: str, x_N: Floats, residual_N: Floats) -> None:
    """Draw residuals with their running median and middle 68 %; those beyond the limit in red at the edge."""
    limit = _limit(residual_N)
    beyond = np.abs(residual_N) > limit
    plot_points(axis, x_N[~beyond], residual_N[~beyond])
    if beyond.any():
        edge = np.sign(residual_N[beyond]) * limit
        axis.plot(x_N[beyond], edge, "D", color=RED, ms=3, mew=0, clip_on=False)
        axis.annotate(
            f"{beyond.sum():,} beyond",
            (0.99, 0.96),
            xycoords="axes fraction",
            color=RED,
            fontsize=8.5,
            ha="right",
            va="top",
        )
    axis.axhline(0, color=RED, lw=1)
    is_log = axis.get_xscale() == "log"
    middle, bounds = running_quantiles(np.log(x_N) if is_log else x_N, residual_N)
    middle = np.exp(middle) if is_log else middle
    outline = [withStroke(linewidth=2.8, foreground="white")]
    for column, style in zip(bounds.T, ("--", "-", "--"), strict=True):
        axis.plot(middle, column, color=INK, lw=1.3, ls=style, path_effects=outline)
    axis.set(ylim=(-limit * 1.02, limit * 1.02), ylabel=f"residual {symbol(name)} ({unit(name)})")


def _limit(residual_N: Floats) -> float:
    """The largest residual in a plot."""
    return max(6 * labels.robust_scatter(residual_N), float(np.quantile(np.abs(residual_N), 0.98)), 1e-9)


def running_quantiles(
    x_N: Floats, y_N: Floats, min_points: int = 15, bins: int = 20
) -> tuple[Floats, Floats]:
    """Median x, and the 16th, 50th and 84th percentile of y, in bins of equal width.

    Neighbouring bins are joined until each has `min_points`.
    """
    if len(x_N) < min_points:
        return np.zeros(0), np.zeros((0, 3))
    edges = np.linspace(x_N.min(), x_N.max(), bins + 1)[1:-1]
    order = np.argsort(x_N)
    cuts = [0]
    for cut in np.searchsorted(x_N[order], edges):
        if cut - cuts[-1] >= min_points and len(x_N) - cut >= min_points:
            cuts.append(int(cut))
    groups = np.split(order, cuts[1:])
    middle = np.array([np.median(x_N[group]) for group in groups])
    return middle, np.array([np.quantile(y_N[group], (0.16, 0.5, 0.84)) for group in groups])


def _distribution(axis: Axes, name: str, residual_N: Floats) -> None:
    """The histogram of the residuals, with a normal distribution and the main numbers."""
    limit, median = _limit(residual_N), float(np.median(residual_N))
    spread = labels.robust_scatter(residual_N)
    edges = np.linspace(-limit, limit, int(np.clip(np.sqrt(len(residual_N)), 10, 80)) + 1)
    axis.hist(residual_N, edges.tolist(), color=BLUE, alpha=0.45)
    if spread > 0:
        x = np.linspace(-limit, limit, 400)
        height = len(residual_N) * (edges[1] - edges[0]) / (spread * np.sqrt(2 * np.pi))
        y = height * np.exp(-0.5 * ((x - median) / spread) ** 2)
        axis.plot(x, y, color=RED, lw=1.3, label="normal: median, robust scatter")
        axis.legend(loc="upper left")
    axis.set_ylim(0, axis.get_ylim()[1] * 1.18)  # room for the text
    numbers = {
        "MAE": np.abs(residual_N).mean(),
        "bias": residual_N.mean(),
        "scatter": residual_N.std(),
        "robust": spread,
    }
    digits = 1 if numbers["MAE"] >= 10 else 3
    text = "\n".join(f"{metric} {value:.{digits}f}" for metric, value in numbers.items())
    axis.annotate(text, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=8.5)
    axis.set(
        xlabel=f"residual {symbol(name)} ({unit(name)})",
        ylabel="spectra",
        title="distribution of the residuals",
    )


def independent_share_of(value_N: Floats, labelled: LabelledAnswers, known_N: NDArray[np.bool_]) -> float:
    """The share of independent values among those of spectra with a known truth."""
    star_N = labelled.extra.get(STAR)
    return 1.0 if star_N is None else independent_share(value_N, star_N[known_N])


def _normality(axis: Axes, residual_N: Floats, independent: float = 1.0) -> None:
    """Residuals against a normal distribution of the same median and robust scatter, with its 95 % band.

    The band is that of the share of residuals which are independent.
    """
    spread = labels.robust_scatter(residual_N) or 1.0
    ordered = np.sort(residual_N - np.median(residual_N)) / spread
    size = len(ordered)
    rank = np.unique(np.round(np.geomspace(1, size, 300)).astype(int))
    even = np.linspace(1, size, min(size, 400)).astype(int)
    rank = np.unique(np.concatenate([rank, size + 1 - rank, even]))
    expected = ndtri((rank - 0.5) / size)
    below, above = independent * rank, independent * (size + 1 - rank)
    low, high = (ndtri(beta.ppf(level, below, above)).clip(-10, 10) for level in (0.025, 0.975))
    axis.fill_between(expected, low, high, color=GREY, alpha=0.35, lw=0)
    axis.plot(expected, expected, color=RED, lw=1)
    axis.plot(expected, np.clip(ordered[rank - 1], -10, 10), "o", color=BLUE, ms=3, mew=0)
    axis.set(xlabel="normal quantile", ylabel="residual / robust scatter")
    axis.set_title("against a normal distribution (QQ); grey: 95 %")


def residuals_by_snr(labelled: LabelledAnswers) -> bytes | None:
    """Residuals of each label over the signal to noise."""
    snr = labelled.snr()
    names = [name for name in labelled.labels if len(with_known_truth(labelled, name)[0]) > 1]
    if snr is None or labelled.value_NL is None or not names or not (snr > 0).any():
        return None

    def draw(figure: Figure) -> None:
        for axis, name in zip(panels(figure, len(names)), names, strict=True):
            truth_N, predicted_N, known_N = with_known_truth(labelled, name)
            chosen_N = snr[known_N] > 0
            if chosen_N.sum() > 1:
                axis.set_xscale("log")
                _residuals(axis, name, snr[known_N][chosen_N], (predicted_N - truth_N)[chosen_N])
            axis.set(xlabel=SNR, title=f"{symbol(name)}, n = {chosen_N.sum():,}")

    columns = min(PANEL_COLUMNS, len(names))
    return png(draw, 4.4 * columns, 3.7 * -(-len(names) // columns))


def coverage(labelled: LabelledAnswers) -> bytes | None:
    """Whether predicted errors are right: shares of truths inside intervals of each level, and how far truths
    are from predictions in units of the error.
    """
    sigma_of = {
        name: sigma
        for name in labelled.labels
        if (sigma := labelled.error(name)) is not None and len(with_known_truth(labelled, name)[0]) > 1
    }
    if not sigma_of:
        return None
    pit_of, worth_of = {}, {}
    for name, sigma_N in sigma_of.items():
        truth_N, predicted_N, known_N = with_known_truth(labelled, name)
        pit_of[name] = labels.pit(truth_N, predicted_N, sigma_N[known_N])
        share = independent_share_of(np.abs(2 * pit_of[name] - 1), labelled, known_N)
        worth_of[name] = share * len(truth_N)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for color, (name, pit_N) in zip(SERIES * len(pit_of), pit_of.items(), strict=False):
            _coverage_curve(left, pit_N, color, name)
        level, fewest = np.linspace(0, 1, 101), min(worth_of.values())
        left.fill_between(level, *wilson(level * fewest, fewest), color=GREY, alpha=0.35, lw=0)
        left.set(
            xlabel="level of the predicted interval",
            ylabel="share of truths inside",
            title="coverage; grey: 95 % of right errors",
        )
        left.legend(loc="upper left")
        _deviations(right, pit_of)

    return png(draw, 9.6, max(4.5, 1.5 + 0.35 * len(pit_of)))


def _deviations(axis: Axes, pit_of: Mapping[str, Floats]) -> None:
    """The deviation of the truth in errors: median, and the ranges of 68 and 95 % of the spectra.

    With right errors these are 0, -1 to 1 and -2 to 2: the dotted lines.
    """
    for row, (color, pit_N) in enumerate(zip(SERIES * len(pit_of), pit_of.values(), strict=False)):
        # a deviation as of a normal distribution, from its place in the predicted one
        low_95, low_68, median, high_68, high_95 = ndtri(np.quantile(pit_N, SIGMA_LEVELS)).clip(-5, 5)
        axis.plot([low_95, high_95], [row, row], color=color, lw=1.5)
        axis.plot([low_68, high_68], [row, row], color=color, lw=6, solid_capstyle="butt")
        axis.plot([median], [row], "o", color="white", mec=color, ms=6)
    for errors in (-2, -1, 0, 1, 2):
        axis.axvline(errors, color=GREY, lw=1, ls=":", zorder=0)
    axis.set_yticks(range(len(pit_of)), [symbol(name) for name in pit_of])
    axis.set_ylim(len(pit_of) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -2.6), max(high, 2.6))
    axis.set_xlabel("(truth - prediction) / predicted error")
    axis.set_title("median, middle 68 % (thick) and 95 %; dotted: right errors")


def _coverage_curve(axis: Axes, pit_N: Floats, color: str, name: str) -> None:
    level = np.linspace(0, 1, 101)[1:-1]
    inside = np.sort(np.abs(2 * pit_N - 1))
    hits, n = np.searchsorted(inside, level, side="right"), len(inside)
    axis.plot(level, hits / n, color=color, lw=1.4, label=f"{symbol(name)}, n = {n:,}")
