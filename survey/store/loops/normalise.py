"""The grid and the continuum -> normalised spectra."""

import numpy as np
import torch
from torch import Tensor

from survey.store.loops.compile_loop import NOTHING, ONE, ROW, ROWS, ZERO, Array, compiled


def normalise(
    flux_BG: Tensor, ivar_BG: Tensor, curve_BG: Tensor, limits: tuple[float, float, float]
) -> tuple[Tensor, Array]:
    """The second part of `Preparer._normalise`: gives the scale [B], and how many points of each spectrum are
    below the floor and beyond the limits [B, 2].

    `limits` are the floor of the continuum and the lowest and highest flux. The loop works in
    the three arrays.
    """
    scale_B, counts_B2 = np.empty(len(flux_BG), np.float32), np.empty((len(flux_BG), 2), np.float32)
    arrays = (flux_BG.numpy(), ivar_BG.numpy(), curve_BG.numpy())
    _normalise(*arrays, np.array(limits, np.float32), scale_B, counts_B2)
    return torch.from_numpy(scale_B), counts_B2


@compiled(NOTHING(ROWS, ROWS, ROWS, ROW, ROW, ROWS))
def _normalise(
    flux_BG: Array, ivar_BG: Array, curve_BG: Array, limits_3: Array, scale_B: Array, counts_B2: Array
) -> None:
    floor, lowest, highest = limits_3[0], limits_3[1], limits_3[2]
    for row in range(len(flux_BG)):
        flux_G, ivar_G, curve_G = flux_BG[row], ivar_BG[row], curve_BG[row]
        total = ZERO
        for g in range(len(curve_G)):
            total += abs(curve_G[g])
        scale = max(total / np.float32(len(curve_G)), np.float32(1e-6))
        inverse, floored, outliers = ONE / scale, ZERO, ZERO
        for g in range(len(curve_G)):
            curve = curve_G[g] * inverse
            curve_G[g] = curve
            divisor = (curve if curve > floor else floor) * scale
            ratio = flux_G[g] / divisor
            good = ONE if ivar_G[g] > 0 else ZERO
            high = good if curve >= floor else ZERO
            within = high if ratio >= lowest else ZERO
            within = within if ratio <= highest else ZERO
            floored += good - high
            outliers += high - within
            ivar = divisor * divisor * within * ivar_G[g]
            ivar_G[g] = ivar
            flux_G[g] = ratio if ivar > 0 else ONE
        scale_B[row], counts_B2[row, 0], counts_B2[row, 1] = scale, floored, outliers
