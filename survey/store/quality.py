"""How good a spectrum on the grid is: numbers for each spectrum, flags, and gates that flag or refuse.

Shapes: B spectra, G grid points, S points of a band.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from survey.spectrum import REASONS, Grid, Refused, Spectrum
from survey.store.flux_unit import SMALLEST
from survey.store.schema import Flag
from survey.store.settings import Gate, Gates

CH_BANDS = ((4200.0, 4400.0), (4425.0, 4520.0))
"""Angstrom: the CH G band and the continuum beside it, as in system 0."""

SNR_EVERY = 8
"""The median signal to noise is that of every so many points; that of all is the same within 2 %."""


@dataclass
class QualityNumbers:
    """Numbers for each spectrum [B]; `apply_gates` sets the flags, and the refusals by row.

    covered, good    points of the grid that are covered, and good ones among them
    snr              median signal to noise of the good points
    egp              index of the CH G band
    negative         good points with negative flux
    floored          good points where the continuum is too low
    outliers         good points with a normalised flux beyond the limits
    points           points of the grid
    """

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
    def empty(cls, size: int) -> Self:
        """Room for the numbers of so many spectra."""
        covered, good, snr, egp, negative, floored, outliers = np.full((7, size), np.nan)
        return cls(covered, good, snr, egp, negative, floored, outliers)

    def put(self, rows: list[int], batch: "QualityNumbers") -> None:
        """Put the numbers of a batch into these rows."""
        self.points = batch.points
        for field in fields(self)[:7]:
            getattr(self, field.name)[rows] = getattr(batch, field.name)

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
        """Number of good points that are no outliers and have a continuum."""
        return np.asarray(self.good - self.floored - self.outliers)

    def apply_gates(self, gates: Gates, has_velocity: Sequence[bool]) -> None:
        """Set flags and refusals."""
        self._refuse_empty()
        # name of the gate: value, sign (1 = the limit is the largest value), text
        tests = {
            "coverage": (self.coverage, -1, "of the grid is covered"),
            "bad_pixels": (self.bad_share, 1, "of the covered points are bad"),
            "few_pixels": (self.usable, -1, "good points"),
            "low_snr": (self.snr, -1, "is the signal to noise"),
            "outliers": (self.outliers / np.maximum(self.good, 1), 1, "of the good points are outliers"),
        }
        for name, (value, sign, text) in tests.items():
            gate: Gate = getattr(gates, name)
            if gate.limit is None:
                continue
            for row in np.flatnonzero(~(sign * value <= sign * gate.limit)).tolist():
                self.flags[row] |= Flag[name.upper()]
                if gate.then == "refuse" and row not in self.refused:
                    self.refused[row] = Refused(name, f"{value[row]:.4g} {text}, the gate is {gate.limit:g}")
        self.flags[~np.asarray(has_velocity, bool)] |= Flag.NO_VELOCITY
        self.flags[self.floored > 0] |= Flag.LOW_CONTINUUM
        self.flags[self.negative > 0.1 * self.good] |= Flag.NEGATIVE

    def _refuse_empty(self) -> None:
        """Refuse spectra without a good point, whatever the gates are."""
        for row in np.flatnonzero((self.good == 0) | (self.covered == 0)).tolist():
            if self.covered[row] == 0:
                self.refused[row] = Refused("coverage", "none of the grid is covered")
            else:
                self.refused[row] = Refused("no_good_pixel", REASONS["no_good_pixel"])


def why_no_good_pixel(spectrum: Spectrum, mask: np.ndarray | None, largest: float) -> str:
    """What leaves a spectrum without a good pixel; `largest` is the largest flux that counts."""
    flux, ivar = spectrum.flux.astype(np.float64), spectrum.ivar.astype(np.float64)
    finite = np.isfinite(flux)
    if not finite.any():
        return "no flux is finite"
    high = float(np.abs(flux[finite]).max())
    if (np.abs(flux[finite]) >= largest).all():
        return f"the flux is too large, up to {high:.3g}: give it in other units"
    if not flux[finite].any():
        return "all flux is 0"
    positive = finite & (ivar > 0) & np.isfinite(ivar)
    if not positive.any():
        return "no pixel has a positive, finite inverse variance"
    if mask is not None and not (positive & ~mask).any():
        return "the survey masks all pixels (prepare.masks=none ignores that)"
    limits, most = np.finfo(np.float32), ivar[positive].max()
    if high < SMALLEST:
        return f"the flux is too small, up to {high:.3g}: give it in other units"
    if (ivar[positive] > limits.max).all() or (ivar[positive] < limits.tiny).all():
        sizes = f"flux up to {high:.3g}, inverse variance up to {most:.3g}"
        return f"{sizes}: they do not fit to each other; correct their units"
    return REASONS["no_good_pixel"]


def measure_quality(
    flux_BG: Tensor, ivar_BG: Tensor, covered_B: np.ndarray, grid: Grid, *, compiled: bool = False
) -> QualityNumbers:
    """The numbers of flux and ivar on the grid, before normalisation."""
    if compiled:
        from survey.store.loops.measure import point_numbers

        points = point_numbers(flux_BG, ivar_BG, SNR_EVERY)
    else:
        points = _point_numbers(flux_BG, ivar_BG)
    values = (*points, ch_index(flux_BG, ivar_BG, grid))
    good, negative, snr, index = (value.double().cpu().numpy() for value in values)
    zeros = np.zeros(len(covered_B))
    return QualityNumbers(covered_B.astype(np.float64), good, snr, index, negative, zeros, zeros, len(grid))


def _point_numbers(flux_BG: Tensor, ivar_BG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Good points, negative ones among them, and the median signal to noise."""
    good_BG = ivar_BG.sign()
    snr_BS = flux_BG * ivar_BG.sqrt() / good_BG  # NaN where bad
    snr_B = snr_BS[:, ::SNR_EVERY].nanmedian(1).values.nan_to_num_(0.0)
    good_B = good_BG.sum(1)
    # a flux of exactly 0 counts half
    return good_B, (good_B - torch.linalg.vecdot(flux_BG.sign(), good_BG)) / 2, snr_B


def ch_index(flux_BG: Tensor, ivar_BG: Tensor, grid: Grid) -> Tensor:
    """The index of the CH G band of system 0: -2.5 log10 of the flux in 4200-4400 over that in 4425-4520
    angstrom; NaN where not covered."""
    sums = []
    for low, high in CH_BANDS:
        if not grid.wave[0] <= low < high <= grid.wave[-1]:
            return torch.full((len(flux_BG),), torch.nan)
        band = slice(*np.searchsorted(grid.wave, (low, high)))
        if band.stop - band.start < 2:
            return torch.full((len(flux_BG),), torch.nan)
        width_S = torch.from_numpy(np.gradient(grid.wave[band]).astype(np.float32)).to(flux_BG.device)
        weight_BS = ivar_BG[:, band].sign() * width_S
        share_B = weight_BS.sum(1) / width_S.sum()
        mean_B = torch.linalg.vecdot(flux_BG[:, band], weight_BS) / weight_BS.sum(1)
        sums.append(torch.where(share_B > 0.8, mean_B * (high - low), torch.nan))
    return -2.5 * torch.log10(sums[0] / sums[1])
