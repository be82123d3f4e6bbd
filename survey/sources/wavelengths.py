"""The wavelengths of a file become vacuum angstrom: log-linear coefficients if they fit, else a list of
numbers.

Every pixel is compared: log-linear wavelengths differ from the file's own by at most `TOLERANCE`.
"""

import math
from functools import lru_cache

import numpy as np

from survey.spectrum import LogWave, Refused

TOLERANCE = 0.003
"""Angstrom. float32 wavelengths of LAMOST differ from exact log-linear ones by up to 0.0028; a pixel is 0.8
to 2."""

LOWEST, HIGHEST = 100.0, 1e6

_CACHED_PIXELS = 5000


@lru_cache(maxsize=16)
def _cached_angstrom(start: float, step: float) -> np.ndarray:
    return LogWave(start, step, _CACHED_PIXELS).angstrom()


def log_linear(
    wave: np.ndarray, start: object, step: object, tolerance: float | np.ndarray = TOLERANCE
) -> LogWave | None:
    """The log-linear wavelengths of these coefficients; None if one is too far from the file's own."""
    log_wave = from_coefficients(start, step, len(wave))
    if log_wave is None:
        return None
    if len(wave) <= _CACHED_PIXELS:
        exact = _cached_angstrom(log_wave.start, log_wave.step)[: len(wave)]
    else:
        exact = log_wave.angstrom()
    difference = np.abs(wave - exact)
    near = (difference <= tolerance).all()
    return log_wave if near else None  # a NaN is never near


def from_coefficients(start: object, step: object, size: int) -> LogWave | None:
    """Log-linear wavelengths; None if the coefficients are no numbers or give no optical wavelengths."""
    if not isinstance(start, (int, float)) or not isinstance(step, (int, float)):
        return None
    low, high = math.log10(LOWEST), math.log10(HIGHEST)
    plausible = low <= start <= high and 1e-7 <= step <= 1e-2 and start + step * size <= high
    return LogWave(float(start), float(step), size) if plausible else None


def log_linear_or_list(
    wave: np.ndarray, start: object = None, step: object = None, tolerance: float | np.ndarray = TOLERANCE
) -> LogWave | np.ndarray:
    """The wavelengths of a file, log-linear if possible.

    The coefficients of the header are tried first, then those of the first and the last wavelength.
    """
    log_wave = log_linear(wave, start, step, tolerance)
    if log_wave is not None:
        return log_wave
    check(wave)
    first, last = math.log10(wave[0]), math.log10(wave[-1])
    log_wave = log_linear(wave, first, (last - first) / (len(wave) - 1), tolerance)
    return np.asarray(wave, dtype=float) if log_wave is None else log_wave


def check(wave: np.ndarray) -> None:
    """Refuse wavelengths that are not finite, not rising, or neither ultraviolet, visible nor infrared."""
    exact = np.asarray(wave, dtype=float)
    bad = int((~np.isfinite(exact)).sum())
    if bad:
        raise Refused("bad_wavelength", f"{bad} of {len(exact)} wavelengths are no finite numbers")
    if exact.min() < LOWEST or exact.max() > HIGHEST:
        raise Refused("bad_wavelength", f"wavelengths from {exact.min():g} to {exact.max():g} angstrom")
    falling = int((exact[1:] <= exact[:-1]).sum())
    if falling:
        raise Refused("bad_wavelength", f"wavelengths do not rise at {falling} of {len(exact)} pixels")


def from_log10(loglam: np.ndarray) -> np.ndarray:
    """Angstrom from log10 angstrom. NaN and absurd values become NaN, which `check` refuses."""
    exact = np.asarray(loglam, dtype=float)
    return np.asarray(np.power(10.0, np.where((exact > 0) & (exact < 9), exact, np.nan)))


def rounding_error(loglam: np.ndarray) -> np.ndarray:
    """The error in angstrom that the float type of log10 angstrom allows: 0.0057 beyond 10,000 angstrom in
    float32."""
    half = 0.51 * np.abs(np.spacing(loglam)).astype(float)
    return np.asarray(np.maximum(TOLERANCE, from_log10(loglam) * math.log(10) * half))


def air_to_vacuum(air: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of these air wavelengths, by the IAU relation (Morton 1991), solved for vacuum."""
    air = np.asarray(air, dtype=float)
    wave = air
    for _ in range(4):  # each step gains four digits
        wave = air * (1 + 2.735182e-4 + 131.4182 / wave**2 + 2.76249e8 / wave**4)
    return wave
