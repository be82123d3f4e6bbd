"""Indices of lines and bands: their definition, what is not covered, and independence of the batch."""

import numpy as np
import pytest
import torch

from survey.sources.wavelengths import air_to_vacuum
from survey.spectrum import GRIDS, Grid
from survey.store.index_meter import IndexMeter
from survey.store.indices import INDICES, index_columns

GRID = GRIDS["cemp4900"]


def measure(
    flux_BG: np.ndarray, ivar_BG: np.ndarray | None = None, grid: Grid = GRID
) -> dict[str, np.ndarray]:
    flux = torch.from_numpy(flux_BG.astype(np.float32))
    ivar = torch.ones_like(flux) if ivar_BG is None else torch.from_numpy(ivar_BG.astype(np.float32))
    return IndexMeter(grid, torch.device("cpu"))(flux, ivar)


def test_a_spectrum_without_lines_has_no_width_on_any_slope() -> None:
    flux = np.stack([np.full(len(GRID), 3.0), np.linspace(1, 3, len(GRID))])
    for name, values in measure(flux).items():
        expected = 1.0 if INDICES[name].is_ratio else 0.0
        assert values[0] == pytest.approx(expected, abs=1e-3), name
        if not INDICES[name].is_ratio:
            assert values[1] == pytest.approx(0, abs=0.03), name


def test_the_width_of_a_line_is_the_light_that_it_takes() -> None:
    centre = air_to_vacuum(np.array([4101.7]))[0]
    line = 0.5 * np.exp(-0.5 * ((GRID.wave - centre) / 4) ** 2)
    found = measure((2 * (1 - line))[None])
    assert found["h_delta"][0] == pytest.approx(0.5 * 4 * np.sqrt(2 * np.pi), rel=0.03)
    assert found["h_beta"][0] == pytest.approx(0, abs=0.01)


def test_a_band_lowers_its_ratio() -> None:
    low, high = air_to_vacuum(np.array([7120.0, 7140.0]))
    flux = np.where((GRID.wave > low) & (GRID.wave < high), 0.6, 1.0)[None]
    assert measure(flux)["tio5"][0] == pytest.approx(0.6, abs=0.01)
    assert measure(flux)["cah2"][0] == pytest.approx(1)


def test_an_index_with_bad_or_missing_points_is_not_known() -> None:
    bad = np.ones((1, len(GRID)))
    bad[:, (GRID.wave > 7042) & (GRID.wave < 7050)] = 0
    found = measure(np.ones((1, len(GRID))), bad)
    assert np.isnan([found[name][0] for name in ("tio5", "cah2", "cah3")]).all()
    assert found["h_alpha"][0] == pytest.approx(0, abs=0.01)
    blue = Grid(3900.0, 5000.0, 1.0)
    found = measure(np.ones((2, len(blue))), grid=blue)
    assert np.isnan(found["tio5"]).all()
    assert np.isfinite(found["h_beta"]).all()


def test_the_indices_of_a_spectrum_do_not_depend_on_its_batch() -> None:
    flux = np.random.default_rng(0).normal(1, 0.1, (37, len(GRID)))
    together = measure(flux)
    for rows in (slice(0, 1), slice(5, 12)):
        alone = measure(flux[rows])
        for name, values in alone.items():
            assert np.array_equal(values, together[name][rows]), name


def test_every_index_has_a_column_with_its_windows() -> None:
    columns = index_columns()
    assert list(columns) == list(INDICES)
    assert "in 7126-7135 to that in 7042-7046" in columns["tio5"][1]
