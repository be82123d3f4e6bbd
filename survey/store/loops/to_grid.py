"""The pixels of spectra -> the grid: damage and spikes taken out, and straight lines between pixels."""

import math

import numpy as np
import torch
from numba import types
from torch import Tensor

from survey.store.loops.compile_loop import INTEGER, NOTHING, NUMBER, ONE, ROW, ROWS, ZERO, Array, compiled
from survey.store.resample import FAR, NEAR, Lattice

DESPIKE = {"none": 0, "noise": 1, "clip": 2}


def to_grid(
    flux_BW: Array, ivar_BW: Array, lattice: Lattice, offset_B: Array, despike: str, most: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Flux and ivar at the grid points and the unit [B, 1] of the flux: `Preparer._clean`, `Lattice.linear`.

    `most` are the largest sound flux and the largest ivar. The loops work in the arrays of the window.
    """
    column_G, offset_G = lattice.column_G.numpy(), lattice.offset_G.numpy()
    flux_BG, ivar_BG = (np.empty((len(flux_BW), len(column_G)), np.float32) for _ in range(2))
    unit_B = np.empty(len(flux_BW), np.float32)
    # handed over, not used as constants: numba would keep their old values when another file changes them
    numbers = np.array((*most, lattice.curvature, NEAR, 1 / FAR), np.float32)
    _to_grid(
        flux_BW, ivar_BW, column_G, offset_G, offset_B, DESPIKE[despike], numbers, flux_BG, ivar_BG, unit_B
    )
    flux, ivar, unit = map(torch.from_numpy, (flux_BG, ivar_BG, unit_B))
    return flux, ivar, unit[:, None]


@compiled(NUMBER(ROW, ROW, NUMBER, NUMBER))
def _clean(flux_W: Array, ivar_W: Array, most_flux: np.float32, most_ivar: np.float32) -> np.float32:
    """Zeros for damage; flux and ivar in units of about the mean |flux|. Gives the unit, a power of two."""
    total, count = ZERO, ZERO
    for i in range(len(flux_W)):
        flux, ivar = flux_W[i], ivar_W[i]
        ivar = ivar if ivar > 0 else ZERO
        ivar = ivar if ivar < np.inf else ZERO
        ivar = ivar if abs(flux) < most_flux else ZERO
        flux = flux if ivar > 0 else ZERO
        flux_W[i], ivar_W[i] = flux, ivar
        total += abs(flux)
        count += ONE if ivar > 0 else ZERO
    mean = total / max(count, ONE)
    unit = np.float32(math.ldexp(1.0, math.frexp(mean)[1]))
    # a flux that is 0 everywhere was never measured; the square of a unit may exceed float32
    square = np.float64(unit) * np.float64(unit) if mean > 0 else np.float64(0)
    for i in range(len(flux_W)):
        ivar = ivar_W[i] * square
        ivar_W[i] = ivar if ivar < most_ivar else most_ivar
        flux_W[i] /= unit
    return unit


@compiled(NOTHING(ROW, ROW, types.boolean, ROW, ROW))
def _despike(flux_W: Array, ivar_W: Array, by_noise: bool, median_W: Array, test_W: Array) -> None:
    """`despike` of prepare.py; the last two arrays are room to work in."""
    squares, count = ZERO, ZERO
    for i in range(1, len(flux_W) - 1):
        left, here, right = flux_W[i - 1], flux_W[i], flux_W[i + 1]
        low, high = (left if left < here else here), (here if left < here else left)
        high = high if high < right else right
        median = low if low > high else high
        good = ONE if ivar_W[i - 1] > 0 else ZERO
        good = good if ivar_W[i] > 0 else ZERO
        good = good if ivar_W[i + 1] > 0 else ZERO
        weight = np.sqrt(ivar_W[i]) if by_noise else ONE
        test = (here - median) * weight * good
        median_W[i], test_W[i] = median, test
        squares += test * test
        count += good
    spread = np.sqrt(squares / max(count, ONE))
    highest = np.float32(6) * max(spread, ONE) if by_noise else np.float32(4) * spread
    lowest = np.float32(-np.inf) if by_noise else np.float32(-3) * spread
    for i in range(1, len(flux_W) - 1):
        kept = ONE if test_W[i] <= highest else ZERO
        kept = kept if test_W[i] >= lowest else ZERO
        flux_W[i] = flux_W[i] if kept > 0 else median_W[i]
        ivar_W[i] *= kept


@compiled(NOTHING(ROW, ROW, INTEGER[::1], ROW, NUMBER, ROW, ROW, ROW, ROW))
def _linear(
    flux_W: Array,
    ivar_W: Array,
    column_G: Array,
    offset_G: Array,
    offset: float,
    numbers_5: Array,
    side_G: Array,
    flux_G: Array,
    ivar_G: Array,
) -> None:
    """`Lattice.linear`; `ivar_W` becomes the variance.

    `side_G` is room for the share of the neighbour: positive for the one after the pixel, negative for the
    one before.
    """
    curvature, near, least = numbers_5[2], numbers_5[3], numbers_5[4]
    for i in range(len(ivar_W)):
        ivar = ivar_W[i]
        ivar_W[i] = ONE / (ivar if ivar > least else least)
    for g in range(len(column_G)):
        distance = offset_G[g] - offset
        distance = distance if abs(distance) > near else ZERO
        bend = abs(distance) - ONE
        bend = bend if distance > 0 else -bend
        distance += curvature * distance * bend
        here = ONE - abs(distance)
        here = here if here > near else ZERO
        side_G[g] = (ONE - here) if distance > 0 else (here - ONE)
    for g in range(len(column_G)):
        side = side_G[g]
        i = column_G[g] - (1 if side < 0 else 0)
        after = side if side >= 0 else ONE + side
        here = ONE - after
        flux_G[g] = flux_W[i] * here + flux_W[i + 1] * after
        ivar_G[g] = ivar_W[i] * here * here + ivar_W[i + 1] * after * after
    least *= np.float32(1e8)
    for g in range(len(column_G)):
        ivar = ONE / ivar_G[g]
        ivar_G[g] = ivar if ivar > least else ZERO


@compiled(NOTHING(ROWS, ROWS, INTEGER[::1], ROW, ROW, INTEGER, ROW, ROWS, ROWS, ROW))
def _to_grid(
    flux_BW: Array,
    ivar_BW: Array,
    column_G: Array,
    offset_G: Array,
    offset_B: Array,
    despike: int,
    numbers_5: Array,
    flux_BG: Array,
    ivar_BG: Array,
    unit_B: Array,
) -> None:
    median_W, test_W = np.empty_like(flux_BW[0]), np.empty_like(flux_BW[0])
    side_G = np.empty_like(offset_G)
    for row in range(len(flux_BW)):
        flux_W, ivar_W = flux_BW[row], ivar_BW[row]
        unit_B[row] = _clean(flux_W, ivar_W, numbers_5[0], numbers_5[1])
        if despike > 0:
            _despike(flux_W, ivar_W, despike == 1, median_W, test_W)
        to = (side_G, flux_BG[row], ivar_BG[row])
        _linear(flux_W, ivar_W, column_G, offset_G, offset_B[row], numbers_5, *to)
