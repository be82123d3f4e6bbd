"""How far a spectrum lies from those that the members have learned from, in the members' own latent spaces.

Each member's latents are centred and whitened along the directions in which the training stars vary most; whatever lies outside of these
directions counts as one direction more, else a spectrum could be strange unseen. The distance (Mahalanobis) is told in units of the one that 1 %
of validation stars exceed. Shapes: N spectra, D latent features, K directions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from survey.ensemble.combine import Floats

Latents = NDArray[Any]

DIRECTIONS = 32
"""So many directions hold nearly all of the variance of the latents; more would only add noise."""
USUAL = 0.99
"""The share of validation stars that lie nearer than 1."""
NARROW = 1e-2
"""Directions in which the stars scatter by less, relative to the whole, are no directions: in bfloat16 such latents are rounding. What lies
outside of the directions is told in units of its scatter, or of this share of the whole where it has less.
"""
CONSTANT = 1e-7
"""Latents that scatter by less, relative to their length, do not vary at all."""


@dataclass(frozen=True)
class Space:
    """The training spectra as one member sees them: centre (D), directions (D, K) with the scatter (K) along them and outside.

    `usual` is the distance that counts as 1; NaN where the training stars do not differ, so that nothing can be told by it.
    """

    centre_D: Floats
    axes_DK: Floats
    scatter_K: Floats
    outside: float
    usual: float = 1.0

    def distance(self, latent_ND: Latents) -> Floats:
        """Distance of spectra, 1 is the usual one; NaN where the latent is."""
        if latent_ND.ndim != 2 or latent_ND.shape[1] != len(self.centre_D):
            raise ValueError(
                f"domain: latents of shape {latent_ND.shape}; the training stars had {len(self.centre_D)} features, give as many"
            )
        with np.errstate(invalid="ignore"):  # an infinite latent ends as NaN
            away_ND = np.asarray(latent_ND, np.float64) - self.centre_D
            along_NK = away_ND @ self.axes_DK
            left_N = np.maximum(_square(away_ND) - _square(along_NK), 0)
        return np.asarray(np.sqrt(_square(along_NK / self.scatter_K) + left_N / self.outside**2) / self.usual)


@dataclass(frozen=True)
class Domain:
    """The training spectra as every member sees them; `usual` is the mean distance over members that counts as 1."""

    spaces: tuple[Space, ...]
    usual: float = 1.0

    @classmethod
    def fit(cls, train: Sequence[Latents], validation: Sequence[Latents] | None = None) -> Self:
        """From latents of training stars, one array (N, D) per member, and of validation stars, which say what a usual distance is.

        Without validation stars the training stars themselves say it, a little too strictly.
        """
        chosen = (
            validation
            if validation is not None and any(len(latent_ND) for latent_ND in validation)
            else train
        )
        if len(chosen) != len(train):
            raise ValueError(
                f"domain: latents of {len(train)} members for training and of {len(chosen)} for validation; give both of each member"
            )
        domain = cls(
            tuple(_space(number, *pair) for number, pair in enumerate(zip(train, chosen, strict=True)))
        )
        if len({len(latent_ND) for latent_ND in chosen}) > 1:
            raise ValueError(
                "domain: members have latents of different numbers of validation stars; give those of the same stars for all"
            )
        return replace(domain, usual=_usual(domain.score(chosen)))

    def score(self, latents: Sequence[Latents]) -> Floats:
        """The distance (N) of spectra, mean over the members that have a latent of it; 1 is the distance that 1 % of validation stars exceed."""
        if len(latents) != len(self.spaces):
            raise ValueError(
                f"domain: latents of {len(latents)} members; it was fitted for {len(self.spaces)}, give one array for each"
            )
        distance_MN = np.stack(
            [space.distance(latent_ND) for space, latent_ND in zip(self.spaces, latents, strict=True)]
        )
        told_MN = np.isfinite(distance_MN)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(told_MN, distance_MN, 0).sum(0) / told_MN.sum(0) / self.usual)

    def tensors(self) -> dict[str, Floats]:
        """The domain as named float64 arrays, for safetensors."""
        made = {"usual": np.array([self.usual])}
        for number, space in enumerate(self.spaces):
            made |= {
                f"{number}.centre": space.centre_D,
                f"{number}.axes": space.axes_DK,
                f"{number}.scatter": space.scatter_K,
            }
            made[f"{number}.units"] = np.array([space.outside, space.usual])
        return made

    @classmethod
    def of(cls, tensors: Mapping[str, Floats]) -> Self:
        """The domain that `tensors` gave."""
        count = len({name.partition(".")[0] for name in tensors if "." in name})
        try:
            rows = [
                [tensors[f"{number}.{part}"] for part in ("centre", "axes", "scatter", "units")]
                for number in range(count)
            ]
            usual = float(tensors["usual"][0])
        except KeyError as error:
            raise ValueError(
                f"domain: there is no tensor {error}; the file is not one of a domain: make the ensemble anew"
            ) from error
        return cls(
            tuple(
                Space(centre_D, axes_DK, scatter_K, *map(float, units))
                for centre_D, axes_DK, scatter_K, units in rows
            ),
            usual,
        )


def _space(number: int, train_ND: Latents, usual_ND: Latents) -> Space:
    """One member's space. The axes come from the covariance (D, D), so that many stars cost no more memory than few."""
    sound_ND = _sound(train_ND)
    if not len(sound_ND):
        raise ValueError(
            f"domain: member {number} has no finite latent of {len(train_ND):,} training stars; leave the member out, or give domain=false"
        )
    centre_D = sound_ND.mean(0)
    away_ND = sound_ND - centre_D
    variance_D, axes_DD = np.linalg.eigh(away_ND.T @ away_ND / len(away_ND))
    variance_D, axes_DD = np.clip(variance_D[::-1], 0, None), axes_DD[:, ::-1]
    whole = float(np.sqrt(variance_D.sum()))
    if whole <= CONSTANT * np.linalg.norm(centre_D):
        return Space(centre_D, np.zeros((len(centre_D), 0)), np.zeros(0), 1.0, np.nan)
    kept = min(DIRECTIONS, int((variance_D > (NARROW * whole) ** 2).sum()))
    outside = max(float(np.sqrt(variance_D[kept:].sum())), NARROW * whole)
    space = Space(centre_D, np.ascontiguousarray(axes_DD[:, :kept]), np.sqrt(variance_D[:kept]), outside)
    return replace(space, usual=_usual(space.distance(_sound(usual_ND))))


def _usual(distance_N: Floats) -> float:
    """The distance that 1 % exceed."""
    known_N = distance_N[np.isfinite(distance_N)]
    return max(float(np.quantile(known_N, USUAL)), NARROW) if len(known_N) else 1.0


def _square(array_NK: Floats) -> Floats:
    """Squared length of each row; without an array of squares it takes half the time."""
    return np.asarray(np.einsum("nk,nk->n", array_NK, array_NK))


def _sound(latent_ND: Latents) -> Floats:
    """The rows that are finite, as float64."""
    array = np.asarray(latent_ND, np.float64)
    return np.asarray(array[np.isfinite(array).all(1)])
