"""Spectra as few bytes: what comes out is what went in, within a fraction of the noise."""

import base64
from itertools import pairwise

import numpy as np
import pytest

from survey.pages.spectra_code import (
    EXACT,
    SKETCH,
    PagePixels,
    Precision,
    noise_code,
    noise_of,
    pack,
    unpack,
)

WAVE = 3900.0 + np.arange(401.0)


def noisy(rows: int, pixels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Flux with lines, noise that changes along the spectrum, and some bad pixels (sigma 0)."""
    random = np.random.default_rng(seed)
    sigma = np.geomspace(0.2, 0.004, pixels) * random.uniform(0.5, 2, (rows, 1))
    flux = (
        1
        - 0.6 * np.exp(-(((np.arange(pixels) - pixels / 2) / 9) ** 2))
        + sigma * random.normal(size=(rows, pixels))
    )
    return flux, np.where(random.random((rows, pixels)) < 0.03, 0.0, sigma)


@pytest.mark.parametrize("precision", [EXACT, SKETCH, Precision(1.0, 1e-3)])
@pytest.mark.parametrize("pixels", [7, 64, 129, 801])
def test_flux_is_right_within_half_a_step(precision: Precision, pixels: int) -> None:
    flux, sigma = noisy(5, pixels)
    read, _ = unpack(pack(flux, sigma, precision))
    good = sigma > 0
    assert (np.isnan(read) == ~good).all()
    for start in range(0, pixels, 64):
        part = slice(start, start + 64)
        for row in range(5):
            known = sigma[row, part][good[row, part]]
            if len(known):  # a block has the step of its median noise, in steps of 10 %
                step = max(1.06 * np.median(known) / precision.steps, precision.smallest)
                error = np.abs(read[row, part] - flux[row, part])[good[row, part]]
                assert error.max() <= 0.51 * step


def test_noise_is_right_within_ten_percent_of_the_mean_of_two_pixels() -> None:
    flux, sigma = noisy(4, 200)
    _, read = unpack(pack(flux, sigma))
    for row in range(4):
        for pair in range(0, 200, 2):
            known = sigma[row, pair : pair + 2]
            known = known[known > 0]
            if len(known):
                np.testing.assert_allclose(read[row, pair : pair + 2], known.mean(), rtol=0.06)


def test_a_sketch_has_no_noise_and_fewer_bytes() -> None:
    flux, sigma = noisy(64, 2000)
    exact, sketch = pack(flux, sigma, EXACT), pack(flux, sigma, SKETCH)
    assert not sketch.about["noise"]
    assert len(sketch.data) < 0.8 * len(exact.data)


def test_extreme_flux_does_not_spoil_the_pixels_beside_it() -> None:
    flux, sigma = noisy(1, 128)
    flux[0, 20], flux[0, 21], flux[0, 22] = 1e9, -1e9, np.pi
    sigma[0, 19:24] = 0.05
    read, _ = unpack(pack(flux, sigma))
    assert np.abs(read[0, 22] - np.pi) < 0.02
    np.testing.assert_allclose(read[0, 24:60], np.where(sigma > 0, flux, np.nan)[0, 24:60], atol=0.05)


def test_a_spectrum_without_a_good_pixel_stays_bad() -> None:
    flux, sigma = noisy(2, 100)
    sigma[1] = 0
    read, _ = unpack(pack(flux, sigma))
    assert np.isnan(read[1]).all()
    assert np.isfinite(read[0]).any()


def test_codes_of_the_noise_cover_all_that_occurs() -> None:
    sigma = np.array([1e-4, 1e-3, 0.02, 1.0, 1e3])
    np.testing.assert_allclose(noise_of(noise_code(sigma)), sigma, rtol=0.05)


def test_windows_keep_all_pixels_and_the_rest_is_the_weighted_mean_of_two() -> None:
    page = PagePixels(WAVE, ((4000.0, 4050.0),))
    random = np.random.default_rng(2)
    flux, ivar = random.normal(size=(2, len(WAVE))), random.uniform(0, 3, (2, len(WAVE)))
    ivar[ivar < 0.5] = 0
    read_flux, read_sigma = page.reduce(flux, ivar)
    ends = [*page.start_Q.tolist(), len(WAVE)]
    for number, (start, end) in enumerate(pairwise(ends)):
        inside = [4000 <= wave <= 4050 for wave in WAVE[start:end]]
        assert end - start == 1 or not any(inside)
        for row in range(2):
            weights = ivar[row, start:end]
            if weights.sum() == 0:
                assert read_sigma[row, number] == 0
                continue
            mean = sum(f * w for f, w in zip(flux[row, start:end], weights, strict=True)) / weights.sum()
            assert read_flux[row, number] == pytest.approx(mean)
            assert read_sigma[row, number] == pytest.approx(weights.sum() ** -0.5)
    kept = {wave for wave in page.wave_Q.tolist() if 4000 <= wave <= 4050}
    assert kept == {wave for wave in WAVE.tolist() if 4000 <= wave <= 4050}
    assert (np.diff(page.start_Q) == 2).sum() >= 170


def test_a_thousand_spectra_with_noise_take_less_than_4_mb() -> None:
    wave = 3900.0 + np.arange(4900.0)
    page = PagePixels(wave, ((3850.0, 4400.0), (4620.0, 4760.0), (5040.0, 5290.0), (8480.0, 8690.0)))
    random = np.random.default_rng(1)
    size = 0
    for _ in range(2):
        snr = random.lognormal(3.6, 0.7, (64, 1))
        sigma = np.geomspace(3, 0.7, 4900) / snr
        lines = sum(0.4 * np.exp(-(((wave - at) / 4) ** 2)) for at in range(3910, 8800, 37))
        flux = 1 - lines * random.uniform(0.2, 1, (64, 1)) + sigma * random.normal(size=(64, 4900))
        size += len(base64.b64encode(pack(*page.reduce(flux, sigma**-2.0)).data))
    assert size / 128 * 1000 < 4e6
