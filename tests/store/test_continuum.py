"""Every continuum against its definition: a loop over single spectra in float64."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from survey.spectrum import GRIDS, Grid, LogWave, Spectrum
from survey.store import continuum
from survey.store.prepare import Preparer
from survey.store.settings import ContinuumMethod, Prepare

CPU = torch.device("cpu")
SMALL = Grid(3900.0, 4899.0, 5.0)


def fitted(method: ContinuumMethod, grid: Grid, flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return continuum.make_fit(method, grid, CPU)(
            torch.from_numpy(flux.astype(np.float32)), torch.from_numpy(ivar.astype(np.float32))
        ).numpy()


def polynomial_clipped(wave: np.ndarray, flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """System 0's fit of one spectrum: order 5 in standardised log wavelength.

    Points more than 4 sigma above or 3 below the fit are set to the fit.
    """
    x = np.log10(wave)
    x = (x - x.mean()) / x.std()
    values = np.where(good, flux, flux[good].mean() if good.any() else 0.0).astype(float)
    fit = np.polyval(np.polyfit(x, values, 5), x)
    for _ in range(continuum.MAX_ROUNDS):
        values[~good] = fit[~good]
        rest = values - fit
        sigma = np.sqrt((rest[good] ** 2).mean()) if good.any() else 0.0
        hit = good & ((rest > 4 * sigma) | (rest < -3 * sigma))
        if not hit.any() or sigma < 1e-12:
            break
        values[hit] = fit[hit]
        fit = np.polyval(np.polyfit(x, values, 5), x)
    return fit


def lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def parabolas(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """System 1's segments of one spectrum, which overlap by a quarter of their length and blend linearly."""
    points = len(flux)
    bounds = np.linspace(0, points, 6).round().astype(int)
    reach = points // 20
    total, weights = np.zeros(points), np.zeros(points)
    for number in range(5):
        low, high = max(0, bounds[number] - reach), min(points, bounds[number + 1] + reach)
        smooth = np.full(high - low, np.nan)
        for point in range(low, high):
            near = [flux[i] for i in range(max(low, point - 5), min(high, point + 6)) if good[i]]
            if near:
                smooth[point - low] = lower_median(np.array(near))
        there = np.isfinite(smooth)
        middle = lower_median(smooth[there]) if there.any() else 0.0
        upper = there & (np.nan_to_num(smooth, nan=-np.inf) >= middle)
        x = np.linspace(-1, 1, high - low)
        fit = (
            np.polyval(np.polyfit(x[upper], smooth[upper], 2), x)
            if upper.sum() >= 3
            else np.full(high - low, middle)
        )
        fit = np.maximum(fit, 0.05 * np.where(there, smooth, 0).max())
        for point in range(low, high):
            up = 1.0 if number == 0 else np.clip((point - (bounds[number] - reach)) / (2 * reach), 0, 1)
            down = 0.0 if number == 4 else np.clip((point - (bounds[number + 1] - reach)) / (2 * reach), 0, 1)
            total[point] += (up - down) * fit[point - low]
            weights[point] += up - down
    np.testing.assert_allclose(weights, 1)
    return total


