"""95 % intervals of shares, of means, and of metrics that follow from a confusion matrix.

Visits of one star are alike. Where the stars of spectra are given and some have several spectra, stars are
drawn with all their spectra, and the number of spectra in Wilson's intervals is that of independent ones.
Shapes: R draws, N rows, K columns, B blocks of stars, C classes.
"""

from functools import lru_cache
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

BLOCKS = 2000
"""More stars than this are drawn in this many blocks: as good for an interval, at a bounded cost."""

FEW_DIFFER = 2
"""If so many groups differ from the rest, half is believed of what they say: whether values are alike."""


class Measure(NamedTuple):
    """A number about predictions: its subject, metric, value, 95 % interval (NaN: none) and truths used.

    `stars` is the number of stars that the truths are of; None = each is of a star of its own.
    """

    subject: str
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    stars: int | None = None

    @property
    def independent(self) -> int:
        """The number of stars, or of truths where each is of a star of its own."""
        return self.n if self.stars is None else self.stars


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


def share_measure(
    subject: str, metric: str, hits: float, n: int, independent: float = 1.0, stars: int | None = None
) -> Measure:
    """The share hits / n with Wilson's interval; NaN where n is 0.

    `independent` is the share of the n that are independent.
    """
    low, high = wilson(hits * independent, n * independent)
    return Measure(subject, metric, hits / n if n else np.nan, float(low), float(high), n, stars)


def flag_measure(subject: str, metric: str, flag_N: NDArray[np.bool_], star_N: Counts | None) -> Measure:
    """The share of spectra with a flag."""
    independent = 1.0 if star_N is None else independent_share(flag_N.astype(np.float64), star_N)
    return share_measure(subject, metric, int(flag_N.sum()), len(flag_N), independent, count_stars(star_N))


def count_stars(star_N: Counts | None) -> int | None:
    """The number of stars; None where no star has several spectra."""
    stars = None if star_N is None else len(np.unique(star_N))
    return None if star_N is None or stars == len(star_N) else stars


def percentile_interval(draws_R: Floats, value: float) -> tuple[float, float]:
    """The middle 95 % of the draws, widened to contain the value; undefined draws are left out."""
    ordered = np.sort(draws_R[np.isfinite(draws_R)])
    if not len(ordered) or np.isnan(value):
        return np.nan, np.nan
    last = len(ordered) - 1
    # np.quantile takes many times as long for so few numbers
    low, high = np.interp([last * (0.5 - LEVEL / 2), last * (0.5 + LEVEL / 2)], np.arange(last + 1), ordered)
    return min(float(low), value), max(float(high), value)


def resample_confusions(counts_CC: Counts) -> Counts:
    """Confusion matrices (R, C, C) of a stratified bootstrap, drawn within each true class."""
    generator = np.random.default_rng(SEED)
    rows = [
        generator.multinomial(n, row / max(n, 1) if n else np.eye(len(row))[0], DRAWS)
        for n, row in zip(counts_CC.sum(1), counts_CC, strict=True)
    ]
    return np.stack(rows, 1)


def resample_means(values_NK: Floats, star_N: Counts | None = None) -> Floats:
    """Means (R, K) of resampled rows; of resampled stars where stars have several rows (NaN: of one star)."""
    block_N = star_blocks(star_N)
    if block_N is not None:
        sums_BK = block_sums(np.column_stack([np.ones(len(values_NK)), values_NK]), block_N)
        drawn_RK = draw_blocks(len(sums_BK)) @ sums_BK
        return np.asarray(drawn_RK[:, 1:] / drawn_RK[:, :1] if len(sums_BK) > 1 else drawn_RK[:, 1:] * np.nan)
    size, columns = values_NK.shape
    if size < NORMAL_LIMIT:
        return np.asarray(_drawn_rows(size, DRAWS) @ values_NK / size)
    mean_K = values_NK.mean(0)
    # the triangle of QR is a root of the covariance, also where columns depend on each other
    root_KK = np.linalg.qr(values_NK - mean_K, mode="r") / np.sqrt(size * (size - 1))
    return np.asarray(mean_K + np.random.default_rng(SEED).standard_normal((DRAWS, columns)) @ root_KK)


@lru_cache(maxsize=2)
def _drawn_rows(size: int, draws: int) -> Floats:
    """How often each row is in each bootstrap sample of rows (R, N)."""
    index_RN = np.random.default_rng(SEED).integers(size, size=(draws, size))
    cell_RN = index_RN + size * np.arange(draws)[:, None]
    draw_RN = np.bincount(cell_RN.ravel(), minlength=draws * size).reshape(draws, size).astype(np.float64)
    draw_RN.flags.writeable = False
    return draw_RN


def star_blocks(star_N: Counts | None) -> Counts | None:
    """The block of stars that each spectrum belongs to; None where no star has several spectra."""
    if star_N is None:
        return None
    stars, code_N = np.unique(star_N, return_inverse=True)
    return None if len(stars) == len(star_N) else np.asarray(code_N % BLOCKS, np.int64)


def block_sums(values_NK: Floats, block_N: Counts) -> Floats:
    """Sums (B, K) over the spectra of each block."""
    return np.stack([np.bincount(block_N, column) for column in values_NK.T], 1)


def draw_blocks(size: int) -> Floats:
    """How often each block is in each bootstrap sample (R, B)."""
    return _drawn_blocks(size, DRAWS)


@lru_cache(maxsize=2)
def _drawn_blocks(size: int, draws: int) -> Floats:
    draw_RB = np.random.default_rng(SEED).multinomial(size, np.full(size, 1 / size), draws).astype(np.float64)
    draw_RB.flags.writeable = False
    return draw_RB


def independent_share(value_N: Floats, group_N: NDArray[np.int64]) -> float:
    """How many independent values so many values in groups are worth, as a share of their number.

    With the intraclass correlation r it is 1 / (1 + (m - 1) r), where m is the size of the group of a value,
    on average over values: a large group counts by its square in the variance of a mean.
    """
    if not len(value_N):
        return 1.0
    _, code_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    size = float((size_G**2).sum()) / len(value_N)
    return 1 / (1 + (size - 1) * _alike(value_N, code_N, size_G))


def _alike(value_N: Floats, code_N: NDArray[np.int64], size_G: NDArray[np.int64]) -> float:
    """The intraclass correlation of values in groups, by the analysis of variance.

    Only groups that differ from the mean say something of it. With few of them it is near 1: the next group
    that differs may do so in all its values.
    """
    count, groups = len(value_N), len(size_G)
    if groups in (1, count):
        return 1.0
    mean_G = np.bincount(code_N, value_N) / size_G
    between = float((size_G * (mean_G - value_N.mean()) ** 2).sum()) / (groups - 1)
    within = float(((value_N - mean_G[code_N]) ** 2).sum()) / (count - groups)
    if between + within == 0:
        return 1.0
    size = (count - float((size_G**2).sum()) / count) / (groups - 1)
    alike = min(max((between - within) / (between + (size - 1) * within), 0.0), 1.0)
    square_G = np.bincount(code_N, (value_N - value_N.mean()) ** 2)
    differ = float(square_G.sum() ** 2 / (square_G**2).sum())
    return (differ**2 * alike + FEW_DIFFER**2) / (differ**2 + FEW_DIFFER**2)
