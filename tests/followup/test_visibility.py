"""When stars can be observed: against astropy and against the sky as it is known, without any network."""

import datetime
import socket

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body
from astropy.time import Time
from astropy.utils import iers

from survey.followup.exposures import exposures
from survey.followup.settings import ExposureSettings, SkySettings
from survey.followup.sites import OTHER_NAMES, SITES, Site, find_site
from survey.followup.visibility import Darkness, Visibility, altitudes, look, separation
from survey.settings import JobError, SettingsError
from tests.followup.nights import darkness

NIGHTS = tuple(datetime.date(2026, 1, day) for day in (10, 11, 12))
XINGLONG = find_site("Xinglong")
RULES = SkySettings()
EXPOSURE = ExposureSettings()


def see(
    ra: list[float], dec: list[float], dark: Darkness, rules: SkySettings = RULES, magnitude: float = 5.0
) -> Visibility:
    """Stars of this magnitude; bright ones take one time."""
    return look(np.array(ra), np.array(dec), np.full(len(ra), magnitude), dark, rules, EXPOSURE)


def test_altitudes_are_those_of_astropy() -> None:
    dark = darkness(XINGLONG, NIGHTS, RULES)
    ra, dec = np.array([10.0, 150.0, 290.0]), np.array([-20.0, 30.0, 75.0])
    altitude_NT, azimuth_NT = altitudes(ra, dec, dark)
    place = EarthLocation(lon=117.575 * u.deg, lat=40.3956 * u.deg, height=960 * u.m)
    for time in (0, len(dark.night_T) // 2, -1):
        for star in range(3):
            with iers.conf.set_temp("auto_download", False):
                seen = SkyCoord(ra[star], dec[star], unit="deg").transform_to(
                    AltAz(obstime=dark.time_T[time], location=place)
                )
            assert altitude_NT[star, time] == pytest.approx(seen.alt.deg, abs=1e-6)
            assert azimuth_NT[star, time] == pytest.approx(seen.az.deg, abs=1e-6)


def test_a_star_culminates_where_the_latitude_says() -> None:
    """Highest altitude 90 - |latitude - declination|, with the declination of the date."""
    dark = darkness(XINGLONG, NIGHTS, RULES)
    found = see([100.0, 100.0], [20.0, 60.0], dark, SkySettings(moon=0.0))
    expected = 90 - np.abs(XINGLONG.latitude - np.array([20.0, 60.0]))
    assert np.degrees(np.arcsin(1 / found.airmass_N)) == pytest.approx(expected, abs=0.3)
    assert (found.nights_N == 3).all()


def test_a_night_is_dark_between_the_twilights() -> None:
    """At 40 degrees north in the middle of January 11 hours are astronomically dark: from 18:40 to 5:50."""
    dark = darkness(XINGLONG, NIGHTS[:1], RULES)
    assert dark.hours == pytest.approx(11.2, abs=0.4)
    begin = dark.time_T[0].datetime + datetime.timedelta(hours=XINGLONG.longitude / 15)
    assert begin.date() == NIGHTS[0]
    assert 18.3 < begin.hour + begin.minute / 60 < 19.0


def test_a_star_beside_the_moon_is_not_observed_while_the_moon_is_up() -> None:
    night = (datetime.date(2026, 1, 3),)  # full moon
    dark = darkness(XINGLONG, night, RULES)
    with iers.conf.set_temp("auto_download", False):
        moon = get_body("moon", Time("2026-01-03T16:00")).icrs
    ra, dec = [moon.ra.deg, moon.ra.deg + 90], [moon.dec.deg, moon.dec.deg]
    found = see(ra, dec, dark)
    assert found.hours_N[0] == 0
    assert np.isnat(found.best_N[0])
    assert found.hours_N[1] > 2
    assert see(ra, dec, dark, SkySettings(moon=0.0)).hours_N[0] > 5


def test_a_star_below_the_horizon_is_never_observed() -> None:
    found = see([10.0, 10.0], [-80.0, 80.0], darkness(XINGLONG, NIGHTS, RULES))
    assert found.hours_N[0] == 0
    assert np.isnan(found.airmass_N[0])
    assert found.hours_N[1] > 20


def test_no_stars_are_no_problem() -> None:
    assert len(see([], [], darkness(XINGLONG, NIGHTS[:1], RULES)).hours_N) == 0


def test_an_exposure_takes_the_highest_place_in_which_it_fits_without_a_break() -> None:
    """Against the obvious loop over nights and times."""
    nights = tuple(datetime.date(2026, 1, 1) + datetime.timedelta(day) for day in range(3))  # a full moon
    dark = darkness(XINGLONG, nights, RULES)
    random = np.random.default_rng(4)
    ra, dec, magnitude = random.uniform(0, 360, 20), random.uniform(-10, 60, 20), random.uniform(13, 18, 20)
    found = look(ra, dec, magnitude, dark, RULES, EXPOSURE)
    altitude_NT, azimuth_NT = altitudes(ra, dec, dark)
    moon_NT = separation(altitude_NT, azimuth_NT, *dark.moon_2T)
    usable_NT = (altitude_NT >= 30) & ((moon_NT >= 30) | (dark.moon_2T[0] < 0))
    utc = dark.utc_T
    fit = 0
    for star in range(20):
        count = int(np.ceil(found.seconds_N[star] / 600))
        means = {
            first: altitude_NT[star, first : first + count].mean()
            for first in range(len(utc) - count + 1)
            if usable_NT[star, first : first + count].all()
            and dark.night_T[first] == dark.night_T[first + count - 1]
        }
        assert bool(means) == (found.longest_N[star] * 3600 >= found.seconds_N[star])
        if means:
            first = max(means, key=lambda place: means[place])
            middle = utc[first] + (utc[first + count - 1] - utc[first]) // 2
            assert found.best_N[star] == middle
            fit += 1
    assert 10 < fit < 20
    seconds = exposures(magnitude, found.airmass_N, EXPOSURE)
    np.testing.assert_array_equal(found.seconds_N, seconds)


def test_a_star_that_sets_in_the_evening_is_exposed_after_dusk() -> None:
    dark = darkness(XINGLONG, NIGHTS[:1], RULES)
    bright, faint = (see([350.0], [20.0], dark, magnitude=magnitude) for magnitude in (5.0, 17.0))
    first = dark.utc_T[0]
    assert bright.best_N[0] == first
    assert faint.seconds_N[0] > 4000
    later = (faint.best_N[0] - first) / np.timedelta64(1, "s")
    assert later == pytest.approx(faint.seconds_N[0] / 2, abs=600)
    assert faint.airmass_N[0] > bright.airmass_N[0] + 0.05


def test_separations_are_those_of_astropy() -> None:
    random = np.random.default_rng(1)
    one, other = random.uniform(-90, 90, (2, 50)), random.uniform(0, 360, (2, 50))
    expected = SkyCoord(other[0], one[0], unit="deg").separation(SkyCoord(other[1], one[1], unit="deg")).deg
    assert separation(one[0], other[0], one[1], other[1]) == pytest.approx(expected)


def test_the_sun_does_not_set_at_the_pole_in_summer() -> None:
    with pytest.raises(JobError, match=r"the sun is never below -18 degrees in the nights from 2026-06-20"):
        darkness(Site("pole", 0.0, 85.0, 0.0), (datetime.date(2026, 6, 20),), RULES)


def test_nothing_is_downloaded_even_for_nights_far_beyond_all_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No table of the Earth's rotation was read before. An attempt is noted, its error caught or not."""
    attempts: list[object] = []

    def stop(*address: object, **_: object) -> None:
        attempts.append(address)
        raise OSError("no network here")

    for table in (iers.IERS_Auto, iers.IERS_A, iers.IERS_B):
        table.close()
    monkeypatch.setattr(socket.socket, "connect", stop)
    monkeypatch.setattr(socket, "getaddrinfo", stop)
    dark = darkness(find_site("Paranal"), (datetime.date(2045, 7, 1),), RULES)
    assert see([250.0], [-30.0], dark, magnitude=15.0).nights_N.tolist() == [1]
    assert attempts == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("xinglong", "Xinglong"),
        ("LAMOST", "Xinglong"),
        ("la_palma", "La Palma"),
        ("Gemini N", "Gemini North"),
    ],
)
def test_a_site_is_found_by_its_names(text: str, name: str) -> None:
    assert find_site(text).name == name


