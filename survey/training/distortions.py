"""What may befall a spectrum on its way to us, one function each: noise, misplaced continua, velocities a little off, gaps.

Each takes the spectra that it is to change (all of them), random numbers by row, and its strengths; and gives new spectra. It need not mind
what it leaves in bad pixels: `survey.training.augment` puts them back to ivar 0 and flux 1 after each. Variances are propagated: what comes
out has the ivar that a spectrum of that noise has.

The flux is relative to its continuum, and flux * continuum is what was measured. So a distortion of the flux alone that is smooth in
wavelength (`scaling`, `drift`) is a continuum put in the wrong place: the continuum, where there is one, is divided by what multiplies the
flux, and keeps its mean of 1. Shifts move it along; the rest leaves it alone.

Shapes: B spectra, P pixels, K functions, W pixels of a window.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

LOUDEST = 1.0
"""No noise is added beyond this standard deviation: a pixel whose own is that of the whole continuum tells nothing as it is."""


class Spectra(NamedTuple):
    """A batch: flux relative to the continuum, its ivar (0 = bad), and the continuum where the network sees it."""

    flux_BP: Tensor
    ivar_BP: Tensor
    continuum_BP: Tensor | None


@dataclass(frozen=True)
class Draws:
    """Random numbers for rows of a batch that is shared out: drawn for `rows` rows wherever they are worked on, of which `mine` are used here."""

    generator: torch.Generator
    rows: int
    mine: slice
    like: Tensor

    def uniform(self, width: int = 1) -> Tensor:
        """Numbers between 0 and 1, [B, width]."""
        return self._here(
            torch.rand((self.rows, width), generator=self.generator, device=self.generator.device)
        )

    def normal(self, width: int = 1) -> Tensor:
        """Numbers of mean 0 and standard deviation 1, [B, width]."""
        return self._here(
            torch.randn((self.rows, width), generator=self.generator, device=self.generator.device)
        )

    def sign(self) -> Tensor:
        """Numbers between -1 and 1, [B, 1]."""
        return 2 * self.uniform() - 1

    def _here(self, drawn: Tensor) -> Tensor:
        return drawn[self.mine].to(self.like)


def flip(lit: Spectra, draws: Draws) -> Spectra:
    """The spectrum back to front; wavelengths lose their meaning, so this is of use in comparisons only."""
    return Spectra(
        lit.flux_BP.flip(1),
        lit.ivar_BP.flip(1),
        lit.continuum_BP.flip(1) if lit.continuum_BP is not None else None,
    )


def shift(lit: Spectra, draws: Draws, max_pixels: float) -> Spectra:
    """A velocity a little off: moved by up to so many pixels to either side, between pixels along straight lines; what comes in is bad.

    A pixel that takes from a bad one is bad. The continuum comes in level with its end.
    """
    pixels = lit.flux_BP.shape[1]
    reach = math.ceil(max_pixels) + 1
    start_B1 = reach - max_pixels * draws.sign()
    left_B1 = start_B1.floor()
    part_B1 = start_B1 - left_B1
    at_BP = left_B1.long() + torch.arange(pixels, device=left_B1.device)

    def pair(values_BW: Tensor) -> tuple[Tensor, Tensor]:
        found_BW = values_BW.gather(1, torch.cat((at_BP, at_BP[:, -1:] + 1), 1))
        return found_BW[:, :-1], found_BW[:, 1:]

    left_BP, right_BP = pair(pad(lit.flux_BP, (reach, reach), value=1.0))
    before_BP, after_BP = pair(pad(lit.ivar_BP, (reach, reach)))
    var_BP = (1 - part_B1) ** 2 / before_BP + torch.where(part_B1 > 0, part_B1**2 / after_BP, 0.0)
    continuum_BP = lit.continuum_BP
    if continuum_BP is not None:
        here_BP, next_BP = pair(pad(continuum_BP[:, None], (reach, reach), mode="replicate")[:, 0])
        continuum_BP = torch.lerp(here_BP, next_BP, part_B1)
    return Spectra(torch.lerp(left_BP, right_BP, part_B1), 1 / var_BP, continuum_BP)


def smoothing(lit: Spectra, draws: Draws, sigma: float) -> Spectra:
    """Poorer resolution: each pixel the mean of those around by ivar and by a Gaussian whose width is random up to `sigma` pixels.

    Pixels that are bad or beyond the ends have no weight. Noise of neighbours becomes alike, which an ivar per pixel cannot tell.
    """
    pixels = lit.flux_BP.shape[1]
    reach = min(math.ceil(4 * sigma), pixels - 1)
    width_B1 = (sigma * draws.uniform()).clamp(min=1e-3)
    steps_W = torch.arange(-reach, reach + 1, device=width_B1.device)
    bell_BW = torch.exp(-0.5 * (steps_W / width_B1) ** 2)
    most_B1 = lit.ivar_BP.amax(1, keepdim=True).clamp(min=torch.finfo(lit.ivar_BP.dtype).tiny)
    weight_BP = lit.ivar_BP / most_B1
    sum_BP, weights_BP, squares_BP = (torch.zeros_like(weight_BP) for _ in range(3))
    padded_BP, lines_BP = pad(weight_BP, (reach, reach)), pad(weight_BP * (lit.flux_BP - 1), (reach, reach))
    for step in range(2 * reach + 1):
        there, share_B1 = slice(step, step + pixels), bell_BW[:, step : step + 1]
        sum_BP.addcmul_(lines_BP[:, there], share_B1)
        weights_BP.addcmul_(padded_BP[:, there], share_B1)
        squares_BP.addcmul_(padded_BP[:, there], share_B1**2)
    good_BP = (lit.ivar_BP > 0) & (squares_BP > 0)
    flux_BP = torch.where(good_BP, 1 + sum_BP / weights_BP, lit.flux_BP)
    ivar_BP = torch.where(good_BP, most_B1 * (weights_BP / squares_BP) * weights_BP, lit.ivar_BP)
    return Spectra(flux_BP, ivar_BP, lit.continuum_BP)


def scaling(lit: Spectra, draws: Draws, by: float) -> Spectra:
    """A continuum put too high or too low throughout: the flux times a number up to `by` from 1."""
    return _times(lit, 1 + by * draws.sign())


def drift(lit: Spectra, draws: Draws, strength: float) -> Spectra:
    """A continuum that bends wrongly: the flux times a slow curve, whose largest distance from 1 is random up to `strength`."""
    basis_KP = _slow(lit.flux_BP.shape[1], lit.flux_BP)
    share_BK = draws.normal(len(basis_KP))
    curve_BP = torch.zeros_like(lit.flux_BP)
    for number, wave_P in enumerate(
        basis_KP
    ):  # a matrix product would round by the number of rows, and so by that of workers
        curve_BP.addcmul_(share_BK[:, number : number + 1], wave_P)
    height_B1 = strength * draws.uniform() / curve_BP.abs().amax(1, keepdim=True).clamp(min=1e-6)
    return _times(lit, 1 + height_B1 * curve_BP)


def _slow(pixels: int, like: Tensor) -> Tensor:
    """Slow curves over a spectrum: a line, a parabola and a cubic, and one and two waves of sine and cosine."""
    x_P = torch.linspace(-1, 1, pixels, dtype=like.dtype, device=like.device)
    powers = [x_P, 1.5 * x_P**2 - 0.5, 2.5 * x_P**3 - 1.5 * x_P]
    waves = [wave(math.pi * count * x_P) for count in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.stack(powers + waves)


def _times(lit: Spectra, factor: Tensor) -> Spectra:
    """Flux times a factor above 0, its error likewise; the continuum divided by it, of mean 1 as before."""
    continuum_BP = lit.continuum_BP
    if continuum_BP is not None:
        bent_BP = continuum_BP / factor
        continuum_BP = bent_BP * (
            continuum_BP.abs().mean(1, keepdim=True) / bent_BP.abs().mean(1, keepdim=True).clamp(min=1e-6)
        )
    return Spectra(lit.flux_BP * factor, lit.ivar_BP / factor**2, continuum_BP)


def offset(lit: Spectra, draws: Draws, by: float) -> Spectra:
    """Light that is not the star's, or too much of it taken away: a number up to `by` of the continuum, either sign, added to the flux."""
    return lit._replace(flux_BP=lit.flux_BP + by * draws.sign())


