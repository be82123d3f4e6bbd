"""Spectra at their own wavelengths -> spectra on one grid, with inverse variance.

There are two methods. `linear` takes the straight line between the two pixels around a grid point.
`conserving` takes the mean flux density over the width of the grid point, so that the flux integrated over a
line stays the same. A result that depends on a bad pixel is bad.

Nearly every survey samples at 10**(start + step * i) with its own step. The pixels of such spectra are laid
into one window of a common `Lattice`; the redshift determines where. Then all rows use the same columns, and
only a shift of less than one pixel remains for each row.

Shapes: B spectra, P pixels, W pixels of the window, G grid points, E = G + 1 edges of grid points.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink, pad

GAP = 4.0
"""Neighbours with more than this many times the usual distance have a gap between them, and no line."""
FAR = 1e30
"""The variance that marks a bad pixel while variances are mixed."""
NEAR = 1e-4
"""A grid point this close to a pixel, in pixels, is at it. So the rounding of wavelengths does not lose an
end or mix in a bad neighbour."""


class Lattice:
    """The window of log-linear pixels of one step that a grid needs, and where the grid points are in it."""

    def __init__(self, wave_G: np.ndarray, step: float, device: torch.device) -> None:
        position_G = np.log10(wave_G) / step
        pixel_G = np.floor(position_G)
        self.step = step
        self.first = int(pixel_G[0]) - 1
        self.width = int(pixel_G[-1]) + 2 - self.first + 1
        self.column_G = torch.from_numpy((pixel_G - self.first).astype(np.int64)).to(device)
        self.offset_G = torch.from_numpy((position_G - pixel_G).astype(np.float32)).to(device)
        # the line is straight in wavelength, not in its logarithm; the next term is 1e-8
        self.curvature = 0.5 * math.log(10.0) * step

    def locate(self, start: float) -> tuple[int, float]:
        """For pixels that begin at 10**start: the column of the first one, and its offset to the right.

        The column may be outside the window. The offset is from 0 to 1 column.
        """
        position = start / self.step
        pixel = math.floor(position)
        return pixel - self.first, position - pixel

    def linear(self, flux_BW: Tensor, var_BW: Tensor, offset_B: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and inverse variance at the grid points; `offset_B` as from `locate`."""
        distance_BG = hardshrink(self.offset_G - offset_B[:, None], NEAR)  # -1 .. 1 pixels
        bend_BG = distance_BG.abs().sub_(1).mul_(distance_BG.sign())
        distance_BG.addcmul_(bend_BG, distance_BG, value=self.curvature)
        here_BG = hardshrink(1 - distance_BG.abs(), NEAR)
        side_BG = torch.copysign(1 - here_BG, distance_BG)
        after_BG, before_BG = side_BG.clamp(min=0), side_BG.clamp_(max=0).neg_()
        flux_BG = torch.zeros_like(here_BG)
        var_BG = torch.zeros_like(here_BG)
        for neighbour, share_BG in ((-1, before_BG), (0, here_BG), (1, after_BG)):
            column_G = self.column_G + neighbour
            flux_BG.addcmul_(flux_BW.index_select(1, column_G), share_BG)
            var_BG.addcmul_(var_BW.index_select(1, column_G), share_BG.square_())
        return flux_BG, _inverse(var_BG)


def _inverse(var_BG: Tensor) -> Tensor:
    """Inverse variance; exactly 0 where a bad pixel contributes."""
    return hardshrink(var_BG.reciprocal_(), 1e8 / FAR)


@dataclass
class Positions:
    """The positions of grid points or edges among a row's pixels.

    `left` is the pixel at or before a point, `frac` the fraction of the way to the next pixel. A point is
    `covered` unless it is outside or in a gap.
    """

    left_BG: Tensor
    frac_BG: Tensor
    covered_BG: Tensor


def find_positions(wave_BP: Tensor, size_B: Tensor, wave_G: Tensor) -> Positions:
    """Positions among any rising wavelengths. Rows shorter than P are padded with rising numbers."""
    grid_BG = wave_G.expand(len(wave_BP), -1).contiguous()
    last_B1 = size_B[:, None] - 1
    left_BG = torch.minimum((torch.searchsorted(wave_BP, grid_BG, right=True) - 1).clamp_(min=0), last_B1 - 1)
    low_BG = wave_BP.gather(1, left_BG)
    width_BG = wave_BP.gather(1, left_BG + 1) - low_BG
    frac_BG = (grid_BG - low_BG) / width_BG
    near_BG = torch.minimum(frac_BG.abs(), (frac_BG - 1).abs()) < NEAR
    between_BG = (frac_BG > 0) & (frac_BG < 1) & (width_BG / low_BG < GAP * _usual_step(wave_BP, size_B))
    frac_BG = torch.where(near_BG, frac_BG.round(), frac_BG)
    return Positions(left_BG, frac_BG.clamp_(0, 1), near_BG | between_BG)


