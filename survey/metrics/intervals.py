"""How sure a measured number is: 95 % intervals of shares, of means, and of what follows from a confusion matrix.

Spectra count as independent. Where a star has many visits the true intervals are wider.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVEL = 0.95
DRAWS, SEED = 1000, 2025
"""Samples drawn anew for a bootstrap, and where each starts: the same numbers give the same interval."""
MANY = 2000
"""From so many values on, bootstrapped means are drawn from the normal distribution that they follow anyway."""
CHUNK = 1 << 18


class Measure(NamedTuple):
    """One number about predictions: of what (`subject`), which (`metric`), from how many truths, with its 95 % interval (NaN: none)."""

    subject: str
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0


def wilson(hits: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's interval of a share hits / n; NaN where n is 0."""
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    z = ndtri(0.5 + LEVEL / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, extra = hits / n, z**2 / n
        middle = (share + extra / 2) / (1 + extra)
        half = np.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
    low, high = (
        np.clip(middle - half, 0, share),
        np.clip(middle + half, share, 1),
    )  # rounding must not leave the share outside
    return np.asarray(np.where(n > 0, low, np.nan)), np.asarray(np.where(n > 0, high, np.nan))


def share(subject: str, metric: str, hits: float, n: int) -> Measure:
    """The share hits / n as a measure with Wilson's interval; NaN where n is 0."""
    low, high = wilson(hits, n)
    return Measure(subject, metric, hits / n if n else np.nan, float(low), float(high), n)


def between(draws_R: Floats, value: float) -> tuple[float, float]:
    """The middle 95 % of draws, widened to hold the value itself; draws that are not defined do not count."""
    defined = draws_R[np.isfinite(draws_R)]
    if not len(defined) or np.isnan(value):
        return np.nan, np.nan
    low, high = np.quantile(defined, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return min(float(low), value), max(float(high), value)


def confusions_drawn(counts_CC: Counts, draws: int = DRAWS) -> Counts:
    """Confusion matrices (R, C, C) of samples drawn anew within each true class: the stratified bootstrap, without the samples."""
    generator = np.random.default_rng(SEED)
    true_C = counts_CC.sum(1)
    rows = [
        generator.multinomial(n, row / max(n, 1) if n else np.eye(len(row))[0], draws)
        for n, row in zip(true_C, counts_CC, strict=True)
    ]
    return np.stack(rows, 1)


def means_drawn(values_NK: Floats, draws: int = DRAWS) -> Floats:
    """Means (R, K) of samples of the rows drawn anew."""
    generator = np.random.default_rng(SEED)
    size, columns = values_NK.shape
    if size >= MANY:
        spread_K = values_NK.std(0, ddof=1) / np.sqrt(size)
        return np.asarray(values_NK.mean(0) + generator.standard_normal((draws, columns)) * spread_K)
    part = max(1, CHUNK // size)
    means = [
        values_NK[generator.integers(size, size=(min(part, draws - start), size))].mean(1)
        for start in range(0, draws, part)
    ]
    return np.concatenate(means)
