"""Stars of predictions against the identities that training gives, and where they lie against astropy."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.units import deg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey.catalog import sky, stars
from survey.labelling import star_id as identity
from tests.catalog import skies


def visits(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Visits with and without names and positions, of few stars, some next to a pole or to 0 h, the same name now and then elsewhere."""
    random = np.random.default_rng(seed)
    place = random.integers(0, max(count // 2, 1), count)
    ra = np.where(place % 3 == 0, 359.9999, place * 7.0) + random.choice([0.0, 1e-4, 4e-4, 2e-3], count)
    dec = np.where(place % 4 == 1, 89.9999, place * 1.5 - 60) + random.choice([0.0, 1e-4], count)
    lost = random.random(count) < 0.2
    ra[lost], dec[lost] = np.nan, np.nan
    names = [f"S{random.integers(0, count)}" if random.random() < 0.4 else None for _ in range(count)]
    return ra % 360, np.minimum(dec, 90), names


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_stars_are_those_of_training_numbered_along_the_sky(tmp_path: Path, seed: int, count: int) -> None:
    ra, dec, names = visits(seed, count)
    table = skies.rows(ra, dec, names, seed)
    found = stars.find(skies.folder(tmp_path / f"{seed}-{count}", table, shard=7))
    truth = identity.identities([table["star"].combine_chunks()], ra, dec, table["visit"].combine_chunks())
    pairs = set(zip(found.star_N.tolist(), truth.tolist(), strict=True))
    assert len(pairs) == len(set(truth.tolist())) == len(found)
    assert sorted(set(found.star_N.tolist())) == list(range(len(found)))
    assert (np.diff(found.pixel_S[: found.placed]) >= 0).all()
    assert (
        found.pixel_S[: found.placed] == sky.pixels(found.ra_S[: found.placed], found.dec_S[: found.placed])
    ).all()
    assert np.isnan(found.ra_S[found.placed :]).all()
    assert (found.pixel_S[found.placed :] == stars.NOWHERE).all()
    assert found.before_K.tolist() == [*range(0, count, 7), count]
    for star in range(found.placed):
        where = [row for row in np.flatnonzero(found.star_N == star) if np.isfinite(ra[row])]
        mean = (
            SkyCoord(ra[where] * deg, dec[where] * deg)
            .cartesian.mean()
            .represent_as(UnitSphericalRepresentation)
        )
        here = SkyCoord(found.ra_S[star] * deg, found.dec_S[star] * deg)
        assert here.separation(SkyCoord(mean)).arcsec < 1e-4


def test_a_star_whose_visits_agree_lies_exactly_where_they_say(tmp_path: Path) -> None:
    ra, dec = (
        np.array([123.456789012345, 123.456789012345, 360.0, 359.99999]),
        np.array([-7.1234567890123, -7.1234567890123, 5.0, 5.0]),
    )
    found = stars.find(skies.folder(tmp_path, skies.rows(ra, dec, [None] * 4)))
    first, second = sorted(set(found.star_N[:2])), sorted(set(found.star_N[2:]))
    assert len(first) == len(second) == 1
    assert (found.ra_S[first[0]], found.dec_S[first[0]]) == (ra[0], dec[0])
    assert found.ra_S[second[0]] == pytest.approx(359.999995, abs=1e-9)


def test_visits_without_name_and_position_are_told_apart_by_the_visit(tmp_path: Path) -> None:
    nowhere = np.full(4, np.nan)
    table = skies.rows(nowhere, nowhere, [None] * 4)
    table = table.set_column(
        table.schema.get_field_index("visit"), table.schema.field("visit"), [["a", "b", "a", None]]
    )
    found = stars.find(skies.folder(tmp_path, table, shard=3))
    assert found.star_N[0] == found.star_N[2]
    assert len(found) == 3
    assert found.placed == 0


def test_predictions_without_a_row_have_no_stars(tmp_path: Path) -> None:
    found = stars.find(skies.folder(tmp_path, skies.rows(np.empty(0), np.empty(0), [])))
    assert len(found) == found.placed == 0
