"""Distortions of spectra, one function each: noise, wrong continua, errors of the velocity, gaps.

Each function gets the spectra to change, random numbers by row, and its strengths, and returns new spectra.
It may leave anything in bad pixels: `survey.training.augment` sets them back to ivar 0 and flux 1. Variances
are propagated: the new ivar is that of a spectrum with the new noise.

Flux is relative to the continuum; flux * continuum is what was measured. A distortion of the flux that is
smooth in wavelength (`scaling`, `drift`) is a continuum in the wrong place, so the continuum, if there is
one, is divided by the same curve and keeps its mean of 1. A shift moves the continuum too; all others leave
it alone.

Shapes: B spectra, P pixels, K functions, W pixels of a window.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from survey.training.batches import Spectra

MAX_SD = 1.0
"""The largest standard deviation of added noise: noisier pixels hold no information any more."""


@dataclass(frozen=True)
class Draws:
    """Random numbers for the chosen rows of a batch that several workers share.

    They are drawn for all `rows`, on every worker; the rows `local` are used on this one. `like` gives type
    and device.
    """

    generator: torch.Generator
    rows: int
    local: slice
    like: Tensor

    def uniform(self, width: int = 1) -> Tensor:
        """Numbers between 0 and 1, (B, width)."""
        return self._local(
            torch.rand((self.rows, width), generator=self.generator, device=self.generator.device)
        )

    def normal(self, width: int = 1) -> Tensor:
        """Numbers of mean 0 and standard deviation 1, (B, width)."""
        return self._local(
            torch.randn((self.rows, width), generator=self.generator, device=self.generator.device)
        )

    def sign(self) -> Tensor:
        """Numbers between -1 and 1, (B, 1)."""
        return 2 * self.uniform() - 1

    def _local(self, drawn: Tensor) -> Tensor:
        return drawn[self.local].to(self.like)


def flip(spectra: Spectra, draws: Draws) -> Spectra:
    """The pixels in reverse order. Wavelengths lose their meaning, so this is useful for comparisons only."""
    del draws
    continuum = spectra.continuum
    return Spectra(
        spectra.flux.flip(1), spectra.ivar.flip(1), continuum.flip(1) if continuum is not None else None
    )


def shift(spectra: Spectra, draws: Draws, max_pixels: float) -> Spectra:
    """An error of the radial velocity: a shift by up to `max_pixels`, with linear interpolation.

    Pixels that come in at an end, and pixels computed from a bad one, are bad. The continuum comes in at the
    level of its end.
    """
    pixels = spectra.flux.shape[1]
    reach = math.ceil(max_pixels) + 1
    start_B1 = reach - max_pixels * draws.sign()
    left_B1 = start_B1.floor()
    fraction_B1 = start_B1 - left_B1
    index_BP = left_B1.long() + torch.arange(pixels, device=left_B1.device)

    def neighbours(padded_BW: Tensor) -> tuple[Tensor, Tensor]:
        """The values to the left and to the right of each new pixel."""
        values_BW = padded_BW.gather(1, torch.cat((index_BP, index_BP[:, -1:] + 1), 1))
        return values_BW[:, :-1], values_BW[:, 1:]

    left_BP, right_BP = neighbours(pad(spectra.flux, (reach, reach), value=1.0))
    left_ivar_BP, right_ivar_BP = neighbours(pad(spectra.ivar, (reach, reach)))
    right_var_BP = torch.where(fraction_B1 > 0, fraction_B1**2 / right_ivar_BP, 0.0)
    var_BP = (1 - fraction_B1) ** 2 / left_ivar_BP + right_var_BP
    continuum_BP = spectra.continuum
    if continuum_BP is not None:
        padded_BW = pad(continuum_BP[:, None], (reach, reach), mode="replicate")[:, 0]
        continuum_BP = torch.lerp(*neighbours(padded_BW), fraction_B1)
    return Spectra(torch.lerp(left_BP, right_BP, fraction_B1), 1 / var_BP, continuum_BP)


def smoothing(spectra: Spectra, draws: Draws, sigma: float) -> Spectra:
    """A lower resolution: each pixel becomes the mean of its surroundings, weighted by ivar and a Gaussian.

    The width of the Gaussian is random up to `sigma` pixels. Bad pixels and those beyond the ends have no
    weight. The noise of neighbours becomes correlated, which an ivar per pixel cannot describe.
    """
    flux_BP, ivar_BP = spectra.flux, spectra.ivar
    pixels = flux_BP.shape[1]
    reach = min(math.ceil(4 * sigma), pixels - 1)
    width_B1 = (sigma * draws.uniform()).clamp(min=1e-3)
    offset_W = torch.arange(-reach, reach + 1, device=width_B1.device)
    gaussian_BW = torch.exp(-0.5 * (offset_W / width_B1) ** 2)
    most_B1 = ivar_BP.amax(1, keepdim=True).clamp(min=torch.finfo(ivar_BP.dtype).tiny)
    weight_BP = ivar_BP / most_B1
    sum_BP, weights_BP, squares_BP = (torch.zeros_like(weight_BP) for _ in range(3))
    padded_BP, lines_BP = pad(weight_BP, (reach, reach)), pad(weight_BP * (flux_BP - 1), (reach, reach))
    for step in range(2 * reach + 1):
        window, share_B1 = slice(step, step + pixels), gaussian_BW[:, step : step + 1]
        sum_BP.addcmul_(lines_BP[:, window], share_B1)
        weights_BP.addcmul_(padded_BP[:, window], share_B1)
        squares_BP.addcmul_(padded_BP[:, window], share_B1**2)
    good_BP = (ivar_BP > 0) & (squares_BP > 0)
    new_flux_BP = torch.where(good_BP, 1 + sum_BP / weights_BP, flux_BP)
    new_ivar_BP = torch.where(good_BP, most_B1 * (weights_BP / squares_BP) * weights_BP, ivar_BP)
    return Spectra(new_flux_BP, new_ivar_BP, spectra.continuum)


def scaling(spectra: Spectra, draws: Draws, strength: float) -> Spectra:
    """A continuum that is too high or too low everywhere: flux times a factor up to `strength` from 1."""
    return _multiply(spectra, 1 + strength * draws.sign())


def drift(spectra: Spectra, draws: Draws, strength: float) -> Spectra:
    """A continuum with a wrong slope or curvature: flux times a slow curve.

    The largest distance of the curve from 1 is random up to `strength`.
    """
    basis_KP = _slow_curves(spectra.flux.shape[1], spectra.flux)
    share_BK = draws.normal(len(basis_KP))
    curve_BP = torch.zeros_like(spectra.flux)
    # The rounding of a matrix product depends on the number of rows, and so on that of workers.
    for number, wave_P in enumerate(basis_KP):
        curve_BP.addcmul_(share_BK[:, number : number + 1], wave_P)
    height_B1 = strength * draws.uniform() / curve_BP.abs().amax(1, keepdim=True).clamp(min=1e-6)
    return _multiply(spectra, 1 + height_B1 * curve_BP)


def _slow_curves(pixels: int, like: Tensor) -> Tensor:
    """Slow curves (K, P): a line, a parabola, a cubic, and one and two periods of sine and cosine."""
    x_P = torch.linspace(-1, 1, pixels, dtype=like.dtype, device=like.device)
    powers = [x_P, 1.5 * x_P**2 - 0.5, 2.5 * x_P**3 - 1.5 * x_P]
    waves = [wave(math.pi * count * x_P) for count in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.stack(powers + waves)


def _multiply(spectra: Spectra, factor: Tensor) -> Spectra:
    """Flux and its error times a positive factor; the continuum divided by it, with the same mean."""
    continuum_BP = spectra.continuum
    if continuum_BP is not None:
        new_BP = continuum_BP / factor
        mean_B1, new_mean_B1 = (values.abs().mean(1, keepdim=True) for values in (continuum_BP, new_BP))
        continuum_BP = new_BP * (mean_B1 / new_mean_B1.clamp(min=1e-6))
    return Spectra(spectra.flux * factor, spectra.ivar / factor**2, continuum_BP)


def offset(spectra: Spectra, draws: Draws, strength: float) -> Spectra:
    """Stray light or a wrong sky subtraction: a constant up to `strength`, of either sign."""
    return replace(spectra, flux=spectra.flux + strength * draws.sign())


def noise(spectra: Spectra, draws: Draws, sd: float) -> Spectra:
    """Noise of the same standard deviation in all pixels of all spectra."""
    flux_BP = spectra.flux + sd * draws.normal(spectra.flux.shape[1])
    return replace(spectra, flux=flux_BP, ivar=spectra.ivar / (1 + spectra.ivar * sd**2))


def ivar_noise(spectra: Spectra, draws: Draws, strength: float) -> Spectra:
    """A shorter exposure: noise of each pixel, times a random factor up to `strength` per spectrum."""
    var_BP = ((strength * draws.uniform()) ** 2 / spectra.ivar).clamp(max=MAX_SD**2)
    flux_BP = torch.addcmul(spectra.flux, draws.normal(spectra.flux.shape[1]), var_BP.sqrt())
    return replace(spectra, flux=flux_BP, ivar=spectra.ivar / (1 + spectra.ivar * var_BP))


def dropout(spectra: Spectra, draws: Draws, bands: int, width: int) -> Spectra:
    """Gaps: `bands` bands of up to `width` pixels become bad; about half of the pixels stay at least."""
    pixels = spectra.flux.shape[1]
    widest = min(width, pixels // (2 * bands))
    pixel_P = torch.arange(pixels, device=spectra.flux.device)
    ivar_BP = spectra.ivar
    for _ in range(bands):
        half_B1 = 0.5 * widest * draws.uniform()
        middle_B1 = pixels * draws.uniform() - 0.5
        ivar_BP = torch.where((pixel_P - middle_B1).abs() <= half_B1, 0.0, ivar_BP)
    return replace(spectra, ivar=ivar_BP)
