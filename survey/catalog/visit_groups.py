"""The visits of stars that have several, star by star, and what is computed over them.

Shapes: N visits (rows), V rows of stars with several visits, M such stars, S stars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from survey.ensemble.label_errors import NoiseLaw

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
VisitScatter = Mapping[str, NoiseLaw]
"""The scatter of labels from visit to visit, for each label of which it is known."""


@dataclass(frozen=True)
class VisitGroups:
    """The rows (V) of stars with several visits, star by star, the best visit first, and their weights."""

    visits_S: Rows
    star_M: Rows
    row_V: Rows
    start_M: Rows
    used_V: Flags
    snr_V: Floats

    @classmethod
    def from_order(cls, order_N: Rows, first_S: Rows, used_N: Flags, snr_N: Floats) -> "VisitGroups":
        """From the order of all rows, and the positions in it at which each star begins."""
        visits_S = np.diff(first_S, append=len(order_N))
        row_V = order_N[np.repeat(visits_S > 1, visits_S)]
        star_M = np.flatnonzero(visits_S > 1)
        start_M = np.cumsum(visits_S[star_M]) - visits_S[star_M]
        return cls(visits_S, star_M, row_V, start_M, used_N[row_V], snr_N[row_V])

    @cached_property
    def group_V(self) -> Rows:  # noqa: N802
        """The number among M of the star of each row."""
        return np.repeat(np.arange(len(self.star_M)), self.visits_S[self.star_M])

    @cached_property
    def weight_V(self) -> Floats:  # noqa: N802
        """Signal to noise squared, at least 1; 1 if it is unknown; 0 for visits that are not used."""
        return np.where(self.used_V, np.fmax(self.snr_V, 1.0) ** 2, 0.0)

    def reduce(self, function: np.ufunc, values_V: NDArray[Any]) -> NDArray[Any]:
        """The values of each star's rows reduced to one."""
        return np.asarray(function.reduceat(values_V, self.start_M)) if len(self.start_M) else values_V[:0]

    def mean(self, values_V: Floats, weight_V: Floats) -> Floats:
        """Weighted means over the rows with a value; NaN if there is none."""
        known_V = np.isfinite(values_V) & (weight_V > 0)
        with np.errstate(invalid="ignore"):
            sums_M = self.reduce(np.add, np.where(known_V, weight_V * values_V, 0.0))
            return np.asarray(sums_M / self.reduce(np.add, np.where(known_V, weight_V, 0.0)))

    def independent_errors(self, error_V: Floats, law: NoiseLaw | None) -> Floats:
        """The part of errors that is new in each visit; none without a law, so that nothing shrinks."""
        if law is None:
            return np.zeros_like(error_V)
        return np.fmin(law.sigma(np.fmax(self.snr_V, 1.0)), error_V)

    def chance(self, values_V: Floats, precision_V: Floats) -> Floats:
        """The probability of a larger chi2 than that of the known values; 1 with fewer than two of them."""
        known_V = np.isfinite(values_V)
        residual_V = values_V - self.mean(values_V, precision_V)[self.group_V]
        chi2_M = self.reduce(np.add, np.where(known_V, residual_V**2 * precision_V, 0.0))
        freedom_M = self.reduce(np.add, known_V.astype(np.int64)) - 1
        return np.where(freedom_M < 1, 1.0, chdtrc(np.maximum(freedom_M, 1), chi2_M))
