"""Spectra as their files give them -> spectra on the store's grid.

They are shifted to the rest frame, cleaned of spikes, resampled, normalised, and their quality is measured.
Everything is done by torch in batches of 128 spectra; on a CPU, the slowest steps are compiled loops (loops/)
instead. There, the numbers of a spectrum do not depend on its batch, but for a spline (5e-6). A bad pixel has
ivar 0 from the first step to the last, and flux 1 (the continuum) in the result.

Shapes: B spectra, W pixels of a window, P pixels, G grid points.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from survey.spectrum import LogWave, Refused, Spectrum
from survey.store import resample
from survey.store.continuum import good_mean, make_fit
from survey.store.flux_unit import LARGEST, in_usual_units
from survey.store.index_meter import IndexMeter
from survey.store.indices import INDICES
from survey.store.quality import QualityNumbers, measure_quality, why_no_good_pixel
from survey.store.settings import Prepare

SPEED_OF_LIGHT = 299792.458
"""km/s."""
BATCH = 128
"""Spectra in one batch. More do not save any overhead, and do not fit into the cache."""
MAX_LATTICES = 16
"""Steps of log-linear pixels whose look-up tables are kept. Surveys have one or two steps."""
MAX_FLUX = LARGEST
"""A larger flux is damage."""
MAX_IVAR = 1e12
"""In units of the mean flux: no pixel has a signal to noise above 1e6. Larger values are damage, and their
squares exceed float32."""


@dataclass
class PreparedSpectra:
    """Spectra on the grid, in their order: arrays [B, G] and the quality of each.

    `scale` is the mean of the continuum, `velocity` the shift that was applied, in km/s; None = not known.
    `indices` are those of lines and bands, NaN where not known.
    """

    flux: np.ndarray
    ivar: np.ndarray
    continuum: np.ndarray | None
    scale: np.ndarray
    velocity: list[float | None]
    quality: QualityNumbers
    indices: dict[str, np.ndarray]


class Preparer:
    """Prepares spectra with fixed settings.

    `curves` keeps the continuum in any case. `compiled=False` does everything by torch on a CPU too.
    """

    def __init__(
        self,
        settings: Prepare,
        device: torch.device | None = None,
        *,
        curves: bool = False,
        compiled: bool = True,
    ) -> None:
        self.settings = settings
        self.curves = curves or settings.continuum == "dual"
        self.device = device or torch.device("cpu")
        self.grid = settings.wavelengths()
        self.compiled = compiled and self.device.type == "cpu"
        self.fit = make_fit(settings.continuum, self.grid, self.device, compiled=self.compiled)
        self.lattices: dict[float, resample.Lattice] = {}
        self.wave_G = torch.from_numpy(self.grid.wave).to(self.device)
        self.edges_E = resample.edges_of(self.wave_G)
        self.index_meter = IndexMeter(self.grid, self.device, compiled=self.compiled)
        self.one = torch.ones((), device=self.device)

    @torch.inference_mode()
    def __call__(self, spectra: Sequence[Spectrum], velocities: Sequence[float | None]) -> PreparedSpectra:
        """Prepare spectra. The velocity of a catalogue (km/s) is preferred to the z of the file."""
        shifts = [self._shift(*pair) for pair in zip(spectra, velocities, strict=True)]
        quality = QualityNumbers.empty(len(spectra))
        indices = {name: np.full(len(spectra), np.nan, np.float32) for name in INDICES}
        batches = []
        usual, units = zip(*map(in_usual_units, spectra), strict=True) if spectra else ((), ())
        for rows in self._batches(spectra):
            with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, which is damage
                flux_BG, ivar_BG, covered_B, unit_B1 = self._on_grid(
                    [usual[row] for row in rows], [shifts[row] or 0.0 for row in rows]
                )
            numbers = measure_quality(flux_BG, ivar_BG, covered_B, self.grid, compiled=self.compiled)
            for name, values in self.index_meter(flux_BG, ivar_BG).items():
                indices[name][rows] = values
            flux_BG, ivar_BG, curve_BG, scale_B = self._normalise(flux_BG, ivar_BG, numbers)
            quality.put(rows, numbers)
            curve = (curve_BG,) if self.curves else ()
            batches.append((rows, (flux_BG, ivar_BG, scale_B * unit_B1[:, 0], *curve)))
        flux, ivar, scale, *curves = self._join(batches, len(spectra))
        velocity = [None if shift is None else shift * SPEED_OF_LIGHT for shift in shifts]
        not_wanted = self.settings.velocity == "none"
        quality.apply_gates(self.settings.gates, [not_wanted or value is not None for value in velocity])
        for row, refusal in quality.refused.items():
            if refusal.reason == "no_good_pixel":
                spectrum = spectra[row]
                why = why_no_good_pixel(spectrum, self._mask(spectrum), MAX_FLUX)
                quality.refused[row] = Refused(refusal.reason, why)
        continuum = curves[0] if curves else None
        scale = scale * np.array(units, np.float32)
        return PreparedSpectra(flux, ivar, continuum, scale, velocity, quality, indices)

    def _join(self, batches: list[tuple[list[int], tuple[Tensor, ...]]], size: int) -> list[np.ndarray]:
        """The arrays of all batches in the order of the spectra."""
        if len(batches) == 1:
            return [tensor.cpu().numpy() for tensor in batches[0][1]]
        points = (len(self.grid),)
        # flux, ivar, scale, continuum
        widths: list[tuple[int, ...]] = [points, points, (), *[points] * self.curves]
        arrays = [np.empty((size, *width), np.float32) for width in widths]
        for rows, tensors in batches:
            for array, tensor in zip(arrays, tensors, strict=True):
                array[rows] = tensor.cpu().numpy()
        return arrays

    def _shift(self, spectrum: Spectrum, velocity: float | None) -> float | None:
        """The redshift to divide out; None if it is not known or not wanted."""
        if self.settings.velocity in ("rest", "none"):
            return 0.0 if self.settings.velocity == "rest" else None
        if (
            self.settings.velocity == "rv_or_z"
            and velocity is not None
            and abs(velocity) < SPEED_OF_LIGHT / 3
        ):
            return velocity / SPEED_OF_LIGHT
        z: float | None = spectrum.visit.get("z")
        return z if z is not None and -1 < z < math.inf else None

    def _batches(self, spectra: Sequence[Spectrum]) -> Iterator[list[int]]:
        """The rows of spectra of one kind of sampling, at most `BATCH` at a time."""
        rows_by_step: dict[float, list[int]] = {}
        for row, spectrum in enumerate(spectra):
            rows_by_step.setdefault(self._step(spectrum), []).append(row)
        for rows in rows_by_step.values():
            yield from (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))

    def _on_grid(
        self, spectra: list[Spectrum], shifts: list[float]
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        """Flux and ivar at the grid points, the number of covered points, and the unit of the flux."""
        step = self._step(spectra[0])
        return self._by_lattice(spectra, shifts, step) if step else self._by_search(spectra, shifts)

    def _step(self, spectrum: Spectrum) -> float:
        """The step of the lattice for a spectrum; 0 if there is none.

        A step that was fitted to a single file would need its own lattice.
        """
        if self.settings.resampling != "linear" or not isinstance(spectrum.wave, LogWave):
            return 0.0
        millionths = spectrum.wave.step * 1e6
        return spectrum.wave.step if abs(millionths - round(millionths)) < 1e-9 and millionths < 1e4 else 0.0

    def _by_lattice(
        self, spectra: list[Spectrum], shifts: list[float], step: float
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        lattice = self._lattice(step)
        flux_BW, ivar_BW = (np.zeros((len(spectra), lattice.width), np.float32) for _ in range(2))
        offset_B, ends_B2 = np.empty(len(spectra), np.float32), np.empty((len(spectra), 2))
        for row, (spectrum, shift) in enumerate(zip(spectra, shifts, strict=True)):
            assert isinstance(spectrum.wave, LogWave)
            start = spectrum.wave.start - math.log10(1 + shift)
            column, offset_B[row] = lattice.locate(start)
            ends_B2[row] = start, start + step * (len(spectrum.wave) - 1)
            inside = slice(max(0, -column), min(len(spectrum.wave), lattice.width - column))
            if inside.start < inside.stop:
                self._copy(spectrum, inside, flux_BW[row], ivar_BW[row], column + inside.start)
        if self.compiled:
            from survey.store.loops.to_grid import to_grid

            limits, despiking = (MAX_FLUX, MAX_IVAR), self.settings.despike
            flux_BG, ivar_BG, unit_B1 = to_grid(flux_BW, ivar_BW, lattice, offset_B, despiking, limits)
        else:
            flux_BT, var_BT, unit_B1 = self._clean(flux_BW, ivar_BW)
            flux_BG, ivar_BG = lattice.linear(flux_BT, var_BT, torch.from_numpy(offset_B).to(self.device))
        slack = np.array([-1, 1]) * resample.NEAR * step
        first_B, last_B = np.searchsorted(np.log10(self.grid.wave), (ends_B2 + slack).T)
        return flux_BG, ivar_BG, np.maximum(last_B - first_B, 0), unit_B1

    def _lattice(self, step: float) -> resample.Lattice:
        """The lattice of a step. Only the last ones are kept: each damaged file may have its own step."""
        lattice = self.lattices.pop(step, None) or resample.Lattice(self.grid.wave, step, self.device)
        self.lattices[step] = lattice
        if len(self.lattices) > MAX_LATTICES:
            del self.lattices[next(iter(self.lattices))]
        return lattice

    def _by_search(
        self, spectra: list[Spectrum], shifts: list[float]
    ) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
        longest = max(len(spectrum.wave) for spectrum in spectra)
        flux_BP, ivar_BP = (np.zeros((len(spectra), longest), np.float32) for _ in range(2))
        wave_BP = np.empty((len(spectra), longest))
        for row, (spectrum, shift) in enumerate(zip(spectra, shifts, strict=True)):
            size = len(spectrum.wave)
            wave_BP[row, :size] = spectrum.angstrom / (1 + shift)
            # padding continues the last step, so that the last pixel keeps its outer edge
            step = wave_BP[row, size - 1] - wave_BP[row, size - 2]
            wave_BP[row, size:] = wave_BP[row, size - 1] + step * np.arange(1, longest - size + 1)
            self._copy(spectrum, slice(0, size), flux_BP[row], ivar_BP[row], 0)
        flux_BT, var_BT, unit_B1 = self._clean(flux_BP, ivar_BP)
        wave_BT = torch.from_numpy(wave_BP).to(self.device)
        size_B = torch.tensor([len(spectrum.wave) for spectrum in spectra], device=self.device)
        if self.settings.resampling == "linear":
            positions = resample.find_positions(wave_BT, size_B, self.wave_G)
            flux_BG, ivar_BG = resample.linear(flux_BT, var_BT, positions)
            return flux_BG, ivar_BG, positions.covered_BG.sum(1).cpu().numpy(), unit_B1
        edge_BT = resample.edges_of(wave_BT)
        edges = resample.find_positions(edge_BT, size_B + 1, self.edges_E)
        flux_BG, ivar_BG = resample.conserving(flux_BT, var_BT, edge_BT.diff(dim=1), edges)
        covered_B = (edges.covered_BG[:, 1:] & edges.covered_BG[:, :-1]).sum(1)
        return flux_BG, ivar_BG, covered_B.cpu().numpy(), unit_B1

    def _mask(self, spectrum: Spectrum) -> np.ndarray | None:
        """The pixels that the survey masks, by the mask of the settings."""
        return {"and": spectrum.bad, "or": spectrum.suspect, "none": None}[self.settings.masks]

    def _copy(
        self, spectrum: Spectrum, inside: slice, flux_P: np.ndarray, ivar_P: np.ndarray, column: int
    ) -> None:
        """Copy these pixels into a row, as native float32, with ivar 0 under the survey's mask."""
        target = slice(column, column + inside.stop - inside.start)
        flux_P[target] = spectrum.flux[inside]
        ivar_P[target] = spectrum.ivar[inside]
        mask = self._mask(spectrum)
        if mask is not None:
            np.copyto(ivar_P[target], 0.0, where=mask[inside])

    def _clean(self, flux_BP: np.ndarray, ivar_BP: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Flux and variance without damage and spikes, in units [B, 1] of about the mean |flux|.

        A bad pixel has the variance `resample.FAR`. A unit is a power of two: dividing by it rounds nothing,
        so a mean that differs in its last digit changes nothing.
        """
        flux_BT = torch.from_numpy(flux_BP).to(self.device)
        ivar_BT = torch.from_numpy(ivar_BP).to(self.device)
        ivar_BT.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).clamp_(min=0)
        good_BT = ivar_BT.sign()
        flux_BT.mul_(good_BT)
        mean_B1 = good_mean(flux_BT.abs(), good_BT)
        if not bool((mean_B1 < MAX_FLUX / flux_BT.shape[1]).all()):  # else no flux can be that large
            sound_BT = flux_BT.abs() < MAX_FLUX  # false for NaN
            ivar_BT *= sound_BT
            flux_BT = torch.where(sound_BT, flux_BT, 0.0)
            mean_B1 = good_mean(flux_BT.abs(), ivar_BT.sign())
        unit_B1 = torch.ldexp(torch.ones_like(mean_B1), torch.frexp(mean_B1).exponent)
        flux_BT.div_(unit_B1)
        # a flux that is 0 everywhere was never measured: its ivar becomes 0
        ivar_BT.mul_(unit_B1 * mean_B1.sign()).mul_(unit_B1).clamp_(max=MAX_IVAR)
        if self.settings.despike != "none":
            flux_BT, ivar_BT = despike(flux_BT, ivar_BT, self.settings.despike)
        return flux_BT, ivar_BT.clamp(min=1 / resample.FAR).reciprocal_(), unit_B1

    def _normalise(
        self, flux_BG: Tensor, ivar_BG: Tensor, quality: QualityNumbers
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised flux, its ivar, the continuum relative to its mean, and that mean.

        Sets the numbers of quality that depend on the continuum.
        """
        curve_BG = self.fit(flux_BG, ivar_BG)
        floor, lowest, highest = max(self.settings.floor, 1e-3), self.settings.lowest, self.settings.highest
        if self.compiled:
            from survey.store.loops.normalise import normalise

            curve_BG = curve_BG.contiguous()
            scale_B, counts_B2 = normalise(flux_BG, ivar_BG, curve_BG, (floor, lowest, highest))
            quality.floored, quality.outliers = counts_B2.T
            return flux_BG, ivar_BG, curve_BG, scale_B
        # relative to the mean |flux|: less than 1e-6 is no continuum
        scale_B1 = curve_BG.abs().mean(1, keepdim=True).clamp_(min=1e-6)
        curve_BG = curve_BG * (1 / scale_B1)
        safe_BG = curve_BG.clamp(min=floor)
        good_BG = ivar_BG.sign()
        good_B = good_BG.sum(1)
        good_BG.mul_(1 - (safe_BG - curve_BG).sign_())
        above_floor_B = good_BG.sum(1)
        divisor_BG = safe_BG.mul_(scale_B1)
        ratio_BG = flux_BG / divisor_BG
        limited_BG = ratio_BG.clamp(lowest, highest)
        good_BG.mul_(1 - ratio_BG.sub_(limited_BG).abs_().sign_())
        quality.floored = (good_B - above_floor_B).cpu().numpy()
        quality.outliers = (above_floor_B - good_BG.sum(1)).cpu().numpy()
        ivar_BG = divisor_BG.square_().mul_(good_BG).mul_(ivar_BG)
        flux_BG = torch.addcmul(self.one, limited_BG.sub_(1), ivar_BG.sign())
        return flux_BG, ivar_BG, curve_BG, scale_B1[:, 0]


def despike(flux_BP: Tensor, ivar_BP: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Set spikes to the median of three pixels and mark them bad. A pixel beside a bad one is not tested.

    `noise`: pixels more than 6 times the spread of (flux - median) / error above the median, so that cores of
    lines stay. `clip`: system 0's residual of more than 4 sigma above or 3 below, by the spread of the plain
    residual.
    """
    left, here, right = flux_BP[:, :-2], flux_BP[:, 1:-1], flux_BP[:, 2:]
    median = torch.maximum(torch.minimum(left, here), torch.minimum(torch.maximum(left, here), right))
    residual = here - median
    good_BP = ivar_BP.sign()
    good = good_BP[:, :-2] * good_BP[:, 1:-1] * good_BP[:, 2:]
    test = residual.mul_(good)
    if method == "noise":
        test = test.mul_(ivar_BP[:, 1:-1].sqrt())
    count = good.sum(1, keepdim=True).clamp_(min=1)
    spread = torch.linalg.vector_norm(test, dim=1, keepdim=True) / count.sqrt()
    test /= spread.clamp_(min=1.0 if method == "noise" else 1e-30)
    if method == "noise":
        is_spike = hardshrink(test.clamp_(min=0), 6.0).sign_()
    else:
        is_spike = hardshrink(test - 0.5, 3.5).abs_().sign_()
    flux_BP[:, 1:-1] = torch.lerp(here, median, is_spike)
    ivar_BP[:, 1:-1] *= 1 - is_spike
    return flux_BP, ivar_BP
