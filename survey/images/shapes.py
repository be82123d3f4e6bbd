"""The shape of the object in the middle of an image, in ten numbers: a baseline that every network must beat.

Concentration, asymmetry and smoothness are those of Conselice (2003), Gini and M20 those of Lotz et al.
(2004). All are measured on the mean of the channels, as it is stored: in a stretched picture they follow the
stretch. photutils finds the object; what else is in the image is left out. A value that cannot be measured is
NaN. Shapes: N images, C channels, Y rows, X columns, K statistics.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, shift, uniform_filter

from survey.settings import JobError

NAMES = (
    *("concentration", "asymmetry", "smoothness", "gini", "m20", "ellipticity"),
    *("effective_radius", "sersic_index"),
)
"""Lengths are in pixels. After these come the colours of neighbouring channels, in magnitudes."""

SMALLEST = 9
"""Pixels of the smallest object."""
THRESHOLD = 2.0
"""An object is brighter than the sky by so many standard deviations of the smoothed image."""
INDICES = np.round(0.3 * 1.12 ** np.arange(30), 3)
"""The Sersic indices that are tried: 0.3 to 8."""


class Found(NamedTuple):
    """The object in the middle: its light without the sky, its pixels, those of no other object, and the
    noise of a pixel."""

    light_YX: np.ndarray
    object_YX: np.ndarray
    free_YX: np.ndarray
    noise: float


def shape_statistics(images: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the statistics and their values [N, K], of images [N, C, Y, X] of bytes."""
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images: {images.dtype} of shape {images.shape}; give bytes of shape [N, C, Y, X]")
    colours = tuple(f"colour_{number}_{number + 1}" for number in range(images.shape[1] - 1))
    values = np.full((len(images), len(NAMES) + len(colours)), np.nan)
    for row, image in enumerate(images):
        channels = image.astype(np.float64)
        found = find(channels.mean(0))
        if found is not None:
            values[row, : len(NAMES)] = _of_shape(found)
            values[row, len(NAMES) :] = _colours(channels, found)
    return (*NAMES, *colours), values


def find(image: np.ndarray) -> Found | None:
    """The object in the middle of one channel; None if there is none."""
    segmentation = _segmentation()
    sky, noise = _sky(image)
    smooth = gaussian_filter(image, 1.0) - sky
    with warnings.catch_warnings(action="ignore"):  # photutils warns where there is no object
        segments = segmentation.detect_sources(smooth, max(THRESHOLD * 0.4 * noise, 0.5), SMALLEST)
    if segments is None:
        return None
    label = _central(np.asarray(segments.data))
    if label == 0:
        return None
    is_object = segments.data == label
    return Found(image - sky, is_object, is_object | (segments.data == 0), noise)


def _segmentation() -> Any:
    try:
        from photutils import segmentation
    except ModuleNotFoundError:
        raise JobError(
            "images: statistics of shapes need photutils, which is not installed; "
            "install it with: pip install photutils"
        ) from None
    return segmentation


