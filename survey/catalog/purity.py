"""The purity and completeness to be expected of a list, from validation stars and the class shares of the
survey.

Shares of validation stars that are listed are counted class by class and weighted by the class shares of
the survey, so a list is judged as it will be on the sky. Intervals come from Beta distributions (Jeffreys:
close to Wilson's, and honest if no star of a class is above the threshold) and from the draws of the class
shares.

Shapes: C classes, X thresholds or bins, R draws.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from survey.catalog.prior import ClassMix, random_generator
from survey.catalog.settings import ListName, list_classes
from survey.metrics.intervals import Measure, percentile_interval

Floats = NDArray[np.float64]

FEWEST_DRAWS = 20
"""With fewer draws that have a star in the list there is no interval but 0 to 1."""


def expected_purity(
    k_XC: NDArray[Any], n_C: NDArray[Any], name: ListName, mix: ClassMix, optimism: float = 0.0
) -> list[Measure]:
    """The share of listed stars that belong in the list, if k of n validation stars per class are listed."""
    rate_XC, rate_RXC = _rates(k_XC, n_C, mix)
    listed_X = k_XC.sum(1)
    value_X = np.where(listed_X > 0, share_in_list(rate_XC * mix.share_C, name), np.nan)
    listed_RXC = _drawn_survey(rate_RXC, mix.drawn_RC[:, None], mix.size)[1]
    drawn_RX = _known_ratio(listed_RXC[:, :, list_classes(name)].sum(2), listed_RXC.sum(2))
    return _measures(name, "purity", value_X, drawn_RX, listed_X, optimism)


def expected_completeness(
    k_XC: NDArray[Any],
    n_XC: NDArray[Any],
    name: ListName,
    mix: ClassMix,
    optimism: float = 0.0,
    present_XC: Floats | None = None,
) -> list[Measure]:
    """The share of the stars that belong in the list which is listed.

    `present_XC` is the share of each class that lies in the bins, if there are bins.
    """
    rate_XC, rate_RXC = _rates(k_XC, n_XC, mix)
    wanted = list_classes(name)
    n_X = np.broadcast_to(n_XC, k_XC.shape)[:, wanted].sum(1)
    present = np.ones((1, k_XC.shape[1])) if present_XC is None else present_XC
    weight_XC, weight_RXC = present * mix.share_C, present * mix.drawn_RC[:, None]
    wanted_X = weight_XC[:, wanted].sum(1)
    share_X = ratio((rate_XC * weight_XC)[:, wanted].sum(1), wanted_X)
    value_X = np.where((n_X > 0) & (wanted_X > 0), share_X, np.nan)
    present_RXC, listed_RXC = _drawn_survey(rate_RXC, weight_RXC, mix.size)
    drawn_RX = _known_ratio(listed_RXC[:, :, wanted].sum(2), present_RXC[:, :, wanted].sum(2))
    return _measures(name, "completeness", value_X, drawn_RX, n_X, optimism)


def purity_completeness(k_C: Floats, n_C: Floats, share_C: Floats, name: ListName) -> tuple[Floats, Floats]:
    """Purity and completeness of lists with k of n validation stars per class (along the last axis)."""
    wanted = list_classes(name)
    weight_C = k_C / np.maximum(n_C, 1) * share_C
    complete = ratio(weight_C[..., wanted].sum(-1), share_C[..., wanted].sum(-1))
    return share_in_list(weight_C, name), complete


def share_in_list(weight_C: Floats, name: ListName) -> Floats:
    """The part of weights by class (along the last axis) that belongs in a list; 0 without any weight."""
    return ratio(weight_C[..., list_classes(name)].sum(-1), weight_C.sum(-1))


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """numerator / denominator; the numerator itself where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator > 0, denominator, 1))


def _rates(k_XC: NDArray[Any], n_C: NDArray[Any], mix: ClassMix) -> tuple[Floats, Floats]:
    """Shares k / n, 0.5 if n is 0, and draws of them, as wide as so many independent stars leave them."""
    rate_XC = np.where(n_C > 0, k_XC / np.maximum(n_C, 1), 0.5)
    k_XC, n_C = k_XC * mix.independent_C, n_C * mix.independent_C
    draws = (len(mix.drawn_RC), *k_XC.shape)
    drawn_RXC = random_generator("rates").beta(k_XC + 0.5, n_C - k_XC + 0.5, draws)
    return rate_XC, drawn_RXC


def _drawn_survey(rate_RXC: Floats, share_RXC: Floats, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The stars of a survey of this size, by class, and those of them that are listed, by chance.

    Shares that are the same for all X make one survey per draw, of which each X lists a part.
    """
    if not size:
        share_RXC = np.broadcast_to(share_RXC, rate_RXC.shape)
        return share_RXC, np.asarray(rate_RXC * share_RXC)
    generator = random_generator("listed")
    stars_RXC = np.broadcast_to(generator.poisson(size * share_RXC), rate_RXC.shape)
    return stars_RXC, generator.binomial(stars_RXC, rate_RXC)


def _known_ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """numerator / denominator; NaN where the denominator is 0: of no star nothing follows."""
    return np.where(denominator > 0, ratio(numerator, denominator), np.nan)


def _measures(
    name: ListName, metric: str, value_X: Floats, drawn_RX: Floats, n_X: NDArray[Any], optimism: float
) -> list[Measure]:
    """Values with the middle 95 % of their draws, widened to hold them; both less the optimism."""
    value_X, drawn_RX = (expit(logit(share) - optimism) for share in (value_X, drawn_RX))
    return [
        Measure(name, metric, float(value), *_interval(drawn_R, value), int(n))
        for value, drawn_R, n in zip(value_X, drawn_RX.T, n_X, strict=True)
    ]


def _interval(drawn_R: Floats, value: float) -> tuple[float, float]:
    """The interval of the draws that are known; there is one without a value too.

    If hardly any draw of the survey has a star in the list, the share can be anything.
    """
    if np.isfinite(drawn_R).sum() < FEWEST_DRAWS:
        return 0.0, 1.0
    return percentile_interval(drawn_R, float(np.nanmedian(drawn_R) if np.isnan(value) else value))
