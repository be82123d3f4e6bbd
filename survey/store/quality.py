"""How good a spectrum on the grid is: numbers for each, flags as documented bits, and gates that flag or refuse.

Shapes: B spectra, G grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from survey.settings import Settings
from survey.spectrum import REASONS, Grid, Refused


class Flag(IntFlag):
    """Bits of a store's `flags`; `MEANINGS` tells what each says."""

    COVERAGE = 1
    BAD_PIXELS = 2
    FEW_PIXELS = 4
    LOW_SNR = 8
    OUTLIERS = 16
    NO_VELOCITY = 32
    LOW_CONTINUUM = 64
    NEGATIVE = 128
    NO_OBSID = 256
    FIBER = 512


MEANINGS = {
    Flag.COVERAGE: "less of the grid is covered than the gate wants",
    Flag.BAD_PIXELS: "a larger share of the covered points is bad than the gate wants",
    Flag.FEW_PIXELS: "fewer good points than the gate wants",
    Flag.LOW_SNR: "a lower signal to noise than the gate wants",
    Flag.OUTLIERS: "a larger share of outlying points than the gate wants",
    Flag.NO_VELOCITY: "neither rv nor z is known: not in the rest frame",
    Flag.LOW_CONTINUUM: "the continuum comes near or below 0 somewhere; these points are bad",
    Flag.NEGATIVE: "more than a tenth of the good points have negative flux",
    Flag.NO_OBSID: "the survey's number of the observation is missing or broken",
    Flag.FIBER: "the survey's own mask of the fibre is not 0",
}


class Gate(Settings):
    """One limit and what happens beyond it; a limit of null is no gate."""

    limit: float | None = Field(None, description="the limit; null = no gate")
    then: Literal["flag", "refuse"] = Field("flag", description="beyond it: flag the spectrum, or refuse it")


class Gates(Settings):
    """The gates of quality."""

    coverage: Gate = Field(
        Gate(limit=0.9, then="refuse"), description="least share of the grid that is covered"
    )
    bad_pixels: Gate = Field(Gate(limit=0.3), description="largest share of covered points that are bad")
    few_pixels: Gate = Field(Gate(limit=100, then="refuse"), description="fewest good points")
    low_snr: Gate = Field(Gate(limit=3.0), description="least signal to noise (median per point)")
    outliers: Gate = Field(Gate(limit=0.1), description="largest share of good points that are outliers")


@dataclass
class Judgement:
    """Numbers for each spectrum [B], its flags, and the refusals by row."""

    covered: np.ndarray
    good: np.ndarray
    snr: np.ndarray
    egp: np.ndarray
    negative: np.ndarray
    floored: np.ndarray
    outliers: np.ndarray
    points: int = 0

    def __post_init__(self) -> None:
        self.flags = np.zeros(len(self.covered), np.int32)
        self.refused: dict[int, Refused] = {}

    @classmethod
    def blank(cls, size: int) -> Self:
        """Room for so many."""
        covered, good, snr, egp, negative, floored, outliers = np.full((7, size), np.nan)
        return cls(covered, good, snr, egp, negative, floored, outliers)

    def put(self, rows: list[int], part: "Judgement") -> None:
        """The numbers of a batch into these rows."""
        self.points = part.points
        for field in fields(self)[:7]:
            getattr(self, field.name)[rows] = getattr(part, field.name)

    @property
    def coverage(self) -> np.ndarray:
        """Share of the grid that is covered."""
        return np.asarray(self.covered / max(self.points, 1))

    @property
    def bad_share(self) -> np.ndarray:
        """Share of covered points that are bad."""
        return np.asarray(1 - self.good / np.maximum(self.covered, 1))

    @property
    def usable(self) -> np.ndarray:
        """Number of good points that are neither cut nor on too low a continuum."""
        return np.asarray(self.good - self.floored - self.outliers)

    def conclude(self, gates: Gates, moved: Sequence[bool]) -> None:
        """Set flags and refusals from the numbers."""
        tests = {
            "coverage": (self.coverage, -1, "of the grid is covered"),
            "bad_pixels": (self.bad_share, 1, "of the covered points are bad"),
            "few_pixels": (self.usable, -1, "good points"),
            "low_snr": (self.snr, -1, "is the signal to noise"),
            "outliers": (self.outliers / np.maximum(self.good, 1), 1, "of the good points are outliers"),
        }
        for row in np.flatnonzero((self.good == 0) | (self.covered == 0)):
            reason = "coverage" if self.covered[row] == 0 else "no_good_pixel"
            self.refused[int(row)] = Refused(
                reason, "none of the grid is covered" if reason == "coverage" else REASONS[reason]
            )
        for name, (value, sign, words) in tests.items():
            gate: Gate = getattr(gates, name)
            if gate.limit is None:
                continue
            for row in np.flatnonzero(~(sign * value <= sign * gate.limit)):
                self.flags[row] |= Flag[name.upper()]
                if gate.then == "refuse" and int(row) not in self.refused:
                    self.refused[int(row)] = Refused(
                        name, f"{value[row]:.4g} {words}, the gate is {gate.limit:g}"
                    )
        self.flags[~np.asarray(moved, bool)] |= Flag.NO_VELOCITY
        self.flags[self.floored > 0] |= Flag.LOW_CONTINUUM
        self.flags[self.negative > 0.1 * self.good] |= Flag.NEGATIVE


def judge(flux_BG: Tensor, ivar_BG: Tensor, covered_B: np.ndarray, grid: Grid) -> Judgement:
    """The numbers that flux and ivar on the grid give, before normalisation."""
    good_BG = ivar_BG.sign()
    few_BS = (
        flux_BG[:, ::8] * ivar_BG[:, ::8].sqrt() / good_BG[:, ::8]
    )  # every eighth point: the same median within 2 %, NaN where bad
    snr_B = few_BS.nanmedian(1).values.nan_to_num_(0.0)
    good_B = good_BG.sum(1)
    negative_B = (
        good_B - torch.linalg.vecdot(flux_BG.sign(), good_BG)
    ) / 2  # a flux of exactly 0 counts half
    values = (good_B, snr_B, egp(flux_BG, good_BG, grid), negative_B)
    good, snr, index, negative = (value.double().cpu().numpy() for value in values)
    nothing = np.zeros(len(covered_B))
    return Judgement(covered_B.astype(np.float64), good, snr, index, negative, nothing, nothing, len(grid))


def egp(flux_BG: Tensor, good_BG: Tensor, grid: Grid) -> Tensor:
    """System 0's index of the G band: -2.5 log10 of the flux in 4200-4400 over that in 4425-4520 angstrom; NaN where not covered."""
    sums = []
    for low, high in ((4200.0, 4400.0), (4425.0, 4520.0)):
        if not grid.wave[0] <= low < high <= grid.wave[-1]:
            return torch.full((len(flux_BG),), torch.nan)
        part = slice(*np.searchsorted(grid.wave, (low, high)))
        if part.stop - part.start < 2:
            return torch.full((len(flux_BG),), torch.nan)
        width_S = torch.from_numpy(np.gradient(grid.wave[part]).astype(np.float32)).to(flux_BG.device)
        weight_BS = good_BG[:, part] * width_S
        share_B = weight_BS.sum(1) / width_S.sum()
        mean_B = torch.linalg.vecdot(flux_BG[:, part], weight_BS) / weight_BS.sum(1)
        sums.append(torch.where(share_B > 0.8, mean_B * (high - low), torch.nan))
    return -2.5 * torch.log10(sums[0] / sums[1])
