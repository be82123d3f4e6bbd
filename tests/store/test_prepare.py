"""The complete preparation: invariances, poor input, and real and computed spectra."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.settings import SettingsError
from survey.sources import lamost, reading
from survey.spectrum import LogWave, Spectrum
from survey.store import prepare
from survey.store.flux_unit import in_usual_units
from survey.store.prepare import PreparedSpectra, Preparer, despike
from survey.store.schema import Flag
from survey.store.settings import Gate, Gates, Prepare

FIRST = 4000.0
SMALL: dict[str, float | str] = {"start": FIRST, "stop": 4400.0, "step": 1.0}
OPEN = Gates(**{name: Gate(limit=None) for name in Gates.model_fields})
PIXELS = 500
START = float(np.log10(3980.0))


def prepared(
    spectra: list[Spectrum], velocities: list[float | None] | None = None, **options: Any
) -> PreparedSpectra:
    chosen: dict[str, Any] = {"grid": SMALL, "continuum": "none", "gates": OPEN} | options
    return Preparer(Prepare(**chosen))(spectra, velocities or [None] * len(spectra))


def starlike(seed: int, size: int = PIXELS, bad: float = 0.05, *, level: float = 100.0) -> Spectrum:
    """A log-linear spectrum of lines, noise and some masked pixels."""
    rng = np.random.default_rng(seed)
    pixel = np.arange(size)
    flux = level * (1 + 0.2 * np.sin(pixel / 150 + rng.random()))
    for centre in rng.uniform(0, size, 6):
        flux *= 1 - 0.5 * np.exp(-0.5 * ((pixel - centre) / 4) ** 2)
    error = np.full(size, 0.02 * level)
    masked = rng.random(size) < bad
    flux = (flux + error * rng.normal(size=size)).astype(np.float32).astype(float)
    return Spectrum(
        LogWave(START + 1e-5 * rng.normal(), 1e-4, size),
        flux,
        np.where(masked, 0, error**-2.0),
        masked,
        masked,
        {"z": 1e-4 * rng.normal()},
    )


def as_list(spectrum: Spectrum) -> Spectrum:
    return replace(spectrum, wave=spectrum.angstrom)


def reasons(prepared_spectra: PreparedSpectra) -> dict[int, str]:
    return {row: refusal.reason for row, refusal in prepared_spectra.quality.refused.items()}


def check_equal(first: PreparedSpectra, second: PreparedSpectra, tolerance: float = 1e-6) -> None:
    """Equal except for the rounding of float32. Flux is about 1: absolute and relative errors are alike."""
    assert ((first.ivar > 0) == (second.ivar > 0)).all()
    np.testing.assert_allclose(first.flux, second.flux, atol=tolerance)
    np.testing.assert_allclose(first.ivar, second.ivar, rtol=20 * tolerance)
    assert (first.quality.flags == second.quality.flags).all()
    assert reasons(first) == reasons(second)


def check_sound(made: PreparedSpectra) -> None:
    """What is true of every result."""
    for array in (made.flux, made.ivar, made.scale):
        assert np.isfinite(array).all()
    assert (made.ivar >= 0).all()
    assert (made.flux[made.ivar == 0] == 1).all()
    assert (made.quality.usable == (made.ivar > 0).sum(1)).all()
    assert (made.quality.bad_share >= 0).all()
    assert ((made.quality.coverage >= 0) & (made.quality.coverage <= 1)).all()


METHODS = [
    {"resampling": way, "continuum": fit}
    for way in ("linear", "conserving")
    for fit in ("none", "msfl", "segment", "spline")
]
every_method = pytest.mark.parametrize(
    "options", METHODS, ids=["-".join(option.values()) for option in METHODS]
)
seeds = st.integers(0, 2**32 - 1)


@every_method
def test_neither_order_nor_batch_changes_a_spectrum(options: dict[str, Any]) -> None:
    spectra = [starlike(seed, size) for seed, size in zip(range(70), [*range(430, 500)], strict=True)]
    spectra[3:40:4] = [as_list(spectrum) for spectrum in spectra[3:40:4]]
    spectra[5] = replace(spectra[5], flux=np.full(len(spectra[5].flux), np.nan))
    batch = prepared(spectra, **options)
    order = np.random.default_rng(1).permutation(len(spectra))
    mixed = prepared([spectra[row] for row in order], **options)
    np.testing.assert_allclose(mixed.flux, batch.flux[order], atol=2e-5)
    np.testing.assert_allclose(mixed.ivar, batch.ivar[order], rtol=2e-4)
    for row in (0, 3, 5, 69):
        single = prepared([spectra[row]], **options)
        assert ((single.ivar > 0) == (batch.ivar[row] > 0)).all()
        np.testing.assert_allclose(single.flux[0], batch.flux[row], atol=2e-5)


@pytest.mark.parametrize("options", [*METHODS, {"despike": "clip"}, {"masks": "or"}], ids=str)
@settings(max_examples=6, deadline=None)
@given(
    seed=seeds,
    junk=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e29, 1e25, 1e38, -7.0, 0.0, 1e9]),
    by_mask=st.booleans(),
    listed=st.booleans(),
)
def test_the_flux_of_a_masked_pixel_changes_nothing(
    options: dict[str, Any], seed: int, junk: float, by_mask: bool, listed: bool
) -> None:
    clean = starlike(seed, bad=0.1)
    assert clean.bad is not None
    spoilt = replace(clean, flux=np.where(clean.bad, junk, clean.flux))
    if by_mask:
        spoilt.ivar = np.where(clean.bad, 3e5, clean.ivar)  # only the mask marks the pixel
        clean = replace(clean, ivar=spoilt.ivar)
    if listed:
        clean, spoilt = as_list(clean), as_list(spoilt)
    first, second = prepared([clean], **options), prepared([spoilt], **options)
    assert (first.flux == second.flux).all()
    assert (first.ivar == second.ivar).all()
    assert first.scale[0] == second.scale[0]


@every_method
def test_float32_in_either_byte_order_and_float64_agree(options: dict[str, Any]) -> None:
    spectra = [starlike(seed) for seed in range(4)]
    for kind in ("<f4", ">f4", ">f8"):
        other = [
            replace(spectrum, flux=spectrum.flux.astype(kind), ivar=spectrum.ivar.astype(kind))
            for spectrum in spectra
        ]
        check_equal(prepared(other, **options), prepared(spectra, **options))


# not clip: its sigma is that of all pixels, and the lattice leaves out those beyond the grid
@pytest.mark.parametrize("despike", ["none", "noise"])
def test_the_lattice_and_the_search_agree(despike: str) -> None:
    spectra = [starlike(seed, size) for seed, size in enumerate(range(410, 500, 3))]
    first, second = (
        prepared(spectra, despike=despike),
        prepared([as_list(spectrum) for spectrum in spectra], despike=despike),
    )
    assert (first.quality.covered == second.quality.covered).all()
    agree = (first.ivar > 0) == (second.ivar > 0)
    assert agree.mean() > 0.999, (
        "a point at the distance NEAR from a pixel may be treated as at the pixel in only one of them"
    )
    both = agree & (first.ivar > 0)
    np.testing.assert_allclose(first.flux[both], second.flux[both], atol=2e-5)
    np.testing.assert_allclose(first.ivar[both], second.ivar[both], rtol=3e-4)


@every_method
@pytest.mark.parametrize("factor", [1e-34, 1e-20, 1e-17, 1e10, 1e25])
def test_the_unit_of_the_flux_changes_only_the_scale(options: dict[str, Any], factor: float) -> None:
    spectra = [starlike(seed) for seed in range(6)]
    other = [
        replace(spectrum, flux=spectrum.flux * factor, ivar=spectrum.ivar / factor**2) for spectrum in spectra
    ]
    first, second = prepared(spectra, **options), prepared(other, **options)
    check_equal(first, second, 2e-5)
    np.testing.assert_allclose(second.scale, first.scale * factor, rtol=1e-4)
    np.testing.assert_allclose(second.quality.snr, first.quality.snr, rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_best_pixels_of_a_flux_of_1e_18_are_kept_and_its_numbers_stay(compiled: bool) -> None:
    """A power of two rounds nothing: the result is that of the same spectrum in a usual unit, bit for bit."""
    usual, tiny, power = starlike(1), starlike(1), -70  # 2**-70 * 100 = 1e-19
    tiny.flux, tiny.ivar = np.ldexp(tiny.flux, power), np.ldexp(tiny.ivar, -2 * power)
    tiny.flux[7], tiny.ivar[9] = 1e20, np.inf  # damage decides nothing
    usual.ivar[[7, 9]] = 0
    assert tiny.ivar[20:].max() > np.finfo(np.float32).max
    prepare_all = Preparer(Prepare(grid=SMALL, continuum="msfl", gates=OPEN), compiled=compiled)
    first, second = (prepare_all([spectrum], [None]) for spectrum in (usual, tiny))
    assert (second.ivar > 0).mean() > 0.8
    np.testing.assert_array_equal(first.flux, second.flux)
    np.testing.assert_array_equal(first.ivar, second.ivar)
    assert second.scale.dtype == np.float32
    assert second.scale == np.ldexp(first.scale, power)
    assert (tiny.flux[20:] < 1e-17).all(), "the caller's spectrum is not changed"


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f4"])
def test_a_flux_in_a_usual_unit_is_not_touched(kind: Any) -> None:
    for level in (1e-9, 1.0, 1e9):
        spectrum = starlike(1, level=level)
        spectrum.flux, spectrum.ivar = spectrum.flux.astype(kind), spectrum.ivar.astype(kind)
        assert in_usual_units(spectrum) == (spectrum, 1.0)


def gaussian_line(centre: float, z: float | None = None, *, listed: bool = False) -> Spectrum:
    wave = LogWave(START, 1e-4, PIXELS)
    flux = 10 * (1 - 0.7 * np.exp(-0.5 * ((wave.angstrom() - centre) / 3) ** 2))
    made = Spectrum(wave, flux, np.ones(PIXELS), visit={} if z is None else {"z": z})
    return as_list(made) if listed else made


def line_centre(made: PreparedSpectra, row: int = 0) -> float:
    depth = np.where(made.ivar[row] > 0, 1 - made.flux[row] / made.flux[row].max(), 0)
    return float((depth**2 * (FIRST + np.arange(401))).sum() / (depth**2).sum())


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("resampling", ["linear", "conserving"])
def test_a_redshifted_line_is_moved_to_its_rest_wavelength(resampling: str, listed: bool) -> None:
    for z in (0.001, -0.002, 0.0):
        made = prepared([gaussian_line(4200 * (1 + z), z, listed=listed)], resampling=resampling)
        assert line_centre(made) == pytest.approx(4200, abs=0.03)
        assert made.velocity[0] == pytest.approx(z * 299792.458)


def test_the_velocity_of_a_catalogue_is_preferred_to_the_redshift_of_the_file() -> None:
    spectra = [gaussian_line(4200 * (1 + 300 / 299792.458), 0.002) for _ in range(5)]
    made = prepared(spectra, [300.0, None, float("nan"), 1e9, 0.0])
    assert line_centre(made, 0) == pytest.approx(4200, abs=0.03)
    by_z = 4200 * (1 + 300 / 299792.458) / 1.002
    assert [line_centre(made, row) for row in (1, 2, 3)] == pytest.approx([by_z] * 3, abs=0.03)
    assert made.velocity == pytest.approx([300, 599.58, 599.58, 599.58, 0], abs=0.01)
    assert line_centre(made, 4) == pytest.approx(4200 * (1 + 300 / 299792.458), abs=0.03)


def test_the_settings_decide_whether_and_how_spectra_are_shifted() -> None:
    spectrum = gaussian_line(4200.0, 0.002)
    assert prepared([spectrum], [300.0], velocity="z").velocity == pytest.approx([599.58], abs=0.01)
    not_shifted = prepared([spectrum], [300.0], velocity="none")
    assert not_shifted.velocity == [None]
    assert line_centre(not_shifted) == pytest.approx(4200, abs=0.03)
    assert not Flag(int(not_shifted.quality.flags[0])) & Flag.NO_VELOCITY


def test_spectra_that_are_in_the_rest_frame_already_are_not_shifted_and_not_flagged() -> None:
    spectra = [gaussian_line(4200.0, 0.002), gaussian_line(4200.0, None)]
    made = prepared(spectra, [300.0, None], velocity="rest")
    assert made.velocity == [0.0, 0.0]
    assert [line_centre(made, row) for row in (0, 1)] == pytest.approx([4200, 4200], abs=0.03)
    assert not (made.quality.flags & Flag.NO_VELOCITY).any()


def test_spectra_at_rest_are_prepared_like_those_that_were_shifted_there() -> None:
    by_velocity, by_z, at_rest, observed = (Prepare(velocity=way) for way in ("rv_or_z", "z", "rest", "none"))
    assert at_rest.differences(by_velocity) == by_velocity.differences(at_rest) == []
    assert at_rest.differences(by_z) == []
    assert at_rest.differences(observed) == ["velocity is none, not rest"]
    assert by_velocity.differences(observed) == ["velocity is none, not rv_or_z"]


@pytest.mark.parametrize("z", [None, float("nan"), float("inf"), -1.0, -5.0])
def test_an_impossible_redshift_counts_as_unknown(z: float | None) -> None:
    made = prepared([gaussian_line(4200.0, z), gaussian_line(4200.0, z, listed=True)])
    assert made.velocity == [None, None]
    assert (made.quality.flags == Flag.NO_VELOCITY).all()
    assert line_centre(made) == pytest.approx(4200, abs=0.03)


@pytest.mark.parametrize("resampling", ["linear", "conserving"])
def test_points_in_the_gap_between_two_arms_are_bad(resampling: str) -> None:
    wave = np.concatenate((np.arange(3990, 4150, 0.8), np.arange(4250, 4410, 0.8)))
    made = prepared([Spectrum(wave, np.ones(len(wave)), np.ones(len(wave)))], resampling=resampling)
    points = 4000 + np.arange(401)
    inside = (points > 4151) & (points < 4249)
    assert (made.ivar[0][inside] == 0).all()
    assert (made.ivar[0][(points < 4148) | (points > 4252)] > 0).all()
    assert made.quality.coverage[0] == pytest.approx(1 - 100 / 401, abs=0.01)


@pytest.mark.parametrize("listed", [False, True])
def test_a_grid_from_the_first_to_the_last_pixel_is_covered(listed: bool) -> None:
    wave = LogWave(3.6, 1e-4, 400)
    spectrum = Spectrum(
        as_list(Spectrum(wave, wave.angstrom(), wave.angstrom())).wave if listed else wave,
        np.ones(400),
        np.ones(400),
    )
    made = prepared(
        [spectrum], grid={"start": 3.6, "stop": 3.6 + 399e-4, "step": 1e-4, "scale": "log"}, despike="none"
    )
    assert made.quality.covered[0] == 400
    assert (made.ivar > 0).all()


def poor(kind: str, rng: np.random.Generator) -> Spectrum:
    """Poor spectra of many kinds."""
    spectrum = starlike(int(rng.integers(1 << 30)))
    size = PIXELS
    changes: dict[str, dict[str, Any]] = {
        "all bad": {"ivar": np.zeros(size)},
        "all masked": {"bad": np.ones(size, bool)},
        "all NaN": {"flux": np.full(size, np.nan)},
        "ivar NaN": {"ivar": np.full(size, np.nan)},
        "ivar infinite": {"ivar": np.full(size, np.inf)},
        "ivar negative": {"ivar": np.full(size, -1.0)},
        "ivar huge": {"ivar": np.full(size, 1e38)},
        "ivar tiny": {"ivar": np.full(size, 1e-38)},
        "zero": {"flux": np.zeros(size)},
        "negative": {"flux": -np.abs(spectrum.flux)},
        "equal": {"flux": np.full(size, 3.25)},
        "huge": {"flux": np.where(rng.random(size) < 0.1, 10.0 ** rng.integers(5, 39), spectrum.flux)},
        "one huge": {"flux": np.where(np.arange(size) == 250, 10.0 ** rng.integers(5, 39), spectrum.flux)},
        "beyond float32": {
            "flux": np.where(np.arange(size) == 250, 1e200, spectrum.flux),
            "ivar": spectrum.ivar * 10.0 ** rng.integers(0, 300),
        },
        "mixed signs": {"flux": rng.normal(0, 1, size)},
        "one good": {"ivar": np.where(np.arange(size) == 250, 1.0, 0.0)},
        "few good": {"ivar": np.where(np.arange(size) // 30 == 8, 1.0, 0.0)},
        "ivar of all sizes": {"ivar": 10.0 ** rng.uniform(-30, 30, size)},
        "two pixels": {
            "wave": LogWave(np.log10(4100.0), 1e-4, 2),
            "flux": np.ones(2),
            "ivar": np.ones(2),
            "bad": None,
        },
        "bluer": {"wave": LogWave(3.4, 1e-4, size)},
        "redder": {"wave": LogWave(3.8, 1e-4, size)},
        "coarse": {"wave": LogWave(START, 9e-3, size)},
        "fast": {"visit": {"z": 15.0}},
        "towards": {"visit": {"z": -0.99}},
    }
    return replace(spectrum, **changes[kind])


KINDS = [
    *(
        "all bad",
        "all masked",
        "all NaN",
        "ivar NaN",
        "ivar infinite",
        "ivar negative",
        "ivar huge",
        "ivar tiny",
        "ivar of all sizes",
    ),
    *(
        "zero",
        "negative",
        "equal",
        "huge",
        "one huge",
        "beyond float32",
        "mixed signs",
        "one good",
        "few good",
    ),
    *("two pixels", "bluer", "redder", "coarse", "fast", "towards"),
]
REFUSED = {
    "no_good_pixel": [
        "all bad",
        "all masked",
        "all NaN",
        "ivar NaN",
        "ivar infinite",
        "ivar negative",
        "one good",
        "zero",
    ],
    "coverage": ["bluer", "redder", "fast", "towards", "two pixels"],
    "few_pixels": ["few good"],
}


@every_method
@settings(max_examples=12, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    seed=seeds,
    listed=st.booleans(),
    despike=st.sampled_from(["noise", "clip", "none"]),
)
def test_every_spectrum_however_poor_gives_finite_numbers(
    options: dict[str, Any], kinds: list[str], seed: int, listed: bool, despike: str
) -> None:
    rng = np.random.default_rng(seed)
    spectra = [poor(kind, rng) for kind in kinds]
    made = prepared(
        [as_list(spectrum) for spectrum in spectra] if listed else spectra, despike=despike, **options
    )
    check_sound(made)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("reason", "kind"), [(reason, kind) for reason, kinds in REFUSED.items() for kind in kinds]
)
def test_unusable_spectra_are_refused_with_a_reason(reason: str, kind: str, listed: bool) -> None:
    spectrum = poor(kind, np.random.default_rng(1))
    made = prepared([as_list(spectrum) if listed else spectrum], continuum="msfl", gates=Gates())
    assert made.quality.refused[0].reason == reason
    check_sound(made)


@pytest.mark.parametrize(
    ("factor", "changes", "why"),
    [
        (1e30, {}, r"the flux is too large, up to 1.*e\+32: give it in other units"),
        (1e-41, {}, r"the flux is too small, up to 1.*e-39: give it in other units"),
        (
            1.0,
            {"ivar": np.full(PIXELS, 1e40)},
            r"flux up to 1.*, inverse variance up to 1e\+40: they do",
        ),
        (
            1.0,
            {"ivar": np.full(PIXELS, 1e-60)},
            r"flux up to 1.*, inverse variance up to 1e-60: they do",
        ),
        (0.0, {}, "all flux is 0"),
        (1.0, {"ivar": np.full(PIXELS, -1.0)}, "no pixel has a positive, finite inverse variance"),
        (1.0, {"flux": np.full(PIXELS, np.nan)}, "no flux is finite"),
        (
            1.0,
            {"bad": np.ones(PIXELS, bool)},
            r"the survey masks all pixels \(prepare.masks=none ignores that",
        ),
    ],
)
def test_a_spectrum_without_a_good_pixel_is_refused_with_what_is_wrong(
    factor: float, changes: dict[str, Any], why: str
) -> None:
    spectrum = starlike(1)
    ivar = spectrum.ivar / (factor or 1.0) ** 2
    scaled = replace(spectrum, **{"flux": spectrum.flux * factor, "ivar": ivar} | changes)
    made = prepared([starlike(2), scaled], gates=Gates())
    assert list(made.quality.refused) == [1]
    assert re.search(why, made.quality.refused[1].detail)


def test_negative_flux_is_flagged() -> None:
    made = prepared([poor("negative", np.random.default_rng(1))], continuum="spline", gates=OPEN)
    assert Flag(int(made.quality.flags[0])) & Flag.NEGATIVE
    assert Flag(int(made.quality.flags[0])) & Flag.LOW_CONTINUUM
    assert not made.ivar.any()


def test_no_spectra_at_all_are_fine() -> None:
    made = prepared([])
    assert made.flux.shape == (0, 401)
    assert made.quality.refused == {}


def test_the_settings_decide_which_mask_is_used() -> None:
    spectrum = gaussian_line(4200.0, 0.0)
    spectrum.bad, spectrum.suspect = np.arange(PIXELS) % 50 == 7, np.arange(PIXELS) % 50 < 20
    good = {masks: int(prepared([spectrum], masks=masks).quality.good[0]) for masks in ("none", "and", "or")}
    assert good["none"] == 401 > good["and"] > good["or"] > 150


def slow_despike(flux: np.ndarray, ivar: np.ndarray, method: str) -> np.ndarray:
    """Which pixels are spikes, one spectrum, pixel by pixel."""
    tests = {}
    for pixel in range(1, len(flux) - 1):
        if (ivar[pixel - 1 : pixel + 2] > 0).all():
            rest = flux[pixel] - np.median(flux[pixel - 1 : pixel + 2])
            tests[pixel] = rest * np.sqrt(ivar[pixel]) if method == "noise" else rest
    spread = np.sqrt(np.mean(np.square(list(tests.values())))) if tests else 0.0
    hit = np.zeros(len(flux), bool)
    for pixel, test in tests.items():
        hit[pixel] = (
            test > 6 * max(spread, 1.0) if method == "noise" else test > 4 * spread or test < -3 * spread
        )
    return hit


@pytest.mark.parametrize("method", ["noise", "clip"])
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_spikes_agree_with_the_loop(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flux = rng.normal(10, 1, (3, 120)).astype(np.float32)
    flux[rng.random(flux.shape) < 0.02] += rng.choice([-40, 8, 15, 60])
    ivar = np.where(rng.random(flux.shape) < 0.1, 0, rng.uniform(0.5, 2, flux.shape)).astype(np.float32)
    found, weight = despike(torch.from_numpy(flux.copy()), torch.from_numpy(ivar.copy()), method)
    for row in range(3):
        hit = slow_despike(flux[row].astype(float), ivar[row].astype(float), method)
        assert (weight[row].numpy() == np.where(hit, 0, ivar[row])).all()
        assert (found[row].numpy()[~hit] == flux[row][~hit]).all()
        for pixel in np.flatnonzero(hit):
            assert found[row, pixel] == np.median(flux[row, pixel - 1 : pixel + 2])


def test_a_spike_is_bad_and_the_core_of_a_line_is_kept() -> None:
    spectrum = gaussian_line(4200.0)
    spectrum.ivar[:] = 1e4
    spectrum.flux[300] += 20
    assert prepared([spectrum], despike="none").quality.good[0] == 401
    made = prepared([spectrum], despike="noise")
    assert 1 <= 401 - made.quality.good[0] <= 3
    assert (made.ivar[0, 190:210] > 0).all()


def test_grids_have_a_name_or_numbers_and_are_checked_with_the_settings() -> None:
    assert len(Prepare(grid="log3921").wavelengths()) == 3921
    assert len(Prepare(grid=SMALL).wavelengths()) == 401
    for wrong, message in (
        ("cemp", "there is no grid of this name; there are cemp4900"),
        ({"start": 1.0, "begin": 2.0}, "is no grid; give {start: NUMBER, stop: NUMBER"),
        ({"start": 4000.0, "stop": 3900.0, "step": 1.0}, "needs 100 <= start < stop"),
        (SMALL | {"scale": "lin"}, "the scale is 'lin'; give linear or log"),
        (SMALL | {"step": 0.0}, "step 0.0 between"),
    ):
        with pytest.raises(SettingsError, match=f"prepare: grid: .*{message}"):
            Prepare.from_dict("prepare", {"grid": wrong})


def test_only_a_few_lattices_are_kept() -> None:
    maker = Preparer(Prepare(grid=SMALL, continuum="none", gates=OPEN))
    for number in range(3 * prepare.MAX_LATTICES):
        maker([replace(starlike(number), wave=LogWave(START, 1e-4 + number * 1e-6, PIXELS))], [None])
    assert len(maker.lattices) <= prepare.MAX_LATTICES


def files_of(folder: Path, count: int) -> list[Spectrum]:
    found = []
    for path in sorted(folder.iterdir())[:count]:
        found += reading.spectra(path.read_bytes(), path.name, {"lamost": lamost.Options()})
    return found


@pytest.fixture(scope="module")
def real(shared: Path) -> list[Spectrum]:
    """LAMOST's own spectra, some of each layout."""
    return [
        spectrum
        for layout in ("lrs_image", "lrs_image_subcont", "lrs_table")
        for spectrum in files_of(shared / "lamost" / layout, 12)
    ]


