"""The sky in HEALPix pixels (nested numbering): the pixel of a star, tiles of about equally many stars, the
stars near the edge of a tile, and the footprint.

A pixel of order 29, 0.4 milliarcsec wide, stands for a position. The number of the pixel of a lower order
that contains it is its own number shifted to the right. So stars sorted by pixel lie tile by tile, and a
tile is a range of them. Shapes: N stars, T tiles.
"""

from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.coordinates import Latitude, Longitude
from astropy.io import fits
from cdshealpix import nested
from numpy.typing import ArrayLike, NDArray

ORDER = 29
"""The finest pixels, whose numbers fit into 64 bits."""

STRETCH = 1.6
"""How much wider a pixel is on average than at its narrowest: pixels are no squares near the poles."""

Pixels = NDArray[np.int64]


def pixels(ra: ArrayLike, dec: ArrayLike, order: int = ORDER) -> Pixels:
    """The pixels of positions in degrees."""
    longitude = Longitude(np.asarray(ra, np.float64), units.deg)
    latitude = Latitude(np.asarray(dec, np.float64), units.deg)
    return np.asarray(nested.lonlat_to_healpix(longitude, latitude, order, num_threads=1).astype(np.int64))


def pixel_width(order: int) -> float:
    """The square root of the area of a pixel, in arcsec."""
    return float(np.degrees(np.sqrt(np.pi / 3)) * 3600 / 2**order)


@dataclass(frozen=True)
class Tiles:
    """Pixels of different orders that cover the sky without overlap, in order, with numbers of stars."""

    order_T: NDArray[np.int64]
    pixel_T: Pixels
    count_T: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixel_T)

    @property
    def first_pixel_T(self) -> Pixels:  # noqa: N802
        """The first of the finest pixels in each tile."""
        return np.asarray(self.pixel_T << 2 * (ORDER - self.order_T))

    def tile_of(self, pixel_N: Pixels) -> NDArray[np.int64]:
        """The number of the tile that contains each of these finest pixels."""
        return np.asarray(np.searchsorted(self.first_pixel_T, pixel_N, "right") - 1)


def make_tiles(pixel_N: Pixels, max_stars: int, max_order: int) -> Tiles:
    """The sky in the largest tiles that hold at most this many of the stars (finest pixels, sorted)."""
    kept, pixel = [], np.arange(12)
    for order in range(max_order + 1):
        shift = 2 * (ORDER - order)
        count = np.searchsorted(pixel_N, (pixel + 1) << shift) - np.searchsorted(pixel_N, pixel << shift)
        fits_tile = count <= max_stars
        kept.append(np.stack([np.full(fits_tile.sum(), order), pixel[fits_tile], count[fits_tile]]))
        pixel = (pixel[~fits_tile, None] * 4 + np.arange(4)).ravel()
    if pixel.size:
        raise ValueError(
            f"catalog: a tile of order {max_order} ({pixel_width(max_order) / 60:.3g} arcmin), the finest "
            f"that the margin allows, holds more than {max_stars:,} stars; "
            "give a larger rows_per_file or a narrower margin"
        )
    order_T, pixel_T, count_T = np.concatenate(kept, 1)
    along = np.argsort(pixel_T << 2 * (ORDER - order_T))
    return Tiles(order_T[along], pixel_T[along], count_T[along])


def margin_order(arcsec: float) -> int:
    """The finest order at which all within this distance of a pixel lies in it or in a neighbour."""
    if arcsec <= 0:
        return ORDER
    return int(np.clip(np.log2(pixel_width(0) / (STRETCH * arcsec)), 0, ORDER))


def near_edges(tiles: Tiles, pixel_N: Pixels, arcsec: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The stars near other tiles: a star and a tile for each other tile within this distance of a star.

    Some pairs that are up to a few times farther apart are included. Tiles without stars count: the stars
    near them are needed to match another catalog that has stars there.
    """
    order = margin_order(arcsec)
    around_N9 = nested.neighbours(pixel_N >> 2 * (ORDER - order), order, num_threads=1)
    tile_N9 = tiles.tile_of(np.maximum(around_N9, 0) << 2 * (ORDER - order))
    star, neighbour = np.nonzero((tile_N9 != tiles.tile_of(pixel_N)[:, None]) & (around_N9 >= 0))
    pairs = np.unique(star * len(tiles) + tile_N9[star, neighbour])
    return pairs // len(tiles), pairs % len(tiles)


def star_counts(pixel_N: Pixels, order: int) -> NDArray[np.int64]:
    """The number of stars (finest pixels) in each pixel of an order."""
    return np.bincount(pixel_N >> 2 * (ORDER - order), minlength=12 * 4**order)


def footprint(occupied: NDArray[np.bool_], order: int) -> fits.HDUList:
    """The footprint as a MOC (multi-order coverage map), from the occupied pixels of an order.

    Four occupied pixels that make up a larger one are written as that one.
    """
    cells = []
    for level in range(order, 0, -1):
        full = np.asarray(occupied.reshape(-1, 4).all(1))
        pixel = np.flatnonzero(occupied & ~np.repeat(full, 4))
        cells.append(4 ** (level + 1) + pixel)
        occupied = full
    cells.append(4 + np.flatnonzero(occupied))
    column = fits.Column("UNIQ", "K", array=np.sort(np.concatenate(cells)))
    table = fits.BinTableHDU.from_columns([column], name="MOC")
    cards = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCVERS": "2.0",
        "MOCDIM": "SPACE",
        "MOCORD_S": order,
        "MOCORDER": order,
    }
    table.header.update(cards)
    return fits.HDUList([fits.PrimaryHDU(), table])
