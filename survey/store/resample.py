"""Spectra at their own wavelengths -> spectra on one grid, with inverse variance.

Two ways: `linear` takes the straight line between the two pixels around a grid point, `conserving` the mean flux density over the grid
point's own width, so that fluxes integrated over a line stay the same. What rests on a bad pixel is bad.

Nearly every survey samples at 10**(start + step * i) with a step of its own. Pixels of such spectra are laid into one window of a common
`Lattice`, each row where its redshift puts it: then all rows look up the same columns, and only a shift below one pixel is left per row.

Shapes: B spectra, P pixels, W pixels of the window, G grid points, E = G + 1 edges of grid points.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink, pad

GAP = 4.0
"""Neighbours further apart than this many times the usual distance have a gap between them, not a line to interpolate."""
FAR = 1e30
"""The variance that stands for 'bad' while variances are mixed."""
NEAR = 1e-4
"""A grid point this close to a pixel, in pixels, is at it: the rounding of wavelengths must not cost an end or mix in a bad neighbour."""


class Lattice:
    """The window of log-linear pixels of one step that a grid needs, and where the grid's points lie in it."""

    def __init__(self, wave_G: np.ndarray, step: float, device: torch.device) -> None:
        position_G = np.log10(wave_G) / step
        whole_G = np.floor(position_G)
        self.step = step
        self.first = int(whole_G[0]) - 1
        self.width = int(whole_G[-1]) + 2 - self.first + 1
        self.column_G = torch.from_numpy((whole_G - self.first).astype(np.int64)).to(device)
        self.part_G = torch.from_numpy((position_G - whole_G).astype(np.float32)).to(device)

    def window(self, start: float) -> tuple[int, float]:
        """For pixels that begin at 10**start: the column of the first one (may lie outside), and how far it is to the right of that column."""
        position = start / self.step
        whole = math.floor(position)
        return whole - self.first, position - whole

    def linear(self, flux_BW: Tensor, var_BW: Tensor, part_B: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and inverse variance at the grid points; `part` is what `window` gives beside the column."""
        way_BG = hardshrink(self.part_G - part_B[:, None], NEAR)  # -1 .. 1: to the pixel before or after
        bend = (
            0.5 * np.log(10.0) * self.step
        )  # a line in wavelength, not in its logarithm; the next term is 1e-8
        way_BG.addcmul_(way_BG.abs().sub_(1).mul_(way_BG.sign()), way_BG, value=bend)
        here_BG = hardshrink(1 - way_BG.abs(), NEAR)
        side_BG = torch.copysign(1 - here_BG, way_BG)
        after_BG, before_BG = side_BG.clamp(min=0), side_BG.clamp_(max=0).neg_()
        flux_BG = torch.zeros_like(here_BG)
        var_BG = torch.zeros_like(here_BG)
        for offset, share_BG in ((-1, before_BG), (0, here_BG), (1, after_BG)):
            column_G = self.column_G + offset
            flux_BG.addcmul_(flux_BW.index_select(1, column_G), share_BG)
            var_BG.addcmul_(var_BW.index_select(1, column_G), share_BG.square_())
        return flux_BG, _inverse(var_BG)


def _inverse(var_BG: Tensor) -> Tensor:
    """Inverse variance, exactly 0 where a bad pixel took part."""
    return hardshrink(var_BG.reciprocal_(), 1e8 / FAR)


@dataclass
class Places:
    """Where grid points or edges lie among a row's pixels: `left` the pixel at or before, `frac` the way to the next, `covered` or not."""

    left_BG: Tensor
    frac_BG: Tensor
    covered_BG: Tensor


def places(wave_BP: Tensor, size_B: Tensor, wave_G: Tensor) -> Places:
    """Places among any rising wavelengths; rows shorter than P are padded with rising numbers. Not covered: outside, and within gaps."""
    grid_BG = wave_G.expand(len(wave_BP), -1).contiguous()
    last_B1 = size_B[:, None] - 1
    left_BG = torch.minimum((torch.searchsorted(wave_BP, grid_BG, right=True) - 1).clamp_(min=0), last_B1 - 1)
    low_BG = wave_BP.gather(1, left_BG)
    width_BG = wave_BP.gather(1, left_BG + 1) - low_BG
    frac_BG = (grid_BG - low_BG) / width_BG
    near_BG = torch.minimum(frac_BG.abs(), (frac_BG - 1).abs()) < NEAR
    open_BG = (frac_BG > 0) & (frac_BG < 1) & (width_BG / low_BG < GAP * _usual_step(wave_BP, size_B))
    frac_BG = torch.where(near_BG, frac_BG.round(), frac_BG)
    return Places(left_BG, frac_BG.clamp_(0, 1), near_BG | open_BG)


def _usual_step(wave_BP: Tensor, size_B: Tensor) -> Tensor:
    """The median relative distance of neighbouring pixels of each spectrum."""
    step_BP = wave_BP[:, 1:] / wave_BP[:, :-1] - 1
    beyond_BP = torch.arange(1, wave_BP.shape[1], device=wave_BP.device) >= size_B[:, None]
    return step_BP.masked_fill(beyond_BP, torch.nan).nanmedian(1, keepdim=True).values


def linear(flux_BP: Tensor, var_BP: Tensor, at: Places) -> tuple[Tensor, Tensor]:
    """Flux and inverse variance on the straight lines between pixels at any wavelengths."""
    after_BG = at.frac_BG.float()
    here_BG = 1 - after_BG
    right_BG = at.left_BG + 1
    flux_BG = flux_BP.gather(1, at.left_BG) * here_BG + flux_BP.gather(1, right_BG) * after_BG
    var_BG = var_BP.gather(1, at.left_BG) * here_BG**2 + var_BP.gather(1, right_BG) * after_BG**2
    return flux_BG * at.covered_BG, _inverse(var_BG) * at.covered_BG


def conserving(flux_BP: Tensor, var_BP: Tensor, width_BP: Tensor, edges: Places) -> tuple[Tensor, Tensor]:
    """Mean flux density over each grid point's width and its inverse variance; bad pixels are left out, a point half bad or more is bad.

    `edges` are the grid points' edges among the pixels' edges: `left` the pixel that an edge lies in, `frac` how far into it.
    """
    good_BP = var_BP < 0.5 * FAR
    used_BP = width_BP * good_BP
    used_BG = _between(used_BP, edges)
    enough_BG = used_BG > 0.5 * _between(width_BP, edges)
    enough_BG &= edges.covered_BG[:, 1:] & edges.covered_BG[:, :-1]
    safe_BG = torch.where(enough_BG, used_BG, 1.0)
    flux_BG = _between(flux_BP.double() * used_BP, edges) / safe_BG
    var_BG = _squares_between(var_BP.double() * used_BP**2, edges) / safe_BG**2
    var_BG = var_BG.clamp(
        min=1e-12
    )  # a difference of sums may lose a tiny variance beside huge ones; none is below 0
    return (flux_BG * enough_BG).float(), _inverse(torch.where(enough_BG, var_BG, FAR).float())


def _between(amount_BP: Tensor, edges: Places) -> Tensor:
    """How much of an amount, spread evenly over each pixel, lies between neighbouring edges."""
    total_BP = pad(amount_BP.cumsum(1), (1, 0))
    upto_BE = total_BP.gather(1, edges.left_BG) + edges.frac_BG * amount_BP.gather(1, edges.left_BG)
    return upto_BE[:, 1:] - upto_BE[:, :-1]


def _squares_between(amount_BP: Tensor, edges: Places) -> Tensor:
    """The sum over pixels of share**2 * amount between neighbouring edges: the variance of a sum of shares."""
    left_BG, right_BG = edges.left_BG[:, :-1], edges.left_BG[:, 1:]
    from_BG, upto_BG = edges.frac_BG[:, :-1], edges.frac_BG[:, 1:]
    lone_BG = left_BG == right_BG
    total_BP = pad(amount_BP.cumsum(1), (1, 0))
    inner_BG = torch.where(lone_BG, 0.0, total_BP.gather(1, right_BG) - total_BP.gather(1, left_BG + 1))
    first_BG = torch.where(lone_BG, upto_BG - from_BG, 1 - from_BG).square() * amount_BP.gather(1, left_BG)
    return inner_BG + first_BG + torch.where(lone_BG, 0.0, upto_BG).square() * amount_BP.gather(1, right_BG)


def edges_of(wave: Tensor) -> Tensor:
    """The edges of pixels: half-way between neighbours, the outer ones as far out as the next is in."""
    inner = 0.5 * (wave[..., 1:] + wave[..., :-1])
    return torch.cat((2 * wave[..., :1] - inner[..., :1], inner, 2 * wave[..., -1:] - inner[..., -1:]), -1)
