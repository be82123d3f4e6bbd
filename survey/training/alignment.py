"""The distance between the last features of two sources of spectra; a training can make it small.

Computed and real stars of the same labels should have the same features: then what is learned of one kind
holds for the other. All distances are 0 for equal distributions; that of pairs is 0 if both sources give each
object the same features. Features are divided by their common
spread first, so that a network gains nothing by making them small. A network that has learned nothing yet
gives all objects the same features, and their distance would keep it there: `warm_up` lets it learn first. A
worker compares the rows that it has.

Shapes: N features of the first source, M of the other, D features, K widths of kernels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from survey.training.losses import Targets
from survey.training.source_settings import Align

LEAST = 4
"""With fewer rows of a source in a piece of a batch there is no distance."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of the kernels, in units of the median distance."""
RIDGE = 0.005
"""The adversary: what is added to the diagonal of its kernel, over the weight of the row."""
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


def adversary(first_ND: Tensor, other_MD: Tensor) -> Tensor:
    """How well a classifier recognises the source: 0 = by chance, 1 = always.

    The classifier is a ridge regression with a Gaussian kernel. It is fitted to one half of the rows, in
    closed form, and asked about the other half. So it is the best of its kind at every step and needs no
    training of its own (compare Ganin et al. 2016).
    """
    both_SD = torch.cat([first_ND, other_MD])
    source_S = torch.cat([first_ND.new_ones(len(first_ND)), -other_MD.new_ones(len(other_MD))])
    weight_S = torch.where(source_S > 0, 0.5 / len(first_ND), 0.5 / len(other_MD))
    square_SS = _squared_distances(both_SD, both_SD)
    kernel_SS = torch.exp(-square_SS / square_SS.detach().median().clamp_min(1e-12))
    place_S = torch.cat([torch.arange(len(first_ND)), torch.arange(len(other_MD))])
    halves = [(place_S % 2 == half).nonzero().flatten() for half in (0, 1)]
    score = first_ND.new_zeros(())
    for fitted, asked in (halves, halves[::-1]):
        ridge_HH = torch.diag(RIDGE / weight_S[fitted])  # the rarer source counts as much as the other
        factor_H = torch.linalg.solve(kernel_SS[fitted][:, fitted] + ridge_HH, source_S[fitted])
        score = score + (weight_S[asked] * source_S[asked] * (kernel_SS[asked][:, fitted] @ factor_H)).sum()
    return score


def pairs(latent_BD: Tensor, source_B: Tensor, pair_B: Tensor) -> tuple[Tensor, int]:
    """The mean squared difference between the features of the same object in two sources, and the number
    of these pairs.
    """
    is_first_B, is_other_B = (source_B == 0) & (pair_B >= 0), (source_B > 0) & (pair_B >= 0)
    same_NM = pair_B[is_first_B][:, None] == pair_B[is_other_B]
    first, other = same_NM.nonzero(as_tuple=True)
    if not len(first):
        return latent_BD.new_zeros(()), 0
    return ((latent_BD[is_first_B][first] - latent_BD[is_other_B][other]) ** 2).mean(), len(first)


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


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "coral": coral,
    "mmd": mmd,
    "sinkhorn": sinkhorn,
    "adversary": adversary,
}
"""To add a distance, add a row here and its name to `Align.method`."""
PAIRS = "pairs"
"""The method that compares the same objects, instead of distributions."""
MOST = 10.0
"""The largest factor by which `balance` changes a weight."""


class Compared(NamedTuple):
    """A distance, and the pairs by which it was found; there are none for distributions."""

    distance: Tensor
    pairs: int


def compare(
    settings: Align, latent_BD: Tensor, source_B: Tensor, pair_B: Tensor | None = None
) -> Compared | None:
    """The distance between the main source (0) and all others (above 0); None without enough rows to compare.

    Rows below 0 are left out.
    """
    is_first_B, is_other_B = source_B == 0, source_B > 0
    if settings.method == "none" or min(int(is_first_B.sum()), int(is_other_B.sum())) < LEAST:
        return None
    is_used_B = is_first_B | is_other_B
    used_BD = latent_BD[is_used_B].float()
    used_BD = (used_BD - used_BD.mean(0)) / used_BD.std(0).clamp_min(1e-6)
    source_B = source_B[is_used_B]
    if settings.method != PAIRS:
        return Compared(DISTANCES[settings.method](used_BD[source_B == 0], used_BD[source_B > 0]), 0)
    if pair_B is None:
        return None
    compared = Compared(*pairs(used_BD, source_B, pair_B[is_used_B]))
    return compared if compared.pairs else None


def weighted(settings: Align, distance: Tensor, epoch: float, other_terms: Tensor | None = None) -> Tensor:
    """A distance as it counts in the loss at this point of a training.

    With `balance`, the weight is a share of `other_terms`: the rest of the loss for the same rows.
    """
    weight = settings.weight_at(epoch)
    if settings.balance and other_terms is not None:
        factor = other_terms.detach().abs() / distance.detach().abs().clamp_min(1e-12)
        return weight * factor.clamp_max(MOST) * distance
    return weight * distance


class Tally:
    """What an epoch has compared: the share of its rows, the sum of distances, and the number of pairs."""

    def __init__(self, settings: Align, device: torch.device) -> None:
        self.settings, self.sums = settings, torch.zeros(3, device=device)

    def add(self, compared: Compared, share: float) -> None:
        """Count a comparison of this share of the rows of a step."""
        values = (torch.ones_like(compared.distance), compared.distance.detach())
        counts = [share * value.float() for value in values]
        self.sums += torch.stack([*counts, torch.full_like(counts[0], compared.pairs)])

    def numbers(self, sums: Sequence[float], steps: int) -> dict[str, float]:
        """The numbers for the history, from the sums over all workers."""
        if self.settings.method == "none":
            return {}
        share, distance, found = sums
        row = {"align_compared": share / steps, "train_align": distance / share if share else math.nan}
        return row | ({"align_pairs": found / steps} if self.settings.method == PAIRS else {})


def pairs_in_all(targets: Targets) -> int:
    """The number of objects that the main source and others have."""
    source_B, pair_B = targets.source_B, targets.pair_B
    if source_B is None or pair_B is None:
        return 0
    first, other = (torch.unique(pair_B[chosen & (pair_B >= 0)]) for chosen in (source_B == 0, source_B > 0))
    return int(torch.isin(first, other).sum())


def complaint(settings: Align, row: Mapping[str, float], steps: int, count: int) -> str:
    """What is wrong with the comparisons of an epoch; empty if nothing is. `count` pairs are there in all."""
    if settings.method != PAIRS and row["align_compared"] < 0.5:
        return (
            f"only {row['align_compared']:.0%} of the batches could be compared: the others had less than "
            f"{LEAST} spectra of the main source, or of all others, in a worker; give sources.NAME.share= or "
            "a larger batch="
        )
    if settings.method == PAIRS and not count:
        return "no training object is in the main source and in another one, so nothing is compared"
    met = row["align_pairs"] * steps / count if settings.method == PAIRS else 1.0
    if met < 0.5:
        return (
            f"only {met:.0%} of {count:,} pairs came together in a batch; ingest the sources in the same "
            "order of objects, or give a larger window=, up to the number of all training spectra (with "
            "data=streaming this takes more memory)"
        )
    return ""
