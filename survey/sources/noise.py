"""The noise of a spectrum whose file gives no errors, estimated from the flux itself.

A difference of high order removes the star and keeps the noise, because a line is some pixels wide and noise
is not. Half of all differences are smaller than their median; so single lines, spikes and edges do not
matter. The noise is estimated in blocks of wavelength, and straight lines join the blocks. Counts and
normalised spectra are treated alike.

Pixels that were resampled depend on each other. Then differences of neighbours are too small, by a factor of
3 for LAMOST spectra on a grid of 1 angstrom. It shows: differences of every second pixel are larger in nearly
all blocks, also in those without lines. Where this is so, every second or fourth pixel is used.

For computed spectra with a signal to noise of 5 to 200, most errors are below 20 %. Weak correlation is not
seen: for LAMOST's own pixels the noise is a third too small. Strong smoothing (splines) and fourfold sampling
at high signal to noise are not seen either. Where a cool star is all lines, the noise of a signal to noise
above 100 is too large. Errors of the survey are always better.
"""

from itertools import pairwise
from math import comb
from typing import Any

import numpy as np

from survey.spectrum import LogWave, Spectrum

ORDER = 8
"""The order of the differences. A fourth difference is 60 % wrong in cool stars of signal to noise 200."""
BLOCK = 300
"""Pixels of a block: enough for an error of 10 %."""
MOST_STRIDE = 4
CORRELATED = (1.35, 4.5)
"""By how much differences of every second pixel are larger, in nine of ten blocks, if pixels were resampled.
Independent pixels: up to 1.25; LAMOST spectra on a grid of 1 angstrom: 1.6 to 3.8; without noise: 5 to 10."""
MAX_SNR = 1000.0
"""The largest signal to noise that is assumed. Computed spectra without noise have it everywhere."""
ZEROS = 3
"""So many pixels of exactly 0 in succession were not measured."""


def without_errors(
    wave: LogWave | np.ndarray,
    flux: np.ndarray,
    bad: np.ndarray | None = None,
    suspect: np.ndarray | None = None,
    visit: dict[str, Any] | None = None,
) -> Spectrum:
    """A spectrum whose file gives no errors: the noise is estimated, and a flag of the store says so."""
    return Spectrum(wave, flux, estimate_ivar(flux), bad, suspect, visit or {}, noise_estimated=True)


def estimate_ivar(flux: np.ndarray) -> np.ndarray:
    """The inverse variance of each pixel; 0 where the flux is not finite or was not measured."""
    flux = np.asarray(flux, float)
    is_good = np.isfinite(flux) & ~_runs_of_zeros(flux)
    if not is_good.any():
        return np.zeros(len(flux))
    size = np.abs(flux[is_good])
    lowest = (float(np.median(size)) or float(size.mean())) / MAX_SNR
    with np.errstate(all="ignore"):  # damaged numbers; what is not finite gets no weight
        sigma = np.maximum(_standard_deviations(np.where(is_good, flux, np.nan), lowest), lowest)
        ivar = np.where(is_good, 1 / sigma**2, 0.0)
    return np.nan_to_num(ivar, nan=0.0, posinf=0.0)


def _standard_deviations(flux: np.ndarray, lowest: float) -> np.ndarray:
    """The standard deviation of the noise at each pixel. `lowest` is that of a spectrum without noise."""
    edges = np.linspace(0, len(flux), max(len(flux) // BLOCK, 1) + 1).round().astype(int)
    stride, levels = 1, _block_levels(flux, edges, 1)
    while stride < MOST_STRIDE and _quantile(levels, 0.5) > lowest:
        wider = _block_levels(flux, edges, 2 * stride)
        if not CORRELATED[0] < _quantile(wider / levels, 0.1) < CORRELATED[1]:
            break
        stride, levels = 2 * stride, wider
    known = np.isfinite(levels)
    if not known.any():  # hardly a pixel has good neighbours: the scatter of all pixels
        return np.full(len(flux), np.nanstd(flux))
    centres = (edges[:-1] + edges[1:] - 1) / 2
    return np.asarray(np.interp(np.arange(len(flux)), centres[known], levels[known]))


def _block_levels(flux: np.ndarray, edges: np.ndarray, stride: int) -> np.ndarray:
    """The standard deviation in each block, from differences of every `stride`-th pixel; NaN if unknown."""
    half = ORDER // 2 * stride
    differences = np.full(len(flux), np.nan)
    if len(flux) > 2 * half:
        inner = flux
        for _ in range(ORDER):
            inner = inner[stride:] - inner[:-stride]
        differences[half:-half] = np.abs(inner)
    scale = 1.4826 / comb(2 * ORDER, ORDER) ** 0.5  # 1.4826: from the median to the standard deviation
    medians = [_quantile(differences[start:stop], 0.5) for start, stop in pairwise(edges)]
    return np.asarray(np.array(medians) * scale)


def _quantile(values: np.ndarray, share: float) -> float:
    """The value below which this share of the finite numbers lies; NaN if there are none."""
    numbers = np.sort(values[np.isfinite(values)])
    return float(numbers[int(share * (len(numbers) - 1))]) if len(numbers) else np.nan


def _runs_of_zeros(flux: np.ndarray) -> np.ndarray:
    """The pixels in runs of at least `ZEROS` zeros, with which gaps and ends are filled."""
    is_zero: np.ndarray = flux == 0
    if is_zero.any():
        edges = np.flatnonzero(np.diff(np.concatenate(([0], is_zero.view(np.int8), [0]))))
        for start, stop in edges.reshape(-1, 2).tolist():
            is_zero[start:stop] = stop - start >= ZEROS
    return is_zero
