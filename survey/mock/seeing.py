"""The air and the telescope blur a mock image: point spread functions by GalSim, and the blurring itself."""

from functools import lru_cache

import numpy as np
from scipy import fft

from survey.mock import galsim_package

STAMP = 31
"""Pixels of a side of a point spread function."""


@lru_cache(maxsize=4096)
def point_spread(seeing: float, tail: float, camera_pixel: float, pixel: float) -> np.ndarray:
    """A Moffat profile blurred by a pixel of the camera, on pixels of another size, with a total of 1.

    Lengths are in arcsec. `seeing` is the full width at half maximum, `tail` the exponent of the wings.
    """
    galsim = galsim_package.load()
    accuracy = galsim.GSParams(folding_threshold=1e-2, maxk_threshold=3e-3)
    profile = galsim.Moffat(beta=tail, fwhm=seeing, gsparams=accuracy)
    blur = galsim.Convolve(profile, galsim.Pixel(camera_pixel, gsparams=accuracy))
    stamp = blur.drawImage(nx=STAMP, ny=STAMP, scale=pixel, method="no_pixel", dtype=np.float32).array
    return np.asarray(stamp / stamp.sum())


def blurred(field: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """A square field, blurred by a point spread function; beyond its edges is no light."""
    shape = (fft.next_fast_len(len(field) + STAMP, real=True),) * 2
    image = fft.irfft2(fft.rfft2(field, shape) * fft.rfft2(stamp, shape), shape)
    first = STAMP // 2
    return np.asarray(image[first : first + len(field), first : first + len(field)])
