"""Pixels, tiles, margins and footprints against other libraries and the obvious loop."""

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


def whole_sky(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 300), most=st.integers(1, 50))
def test_tiles_cover_the_sky_once_and_are_as_large_as_they_may_be(seed: int, count: int, most: int) -> None:
    ra, dec = whole_sky(count, seed)
    ra, dec = (
        np.append(ra, np.full(count // 3, 10.0) + np.arange(count // 3) * 1e-3),
        np.append(dec, np.full(count // 3, 20.0)),
    )
    pixel = np.sort(sky.pixels(ra, dec))
    tiles = sky.cut(pixel, most, 20)
    ends = tiles.starts + (1 << 2 * (sky.ORDER - tiles.order_T))
    assert tiles.starts[0] == 0
    assert ends[-1] == 12 << 2 * sky.ORDER
    assert (tiles.starts[1:] == ends[:-1]).all()
    for number, (start, end) in enumerate(zip(tiles.starts, ends, strict=True)):
        inside = (pixel >= start) & (pixel < end)
        assert inside.sum() == tiles.count_T[number] <= most
        assert (tiles.of(pixel[inside]) == number).all()
        order = tiles.order_T[number]
        if order:  # the next larger pixel would hold too many
            shift = 2 * (sky.ORDER - order + 1)
            assert ((pixel >> shift) == (start >> shift)).sum() > most


def test_more_stars_in_a_place_than_a_tile_may_hold_are_told_what_to_change() -> None:
    with pytest.raises(
        ValueError,
        match=r"a tile of order 3 \(440 arcmin\).* holds more than 5 stars; give a larger rows_per_file or a narrower margin",
    ):
        sky.cut(np.sort(sky.pixels(np.full(6, 10.0), np.full(6, 20.0))), 5, 3)


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
def test_every_pair_of_stars_across_an_edge_is_in_the_margin(place: str, margin: float) -> None:
    """Pairs by astropy. What lies near a tile's edge must be in its margin, as must what lies near a tile without stars."""
    ra, dec = cluster(*PLACES[place], 1500, 20 * margin, seed=3)
    order = np.argsort(sky.pixels(ra, dec))
    ra, dec = ra[order], dec[order]
    pixel = sky.pixels(ra, dec)
    tiles = sky.cut(pixel, 60, sky.margin_order(margin) - 1)
    tile = tiles.of(pixel)
    there = set(zip(*(part.tolist() for part in sky.near_edges(tiles, pixel, margin)), strict=True))
    where = SkyCoord(ra * deg, dec * deg)
    one, other, _, _ = search_around_sky(where, where, margin * arcsec)
    across = tile[one] != tile[other]
    assert across.sum() > 50
    assert set(zip(one[across].tolist(), tile[other[across]].tolist(), strict=True)) <= there
    assert all(tile[star] != near for star, near in there)


def test_the_order_of_the_margin_is_that_of_the_format_s_own_tools() -> None:
    hats = pytest.importorskip("hats.pixel_math.healpix_shim")
    for margin in (0.5, 1, 5, 10, 30, 100, 3600):
        assert sky.margin_order(margin) == hats.margin2order(margin / 60)


def test_numbers_of_pixels_are_those_of_another_implementation() -> None:
    hats = pytest.importorskip("hats.pixel_math.healpix_shim")
    ra, dec = whole_sky(1000, 5)
    ra, dec = np.append(ra, [0, 360, 359.999999, 12, 12]), np.append(dec, [0, 0, -1e-9, 90, -90])
    for order in (0, 8, 29):
        assert (sky.pixels(ra, dec, order) == hats.radec2pix(order, ra, dec)).all()


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_the_footprint_is_read_back_by_another_library(tmp_path: object, count: int) -> None:
    pixel = sky.pixels(*whole_sky(count, 7))
    pixel = (
        np.append(pixel, np.arange(4 * 5**4, 4 * 6**4) << 2 * (sky.ORDER - 6)) if count > 1 else pixel
    )  # a whole patch, told by larger pixels
    occupied = sky.counts(pixel, 6) > 0
    path = f"{tmp_path}/moc.fits"
    sky.coverage(occupied, 6).writeto(path)
    moc = MOC.from_fits(path)
    assert np.array_equal(np.sort(moc.flatten()), np.flatnonzero(occupied))
    assert moc.max_order == 6
    assert moc.sky_fraction == pytest.approx(occupied.mean())


def test_pixels_that_touch_hold_what_is_near() -> None:
    """The rule behind the margin's order: within its width of a point, there is no pixel that does not touch the point's own."""
    random = np.random.default_rng(11)
    ra, dec = whole_sky(20_000, 11)
    near_pole = random.random(len(ra)) < 0.3
    dec = np.where(near_pole, np.sign(dec) * (90 - random.exponential(0.05, len(ra))), dec)
    order, margin = 8, sky.width(8) / sky.STRETCH
    turn = random.uniform(0, 360, len(ra))
    other = SkyCoord(ra * deg, dec * deg).directional_offset_by(turn * deg, margin * arcsec)
    around = nested.neighbours(sky.pixels(ra, dec, order), order)
    assert (around == sky.pixels(other.ra.deg, other.dec.deg, order)[:, None]).any(1).all()
