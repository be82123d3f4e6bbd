"""Images seen at another angle, place and scale: what a training draws for each of them.

Shapes: B images, C colours, H rows, W columns.
"""

import torch
from torch import Tensor
from torch.nn import functional


def move(image_BCHW: Tensor, angle_B: Tensor, mirror_B: Tensor, scale_B: Tensor, shift_B2: Tensor) -> Tensor:
    """Images turned by angles (radians), mirrored where `mirror_B` is -1, scaled, and shifted.

    A shift of 2 is the whole side. The edge is continued by reflection.
    """
    cos_B, sin_B = scale_B * angle_B.cos(), scale_B * angle_B.sin()
    matrix_B23 = torch.stack(
        (
            torch.stack((mirror_B * cos_B, -sin_B, shift_B2[:, 0]), 1),
            torch.stack((mirror_B * sin_B, cos_B, shift_B2[:, 1]), 1),
        ),
        1,
    )
    grid = functional.affine_grid(matrix_B23, list(image_BCHW.shape), align_corners=False)
    return functional.grid_sample(image_BCHW, grid, padding_mode="reflection", align_corners=False)
