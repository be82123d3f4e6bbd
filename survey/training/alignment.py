"""The distance between the last features of two sources of spectra; a training can make it small.

Computed and real stars of the same labels should have the same features: then what is learned of one kind
holds for the other. All three distances are 0 for equal distributions. Features are divided by their common
spread first, so that a network gains nothing by making them small. A network that has learned nothing yet
gives all objects the same features, and their distance would keep it there: `warm_up` lets it learn first. A
worker compares the rows that it has.

Shapes: N features of the first source, M of the other, D features, K widths of kernels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from survey.training.source_settings import Align

LEAST = 4
"""With fewer rows of a source in a piece of a batch there is no distance."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of the kernels, in units of the median distance."""
BLUR, STEPS = 0.05, 20
"""Sinkhorn: the smoothing, as a share of the mean squared distance, and the number of steps."""


def coral(first_ND: Tensor, other_MD: Tensor) -> Tensor:
    """The squared differences of means and of covariances, per feature (Sun & Saenko 2016)."""
    mean = ((first_ND.mean(0) - other_MD.mean(0)) ** 2).mean()
    difference_DD = torch.cov(first_ND.T) - torch.cov(other_MD.T)
    return mean + (difference_DD**2).mean()


def mmd(first_ND: Tensor, other_MD: Tensor) -> Tensor:
    """The maximum mean discrepancy, with Gaussian kernels of several widths (Gretton et al. 2012)."""
    both_SD = torch.cat([first_ND, other_MD])
    square_SS = _squared_distances(both_SD, both_SD)
    middle = square_SS.detach().median().clamp_min(1e-12)
    kernel_SS = torch.stack([torch.exp(-square_SS / (2 * width * middle)) for width in WIDTHS]).mean(0)
    count = len(first_ND)
    inside, outside = kernel_SS[:count, :count], kernel_SS[count:, count:]
    return inside.mean() + outside.mean() - 2 * kernel_SS[:count, count:].mean()


def sinkhorn(first_ND: Tensor, other_MD: Tensor) -> Tensor:
    """The Sinkhorn divergence: the smoothed cost of transport without that to itself (Feydy et al. 2019)."""
    scale = _squared_distances(first_ND, other_MD).detach().mean().clamp_min(1e-12)
    cost, first, other = (
        _transport(_squared_distances(one, two) / scale)
        for one, two in ((first_ND, other_MD), (first_ND, first_ND), (other_MD, other_MD))
    )
    return cost - (first + other) / 2


def _transport(cost_NM: Tensor) -> Tensor:
    """The smoothed cost of transport between equal weights, by Sinkhorn's steps on logarithms."""
    count_N, count_M = cost_NM.shape
    potential_M = torch.zeros_like(cost_NM[0])
    potential_N = torch.zeros_like(cost_NM[:, 0])
    for _ in range(STEPS):
        potential_N = -BLUR * torch.logsumexp((potential_M - cost_NM) / BLUR - math.log(count_M), 1)
        potential_M = -BLUR * torch.logsumexp((potential_N[:, None] - cost_NM) / BLUR - math.log(count_N), 0)
    return potential_N.mean() + potential_M.mean()


def _squared_distances(first_ND: Tensor, other_MD: Tensor) -> Tensor:
    """Squared distances (N, M), divided by the number of features."""
    product_NM = first_ND @ other_MD.T
    square_NM = (first_ND**2).sum(1)[:, None] + (other_MD**2).sum(1) - 2 * product_NM
    return square_NM.clamp_min(0) / first_ND.shape[1]


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"coral": coral, "mmd": mmd, "sinkhorn": sinkhorn}
"""To add a distance, add a row here and its name to `Align.method`."""


def alignment(settings: Align, latent_BD: Tensor, source_B: Tensor, epoch: float = math.inf) -> Tensor:
    """The weighted distance between the main source (0) and all others (above 0) at this point of a training.

    Rows below 0 are left out.
    """
    first_ND, other_MD = latent_BD[source_B == 0].float(), latent_BD[source_B > 0].float()
    if settings.method == "none" or min(len(first_ND), len(other_MD)) < LEAST:
        return latent_BD.new_zeros(())
    both_SD = torch.cat([first_ND, other_MD])
    centre_D, spread_D = both_SD.mean(0), both_SD.std(0).clamp_min(1e-6)
    first_ND, other_MD = (first_ND - centre_D) / spread_D, (other_MD - centre_D) / spread_D
    return settings.weight_at(epoch) * DISTANCES[settings.method](first_ND, other_MD)
