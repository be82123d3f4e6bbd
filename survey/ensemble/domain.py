"""How far a spectrum is from the training spectra, in the latent space (the last features) of each member.

Training spectra of one class are a reference of their own: a spectrum is compared with the class that it is
nearest to. Compared with all training spectra together, a rare class would be far away for being rare. The
latents of a member are described along the directions in which all its training spectra vary most. All that
lies outside these directions counts as one more direction; otherwise an unusual spectrum could stay unseen.
In each class the distance (Mahalanobis) is from its centre, in units of its scatter. The scatter of a class
with few spectra is drawn towards that of all classes, and widened, because it is not known well. The unit is
the distance that 1 % of the validation spectra of the class exceed.

Shapes: N spectra, D latent features, K directions, G classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from survey.answers import Floats
from survey.labels import MISSING

Latent = NDArray[Any]
"""The last features of one member, (N, D)."""
ClassNumbers = NDArray[Any]
"""The true class of each spectrum; -1 = unknown. Spectra of an unknown class are a class too."""

MOST = 20_000
"""At most this many training spectra describe the domain."""
DIRECTIONS = 32
"""This many directions hold nearly all of the variance of the latents; more would only add noise."""
USUAL = 0.99
"""The share of validation spectra with a distance below 1."""
NARROW = 1e-2
"""A direction with less scatter, relative to the total, is left out: in bfloat16 such latents are rounding.

