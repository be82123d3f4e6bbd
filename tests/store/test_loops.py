"""The compiled loops give what the same steps give in torch: for any spectra, settings and grids."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.spectrum import GRIDS, Spectrum
from survey.store import continuum
from survey.store.prepare import PreparedSpectra, Preparer
from survey.store.settings import Prepare
from tests.store.test_prepare import KINDS, OPEN, SMALL, check_equal, check_sound, files_of, poor, starlike

LAYOUTS = ("lrs_image", "lrs_image_subcont", "lrs_table")
OPTIONS = [
    {"continuum": "msfl"},
    {"continuum": "msfl", "despike": "clip"},
    {"continuum": "spline", "despike": "none"},
    {"continuum": "none", "lowest": 0.5, "highest": 1.2, "floor": 0.9},
    {"continuum": "segment", "resampling": "conserving"},
]


def both(spectra: list[Spectrum], **options: Any) -> tuple[PreparedSpectra, PreparedSpectra]:
    """The spectra prepared by torch and by compiled loops."""
    chosen: dict[str, Any] = {"grid": SMALL, "gates": OPEN} | options
    by_torch, by_loops = (
        Preparer(Prepare(**chosen), compiled=compiled)(spectra, [None] * len(spectra))
        for compiled in (False, True)
    )
    return by_torch, by_loops


def check_alike(by_torch: PreparedSpectra, by_loops: PreparedSpectra) -> None:
    """All arrays and numbers, to the rounding of sums in float32."""
    check_sound(by_loops)
    check_equal(by_torch, by_loops, tolerance=1e-4)
    np.testing.assert_allclose(by_loops.scale, by_torch.scale, rtol=1e-4)
    for name in ("covered", "good", "snr", "egp", "negative", "floored", "outliers"):
        numbers = getattr(by_torch.quality, name), getattr(by_loops.quality, name)
        np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, values in by_torch.indices.items():
        np.testing.assert_allclose(by_loops.indices[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_loops_and_torch_agree(options: dict[str, Any]) -> None:
    spectra = [starlike(seed, size) for seed, size in zip(range(140), range(360, 500), strict=True)]
    check_alike(*both(spectra, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=12, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_loops_and_torch_find_the_same_points_good_in_poor_spectra(
    options: dict[str, Any], kinds: list[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    by_torch, by_loops = both([poor(kind, rng) for kind in kinds], **options)
    check_sound(by_loops)
    assert (by_torch.quality.good == by_loops.quality.good).all()
    assert (by_torch.quality.negative == by_loops.quality.negative).all()
    np.testing.assert_allclose(by_loops.quality.snr, by_torch.quality.snr, rtol=1e-4, atol=1e-6)


def test_loops_and_torch_agree_on_real_spectra(shared: Path) -> None:
    real = [spectrum for layout in LAYOUTS for spectrum in files_of(shared / "lamost" / layout, 12)]
    check_alike(*both(real, grid="cemp4900", continuum="msfl"))


@pytest.mark.parametrize("grid", [name for name, grid in GRIDS.items() if len(grid)])
def test_loops_and_torch_agree_on_every_grid(grid: str) -> None:
    spectra = [starlike(seed, 4000, level=10.0**seed) for seed in range(6)]
    check_alike(*both(spectra, grid=grid, continuum="none"))


@pytest.mark.parametrize("points", [2, 3, 5, 6, 7])
def test_loops_and_torch_agree_on_grids_of_few_points(points: int) -> None:
    spectra = [starlike(seed, 4000, level=10.0**seed) for seed in range(4)]
    grid = {"start": 5000.0, "stop": 4999.0 + points, "step": 1.0}
    check_alike(*both(spectra, grid=grid, continuum="msfl"))


def test_a_fit_that_never_ends_is_stopped_by_the_rounds() -> None:
    grid = GRIDS["cemp4900"]
    rng = np.random.default_rng(0)
    flux = torch.from_numpy(rng.standard_cauchy((20, len(grid))).astype(np.float32))
    ivar = (torch.rand(flux.shape, generator=torch.Generator().manual_seed(1)) < 0.9).float()
    fits = [
        continuum.make_fit("msfl", grid, torch.device("cpu"), compiled=compiled) for compiled in (False, True)
    ]
    by_torch, by_loops = (fit(flux, ivar) for fit in fits)
    np.testing.assert_allclose(by_loops, by_torch, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "error", ["RuntimeError('cannot cache function: no locator available')", "OSError(28, 'disk is full')"]
)
def test_a_machine_where_nothing_can_be_kept_compiles_all_the_same(error: str) -> None:
    """numba keeps no result where no folder can be written or the disk is full; the loop works without."""
    code = (
        "from survey.store.loops import compile_loop\n"
        "from numba import types\n"
        "def refuse(*a, cache=False, **options):\n"
        "    if cache:\n"
        f"        raise {error}\n"
        "    return lambda loop: loop\n"
        "compile_loop.njit = refuse\n"
        "print(compile_loop.compiled(types.int64(types.int64))(lambda x: x + 1)(1))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "2\n"