def _usual_step(wave_BP: Tensor, size_B: Tensor) -> Tensor:
    """The median relative distance of neighbouring pixels of each spectrum."""
    step_BP = wave_BP[:, 1:] / wave_BP[:, :-1] - 1
    padding_BP = torch.arange(1, wave_BP.shape[1], device=wave_BP.device) >= size_B[:, None]
    return step_BP.masked_fill(padding_BP, torch.nan).nanmedian(1, keepdim=True).values


def linear(flux_BP: Tensor, var_BP: Tensor, points: Positions) -> tuple[Tensor, Tensor]:
    """Flux and inverse variance on the straight lines between pixels at any wavelengths."""
    after_BG = points.frac_BG.float()
    here_BG = 1 - after_BG
    right_BG = points.left_BG + 1
    flux_BG = flux_BP.gather(1, points.left_BG) * here_BG + flux_BP.gather(1, right_BG) * after_BG
    var_BG = var_BP.gather(1, points.left_BG) * here_BG**2 + var_BP.gather(1, right_BG) * after_BG**2
    return flux_BG * points.covered_BG, _inverse(var_BG) * points.covered_BG


def conserving(flux_BP: Tensor, var_BP: Tensor, width_BP: Tensor, edges: Positions) -> tuple[Tensor, Tensor]:
    """Mean flux density over the width of each grid point, and its inverse variance.

    Bad pixels are left out; a point that is half bad or more is bad. `edges` are the positions of the grid
    points' edges among the pixels' edges: `left` is the pixel of an edge, `frac` how far into it.
    """
    good_BP = var_BP < 0.5 * FAR
    used_BP = width_BP * good_BP
    used_BG = _between(used_BP, edges)
    enough_BG = used_BG > 0.5 * _between(width_BP, edges)
    enough_BG &= edges.covered_BG[:, 1:] & edges.covered_BG[:, :-1]
    safe_BG = torch.where(enough_BG, used_BG, 1.0)
    flux_BG = _between(flux_BP.double() * used_BP, edges) / safe_BG
    var_BG = _squares_between(var_BP.double() * used_BP**2, edges) / safe_BG**2
    # a difference of sums may lose a tiny variance among huge ones; none is below 0
    var_BG = var_BG.clamp(min=1e-12)
    return (flux_BG * enough_BG).float(), _inverse(torch.where(enough_BG, var_BG, FAR).float())


def _between(amount_BP: Tensor, edges: Positions) -> Tensor:
    """The part of an amount, spread evenly over each pixel, between neighbouring edges."""
    total_BP = pad(amount_BP.cumsum(1), (1, 0))
    below_BE = total_BP.gather(1, edges.left_BG) + edges.frac_BG * amount_BP.gather(1, edges.left_BG)
    return below_BE[:, 1:] - below_BE[:, :-1]


def _squares_between(amount_BP: Tensor, edges: Positions) -> Tensor:
    """The sum of share**2 * amount over the pixels between neighbouring edges: the variance of a sum."""
    left_BG, right_BG = edges.left_BG[:, :-1], edges.left_BG[:, 1:]
    start_BG, stop_BG = edges.frac_BG[:, :-1], edges.frac_BG[:, 1:]
    single_BG = left_BG == right_BG
    total_BP = pad(amount_BP.cumsum(1), (1, 0))
    inner_BG = torch.where(single_BG, 0.0, total_BP.gather(1, right_BG) - total_BP.gather(1, left_BG + 1))
    first_share_BG = torch.where(single_BG, stop_BG - start_BG, 1 - start_BG)
    last_share_BG = torch.where(single_BG, 0.0, stop_BG)
    first_BG = first_share_BG.square() * amount_BP.gather(1, left_BG)
    return inner_BG + first_BG + last_share_BG.square() * amount_BP.gather(1, right_BG)


def edges_of(wave: Tensor) -> Tensor:
    """The edges of pixels: half-way between neighbours. The outer ones are as far out as the next are in."""
    inner = 0.5 * (wave[..., 1:] + wave[..., :-1])
    return torch.cat((2 * wave[..., :1] - inner[..., :1], inner, 2 * wave[..., -1:] - inner[..., -1:]), -1)
