"""Spectra as their files give them -> spectra on the store's grid: rest frame, despiked, resampled, normalised, judged.

Everything is done on batches of 128 spectra by torch, on a CPU or a GPU alike; the numbers per spectrum do not depend on the batch. A bad
pixel has ivar 0 from the first step to the last, and flux 1 (the continuum) in what comes out.

Shapes: B spectra, W pixels of a window, P pixels, G grid points.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import hardshrink

from survey.settings import Settings
from survey.spectrum import GRIDS, Grid, LogWave, Spectrum
from survey.store import resample
from survey.store.continuum import Method, fitter, mean_good
from survey.store.quality import Gates, Judgement, judge

LIGHT = 299792.458
"""Speed of light, km/s."""
BATCH = 128
"""Spectra worked on together: more no longer saves overhead and falls out of the cache."""
LATTICES = 16
"""Steps of log-linear pixels whose look-ups are kept at hand: surveys have one or two."""
HUGE = 1e30
"""A flux beyond this is damage."""
SHARPEST = 1e12
"""No pixel has a signal to noise beyond the square root of this; larger ones are damage, and squares of them leave float32."""


class Prepare(Settings):
    """How spectra are brought onto the grid."""

    grid: str | dict[str, float | str] = Field(
        "cemp4900", description=f"{', '.join(GRIDS)}, or {{start, stop, step, scale: linear|log}}"
    )
    velocity: Literal["rv_or_z", "z", "none"] = Field(
        "rv_or_z", description="rest frame by the catalogue's rv, else z (rv_or_z); by z; or left"
    )
    masks: Literal["and", "or", "none"] = Field(
        "and", description="the survey's mask that makes pixels bad: set in all exposures, in any, not used"
    )
    despike: Literal["noise", "clip", "none"] = Field(
        "noise", description="spikes by their noise, by system 0's clip of 3 and 4 sigma, or kept"
    )
    resampling: Literal["linear", "conserving"] = Field(
        "linear", description="straight lines between pixels, or means that conserve flux"
    )
    continuum: Method = Field(
        "msfl", description="how the continuum is found; dual keeps it beside the normalised flux"
    )
    floor: float = Field(
        0.05, ge=0, lt=1, description="where the continuum is below this share of its mean, points are bad"
    )
    lowest: float = Field(-1.0, description="a normalised flux below this is an outlier: cut to it, and bad")
    highest: float = Field(4.0, description="a normalised flux above this is an outlier: cut to it, and bad")
    gates: Gates = Field(Gates(), description="limits of quality")

    @field_validator("grid")
    @classmethod
    def _known_grid(cls, value: str | dict[str, float | str]) -> str | dict[str, float | str]:
        _grid(value)
        return value

    def points(self) -> Grid:
        """The grid itself."""
        return _grid(self.grid)


def _grid(value: str | dict[str, float | str]) -> Grid:
    if isinstance(value, dict):
        try:
            return Grid(**value)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(
                f"a grid has start, stop, step and scale, not {', '.join(map(str, value))}"
            ) from None
    if value not in GRIDS:
        raise ValueError(
            f"there is no grid of this name; there are {', '.join(GRIDS)}, or give start, stop, step and scale"
        )
    return GRIDS[value]


@dataclass
class Prepared:
    """Spectra on the grid, in the order they came: arrays [B, G], the judgement of each, and the shift that was applied (None: none known)."""

    flux: np.ndarray
    ivar: np.ndarray
    continuum: np.ndarray | None
    scale: np.ndarray
    velocity: list[float | None]
    judgement: Judgement


class Preparer:
    """The preparation made ready once: grid, look-ups, continuum basis."""

    def __init__(self, settings: Prepare, device: torch.device | None = None, curves: bool = False) -> None:
        self.settings = settings
        self.curves = curves or settings.continuum == "dual"
        self.device = device or torch.device("cpu")
        self.grid = settings.points()
        self.fit = fitter(settings.continuum, self.grid, self.device)
        self.lattices: dict[float, resample.Lattice] = {}
        self.wave_G = torch.from_numpy(self.grid.wave).to(self.device)
        self.edges_E = resample.edges_of(self.wave_G)
        self.one = torch.ones((), device=self.device)

    @torch.inference_mode()
    def __call__(self, spectra: Sequence[Spectrum], velocities: Sequence[float | None]) -> Prepared:
        """All spectra prepared; a velocity (km/s) from a catalogue goes before the file's z."""
        shifts = [self._shift(*pair) for pair in zip(spectra, velocities, strict=True)]
        judged = Judgement.blank(len(spectra))
        parts = []
        for rows in self._batches(spectra):
            with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, which is damage
                flux_BG, ivar_BG, covered_B, unit_B1 = self._on_grid(
                    [spectra[i] for i in rows], [shifts[i] or 0.0 for i in rows]
                )
            part = judge(flux_BG, ivar_BG, covered_B, self.grid)
            flux_BG, ivar_BG, curve_BG, scale_B = self._normalised(flux_BG, ivar_BG, part)
            judged.put(rows, part)
            parts.append(
                (rows, (flux_BG, ivar_BG, scale_B * unit_B1[:, 0], *((curve_BG,) if self.curves else ())))
            )
        flux, ivar, scale, *curves = self._together(parts, len(spectra))
        known = [None if shift is None else shift * LIGHT for shift in shifts]
        judged.conclude(self.settings.gates, [velocity is not None for velocity in known])
        return Prepared(flux, ivar, curves[0] if curves else None, scale, known, judged)

    def _together(self, parts: list[tuple[list[int], tuple[Tensor, ...]]], size: int) -> list[np.ndarray]:
        """The arrays of all batches in the order of the spectra."""
        if len(parts) == 1:
            return [tensor.cpu().numpy() for tensor in parts[0][1]]
        whole = [
            np.empty((size, *width), np.float32)
            for width in [(len(self.grid),)] * 2 + [()] + [(len(self.grid),)] * self.curves
        ]
        for rows, tensors in parts:
            for array, tensor in zip(whole, tensors, strict=True):
                array[rows] = tensor.cpu().numpy()
        return whole

    def _shift(self, spectrum: Spectrum, velocity: float | None) -> float | None:
        """The z to divide out, or None where none is known or wanted."""
        if self.settings.velocity == "none":
            return None
        if self.settings.velocity == "rv_or_z" and velocity is not None and abs(velocity) < LIGHT / 3:
            return velocity / LIGHT
        z: float | None = spectrum.visit.get("z")
        return z if z is not None and -1 < z < math.inf else None

    def _batches(self, spectra: Sequence[Spectrum]) -> Iterator[list[int]]:
        """Row numbers of spectra of one kind of sampling, at most `BATCH` at a time."""
        kinds: dict[float, list[int]] = {}
        for row, spectrum in enumerate(spectra):
            kinds.setdefault(self._step(spectrum), []).append(row)
        for rows in kinds.values():
            yield from (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))

    def _on_grid(
        self, spectra: list[Spectrum], shifts: list[float]
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        """Flux and ivar at the grid points, how many points each spectrum covers, and the unit of its flux."""
        step = self._step(spectra[0])
        return self._by_lattice(spectra, shifts, step) if step else self._by_search(spectra, shifts)

    def _step(self, spectrum: Spectrum) -> float:
        """The step of the lattice that serves a spectrum; 0 where none does. Steps fitted to a file would need a lattice each."""
        if self.settings.resampling != "linear" or not isinstance(spectrum.wave, LogWave):
            return 0.0
        millionths = spectrum.wave.step * 1e6
        return spectrum.wave.step if abs(millionths - round(millionths)) < 1e-9 and millionths < 1e4 else 0.0

    def _by_lattice(
        self, spectra: list[Spectrum], shifts: list[float], step: float
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        lattice = self._lattice(step)
        flux_BW, ivar_BW = (np.zeros((len(spectra), lattice.width), np.float32) for _ in range(2))
        part_B, ends_B2 = np.empty(len(spectra), np.float32), np.empty((len(spectra), 2))
        for row, (spectrum, shift) in enumerate(zip(spectra, shifts, strict=True)):
            assert isinstance(spectrum.wave, LogWave)
            start = spectrum.wave.start - math.log10(1 + shift)
            column, part_B[row] = lattice.window(start)
            ends_B2[row] = start, start + step * (len(spectrum.wave) - 1)
            inside = slice(max(0, -column), min(len(spectrum.wave), lattice.width - column))
            if inside.start < inside.stop:
                self._lay(spectrum, inside, flux_BW[row], ivar_BW[row], column + inside.start)
        flux_BT, var_BT, unit_B1 = self._cleaned(flux_BW, ivar_BW)
        flux_BG, ivar_BG = lattice.linear(flux_BT, var_BT, torch.from_numpy(part_B).to(self.device))
        slack = np.array([-1, 1]) * resample.NEAR * step
        first_B, last_B = np.searchsorted(np.log10(self.grid.wave), (ends_B2 + slack).T)
        return flux_BG, ivar_BG, np.maximum(last_B - first_B, 0), unit_B1

    def _lattice(self, step: float) -> resample.Lattice:
        """The lattice of a step; only the last few are kept, for damaged files may each have a step of their own."""
        found = self.lattices.pop(step, None) or resample.Lattice(self.grid.wave, step, self.device)
        self.lattices[step] = found
        if len(self.lattices) > LATTICES:
            del self.lattices[next(iter(self.lattices))]
        return found

    def _by_search(
        self, spectra: list[Spectrum], shifts: list[float]
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        longest = max(len(spectrum.wave) for spectrum in spectra)
        flux_BP, ivar_BP = (np.zeros((len(spectra), longest), np.float32) for _ in range(2))
        wave_BP = np.empty((len(spectra), longest))
        for row, (spectrum, shift) in enumerate(zip(spectra, shifts, strict=True)):
            size = len(spectrum.wave)
            wave_BP[row, :size] = spectrum.angstrom / (1 + shift)
            step = wave_BP[row, size - 1] - wave_BP[row, size - 2]
            wave_BP[row, size:] = wave_BP[row, size - 1] + step * np.arange(
                1, longest - size + 1
            )  # the last pixel keeps its outer edge
            self._lay(spectrum, slice(0, size), flux_BP[row], ivar_BP[row], 0)
        flux_BT, var_BT, unit_B1 = self._cleaned(flux_BP, ivar_BP)
        wave_BT, size_B = (
            torch.from_numpy(wave_BP).to(self.device),
            torch.tensor([len(s.wave) for s in spectra], device=self.device),
        )
        if self.settings.resampling == "linear":
            at = resample.places(wave_BT, size_B, self.wave_G)
            flux_BG, ivar_BG = resample.linear(flux_BT, var_BT, at)
            return flux_BG, ivar_BG, at.covered_BG.sum(1).cpu().numpy(), unit_B1
        edge_BT = resample.edges_of(wave_BT)
        at = resample.places(edge_BT, size_B + 1, self.edges_E)
        flux_BG, ivar_BG = resample.conserving(flux_BT, var_BT, edge_BT.diff(dim=1), at)
        covered_B = (at.covered_BG[:, 1:] & at.covered_BG[:, :-1]).sum(1)
        return flux_BG, ivar_BG, covered_B.cpu().numpy(), unit_B1

    def _lay(
        self, spectrum: Spectrum, inside: slice, flux_P: np.ndarray, ivar_P: np.ndarray, column: int
    ) -> None:
        """Copy a stretch of a spectrum into a row, native float32, with ivar 0 under the survey's mask."""
        there = slice(column, column + inside.stop - inside.start)
        flux_P[there] = spectrum.flux[inside]
        ivar_P[there] = spectrum.ivar[inside]
        mask = {"and": spectrum.bad, "or": spectrum.suspect, "none": None}[self.settings.masks]
        if mask is not None:
            np.copyto(ivar_P[there], 0.0, where=mask[inside])

    def _cleaned(self, flux_BP: np.ndarray, ivar_BP: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Flux and variance without damage and spikes, in units [B, 1] of about the mean |flux|; a bad pixel has the variance `resample.FAR`.

        A unit is a power of two: dividing by it rounds nothing, so that a mean that differs in its last digit changes nothing.
        """
        flux_BT, ivar_BT = (
            torch.from_numpy(flux_BP).to(self.device),
            torch.from_numpy(ivar_BP).to(self.device),
        )
        ivar_BT.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).clamp_(min=0)
        good_BT = ivar_BT.sign()
        flux_BT.mul_(good_BT)
        mean_B1 = mean_good(flux_BT.abs(), good_BT)
        if not bool((mean_B1 < HUGE).all()):
            sound_BT = flux_BT.abs() < HUGE  # false for NaN
            ivar_BT *= sound_BT
            flux_BT = torch.where(sound_BT, flux_BT, 0.0)
            mean_B1 = mean_good(flux_BT.abs(), ivar_BT.sign())
        unit_B1 = torch.ldexp(torch.ones_like(mean_B1), torch.frexp(mean_B1).exponent)
        flux_BT.div_(unit_B1)
        ivar_BT.mul_(unit_B1 * mean_B1.sign()).mul_(unit_B1).clamp_(
            max=SHARPEST
        )  # a flux that is 0 everywhere was never measured
        if self.settings.despike != "none":
            flux_BT, ivar_BT = despiked(flux_BT, ivar_BT, self.settings.despike)
        return flux_BT, ivar_BT.clamp(min=1 / resample.FAR).reciprocal_(), unit_B1

    def _normalised(
        self, flux_BG: Tensor, ivar_BG: Tensor, part: Judgement
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised flux, its ivar, the continuum relative to its mean, and that mean; fills what the judgement says of the continuum."""
        curve_BG = self.fit(flux_BG, ivar_BG)
        scale_B1 = (
            curve_BG.abs().mean(1, keepdim=True).clamp_(min=1e-6)
        )  # of the mean |flux|; less is no continuum
        curve_BG = curve_BG * (1 / scale_B1)
        safe_BG = curve_BG.clamp(min=max(self.settings.floor, 1e-3))
        good_BG = ivar_BG.sign()
        counted_B = good_BG.sum(1)
        good_BG.mul_(1 - (safe_BG - curve_BG).sign_())
        high_B = good_BG.sum(1)
        below_BG = safe_BG.mul_(scale_B1)  # what the flux is divided by
        rate_BG = flux_BG / below_BG
        cut_BG = rate_BG.clamp(self.settings.lowest, self.settings.highest)
        good_BG.mul_(1 - rate_BG.sub_(cut_BG).abs_().sign_())
        part.floored, part.outliers = (
            (one - two).cpu().numpy() for one, two in ((counted_B, high_B), (high_B, good_BG.sum(1)))
        )
        ivar_BG = below_BG.square_().mul_(good_BG).mul_(ivar_BG)
        return torch.addcmul(self.one, cut_BG.sub_(1), ivar_BG.sign()), ivar_BG, curve_BG, scale_B1[:, 0]


def despiked(flux_BP: Tensor, ivar_BP: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Spikes put onto the median of three pixels and marked bad; a pixel beside a bad one is not tested.

    `noise`: pixels over 6 times the spread of (flux - median) / error above the median, so that cores of lines stay. `clip`: system 0's
    residual of over 4 sigma above or 3 below, by the spread of the plain residual.
    """
    left, here, right = flux_BP[:, :-2], flux_BP[:, 1:-1], flux_BP[:, 2:]
    median = torch.maximum(torch.minimum(left, here), torch.minimum(torch.maximum(left, here), right))
    rest = here - median
    sound_BP = ivar_BP.sign()
    good = sound_BP[:, :-2] * sound_BP[:, 1:-1] * sound_BP[:, 2:]
    test = rest.mul_(good).mul_(ivar_BP[:, 1:-1].sqrt()) if method == "noise" else rest.mul_(good)
    spread = (
        torch.linalg.vector_norm(test, dim=1, keepdim=True) / good.sum(1, keepdim=True).clamp_(min=1).sqrt()
    )
    test /= spread.clamp_(min=1.0 if method == "noise" else 1e-30)
    hit = (
        hardshrink(test.clamp_(min=0), 6.0).sign_()
        if method == "noise"
        else hardshrink(test - 0.5, 3.5).abs_().sign_()
    )
    flux_BP[:, 1:-1] = torch.lerp(here, median, hit)
    ivar_BP[:, 1:-1] *= 1 - hit
    return flux_BP, ivar_BP
