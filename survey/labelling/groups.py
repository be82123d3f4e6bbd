"""Rows of a table that are of one spectrum or star become one: the same said twice is merged, a contradiction is refused.

Shapes: R rows of the table, G groups of rows with one key, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey import labels
from survey.labelling.values import Values

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

SAME = 1e-6
"""Values that differ by more than this (relatively, where they are above 1) contradict each other."""


@dataclass
class Groups:
    """One row for each key: labels (what one row lacks another may have), the largest error given, class, part, and the first row of the table."""

    label_GL: Floats
    error_GL: Floats
    class_G: NDArray[np.int8]
    part_G: Codes
    first_G: Codes
    size_G: Codes
    sound_G: NDArray[np.bool_]
    """no two rows of it contradict each other"""


def grouped(names: Sequence[str], values: Values, part_R: Codes, code_R: Codes) -> Groups:
    """The rows by their code; rows of code -1 are in no group."""
    order = np.argsort(code_R, kind="stable")
    order = order[np.searchsorted(code_R[order], 0) :]
    starts = np.flatnonzero(np.diff(code_R[order], prepend=-1))
    size = code_R.max(initial=-1) + 1
    present = code_R[order[starts]]
    sound = np.zeros(size, bool)
    sound[present] = True
    label = np.full((size, len(names)), np.nan)
    error = np.full((size, len(names)), np.nan)
    for place, name in enumerate(names):
        low, high = _ends(values.label[name][order], starts)
        label[present, place] = low
        error[present, place] = _ends(values.error[name][order], starts)[1]
        sound[present] &= ~(high - low > SAME * np.maximum(1, np.abs(high)))
    whole = []
    for numbers in (values.class_R, part_R):
        low, high = _ends(np.where(numbers < 0, np.nan, numbers.astype(np.float64))[order], starts)
        sound[present] &= ~(high > low)
        whole.append(_spread(np.nan_to_num(low, nan=labels.MISSING).astype(np.int64), present, size))
    sizes = np.diff(starts, append=len(order))
    return Groups(
        label,
        error,
        whole[0].astype(np.int8),
        whole[1],
        _spread(order[starts], present, size),
        _spread(sizes, present, size, 0),
        sound,
    )


def _ends(numbers: Floats, starts: Codes) -> tuple[Floats, Floats]:
    """The smallest and the largest of each stretch that is not NaN."""
    if not len(starts):
        return np.empty(0), np.empty(0)
    return np.fmin.reduceat(numbers, starts), np.fmax.reduceat(numbers, starts)


def _spread(numbers: Codes, places: Codes, size: int, otherwise: int = -1) -> Codes:
    wide = np.full(size, otherwise, np.int64)
    wide[places] = numbers
    return wide