def test_a_site_is_given_by_coordinates() -> None:
    site = find_site("-70.4,-24.6,2635")
    assert find_site("289.6,-24.6,2635").longitude == pytest.approx(site.longitude)
    assert (site.longitude, site.latitude, site.height) == (-70.4, -24.6, 2635)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Lijang", "did you mean Lijiang"),
        ("Atlantis", "give one of Xinglong"),
        ("1,2", "are not three numbers; give longitude,latitude,height"),
        ("10,100,0", "is no place on the Earth"),
        ("40,nan,0", "are not three numbers|is no place"),
    ],
)
def test_a_site_that_does_not_exist_is_an_error(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_site(text)


def test_each_site_is_where_others_have_it() -> None:
    """Positions of the observatories as their own pages state them, to a tenth of a degree."""
    known = {
        "Xinglong": (117.6, 40.4),
        "Lijiang": (100.0, 26.7),
        "La Palma": (-17.9, 28.8),
        "Paranal": (-70.4, -24.6),
        "Las Campanas": (-70.7, -29.0),
        "Keck": (-155.5, 19.8),
        "SALT": (20.8, -32.4),
        "Siding Spring": (149.1, -31.3),
    }
    by_name = {site.name: site for site in SITES}
    for name, (longitude, latitude) in known.items():
        assert by_name[name].longitude == pytest.approx(longitude, abs=0.1)
        assert by_name[name].latitude == pytest.approx(latitude, abs=0.1)
    assert set(OTHER_NAMES.values()) <= set(by_name)
