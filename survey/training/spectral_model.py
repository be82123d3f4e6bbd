"""What a star of some labels looks like: each pixel a polynomial in them, fitted to training spectra (cf. The Cannon, Ness et al. 2015).

Forwards, from labels to a spectrum, few stars teach much: lines change smoothly with what makes them. So it tells what becomes of a star whose
carbon is another, where rare stars are too few for a network to learn that from.

Shapes: N spectra, I labels that go in, K terms of the polynomial, P pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST = 128
"""Terms of a polynomial; the fit takes their square of memory for each pixel."""
FAR = 8.0
"""Labels beyond so many standard deviations are taken for those there."""
MODEL_ERROR = 0.01
"""No pixel counts more than one of this noise, of the continuum: polynomials are no better."""
RIDGE = 0.007
"""Strength that keeps terms small of which the spectra say little, as a share of these."""
PIXELS = 512
"""Pixels whose equations are solved together."""
LEAST, FACTORS = 0.05, (0.05, 3.0)
"""Flux below which lines are black; and by how much at most a spectrum is changed."""


@dataclass(frozen=True)
class Likeness:
    """The polynomials of all pixels, in labels less their mean over their standard deviation, and the range of each label in the spectra fitted."""

    powers: tuple[tuple[int, ...], ...]
    center_I: Tensor
    scale_I: Tensor
    low_I: Tensor
    high_I: Tensor
    weight_KP: Tensor

    @classmethod
    def fit(cls, label_NI: NDArray[np.float64], spectra: Iterable[tuple[Tensor, Tensor]], order: int) -> Self:
        """By least squares, weighted by each pixel's noise; `spectra` gives flux and ivar in the order of the labels, in whatever portions."""
        powers = terms(label_NI.shape[1], order)
        label = torch.from_numpy(label_NI)
        center_I, scale_I = label.mean(0), label.std(0).clamp_min(1e-9)
        upper = torch.triu_indices(len(powers), len(powers))
        at, squares_PS, sums_PK, total = 0, torch.zeros(()), torch.zeros(()), 0.0
        for flux_BP, ivar_BP in spectra:
            term_BK = _terms(label[at : at + len(flux_BP)], center_I, scale_I, powers).float()
            worth_BP = torch.where(ivar_BP > 0, 1 / (1 / ivar_BP.clamp_min(1e-12) + MODEL_ERROR**2), 0.0)
            squares_PS = squares_PS + (worth_BP.T @ (term_BK[:, upper[0]] * term_BK[:, upper[1]])).double()
            sums_PK = sums_PK + ((worth_BP * torch.where(ivar_BP > 0, flux_BP, 0.0)).T @ term_BK).double()
            total, at = total + float(worth_BP.double().sum()), at + len(flux_BP)
        mean = total / (at * len(squares_PS))
        small_K = (
            torch.tensor([1e-6 if not power else 1.0 for power in powers], dtype=torch.float64)
            * RIDGE
            * mean
            * at
        )
        solved = [
            _solved(*parts, upper, torch.diag(small_K))
            for parts in zip(torch.split(squares_PS, PIXELS), torch.split(sums_PK, PIXELS), strict=True)
        ]
        return cls(
            powers, center_I, scale_I, label.amin(0), label.amax(0), torch.cat(solved).T.float().contiguous()
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that is needed to make it again, beside its order."""
        return {name: getattr(self, name) for name in ("center_I", "scale_I", "low_I", "high_I", "weight_KP")}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], order: int) -> Self:
        """The one whose `tensors` these are."""
        return cls(terms(len(tensors["center_I"]), order), **tensors)

    def to(self, device: torch.device) -> Self:
        """The same, making spectra on a device; labels stay where they are."""
        return type(self)(
            self.powers, self.center_I, self.scale_I, self.low_I, self.high_I, self.weight_KP.to(device)
        )

    def __call__(self, label_NI: Tensor) -> Tensor:
        """The spectra of stars of these labels."""
        return _terms(label_NI, self.center_I, self.scale_I, self.powers).to(self.weight_KP) @ self.weight_KP

    def factors(self, before_NI: Tensor, after_NI: Tensor) -> Tensor:
        """What to multiply spectra of stars by whose labels become others."""
        return (self(after_NI).clamp_min(LEAST) / self(before_NI).clamp_min(LEAST)).clamp(*FACTORS)


def _solved(squares_PS: Tensor, sums_PK: Tensor, upper: Tensor, small_KK: Tensor) -> Tensor:
    """The weights of some pixels, from the sums of products of their terms, each pair once."""
    square_PKK = squares_PS.new_zeros((len(squares_PS), *small_KK.shape))
    square_PKK[:, upper[0], upper[1]] = squares_PS
    square_PKK[:, upper[1], upper[0]] = squares_PS
    found: Tensor = torch.linalg.solve(square_PKK + small_KK, sums_PK)
    return found


def terms(labels: int, order: int) -> tuple[tuple[int, ...], ...]:
    """The terms of a polynomial: which labels are multiplied in each, none in the constant."""
    every = chain.from_iterable(
        combinations_with_replacement(range(labels), power) for power in range(order + 1)
    )
    return tuple(every)


def _terms(
    label_NI: Tensor, center_I: Tensor, scale_I: Tensor, powers: tuple[tuple[int, ...], ...]
) -> Tensor:
    scaled_NI = ((label_NI - center_I) / scale_I).clamp(-FAR, FAR)
    columns = [scaled_NI.new_ones(len(scaled_NI))]
    by_power: dict[tuple[int, ...], Tensor] = {(): columns[0]}
    for power in powers[1:]:
        by_power[power] = by_power[power[:-1]] * scaled_NI[:, power[-1]]
        columns.append(by_power[power])
    return torch.stack(columns, 1)
