"""The stars of predictions against the names that training gives, and their positions against astropy."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.units import deg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey.catalog import sky
from survey.catalog.sorting import stars_by_region
from survey.catalog.stars import NO_PIXEL, find_stars
from survey.catalog.visits import combine_visits
from survey.labelling import star_id
from tests.catalog import skies


def visits(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Visits of a few stars, with and without names and positions.

    Some are near a pole or 0 h, and some names occur at two positions.
    """
    random = np.random.default_rng(seed)
    star = random.integers(0, max(count // 2, 1), count)
    ra = np.where(star % 3 == 0, 359.9999, star * 7.0) + random.choice([0.0, 1e-4, 4e-4, 2e-3], count)
    dec = np.where(star % 4 == 1, 89.9999, star * 1.5 - 60) + random.choice([0.0, 1e-4], count)
    lost = random.random(count) < 0.2
    ra[lost], dec[lost] = np.nan, np.nan
    names = [f"S{random.integers(0, count)}" if random.random() < 0.4 else None for _ in range(count)]
    return ra % 360, np.minimum(dec, 90), names


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_stars_are_those_of_training_numbered_along_the_sky(tmp_path: Path, seed: int, count: int) -> None:
    ra, dec, names = visits(seed, count)
    table = skies.rows(ra, dec, names, seed)
    stars = find_stars(skies.write(tmp_path / f"{seed}-{count}", table, shard=7))
    columns = [table["star"].combine_chunks()], ra, dec, table["visit"].combine_chunks()
    pairs = set(zip(stars.star_N.tolist(), star_id.identify(*columns).tolist(), strict=True))
    assert len(pairs) == len({name for _, name in pairs}) == len(stars)
    assert sorted(set(stars.star_N.tolist())) == list(range(len(stars)))
    placed = stars.with_position
    assert (np.diff(stars.pixel_S[:placed]) >= 0).all()
    assert (stars.pixel_S[:placed] == sky.pixels(stars.ra_S[:placed], stars.dec_S[:placed])).all()
    assert np.isnan(stars.ra_S[placed:]).all()
    assert (stars.pixel_S[placed:] == NO_PIXEL).all()
    assert stars.start_K.tolist() == [*range(0, count, 7), count]
    for star in range(placed):
        rows = [row for row in np.flatnonzero(stars.star_N == star) if np.isfinite(ra[row])]
        points = SkyCoord(ra[rows] * deg, dec[rows] * deg).cartesian.mean()
        mean = SkyCoord(points.represent_as(UnitSphericalRepresentation))
        position = SkyCoord(stars.ra_S[star] * deg, stars.dec_S[star] * deg)
        assert position.separation(mean).arcsec < 1e-4


def test_a_star_with_agreeing_visits_is_exactly_at_their_position(tmp_path: Path) -> None:
    ra = np.array([123.456789012345, 123.456789012345, 360.0, 359.99999])
    dec = np.array([-7.1234567890123, -7.1234567890123, 5.0, 5.0])
    stars = find_stars(skies.write(tmp_path, skies.rows(ra, dec, [None] * 4)))
    first, second = sorted(set(stars.star_N[:2])), sorted(set(stars.star_N[2:]))
    assert len(first) == len(second) == 1
    assert (stars.ra_S[first[0]], stars.dec_S[first[0]]) == (ra[0], dec[0])
    assert stars.ra_S[second[0]] == pytest.approx(359.999995, abs=1e-9)


def test_rows_without_name_and_position_are_distinguished_by_their_visits(tmp_path: Path) -> None:
    nowhere = np.full(4, np.nan)
    table = skies.rows(nowhere, nowhere, [None] * 4)
    column = table.column_names.index("visit")
    table = table.set_column(column, table.schema.field("visit"), [["a", "b", "a", None]])
    stars = find_stars(skies.write(tmp_path, table, shard=3))
    assert stars.star_N[0] == stars.star_N[2]
    assert len(stars) == 3
    assert stars.with_position == 0


def test_files_of_one_name_in_two_folders_are_two_stars_with_different_names(tmp_path: Path) -> None:
    nowhere = np.full(6, np.nan)
    table = skies.rows(nowhere, nowhere, [None] * 6)
    paths = ["n1/x.txt", "n2/x.txt", "n1/y.txt", "n1/z.txt", "n1/x.txt", "n2/z.txt"]
    visits = ["x", "x", "y", "z", "x", "z"]
    for name, texts in (("path", paths), ("visit", visits)):
        column = table.column_names.index(name)
        table = table.set_column(column, table.schema.field(name), [texts])
    predictions = skies.write(tmp_path / "predictions", table, shard=2)
    stars = find_stars(predictions)
    assert len(stars) == 5
    assert stars.star_N[0] == stars.star_N[4]
    tiles = sky.make_tiles(stars.pixel_S[: stars.with_position], 10, 12)
    one_by_one = stars_by_region(predictions, stars, tiles, combine_visits, tmp_path / "scratch", 1)
    names = {
        path: star
        for each in one_by_one
        for path, star in zip(each["path"].to_pylist(), each["star"].to_pylist(), strict=True)
    }
    assert names == {
        "n1/x.txt": "visit n1/x",
        "n2/x.txt": "visit n2/x",
        "n1/y.txt": "visit y",
        "n1/z.txt": "visit n1/z",
        "n2/z.txt": "visit n2/z",
    }


def test_predictions_without_a_row_have_no_stars(tmp_path: Path) -> None:
    stars = find_stars(skies.write(tmp_path, skies.rows(np.empty(0), np.empty(0), [])))
    assert len(stars) == stars.with_position == 0


def test_a_star_at_0_h_is_at_0_not_at_360_degrees(tmp_path: Path) -> None:
    ra = np.array([359.99999, 0.00001])
    stars = find_stars(skies.write(tmp_path, skies.rows(ra, np.zeros(2), ["a", "a"])))
    assert stars.ra_S.tolist() == [0.0]
