"""The rarer kinds of FITS (scaled numbers, columns of many axes, rows of variable length) by astropy: right, and a thousand times slower.

Whatever astropy raises or warns of becomes `Refused`. Images in compressed tiles are not read at all: astropy's decoders, which are in C,
write beyond their buffers on damaged tiles and take the whole process with them (astropy 8.0, within two minutes of random damage).
"""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from survey.spectrum import Refused


def image(data: bytes | bytearray, place: int) -> np.ndarray:
    """An image whose numbers are stored scaled."""
    return _read(data, lambda hdus: hdus[place].data)


def column(data: bytes | bytearray, place: int, name: str) -> np.ndarray:
    """A column of a kind that `fits` does not read."""
    return _read(data, lambda hdus: hdus[place].data.field(name))


def check_heap(lengths: np.ndarray, heap: int) -> None:
    """Every row of variable length may claim the whole heap; together they may not claim more than there is."""
    if (lengths < 0).any() or float(lengths.sum(dtype=float)) > heap:
        raise Refused("bad_header", f"rows of variable length claim more than the heap of {heap} bytes")


def _read(data: bytes | bytearray, take: Callable[[Any], Any]) -> np.ndarray:
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as hdus:
                found = np.asarray(take(hdus))
        return np.stack([np.asarray(row) for row in found]) if found.dtype.hasobject else found
    except Exception as error:  # a parser of others over hostile bytes: it raises whatever its insides do
        raise Refused("bad_header", f"astropy: {type(error).__name__}: {str(error)[:200]}") from error