def _sky(image: np.ndarray) -> tuple[float, float]:
    """Level and noise of the sky, from the edges of the image without their bright objects."""
    width = max(min(image.shape) // 10, 2)
    edge = np.ones(image.shape, bool)
    edge[width:-width, width:-width] = False
    pixels = image[edge]
    for _ in range(5):
        level, spread = (
            float(np.median(pixels)),
            1.4826 * float(np.median(np.abs(pixels - np.median(pixels)))),
        )
        kept = np.abs(pixels - level) <= 3 * max(spread, 0.3)
        if kept.all():
            break
        pixels = pixels[kept]
    return float(pixels.mean()), max(float(pixels.std()), 0.3)  # bytes are rounded to 1: 0.3 at least


def _central(labels: np.ndarray) -> int:
    """The object nearest to the middle of the image, within an eighth of its size; 0 = none."""
    middle = (np.array(labels.shape) - 1) / 2
    y, x = np.nonzero(labels)
    distance = np.hypot(y - middle[0], x - middle[1])
    nearest = int(np.argmin(distance))
    return int(labels[y[nearest], x[nearest]]) if distance[nearest] <= min(labels.shape) / 8 else 0


def _of_shape(found: Found) -> list[float]:
    """The values of `NAMES` of one object."""
    light = np.where(found.object_YX, found.light_YX, 0.0)
    total = float(light.sum())
    if total <= 0:
        return [float("nan")] * len(NAMES)
    centre, covariance = _moments(light)
    eigenvalues = np.linalg.eigvalsh(covariance)
    ratio = float(np.sqrt(max(eigenvalues[0], 1e-9) / max(eigenvalues[1], 1e-9)))
    radii, largest = _growth(found, centre)
    r20, r50, r80 = radii
    return [
        5 * float(np.log10(r80 / r20)) if r20 > 0 else float("nan"),
        _asymmetry(found, centre, largest),
        _smoothness(found, centre, r20, largest),
        _gini(found.light_YX[found.object_YX]),
        _m20(light, centre),
        1 - ratio,
        r50,
        _sersic_index(found, centre, covariance, largest),
    ]


def _moments(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (y, x) and second moments of the light."""
    y, x = np.indices(light.shape)
    weight = np.maximum(light, 0.0) / np.maximum(light, 0.0).sum()
    centre = np.array([(weight * y).sum(), (weight * x).sum()])
    dy, dx = y - centre[0], x - centre[1]
    cross = (weight * dy * dx).sum()
    return centre, np.array([[(weight * dy * dy).sum(), cross], [cross, (weight * dx * dx).sum()]])


def _distance(shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    y, x = np.indices(shape)
    return np.asarray(np.hypot(y - centre[0], x - centre[1]))


def _growth(found: Found, centre: np.ndarray) -> tuple[list[float], float]:
    """The radii that hold 20, 50 and 80 % of the light of the object, and the distance of its last pixel."""
    distance = _distance(found.light_YX.shape, centre)
    inside = found.object_YX
    order = np.argsort(distance[inside], kind="stable")
    grown = np.cumsum(np.maximum(found.light_YX[inside][order], 0.0))
    grown /= grown[-1]
    # n pixels fill a disc of radius sqrt(n / pi) where the object fills its circles; further out they do not
    edge = np.maximum(distance[inside][order], np.sqrt((np.arange(len(grown)) + 1) / np.pi))
    radii = [float(np.interp(share, grown, edge)) for share in (0.2, 0.5, 0.8)]
    return radii, float(distance[inside].max())


def _asymmetry(found: Found, centre: np.ndarray, largest: float) -> float:
    """How much of the light differs from that of the image turned by 180 degrees, for the best centre.

    The part that noise alone would give is taken off.
    """
    middle = (np.array(found.light_YX.shape) - 1) / 2
    clean = np.where(found.free_YX, found.light_YX, 0.0)
    inside = _distance(clean.shape, middle) <= largest
    values = []
    for dy in (-0.5, 0.0, 0.5):
        for dx in (-0.5, 0.0, 0.5):
            moved = shift(clean, middle - centre + (dy, dx), order=1)
            difference = np.abs(moved - moved[::-1, ::-1])[inside].sum()
            values.append(float(difference / max(np.abs(moved[inside]).sum(), 1e-9)))
    by_noise = 0.8 * inside.sum() * found.noise / max(float(np.abs(clean[inside]).sum()), 1e-9)
    return min(values) - float(by_noise)


def _smoothness(found: Found, centre: np.ndarray, inner: float, largest: float) -> float:
    """The share of light in structures smaller than a sixth of the object, without the centre and noise."""
    width = max(round(largest / 3), 3)
    light = np.where(found.free_YX, found.light_YX, 0.0)
    rough = np.maximum(light - uniform_filter(light, width), 0.0)
    outside = found.object_YX & (_distance(light.shape, centre) > max(inner, width / 2))
    total = float(found.light_YX[found.object_YX].sum())
    if not outside.any() or total <= 0:
        return float("nan")
    return float((rough[outside].sum() - 0.4 * found.noise * outside.sum()) / total)


def _gini(values: np.ndarray) -> float:
    """How unequally the light is distributed over the pixels: 0 = equally, 1 = all in one."""
    ordered = np.sort(np.abs(values))
    count = len(ordered)
    mean = float(ordered.mean())
    if count < 2 or mean <= 0:
        return float("nan")
    weights = 2 * np.arange(1, count + 1) - count - 1
    return float((weights * ordered).sum() / (mean * count * (count - 1)))


def _m20(light: np.ndarray, centre: np.ndarray) -> float:
    """The second moment of the brightest pixels with a fifth of the light, relative to all, as log10."""
    moment = np.maximum(light, 0.0) * _distance(light.shape, centre) ** 2
    order = np.argsort(light, axis=None)[::-1]
    grown = np.cumsum(np.maximum(light.ravel()[order], 0.0))
    brightest = order[grown <= 0.2 * grown[-1]]
    part, total = float(moment.ravel()[brightest].sum()), float(moment.sum())
    return float(np.log10(part / total)) if part > 0 and total > 0 else float("nan")


def _sersic_index(found: Found, centre: np.ndarray, covariance: np.ndarray, largest: float) -> float:
    """The index whose profile fits the mean light on ellipses best, beyond the innermost 1.5 pixels."""
    y, x = np.indices(found.light_YX.shape)
    offset = np.stack([y - centre[0], x - centre[1]], -1)
    inverse = np.linalg.pinv(covariance) * np.sqrt(max(np.linalg.det(covariance), 1e-12))
    radius = np.sqrt(np.maximum(np.einsum("yxi,ij,yxj->yx", offset, inverse, offset), 0.0))
    edges = np.geomspace(1.5, max(largest, 3.0), 14)
    ring = np.digitize(radius, edges)
    ring[~found.free_YX] = 0
    count = np.bincount(ring.ravel(), minlength=len(edges) + 1)[1 : len(edges)]
    light = np.bincount(ring.ravel(), found.light_YX.ravel(), len(edges) + 1)[1 : len(edges)]
    middle = np.bincount(ring.ravel(), radius.ravel(), len(edges) + 1)[1 : len(edges)]
    filled = count > 0
    mean, at = light[filled] / count[filled], middle[filled] / count[filled]
    error = np.hypot(found.noise / np.sqrt(count[filled]), 0.02 * np.maximum(mean, 0.0))
    good = mean > 3 * error
    if good.sum() < 5:
        return float("nan")
    weight = (mean[good] / error[good]) ** 2
    powers = at[good] ** (1 / INDICES[:, None])
    target = np.log(mean[good])
    dx = powers - np.average(powers, axis=1, weights=np.broadcast_to(weight, powers.shape))[:, None]
    dy = target - np.average(target, weights=weight)
    slope = (weight * dx * dy).sum(1) / np.maximum((weight * dx * dx).sum(1), 1e-30)
    misfit = (weight * (dy - slope[:, None] * dx) ** 2).sum(1)
    return float(INDICES[np.argmin(misfit)]) if (slope < 0).any() else float("nan")


def _colours(channels: np.ndarray, found: Found) -> list[float]:
    """Magnitude differences of neighbouring channels, of the light of the object."""
    fluxes = np.array([(channel - _sky(channel)[0])[found.object_YX].sum() for channel in channels])
    with np.errstate(invalid="ignore", divide="ignore"):
        colours = -2.5 * np.log10(np.where(fluxes > 0, fluxes, np.nan))
    return [float(value) for value in colours[:-1] - colours[1:]]
