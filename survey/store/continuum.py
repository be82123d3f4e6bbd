"""The continuum of spectra on a grid, by named methods; all work on whole batches, on a CPU or a GPU alike.

A method is made for a grid and then takes flux and inverse variance and gives the continuum; points of ivar 0 never pull it. `msfl` and
`segment` are what systems 0 and 1 did. `spline` is our own: it weighs points by their noise, follows the response of an instrument and
crosses gaps without swinging; `dual` is the same fit for nets that take continuum and normalised flux side by side.

Shapes: B spectra, G grid points, S points of a segment, K coefficients.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink, leaky_relu, pad

from survey.spectrum import Grid

Method = Literal["msfl", "segment", "spline", "dual", "none"]
Fit = Callable[[Tensor, Tensor], Tensor]

ROUNDS = 60
"""Most rounds of fit and clip in `msfl`; the computed reference set needs 8 in the median and 36 at most."""


def fitter(method: Method, grid: Grid, device: torch.device) -> Fit:
    """The method made ready for a grid."""
    makers: dict[Method, Callable[[Grid, torch.device], Fit]] = {
        "msfl": msfl,
        "segment": segment,
        "spline": spline,
        "dual": spline,
        "none": none,
    }
    return makers[method](grid, device)


def _constant(values: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """An array in memory of torch's own: that of numpy is aligned by chance, and with it the last bit of a matrix product."""
    return torch.tensor(values, dtype=dtype, device=device)


def none(grid: Grid, device: torch.device) -> Fit:
    """No normalisation but one number per spectrum: the mean of its good points, so that all spectra are about 1."""

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        return torch.broadcast_to(mean_good(flux_BG, ivar_BG.sign()).abs().clamp(min=1e-30), flux_BG.shape)

    return fit


def mean_good(flux_BG: Tensor, good_BG: Tensor) -> Tensor:
    """The mean over good points [B, 1]; 0 where there are none."""
    mean_B1: Tensor = torch.linalg.vecdot(flux_BG, good_BG)[:, None] / good_BG.sum(1, keepdim=True).clamp(
        min=1
    )
    return mean_B1


def msfl(grid: Grid, device: torch.device) -> Fit:
    """System 0: one polynomial of order 5 in log wavelength; what lies over 4 sigma above or 3 below is put onto the fit until nothing does.

    All spectra share the grid, so a fit is a projection onto one orthonormal basis: a round costs two thin matrix products. Bad points
    start at the mean and are put onto the fit each round.
    """
    x = np.log10(grid.wave)
    x = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    basis = np.linalg.qr(np.polynomial.legendre.legvander(x, 5))[0].T
    basis_KG = _constant(basis, device)

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        good_BG = ivar_BG.sign()
        mean_B1 = mean_good(flux_BG, good_BG)
        # about the mean float32 keeps all its digits; the basis holds the constant
        coef_BK = _clipped((flux_BG - mean_B1).mul_(good_BG), good_BG, basis_KG)
        return torch.addmm(mean_B1, coef_BK, basis_KG)

    return fit


def _clipped(
    rest_BG: Tensor, good_BG: Tensor, basis_KG: Tensor, low: float = 3.0, high: float = 4.0
) -> Tensor:
    """Coefficients of the clipped fit. What is kept is the residual in units of its sigma: 'put onto the fit' is then 'set to 0'.

    No comparison makes a mask: shrinking to 0 within limits is several times faster on a CPU. Rows that are done leave the work.
    """
    points_B1 = good_BG.sum(1, keepdim=True).clamp_(min=1)
    coef_BK = (basis_KG @ rest_BG.T).T
    rest_BG = torch.addmm(rest_BG, coef_BK, basis_KG, alpha=-1).mul_(good_BG)
    coef_BK, scale_B1, live_B1 = coef_BK.contiguous(), torch.ones_like(points_B1), torch.ones_like(points_B1)
    rows_B = torch.arange(len(rest_BG), device=rest_BG.device)
    for _ in range(ROUNDS):
        sigma_B1 = (
            torch.linalg.vector_norm(rest_BG, dim=1, keepdim=True).div_(points_B1.sqrt()).clamp_(min=1e-30)
        )
        scale_B1 = scale_B1 * sigma_B1
        # stretched below 0 the limits are the same on both sides, and one shrinking finds what is beyond them
        even_BG = leaky_relu(rest_BG.mul_(1 / sigma_B1), high / low)
        hits_BG = hardshrink(even_BG, high)
        live_B1 = live_B1 * torch.linalg.vector_norm(hits_BG, dim=1, keepdim=True).sign()
        left_B = live_B1[:, 0].nonzero()[:, 0]
        if len(left_B) == 0:
            break
        rest_BG = leaky_relu(even_BG.sub_(hits_BG), low / high, inplace=True)
        if len(left_B) < 0.75 * len(rows_B):
            rest_BG, good_BG = rest_BG[left_B], good_BG[left_B]
            rows_B, scale_B1, points_B1, live_B1 = (
                rows_B[left_B],
                scale_B1[left_B],
                points_B1[left_B],
                live_B1[left_B],
            )
        step_BK = (basis_KG @ rest_BG.T).T * live_B1
        coef_BK.index_add_(0, rows_B, step_BK * scale_B1)
        rest_BG.addmm_(step_BK, basis_KG, alpha=-1).mul_(good_BG)
    return coef_BK


SEGMENTS = 5


