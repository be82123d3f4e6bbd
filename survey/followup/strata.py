"""Strata of a list by probability and signal to noise, and how many stars are drawn in each.

Shapes: N stars, H strata.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
LEAST = 2
"""Stars that are drawn in a stratum at least, if it has so many: one star says nothing about the scatter."""
FROM, TO = 0.1, 0.9
"""Strata count as if their share of true stars was between these: no stratum is as sure as it seems."""


def strata(p_N: Floats, snr_N: Floats, bins: int, snr_bins: int) -> Numbers:
    """The number of the stratum of each star: bins of probability, best first, each with bins of S/N.

    Bins have equal numbers of stars, as far as equal values stay together. Empty strata get no number.
    """
    first_N = _bins(-p_N, bins)
    stratum_N = first_N * snr_bins
    for number in range(bins):
        inside_N = first_N == number
        stratum_N[inside_N] += _bins(-np.nan_to_num(snr_N[inside_N], nan=-1.0), snr_bins)
    return np.asarray(np.unique(stratum_N, return_inverse=True)[1].ravel(), np.int64)


def _bins(values_N: Floats, count: int) -> Numbers:
    """Bins of equal size, in rising order; equal values are in the same bin."""
    if not len(values_N):
        return np.zeros(0, np.int64)
    ordered = np.sort(values_N)
    first_N = np.searchsorted(ordered, values_N, side="left")
    last_N = np.searchsorted(ordered, values_N, side="right") - 1
    middle_N = (first_N + last_N) / 2 / max(len(values_N) - 1, 1)
    return np.asarray(np.minimum(middle_N * count, count - 1), np.int64)


def allocate(
    size_H: Numbers,
    share_H: Floats,
    cost_H: Floats,
    budget: float,
    how: Literal["neyman", "proportional"],
) -> Numbers | None:
    """How many stars are drawn in each stratum, so that they cost the budget at most, to be expected.

    `share_H` is the expected share of true stars, `cost_H` the mean cost of a star. None if not even `LEAST`
    stars of each stratum can be paid.
    """
    n_H = np.minimum(size_H, LEAST)
    spent = float((n_H * cost_H).sum())
    if spent > budget:
        return None
    p_H = np.clip(share_H, FROM, TO)
    while True:
        possible_H = (n_H < size_H) & (spent + cost_H <= budget)
        if not possible_H.any():
            return n_H
        if how == "neyman":  # what one more star takes from the variance, for its cost
            filled_H = np.maximum(n_H, 1)
            gain_H = size_H**2 * p_H * (1 - p_H) / (filled_H * (filled_H + 1)) / cost_H
        else:
            gain_H = size_H / (n_H + 0.5)
        best = int(np.argmax(np.where(possible_H, gain_H, -np.inf)))
        n_H[best] += 1
        spent += float(cost_H[best])


def draw(stratum_N: Numbers, n_H: Sequence[int] | Numbers, generator: np.random.Generator) -> Numbers:
    """Rows drawn at random, so many of each stratum without putting back, in random order."""
    chosen = [
        generator.choice(np.flatnonzero(stratum_N == number), int(n), replace=False)
        for number, n in enumerate(n_H)
        if n
    ]
    rows = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    return np.asarray(generator.permutation(rows), np.int64)
