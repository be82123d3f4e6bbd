"""The continuum of spectra on a grid, by named methods. All work on batches, on a CPU or a GPU.

A method is prepared for a grid. Then it takes flux and inverse variance and gives the continuum; points with
ivar 0 have no influence. `msfl` and `segment` are the methods of systems 0 and 1. `spline` is our own: it
weights points by their noise, follows the response of an instrument, and crosses gaps without oscillating.
`dual` is the same fit, for networks that take both continuum and normalised flux.

Shapes: B spectra, G grid points, S points of a segment, K coefficients, L products of splines.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink, leaky_relu, pad

from survey.spectrum import Grid
from survey.store.settings import ContinuumMethod

Fit = Callable[[Tensor, Tensor], Tensor]
"""Flux and inverse variance [B, G] -> continuum [B, G]."""

MAX_ROUNDS = 60
"""Most rounds of fit and clip in `msfl`. The computed reference set needs 8 in the median and at most 36."""

CLIP = (3.0, 4.0)
"""The limits of `msfl`, in sigma: below the fit and above it."""


def make_fit(method: ContinuumMethod, grid: Grid, device: torch.device, *, compiled: bool = False) -> Fit:
    """The method, prepared for a grid; with a compiled loop if there is one for it."""
    makers: dict[ContinuumMethod, Callable[[Grid, torch.device], Fit]] = {
        "msfl": partial(msfl, compiled=compiled),
        "segment": segment,
        "spline": spline,
        "dual": spline,
        "none": none,
    }
    return makers[method](grid, device)


def _constant(values: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """An array in torch's own memory.

    Memory of numpy is aligned by chance, and the alignment changes the last bit of a matrix product.
    """
    return torch.tensor(values, dtype=dtype, device=device)


def none(grid: Grid, device: torch.device) -> Fit:
    """One number per spectrum: the mean of its good points, so that all spectra are about 1."""

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        return torch.broadcast_to(good_mean(flux_BG, ivar_BG.sign()).abs().clamp(min=1e-30), flux_BG.shape)

    return fit


def good_mean(flux_BG: Tensor, good_BG: Tensor) -> Tensor:
    """The mean over good points [B, 1]; 0 if there are none."""
    count_B1 = good_BG.sum(1, keepdim=True).clamp(min=1)
    mean_B1: Tensor = torch.linalg.vecdot(flux_BG, good_BG)[:, None] / count_B1
    return mean_B1


def msfl(grid: Grid, device: torch.device, *, compiled: bool = False) -> Fit:
    """System 0: one polynomial of order 5 in log wavelength.

    Points more than 4 sigma above or 3 below the fit are set to the fit, until there are none. All spectra
    share the grid, so a fit is a projection onto one orthonormal basis: a round costs two thin matrix
    products. Bad points start at the mean and are set to the fit in each round.
    """
    x = np.log10(grid.wave)
    x = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    basis = np.linalg.qr(np.polynomial.legendre.legvander(x, 5))[0].T
    basis_KG = _constant(basis, device)
    if compiled and len(basis_KG) == 6:  # fewer than six points have fewer columns
        from survey.store.loops.clipped_fit import clipped_fit

        return lambda flux_BG, ivar_BG: clipped_fit(flux_BG, ivar_BG, basis_KG, MAX_ROUNDS, CLIP)

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        good_BG = ivar_BG.sign()
        mean_B1 = good_mean(flux_BG, good_BG)
        # relative to the mean, float32 keeps all its digits; the basis holds the constant
        coef_BK = _clipped_fit((flux_BG - mean_B1).mul_(good_BG), good_BG, basis_KG)
        return torch.addmm(mean_B1, coef_BK, basis_KG)

    return fit


def _clipped_fit(residual_BG: Tensor, good_BG: Tensor, basis_KG: Tensor) -> Tensor:
    """Coefficients of the clipped fit.

    The residual is kept in units of its sigma: to set a point to the fit is to set its residual to 0. No
    comparison makes a mask: shrinking to 0 within limits is several times faster on a CPU. Finished rows
    leave the arrays.
    """
    low, high = CLIP
    points_B1 = good_BG.sum(1, keepdim=True).clamp_(min=1)
    coef_BK = (basis_KG @ residual_BG.T).T
    residual_BG = torch.addmm(residual_BG, coef_BK, basis_KG, alpha=-1).mul_(good_BG)
    coef_BK = coef_BK.contiguous()
    scale_B1, active_B1 = torch.ones_like(points_B1), torch.ones_like(points_B1)
    rows_B = torch.arange(len(residual_BG), device=residual_BG.device)
    for _ in range(MAX_ROUNDS):
        norm_B1 = torch.linalg.vector_norm(residual_BG, dim=1, keepdim=True)
        sigma_B1 = norm_B1.div_(points_B1.sqrt()).clamp_(min=1e-30)
        scale_B1 = scale_B1 * sigma_B1
        # with negative values stretched, both limits are equal, and one shrinking finds all beyond them
        stretched_BG = leaky_relu(residual_BG.mul_(1 / sigma_B1), high / low)
        outliers_BG = hardshrink(stretched_BG, high)
        active_B1 = active_B1 * torch.linalg.vector_norm(outliers_BG, dim=1, keepdim=True).sign()
        active_B = active_B1[:, 0].nonzero()[:, 0]
        if len(active_B) == 0:
            break
        residual_BG = leaky_relu(stretched_BG.sub_(outliers_BG), low / high, inplace=True)
        if len(active_B) < 0.75 * len(rows_B):
            residual_BG, good_BG, rows_B = residual_BG[active_B], good_BG[active_B], rows_B[active_B]
            scale_B1, points_B1, active_B1 = scale_B1[active_B], points_B1[active_B], active_B1[active_B]
        step_BK = (basis_KG @ residual_BG.T).T * active_B1
        coef_BK.index_add_(0, rows_B, step_BK * scale_B1)
        residual_BG.addmm_(step_BK, basis_KG, alpha=-1).mul_(good_BG)
    return coef_BK


SEGMENTS = 5


def segment(grid: Grid, device: torch.device) -> Fit:
    """System 1: five segments, in each a parabola through the points above the segment's median.

    Here the segments overlap. They have equal numbers of points and reach a quarter of their length into each
    neighbour; the weights of two segments cross over linearly there. Each segment is smoothed (median of 11)
    first, and its continuum is at least a twentieth of its highest point.
    """
    segments = [
        (
            points,
            _constant(_parabolas(points.stop - points.start), device, torch.float64),
            _constant(weight, device),
        )
        for points, weight in _segments(len(grid))
    ]

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        total_BG = torch.zeros_like(flux_BG)
        for points, basis_SK, weight_S in segments:
            parabola_BS = _upper_parabola(flux_BG[:, points], ivar_BG[:, points] > 0, basis_SK)
            total_BG[:, points] += weight_S * parabola_BS
        return total_BG

    return fit


def _segments(size: int) -> list[tuple[slice, np.ndarray]]:
    """Overlapping segments and their weights, which add up to 1 everywhere."""
    bounds = np.linspace(0, size, SEGMENTS + 1).round().astype(int)
    reach = max(1, size // (4 * SEGMENTS))
    x = np.arange(size)
    segments = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        rise, fall = np.ones(size), np.zeros(size)
        if number > 0:
            rise = np.clip((x - (start - reach)) / (2 * reach), 0, 1)
        if number < SEGMENTS - 1:
            fall = np.clip((x - (stop - reach)) / (2 * reach), 0, 1)
        points = slice(max(0, start - reach), min(size, stop + reach))
        segments.append((points, (rise - fall)[points].astype(np.float32)))
    return segments


def _parabolas(points: int) -> np.ndarray:
    """Legendre polynomials up to order 2."""
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, points), 2)


def _upper_parabola(flux_BS: Tensor, good_BS: Tensor, basis_SK: Tensor) -> Tensor:
    """A parabola through the good points above the median of the smoothed segment.

    It is flat at the median if there are fewer than three such points.
    """
    smooth_BS = _median11(torch.where(good_BS, flux_BS, torch.nan))
    median_B1 = smooth_BS.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
    used_BS = (smooth_BS >= median_B1).double()
    value_BS = smooth_BS.nan_to_num(0.0).double()
    normal_BKK = torch.einsum("bs,sk,sl->bkl", used_BS, basis_SK, basis_SK)
    ridge = 1e-9 * torch.eye(basis_SK.shape[1], device=flux_BS.device, dtype=torch.float64)
    coef_BK = torch.linalg.solve(normal_BKK + ridge, (used_BS * value_BS) @ basis_SK)
    has_points_B1 = used_BS.sum(1, keepdim=True) >= 3
    fit_BS = torch.where(has_points_B1, coef_BK @ basis_SK.T, median_B1.double())
    return torch.maximum(fit_BS, 0.05 * value_BS.amax(1, keepdim=True)).float()


def _median11(flux_BS: Tensor) -> Tensor:
    """Running median over the good points among 11; NaN marks bad points, and stays where all are bad."""
    padded = pad(flux_BS, (5, 5), value=torch.nan)
    return padded.unfold(1, 11, 1).nanmedian(-1).values


KNOT_DISTANCE = 0.0175
"""Distance of the spline's knots in log10 wavelength: 160 to 350 angstrom. This is wider than any atomic line
and narrower than the variation of an instrument's response."""