What lies outside the directions is measured in units of its scatter, but at least of this share of the total.
"""
CONSTANT = 1e-7
"""Latents with less scatter, relative to their length, do not vary at all."""
FEWEST = 10
"""A class with fewer training spectra has no reference of its own."""
SCATTER_WEIGHT = 2.0
"""The scatter of all classes counts as this many spectra per direction in the scatter of a class."""
UNIT_WEIGHT = 100.0
"""The distances of all classes count as this many spectra of a class in its unit: one of them exceeds it."""


def choose_spectra(class_N: ClassNumbers, seed: int) -> NDArray[np.int64]:
    """The training spectra that describe the domain: `MOST` at most, and a larger share of rare classes."""
    order_N = np.random.default_rng([seed, 1]).permutation(len(class_N))
    classes = [order_N[class_N[order_N] == number] for number in np.unique(class_N)]
    chosen, left = [np.empty(0, np.int64)], MOST
    for position, rows in enumerate(sorted(classes, key=len)):  # what a rare class leaves, others get
        chosen.append(rows[: left // (len(classes) - position)])
        left -= len(chosen[-1])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class MemberDomain:
    """The training spectra in the latent space of one member.

    It has a centre (D) and directions (D, K); for each class a centre along the directions (G, K), a matrix
    that whitens them (G, K, K), and the scatter outside of them (G). `usual` is the distance that counts as
    1; NaN where the training spectra do not differ, so that there is no distance.
    """

    centre_D: Floats
    axes_DK: Floats
    centre_GK: Floats
    whiten_GKK: Floats
    outside_G: Floats
    usual: float = 1.0

    def distance(self, latent_ND: Latent) -> Floats:
        """Distances (G, N) of spectra from each class; NaN where the latent is NaN."""
        if latent_ND.ndim != 2 or latent_ND.shape[1] != len(self.centre_D):
            raise ValueError(
                f"domain: latents of shape {latent_ND.shape}; give {len(self.centre_D)} features per "
                "spectrum, as the training stars had"
            )
        with np.errstate(invalid="ignore"):  # an infinite latent becomes NaN
            away_ND = np.asarray(latent_ND, np.float64) - self.centre_D
            along_NK = away_ND @ self.axes_DK
            left_N = np.maximum(_square(away_ND) - _square(along_NK), 0)
            classes = zip(self.centre_GK, self.whiten_GKK, self.outside_G, strict=True)
            square_GN = np.stack(
                [
                    _square((along_NK - centre_K) @ whiten_KK.T) + left_N / outside**2
                    for centre_K, whiten_KK, outside in classes
                ]
            )
        return np.asarray(np.sqrt(square_GN) / self.usual)


@dataclass(frozen=True)
class Domain:
    """The training spectra in the latent spaces of all members.

    `usual_G` is, for each class, the mean distance over the members that counts as 1.
    """

    members: tuple[MemberDomain, ...]
    usual_G: Floats

    @classmethod
    def fit(
        cls,
        train: Sequence[Latent],
        validation: Sequence[Latent] | None = None,
        train_class_N: ClassNumbers | None = None,
        validation_class_N: ClassNumbers | None = None,
    ) -> Self:
        """From latents (N, D) of training and of validation spectra, one array per member, and their classes.

        The validation spectra give the usual distances. Without them the training spectra give them, a little
        too small. Without classes all spectra are one class.
        """
        chosen, class_N = train, train_class_N
        if validation is not None and any(len(latent_ND) for latent_ND in validation):
            chosen, class_N = validation, validation_class_N
        if len(chosen) != len(train):
            raise ValueError(
                f"domain: latents of {len(train)} members for training and of {len(chosen)} for validation; "
                "give both for each member"
            )
        if len({len(latent_ND) for latent_ND in chosen}) > 1:
            raise ValueError(
                "domain: members have latents of different numbers of validation stars; give the same "
                "stars for all"
            )
        reference = _References.of(len(train[0]) if train else 0, train_class_N)
        class_N = reference.class_of(len(chosen[0]) if chosen else 0, class_N)
        pairs = enumerate(zip(train, chosen, strict=True))
        members = tuple(_fit_member(number, *pair, reference, class_N) for number, pair in pairs)
        domain = cls(members, np.ones(reference.count))
        domain = replace(domain, usual_G=_usual_by_class(domain._mean_distance(chosen), class_N))
        return replace(domain, usual_G=domain.usual_G * _usual(domain.score(chosen)))

    def score(self, latents: Sequence[Latent]) -> Floats:
        """The distance (N) of spectra from the nearest class: the mean over the members with a latent."""
        if len(latents) != len(self.members):
            raise ValueError(
                f"domain: latents of {len(latents)} members; it was fitted for {len(self.members)}, give "
                "one array per member"
            )
        return np.asarray((self._mean_distance(latents) / self.usual_G[:, None]).min(0))

    def _mean_distance(self, latents: Sequence[Latent]) -> Floats:
        """The mean over the members of the distances (G, N) from each class."""
        pairs = zip(self.members, latents, strict=True)
        distance_MGN = np.stack([member.distance(latent_ND) for member, latent_ND in pairs])
        finite_MGN = np.isfinite(distance_MGN)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(finite_MGN, distance_MGN, 0).sum(0) / finite_MGN.sum(0))

    def to_tensors(self) -> dict[str, Floats]:
        """The domain as named float64 arrays, for a safetensors file."""
        tensors = {"usual": self.usual_G}
        for number, member in enumerate(self.members):
            tensors |= {
                f"{number}.centre": member.centre_D,
                f"{number}.axes": member.axes_DK,
                f"{number}.class_centres": member.centre_GK,
                f"{number}.whiten": member.whiten_GKK,
                f"{number}.outside": member.outside_G,
                f"{number}.usual": np.array([member.usual]),
            }
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> Self:
        """The domain from what `to_tensors` gave."""
        count = len({name.partition(".")[0] for name in tensors if "." in name})
        members = []
        try:
            for number in range(count):
                names = ("centre", "axes", "class_centres", "whiten", "outside", "usual")
                centre_D, axes_DK, centre_GK, whiten_GKK, outside_G, usual = (
                    tensors[f"{number}.{name}"] for name in names
                )
                shapes = centre_GK, whiten_GKK, outside_G
                if not all(np.isfinite(array).all() for array in (centre_D, axes_DK, *shapes)):
                    raise ValueError(
                        f"domain.safetensors: member {number} has numbers that are not finite; "
                        "make the ensemble again"
                    )
                members.append(MemberDomain(centre_D, axes_DK, *shapes, float(usual[0])))
            usual_G = tensors["usual"]
        except KeyError as error:
            raise ValueError(
                f"domain.safetensors: the tensor {error} is missing, so the file holds no domain; "
                "make the ensemble again"
            ) from error
        return cls(tuple(members), usual_G)


@dataclass(frozen=True)
class _References:
    """The class numbers that have a reference, and the reference of each training spectrum (-1 = none)."""

    numbers: tuple[int, ...]
    train_N: ClassNumbers

    @classmethod
    def of(cls, size: int, class_N: ClassNumbers | None) -> Self:
        """The classes with enough training spectra; with fewer than two, all spectra are one class."""
        class_N = np.full(size, MISSING) if class_N is None else np.asarray(class_N, np.int64)
        found, counts = np.unique(class_N, return_counts=True)
        numbers = tuple(found[counts >= FEWEST].tolist())
        if len(numbers) < 2:
            return cls((MISSING,), np.zeros(size, np.int64))
        return cls(numbers, _positions(numbers, class_N))

    @property
    def count(self) -> int:
        """The number of references."""
        return len(self.numbers)

    def class_of(self, size: int, class_N: ClassNumbers | None) -> ClassNumbers:
        """The reference of spectra of these classes; -1 = none of its own."""
        if self.count == 1:
            return np.zeros(size, np.int64)
        return _positions(self.numbers, np.full(size, MISSING) if class_N is None else np.asarray(class_N))


def _positions(numbers: tuple[int, ...], class_N: ClassNumbers) -> ClassNumbers:
    """The position of each class among the numbers, -1 if it is not there."""
    match_GN = np.asarray(numbers)[:, None] == class_N
    return np.where(match_GN.any(0), match_GN.argmax(0), -1)


def _fit_member(
    number: int, train_ND: Latent, usual_ND: Latent, references: _References, usual_class_N: ClassNumbers
) -> MemberDomain:
    """The domain of one member.

    The axes come from the covariance (D, D), so that many spectra cost no more memory than few.
    """
    finite_N = np.isfinite(train_ND).all(1)
    if not finite_N.any():
        raise ValueError(
            f"domain: member {number} has no finite latent of {len(train_ND):,} training stars; leave the "
            "member out, or give domain=false"
        )
    latent_ND, class_N = np.asarray(train_ND[finite_N], np.float64), references.train_N[finite_N]
    centre_D = latent_ND.mean(0)
    away_ND = latent_ND - centre_D
    variance_D, axes_DD = np.linalg.eigh(away_ND.T @ away_ND / len(away_ND))
    variance_D, axes_DD = np.clip(variance_D[::-1], 0, None), axes_DD[:, ::-1]
    total, count = float(np.sqrt(variance_D.sum())), references.count
    if total <= CONSTANT * np.linalg.norm(centre_D):
        nothing = np.zeros((len(centre_D), 0)), np.zeros((count, 0)), np.zeros((count, 0, 0))
        return MemberDomain(centre_D, *nothing, np.ones(count), np.nan)
    kept = min(DIRECTIONS, int((variance_D > (NARROW * total) ** 2).sum()))
    axes_DK = np.ascontiguousarray(axes_DD[:, :kept])
    along_NK = away_ND @ axes_DK
    left_N = np.maximum(_square(away_ND) - _square(along_NK), 0)
    centre_GK, whiten_GKK, outside_G = _class_shapes(along_NK, left_N, class_N, count, NARROW * total)
    member = MemberDomain(centre_D, axes_DK, centre_GK, whiten_GKK, outside_G)
    return replace(member, usual=_usual(_own_distance(member.distance(usual_ND), usual_class_N)))


def _class_shapes(
    along_NK: Floats, left_N: Floats, class_N: ClassNumbers, count: int, narrow: float
) -> tuple[Floats, Floats, Floats]:
    """Centre (G, K), whitening (G, K, K) and outer scatter (G) of each class, no scatter below `narrow`.

    The scatter is that of a new spectrum of a class whose centre and covariance are estimated from few
    (Hotelling's T-squared).
    """
    directions = along_NK.shape[1]
    rows = [np.flatnonzero(class_N == number) for number in range(count)]
    rows = [own if len(own) else np.arange(len(along_NK)) for own in rows]
    centre_GK = np.stack([along_NK[own].mean(0) for own in rows])
    n_G = np.array([len(own) for own in rows], np.float64)
    scatter_GKK = np.stack(
        [np.cov(along_NK[own].T, bias=True).reshape(directions, directions) for own in rows]
    )
    left_G = np.array([left_N[own].mean() for own in rows])
    known_G = n_G + SCATTER_WEIGHT * directions
    weight_G, wider_G = n_G / known_G, (1 + 1 / n_G) * known_G / np.maximum(known_G - directions - 1, 1)
    all_KK, all_left = np.average(scatter_GKK, 0, n_G), np.average(left_G, weights=n_G)
    whiten_GKK = np.empty_like(scatter_GKK)
    for number, weight in enumerate(weight_G):
        scatter_KK = weight * scatter_GKK[number] + (1 - weight) * all_KK
        variance_K, axes_KK = np.linalg.eigh(wider_G[number] * scatter_KK)
        whiten_GKK[number] = (axes_KK / np.sqrt(np.maximum(variance_K, narrow**2))).T
    left_G = weight_G * left_G + (1 - weight_G) * all_left
    outside_G = np.sqrt(np.maximum(wider_G * left_G, narrow**2))
    return centre_GK, whiten_GKK, outside_G


def _own_distance(distance_GN: Floats, class_N: ClassNumbers) -> Floats:
    """The distance from the spectrum's own class; from the nearest if it has none."""
    own_N = distance_GN[class_N, np.arange(distance_GN.shape[1])]
    return np.where(class_N < 0, distance_GN.min(0), own_N)


def _usual_by_class(distance_GN: Floats, class_N: ClassNumbers) -> Floats:
    """For each class the distance that 1 % of its spectra exceed, drawn towards that of all spectra."""
    own_N = _own_distance(distance_GN, class_N)
    finite_N = np.isfinite(own_N)
    own_N, class_N = own_N[finite_N], class_N[finite_N]
    if not len(own_N):
        return np.ones(len(distance_GN))
    order_N = np.argsort(own_N)
    usual_G = []
    for number in range(len(distance_GN)):
        weight_N = (class_N == number) + UNIT_WEIGHT / len(own_N)
        total_N = np.cumsum(weight_N[order_N])
        usual_G.append(np.interp(USUAL * total_N[-1], total_N, own_N[order_N]))
    return np.maximum(usual_G, NARROW)


def _usual(distance_N: Floats) -> float:
    """The distance that 1 % exceed."""
    finite_N = distance_N[np.isfinite(distance_N)]
    return max(float(np.quantile(finite_N, USUAL)), NARROW) if len(finite_N) else 1.0


def _square(array_NK: Floats) -> Floats:
    """Squared length of each row; without an array of squares it takes half the time."""
    return np.asarray(np.einsum("nk,nk->n", array_NK, array_NK))
