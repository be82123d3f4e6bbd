"""Numbers of spectra on the grid: good points, signal to noise, the mean flux of windows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from survey.store.loops.compile_loop import INTEGER, NOTHING, ONE, ROW, ROWS, ZERO, Array, compiled


def point_numbers(flux_BG: Tensor, ivar_BG: Tensor, every: int) -> tuple[Tensor, Tensor, Tensor]:
    """As in `measure_quality`: good points, negative ones among them, and the median signal to noise."""
    good_B, negative_B, snr_B = (np.empty(len(flux_BG), np.float32) for _ in range(3))
    _point_numbers(flux_BG.numpy(), ivar_BG.numpy(), every, good_B, negative_B, snr_B)
    return torch.from_numpy(good_B), torch.from_numpy(negative_B), torch.from_numpy(snr_B)


@compiled(NOTHING(ROWS, ROWS, INTEGER, ROW, ROW, ROW))
def _point_numbers(
    flux_BG: Array, ivar_BG: Array, every: int, good_B: Array, negative_B: Array, snr_B: Array
) -> None:
    snr_S = np.empty(flux_BG.shape[1] // every + 1, np.float32)
    for row in range(len(flux_BG)):
        flux_G, ivar_G = flux_BG[row], ivar_BG[row]
        points, negative = ZERO, ZERO
        for g in range(len(flux_G)):
            good = ONE if ivar_G[g] > 0 else ZERO
            below = ONE if flux_G[g] < 0 else ZERO
            above = ONE if flux_G[g] > 0 else ZERO
            points += good
            negative += good * (ONE + below - above)
        size = 0
        for g in range(0, len(flux_G), every):
            if ivar_G[g] > 0:
                snr_S[size] = flux_G[g] * np.sqrt(ivar_G[g])
                size += 1
        middle = (size - 1) // 2
        snr_B[row] = np.partition(snr_S[:size], middle)[middle] if size else ZERO
        good_B[row], negative_B[row] = points, negative / np.float32(2)


def window_means(
    flux_BG: Tensor, ivar_BG: Tensor, bands: Sequence[slice], step_G: Tensor, least_K: Tensor
) -> Tensor:
    """As `IndexMeter._means`: the means of these bands of the grid [B, K]."""
    mean_BK = np.empty((len(flux_BG), len(bands)), np.float32)
    bands_K2 = np.array([(band.start, band.stop) for band in bands])
    _window_means(flux_BG.numpy(), ivar_BG.numpy(), bands_K2, step_G.numpy(), least_K.numpy(), mean_BK)
    return torch.from_numpy(mean_BK)


@compiled(NOTHING(ROWS, ROWS, INTEGER[:, ::1], ROW, ROW, ROWS))
def _window_means(
    flux_BG: Array, ivar_BG: Array, bands_K2: Array, step_G: Array, least_K: Array, mean_BK: Array
) -> None:
    for row in range(len(flux_BG)):
        flux_G, ivar_G = flux_BG[row], ivar_BG[row]
        for k in range(len(bands_K2)):
            total, width = ZERO, ZERO
            for g in range(bands_K2[k, 0], bands_K2[k, 1]):
                weight = step_G[g] if ivar_G[g] > 0 else ZERO
                total += flux_G[g] * weight
                width += weight
            mean_BK[row, k] = total / width if width > least_K[k] else np.nan