def penalised_spline(grid: Grid, flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """The smoothing spline of one spectrum, by dense normal equations."""
    x = np.log10(grid.wave)
    inner = np.linspace(x[0], x[-1], max(5, round((x[-1] - x[0]) / continuum.KNOT_DISTANCE) + 1))
    step = inner[1] - inner[0]
    knots = np.concatenate(
        (inner[0] - step * np.array([3, 2, 1]), inner, inner[-1] + step * np.array([1, 2, 3]))
    )
    design = BSpline.design_matrix(x, knots, 3).toarray()
    bend = np.diff(np.eye(design.shape[1]), 2, axis=0)
    penalty = 2 * bend.T @ bend + 1e-6 * np.eye(design.shape[1])
    mean = max(abs(flux[ivar > 0].mean()) if (ivar > 0).any() else 0.0, 1e-30)
    value, weight = flux / mean, ivar * mean**2
    weight = weight / (1 + 1e-4 * weight)
    used = weight
    for _ in range(6):
        normal = design.T @ (used[:, None] * design) + (weight.sum() / len(grid) + 1e-12) * penalty
        fit = design @ np.linalg.solve(normal, design.T @ (used * value))
        below = np.maximum((fit - value) * np.sqrt(weight) - 0.5, 0)
        used = weight / (1 + below**2)
    return np.asarray(fit * mean)


def starlike(
    rng: np.random.Generator, grid: Grid, rows: int, bad: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth shapes with lines, noise, spikes and bad points."""
    x = np.linspace(-1, 1, len(grid))
    flux = 1 + 0.3 * rng.normal(size=(rows, 1)) * x + 0.2 * rng.normal(size=(rows, 1)) * x**2
    for _ in range(12):
        flux *= 1 - rng.uniform(0, 0.6, (rows, 1)) * np.exp(
            -0.5 * ((x - rng.uniform(-1, 1, (rows, 1))) / 0.004) ** 2
        )
    error = 10 ** rng.uniform(-2.5, -0.7, (rows, 1)) * np.ones_like(flux)
    flux = flux + error * rng.normal(size=flux.shape)
    flux[rng.random(flux.shape) < 0.002] *= 3
    ivar = np.where(rng.random(flux.shape) < bad, 0.0, error**-2.0)
    scale = 10 ** rng.uniform(-0.3, 0.3, (rows, 1))
    return (flux * scale).astype(np.float32), (ivar / scale**2).astype(np.float32)


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Computed spectra of known classes on system 0's grid, before any normalisation."""
    group = (
        pq.ParquetFile(shared / "physics" / "reference.parquet")
        .read_row_group(0, ["flux", "ivar", "z"])
        .slice(0, 40)
        .to_pydict()
    )
    wave = LogWave(3.5682, 1e-4, 3909)
    spectra = [
        Spectrum(wave, np.array(flux, np.float32), np.array(ivar, np.float32), visit={"z": z})
        for flux, ivar, z in zip(group["flux"], group["ivar"], group["z"], strict=True)
    ]
    made = Preparer(Prepare(continuum="none", lowest=-1e30, highest=1e30))(spectra, [None] * len(spectra))
    return made.flux, made.ivar


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.1, 0.7]))
def test_the_clipped_polynomial_agrees_with_the_loop(seed: int, bad: float) -> None:
    flux, ivar = starlike(np.random.default_rng(seed), SMALL, 8, bad)
    found = fitted("msfl", SMALL, flux, ivar)
    wanted = np.array(
        [polynomial_clipped(SMALL.wave, f.astype(float), i > 0) for f, i in zip(flux, ivar, strict=True)]
    )
    # a point within float32's rounding of the limit is clipped in only one of the two; there are few,
    # and one of 200 points has little effect
    off = np.abs(found - wanted).max(1) / np.abs(wanted).mean(1)
    assert np.sort(off)[-2] < 2e-5
    assert off.max() < 2e-2


