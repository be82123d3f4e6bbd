"""Errors of labels that hold, fitted to the residuals of validation stars.

Where no member knows the scatter of the data, it follows a law of the signal to noise. All errors are
scaled until 68.27 % of the true values lie within one of them. The interval of a label is so many errors
wide that it contains the wanted share of true values. A few stars that are far off change all three fits
only a little. Signals to noise are above 0. Shape: N spectra.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from survey.answers import Floats

WITHIN = 0.6826894921370859
"""The share of a normal distribution that lies within one standard deviation."""
FREEDOM = 4.0
"""Degrees of freedom of the Student distribution of residuals: a normal one would stretch for the few
far-off stars.
"""
UNIT = float(stdtrit(FREEDOM, 0.5 + WITHIN / 2))
"""68.27 % of that distribution lie within this many of its scales."""
ANGLES = 33
"""Mixtures of constant and noise-like errors that are tried before the best one is refined."""
TINY = 1e-6
"""A residual that is smaller, relative to its error, counts as this when its logarithm is taken."""
LEAST = 0.1
"""The data keep at least this share of the residuals, also where the scatter among members explains all of
them.
"""
STEEPEST = 1.0
"""The largest slope of the logarithm of the scale with the logarithm of the signal to noise."""
EXPECTED_SLOPE = 0.3
"""The size of that slope that is expected in advance, so that a few stars make no slope."""
ROUNDING = 1e-9
"""20 times 0.95 is 19, not a rounding error more."""


class NoiseLaw(NamedTuple):
    """Variance of the data: `a`² + (`b` / signal to noise)²."""

    a: float
    b: float

    def sigma(self, snr_N: Floats) -> Floats:
        """The standard deviation at a signal to noise."""
        return np.asarray(np.hypot(self.a, self.b / snr_N))


def fit_noise_law(residual_N: Floats, model_N: Floats, snr_N: Floats) -> NoiseLaw:
    """The law of the data's scatter, from residuals that also contain the scatter among members, `model_N`.

    Its course with the signal to noise is the likeliest one; its size is such that 68.27 % of the residuals
    lie within both errors together.
    """
    middle = float(np.median(snr_N))
    square_N, noise_N = residual_N**2, (middle / snr_N) ** 2
    least = LEAST**2 * float(np.quantile(square_N, WITHIN))

    def scaled(angle: float) -> tuple[float, Floats]:
        course_N = np.cos(angle) ** 2 + np.sin(angle) ** 2 * noise_N
        size = max(float(np.quantile((square_N - model_N**2) / course_N, WITHIN)), least)
        return size, size * course_N + model_N**2

    def loss(angle: float) -> float:
        variance_N = scaled(angle)[1] / UNIT**2
        tails_N = (FREEDOM + 1) / 2 * np.log1p(square_N / variance_N / FREEDOM)
        return float((0.5 * np.log(variance_N) + tails_N).sum())

    if not np.ptp(snr_N) > 0:
        return NoiseLaw(float(np.sqrt(scaled(0.0)[0])), 0.0)
    angle_K = np.linspace(0, np.pi / 2, ANGLES)
    best = int(np.argmin([loss(angle) for angle in angle_K]))
    bounds = angle_K[max(best - 1, 0)], angle_K[min(best + 1, ANGLES - 1)]
    angle = float(minimize_scalar(loss, bounds=bounds, method="bounded").x)
    size = np.sqrt(scaled(angle)[0])
    return NoiseLaw(float(size * np.cos(angle)), float(size * np.sin(angle) * middle))


class ErrorScale(NamedTuple):
    """The factor of an error: `factor` at the signal to noise `middle`, changing with its power of `slope`.

    Below `low` and above `high` the factor is constant.
    """

    factor: float = 1.0
    slope: float = 0.0
    low: float = 1.0
    middle: float = 1.0
    high: float = 1.0

    def at(self, snr_N: Floats) -> Floats:
        """The factor at a signal to noise."""
        return np.asarray(self.factor * (np.clip(snr_N, self.low, self.high) / self.middle) ** self.slope)


def fit_error_scale(residual_N: Floats, sigma_N: Floats, snr_N: Floats) -> ErrorScale:
    """The scale with which 68.27 % of residuals lie within one error, at low and at high signal to noise.

    It is a quantile regression of the logarithms.
    """
    low, middle, high = (float(value) for value in np.quantile(snr_N, [0.01, 0.5, 0.99]))
    x_N = np.log(np.clip(snr_N, low, high) / middle)
    y_N = np.log(np.maximum(np.abs(residual_N) / sigma_N, TINY))

    def loss(slope: float) -> float:
        left_N = y_N - slope * x_N
        left_N -= np.quantile(left_N, WITHIN)
        pinball_N = np.maximum(WITHIN * left_N, (WITHIN - 1) * left_N)
        return float(pinball_N.sum() + 0.5 * (slope / EXPECTED_SLOPE) ** 2)

    slope = 0.0
    if high > low:
        slope = float(minimize_scalar(loss, bounds=(-STEEPEST, STEEPEST), method="bounded").x)
    factor = float(np.exp(np.quantile(y_N - slope * x_N, WITHIN)))
    return ErrorScale(factor, slope, low, middle, high)


def interval_half_width(pull_N: Floats, coverage: float) -> tuple[float, bool]:
    """The half width, in errors, of the interval that contains a new true value with this coverage.

    It holds for any distribution (split-conformal): of n pulls |residual| / error it is the one of rank (n
    + 1) coverage, rounded up (Vovk et al. 2005; Lei et al. 2018). The second value is false where there are
    too few stars; then the half width is the largest pull.
    """
    rank = int(np.ceil((len(pull_N) + 1) * coverage - ROUNDING))
    return float(np.sort(np.abs(pull_N))[min(rank, len(pull_N)) - 1]), rank <= len(pull_N)
