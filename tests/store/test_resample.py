"""Resampling against its definition: a loop over grid points and pixels in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.spectrum import Grid
from survey.store import resample

FLOAT32 = 3e-6
"""The error of a weighted mean of a few float32. Each product and sum rounds by 6e-8 of the largest term, and
terms may be some times the result."""


def line_by_line(
    wave: np.ndarray, flux: np.ndarray, var: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, inverse variance and coverage of straight lines. Bad pixels have infinite variance."""
    usual = np.sort(wave[1:] / wave[:-1] - 1)[(len(wave) - 2) // 2]
    out, ivar, covered = np.zeros(len(grid)), np.zeros(len(grid)), np.zeros(len(grid), bool)
    for point, here in enumerate(grid):
        left = min(max(np.searchsorted(wave, here, side="right") - 1, 0), len(wave) - 2)
        width = wave[left + 1] - wave[left]
        way = (here - wave[left]) / width
        if min(abs(way), abs(way - 1)) < resample.NEAR:
            way = round(way)
        elif not 0 < way < 1 or width / wave[left] >= resample.GAP * usual:
            continue
        covered[point] = True
        shares = [(index, share) for index, share in ((left, 1 - way), (left + 1, way)) if share > 0]
        out[point] = sum(share * flux[index] for index, share in shares)
        total = sum(share**2 * var[index] for index, share in shares)
        ivar[point] = 0 if np.isinf(total) else 1 / total
    return out, ivar, covered


def overlap_by_overlap(
    edges: np.ndarray, flux: np.ndarray, var: np.ndarray, grid_edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean flux over the width of each grid point, summed over single pixels, for spectra without gaps."""
    points = len(grid_edges) - 1
    out, ivar = np.zeros(points), np.zeros(points)
    for point in range(points):
        low, high = grid_edges[point : point + 2]
        if low < edges[0] - 1e-4 * (edges[1] - edges[0]) or high > edges[-1] + 1e-4 * (edges[-1] - edges[-2]):
            continue
        used, sums, squares, total = 0.0, 0.0, 0.0, 0.0
        for pixel in range(len(flux)):
            shared = max(0.0, min(high, edges[pixel + 1]) - max(low, edges[pixel]))
            total += shared
            if np.isfinite(var[pixel]):
                used, sums, squares = (
                    used + shared,
                    sums + shared * flux[pixel],
                    squares + shared**2 * var[pixel],
                )
        if used > 0.5 * total:
            out[point], ivar[point] = sums / used, used**2 / squares
    return out, ivar


def for_torch(var: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.where(np.isinf(var), resample.FAR, var).astype(np.float32))[None]


def searched(
    wave: np.ndarray, flux: np.ndarray, var: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = torch.tensor([len(wave)])
    positions = resample.find_positions(torch.from_numpy(wave)[None], size, torch.from_numpy(grid))
    found, ivar = resample.linear(torch.from_numpy(flux.astype(np.float32))[None], for_torch(var), positions)
    return found[0].numpy(), ivar[0].numpy(), positions.covered_BG[0].numpy()


def on_lattice(
    start: float, step: float, flux: np.ndarray, var: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    lattice = resample.Lattice(grid, step, torch.device("cpu"))
    column, offset = lattice.locate(start)
    flux_W, var_W = np.zeros(lattice.width), np.full(lattice.width, np.inf)
    for pixel in range(len(flux)):
        if 0 <= column + pixel < lattice.width:
            flux_W[column + pixel], var_W[column + pixel] = flux[pixel], var[pixel]
    found, ivar = lattice.linear(
        torch.from_numpy(flux_W.astype(np.float32))[None],
        for_torch(var_W),
        torch.tensor([offset], dtype=torch.float32),
    )
    return found[0].numpy(), ivar[0].numpy()


def noisy(rng: np.random.Generator, size: int, bad: float) -> tuple[np.ndarray, np.ndarray]:
    var = rng.uniform(0.1, 10, size).astype(np.float32).astype(float)
    var[rng.random(size) < bad] = np.inf
    return rng.normal(3, 1, size).astype(np.float32).astype(float), var


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    size=st.integers(2, 60),
    bad=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    gap=st.booleans(),
    points=st.integers(2, 80),
)
def test_lines_between_pixels_at_any_wavelengths_agree_with_the_loop(
    seed: int, size: int, bad: float, gap: bool, points: int
) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.5, 1.5, size)
    if gap and size > 4:
        steps[size // 2] = 40.0
    wave = 5000 + steps.cumsum()
    flux, var = noisy(rng, size, bad)
    grid = np.sort(np.concatenate((rng.uniform(4995, wave[-1] + 5, points), wave[:: max(1, size // 3)])))
    found, ivar, covered = searched(wave, flux, var, grid)
    wanted, ivar_wanted, covered_wanted = line_by_line(wave, flux, var, grid)
    assert (covered == covered_wanted).all()
    assert ((ivar > 0) == (ivar_wanted > 0)).all()
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32, atol=FLOAT32 * 10)
    np.testing.assert_allclose(ivar, ivar_wanted, rtol=FLOAT32)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    size=st.integers(2, 400),
    bad=st.sampled_from([0.0, 0.1, 1.0]),
    shift=st.floats(-30, 30),
    step=st.sampled_from([1e-4, 9.9e-5, 5e-5, 1e-3]),
)
def test_the_lattice_agrees_with_the_loop(
    seed: int, size: int, bad: float, shift: float, step: float
) -> None:
    rng = np.random.default_rng(seed)
    flux, var = noisy(rng, size, bad)
    grid = Grid(5000.0, 5100.0, 0.7).wave
    start = np.log10(5010.0) + shift * 1e-4
    wave = 10 ** (start + step * np.arange(size))
    found, ivar = on_lattice(start, step, flux, var, grid)
    wanted, ivar_wanted, _ = line_by_line(wave, flux, var, grid)
    # a point at the distance NEAR from a pixel may be treated as at the pixel or not: the difference is NEAR
    far = (
        np.abs(
            np.abs((np.log10(grid) - start) / step - np.round((np.log10(grid) - start) / step))
            - resample.NEAR
        )
        > 1e-5
    )
    assert ((ivar > 0) == (ivar_wanted > 0))[far].all()
    good = far & (ivar > 0)
    # shares are differences of float32 positions in pixels: 1e-7 of a pixel, times the step between pixels
    np.testing.assert_allclose(found[good], wanted[good], rtol=FLOAT32, atol=1e-6 * 10)
    np.testing.assert_allclose(ivar[good], ivar_wanted[good], rtol=2e-5)


def test_lattice_and_search_agree_where_both_apply() -> None:
    rng = np.random.default_rng(5)
    flux, var = noisy(rng, 3000, 0.05)
    grid = Grid(3900.0, 8799.0, 1.0).wave
    start = 3.6 - 3.3e-5
    flux_lattice, ivar_lattice = on_lattice(start, 1e-4, flux, var, grid)
    flux_search, ivar_search, _ = searched(10 ** (start + 1e-4 * np.arange(3000)), flux, var, grid)
    assert ((ivar_lattice > 0) == (ivar_search > 0)).mean() > 0.999
    both = (ivar_lattice > 0) & (ivar_search > 0)
    np.testing.assert_allclose(flux_lattice[both], flux_search[both], rtol=1e-5, atol=1e-5)


def test_a_grid_point_at_a_pixel_uses_only_this_pixel_even_next_to_a_bad_one() -> None:
    step, size = 1e-4, 50
    grid = 10 ** (3.7 + step * np.arange(size))
    flux, var = np.arange(1.0, size + 1), np.ones(size)
    var[10] = np.inf
    for off in (0.0, 0.9e-4, -0.9e-4):  # in pixels; NEAR is 1e-4
        found, ivar = on_lattice(3.7 + off * step, step, flux, var, grid)
        assert np.flatnonzero(ivar == 0).tolist() == [10]
        np.testing.assert_allclose(np.delete(found, 10), np.delete(flux, 10), rtol=3e-7)
        np.testing.assert_allclose(np.delete(ivar, 10), 1, rtol=3e-7)


def test_the_shares_of_two_pixels_add_up_to_one_everywhere() -> None:
    size, step = 400, 1e-4
    for offset in (0.0, 0.99993, 0.50001, 1e-4, 2e-4, 0.9998):
        found, ivar = on_lattice(
            3.7 + offset * step,
            step,
            np.full(size, 7.0),
            np.ones(size),
            10 ** (3.702 + step * np.arange(300)),
        )
        assert (ivar > 0).all()
        np.testing.assert_allclose(found, 7, rtol=5e-7)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=st.integers(2, 60), bad=st.sampled_from([0.0, 0.2, 1.0]), step=st.floats(0.2, 6.0))
def test_conserved_means_and_their_variance_agree_with_the_double_loop(
    seed: int, size: int, bad: float, step: float
) -> None:
    rng = np.random.default_rng(seed)
    wave = 5000 + rng.uniform(0.8, 1.2, size).cumsum()
    flux, var = noisy(rng, size, bad)
    grid = np.arange(4995 + rng.random(), wave[-1] + 5, step)
    if len(grid) < 2:
        return
    edges, grid_edges = (resample.edges_of(torch.from_numpy(x)) for x in (wave, grid))
    positions = resample.find_positions(edges[None], torch.tensor([size + 1]), grid_edges)
    found, ivar = resample.conserving(
        torch.from_numpy(flux.astype(np.float32))[None], for_torch(var), edges.diff()[None], positions
    )
    wanted, ivar_wanted = overlap_by_overlap(edges.numpy(), flux, var, grid_edges.numpy())
    assert torch.isfinite(found).all()
    assert torch.isfinite(ivar).all()
    assert ((ivar[0].numpy() > 0) == (ivar_wanted > 0)).all()
    # edges near a pixel's edge are put onto it (NEAR of a pixel): a share may change by 1e-4 of a pixel
    np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ivar[0], ivar_wanted, rtol=3e-3)


def test_flux_is_conserved_in_a_line_narrower_than_the_grid() -> None:
    wave, grid = 5000 + np.arange(200.0), 5000 + np.arange(3.0, 190.0, 5.0)
    flux = np.exp(-0.5 * ((wave - 5091.3) / 1.2) ** 2)
    edges, grid_edges = (resample.edges_of(torch.from_numpy(x)) for x in (wave, grid))
    positions = resample.find_positions(edges[None], torch.tensor([201]), grid_edges)
    found, _ = resample.conserving(
        torch.from_numpy(flux.astype(np.float32))[None], torch.ones(1, 200), edges.diff()[None], positions
    )
    assert float(found.sum()) * 5.0 == pytest.approx(flux.sum(), rel=1e-4)


def test_a_grid_from_the_first_to_the_last_pixel_is_covered_completely() -> None:
    wave = 10 ** (3.6 + 1e-4 * np.arange(300))
    flux, var = np.ones(300), np.ones(300)
    for grid in (wave, np.linspace(wave[0], wave[-1], 77)):
        assert searched(wave, flux, var, grid)[2].all()
        assert (on_lattice(3.6, 1e-4, flux, var, grid)[1] > 0).all()
    outside = np.array([wave[0] * 0.99999, wave[0], wave[-1], wave[-1] * 1.00001])
    assert searched(wave, flux, var, outside)[2].tolist() == [False, True, True, False]


def test_nothing_is_interpolated_across_a_gap_between_two_arms() -> None:
    blue, red = 5000 + 0.5 * np.arange(100), 5100 + 0.5 * np.arange(100)
    wave = np.concatenate((blue, red))
    grid = 5000 + 0.25 * np.arange(590)
    _, ivar, covered = searched(wave, np.ones(200), np.ones(200), grid)
    inside = (grid > blue[-1] + 0.1) & (grid < red[0] - 0.1)
    assert not covered[inside].any()
    assert not ivar[inside].any()
    assert covered[(grid <= blue[-1]) | ((grid >= red[0]) & (grid <= red[-1]))].all()


def test_the_variance_of_a_line_between_two_pixels_agrees_with_noise() -> None:
    """Linear interpolation lowers the variance to 1/2 half-way; averaged over all phases to 2/3."""
    rng = np.random.default_rng(3)
    rows = 64
    grid = Grid(5000.0, 5400.0, 0.37).wave
    lattice = resample.Lattice(grid, 1e-4, torch.device("cpu"))
    _, offset = lattice.locate(3.6)
    noise = torch.from_numpy(rng.normal(0, 1, (rows, lattice.width)).astype(np.float32))
    found, ivar = lattice.linear(
        noise, torch.ones_like(noise), torch.full((rows,), offset, dtype=torch.float32)
    )
    assert float((found * ivar.sqrt()).std()) == pytest.approx(1, rel=0.02)
    assert float((1 / ivar).mean()) == pytest.approx(2 / 3, rel=0.02)
    assert float(found.var()) == pytest.approx(2 / 3, rel=0.03)