def spline(grid: Grid, device: torch.device) -> Fit:
    """A smoothing spline of cubic pieces through the upper part of the spectrum, weighted by ivar.

    Points well below the fit (lines, bands) lose their weight in each round. A penalty on the second
    differences of the coefficients carries the fit over gaps and blanketed regions.
    """
    basis_GK, penalty_KK = (_constant(array, device) for array in _spline_basis(grid))
    products_GL, column_KK = _spline_products(basis_GK)

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        good_BG = ivar_BG.sign()
        mean_B1 = good_mean(flux_BG, good_BG).abs().clamp_(min=1e-30)
        value_BG = flux_BG * good_BG / mean_B1
        weight_BG = ivar_BG * mean_B1**2
        # with a floor under the error, one bright region does not decide the shape
        weight_BG = weight_BG / (1 + 1e-4 * weight_BG)
        strength_B11 = weight_BG.sum(1)[:, None, None] / len(grid) + 1e-12
        used_BG = weight_BG
        for _ in range(6):
            normal_BKK = (used_BG @ products_GL)[:, column_KK] + strength_B11 * penalty_KK
            right_BK1 = ((used_BG * value_BG) @ basis_GK)[..., None]
            coef_BK1 = torch.cholesky_solve(right_BK1, torch.linalg.cholesky(normal_BKK))
            fit_BG = coef_BK1[..., 0] @ basis_GK.T
            below_BG = (fit_BG - value_BG) * weight_BG.sqrt()
            used_BG = weight_BG / (1 + below_BG.sub_(0.5).clamp_(min=0).square_())
        return fit_BG * mean_B1

    return fit


