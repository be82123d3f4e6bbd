"""Positions: units, swapped columns, proper motion, names that contain a position."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time

from survey.label_tables.star_positions import StarPositions, arcsec_between, positions_in_names
from tests.label_tables.catalogues_by_hand import read, write_csv


def positions(ra: list[float], dec: list[float], pm: list[tuple[float, float]], year: float) -> StarPositions:
    none = np.zeros(len(ra), bool)
    return StarPositions(
        np.array(ra), np.array(dec), np.full(len(ra), year), np.array(pm, float), none, none
    )  # fmt: skip


def test_proper_motion_moves_a_star_as_astropy_says() -> None:
    ra, dec = [10.0, 359.9999, 200.0, 45.0], [0.0, 60.0, -89.9, 89.99]
    motion = [(5000.0, -3000.0), (2500.0, 100.0), (-800.0, 900.0), (3000.0, 3000.0)]
    ours = positions(ra, dec, motion, 2000.0).at(2016.0)
    theirs = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=[pair[0] for pair in motion] * u.mas / u.yr,
        pm_dec=[pair[1] for pair in motion] * u.mas / u.yr,
        distance=[50] * 4 * u.pc,
        obstime=Time(2000.0, format="jyear"),
    ).apply_space_motion(Time(2016.0, format="jyear"))
    apart = arcsec_between(ours.ra_R, ours.dec_R, theirs.ra.deg, theirs.dec.deg)
    assert apart.max() < 0.01
    assert ours.epoch_R.tolist() == [2016.0] * 4


def test_a_star_without_a_motion_or_a_year_stays() -> None:
    still = positions([10.0], [20.0], [(0, 0)], 2000.0).at(2016.0)
    assert still.ra_R.tolist() == [10.0]
    unknown = positions([10.0], [20.0], [(500, 0)], np.nan).at(2016.0)
    assert unknown.ra_R.tolist() == [10.0]


def test_names_contain_positions_of_2mass_and_of_lamost() -> None:
    names = pa.array(["2M06561343+2737243", "J221103.75-290739.6", "HD 140283", None, "J996199.99+999999.9"])
    ra, dec = positions_in_names(names)
    assert ra[0] == pytest.approx(15 * (6 + 56 / 60 + 13.43 / 3600))
    assert dec[0] == pytest.approx(27 + 37 / 60 + 24.3 / 3600)
    assert ra[1] == pytest.approx(15 * (22 + 11 / 60 + 3.75 / 3600))
    assert dec[1] == pytest.approx(-(29 + 7 / 60 + 39.6 / 3600))
    assert np.isnan(ra[2:]).all()


def test_a_row_whose_name_is_another_place_is_refused(tmp_path: Path) -> None:
    rows = [("2M00400000+1000000", 10.0, 10.0, -1), ("2M00400000+1000000", 10.1, 10.0, -1)]
    path = write_csv(tmp_path / "a.csv", "id ra dec feh", rows)
    found = read(path, position={"ra": "ra", "dec": "dec", "name": "id"})
    assert found.reason_R.tolist() == ["", "name and position disagree"]


def test_a_name_stands_in_for_a_missing_position(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "id feh", [("2M00400000+1000000", -1)])
    found = read(path, position={"name": "id"})
    assert found.positions.ra_R[0] == pytest.approx(10.0)
    assert found.positions.dec_R[0] == pytest.approx(10.0)


def test_swapped_columns_are_an_error_where_a_declination_is_beyond_90(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra dec feh", [(5, 200 + n, -1) for n in range(20)])
    with pytest.raises(
        ValueError, match=r"20 of 20 declinations are beyond 90 degrees.*are ra and dec swapped"
    ):
        read(path)


def test_a_few_impossible_positions_are_refused_and_counted(tmp_path: Path) -> None:
    rows = [(n, 10, -1) for n in range(60)] + [(400, 10, -1), (-9999, -9999, -1)]
    found = read(write_csv(tmp_path / "a.csv", "ra dec feh", rows))
    assert found.reason_R[60:].tolist() == ["position outside the sky", "neither id nor position"]


def test_hours_and_radians_taken_for_degrees_are_errors(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pairs = zip(draw.uniform(0, 24, 80), draw.uniform(-60, 60, 80), strict=True)
    hours = [(f"{hour:.5f}", f"{degree:.5f}", -1) for hour, degree in pairs]
    path = write_csv(tmp_path / "a.csv", "ra dec feh", hours)
    table = Table.read(path)
    table.write(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"no value above 23.* give position.unit=hour"):
        read(str(tmp_path / "a.fits"))
    with pytest.raises(ValueError, match=r"no value above 23.* give position.unit=hour"):
        read(path)
    found = read(path, position={"ra": "ra", "dec": "dec", "unit": "hour"})
    assert found.positions.ra_R[0] == pytest.approx(15 * float(hours[0][0]))
    table["ra"], table["dec"] = np.radians(table["ra"] * 15), np.radians(table["dec"])
    table.write(tmp_path / "b.fits")
    with pytest.raises(ValueError, match=r"give position.unit=rad"):
        read(str(tmp_path / "b.fits"))
    found = read(str(tmp_path / "b.fits"), position={"ra": "ra", "dec": "dec", "unit": "rad"})
    assert found.positions.dec_R[0] == pytest.approx(float(hours[0][1]))


def test_hours_and_degrees_as_text_become_degrees(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "ra|dec|feh", [], delimiter="|")
    Path(path).write_text("ra|dec|feh\n10 13 34.7|-2 7 57.9|-2\n1.42484|13.39627|-1\n")
    found = read(path)
    assert found.positions.ra_R.tolist() == [pytest.approx(153.394583), pytest.approx(1.42484)]
    assert found.positions.dec_R.tolist() == [pytest.approx(-2.132750), pytest.approx(13.39627)]
    Path(path).write_text("ra|dec|feh\n10 13 34.7|-2 7 57.9|-2\n1.5|13.39627|-1\n")
    found = read(path, position={"ra": "ra", "dec": "dec", "unit": "hour"})
    assert found.positions.ra_R.tolist() == [pytest.approx(153.394583), pytest.approx(22.5)]
