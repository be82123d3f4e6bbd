"""Numbers, flags and gates of quality, against their definitions in plain numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.settings import SettingsError
from survey.spectrum import GRIDS, REASONS, Grid
from survey.store.quality import QualityNumbers, ch_index, measure_quality
from survey.store.schema import FLAG_MEANINGS, Flag
from survey.store.settings import Gate, Gates

GRID = GRIDS["cemp4900"]


def spectra(
    rng: np.random.Generator, rows: int, bad: float, grid: Grid = GRID
) -> tuple[np.ndarray, np.ndarray]:
    flux = rng.normal(5, 2, (rows, len(grid))).astype(np.float32)
    ivar = np.where(rng.random(flux.shape) < bad, 0, rng.uniform(0.1, 4, flux.shape)).astype(np.float32)
    return flux, ivar


def measured(flux: np.ndarray, ivar: np.ndarray, grid: Grid = GRID) -> QualityNumbers:
    covered = np.full(len(flux), len(grid))
    return measure_quality(torch.from_numpy(flux), torch.from_numpy(ivar), covered, grid)


def g_band_index(wave: np.ndarray, flux: np.ndarray, good: np.ndarray) -> float:
    sums = []
    for low, high in ((4200.0, 4400.0), (4425.0, 4520.0)):
        part = (wave >= low) & (wave < high)
        width = np.gradient(wave[part])
        if (width * good[part]).sum() <= 0.8 * width.sum():
            return np.nan
        sums.append((flux[part] * width * good[part]).sum() / (width * good[part]).sum() * (high - low))
    with np.errstate(invalid="ignore"):
        return float(-2.5 * np.log10(sums[0] / sums[1]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.15, 0.6, 1.0]))
def test_the_numbers_agree_with_their_definitions(seed: int, bad: float) -> None:
    flux, ivar = spectra(np.random.default_rng(seed), 3, bad)
    found = measured(flux, ivar)
    for row in range(3):
        good = ivar[row] > 0
        assert (found.good[row], found.coverage[row]) == (good.sum(), 1)
        assert found.negative[row] == (good & (flux[row] < 0)).sum()
        if not good.any():
            assert found.snr[row] == 0
            continue
        rate = (flux[row] * np.sqrt(ivar[row]))[good]
        # the median of every eighth point, within five times its own scatter
        assert found.snr[row] == pytest.approx(
            np.median(rate), abs=5 * 1.25 * rate.std() / np.sqrt(good.sum() / 8)
        )
        assert found.bad_share[row] == pytest.approx(1 - good.mean())
        assert found.egp[row] == pytest.approx(
            g_band_index(GRID.wave, flux[row].astype(float), good), abs=1e-5, nan_ok=True
        )


def test_the_signal_to_noise_of_a_flat_spectrum_is_that_of_each_point() -> None:
    flux, ivar = np.full((2, len(GRID)), 30, np.float32), np.full((2, len(GRID)), 4, np.float32)
    ivar[1, 100:700] = 0
    assert measured(flux, ivar).snr == pytest.approx([60, 60], rel=1e-6)


def test_the_g_band_index_of_a_flat_spectrum_is_that_of_the_widths_and_absorption_raises_it() -> None:
    """Trapezoids over 200 and 95 angstrom of a flux of 1."""
    flux, good = np.ones((2, len(GRID)), np.float32), torch.ones(2, len(GRID))
    flux[1, (GRID.wave > 4280) & (GRID.wave < 4320)] = 0.5
    flat, carbon = ch_index(torch.from_numpy(flux), good, GRID).tolist()
    assert flat == pytest.approx(-2.5 * np.log10(200 / 95), abs=1e-6)
    part, red = ((GRID.wave >= low) & (GRID.wave <= high) for low, high in ((4200, 4400), (4425, 4520)))
    wanted = -2.5 * np.log10(
        np.trapezoid(flux[1][part], GRID.wave[part]) / np.trapezoid(flux[1][red], GRID.wave[red])
    )
    assert carbon == pytest.approx(wanted, abs=1e-3)
    assert carbon > flat


@pytest.mark.parametrize(
    "grid", [Grid(5000, 6000, 1.0), Grid(3900, 8800, 100.0), Grid(4300, 8000, 1.0), Grid(3900, 8800, 700.0)]
)
def test_there_is_no_g_band_index_where_the_grid_has_no_points_for_it(grid: Grid) -> None:
    flux = torch.ones(2, len(grid))
    assert torch.isnan(ch_index(flux, flux, grid)).all()


def test_the_g_band_index_does_not_depend_on_the_grid() -> None:
    values = []
    for name in ("cemp4900", "log3921", "sdss3522"):
        flux = torch.from_numpy((1 + 0.3 * np.sin(GRIDS[name].wave / 40)).astype(np.float32))[None]
        values.append(float(ch_index(flux, torch.ones_like(flux), GRIDS[name])[0]))
    assert values == pytest.approx([values[0]] * 3, abs=5e-3)


def gated(gates: Gates, **numbers: float) -> QualityNumbers:
    usual = {
        "covered": 100.0,
        "good": 100.0,
        "snr": 20.0,
        "egp": 0.0,
        "negative": 0.0,
        "floored": 0.0,
        "outliers": 0.0,
    } | numbers
    made = QualityNumbers.empty(1)
    for name, value in usual.items():
        getattr(made, name)[0] = value
    made.points = 100
    made.apply_gates(gates, [True])
    return made


GATED = {
    "coverage": {"covered": 50.0, "good": 50.0},
    "bad_pixels": {"good": 40.0},
    "few_pixels": {"floored": 95.0},
    "low_snr": {"snr": 1.0},
    "outliers": {"outliers": 30.0},
}
LIMITS = {"coverage": 0.9, "bad_pixels": 0.3, "few_pixels": 10.0, "low_snr": 3.0, "outliers": 0.1}


@pytest.mark.parametrize("name", GATED)
def test_a_gate_flags_or_refuses_or_does_nothing(name: str) -> None:
    no_gates = dict.fromkeys(LIMITS, Gate(limit=None))
    for then in ("flag", "refuse"):
        found = gated(Gates(**no_gates | {name: Gate(limit=LIMITS[name], then=then)}), **GATED[name])
        assert Flag(int(found.flags[0])) & Flag[name.upper()]
        assert [refusal.reason for refusal in found.refused.values()] == ([name] if then == "refuse" else [])
        if then == "refuse":
            assert f"the gate is {LIMITS[name]:g}" in found.refused[0].detail
    assert not gated(Gates(**no_gates), **GATED[name]).flags[0] & Flag[name.upper()]
    assert not gated(Gates(**no_gates | {name: Gate(limit=LIMITS[name], then="refuse")})).refused


def test_a_value_at_the_limit_is_within_it() -> None:
    assert not gated(Gates(low_snr=Gate(limit=3.0, then="refuse")), snr=3.0).refused
    assert gated(Gates(low_snr=Gate(limit=3.0, then="refuse")), snr=np.nextafter(3.0, 0)).refused


def test_nan_is_beyond_every_limit() -> None:
    assert gated(Gates(low_snr=Gate(limit=3.0, then="refuse")), snr=np.nan).refused[0].reason == "low_snr"


def test_a_spectrum_without_a_good_point_or_without_coverage_is_refused_with_any_gates() -> None:
    no_gates = Gates(**dict.fromkeys(LIMITS, Gate(limit=None)))
    assert gated(no_gates, good=0.0).refused[0].reason == "no_good_pixel"
    assert gated(no_gates, good=0.0, covered=0.0).refused[0].reason == "coverage"


def test_some_flags_have_no_gate() -> None:
    assert gated(Gates(), floored=1.0).flags[0] == Flag.LOW_CONTINUUM | Flag.FEW_PIXELS
    assert gated(Gates(few_pixels=Gate(limit=None)), negative=11.0).flags[0] == Flag.NEGATIVE
    assert gated(Gates(few_pixels=Gate(limit=None)), negative=10.0).flags[0] == 0
    made = gated(Gates(few_pixels=Gate(limit=None)))
    made.apply_gates(Gates(few_pixels=Gate(limit=None)), [False])
    assert made.flags[0] == Flag.NO_VELOCITY


def test_every_flag_is_a_single_bit_and_has_a_meaning() -> None:
    values = [flag.value for flag in Flag]
    assert list(Flag.__members__) == [flag.name for flag in Flag], (
        "an alias would hide a bit that is used twice"
    )
    assert all(value.bit_count() == 1 for value in values)
    assert set(FLAG_MEANINGS) == set(Flag)
    assert all(FLAG_MEANINGS.values())


def test_every_gate_has_a_flag_and_a_reason() -> None:
    assert {name.upper() for name in Gates.model_fields} <= set(Flag.__members__)
    assert set(Gates.model_fields) <= set(REASONS)


def test_a_gate_given_in_part_keeps_its_own_limit() -> None:
    gates = Gates.from_dict("x", {"coverage": {"then": "flag"}, "low_snr": {"limit": 9.0}})
    assert gates.coverage == Gate(limit=0.9, then="flag")
    assert gates.low_snr == Gate(limit=9.0, then="flag")
    with pytest.raises(SettingsError, match=r"low_snr\.then.*'flag' or 'refuse'"):
        Gates.from_dict("x", {"low_snr": {"then": "drop"}})
