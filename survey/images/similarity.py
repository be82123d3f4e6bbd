"""How alike two images are: the structural similarity of Wang et al. 2004 (SSIM).

Shapes: B images, C colours, H rows, W columns.
"""

import torch
from torch import Tensor
from torch.nn import functional

WIDTH, SIGMA = 11, 1.5
"""The window: pixels of a side, and the deviation of its Gaussian."""
FIRST, SECOND = 0.01**2, 0.03**2


def ssim(first_BCHW: Tensor, second_BCHW: Tensor, sigma: float = SIGMA) -> Tensor:
    """The mean similarity of each pair of images with values from 0 to 1; 1 = equal.

    It is a difference of nearly equal numbers, so it is computed in float32 at least, within an autocast too.
    """
    kind = torch.promote_types(torch.promote_types(first_BCHW.dtype, second_BCHW.dtype), torch.float32)
    with torch.autocast(first_BCHW.device.type, enabled=False):
        return _ssim(first_BCHW.to(kind), second_BCHW.to(kind), sigma)


def _ssim(first_BCHW: Tensor, second_BCHW: Tensor, sigma: float) -> Tensor:
    side = min(WIDTH, *first_BCHW.shape[2:])
    side -= 1 - side % 2
    offset = torch.arange(side, device=first_BCHW.device, dtype=first_BCHW.dtype) - side // 2
    line = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).expand(first_BCHW.shape[1], 1, side, side)

    def mean(values: Tensor) -> Tensor:
        return functional.conv2d(values, kernel, groups=values.shape[1])

    a, b = mean(first_BCHW), mean(second_BCHW)
    var_a, var_b = mean(first_BCHW**2) - a**2, mean(second_BCHW**2) - b**2
    covariance = mean(first_BCHW * second_BCHW) - a * b
    likeness = ((2 * a * b + FIRST) * (2 * covariance + SECOND)) / (
        (a**2 + b**2 + FIRST) * (var_a + var_b + SECOND)
    )
    return likeness.flatten(1).mean(1)