def test_real_spectra_agree_with_the_loop(real: list[Spectrum]) -> None:
    """Straight lines between good pixels in float64, divided by the mean, without despiking."""
    made = prepared(real, grid="cemp4900", despike="none", lowest=-1e9, highest=1e9)
    check_sound(made)
    points = 3900.0 + np.arange(4900)
    for row, spectrum in enumerate(real):
        wave = spectrum.angstrom / (1 + spectrum.visit.get("z", 0.0))
        flux, ivar = (
            np.asarray(spectrum.flux, float),
            np.where(np.asarray(spectrum.bad), 0, np.asarray(spectrum.ivar, float)),
        )
        left = np.clip(np.searchsorted(wave, points, side="right") - 1, 0, len(wave) - 2)
        way = np.clip((points - wave[left]) / (wave[left + 1] - wave[left]), 0, 1)
        with np.errstate(divide="ignore"):
            wanted_ivar = 1 / ((1 - way) ** 2 / ivar[left] + way**2 / ivar[left + 1])
        inside = (points > wave[0]) & (points < wave[-1]) & (np.minimum(way, 1 - way) > 2e-4)
        good = inside & (wanted_ivar > 0)
        assert ((made.ivar[row] > 0)[inside] == good[inside]).all()
        scale = made.scale[row]
        np.testing.assert_allclose(
            made.flux[row][good] * scale, np.interp(points, wave, flux)[good], rtol=1e-4, atol=1e-5 * scale
        )
        np.testing.assert_allclose(made.ivar[row][good] / scale**2, wanted_ivar[good], rtol=3e-4)
        assert scale == pytest.approx(np.interp(points, wave, flux)[made.ivar[row] > 0].mean(), rel=1e-4)


