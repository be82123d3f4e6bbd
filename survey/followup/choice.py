"""Which stars are observed, in which order, and with what inclusion probability.

First the stars of the highest yield per hour are chosen, without chance: their inclusion probability is 1.
Of all others some are drawn at random in strata: theirs is n / N of the stratum. So the purity of all stars
follows from the results without bias, from both parts together. Shapes: N stars.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey.followup.settings import FollowupSettings
from survey.followup.strata import LEAST, allocate, draw, strata
from survey.settings import JobError

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
YIELD, RANDOM = "yield", "random"
"""Why a star was chosen."""


@dataclass(frozen=True)
class FollowupChoice:
    """The chosen rows in the order of the observation, and what each star was chosen for ('' = not chosen).

    `stratum_N` and `inclusion_N` are of all stars; the inclusion probability is that of a design which is
    fixed before chance decides.
    """

    order: Numbers
    why_N: NDArray[np.object_]
    stratum_N: Numbers
    inclusion_N: Floats
    strata: int


def by_yield(p_N: Floats, cost_N: Floats) -> Numbers:
    """The rows by expected true stars per time, best first: no other order has more of them at all times."""
    return np.argsort(-p_N / cost_N, kind="stable")


def within(order: Numbers, cost_N: Floats, budget: float) -> Numbers:
    """The rows that fit into the budget one after the other; a row that does not fit is passed over."""
    chosen, spent = [], 0.0
    for row in order.tolist():
        if spent + cost_N[row] <= budget:
            chosen.append(row)
            spent += cost_N[row]
    return np.asarray(chosen, np.int64)


def choose(p_N: Floats, cost_N: Floats, snr_N: Floats, settings: FollowupSettings) -> FollowupChoice:
    """The sample of stars with these probabilities, costs in seconds, and signal to noise."""
    budget = (settings.hours or 0) * 3600
    rules = settings.strata
    why_N, inclusion_N = np.full(len(p_N), "", object), np.zeros(len(p_N))
    fits = cost_N.sum() <= budget
    ranked = by_yield(p_N, cost_N)
    best = ranked if fits else within(ranked, cost_N, budget * (1 - settings.certify))
    why_N[best], inclusion_N[best] = YIELD, 1.0
    rest = np.flatnonzero(why_N == "")
    left = budget - float(cost_N[best].sum())
    if fits or not settings.certify:
        stratum_N = strata(p_N, snr_N, rules.probability, rules.snr)
        if not len(best):
            raise JobError(_too_short(cost_N, settings))
        return FollowupChoice(best, why_N, stratum_N, inclusion_N, int(stratum_N.max()) + 1)
    for bins, snr_bins in _coarser(rules.probability, rules.snr):
        stratum_N = strata(p_N, snr_N, bins, snr_bins)
        count = int(stratum_N.max()) + 1
        size_H = np.bincount(stratum_N[rest], minlength=count)
        share_H, cost_H = (
            np.bincount(stratum_N[rest], values[rest], count) / np.maximum(size_H, 1)
            for values in (p_N, cost_N)
        )
        n_H = allocate(size_H, share_H, np.maximum(cost_H, 1e-9), left, rules.allocation)
        if n_H is not None:
            break
    else:
        raise JobError(_too_short(cost_N[rest], settings))
    drawn = rest[draw(stratum_N[rest], n_H, np.random.default_rng(settings.seed))]
    why_N[drawn] = RANDOM
    inclusion_N[rest] = (n_H / np.maximum(size_H, 1))[stratum_N[rest]]
    return FollowupChoice(mixed(best, drawn, cost_N), why_N, stratum_N, inclusion_N, count)


def _coarser(bins: int, snr_bins: int) -> list[tuple[int, int]]:
    """These numbers of bins, and smaller ones, for samples that are too small for many strata."""
    return [(bins, snr_bins), *((fewer, 1) for fewer in range(bins, 0, -1))]


def mixed(first: Numbers, second: Numbers, cost_N: Floats) -> Numbers:
    """Both parts in one order, so that each part is always done to the same share of its time.

    If the observation ends early, the random part is as far as the other one.
    """
    done = [np.cumsum(cost_N[part]) - cost_N[part] / 2 for part in (first, second)]
    shares = np.concatenate([part / max(part[-1], 1e-9) if len(part) else part for part in done])
    return np.concatenate([first, second])[np.argsort(shares, kind="stable")]


def _too_short(cost_N: Floats, settings: FollowupSettings) -> str:
    """About hours that are not enough."""
    return (
        f"followup: hours={settings.hours:g}, certify={settings.certify:g}: a star takes "
        f"{np.median(cost_N) / 60:.0f} minutes (median), and at least {LEAST} stars must be drawn at random; "
        "give more hours=, a larger certify=, or certify=0 for no random part"
    )