def segment(grid: Grid, device: torch.device) -> Fit:
    """System 1: five pieces, in each a parabola through what lies above the piece's median; here the pieces overlap and blend.

    Pieces have equal numbers of points and reach a quarter of their length into each neighbour; the weights of two pieces cross over
    linearly there. Each piece is smoothed (median of 11) first, and its continuum is at least a twentieth of its highest point.
    """
    pieces = [
        (part, _constant(_vander(part.stop - part.start), device, torch.float64), _constant(weight, device))
        for part, weight in _pieces(len(grid))
    ]

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        total_BG = torch.zeros_like(flux_BG)
        for part, basis_SK, weight_S in pieces:
            total_BG[:, part] += weight_S * _upper_parabola(flux_BG[:, part], ivar_BG[:, part] > 0, basis_SK)
        return total_BG

    return fit


def _pieces(points: int) -> list[tuple[slice, np.ndarray]]:
    """Overlapping pieces and their weights, which add up to 1 everywhere."""
    bounds = np.linspace(0, points, SEGMENTS + 1).round().astype(int)
    reach = points // (4 * SEGMENTS)
    x = np.arange(points)
    found = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        rise = np.ones(points) if number == 0 else np.clip((x - (start - reach)) / (2 * reach), 0, 1)
        fall = (
            np.zeros(points) if number == SEGMENTS - 1 else np.clip((x - (stop - reach)) / (2 * reach), 0, 1)
        )
        part = slice(max(0, start - reach), min(points, stop + reach))
        found.append((part, (rise - fall)[part].astype(np.float32)))
    return found


def _vander(points: int) -> np.ndarray:
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, points), 2)


def _upper_parabola(flux_BS: Tensor, good_BS: Tensor, basis_SK: Tensor) -> Tensor:
    """A parabola through the good points above the median of the smoothed piece; flat where fewer than three are left."""
    smooth_BS = _median11(torch.where(good_BS, flux_BS, torch.nan))
    median_B1 = smooth_BS.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
    used_BS = (smooth_BS >= median_B1).double()
    value_BS = smooth_BS.nan_to_num(0.0).double()
    normal_BKK = torch.einsum("bs,sk,sl->bkl", used_BS, basis_SK, basis_SK)
    ridge = 1e-9 * torch.eye(basis_SK.shape[1], device=flux_BS.device, dtype=torch.float64)
    coef_BK = torch.linalg.solve(normal_BKK + ridge, (used_BS * value_BS) @ basis_SK)
    fit_BS = torch.where(used_BS.sum(1, keepdim=True) >= 3, coef_BK @ basis_SK.T, median_B1.double())
    return torch.maximum(fit_BS, 0.05 * value_BS.amax(1, keepdim=True)).float()


def _median11(flux_BS: Tensor) -> Tensor:
    """Running median over the good points among 11; NaN marks bad points and stays where all are bad."""
    padded = pad(flux_BS, (5, 5), value=torch.nan)
    return padded.unfold(1, 11, 1).nanmedian(-1).values


KNOT = 0.0175
"""Distance of the spline's knots in log10 wavelength: 160 to 350 angstrom, wider than any atomic line, narrower than a response's wiggle."""


def spline(grid: Grid, device: torch.device) -> Fit:
    """A smoothing spline of cubic pieces through the upper part of the spectrum, weighted by ivar.

    Points well below the fit (lines, bands) lose their weight round by round; a penalty on the bend of neighbouring coefficients carries
    the fit over gaps and blanketed stretches.
    """
    basis_GK, penalty_KK = (_constant(array, device) for array in _splines(grid))
    pairs_GL, where_KK = _products(basis_GK)

    def fit(flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        good_BG = ivar_BG.sign()
        mean_B1 = mean_good(flux_BG, good_BG).abs().clamp_(min=1e-30)
        value_BG = flux_BG * good_BG / mean_B1
        weight_BG = ivar_BG * mean_B1**2
        # a floor under the error keeps one bright stretch from deciding the shape
        weight_BG = weight_BG / (1 + 1e-4 * weight_BG)
        strength_B11 = weight_BG.sum(1)[:, None, None] / len(grid) + 1e-12
        used_BG = weight_BG
        for _ in range(6):
            normal_BKK = (used_BG @ pairs_GL)[:, where_KK] + strength_B11 * penalty_KK
            coef_BK1 = torch.cholesky_solve(
                ((used_BG * value_BG) @ basis_GK)[..., None], torch.linalg.cholesky(normal_BKK)
            )
            fit_BG = coef_BK1[..., 0] @ basis_GK.T
            below_BG = (fit_BG - value_BG) * weight_BG.sqrt()
            used_BG = weight_BG / (1 + below_BG.sub_(0.5).clamp_(min=0).square_())
        return fit_BG * mean_B1

    return fit


def _splines(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines at the grid points and the penalty on second differences of their coefficients."""
    from scipy.interpolate import BSpline

    x = np.log10(grid.wave)
    inner = np.linspace(x[0], x[-1], max(5, round((x[-1] - x[0]) / KNOT) + 1))
    step = inner[1] - inner[0]
    knots = np.concatenate((inner[0] - step * np.arange(3, 0, -1), inner, inner[-1] + step * np.arange(1, 4)))
    design = BSpline.design_matrix(x, knots, 3).toarray()
    bend = np.diff(np.eye(design.shape[1]), 2, axis=0)
    penalty = 2.0 * bend.T @ bend + 1e-6 * np.eye(design.shape[1])
    return design, penalty


def _products(basis_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Products of splines that overlap, as columns [G, L], and where each pair's column is; the last column is 0 for pairs that do not."""
    size = basis_GK.shape[1]
    pairs = [(one, two) for one in range(size) for two in range(one, min(one + 4, size))]
    columns = torch.stack(
        [basis_GK[:, one] * basis_GK[:, two] for one, two in pairs] + [torch.zeros_like(basis_GK[:, 0])], 1
    )
    where = torch.full((size, size), len(pairs), dtype=torch.int64, device=basis_GK.device)
    for number, (one, two) in enumerate(pairs):
        where[one, two] = where[two, one] = number
    return columns, where
