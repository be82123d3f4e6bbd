"""How far a spectrum is from the training spectra, in the latent space (the last features) of each member.

The latents of a member are centred, and whitened along the directions in which the training stars vary
most. All that lies outside these directions counts as one more direction; otherwise an unusual spectrum
could stay unseen. The unit of the distance (Mahalanobis) is the distance that 1 % of the validation stars
exceed. Shapes: N spectra, D latent features, K directions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from survey.answers import Floats

Latents = NDArray[Any]

DIRECTIONS = 32
"""This many directions hold nearly all of the variance of the latents; more would only add noise."""
USUAL = 0.99
"""The share of validation stars with a distance below 1."""
NARROW = 1e-2
"""A direction with less scatter, relative to the total, is left out: in bfloat16 such latents are rounding.

What lies outside the directions is measured in units of its scatter, but at least of this share of the total.
"""
CONSTANT = 1e-7
"""Latents with less scatter, relative to their length, do not vary at all."""


@dataclass(frozen=True)
class MemberDomain:
    """The training spectra in the latent space of one member.

    It has a centre (D), directions (D, K), the scatter along them (K) and outside of them. `usual` is the
    distance that counts as 1; NaN where the training stars do not differ, so that there is no distance.
    """

    centre_D: Floats
    axes_DK: Floats
    scatter_K: Floats
    outside: float
    usual: float = 1.0

    def distance(self, latent_ND: Latents) -> Floats:
        """Distances of spectra; NaN where the latent is NaN."""
        if latent_ND.ndim != 2 or latent_ND.shape[1] != len(self.centre_D):
            raise ValueError(
                f"domain: latents of shape {latent_ND.shape}; give {len(self.centre_D)} features per "
                "spectrum, as the "
                "training stars had"
            )
        with np.errstate(invalid="ignore"):  # an infinite latent becomes NaN
            away_ND = np.asarray(latent_ND, np.float64) - self.centre_D
            along_NK = away_ND @ self.axes_DK
            left_N = np.maximum(_square(away_ND) - _square(along_NK), 0)
        return np.asarray(np.sqrt(_square(along_NK / self.scatter_K) + left_N / self.outside**2) / self.usual)


@dataclass(frozen=True)
class Domain:
    """The training spectra in the latent spaces of all members; `usual` is the mean distance that counts as
    1.
    """

    members: tuple[MemberDomain, ...]
    usual: float = 1.0

    @classmethod
    def fit(cls, train: Sequence[Latents], validation: Sequence[Latents] | None = None) -> Self:
        """From latents (N, D) of training stars and of validation stars, one array per member.

        The validation stars give the usual distance. Without them the training stars give it, a little too
        small.
        """
        chosen = train
        if validation is not None and any(len(latent_ND) for latent_ND in validation):
            chosen = validation
        if len(chosen) != len(train):
            raise ValueError(
                f"domain: latents of {len(train)} members for training and of {len(chosen)} for validation; "
                "give both for each member"
            )
        pairs = enumerate(zip(train, chosen, strict=True))
        domain = cls(tuple(_fit_member(number, *pair) for number, pair in pairs))
        if len({len(latent_ND) for latent_ND in chosen}) > 1:
            raise ValueError(
                "domain: members have latents of different numbers of validation stars; give the same "
                "stars for all"
            )
        return replace(domain, usual=_usual(domain.score(chosen)))

    def score(self, latents: Sequence[Latents]) -> Floats:
        """The distance (N) of spectra: the mean over the members that have a latent."""
        if len(latents) != len(self.members):
            raise ValueError(
                f"domain: latents of {len(latents)} members; it was fitted for {len(self.members)}, give "
                "one array per member"
            )
        pairs = zip(self.members, latents, strict=True)
        distance_MN = np.stack([member.distance(latent_ND) for member, latent_ND in pairs])
        finite_MN = np.isfinite(distance_MN)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(finite_MN, distance_MN, 0).sum(0) / finite_MN.sum(0) / self.usual)

    def to_tensors(self) -> dict[str, Floats]:
        """The domain as named float64 arrays, for a safetensors file."""
        tensors = {"usual": np.array([self.usual])}
        for number, member in enumerate(self.members):
            tensors |= {
                f"{number}.centre": member.centre_D,
                f"{number}.axes": member.axes_DK,
                f"{number}.scatter": member.scatter_K,
            }
            tensors[f"{number}.units"] = np.array([member.outside, member.usual])
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> Self:
        """The domain from what `to_tensors` gave."""
        count = len({name.partition(".")[0] for name in tensors if "." in name})
        members = []
        try:
            for number in range(count):
                names = ("centre", "axes", "scatter", "units")
                centre_D, axes_DK, scatter_K, units = (tensors[f"{number}.{name}"] for name in names)
                members.append(MemberDomain(centre_D, axes_DK, scatter_K, *map(float, units)))
            usual = float(tensors["usual"][0])
        except KeyError as error:
            raise ValueError(
                f"domain: the tensor {error} is missing, so the file holds no domain; make the ensemble again"
            ) from error
        return cls(tuple(members), usual)


def _fit_member(number: int, train_ND: Latents, usual_ND: Latents) -> MemberDomain:
    """The domain of one member.

    The axes come from the covariance (D, D), so that many stars cost no more memory than few.
    """
    finite_ND = _finite_rows(train_ND)
    if not len(finite_ND):
        raise ValueError(
            f"domain: member {number} has no finite latent of {len(train_ND):,} training stars; leave the "
            "member out, or "
            "give domain=false"
        )
    centre_D = finite_ND.mean(0)
    away_ND = finite_ND - centre_D
    variance_D, axes_DD = np.linalg.eigh(away_ND.T @ away_ND / len(away_ND))
    variance_D, axes_DD = np.clip(variance_D[::-1], 0, None), axes_DD[:, ::-1]
    total = float(np.sqrt(variance_D.sum()))
    if total <= CONSTANT * np.linalg.norm(centre_D):
        return MemberDomain(centre_D, np.zeros((len(centre_D), 0)), np.zeros(0), 1.0, np.nan)
    kept = min(DIRECTIONS, int((variance_D > (NARROW * total) ** 2).sum()))
    outside = max(float(np.sqrt(variance_D[kept:].sum())), NARROW * total)
    axes_DK = np.ascontiguousarray(axes_DD[:, :kept])
    member = MemberDomain(centre_D, axes_DK, np.sqrt(variance_D[:kept]), outside)
    return replace(member, usual=_usual(member.distance(_finite_rows(usual_ND))))


def _usual(distance_N: Floats) -> float:
    """The distance that 1 % exceed."""
    finite_N = distance_N[np.isfinite(distance_N)]
    return max(float(np.quantile(finite_N, USUAL)), NARROW) if len(finite_N) else 1.0


def _square(array_NK: Floats) -> Floats:
    """Squared length of each row; without an array of squares it takes half the time."""
    return np.asarray(np.einsum("nk,nk->n", array_NK, array_NK))


def _finite_rows(latent_ND: Latents) -> Floats:
    """The rows that are finite, as float64."""
    array = np.asarray(latent_ND, np.float64)
    return np.asarray(array[np.isfinite(array).all(1)])
