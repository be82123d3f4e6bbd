"""Images of any size and range become bytes of one size, as a store keeps them.

An image is cropped around its middle, averaged or interpolated to the size of the store, and stretched to
0 ... 255. A store marks a missing image by zeros only, so an image without any contrast is refused.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from survey.images.decode import Pixels
from survey.images.settings import PrepareImages, Stretch
from survey.spectrum import Refused

SHADOW, MIDDLE = 0.001, 1 / 8
"""The midtone stretch: the share of pixels that become black, and where the median goes."""
EMPTY = 1e-6
"""Pixels so near to the lowest value, as a share of it, are empty: resizing leaves rounding errors."""


def prepare(pixels: Pixels, settings: PrepareImages) -> NDArray[np.uint8]:
    """An image of a store: (C, size, size), bytes."""
    if pixels.max() == pixels.min():
        raise Refused("blank_image", f"all pixels are {float(pixels.max()):g}")
    is_display = pixels.dtype == np.uint8
    image = _colours(pixels.astype(np.float32), settings.channels)
    image = _resized(_cropped(image, settings.crop), settings.size)
    method: Stretch = settings.stretch
    if method == "none" and is_display:
        result = image.round().clip(0, 255).astype(np.uint8)
    else:
        result = (255 * stretch(image, "joint" if method == "none" else method)).round().astype(np.uint8)
    if result.max() == result.min():
        raise Refused("blank_image", "no contrast is left at this size")
    return result


def stretch(image: NDArray[np.float32], method: Stretch) -> NDArray[np.float32]:
    """Brightness between 0 and 1."""
    axes = (1, 2) if method == "channel" else (0, 1, 2)
    if method == "midtone":
        return _midtone(image)
    low, high = image.min(axes, keepdims=True), image.max(axes, keepdims=True)
    return np.asarray((image - low) / np.maximum(high - low, 1e-30), np.float32)


def _midtone(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The curve through (0, 0), (median, 1/8) and (1, 1), as programs that show images use it.

    Where an image is empty, it has its lowest value; such pixels do not count for the median.
    """
    floor, high = float(image.min()), float(image.max())
    filled = image[image > floor + EMPTY * abs(floor)]
    low = float(np.quantile(filled, SHADOW)) if filled.size else floor
    if low >= high:  # two values only
        low = floor
    scaled = ((image - low) / max(high - low, 1e-30)).clip(0, 1)
    median = (float(np.median(filled)) - low) / max(high - low, 1e-30) if filled.size else 0.0
    if not 0 < median < 1:
        return scaled
    balance = median * (MIDDLE - 1) / (2 * MIDDLE * median - MIDDLE - median)
    return np.asarray((balance - 1) * scaled / ((2 * balance - 1) * scaled - balance), np.float32)


def _colours(image: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """The mean of all planes, or three colours: the first plane, the middle one and the last.

    Two planes get their mean between them.
    """
    if channels == 1:
        return np.asarray(image.mean(0, keepdims=True))
    if len(image) == 1:
        return np.repeat(image, 3, 0)
    middle = image.mean(0) if len(image) == 2 else image[len(image) // 2]
    return np.stack([image[0], middle, image[-1]])


def _cropped(image: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """The middle square of an image, or a share of it."""
    height, width = image.shape[1:]
    side = max(1, round(min(height, width) * share))
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def _resized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The image with this number of pixels on a side: means of pixels, or lines between them."""
    if image.shape[1] == size:
        return image
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    if image.shape[1] % size == 0:
        return np.asarray(functional.avg_pool2d(tensor, image.shape[1] // size)[0].numpy())
    changed = functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True)
    return np.asarray(changed[0].numpy())