def test_the_clipped_polynomial_agrees_with_the_loop_on_computed_stars(
    real: tuple[np.ndarray, np.ndarray],
) -> None:
    """A point at the limit of clipping changes its spectrum by about 1e-4; others differ by float32 only."""
    flux, ivar = real
    grid = GRIDS["cemp4900"]
    found = fitted("msfl", grid, flux, ivar)
    wanted = np.array(
        [
            polynomial_clipped(grid.wave, f.astype(float), i > 0)
            for f, i in zip(flux[:40], ivar[:40], strict=True)
        ]
    )
    off = np.abs(found[:40] - wanted).max(1) / np.abs(wanted).mean(1)
    assert (off < 1e-3).mean() >= 0.99
    assert np.median(off) < 1e-6


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.1, 0.9]))
def test_segments_agree_with_the_loop(seed: int, bad: float) -> None:
    flux, ivar = starlike(np.random.default_rng(seed), SMALL, 3, bad)
    ivar[0, 20:90] = 0
    found = fitted("segment", SMALL, flux, ivar)
    wanted = np.array([parabolas(f.astype(float), i > 0) for f, i in zip(flux, ivar, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_segments_agree_with_the_loop_on_computed_stars(real: tuple[np.ndarray, np.ndarray]) -> None:
    flux, ivar = real[0][:4], real[1][:4]
    found = fitted("segment", GRIDS["cemp4900"], flux, ivar)
    wanted = np.array([parabolas(f.astype(float), i > 0) for f, i in zip(flux, ivar, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.1, 0.9]), gap=st.booleans())
def test_the_spline_agrees_with_dense_normal_equations(seed: int, bad: float, gap: bool) -> None:
    flux, ivar = starlike(np.random.default_rng(seed), SMALL, 4, bad)
    if gap:
        ivar[:, 60:130] = 0
    found = fitted("spline", SMALL, flux, ivar)
    wanted = np.array(
        [penalised_spline(SMALL, f.astype(float), i.astype(float)) for f, i in zip(flux, ivar, strict=True)]
    )
    seen = ivar > 0
    np.testing.assert_allclose(
        found[seen], wanted[seen], rtol=1e-3, atol=1e-3
    )  # normal equations are summed in float32
    np.testing.assert_allclose(
        found, wanted, rtol=1e-2, atol=1e-2
    )  # where only the penalty holds, the same rounding swings further


def test_the_spline_agrees_with_dense_normal_equations_on_computed_stars(
    real: tuple[np.ndarray, np.ndarray],
) -> None:
    flux, ivar = real[0][:24], real[1][:24]
    grid = GRIDS["cemp4900"]
    found = fitted("spline", grid, flux, ivar)
    wanted = np.array(
        [penalised_spline(grid, f.astype(float), i.astype(float)) for f, i in zip(flux, ivar, strict=True)]
    )
    assert np.abs(found / wanted - 1).max() < 1e-4


def test_none_divides_by_the_mean_of_the_good_points() -> None:
    flux, ivar = starlike(np.random.default_rng(1), SMALL, 5)
    for row, curve in enumerate(fitted("none", SMALL, flux, ivar)):
        assert curve == pytest.approx(np.full(len(SMALL), flux[row][ivar[row] > 0].mean()), rel=1e-6)


def test_dual_is_the_spline() -> None:
    flux, ivar = starlike(np.random.default_rng(2), SMALL, 5)
    assert (fitted("dual", SMALL, flux, ivar) == fitted("spline", SMALL, flux, ivar)).all()


METHODS: tuple[ContinuumMethod, ...] = ("msfl", "segment", "spline", "none")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("junk", [0.0, -50.0, 1e6])
def test_the_flux_of_a_bad_point_does_not_change_the_continuum(method: ContinuumMethod, junk: float) -> None:
    flux, ivar = starlike(np.random.default_rng(3), SMALL, 6)
    other = np.where(ivar > 0, flux, np.float32(junk))
    np.testing.assert_allclose(
        fitted(method, SMALL, other, ivar), fitted(method, SMALL, flux, ivar), rtol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_batch_changes_a_continuum(method: ContinuumMethod) -> None:
    flux, ivar = starlike(np.random.default_rng(4), SMALL, 20)
    batch = fitted(method, SMALL, flux, ivar)
    np.testing.assert_allclose(fitted(method, SMALL, flux[::-1], ivar[::-1])[::-1], batch, rtol=2e-4)
    single = np.concatenate(
        [fitted(method, SMALL, flux[row : row + 1], ivar[row : row + 1]) for row in range(20)]
    )
    np.testing.assert_allclose(np.sort(np.abs(single / batch - 1).max(1))[:-1], 0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_smooth_spectrum_is_its_own_continuum(method: ContinuumMethod) -> None:
    grid = GRIDS["cemp4900"]
    x = np.linspace(-1, 1, len(grid))
    flux = (3 + x - 0.5 * x**2)[None].astype(np.float32)
    if method == "none":
        flux[:] = 3
    found = fitted(method, grid, flux, np.full_like(flux, 1e4))
    # segments use the upper half of their points only, and the spline has a penalty on its curvature
    np.testing.assert_allclose(found, flux, rtol={"segment": 4e-3, "spline": 4e-3}.get(method, 5e-4))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_spectrum_however_poor_has_a_finite_continuum(
    method: ContinuumMethod, data: st.DataObject
) -> None:
    """No, one or few good points at any place; flux of any sign and range. One bad fit must not fail all."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    flux = (rng.normal(0, 1, (4, len(SMALL))) * 10.0 ** data.draw(st.integers(-10, 10))).astype(np.float32)
    ivar = np.zeros_like(flux)
    for row in range(4):
        start = data.draw(st.integers(0, len(SMALL) - 1))
        stop = data.draw(st.integers(start, len(SMALL)))
        ivar[row, start:stop] = 10.0 ** rng.uniform(-20, 10, stop - start)
    if data.draw(st.booleans()):
        flux[1] = 0
        flux[2] = flux[2, 0]
    found = fitted(method, SMALL, flux, ivar)
    assert np.isfinite(found).all()


def test_the_spline_crosses_a_gap_without_oscillating() -> None:
    grid = GRIDS["cemp4900"]
    x = np.linspace(-1, 1, len(grid))
    truth = 2 + 0.6 * x - 0.4 * x**2
    flux = (truth + np.random.default_rng(8).normal(0, 0.02, len(grid)))[None].astype(np.float32)
    ivar = np.full_like(flux, 2500)
    ivar[:, 1800:2300] = 0  # 500 angstrom
    flux[:, 1800:2300] = 0
    assert np.abs(fitted("spline", grid, flux, ivar) / truth - 1).max() < 0.03


@pytest.mark.parametrize("points", [2, 3, 4, 5, 8, 12, 19, 20])
def test_segments_of_a_short_grid_have_a_continuum(points: int) -> None:
    grid = Grid(4000.0, 4000.0 + 50.0 * (points - 1), 50.0)
    flux = np.full((1, len(grid)), 3.0)
    np.testing.assert_allclose(fitted("segment", grid, flux, np.ones_like(flux)), flux, rtol=1e-5)
