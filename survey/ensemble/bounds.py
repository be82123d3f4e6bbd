"""Which spectra a fast network may rule out, so that hardly any star of a list is lost.

For each list of candidates there is a bound: a probability by the fast network. Spectra are *near* a list if
the ensemble gives them a noticeable probability of belonging in it, which includes all that it would list.
Hardly any of them has less than the bound. What the bound misses is counted on other stars than it is fitted
to. Draws of one spectrum are alike, so they count as fewer. Shapes: N spectra, C classes.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from survey.answers import Answers, Floats
from survey.labels import LIST_CLASSES
from survey.metrics.intervals import independent_share, wilson

Flags = NDArray[np.bool_]

NEAR = 0.1
"""Spectra to which the ensemble gives at least this probability of a list are near it.

Lists begin far above: at about 0.4 in a survey in which their classes are as frequent as in training, and
higher in one where they are rarer.
"""
MISSED = 0.001
"""This share of the near spectra lies below the quantile that the bound follows from."""
MARGIN = 0.5
"""The bound is lower by this factor, because other stars than the tested ones lie lower by chance."""
LEAST = 20
"""With fewer stars near a list, nothing is ruled out."""
FAR = 1.0
"""Spectra with a larger distance from the training spectra are not ruled out."""


class ListBound(BaseModel):
    """The bound of a list: spectra with at least this probability by the fast network go on to all members.

    `near` spectra of `stars` stars are near the list. Of them `missed` are ruled out where the bound is
    fitted to other stars: a `share`, which is at most `high` (the upper end of its 95 % interval).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    near: int
    stars: int
    missed: int
    share: float | None = None
    high: float | None = None

    @classmethod
    def fit(cls, fast_N: Floats, ensemble_N: Floats, star_N: NDArray[np.int64], half_N: Flags) -> Self:
        """From the probabilities of a list by the fast network and by the ensemble, and halves by star."""
        near_N = ensemble_N >= NEAR
        fast_N, star_N, half_N = fast_N[near_N], star_N[near_N], half_N[near_N]
        count, stars = len(fast_N), len(np.unique(star_N))
        if stars < LEAST:
            return cls(value=0.0, near=count, stars=stars, missed=0)
        missed_N = np.where(half_N, fast_N < _bound(fast_N[~half_N]), fast_N < _bound(fast_N[half_N]))
        missed, independent = int(missed_N.sum()), independent_share(missed_N.astype(np.float64), star_N)
        high = float(wilson(missed * independent, count * independent)[1])
        return cls(
            value=_bound(fast_N), near=count, stars=stars, missed=missed, share=missed / count, high=high
        )


def _bound(fast_N: Floats) -> float:
    """A probability below which hardly any of these near spectra lies."""
    return MARGIN * float(np.quantile(fast_N, MISSED, method="lower")) if len(fast_N) else 0.0


class Bounds(BaseModel):
    """The bound of each list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: dict[Literal["MP", "CEMP"], ListBound]

    @classmethod
    def fit(cls, fast: Answers, ensemble: Answers, star_N: NDArray[np.int64]) -> Self:
        """From the answers of the fast network and of the ensemble about spectra, and their stars."""
        half_N, may_be_ruled_out_N = _halves(star_N), _may_be_ruled_out(fast)
        lists = {}
        for name, classes in LIST_CLASSES.items():
            fast_N = np.where(may_be_ruled_out_N, _probability(fast, classes), 1.0)
            lists[name] = ListBound.fit(fast_N, _probability(ensemble, classes), star_N, half_N)
        return cls(lists=lists)

    def rules_out(self, fast: Answers) -> Flags:
        """Which spectra are far from every list."""
        ruled_out_N = _may_be_ruled_out(fast)
        for name, bound in self.lists.items():
            ruled_out_N &= _probability(fast, LIST_CLASSES[name]) < min(bound.value, NEAR)
        return ruled_out_N


def _halves(star_N: NDArray[np.int64]) -> Flags:
    """Whether the star of each spectrum is in the second half of the stars, by chance."""
    stars, code_N = np.unique(star_N, return_inverse=True)
    return np.asarray((np.random.default_rng(0).permutation(len(stars)) % 2 == 1)[code_N])


def _may_be_ruled_out(fast: Answers) -> Flags:
    """Spectra with a complete answer that are not far from the training spectra."""
    if fast.domain_N is None:
        return fast.is_complete_N
    return np.asarray(fast.is_complete_N & (np.nan_to_num(fast.domain_N, nan=np.inf) <= FAR))


def _probability(answers: Answers, classes: tuple[str, ...]) -> Floats:
    """The probability of belonging to one of these classes; NaN where there is no answer."""
    if answers.p_NC is None:
        return np.full(len(answers), np.nan)
    return np.asarray(answers.p_NC[:, np.isin(answers.classes, classes)].sum(1))
