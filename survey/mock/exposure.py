"""A mock star seen through the air, the telescope and a spectrograph: fluxes with noise, inverse variances,
flags.

The two arms meet at 5700-5900 angstrom; each has its own smooth calibration error, and there is a small step
between them. Telluric bands and the night sky are at rest with the observer. The noise is that of photons,
sky and read-out, slightly correlated between neighbours, for the wanted signal to noise in g. Shapes: B
spectra, P pixels.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from survey.mock import light
from survey.mock.light import Window
from survey.mock.population import Table

BANDS = {
    "u": (3700.0, 4000.0),
    "g": (4000.0, 5500.0),
    "r": (5600.0, 7000.0),
    "i": (7000.0, 8500.0),
    "z": (8500.0, 9000.0),
}
SUSPECT = 64
"""Value of the or-mask where only one exposure was bad."""

# vacuum angstrom, strength in units of the sky's continuum
SKY_LINES = (
    (4047.7, 1.5),
    (4359.554, 4.0),
    (5462.254, 3.0),
    (5578.89, 45.0),
    (5891.6, 3.0),
    (6302.049, 12.0),
    (6365.538, 4.0),
    (6865.0, 3.0),
)
TELLURIC = (
    (
        *((6871.9, 7.0, 0.7), (6885.0, 9.0, 0.5), (6912.0, 14.0, 0.30)),
        *((7607.1, 8.0, 1.3), (7622.0, 12.0, 0.9), (7650.0, 18.0, 0.7)),
        (6280.0, 8.0, 0.1),
    ),
    (
        *((7185.0, 9.0, 0.45), (7200.0, 25.0, 0.35), (7245.0, 40.0, 0.40), (7290.0, 25.0, 0.3)),
        *((8165.0, 20.0, 0.3), (8235.0, 40.0, 0.4)),
        (9000.0, 55.0, 0.8),
    ),
)
"""Oxygen, then water: centre, width, depth in units of optical depth."""


class Spectrograph(NamedTuple):
    """What is the same for all exposures of a spectrograph, on its pixels."""

    throughput: np.ndarray
    sky: np.ndarray
    air: np.ndarray
    curves: np.ndarray
    reddening: np.ndarray
    bands: dict[str, slice]


class Exposure(NamedTuple):
    """Spectra as a pipeline would deliver them. `snr` is [B, 5] in ugriz; NaN where a band is not covered."""

    flux: np.ndarray
    ivar: np.ndarray
    bad: np.ndarray
    suspect: np.ndarray
    continuum: np.ndarray
    snr: np.ndarray


@cache
def spectrograph(window: Window) -> Spectrograph:
    """Throughput, sky, air and the shapes of the calibration errors of a spectrograph."""
    wave = window.wave()
    red = 1 / (1 + np.exp(-(wave - 5800.0) / 30.0))
    blue_rise = 0.04 + 1 / (1 + np.exp(-(wave - 4150.0) / 190.0))
    falls = (1 - red) / (1 + np.exp((wave - 5790.0) / 45.0)) + red * 0.85 / (
        1 + np.exp(-(wave - 5830.0) / 60.0)
    )
    throughput = blue_rise * falls * (0.4 + 0.6 / (1 + np.exp((wave - 8700.0) / 170.0)))
    blue, scarlet = (wave - 4800.0) / 1100.0, (wave - 7400.0) / 1700.0
    curves = [(1 - red) * blue, (1 - red) * (blue**2 - 0.33), (1 - red) * (blue**3 - 0.6 * blue)]
    curves += [red * scarlet, red * (scarlet**2 - 0.33), red * (scarlet**3 - 0.6 * scarlet), red - 0.5]
    return Spectrograph(
        throughput=throughput.astype(np.float32),
        sky=_night(wave, window).astype(np.float32),
        air=np.array([_air(wave, rows, seed) for seed, rows in enumerate(TELLURIC)], np.float32),
        curves=np.array(curves, np.float32),
        reddening=(-0.4 * np.log(10) * 3.1 * (wave / 5500.0) ** -1.3).astype(np.float32),
        bands={
            name: slice(int(np.searchsorted(wave, low)), int(np.searchsorted(wave, high)), 3)
            for name, (low, high) in BANDS.items()
        },
    )


def _night(wave: np.ndarray, window: Window) -> np.ndarray:
    """The night sky in units of its continuum: a glow that grows to the red, and emission lines.

    The lines are of mercury, oxygen and, beyond 7200 angstrom, OH.
    """
    draw = np.random.default_rng(6300)
    hydroxyl = np.sort(
        np.concatenate([draw.uniform(start, start + 190.0, 14) for start in (7240, 7710, 8280, 8760)])
    )
    rows = [
        *SKY_LINES,
        *zip(hydroxyl, draw.gamma(1.0, 8.0, len(hydroxyl)) * (hydroxyl / 8000.0) ** 4, strict=True),
    ]
    sky = 1.0 + 0.8 / (1 + np.exp(-(wave - 7300.0) / 250.0))
    width = window.blur * window.step * np.log(10)
    for centre, strength in rows:
        sky += strength * np.exp(-0.5 * ((wave - centre) / (centre * width)) ** 2)
    return np.asarray(sky)


def _air(wave: np.ndarray, rows: tuple[tuple[float, float, float], ...], seed: int) -> np.ndarray:
    grain = np.interp(
        np.log(wave),
        np.log(3500.0) + 4e-4 * np.arange(2600),
        np.random.default_rng(seed).gamma(2.0, 0.5, 2600),
    )
    bands = sum(depth * np.exp(-0.5 * ((wave - centre) / width) ** 2) for centre, width, depth in rows)
    return np.asarray(bands * (0.6 + 0.4 * grain))


def expose(
    stars: Table, window: Window, draw: np.random.Generator, scale: float = 1.0, exposures: int = 1
) -> list[Exposure]:
    """The exposures of these stars. `scale` multiplies the signal to noise; all exposures of a star are
    equal in it."""
    instrument = spectrograph(window)
    count = len(stars["Teff"])
    base_BP, flux_BP = _without_noise(stars, window, instrument, draw)
    ratio = stars["snr"] * scale / np.sqrt(exposures)
    glow = 60.0 * np.exp(draw.normal(0.0, 0.4, count))
    g = instrument.bands["g"]
    pixels = g if g.stop - g.start > 30 else slice(0, window.size, 3)
    typical = (flux_BP[:, pixels] * instrument.throughput[pixels]).mean(1, dtype=np.float64)
    share = 0.12 * glow / 60.0  # longer exposures gather more sky
    signal = (
        (1 + share) * ratio**2 + np.sqrt(((1 + share) * ratio**2) ** 2 + 4 * ratio**2 * (glow + 16.0))
    ) / 2
    glow += share * signal
    gain = (signal / typical).astype(np.float32)
    unit = (signal / 9.0 * np.exp(draw.normal(0.0, 0.5, count)) / typical).astype(np.float32)
    collected = instrument.throughput * gain[:, None]
    variance_BP = flux_BP * collected + instrument.sky * glow.astype(np.float32)[:, None] + np.float32(16.0)
    # 1 / sigma for a flux of 1 at 5500 angstrom
    weight_BP = np.divide(collected, np.sqrt(variance_BP, out=variance_BP), out=variance_BP)
    weight_BP /= unit[:, None]
    flux_BP *= unit[:, None]
    base_BP *= unit[:, None]
    return [_measure(flux_BP, weight_BP, base_BP, instrument, draw) for _ in range(exposures)]


def _without_noise(
    stars: Table, window: Window, instrument: Spectrograph, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The continuum with its calibration errors, and the flux without noise."""
    count = len(stars["Teff"])
    errors = np.column_stack(
        [draw.normal(0.0, (0.05, 0.03, 0.02) * 2, (count, 6)), draw.normal(0.0, 0.03, count)]
    ).astype(np.float32)
    log_BP = instrument.reddening * stars["reddening"].astype(np.float32)[:, None]
    for error, curve in zip(errors.T, instrument.curves, strict=True):
        log_BP += error[:, None] * curve
    base_BP = np.exp(log_BP, out=log_BP)
    base_BP *= light.continuum(stars["Teff"], window)
    strength = np.exp(draw.normal((-1.6, -2.0), 0.6, (count, 2))).astype(np.float32)
    flux_BP = light.transmission(stars, window)
    flux_BP *= base_BP
    for band in range(len(TELLURIC)):
        span = _span(window, band)
        flux_BP[:, span] *= np.exp(-strength[:, band, None] * instrument.air[band, span])
    return base_BP, flux_BP


