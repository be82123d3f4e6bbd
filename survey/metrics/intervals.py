"""95 % intervals of shares, of means, and of metrics that follow from a confusion matrix.

Spectra count as independent. Where stars have several visits, the true intervals are wider.
Shapes: R draws, N rows, K columns, C classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVEL = 0.95

DRAWS, SEED = 1000, 2025
"""Resamples of a bootstrap, and its seed: the same numbers always give the same interval."""

NORMAL_LIMIT = 2000
"""From this many values on, means are drawn from the normal distribution that they follow."""

CHUNK = 1 << 18


class Measure(NamedTuple):
    """A number about predictions: its subject, metric, value, 95 % interval (NaN: none) and truths used."""

    subject: str
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0


def wilson(hits: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's interval of the share hits / n; NaN where n is 0."""
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    z = ndtri(0.5 + LEVEL / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, extra = hits / n, z**2 / n
        middle = (share + extra / 2) / (1 + extra)
        half = np.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
    # rounding must not leave the share outside its interval
    low, high = np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)
    return np.asarray(np.where(n > 0, low, np.nan)), np.asarray(np.where(n > 0, high, np.nan))


def share_measure(subject: str, metric: str, hits: float, n: int) -> Measure:
    """The share hits / n with Wilson's interval; NaN where n is 0."""
    low, high = wilson(hits, n)
    return Measure(subject, metric, hits / n if n else np.nan, float(low), float(high), n)


def percentile_interval(draws_R: Floats, value: float) -> tuple[float, float]:
    """The middle 95 % of the draws, widened to contain the value; undefined draws are left out."""
    defined = draws_R[np.isfinite(draws_R)]
    if not len(defined) or np.isnan(value):
        return np.nan, np.nan
    low, high = np.quantile(defined, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return min(float(low), value), max(float(high), value)


def resample_confusions(counts_CC: Counts, draws: int = DRAWS) -> Counts:
    """Confusion matrices (R, C, C) of a stratified bootstrap, drawn within each true class."""
    generator = np.random.default_rng(SEED)
    rows = [
        generator.multinomial(n, row / max(n, 1) if n else np.eye(len(row))[0], draws)
        for n, row in zip(counts_CC.sum(1), counts_CC, strict=True)
    ]
    return np.stack(rows, 1)


def resample_means(values_NK: Floats, draws: int = DRAWS) -> Floats:
    """Means (R, K) of resampled rows."""
    generator = np.random.default_rng(SEED)
    size, columns = values_NK.shape
    if size >= NORMAL_LIMIT:
        error_K = values_NK.std(0, ddof=1) / np.sqrt(size)
        return np.asarray(values_NK.mean(0) + generator.standard_normal((draws, columns)) * error_K)
    chunk = max(1, CHUNK // size)
    means = []
    for start in range(0, draws, chunk):
        index = generator.integers(size, size=(min(chunk, draws - start), size))
        means.append(values_NK[index].mean(1))
    return np.concatenate(means)


def independent_share(value_N: Floats, group_N: NDArray[np.int64]) -> float:
    """How many independent values so many values in groups are worth, as a share of their number.

    With groups of m values and the intraclass correlation r it is 1 / (1 + (m - 1) r).
    """
    _, code_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    count, groups = len(value_N), len(size_G)
    if groups in (1, count):
        return 1 / count if groups == 1 else 1.0
    mean_G = np.bincount(code_N, value_N) / size_G
    between = float((size_G * (mean_G - value_N.mean()) ** 2).sum()) / (groups - 1)
    within = float(((value_N - mean_G[code_N]) ** 2).sum()) / (count - groups)
    size = (count - float((size_G**2).sum()) / count) / (groups - 1)
    if between + within == 0:
        return groups / count
    alike = min(max((between - within) / (between + (size - 1) * within), 0.0), 1.0)
    return 1 / (1 + (size - 1) * alike)
