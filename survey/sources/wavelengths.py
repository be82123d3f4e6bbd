"""What files say of their wavelengths becomes vacuum angstrom: log-linear where that is what they are, a list of numbers elsewhere.

Every pixel is compared, none is sampled: a log-linear wavelength is off from the file's own by no more than `TOLERANCE`.
"""

import math
from functools import lru_cache

import numpy as np

from survey.spectrum import LogWave, Refused

TOLERANCE = 0.003
"""Angstrom: float32 rows of LAMOST are off from exact log-linear by up to 0.0028; a pixel is 0.8 to 2 angstrom wide."""

LOWEST, HIGHEST = 100.0, 1e6

_KEPT = 5000


@lru_cache(maxsize=16)
def _kept_grid(start: float, step: float) -> np.ndarray:
    return LogWave(start, step, _KEPT).angstrom()


def log_linear(
    wave: np.ndarray, start: object, step: object, tolerance: float | np.ndarray = TOLERANCE
) -> LogWave | None:
    """The log-linear wavelengths of these coefficients, if every wavelength of the file is that near to them."""
    found = from_coefficients(start, step, len(wave))
    if found is None:
        return None
    exact = _kept_grid(found.start, found.step)[: len(wave)] if len(wave) <= _KEPT else found.angstrom()
    off = np.abs(wave - exact)
    near = off.max() <= tolerance if isinstance(tolerance, float) else (off <= tolerance).all()
    return found if near else None  # a NaN is never near


def from_coefficients(start: object, step: object, size: int) -> LogWave | None:
    """Log-linear wavelengths, if the coefficients are numbers that give optical ones."""
    if not isinstance(start, (int, float)) or not isinstance(step, (int, float)):
        return None
    low, high = math.log10(LOWEST), math.log10(HIGHEST)
    sound = low <= start <= high and 1e-7 <= step <= 1e-2 and start + step * size <= high
    return LogWave(float(start), float(step), size) if sound else None


def settled(
    wave: np.ndarray, start: object = None, step: object = None, tolerance: float | np.ndarray = TOLERANCE
) -> LogWave | np.ndarray:
    """The wavelengths of a file, in its order: by the header's coefficients where they agree, by those of its ends, or as they are."""
    found = log_linear(wave, start, step, tolerance)
    if found is not None:
        return found
    check(wave)
    first, last = math.log10(wave[0]), math.log10(wave[-1])
    found = log_linear(wave, first, (last - first) / (len(wave) - 1), tolerance)
    return np.asarray(wave, dtype=float) if found is None else found


def check(wave: np.ndarray) -> None:
    """Refuse wavelengths that are not finite, rising and of ultraviolet, visible or infrared light."""
    exact = np.asarray(wave, dtype=float)
    if not np.isfinite(exact).all():
        raise Refused(
            "bad_wavelength",
            f"{int((~np.isfinite(exact)).sum())} of {len(exact)} wavelengths are no finite numbers",
        )
    if exact.min() < LOWEST or exact.max() > HIGHEST:
        raise Refused("bad_wavelength", f"wavelengths from {exact.min():g} to {exact.max():g} angstrom")
    if (exact[1:] <= exact[:-1]).any():
        raise Refused(
            "bad_wavelength",
            f"wavelengths do not rise at {int((exact[1:] <= exact[:-1]).sum())} of {len(exact)} pixels",
        )


def angstrom(loglam: np.ndarray) -> np.ndarray:
    """Angstrom of log10 angstrom; what is no number or far off becomes NaN, for `check` to refuse."""
    exact = np.asarray(loglam, dtype=float)
    return np.asarray(np.power(10.0, np.where((exact > 0) & (exact < 9), exact, np.nan)))


def rounding(loglam: np.ndarray) -> np.ndarray:
    """What storing these log10 angstrom as they are stored may cost, in angstrom: 0.0057 beyond 10,000 angstrom in float32."""
    half = 0.51 * np.abs(np.spacing(loglam)).astype(float)
    return np.asarray(np.maximum(TOLERANCE, angstrom(loglam) * math.log(10) * half))


def vacuum(air: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of these air wavelengths, by the IAU relation (Morton 1991) solved for vacuum."""
    air = np.asarray(air, dtype=float)
    wave = air
    for _ in range(4):  # each step gains four digits
        wave = air * (1 + 2.735182e-4 + 131.4182 / wave**2 + 2.76249e8 / wave**4)
    return wave
