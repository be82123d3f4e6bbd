"""Pixels, tiles, margins and footprints against other libraries and the obvious loop."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.units import arcsec, deg
from cdshealpix import nested
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from survey.catalog import sky
from tests.catalog.skies import cluster


def random_sky(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions on the whole sky."""
    random = np.random.default_rng(seed)
    return random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 300), max_stars=st.integers(1, 50))
def test_tiles_cover_the_sky_once_and_are_as_large_as_possible(seed: int, count: int, max_stars: int) -> None:
    ra, dec = random_sky(count, seed)
    crowd = np.arange(count // 3)
    ra, dec = np.append(ra, 10.0 + crowd * 1e-3), np.append(dec, np.full(count // 3, 20.0))
    pixel = np.sort(sky.pixels(ra, dec))
    tiles = sky.make_tiles(pixel, max_stars, 20)
    starts = tiles.first_pixel_T
    ends = starts + (1 << 2 * (sky.ORDER - tiles.order_T))
    assert starts[0] == 0
    assert ends[-1] == 12 << 2 * sky.ORDER
    assert (starts[1:] == ends[:-1]).all()
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        inside = (pixel >= start) & (pixel < end)
        assert inside.sum() == tiles.count_T[number] <= max_stars
        assert (tiles.tile_of(pixel[inside]) == number).all()
        order = tiles.order_T[number]
        if order:  # the next larger pixel would hold too many
            shift = 2 * (sky.ORDER - order + 1)
            assert ((pixel >> shift) == (start >> shift)).sum() > max_stars


def test_too_many_stars_in_one_place_are_an_error_that_says_what_to_change() -> None:
    pixel = np.sort(sky.pixels(np.full(6, 10.0), np.full(6, 20.0)))
    message = (
        r"a tile of order 3 \(440 arcmin\).* holds more than 5 stars; "
        r"give a larger rows_per_file or a narrower margin"
    )
    with pytest.raises(ValueError, match=message):
        sky.make_tiles(pixel, 5, 3)


PLACES = {
    "north pole": (0.0, 90.0),
    "south pole": (0.0, -90.0),
    "zero hours": (0.0, 0.0),
    "cap corner": (45.0, 41.8103149),
    "belt": (22.5, 30.0),
    "polar edge": (90.0, 80.0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("margin", [5.0, 10.0, 60.0])
def test_each_pair_of_stars_across_an_edge_is_in_the_margin(place: str, margin: float) -> None:
    """Pairs from astropy. Stars near the edge of a tile must be in its margin, even if the tile is empty."""
    ra, dec = cluster(*PLACES[place], 1500, 20 * margin, seed=3)
    order = np.argsort(sky.pixels(ra, dec))
    ra, dec = ra[order], dec[order]
    pixel = sky.pixels(ra, dec)
    tiles = sky.make_tiles(pixel, 60, sky.margin_order(margin) - 1)
    tile = tiles.tile_of(pixel)
    star, near_tile = (array.tolist() for array in sky.near_edges(tiles, pixel, margin))
    in_margin = set(zip(star, near_tile, strict=True))
    positions = SkyCoord(ra * deg, dec * deg)
    first, second, _, _ = search_around_sky(positions, positions, margin * arcsec)
    across = tile[first] != tile[second]
    assert across.sum() > 50
    assert set(zip(first[across].tolist(), tile[second[across]].tolist(), strict=True)) <= in_margin
    assert all(tile[star] != near for star, near in in_margin)


def test_the_order_of_the_margin_is_that_of_the_hats_library() -> None:
    hats = pytest.importorskip("hats.pixel_math.healpix_shim")
    for margin in (0.5, 1, 5, 10, 30, 100, 3600):
        assert sky.margin_order(margin) == hats.margin2order(margin / 60)


def test_pixel_numbers_are_those_of_another_implementation() -> None:
    hats = pytest.importorskip("hats.pixel_math.healpix_shim")
    ra, dec = random_sky(1000, 5)
    ra, dec = np.append(ra, [0, 360, 359.999999, 12, 12]), np.append(dec, [0, 0, -1e-9, 90, -90])
    for order in (0, 8, 29):
        assert (sky.pixels(ra, dec, order) == hats.radec2pix(order, ra, dec)).all()


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_the_footprint_is_read_by_another_library(tmp_path: Path, count: int) -> None:
    pixel = sky.pixels(*random_sky(count, 7))
    if count > 1:  # a full patch, written as larger pixels
        pixel = np.append(pixel, np.arange(4 * 5**4, 4 * 6**4) << 2 * (sky.ORDER - 6))
    occupied = sky.star_counts(pixel, 6) > 0
    path = tmp_path / "moc.fits"
    sky.footprint(occupied, 6).writeto(path)
    moc = MOC.from_fits(path)
    assert np.array_equal(np.sort(moc.flatten()), np.flatnonzero(occupied))
    assert moc.max_order == 6
    assert moc.sky_fraction == pytest.approx(occupied.mean())


def test_what_is_near_lies_in_a_neighbouring_pixel() -> None:
    """The rule behind the order of the margin: points within the width of a pixel are in a neighbour."""
    random = np.random.default_rng(11)
    ra, dec = random_sky(20_000, 11)
    near_pole = random.random(len(ra)) < 0.3
    dec = np.where(near_pole, np.sign(dec) * (90 - random.exponential(0.05, len(ra))), dec)
    order, margin = 8, sky.pixel_width(8) / sky.STRETCH
    angle = random.uniform(0, 360, len(ra))
    near = SkyCoord(ra * deg, dec * deg).directional_offset_by(angle * deg, margin * arcsec)
    around = nested.neighbours(sky.pixels(ra, dec, order), order)
    assert (around == sky.pixels(near.ra.deg, near.dec.deg, order)[:, None]).any(1).all()
