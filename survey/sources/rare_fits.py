"""The rarer kinds of FITS (scaled numbers, compressed images, rows of variable length) by astropy: right, and a thousand times slower.

Each entry first bounds what the file may ask astropy to build. Whatever astropy raises or warns of becomes `Refused`.
"""

import io
import warnings
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np

from survey.spectrum import Refused

MOST_PIXELS = 1 << 23
MOST_TILES = 1 << 12
"""Of a compressed image: astropy needs some 20 microseconds for each."""


class Counts(Protocol):
    """A header, as far as it is needed here."""

    def count(self, name: str, default: int | None = None, highest: int = ...) -> int: ...


def image(data: bytes, place: int) -> np.ndarray:
    """An image whose numbers are stored scaled."""
    return _read(data, lambda hdus: hdus[place].data)


def column(data: bytes, place: int, name: str) -> np.ndarray:
    """A column of a kind that `fits` does not read."""
    return _read(data, lambda hdus: hdus[place].data.field(name))


def compressed_image(data: bytes, place: int, cards: Counts) -> np.ndarray:
    """An image in compressed tiles, if its header asks for no more than a survey image has."""
    axes = [cards.count(f"ZNAXIS{axis}") for axis in range(1, cards.count("ZNAXIS", highest=9) + 1)]
    tile = [cards.count(f"ZTILE{axis}", 1 if axis > 1 else size) for axis, size in enumerate(axes, 1)]
    if not 0 < prod(axes) <= MOST_PIXELS or not 0 < prod(tile) <= MOST_PIXELS:
        raise Refused("bad_header", f"HDU {place}: {axes} compressed pixels in tiles of {tile}; up to {MOST_PIXELS} are read")
    if prod(-(-size // part) for size, part in zip(axes, tile, strict=True)) > MOST_TILES:
        raise Refused("bad_header", f"HDU {place}: {axes} compressed pixels in tiles of {tile}; up to {MOST_TILES} tiles are read")
    return _read(data, lambda hdus: hdus[place].data)


def check_heap(lengths: np.ndarray, heap: int) -> None:
    """Every row of variable length may claim the whole heap; together they may not claim more than there is."""
    if (lengths < 0).any() or float(lengths.sum(dtype=float)) > heap:
        raise Refused("bad_header", f"rows of variable length claim more than the heap of {heap} bytes")


def _read(data: bytes, take: Callable[[Any], Any]) -> np.ndarray:
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                found = np.asarray(take(hdus))
        return np.stack([np.asarray(row) for row in found]) if found.dtype.hasobject else found
    except Exception as error:  # a parser of others over hostile bytes: it raises whatever its insides do
        raise Refused("bad_header", f"astropy: {type(error).__name__}: {str(error)[:200]}") from error