def _spline_basis(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines at the grid points, and the penalty on second differences of their coefficients."""
    from scipy.interpolate import BSpline

    x = np.log10(grid.wave)
    inner = np.linspace(x[0], x[-1], max(5, round((x[-1] - x[0]) / KNOT_DISTANCE) + 1))
    step = inner[1] - inner[0]
    knots = np.concatenate((inner[0] - step * np.arange(3, 0, -1), inner, inner[-1] + step * np.arange(1, 4)))
    design = BSpline.design_matrix(x, knots, 3).toarray()
    second_differences = np.diff(np.eye(design.shape[1]), 2, axis=0)
    penalty = 2.0 * second_differences.T @ second_differences + 1e-6 * np.eye(design.shape[1])
    return design, penalty


def _spline_products(basis_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Products of overlapping splines as columns [G, L], and the column of each pair [K, K].

    The last column is 0, for pairs that do not overlap.
    """
    size = basis_GK.shape[1]
    pairs = [(first, second) for first in range(size) for second in range(first, min(first + 4, size))]
    products = [basis_GK[:, first] * basis_GK[:, second] for first, second in pairs]
    columns = torch.stack([*products, torch.zeros_like(basis_GK[:, 0])], 1)
    column = torch.full((size, size), len(pairs), dtype=torch.int64, device=basis_GK.device)
    for number, (first, second) in enumerate(pairs):
        column[first, second] = column[second, first] = number
    return columns, column
