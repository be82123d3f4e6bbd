"""What the intervals of a confusion matrix need where stars have several spectra.

Visits of one star are mostly right or wrong together, so they say less than as many stars.
Shapes: N spectra, R draws, B blocks of stars, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from survey.labels import MISSING
from survey.metrics.intervals import (
    Counts,
    Floats,
    count_stars,
    draw_blocks,
    independent_share,
    resample_confusions,
    star_blocks,
)

Stars = tuple[int | None, ...]
"""Numbers of stars by class; None where no star has several spectra."""


@dataclass(frozen=True)
class Visits:
    """Confusion matrices of a bootstrap of stars with all their spectra, and shares of independent spectra.

    These shares are of all spectra, of those predicted as each class, and of those of each class; `stars`,
    `predicted_stars` and `true_stars` are the numbers of stars of these.
    """

    drawn_RCC: Counts
    all: float
    predicted_C: Floats
    true_C: Floats
    stars: int | None
    predicted_stars: Stars
    true_stars: Stars

    @classmethod
    def of(cls, class_N: ArrayLike, predicted_N: ArrayLike, size: int, star_N: Counts | None) -> Self | None:
        """From true and predicted classes; None where no star has several spectra of a known class."""
        if star_N is None:
            return None
        is_known_N = np.asarray(class_N) != MISSING
        true_N = np.asarray(class_N, np.int64)[is_known_N]
        column_N, star_N = np.asarray(predicted_N, np.int64)[is_known_N], star_N[is_known_N]
        block_N = star_blocks(star_N)
        if block_N is None:
            return None
        cell_N = block_N * size**2 + true_N * size + column_N
        counts_BK = np.bincount(cell_N, minlength=(int(block_N.max()) + 1) * size**2).reshape(-1, size**2)
        drawn_RK = np.rint(draw_blocks(len(counts_BK)) @ counts_BK).astype(np.int64)
        right_N = np.asarray(true_N == column_N, np.float64)
        predicted_C, true_C = (
            np.array([independent(right_N, star_N, of_N == number) for number in range(size)])
            for of_N in (column_N, true_N)
        )
        everywhere = independent(right_N, star_N, np.ones(len(right_N), bool))
        predicted_stars, true_stars = (
            tuple(count_stars(star_N[of_N == number]) for number in range(size))
            for of_N in (column_N, true_N)
        )
        drawn_RCC = drawn_RK.reshape(-1, size, size)
        stars = count_stars(star_N), predicted_stars, true_stars
        return cls(drawn_RCC, everywhere, predicted_C, true_C, *stars)

    @classmethod
    def single(cls, counts_CC: Counts) -> Self:
        """Of spectra that are all independent."""
        ones_C, none = np.ones(len(counts_CC)), (None,) * len(counts_CC)
        return cls(resample_confusions(counts_CC), 1.0, ones_C, ones_C, None, none, none)


def independent(value_N: Floats, star_N: Counts | None, chosen_N: NDArray[np.bool_]) -> float:
    """The share of independent values among those of the chosen spectra; 1 where stars are not known."""
    if star_N is None or not chosen_N.any():
        return 1.0
    return independent_share(value_N[chosen_N], star_N[chosen_N])


def star_numbers(column: pa.ChunkedArray) -> Counts:
    """A number per star from the column of their names; a spectrum without a name is a star of its own."""
    number_N = np.asarray(column.combine_chunks().dictionary_encode().indices.fill_null(-1), np.int64)
    return np.where(number_N < 0, -1 - np.arange(len(number_N)), number_N)


def is_positive(class_N: ArrayLike, positives: Sequence[int]) -> NDArray[np.int64]:
    """1 for the positive classes of a search, 0 for the others; `MISSING` where the class is unknown."""
    class_N = np.asarray(class_N, np.int64)
    return np.where(class_N == MISSING, MISSING, np.isin(class_N, positives))
