"""Errors of labels that hold: where no member knows the scatter of the data it follows a law of the signal to noise; all errors are scaled until
68.27 % of the truths lie within one of them; and so many of them are an interval that holds the truth as often as wanted.

All three are fitted to residuals of validation stars and care little for a few of them that are far off. Signals to noise are
above 0. Shape: N spectra.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from survey.ensemble.combine import Floats

WITHIN = 0.6826894921370859
"""The share of a normal distribution that lies within one standard deviation."""
FREEDOM = 4.0
"""Degrees of freedom of the Student distribution that residuals are taken to follow: a normal one would stretch for the few that are far off."""
UNIT = float(stdtrit(FREEDOM, 0.5 + WITHIN / 2))
"""68.27 % of that distribution lie within so many of its scales."""
ANGLES = 33
"""Mixtures of constant and noise-like errors that are tried before the best one is refined."""
TINY = 1e-6
"""A residual that is smaller, relative to its error, counts as this when its logarithm is taken."""
LEAST = 0.1
"""Where the scatter among members explains the residuals, the data are still left this share of them."""
STEEP = 1.0
"""The scale changes with signal to noise no faster than in proportion, or in inverse proportion."""
USUAL = 0.3
"""The change of log scale with log signal to noise that is expected in advance, so that a few stars make no slope."""
ROUNDING = 1e-9
"""20 times 0.95 is 19, and not the least bit more."""


class Law(NamedTuple):
    """Variance of the data: `a`² + (`b` / signal to noise)²."""

    a: float
    b: float

    def sigma(self, snr_N: Floats) -> Floats:
        """The standard deviation at a signal to noise."""
        return np.asarray(np.hypot(self.a, self.b / snr_N))


def law(residual_N: Floats, model_N: Floats, snr_N: Floats) -> Law:
    """The law of residuals that also have the scatter among members, `model_N`, in them: its course is the likeliest one, its size such that
    68.27 % of the residuals lie within both errors together.
    """
    middle = float(np.median(snr_N))
    square_N, noise_N = residual_N**2, (middle / snr_N) ** 2
    least = LEAST**2 * float(np.quantile(square_N, WITHIN))

    def sized(angle: float) -> tuple[float, Floats]:
        course_N = np.cos(angle) ** 2 + np.sin(angle) ** 2 * noise_N
        size = max(float(np.quantile((square_N - model_N**2) / course_N, WITHIN)), least)
        return size, size * course_N + model_N**2

    def loss(angle: float) -> float:
        variance_N = sized(angle)[1] / UNIT**2
        return float(
            (0.5 * np.log(variance_N) + (FREEDOM + 1) / 2 * np.log1p(square_N / variance_N / FREEDOM)).sum()
        )

    if not np.ptp(snr_N) > 0:
        return Law(float(np.sqrt(sized(0.0)[0])), 0.0)
    angle_K = np.linspace(0, np.pi / 2, ANGLES)
    best = int(np.argmin([loss(angle) for angle in angle_K]))
    bounds = angle_K[max(best - 1, 0)], angle_K[min(best + 1, ANGLES - 1)]
    angle = float(minimize_scalar(loss, bounds=bounds, method="bounded").x)
    size = np.sqrt(sized(angle)[0])
    return Law(float(size * np.cos(angle)), float(size * np.sin(angle) * middle))


class Scale(NamedTuple):
    """The factor of an error: `factor` at the signal to noise `middle`, and in proportion to its power of `slope` from `low` to `high`."""

    factor: float = 1.0
    slope: float = 0.0
    low: float = 1.0
    middle: float = 1.0
    high: float = 1.0

    def of(self, snr_N: Floats) -> Floats:
        """The factor at a signal to noise; beyond those it was fitted to it changes no more."""
        return np.asarray(self.factor * (np.clip(snr_N, self.low, self.high) / self.middle) ** self.slope)


def scale(residual_N: Floats, sigma_N: Floats, snr_N: Floats) -> Scale:
    """The scale by which 68.27 % of residuals lie within one error, at low signal to noise as at high: a quantile regression of their logs."""
    low, middle, high = (float(value) for value in np.quantile(snr_N, [0.01, 0.5, 0.99]))
    x_N = np.log(np.clip(snr_N, low, high) / middle)
    y_N = np.log(np.maximum(np.abs(residual_N) / sigma_N, TINY))

    def loss(slope: float) -> float:
        left_N = y_N - slope * x_N
        left_N -= np.quantile(left_N, WITHIN)
        return float(np.maximum(WITHIN * left_N, (WITHIN - 1) * left_N).sum() + 0.5 * (slope / USUAL) ** 2)

    slope = float(minimize_scalar(loss, bounds=(-STEEP, STEEP), method="bounded").x) if high > low else 0.0
    return Scale(float(np.exp(np.quantile(y_N - slope * x_N, WITHIN))), slope, low, middle, high)


def reach(pull_N: Floats, coverage: float) -> tuple[float, bool]:
    """How many errors wide, to either side, an interval must be to hold a new truth with this coverage, whatever the distribution; and whether
    there were stars enough to say so (else it is the widest that was seen).

    Split-conformal: of n pulls |residual| / error the one of rank (n + 1) coverage, rounded up (Vovk et al. 2005; Lei et al. 2018).
    """
    rank = int(np.ceil((len(pull_N) + 1) * coverage - ROUNDING))
    return float(np.sort(np.abs(pull_N))[min(rank, len(pull_N)) - 1]), rank <= len(pull_N)
