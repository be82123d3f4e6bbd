"""The noise that is estimated from the flux is the one that was added."""

import numpy as np
import pytest

from survey.mock import light, mock
from survey.mock.settings import Mock
from survey.sources.noise import MAX_SNR, estimate_ivar, without_errors
from survey.spectrum import LogWave

RATIOS = (5.0, 20.0, 50.0, 200.0)
WAVE = light.LOW.wave()
ANGSTROM_GRID = np.arange(3900.0, 8800.0)


@pytest.fixture(scope="module")
def stars() -> np.ndarray:
    """Computed spectra of 40 stars without noise, in counts."""
    table = mock.describe(Mock.from_dict("mock", {"out": "x", "n": 100}), 0)
    some = {name: values[:40] for name, values in table.items()}
    flux = light.transmission(some, light.LOW) * light.continuum(some["Teff"], light.LOW)
    return np.asarray(3000 * flux / np.median(flux, 1, keepdims=True), float)


def noisy(flux: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The spectra with this signal to noise, and the standard deviation of each pixel."""
    sigma = np.maximum(flux, 0.05 * np.median(flux, 1, keepdims=True)) / ratio
    return flux + np.random.default_rng(3).normal(0, 1, flux.shape) * sigma, sigma


def ratios_to_truth(flux: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Estimated over true noise: the median over the pixels of each spectrum."""
    rows = zip(flux, sigma, strict=True)
    return np.array([np.median(1 / np.sqrt(estimate_ivar(one)) / true) for one, true in rows])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("normalised", [False, True], ids=["counts", "normalised"])
def test_the_noise_of_computed_spectra_is_found_within_20_per_cent(
    stars: np.ndarray, ratio: float, normalised: bool
) -> None:
    flux, sigma = noisy(stars, ratio)
    if normalised:
        level = np.array([np.polyval(np.polyfit(WAVE / 6000, row, 4), WAVE / 6000) for row in stars])
        flux, sigma = flux / level, sigma / level
    found = ratios_to_truth(flux, sigma)
    assert (np.abs(found - 1) < 0.2).mean() > (0.8 if ratio > 100 else 0.95)
    assert 0.9 < np.median(found) < 1.15


@pytest.mark.parametrize("ratio", RATIOS[:3])
def test_the_noise_of_spectra_on_a_finer_grid_is_not_taken_for_much_smaller(
    stars: np.ndarray, ratio: float
) -> None:
    flux, sigma = noisy(stars, ratio)
    right = np.searchsorted(WAVE, ANGSTROM_GRID)
    share = (ANGSTROM_GRID - WAVE[right - 1]) / (WAVE[right] - WAVE[right - 1])
    finer = (1 - share) * flux[:, right - 1] + share * flux[:, right]
    error = np.hypot((1 - share) * sigma[:, right - 1], share * sigma[:, right])
    found = ratios_to_truth(finer, error)
    assert (np.abs(found - 1) < 0.2).mean() > 0.9


def test_noise_that_differs_along_the_spectrum_is_followed() -> None:
    sigma = np.geomspace(0.2, 0.01, 3909)
    flux = 1 + np.random.default_rng(4).normal(0, 1, 3909) * sigma
    found = 1 / np.sqrt(estimate_ivar(flux))
    blocks = [np.median(part) for part in np.array_split(found / sigma, 10)]
    np.testing.assert_allclose(blocks, 1, atol=0.3)


def test_spectra_without_noise_have_a_high_but_finite_signal_to_noise(stars: np.ndarray) -> None:
    smooth = 1 + 0.3 * np.sin(WAVE / 900)
    np.testing.assert_allclose(estimate_ivar(smooth), (MAX_SNR / np.median(smooth)) ** 2, rtol=1e-4)
    for flux in stars:
        ratio = np.median(flux * np.sqrt(estimate_ivar(flux)))
        assert 25 < ratio <= 1.01 * MAX_SNR


def test_the_unit_of_the_flux_does_not_matter(stars: np.ndarray) -> None:
    flux, _ = noisy(stars[:1], 30)
    for unit in (1e-25, 1e-19, 1e-17):  # the ivar of the first two exceeds float32
        ivar = estimate_ivar(unit * flux[0]) * unit**2
        np.testing.assert_allclose(ivar, estimate_ivar(flux[0]), rtol=1e-4)


def test_spikes_and_lost_pixels_change_little(stars: np.ndarray) -> None:
    flux, _ = noisy(stars[:1], 30)
    damaged = flux[0].copy()
    damaged[::200] *= 50
    damaged[100::300] = np.nan
    is_lost = np.isnan(damaged)
    before, after = estimate_ivar(flux[0]), estimate_ivar(damaged)
    assert (after[is_lost] == 0).all()
    np.testing.assert_allclose(np.median(after[~is_lost] / before[~is_lost]), 1, atol=0.15)


def test_pixels_that_were_not_measured_have_no_weight() -> None:
    flux = 1 + np.random.default_rng(5).normal(0, 0.05, 900)
    flux[:40] = flux[-7:] = flux[300:303] = 0
    flux[500] = 0
    is_empty = np.zeros(900, bool)
    is_empty[:40] = is_empty[-7:] = is_empty[300:303] = True
    np.testing.assert_array_equal(estimate_ivar(flux) == 0, is_empty)


@pytest.mark.parametrize(
    "flux",
    [
        np.zeros(100),
        np.ones(2),
        np.full(50, np.nan),
        np.full(50, np.inf),
        np.array([1.0, np.nan] * 60),
        np.array([1e300, -1e300] * 60),
        np.r_[1e38, np.ones(400)],
        np.full(1000, 1e-320),
    ],
    ids=["zeros", "two", "nan", "inf", "every second", "huge", "one huge", "denormal"],
)
def test_the_weights_of_any_numbers_are_finite(flux: np.ndarray) -> None:
    ivar = estimate_ivar(flux)
    assert ivar.dtype == np.float64
    assert np.isfinite(ivar).all()
    assert (ivar >= 0).all()
    assert (ivar[~np.isfinite(flux)] == 0).all()


def test_a_spectrum_without_errors_says_so() -> None:
    wave = LogWave(3.6, 1e-4, 300)
    spectrum = without_errors(wave, np.ones(300), visit={"visit": "x"})
    assert spectrum.noise_estimated
    assert (spectrum.ivar > 0).all()
    assert spectrum.visit == {"visit": "x"}
