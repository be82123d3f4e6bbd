"""Blocks of wavelength, and what is measured over spectra and blocks -> rows of tables.

Shapes: B spectra, P pixels, T targets, K blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from survey.explain.features import FEATURES, elements, features_between, named
from survey.explain.responses import Floats

Flags = NDArray[np.bool_]

SNR_BINS = (0.0, 20.0, 40.0, np.inf)
LEAST = 5
"""A group of fewer spectra is left out."""
TIMES = 200
"""Bootstrap samples of an interval."""


@dataclass(frozen=True)
class Blocks:
    """Neighbouring blocks of the grid: their pixels, and the wavelengths at both ends (angstrom)."""

    block_P: NDArray[np.int64]
    low_K: Floats
    high_K: Floats

    @classmethod
    def cut(cls, wave_P: Floats, count: int) -> "Blocks":
        """At most so many blocks, equal in log wavelength; those without a pixel are left out."""
        edges = np.geomspace(wave_P[0], wave_P[-1] * (1 + 1e-12), count + 1)
        number_P = np.clip(np.searchsorted(edges, wave_P, side="right") - 1, 0, count - 1)
        used, block_P = np.unique(number_P, return_inverse=True)
        return cls(block_P, edges[used], edges[used + 1])

    def __len__(self) -> int:
        return len(self.low_K)

    def masks(self) -> list[Flags]:
        """The pixels of each block."""
        return [self.block_P == number for number in range(len(self))]

    def of(self, chosen: NDArray[np.int64]) -> Flags:
        """The pixels of some blocks together."""
        return np.isin(self.block_P, chosen)

    def sums(self, value_BTP: Floats) -> Floats:
        """The sums over the pixels of each block (B, T, K)."""
        starts = np.flatnonzero(np.diff(self.block_P, prepend=-1))
        return np.asarray(np.add.reduceat(value_BTP, starts, axis=2))

    def names(self) -> list[str]:
        """The features in each block, for a table."""
        return [named(features_between(low, high)) for low, high in zip(self.low_K, self.high_K, strict=True)]


def element_masks(wave_P: Floats) -> dict[str, Flags]:
    """The pixels of all features of each element; elements outside the grid are left out."""
    masks = {}
    for element in elements():
        windows = [(feature.low, feature.high) for feature in FEATURES if feature.element == element]
        pixels_P = np.any([(wave_P >= low) & (wave_P <= high) for low, high in windows], axis=0)
        if pixels_P.any():
            masks[element] = pixels_P
    return masks


def groups(class_B: NDArray[np.object_], snr_B: Floats) -> dict[str, Flags]:
    """All spectra, those of each class, and those of each range of signal to noise."""
    found = {"all": np.ones(len(snr_B), bool)}
    for name in sorted({str(name) for name in class_B if name}):
        found[name] = class_B == name
    for low, high in pairwise(SNR_BINS):
        text = f"S/N above {low:.0f}" if np.isinf(high) else f"S/N {low:.0f} to {high:.0f}"
        found[text] = (snr_B >= low) & (snr_B < high)
    return {name: chosen_B for name, chosen_B in found.items() if chosen_B.sum() >= LEAST}


def shares(size_K: Floats) -> Floats:
    """Importances as shares of their sum; 0 if all are 0."""
    total = size_K.sum()
    return size_K / total if total > 0 else np.zeros_like(size_K)


def importance_rows(
    method: str,
    change_BTK: Floats,
    blocks: Blocks,
    columns: list[str],
    chosen: Mapping[str, Flags],
) -> list[dict[str, object]]:
    """A row for each target, group and block: mean size and mean of the change, and the share of the size."""
    names, rows = blocks.names(), []
    for group, chosen_B in chosen.items():
        size_TK = np.abs(change_BTK[chosen_B]).mean(0)
        mean_TK = change_BTK[chosen_B].mean(0)
        for target, column in enumerate(columns):
            share_K = shares(size_TK[target])
            rows += [
                {
                    "method": method,
                    "target": column,
                    "group": group,
                    "spectra": int(chosen_B.sum()),
                    "block": block,
                    "low": float(blocks.low_K[block]),
                    "high": float(blocks.high_K[block]),
                    "features": names[block],
                    "size": float(size_TK[target, block]),
                    "change": float(mean_TK[target, block]),
                    "share": float(share_K[block]),
                }
                for block in range(len(blocks))
            ]
    return rows


def ratio_interval(first_B: Floats, other_B: Floats, seed: int) -> tuple[float, float, float]:
    """The ratio of two means over the same spectra, with its 95 % interval by the bootstrap.

    Infinite if the other mean is 0, NaN if both are.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(first_B), (TIMES, len(first_B)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = first_B[drawn].mean(1) / other_B[drawn].mean(1)
        value = float(np.float64(first_B.mean()) / other_B.mean())
    if np.isnan(ratios).all():
        return value, np.nan, np.nan
    low, high = np.nanquantile(ratios, [0.025, 0.975], method="inverted_cdf")  # also of infinite ones
    return value, float(low), float(high)