@every_method
def test_real_spectra_give_sound_results(real: list[Spectrum], options: dict[str, Any]) -> None:
    made = prepared(real[::2], grid="cemp4900", gates=Gates(), **options)
    check_sound(made)
    assert len(made.quality.refused) <= 2


@pytest.fixture(scope="module")
def computed(shared: Path) -> list[Spectrum]:
    """Computed stars of normal carbon and good signal."""
    wanted = ["flux", "ivar", "andmask", "z", "CFe", "SNRG"]
    table = pq.ParquetFile(shared / "physics" / "reference.parquet").read_row_group(0, wanted).to_pylist()
    wave = LogWave(3.5682, 1e-4, 3909)
    chosen = [row for row in table if abs(row["CFe"]) < 0.3 and row["SNRG"] > 40][:60]
    return [
        Spectrum(
            wave,
            np.array(row["flux"], np.float32),
            np.array(row["ivar"], np.float32),
            np.unpackbits(np.frombuffer(row["andmask"], "u1"))[:3909].astype(bool),
            visit={"z": row["z"]},
        )
        for row in chosen
    ]


@pytest.mark.parametrize("continuum", ["spline", "msfl"])
def test_normal_stars_with_good_signal_are_at_one_after_normalisation(
    computed: list[Spectrum], continuum: str
) -> None:
    made = prepared(computed, grid="cemp4900", continuum=continuum, gates=Gates())
    check_sound(made)
    assert not made.quality.refused
    middles = np.array([np.median(flux[ivar > 0]) for flux, ivar in zip(made.flux, made.ivar, strict=True)])
    assert np.median(middles) == pytest.approx(1, abs=0.02)
    assert np.abs(middles - 1).max() < 0.06
    spread = np.array(
        [np.percentile(flux[ivar > 0], 75) for flux, ivar in zip(made.flux, made.ivar, strict=True)]
    )
    assert np.median(spread) == pytest.approx(1, abs=0.04)