@cache
def _span(window: Window, band: int) -> slice:
    pixels = np.flatnonzero(spectrograph(window).air[band] > 1e-3)
    return slice(int(pixels[0]), int(pixels[-1]) + 1) if len(pixels) else slice(0, 0)


def _measure(
    flux_BP: np.ndarray,
    weight_BP: np.ndarray,
    base_BP: np.ndarray,
    instrument: Spectrograph,
    draw: np.random.Generator,
) -> Exposure:
    count, size = flux_BP.shape
    noise_BP = draw.standard_normal((count, size), dtype=np.float32)
    # neighbours share noise after the resampling of a pipeline
    noise_BP[:, 1:] += np.float32(0.2) * noise_BP[:, :-1]
    noise_BP *= np.float32(1 / np.sqrt(1.04))
    _add_cosmic_rays(noise_BP, draw)
    measured_BP = flux_BP + np.divide(noise_BP, weight_BP, out=noise_BP)
    error_factor = (1 + np.clip(draw.normal(0.0, 0.12, count), -0.3, 0.3)).astype(np.float32)
    ivar_BP = weight_BP * weight_BP
    ivar_BP *= error_factor[:, None]
    bad, suspect = _flags(count, size, draw)
    ivar_BP[bad] = 0.0
    blank = bad & (draw.random((count, 1)) < 0.3)
    measured_BP[blank] = 0.0
    snr = np.full((count, len(BANDS)), np.nan)
    for column, band in enumerate(instrument.bands.values()):
        if band.stop - band.start > 30:
            snr[:, column] = np.median(measured_BP[:, band] * weight_BP[:, band], axis=1)
    return Exposure(measured_BP, ivar_BP, bad, suspect, base_BP, snr)