def noise(lit: Spectra, draws: Draws, sd: float) -> Spectra:
    """Noise of the same standard deviation in all pixels of all spectra."""
    flux_BP = lit.flux_BP + sd * draws.normal(lit.flux_BP.shape[1])
    return lit._replace(flux_BP=flux_BP, ivar_BP=lit.ivar_BP / (1 + lit.ivar_BP * sd**2))


def ivar_noise(lit: Spectra, draws: Draws, strength: float) -> Spectra:
    """A shorter exposure: noise as the spectrum has in each pixel, times a number up to `strength` that is random by spectrum."""
    var_BP = ((strength * draws.uniform()) ** 2 / lit.ivar_BP).clamp(max=LOUDEST**2)
    flux_BP = torch.addcmul(lit.flux_BP, draws.normal(lit.flux_BP.shape[1]), var_BP.sqrt())
    return lit._replace(flux_BP=flux_BP, ivar_BP=lit.ivar_BP / (1 + lit.ivar_BP * var_BP))


def dropout(lit: Spectra, draws: Draws, bands: int, width: int) -> Spectra:
    """Gaps: so many bands of random place and of a width up to `width` pixels become bad; about half of the pixels stay at any rate."""
    pixels = lit.flux_BP.shape[1]
    widest = min(width, pixels // (2 * bands))
    at_P = torch.arange(pixels, device=lit.flux_BP.device)
    ivar_BP = lit.ivar_BP
    for _ in range(bands):
        half_B1 = 0.5 * widest * draws.uniform()
        middle_B1 = pixels * draws.uniform() - 0.5
        ivar_BP = torch.where((at_P - middle_B1).abs() <= half_B1, 0.0, ivar_BP)
    return lit._replace(ivar_BP=ivar_BP)
