"""When stars can be observed from a site: high enough, in the dark, away from the moon.

Nothing is downloaded: the rotation of the Earth comes from the tables in the package astropy-iers-data. After
their end it is extrapolated; that moves a star by less than 0.01 degrees. Refraction is left out.
Shapes: N stars, T times, all of them in the dark, D nights.
"""

import datetime
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body
from astropy.time import Time
from astropy.utils import iers
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from survey.followup.settings import SkySettings
from survey.followup.sites import Site
from survey.settings import JobError

Floats = NDArray[np.float64]
CHUNK = 1 << 20
"""Pairs of stars and times that are held at once."""


@dataclass(frozen=True)
class Darkness:
    """The dark times of some nights, with the place of the moon."""

    site: Site
    time_T: Time
    night_T: NDArray[np.int64]
    moon_2T: Floats  # altitude, azimuth
    step: float

    @property
    def hours(self) -> float:
        """Dark hours in all nights."""
        return len(self.night_T) * self.step / 60

    def of_night(self, night: int) -> "Darkness":
        """The dark times of one night."""
        chosen_T = self.night_T == night
        return Darkness(
            self.site, self.time_T[chosen_T], self.night_T[chosen_T], self.moon_2T[:, chosen_T], self.step
        )


@dataclass(frozen=True)
class Visibility:
    """How well each star can be observed. What is not observable has 0 hours, and NaN elsewhere."""

    hours_N: Floats
    night_hours_N: Floats  # in the night in which it has most
    nights_N: NDArray[np.int64]
    best_N: NDArray[np.int64]  # the time at which it is highest; -1 = none
    airmass_N: Floats
    moon_N: Floats  # degrees


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Inside, astropy uses the tables that are installed, however old, and does not complain about it."""
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.filterwarnings("ignore", "ERFA function")
        yield


def darkness(site: Site, nights: Sequence[datetime.date], rules: SkySettings) -> Darkness:
    """The dark times of these nights. A night is named by the date of its evening, in local time."""
    minutes = np.arange(0, 24 * 60, rules.step)
    noon = 12 - site.longitude / 15  # UTC, hours
    start_D = np.array([day.toordinal() - nights[0].toordinal() for day in nights], np.float64)
    days_T = (start_D[:, None] + noon / 24 + minutes / (24 * 60)).ravel()
    night_T = np.repeat(np.arange(len(nights)), len(minutes))
    with _no_downloads():
        times_T = Time(nights[0].isoformat(), scale="utc") + days_T * u.day
        frame = AltAz(obstime=times_T, location=_location(site))
        dark_T = get_body("sun", times_T).transform_to(frame).alt.deg < rules.sun
        if not dark_T.any():
            raise JobError(
                f"followup: site={site.name}: the sun is never below {rules.sun:g} degrees in the nights "
                f"from {nights[0]} to {nights[-1]}; give other dates, or sky.sun=-12"
            )
        times_T, night_T = times_T[dark_T], night_T[dark_T]
        frame = AltAz(obstime=times_T, location=_location(site))
        moon = get_body("moon", times_T, _location(site)).transform_to(frame)
        moon_2T = np.stack([moon.alt.deg, moon.az.deg])
    return Darkness(site, times_T, night_T, moon_2T, rules.step)


def altitudes(ra_N: Floats, dec_N: Floats, dark: Darkness) -> tuple[Floats, Floats]:
    """Altitude and azimuth (N, T) in degrees."""
    with _no_downloads():
        stars = SkyCoord(ra_N[:, None] * u.deg, dec_N[:, None] * u.deg, frame="icrs")
        seen = stars.transform_to(AltAz(obstime=dark.time_T[None, :], location=_location(dark.site)))
        return np.asarray(seen.alt.deg), np.asarray(seen.az.deg)


def look(ra_N: Floats, dec_N: Floats, dark: Darkness, rules: SkySettings) -> Visibility:
    """How well these stars can be observed."""
    size = max(1, CHUNK // len(dark.night_T))
    starts = range(0, len(ra_N), size) or range(1)
    parts = [_look(ra_N[first : first + size], dec_N[first : first + size], dark, rules) for first in starts]
    return Visibility(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _look(ra_N: Floats, dec_N: Floats, dark: Darkness, rules: SkySettings) -> tuple[NDArray[np.generic], ...]:
    if not len(ra_N):
        none = np.zeros(0)
        return none, none, none.astype(np.int64), none.astype(np.int64), none, none
    altitude_NT, azimuth_NT = altitudes(ra_N, dec_N, dark)
    moon_NT = separation(altitude_NT, azimuth_NT, *dark.moon_2T)
    seen_NT = (altitude_NT >= rules.altitude) & ((moon_NT >= rules.moon) | (dark.moon_2T[0] < 0))
    first_D = np.flatnonzero(np.diff(dark.night_T, prepend=-1))
    hours_ND = np.add.reduceat(seen_NT, first_D, axis=1) * rules.step / 60
    best_N = np.where(seen_NT, altitude_NT, -np.inf).argmax(1)
    some_N, row_N = seen_NT.any(1), np.arange(len(ra_N))
    airmass_N = np.full(len(ra_N), np.nan)
    airmass_N[some_N] = 1 / np.sin(np.radians(altitude_NT[row_N, best_N][some_N]))
    return (
        hours_ND.sum(1),
        hours_ND.max(1),
        (hours_ND > 0).sum(1),
        np.where(some_N, best_N, -1),
        airmass_N,
        np.where(some_N, moon_NT[row_N, best_N], np.nan),
    )


def separation(alt_1: Floats, az_1: Floats, alt_2: Floats, az_2: Floats) -> Floats:
    """The angle between two directions, degrees."""
    alt_1, az_1, alt_2, az_2 = (np.radians(angle) for angle in (alt_1, az_1, alt_2, az_2))
    half = np.sin((alt_1 - alt_2) / 2) ** 2 + np.cos(alt_1) * np.cos(alt_2) * np.sin((az_1 - az_2) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))))


def _location(site: Site) -> EarthLocation:
    return EarthLocation.from_geodetic(site.longitude * u.deg, site.latitude * u.deg, site.height * u.m)
