"""The sky in HEALPix pixels (nested numbering): where a star lies, tiles of about equally many stars, what is near a tile's edge, the footprint.

A pixel of order 29, 0.4 milliarcsec wide, names a position; the pixel of any lower order that holds it is its number shifted to the right. So
stars sorted by that number lie tile by tile, and a tile is a range of them. Shapes: N stars, T tiles.
"""

from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.coordinates import Latitude, Longitude
from astropy.io import fits
from cdshealpix import nested
from numpy.typing import ArrayLike, NDArray

ORDER = 29
"""The finest pixels, whose numbers fit 64 bits."""

STRETCH = 1.6
"""How much wider than the narrowest way through it a pixel is on average: they are no squares, least of all near the poles."""

Pixels = NDArray[np.int64]


def pixels(ra: ArrayLike, dec: ArrayLike, order: int = ORDER) -> Pixels:
    """The pixels in which positions in degrees lie."""
    longitude, latitude = (
        Longitude(np.asarray(ra, np.float64), units.deg),
        Latitude(np.asarray(dec, np.float64), units.deg),
    )
    return np.asarray(nested.lonlat_to_healpix(longitude, latitude, order, num_threads=1).astype(np.int64))


def width(order: int) -> float:
    """Root of a pixel's area, arcsec."""
    return float(np.degrees(np.sqrt(np.pi / 3)) * 3600 / 2**order)


@dataclass(frozen=True)
class Tiles:
    """Pixels of differing orders that cover the whole sky without overlap, in its order, with the number of stars in each."""

    order_T: NDArray[np.int64]
    pixel_T: Pixels
    count_T: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixel_T)

    @property
    def starts(self) -> Pixels:
        """The first of the finest pixels in each tile."""
        return np.asarray(self.pixel_T << 2 * (ORDER - self.order_T))

    def of(self, pixel_N: Pixels) -> NDArray[np.int64]:
        """The number of the tile in which each of the finest pixels lies."""
        return np.asarray(np.searchsorted(self.starts, pixel_N, "right") - 1)


def cut(pixel_N: Pixels, most: int, deepest: int) -> Tiles:
    """The sky in the largest tiles that hold at most so many of these stars (finest pixels, sorted)."""
    kept, pixel = [], np.arange(12)
    for order in range(deepest + 1):
        shift = 2 * (ORDER - order)
        count = np.searchsorted(pixel_N, (pixel + 1) << shift) - np.searchsorted(pixel_N, pixel << shift)
        few = count <= most
        kept.append(np.stack([np.full(few.sum(), order), pixel[few], count[few]]))
        pixel = (pixel[~few, None] * 4 + np.arange(4)).ravel()
    if pixel.size:
        raise ValueError(
            f"catalog: a tile of order {deepest} ({width(deepest) / 60:.3g} arcmin), the finest that a margin allows, holds more than {most:,} "
            "stars; give a larger rows_per_file or a narrower margin"
        )
    order_T, pixel_T, count_T = np.concatenate(kept, 1)
    along = np.argsort(pixel_T << 2 * (ORDER - order_T))
    return Tiles(order_T[along], pixel_T[along], count_T[along])


def margin_order(arcsec: float) -> int:
    """The finest order at which whatever is so near to a pixel lies in it or in a pixel that touches it."""
    return int(np.clip(np.log2(width(0) / (STRETCH * arcsec)), 0, ORDER)) if arcsec > 0 else ORDER


def near_edges(tiles: Tiles, pixel_N: Pixels, arcsec: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Star and tile for every other tile that a star is within so many arcsec of; some that are up to a few times farther come too.

    Tiles without stars count: what is near them is needed to match another catalog whose stars lie there.
    """
    order = margin_order(arcsec)
    around_N9 = nested.neighbours(pixel_N >> 2 * (ORDER - order), order, num_threads=1)
    tile_N9 = tiles.of(np.maximum(around_N9, 0) << 2 * (ORDER - order))
    star, where = np.nonzero((tile_N9 != tiles.of(pixel_N)[:, None]) & (around_N9 >= 0))
    pairs = np.unique(star * len(tiles) + tile_N9[star, where])
    return pairs // len(tiles), pairs % len(tiles)


def counts(pixel_N: Pixels, order: int) -> NDArray[np.int64]:
    """How many stars (finest pixels) lie in each pixel of an order."""
    return np.bincount(pixel_N >> 2 * (ORDER - order), minlength=12 * 4**order)


def coverage(occupied: NDArray[np.bool_], order: int) -> fits.HDUList:
    """The footprint as a MOC (multi-order coverage map): the occupied pixels of an order, each four that make up a larger one as that one."""
    cells = []
    for level in range(order, 0, -1):
        whole = np.asarray(occupied.reshape(-1, 4).all(1))
        pixel = np.flatnonzero(occupied & ~np.repeat(whole, 4))
        cells.append(4 ** (level + 1) + pixel)
        occupied = whole
    cells.append(4 + np.flatnonzero(occupied))
    table = fits.BinTableHDU.from_columns(
        [fits.Column("UNIQ", "K", array=np.sort(np.concatenate(cells)))], name="MOC"
    )
    said = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCVERS": "2.0",
        "MOCDIM": "SPACE",
        "MOCORD_S": order,
        "MOCORDER": order,
    }
    table.header.update(said)
    return fits.HDUList([fits.PrimaryHDU(), table])
