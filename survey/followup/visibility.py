"""When stars can be observed from a site: high enough, in the dark, away from the moon.

Nothing is downloaded: the rotation of the Earth comes from the tables in the package astropy-iers-data. After
their end it is extrapolated; that moves a star by less than 0.01 degrees. Refraction is left out. Each time
stands for one step (`sky.step`); an exposure takes consecutive times, all of them usable.
Shapes: N stars, T times, all of them in the dark, D nights.
"""

import datetime
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body
from astropy.time import Time
from astropy.utils import iers
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from survey.followup.exposures import exposures
from survey.followup.settings import ExposureSettings, SkySettings
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
    utc_T: NDArray[np.datetime64]  # the same, to the second
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
        times = self.time_T[chosen_T], self.utc_T[chosen_T], self.night_T[chosen_T]
        return Darkness(self.site, *times, self.moon_2T[:, chosen_T], self.step)


@dataclass(frozen=True)
class Visibility:
    """How well each star can be observed. What is not observable has 0 hours, and NaN or NaT elsewhere.

    The best time is the middle of the exposure in which the star is highest in the mean.
    """

    hours_N: Floats
    longest_N: Floats  # hours without a break
    nights_N: NDArray[np.int64]
    seconds_N: Floats  # exposure, NaN without a magnitude
    best_N: NDArray[np.datetime64]
    airmass_N: Floats  # at the best time
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
        utc_T = times_T.datetime64.astype("datetime64[s]")
    return Darkness(site, times_T, utc_T, night_T, moon_2T, rules.step)


def altitudes(ra_N: Floats, dec_N: Floats, dark: Darkness) -> tuple[Floats, Floats]:
    """Altitude and azimuth (N, T) in degrees."""
    with _no_downloads():
        stars = SkyCoord(ra_N[:, None] * u.deg, dec_N[:, None] * u.deg, frame="icrs")
        seen = stars.transform_to(AltAz(obstime=dark.time_T[None, :], location=_location(dark.site)))
        return np.asarray(seen.alt.deg), np.asarray(seen.az.deg)


def look(
    ra_N: Floats,
    dec_N: Floats,
    magnitude_N: Floats,
    dark: Darkness,
    rules: SkySettings,
    exposure: ExposureSettings,
) -> Visibility:
    """How well these stars can be observed, each for as long as its magnitude demands."""
    size = max(1, CHUNK // len(dark.night_T))
    parts = []
    for first in range(0, len(ra_N), size) or range(1):
        some = slice(first, first + size)
        sky = _Sky.of(ra_N[some], dec_N[some], dark, rules)
        parts.append(sky.visibility(magnitude_N[some], exposure))
    return Visibility(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class _Sky:
    """Some stars at all dark times: where they are, and for how many times before they were usable."""

    dark: Darkness
    altitude_NT: Floats
    moon_NT: Floats
    run_NT: NDArray[np.int64]  # usable times without a break that end here

    @classmethod
    def of(cls, ra_N: Floats, dec_N: Floats, dark: Darkness, rules: SkySettings) -> Self:
        altitude_NT, azimuth_NT = altitudes(ra_N, dec_N, dark)
        moon_NT = separation(altitude_NT, azimuth_NT, *dark.moon_2T)
        usable_NT = (altitude_NT >= rules.altitude) & ((moon_NT >= rules.moon) | (dark.moon_2T[0] < 0))
        after_T = np.arange(1, len(dark.night_T) + 1)
        first_T = np.searchsorted(dark.night_T, dark.night_T)  # of the night
        begin_NT = np.maximum.accumulate(np.where(usable_NT, first_T, after_T), axis=1)
        return cls(dark, altitude_NT, moon_NT, after_T - begin_NT)

    def visibility(self, magnitude_N: Floats, exposure: ExposureSettings) -> tuple[NDArray[Any], ...]:
        """The columns of `Visibility`. The exposure follows from the airmass, and the other way round."""
        hour = 60 / self.dark.step  # times
        usable_NT = self.run_NT > 0
        first_D = np.flatnonzero(np.diff(self.dark.night_T, prepend=-1))
        count_ND = np.add.reduceat(usable_NT, first_D, axis=1, dtype=np.int64)
        longest_N = self.run_NT.max(1)
        airmass_N = np.ones(len(magnitude_N))
        for _ in range(2):
            seconds_N = np.nan_to_num(exposures(magnitude_N, airmass_N, exposure))
            count_N = np.clip(np.ceil(seconds_N / 3600 * hour), 1, np.maximum(longest_N, 1)).astype(np.int64)
            early_N, late_N = self._middle(count_N)
            airmass_N = 1 / np.sin(np.radians(_mean(self.altitude_NT, early_N, late_N)))
            airmass_N[longest_N == 0] = np.nan
        utc_T = self.dark.utc_T
        best_N = utc_T[early_N] + (utc_T[late_N] - utc_T[early_N]) // 2
        return (
            count_ND.sum(1) / hour,
            longest_N / hour,
            (count_ND > 0).sum(1),
            exposures(magnitude_N, airmass_N, exposure),
            np.where(longest_N > 0, best_N, np.datetime64("NaT")),
            airmass_N,
            np.where(longest_N > 0, _mean(self.moon_NT, early_N, late_N), np.nan),
        )

    def _middle(self, count_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of the consecutive usable times with the highest mean altitude, the two in the middle, or one."""
        sum_NT = np.cumsum(np.pad(self.altitude_NT, ((0, 0), (1, 0))), axis=1)
        before_NT = np.maximum(np.arange(1, sum_NT.shape[1]) - count_N[:, None], 0)
        total_NT = sum_NT[:, 1:] - np.take_along_axis(sum_NT, before_NT, 1)
        last_N = np.where(self.run_NT >= count_N[:, None], total_NT, -np.inf).argmax(1)
        first_N = np.maximum(last_N - count_N + 1, 0)
        return (first_N + last_N) // 2, (first_N + last_N + 1) // 2


def _mean(value_NT: Floats, early_N: NDArray[np.int64], late_N: NDArray[np.int64]) -> Floats:
    """The mean of the values at two times of each star."""
    row_N = np.arange(len(value_NT))
    return np.asarray((value_NT[row_N, early_N] + value_NT[row_N, late_N]) / 2)


def separation(alt_1: Floats, az_1: Floats, alt_2: Floats, az_2: Floats) -> Floats:
    """The angle between two directions, degrees."""
    alt_1, az_1, alt_2, az_2 = (np.radians(angle) for angle in (alt_1, az_1, alt_2, az_2))
    half = np.sin((alt_1 - alt_2) / 2) ** 2 + np.cos(alt_1) * np.cos(alt_2) * np.sin((az_1 - az_2) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))))


def _location(site: Site) -> EarthLocation:
    return EarthLocation.from_geodetic(site.longitude * u.deg, site.latitude * u.deg, site.height * u.m)
