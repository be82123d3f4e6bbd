"""Augmentation: each method against its obvious form, and what holds for all methods."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import Field
from torch import Tensor

from survey.settings import Settings, SettingsError
from survey.training import distortions
from survey.training.augment import METHODS, augment
from survey.training.augment_settings import PRESETS, Augment, single_method
from survey.training.batches import Spectra
from survey.training.distortions import Draws

every_method = pytest.mark.parametrize("method", METHODS)

Arrays = tuple[Tensor, Tensor, Tensor]
"""Flux, ivar and continuum."""


def arrays(rows: int = 8, pixels: int = 300, seed: int = 0, bad: float = 0.1) -> Arrays:
    """A line in a continuum of 1, with noise as ivar says, and bad pixels in runs of three."""
    generator = torch.Generator().manual_seed(seed)
    ivar = 10 ** (2 + 2 * torch.rand((rows, pixels), generator=generator))
    pixel = torch.arange(pixels)
    line = 0.5 * torch.exp(-0.5 * ((pixel - pixels / 3) / 4) ** 2)
    flux = 1 - line + torch.randn((rows, pixels), generator=generator) / ivar.sqrt()
    masked = torch.rand((rows, pixels), generator=generator) < bad / 3
    masked = masked | masked.roll(1, 1) | masked.roll(2, 1)
    continuum = 1 + 0.4 * torch.sin(pixel / pixels * 3 + torch.rand((rows, 1), generator=generator))
    return torch.where(masked, 1.0, flux), torch.where(masked, 0.0, ivar), continuum


def spectra(rows: int = 8, pixels: int = 300, seed: int = 0, bad: float = 0.1) -> Spectra:
    return Spectra(*arrays(rows, pixels, seed, bad))


def values(batch: Spectra) -> list[Tensor]:
    """The arrays that are there."""
    return [array for array in (batch.flux, batch.ivar, batch.continuum) if array is not None]


def equal(one: Spectra, other: Spectra) -> bool:
    return all(torch.equal(*pair) for pair in zip(values(one), values(other), strict=True))


def change(settings: Augment, batch: Spectra, seed: int = 5, rank: int = 0, world_size: int = 1) -> Spectra:
    return augment(settings, batch, torch.Generator().manual_seed(seed), rank, world_size)


def change_by(method: str, batch: Spectra, **strengths: Any) -> Spectra:
    """All spectra changed by one method, at its default strengths or those given."""
    settings = Augment.from_dict("augment", {method: strengths})
    return change(single_method(settings, method), batch)


class FixedDraws(Draws):
    """Draws the same number whenever one between 0 and 1 is drawn."""

    def __init__(self, number: float, like: Tensor) -> None:
        super().__init__(torch.Generator().manual_seed(3), len(like), slice(0, len(like)), like)
        object.__setattr__(self, "number", number)

    def uniform(self, width: int = 1) -> Tensor:
        return torch.full((self.rows, width), self.number).to(self.like)  # type: ignore[attr-defined]


# What holds for every method


@every_method
def test_a_method_has_a_function_settings_and_default_strengths_of_the_same_names(method: str) -> None:
    strengths = set(inspect.signature(METHODS[method]).parameters) - {"spectra", "draws"}
    settings = Augment.model_fields[method].default
    assert set(type(settings).model_fields) - {"probability"} == strengths
    assert set(PRESETS["none"][method]) == strengths | {"probability"}
    assert METHODS[method].__doc__


@every_method
def test_the_input_is_not_changed(method: str) -> None:
    batch = spectra()
    copies = [array.clone() for array in values(batch)]
    changed = change_by(method, batch)
    assert all(torch.equal(one, other) for one, other in zip(values(batch), copies, strict=True))
    for before, after in zip(values(batch), values(changed), strict=True):
        assert before.data_ptr() != after.data_ptr()
    assert changed.flux.dtype == torch.float32


@every_method
def test_a_method_with_probability_1_changes_every_spectrum(method: str) -> None:
    batch = spectra()
    changed = change_by(method, batch)
    assert ((changed.flux != batch.flux) | (changed.ivar != batch.ivar)).any(1).all()


@every_method
@pytest.mark.parametrize("bad", [0.0, 0.2, 1.0, 3.0])
def test_bad_pixels_stay_bad_and_are_at_the_continuum(method: str, bad: float) -> None:
    batch = spectra(bad=bad)
    changed = change_by(method, batch)
    assert (changed.flux[changed.ivar == 0] == 1).all()
    assert all(array.isfinite().all() for array in values(changed))
    assert (changed.ivar >= 0).all()
    if method not in ("flip", "shift"):
        assert (changed.ivar[batch.ivar == 0] == 0).all()
    if method not in ("flip", "shift", "dropout"):
        assert (changed.ivar[batch.ivar > 0] > 0).all()


@every_method
def test_the_flux_of_bad_pixels_changes_nothing(method: str) -> None:
    flux, ivar, continuum = arrays(bad=0.3)
    expected = change_by(method, Spectra(flux, ivar, continuum))
    for wild in (torch.nan, torch.inf, -1e30):
        spoilt = Spectra(torch.where(ivar > 0, flux, wild), ivar, continuum)
        assert equal(change_by(method, spoilt), expected)


@every_method
def test_extreme_ivar_gives_finite_numbers(method: str) -> None:
    flux, ivar, continuum = arrays(pixels=200)
    ivar = ivar * 10 ** torch.linspace(-38, 8, 200)
    changed = change_by(method, Spectra(flux, ivar, continuum))
    assert changed.flux.isfinite().all()
    assert changed.ivar.isfinite().all()
    assert changed.flux.abs().max() < 20


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("flip", "dropout")])
def test_a_strength_of_0_changes_nothing(method: str) -> None:
    batch = spectra()
    zeros = {name: 0.0 for name in PRESETS["none"][method] if name != "probability"}
    changed = change_by(method, batch, **zeros)
    for before, after in zip(values(batch), values(changed), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@every_method
def test_without_a_continuum_flux_and_ivar_are_the_same(method: str) -> None:
    flux, ivar, continuum = arrays()
    expected = change_by(method, Spectra(flux, ivar, continuum))
    changed = change_by(method, Spectra(flux, ivar))
    assert changed.continuum is None
    assert torch.equal(changed.flux, expected.flux)
    assert torch.equal(changed.ivar, expected.ivar)


@every_method
def test_double_precision_agrees_with_single(method: str) -> None:
    flux, ivar, continuum = arrays()
    single = change_by(method, Spectra(flux, ivar, continuum))
    double = change_by(method, Spectra(flux.double(), ivar.double(), continuum.double()))
    for one, other in zip(values(single), values(double), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-3, atol=2e-4)


@examples(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    preset=st.sampled_from(["light", "full", "survey"]),
    world_size=st.sampled_from([2, 3, 4, 12]),
)
def test_results_do_not_depend_on_the_number_of_workers(seed: int, preset: str, world_size: int) -> None:
    batch, each = spectra(12), 12 // world_size
    settings = Augment.from_dict("augment", {"preset": preset, "probability": 0.9})
    expected = change(settings, batch, seed)
    for rank in range(world_size):
        rows = slice(rank * each, (rank + 1) * each)
        assert equal(change(settings, batch[rows], seed, rank, world_size), expected[rows])


@every_method
def test_workers_without_a_chosen_row_draw_the_same_numbers(method: str) -> None:
    batch = spectra(6)
    settings = Augment.from_dict("augment", {method: {"probability": 0.3}})
    states = []
    for rank in range(6):
        generator = torch.Generator().manual_seed(8)
        augment(settings, batch[rank : rank + 1], generator, rank, 6)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_the_result_depends_on_the_seed_alone() -> None:
    batch, settings = spectra(), Augment(preset="survey")
    assert equal(change(settings, batch), change(settings, batch))
    assert not torch.equal(change(settings, batch, 1).flux, change(settings, batch, 2).flux)


def test_the_probabilities_give_the_share_of_changed_spectra() -> None:
    batch = spectra(4000, 8, bad=0.0)
    methods = {"noise": {"probability": 0.4}, "offset": {"probability": 0.5}}
    changed = change(Augment.from_dict("augment", {"probability": 0.6} | methods), batch)
    share = float((changed.flux != batch.flux).any(1).float().mean())
    assert abs(share - 0.6 * (1 - 0.6 * 0.5)) < 4 * np.sqrt(0.42 * 0.58 / 4000)


def test_the_preset_none_changes_nothing() -> None:
    batch = spectra()
    assert equal(change(Augment(), batch), batch)


# Each method against its obvious form


@pytest.mark.parametrize(
    "method", ["shift", "smoothing", "scaling", "drift", "offset", "noise", "ivar_noise"]
)
def test_ivar_is_that_of_the_noise(method: str) -> None:
    pixels, rows = 2000, 40
    generator = torch.Generator().manual_seed(1)
    ivar = torch.full((rows, pixels), 400.0) * (1 + torch.arange(pixels) / pixels)
    clean = torch.ones(rows, pixels)
    noisy = clean + torch.randn((rows, pixels), generator=generator) / ivar.sqrt()
    strengths = {"sd": 0.05} if method == "noise" else {}
    changed = change_by(method, Spectra(noisy, ivar), **strengths)
    changed_clean = change_by(method, Spectra(clean, ivar), **strengths)
    expected = clean if "noise" in method else changed_clean.flux
    chi_square = ((changed.flux - expected) ** 2 * changed.ivar)[changed.ivar > 0]
    assert float(chi_square.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("number", [0.0, 0.2, 0.5, 0.77, 1 - 1e-7])
def test_a_shift_is_numpy_interpolation_and_new_pixels_are_bad(number: float) -> None:
    flux, ivar, continuum = arrays(bad=0.0)
    changed = distortions.shift(Spectra(flux, ivar, continuum), FixedDraws(number, flux), 3.0)
    assert changed.continuum is not None
    pixel = np.arange(300)
    source = pixel - 3.0 * (2 * number - 1)
    inside = (source >= -1e-6) & (source <= 299 + 1e-6)
    assert ((changed.ivar > 0) == torch.from_numpy(inside)).all()
    for row in range(len(flux)):
        expected = np.interp(source, pixel, flux[row])
        np.testing.assert_allclose(changed.flux[row, inside], expected[inside], atol=1e-4)
        expected = np.interp(source, pixel, continuum[row])
        np.testing.assert_allclose(changed.continuum[row], expected, atol=1e-4)


def test_shifts_go_to_both_sides_and_never_wrap_around() -> None:
    flux, ivar = torch.ones(200, 100), torch.ones(200, 100)
    flux[:, 50], flux[:, :3], flux[:, -3:] = 0.0, 3.0, 3.0
    changed = change_by("shift", Spectra(flux, ivar), max_pixels=5.0)
    place = ((1 - changed.flux[:, 40:61]) * torch.arange(-10, 11)).sum(1)
    assert place.min() < -4.5
    assert place.max() > 4.5
    assert abs(float(place.mean())) < 4 * 5 / np.sqrt(3 * 200)
    assert ((changed.ivar[:, 0] == 0) == (place > 0)).all()
    assert ((changed.ivar[:, -1] == 0) == (place < 0)).all()
    assert (changed.flux[:, 10:40] == 1).all()


@pytest.mark.parametrize(
    ("number", "bad"),
    [
        (0.05, [9, 10, 19]),
        (0.4, [9, 10, 19]),
        (0.6, [0, 10, 11]),
        (0.75, [0, 10, 11]),
        (0.95, [0, 10, 11]),
        (1.0, [0, 11]),
    ],
)
def test_a_shifted_pixel_computed_from_a_bad_one_is_bad(number: float, bad: list[int]) -> None:
    flux, ivar = torch.ones(1, 20), torch.ones(1, 20)
    ivar[0, 10] = 0
    changed = distortions.shift(Spectra(flux, ivar), FixedDraws(number, flux), 1.0)
    assert (changed.ivar[0] == 0).nonzero()[:, 0].tolist() == bad


@pytest.mark.parametrize("sigma", [0.3, 1.0, 6.0, 50.0])
def test_smoothing_is_a_mean_weighted_by_ivar_and_a_gaussian(sigma: float) -> None:
    flux, ivar, _ = (array.double() for array in arrays(2, 60, bad=0.3))
    changed = distortions.smoothing(Spectra(flux, ivar), FixedDraws(0.8, flux), sigma)
    for row in range(2):
        for pixel in range(60):
            distance = np.arange(60) - pixel
            gaussian = np.exp(-0.5 * (distance / (0.8 * sigma)) ** 2) * (abs(distance) <= np.ceil(4 * sigma))
            weight = gaussian * ivar[row].numpy()
            if ivar[row, pixel] > 0:
                mean = (weight * flux[row].numpy()).sum() / weight.sum()
                new_ivar = weight.sum() ** 2 / (gaussian * weight).sum()
                assert float(changed.flux[row, pixel]) == pytest.approx(mean, rel=1e-6)
                assert float(changed.ivar[row, pixel]) == pytest.approx(new_ivar, rel=1e-6)


@pytest.mark.parametrize(("method", "strength"), [("scaling", 0.08), ("drift", 0.15)])
def test_a_wrong_continuum_keeps_the_signal_to_noise_and_what_was_measured(
    method: str, strength: float
) -> None:
    flux, ivar, continuum = arrays(200, bad=0.0)
    changed = change_by(method, Spectra(flux, ivar, continuum), strength=strength)
    assert changed.continuum is not None
    signal_to_noise = changed.flux * changed.ivar.sqrt()
    torch.testing.assert_close(signal_to_noise, flux * ivar.sqrt(), rtol=1e-4, atol=1e-4)
    factor = (ivar / changed.ivar).sqrt()
    assert factor.max() <= 1 + strength + 1e-5
    assert factor.min() >= 1 - strength - 1e-5
    assert (factor - 1).abs().max() > 0.9 * strength
    assert (factor.diff(n=2).abs() < 0.02 * strength).all()
    measured = changed.flux * changed.continuum / (flux * continuum)
    torch.testing.assert_close(measured, measured[:, :1].expand_as(measured), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(changed.continuum.mean(1), continuum.mean(1))


def test_constant_noise_has_its_standard_deviation() -> None:
    batch = spectra(64, bad=0.0)
    changed = change_by("noise", batch, sd=0.03)
    assert float((changed.flux - batch.flux).std()) == pytest.approx(0.03, rel=0.03)
    torch.testing.assert_close(1 / changed.ivar, 1 / batch.ivar + 0.03**2)


def test_noise_by_ivar_is_a_multiple_of_the_own_noise_of_a_spectrum() -> None:
    batch = spectra(64, 1000, bad=0.0)
    changed = change_by("ivar_noise", batch, strength=2.0)
    ratio = ((changed.flux - batch.flux) * batch.ivar.sqrt()).std(1)
    torch.testing.assert_close((batch.ivar / changed.ivar).mean(1), 1 + ratio**2, rtol=0.1, atol=0.0)
    assert ratio.max() < 2.1
    assert ratio.min() < 0.3
    assert ratio.max() > 1.8


def test_noise_by_ivar_is_never_larger_than_the_continuum() -> None:
    flux, ivar = torch.ones(50, 100), torch.full((50, 100), 1e-20)
    changed = change_by("ivar_noise", Spectra(flux, ivar))
    assert changed.flux.std() == pytest.approx(1.0, rel=0.05)


@examples(max_examples=20, deadline=None)
@given(bands=st.integers(1, 5), width=st.integers(1, 500), seed=st.integers(0, 1000))
def test_gaps_are_limited_in_number_and_width_and_leave_half(bands: int, width: int, seed: int) -> None:
    batch = Spectra(torch.full((30, 200), 0.5), torch.ones(30, 200))
    dropout = {"probability": 1.0, "bands": bands, "width": width}
    changed = change(Augment.from_dict("augment", {"dropout": dropout}), batch, seed)
    masked = torch.nn.functional.pad((changed.ivar == 0).int(), (1, 1))
    assert ((masked.diff(dim=1) > 0).sum(1) <= bands).all()
    assert (masked.sum(1) <= bands * (width + 1)).all()
    assert (masked.sum(1) <= 100 + bands).all()
    assert ((changed.flux == 1) == (changed.ivar == 0)).all()


def test_an_offset_is_one_number_per_spectrum() -> None:
    batch = spectra(100, bad=0.0)
    changed = change_by("offset", batch, strength=0.1)
    added = changed.flux - batch.flux
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=0, atol=1e-6)
    assert added.min() < -0.08
    assert added.max() > 0.08
    assert torch.equal(changed.ivar, batch.ivar)


def test_a_flip_reverses_all_arrays() -> None:
    batch = spectra()
    flipped = values(change_by("flip", batch))
    assert all(torch.equal(one, other.flip(1)) for one, other in zip(flipped, values(batch), strict=True))


# Settings


class Outer(Settings):
    augment: Augment = Field(Augment(), description="augmentation")


@pytest.mark.parametrize(
    ("preset", "methods"),
    [
        (
            "full",
            {"noise": (0.4, 0.008), "scaling": (0.3, 0.08), "drift": (0.35, 0.015), "shift": (0.25, 3.0)},
        ),
        ("light", {"noise": (0.5, 0.005), "scaling": (0.4, 0.05)}),
    ],
)
def test_full_and_light_are_those_of_system_0(preset: str, methods: dict[str, tuple[float, ...]]) -> None:
    values = Augment.from_dict("augment", {"preset": preset}).result_settings()
    assert values["probability"] == {"full": 0.6, "light": 0.3}[preset]
    for method in METHODS:
        if method in methods:
            assert tuple(values[method].values()) == methods[method]
        assert (values[method]["probability"] > 0) == (method in methods)


def test_a_preset_fills_what_is_not_given() -> None:
    given_values = {"preset": "full", "noise": {"sd": 0.02}, "probability": 1.0}
    values = Outer.from_dict("train", {"augment": given_values}).augment.result_settings()
    assert values["noise"] == {"probability": 0.4, "sd": 0.02}
    assert values["probability"] == 1.0
    assert values["shift"] == {"probability": 0.25, "max_pixels": 3.0}
    assert values["flip"] == {"probability": 0.0}


def test_settings_with_the_same_result_have_the_same_fingerprint() -> None:
    full = Augment(preset="full")
    assert Augment.from_dict("augment", full.result_settings()).fingerprint() == full.fingerprint()
    assert full.fingerprint() != Augment(preset="light").fingerprint()
    assert Augment.model_validate_json(full.model_dump_json()).fingerprint() == full.fingerprint()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shift": {"max_pixels": -1.0}}, "shift.max_pixels: -1.0"),
        ({"noise": {"sd": "much"}}, "noise.sd: 'much'"),
    ],
)
def test_wrong_strengths_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Augment.from_dict("augment", values)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="no method 'blur'; give one of flip, shift"):
        single_method(Augment(), "blur")


def test_arrays_that_do_not_fit_and_wrong_ranks_are_refused() -> None:
    flux, ivar, continuum = arrays()
    for wrong in (Spectra(flux, ivar[:, :-1], continuum), Spectra(flux, ivar, continuum[:-1])):
        with pytest.raises(ValueError, match=r"augment: flux has the shape \(8, 300\)"):
            change(Augment(), wrong)
    with pytest.raises(ValueError, match="augment: rank 2 of 2 workers; give a rank from 0 to 1"):
        change(Augment(), Spectra(flux, ivar, continuum), rank=2, world_size=2)
