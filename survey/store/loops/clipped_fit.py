"""The continuum of system 0: a polynomial through what is not clipped."""

import numpy as np
import torch
from numba import types
from torch import Tensor

from survey.store.loops.compile_loop import INTEGER, NOTHING, NUMBER, ONE, ROW, ROWS, ZERO, Array, compiled


def clipped_fit(
    flux_BG: Tensor, ivar_BG: Tensor, basis_KG: Tensor, rounds: int, clip: tuple[float, float]
) -> Tensor:
    """The continuum [B, G] of `msfl` in continuum.py. `clip` are the limits below and above, in sigma."""
    curve_BG = np.empty(flux_BG.shape, np.float32)
    rows = (flux_BG.numpy(), ivar_BG.numpy(), basis_KG.contiguous().numpy())
    _clipped_fit(*rows, rounds, *clip, curve_BG)
    return torch.from_numpy(curve_BG)


@compiled(types.UniTuple(NUMBER, 2)(ROW, ROW, ROW, ROW))
def _start_fit(
    flux_G: Array, ivar_G: Array, residual_G: Array, good_G: Array
) -> tuple[np.float32, np.float32]:
    """The mean of the good points and their number, at least 1; the residual from the mean."""
    total, points = ZERO, ZERO
    for g in range(len(flux_G)):
        good = ONE if ivar_G[g] > 0 else ZERO
        good_G[g] = good
        total += flux_G[g] * good
        points += good
    points = max(points, ONE)
    mean = total / points
    for g in range(len(flux_G)):
        residual_G[g] = (flux_G[g] - mean) * good_G[g]
    return mean, points


@compiled(NOTHING(ROWS, ROWS, ROWS, INTEGER, NUMBER, NUMBER, ROWS))
def _clipped_fit(
    flux_BG: Array, ivar_BG: Array, basis_6G: Array, rounds: int, low: float, high: float, curve_BG: Array
) -> None:
    """Each round sets what is beyond the limits to the fit, fits again, and takes the fit off.

    The six sums are written out, because they stay in registers so.
    """
    b0, b1, b2, b3, b4, b5 = basis_6G[0], basis_6G[1], basis_6G[2], basis_6G[3], basis_6G[4], basis_6G[5]
    residual_G, good_G = np.empty_like(b0), np.empty_like(b0)
    for row in range(len(flux_BG)):
        mean, points = _start_fit(flux_BG[row], ivar_BG[row], residual_G, good_G)
        t0, t1, t2, t3, t4, t5 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        top, bottom = np.float32(np.inf), np.float32(-np.inf)
        for _ in range(rounds + 1):
            kept = ZERO
            s0, s1, s2, s3, s4, s5 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
            for g in range(len(residual_G)):
                value = residual_G[g]
                within = ONE if value <= top else ZERO
                within = within if value >= bottom else ZERO
                value *= within
                kept += within
                residual_G[g] = value
                s0 += value * b0[g]
                s1 += value * b1[g]
                s2 += value * b2[g]
                s3 += value * b3[g]
                s4 += value * b4[g]
                s5 += value * b5[g]
            if kept == len(residual_G) and top < np.inf:
                break
            t0, t1, t2, t3, t4, t5 = t0 + s0, t1 + s1, t2 + s2, t3 + s3, t4 + s4, t5 + s5
            squares = ZERO
            for g in range(len(residual_G)):
                fit = s0 * b0[g] + s1 * b1[g] + s2 * b2[g] + s3 * b3[g] + s4 * b4[g] + s5 * b5[g]
                value = (residual_G[g] - fit) * good_G[g]
                squares += value * value
                residual_G[g] = value
            sigma = np.sqrt(squares / points)
            top, bottom = high * sigma, -low * sigma
        curve_G = curve_BG[row]
        for g in range(len(curve_G)):
            fit = t0 * b0[g] + t1 * b1[g] + t2 * b2[g] + t3 * b3[g] + t4 * b4[g] + t5 * b5[g]
            curve_G[g] = mean + fit
