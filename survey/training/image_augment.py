"""Changes training images as the sky and telescopes do: other angles, seeing, noise and brightness.

For training only. All random numbers come from one generator and are drawn for the whole batch, as for
spectra (`survey.training.augment`). A missing image (all 0) stays missing.

Shapes: B images, C colours, H rows, W columns, K kernel.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from survey.images.motion import move
from survey.training.augment_settings import ImageAugment

COLUMNS = 9
"""Random numbers of an image, besides one for each colour."""


def augment_images(
    settings: ImageAugment, image_BCHW: Tensor, generator: torch.Generator, rank: int = 0, world_size: int = 1
) -> Tensor:
    """New images, from 0 to 255 as the old ones, but no whole numbers any more."""
    rows, colours = image_BCHW.shape[:2]
    local = slice(rank * rows, (rank + 1) * rows)
    device, total = generator.device, rows * world_size
    drawn = torch.rand((total, COLUMNS + colours), generator=generator, device=device)[local]
    drawn = drawn.to(image_BCHW.device)
    image = image_BCHW.float() / 255
    has_image_B111 = (image.flatten(1).amax(1) > 0)[:, None, None, None]
    if settings.turn or settings.shift or settings.zoom:
        image = _moved(settings, image, drawn[:, :5])
    if settings.seeing:
        image = _blurred(image, settings.seeing * drawn[:, 5])
    if settings.brightness:
        image = image * (1 + settings.brightness * (2 * drawn[:, 6, None, None, None] - 1))
    if settings.colour:
        image = image * (1 + settings.colour * (2 * drawn[:, COLUMNS:, None, None] - 1))
    if settings.noise:
        noise = torch.randn((total, *image.shape[1:]), generator=generator, device=device)[local]
        image = image + settings.noise * drawn[:, 7, None, None, None] * noise.to(image.device)
    changed = image.clamp(1 / 255, 1) * 255
    is_used_B111 = has_image_B111 & (drawn[:, 8] < settings.probability)[:, None, None, None]
    return torch.where(is_used_B111, changed, image_BCHW.float())


def _moved(settings: ImageAugment, image_BCHW: Tensor, drawn_B5: Tensor) -> Tensor:
    """Images turned by any angle or mirrored, shifted and zoomed."""
    turn_B, mirror_B, x_B, y_B, zoom_B = drawn_B5.unbind(1)
    angle_B = 2 * math.pi * turn_B if settings.turn else torch.zeros_like(turn_B)
    sign_B = torch.where(mirror_B < 0.5, -1.0, 1.0) if settings.turn else torch.ones_like(turn_B)
    scale_B = (1 + settings.zoom) ** (2 * zoom_B - 1)
    reach = 2 * settings.shift / image_BCHW.shape[-1]
    shift_B2 = reach * (2 * torch.stack((x_B, y_B), 1) - 1)
    return move(image_BCHW, angle_B, sign_B, scale_B, shift_B2)


def _blurred(image_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Images smoothed by Gaussians of their own widths in pixels."""
    rows, colours, height, width = image_BCHW.shape
    reach = min(max(1, math.ceil(3 * float(sigma_B.max()))), height - 1, width - 1)
    offset_K = torch.arange(-reach, reach + 1, device=image_BCHW.device, dtype=image_BCHW.dtype)
    kernel_BK = torch.exp(-0.5 * (offset_K / sigma_B.clamp_min(1e-3)[:, None]) ** 2)
    kernel_BK = kernel_BK / kernel_BK.sum(1, keepdim=True)
    kernel = kernel_BK.repeat_interleave(colours, 0)[:, None, None]
    flat = image_BCHW.reshape(1, rows * colours, height, width)
    padded = functional.pad(flat, (reach, reach, reach, reach), mode="reflect")
    across = functional.conv2d(padded, kernel, groups=rows * colours)
    return functional.conv2d(across, kernel.mT, groups=rows * colours).reshape(image_BCHW.shape)