def test_one_observation_in_two_releases_gives_the_same_flux_where_the_reductions_agree(
    shared: Path,
) -> None:
    """DR5 and DR9 of one visit: the blue arm is equal in every pixel, the red arm differs by 0.7 to 1.3 %."""
    five, nine = (
        reading.spectra(path.read_bytes(), path.name, {"lamost": lamost.Options()})[0]
        for layout in ("lrs_image", "lrs_table")
        for path in (shared / "lamost" / layout).glob("spec-55859-F5902_sp01-005.fits*")
    )
    assert five.visit["visit"] == nine.visit["visit"]
    assert five.visit["release"] != nine.visit["release"]
    made = prepared([five, nine], [0.0, 0.0], grid="cemp4900", continuum="spline")
    off = np.abs(made.flux[0] - made.flux[1])
    blue = np.arange(4900) < 800  # to 4700 angstrom, far from the join of the arms
    assert off[blue].max() < 1e-4
    assert off.max() < 0.02
    assert np.median(off * np.sqrt(made.ivar.max(0))) < 0.02
    assert (five.flux[:1800] == nine.flux[:1800]).all()


def test_the_two_fits_layouts_of_one_spectrum_give_identical_numbers(shared: Path) -> None:
    old, new = (files_of(shared / "physics" / folder, 40) for folder in ("fits_old", "fits_new"))
    first, second = (
        prepared(spectra, grid="cemp4900", continuum="msfl", gates=Gates()) for spectra in (old, new)
    )
    assert len(old) == 40
    assert (first.flux == second.flux).all()
    assert (first.ivar == second.ivar).all()
    assert (first.quality.flags == second.quality.flags).all()


@pytest.mark.parametrize("resampling", ["linear", "conserving"])
def test_the_inverse_variance_agrees_with_the_scatter(resampling: str) -> None:
    """The scatter of normalised flat spectra of pure noise, in units of the resulting error."""
    rng = np.random.default_rng(7)
    spectra = []
    for _ in range(40):
        error = rng.uniform(0.5, 2)
        flux = 50 + error * rng.normal(size=PIXELS)
        spectra.append(
            Spectrum(LogWave(START + 1e-4 * rng.random(), 1e-4, PIXELS), flux, np.full(PIXELS, error**-2))
        )
    made = prepared(spectra, resampling=resampling, despike="none")
    pull = (made.flux - 1) * np.sqrt(made.ivar)
    assert pull.std() == pytest.approx(1, rel=0.1)
    if resampling == "linear":
        assert pull.std() == pytest.approx(1, rel=0.03)
