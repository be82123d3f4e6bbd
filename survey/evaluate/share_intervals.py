"""Intervals of compared metrics where the bootstrap has no width, because it draws the same in each draw.

That happens where no answer about a class is right, or all are: the scatter is then unknown, not 0. Shapes:
B blocks of stars, C classes, R draws.
"""

from collections.abc import Sequence

import numpy as np

from survey.metrics.classes import searches
from survey.metrics.intervals import Floats, percentile_interval, wilson


def interval(
    key: str, value: float, drawn_R: Floats, sums_BK: Floats, names: Sequence[str]
) -> tuple[float, float]:
    """The interval of the bootstrap; if it has no width, Wilson's of the stars of a share, or NaN.

    The key is `subject/metric` of metrics of classes; the sums are then flat confusion matrices.
    """
    low, high = percentile_interval(drawn_R, value)
    if not np.isclose(low, high, rtol=1e-9, atol=0):
        return low, high
    subject, _, metric = key.rpartition("/")
    if subject and metric == "accuracy":
        return _wilson(value, int((sums_BK.sum(1) > 0).sum()))
    if subject and metric == "f1":
        stars = _stars_about(sums_BK, searches(names).get(subject) or [names.index(subject)])
        low, high = _wilson(value / (2 - value), stars)  # F1 is a function of hits / union
        return 2 * low / (1 + low), 2 * high / (1 + high)
    return np.nan, np.nan


def _wilson(share: float, stars: int) -> tuple[float, float]:
    """Wilson's interval; a star counts once, because visits of a star are alike."""
    low, high = wilson(share * stars, stars)
    return float(low), float(high)


def _stars_about(sums_BK: Floats, wanted: Sequence[int]) -> int:
    """The stars that are of the wanted classes or were predicted to be."""
    size = round(sums_BK.shape[1] ** 0.5)
    is_wanted_C = np.isin(np.arange(size), wanted)
    union_BCC = sums_BK.reshape(-1, size, size) * (is_wanted_C[:, None] | is_wanted_C)
    return int((union_BCC.sum((1, 2)) > 0).sum())