def _add_cosmic_rays(noise_BP: np.ndarray, draw: np.random.Generator) -> None:
    """Cosmic rays that no mask flags: about 1.5 in a spectrum, one or two pixels wide."""
    count, size = noise_BP.shape
    number = draw.poisson(1.5 * count)
    row, pixel = draw.integers(0, count, number), draw.integers(0, size - 1, number)
    height = (4.0 + draw.exponential(12.0, number)).astype(np.float32)
    noise_BP[row, pixel] += height
    noise_BP[row, pixel + 1] += height * draw.random(number, dtype=np.float32) * (draw.random(number) < 0.5)


def _flags(count: int, size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are bad in all exposures, and the values of the or-mask (bad in any exposure)."""
    bad = _random_runs(count, size, draw, 3.0, 8)
    edge = np.where(draw.random(count) < 0.25, draw.integers(5, 60, count), 0)
    bad |= np.arange(size) >= (size - edge)[:, None]
    suspect = np.where(bad, 1, np.where(_random_runs(count, size, draw, 2.0, 5), SUSPECT, 0)).astype(np.int16)
    return bad, suspect


def _random_runs(count: int, size: int, draw: np.random.Generator, mean: float, longest: int) -> np.ndarray:
    number = draw.poisson(mean * count)
    length = draw.integers(1, longest + 1, number)
    start = draw.integers(0, count, number) * size + draw.integers(0, size - longest, number)
    flat = np.zeros(count * size, bool)
    for step in range(longest):
        flat[start[length > step] + step] = True
    return flat.reshape(count, size)
