"""Damaged pixels of numbers: no measurement, far below the sky, or alone and far above what is around them.

A single pixel of -9999 or 1e30 would take all contrast from an image, because its lowest and highest values
become black and white. A telescope spreads the light of a star over several pixels, so a pixel that is bright
alone is no star, and neither is a row or a column of such pixels. In a negative the objects are dark: where
nothing is bright, a dark pixel is damaged only if it is alone too. An image without damage stays exactly as
it is. Shapes: C planes, H rows, W columns, N pixels, K neighbours.
"""

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e20
"""No image has values beyond this; programs fill pixels without a measurement with 1e30 or 3e38."""
FILLED = (-9999, -32768, -99999)
"""Other numbers for pixels without a measurement."""
SAMPLE = 4096
"""Pixels of a plane that show its sky; all of them would cost as much as reading the file."""
DEEPEST = 30.0
"""How far below the sky a sound pixel may be, in units of the median depth of the pixels below it: about 20
standard deviations of noise.
"""
HIGHEST = 5.0
"""How far above the sky a pixel must be to count as bright, in units of the height of the brightest 1 %."""
NEIGHBOUR_SHARE, NEIGHBOURS = 0.1, 2
"""A bright or dark pixel is sound if so many of its eight neighbours have this share of its height above the
sky, or of its depth below it, and not all of these are in its row or in its column.
"""
AROUND = np.array([(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)])

Plane = NDArray[np.float32]


def without_damage(values_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The planes without damage: what is too low or no measurement becomes the lowest sound value of all
    planes, what is bright alone the median of its neighbours. One value at least must be finite.
    """
    is_sound_CHW = _measured(values_CHW)
    planes_CHW = values_CHW if is_sound_CHW.all() else np.where(is_sound_CHW, values_CHW, np.float32(np.nan))
    bright: list[tuple[int, NDArray[np.int64], Plane]] = []
    for number, plane_HW in enumerate(planes_CHW):
        sample_N = _sample(plane_HW)
        if not len(sample_N):
            continue
        sky, lowest, highest = _limits(sample_N)
        is_low_HW = (plane_HW < lowest) & (plane_HW != 0)  # 0 = nothing was observed there
        places_N = np.flatnonzero(is_low_HW | (plane_HW > highest))
        if not len(places_N):
            continue
        alone_N, around_N = _alone(plane_HW, places_N, sky)
        is_alone_HW = np.zeros(plane_HW.shape, bool)
        is_alone_HW.flat[alone_N] = True
        has_light = ((plane_HW > 2 * sky - lowest) & ~is_alone_HW).any()
        is_sound_CHW[number] &= ~(is_low_HW if has_light else is_low_HW & is_alone_HW)
        is_bright_N = plane_HW.flat[alone_N] > sky
        bright.append((number, alone_N[is_bright_N], around_N[is_bright_N]))
    if is_sound_CHW.all() and not any(len(places_N) for _, places_N, _ in bright):
        return values_CHW
    result_CHW = np.where(is_sound_CHW, values_CHW, values_CHW[is_sound_CHW].min())
    for number, places_N, around_N in bright:
        result_CHW[number].flat[places_N] = around_N
    return result_CHW


def _measured(values_CHW: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which values are measurements; the finite ones if none is."""
    low, high = values_CHW.min(), values_CHW.max()
    if low > max(FILLED) and high < LARGEST:  # not so if one is NaN
        return np.ones(values_CHW.shape, bool)
    is_measured_CHW = np.abs(values_CHW) < LARGEST
    for value in FILLED:
        is_measured_CHW &= values_CHW != value
    return is_measured_CHW if is_measured_CHW.any() else np.isfinite(values_CHW)


def _sample(plane_HW: Plane) -> Plane:
    """Some finite pixels from everywhere in a plane; those of 0 are left out."""
    step = -(-plane_HW.size // SAMPLE) | 1  # odd, so that it is no divisor of a usual width
    sample_N = plane_HW.ravel()[::step]
    return np.asarray(sample_N[np.isfinite(sample_N) & (sample_N != 0)])


def _limits(sample_N: Plane) -> tuple[float, float, float]:
    """The sky, the lowest sound value, and the value above which a pixel is bright."""
    middle, near_top = len(sample_N) // 2, len(sample_N) * 99 // 100
    ordered_N = np.partition(sample_N, (middle, near_top))
    sky, top = float(ordered_N[middle]), float(ordered_N[near_top])
    below_N = sample_N[sample_N < sky]
    depth = sky - float(np.median(below_N)) if len(below_N) else np.inf
    largest = float(np.finfo(np.float32).max)
    return sky, max(sky - DEEPEST * depth, -largest), min(sky + HIGHEST * (top - sky), largest)


def _alone(plane_HW: Plane, places_N: NDArray[np.int64], sky: float) -> tuple[NDArray[np.int64], Plane]:
    """Those of the pixels whose neighbours are not like them, and the medians of these neighbours."""
    padded = np.pad(plane_HW, 1, constant_values=np.nan)
    y_N, x_N = np.divmod(places_N, plane_HW.shape[1])
    around_NK = np.stack([padded[y_N + dy, x_N + dx] for dy, dx in AROUND], 1).astype(np.float64)
    around_NK[~np.isfinite(around_NK)] = sky
    height_N = plane_HW.flat[places_N].astype(np.float64) - sky
    is_like_NK = (around_NK - sky) / height_N[:, None] >= NEIGHBOUR_SHARE
    is_in_line_N = ~(is_like_NK[:, AROUND[:, 0] != 1].any(1) & is_like_NK[:, AROUND[:, 1] != 1].any(1))
    is_alone_N = is_in_line_N | (is_like_NK.sum(1) < NEIGHBOURS)
    return places_N[is_alone_N], np.median(around_NK[is_alone_N], 1).astype(np.float32)
