"""The purity of a list from the results of a sample with known inclusion probabilities.

The estimate is the mean over strata, weighted by their sizes: it has no bias, however unequal the strata and
the numbers drawn in them. Its interval is Wilson's, with the number of independent stars that has the same
variance. Strata whose stars are all observed add no error. Shapes: H strata.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from survey.metrics.intervals import LEVEL, Measure, wilson

Floats = NDArray[np.float64]


def stratified_purity(size_H: ArrayLike, n_H: ArrayLike, true_H: ArrayLike, subject: str) -> Measure:
    """The share of true stars among all, of strata of this size, with n observed stars, some of them true.

    Strata without an observed star must be merged with others before (`merge_unobserved`).
    """
    size_H, n_H, true_H = (np.asarray(values, np.float64) for values in (size_H, n_H, true_H))
    size_H, n_H, true_H = (values[size_H > 0] for values in (size_H, n_H, true_H))
    total, seen = size_H.sum(), int(n_H.sum())
    if not len(size_H) or (n_H == 0).any():
        return Measure(subject, "purity", np.nan, np.nan, np.nan, seen)
    value = float((size_H * true_H / n_H).sum() / total)
    open_H = n_H < size_H
    if not open_H.any():
        return Measure(subject, "purity", value, value, value, seen)
    exact = float(true_H[~open_H].sum())
    rest = size_H[open_H].sum()
    ends = _interval(size_H[open_H] / rest, size_H[open_H], n_H[open_H], true_H[open_H])
    low, high = (float((exact + rest * end) / total) for end in ends)
    return Measure(subject, "purity", value, min(low, value), max(high, value), seen)


def _interval(weight_H: Floats, size_H: Floats, n_H: Floats, true_H: Floats) -> tuple[float, float]:
    """Wilson's interval of a weighted mean of shares.

    For the variance, the shares of small strata are drawn towards that of all: 2 of 2 is no certainty.
    """
    together = (true_H.sum() + 1) / (n_H.sum() + 2)
    smooth_H = (true_H + together) / (n_H + 1)
    mean = float((weight_H * smooth_H).sum())
    variance = float((weight_H**2 * (1 - n_H / size_H) * smooth_H * (1 - smooth_H) / n_H).sum())
    effective = mean * (1 - mean) / variance
    value = float((weight_H * true_H / n_H).sum())
    low, high = wilson(value * effective, effective)
    return float(low), float(high)


def expected_error(size_H: ArrayLike, n_H: ArrayLike, share_H: ArrayLike, total: float) -> float:
    """Half the width of the 95 % interval that a drawn sample will give, about, for `total` stars in all."""
    size_H, n_H, share_H = (np.asarray(values, np.float64) for values in (size_H, n_H, share_H))
    drawn_H = n_H > 0
    size_H, n_H, share_H = size_H[drawn_H], n_H[drawn_H], share_H[drawn_H]
    variance_H = (size_H / total) ** 2 * (1 - n_H / size_H) * share_H * (1 - share_H) / n_H
    return float(ndtri(0.5 + LEVEL / 2) * np.sqrt(variance_H.sum()))


def merge_unobserved(
    size_H: ArrayLike, n_H: ArrayLike, true_H: ArrayLike
) -> tuple[tuple[Floats, Floats, Floats], int]:
    """Strata in order, each without an observed star merged with its neighbour; how many were merged."""
    rows = [
        list(row) for row in zip(*(np.asarray(v, np.float64) for v in (size_H, n_H, true_H)), strict=True)
    ]
    rows = [row for row in rows if row[0] > 0]
    merged = 0
    while len(rows) > 1 and (empty := [place for place, row in enumerate(rows) if row[1] == 0]):
        place = empty[0]
        neighbour = place + 1 if place + 1 < len(rows) else place - 1
        rows[neighbour] = [one + other for one, other in zip(rows[neighbour], rows[place], strict=True)]
        del rows[place]
        merged += 1
    columns = np.array(rows).reshape(-1, 3).T
    return (columns[0], columns[1], columns[2]), merged
