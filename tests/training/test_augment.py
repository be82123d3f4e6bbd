"""Augmentation: each method against its obvious form, and what holds for all of them whatever they do."""

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
from survey.training.augment import METHODS, PRESETS, Augment, alone, augmented
from survey.training.distortions import Draws, Spectra

every_method = pytest.mark.parametrize("method", METHODS)


def spectra(
    rows: int = 8, pixels: int = 300, seed: int = 0, bad: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """Lines in a continuum of 1, with noise as ivar says, and bad pixels in runs."""
    generator = torch.Generator().manual_seed(seed)
    ivar = 10 ** (2 + 2 * torch.rand((rows, pixels), generator=generator))
    at = torch.arange(pixels)
    flux = (
        1
        - 0.5 * torch.exp(-0.5 * ((at - pixels / 3) / 4) ** 2)
        + torch.randn((rows, pixels), generator=generator) / ivar.sqrt()
    )
    gone = torch.rand((rows, pixels), generator=generator) < bad / 3
    gone = gone | gone.roll(1, 1) | gone.roll(2, 1)
    continuum = 1 + 0.4 * torch.sin(at / pixels * 3 + torch.rand((rows, 1), generator=generator))
    return torch.where(gone, 1.0, flux), torch.where(gone, 0.0, ivar), continuum


def changed(
    settings: Augment,
    batch: tuple[Tensor, Tensor, Tensor | None],
    seed: int = 5,
    share: tuple[int, int] = (0, 1),
) -> Spectra:
    return Spectra(*augmented(settings, *batch, torch.Generator().manual_seed(seed), share))


class Fixed(Draws):
    """The same number whenever one between 0 and 1 is drawn."""

    def __init__(self, number: float, like: Tensor) -> None:
        super().__init__(torch.Generator().manual_seed(3), len(like), slice(0, len(like)), like)
        object.__setattr__(self, "number", number)

    def uniform(self, width: int = 1) -> Tensor:
        return torch.full((self.rows, width), self.number).to(self.like)  # type: ignore[attr-defined]


# What holds for every method


@every_method
def test_a_method_has_a_function_settings_and_usual_strengths_of_the_same_names(method: str) -> None:
    strengths = set(inspect.signature(METHODS[method]).parameters) - {"lit", "draws"}
    own = Augment.model_fields[method].default
    assert set(type(own).model_fields) - {"probability"} == strengths
    assert set(PRESETS["none"][method]) == strengths | {"probability"}
    assert METHODS[method].__doc__


@every_method
def test_what_goes_in_is_not_touched(method: str) -> None:
    batch = spectra()
    kept = [values.clone() for values in batch]
    made = changed(alone(Augment(), method), batch)
    assert all(torch.equal(one, two) for one, two in zip(batch, kept, strict=True))
    assert not any(one.data_ptr() == two.data_ptr() for one, two in zip(batch, made, strict=True))
    assert made.flux_BP.dtype == torch.float32


@every_method
def test_a_method_that_is_asked_for_changes_every_spectrum(method: str) -> None:
    batch = spectra()
    made = changed(alone(Augment(), method), batch)
    assert ((made.flux_BP != batch[0]) | (made.ivar_BP != batch[1])).any(1).all()


@every_method
@pytest.mark.parametrize("bad", [0.0, 0.2, 1.0, 3.0])
def test_bad_pixels_stay_bad_and_lie_on_the_continuum(method: str, bad: float) -> None:
    flux, ivar, continuum = spectra(bad=bad)
    made = changed(alone(Augment(), method), (flux, ivar, continuum))
    assert torch.equal(made.flux_BP[made.ivar_BP == 0], torch.ones(int((made.ivar_BP == 0).sum())))
    assert made.ivar_BP.isfinite().all()
    assert made.flux_BP.isfinite().all()
    assert made.continuum_BP is not None
    assert made.continuum_BP.isfinite().all()
    assert (made.ivar_BP >= 0).all()
    if method not in ("flip", "shift"):
        assert (made.ivar_BP[ivar == 0] == 0).all()
    if method not in ("flip", "shift", "dropout"):
        assert (made.ivar_BP[ivar > 0] > 0).all()


@every_method
def test_what_stands_in_bad_pixels_changes_nothing(method: str) -> None:
    flux, ivar, continuum = spectra(bad=0.3)
    settings = alone(Augment(), method)
    made = changed(settings, (flux, ivar, continuum))
    for wild in (torch.nan, torch.inf, -1e30):
        again = changed(settings, (torch.where(ivar > 0, flux, wild), ivar, continuum))
        assert all(torch.equal(one, two) for one, two in zip(made, again, strict=True))


@every_method
def test_wild_ivar_gives_finite_numbers(method: str) -> None:
    flux, ivar, continuum = spectra(pixels=200)
    ivar = ivar * 10 ** torch.linspace(-38, 8, 200)
    made = changed(alone(Augment(), method), (flux, ivar, continuum))
    assert made.flux_BP.isfinite().all()
    assert made.ivar_BP.isfinite().all()
    assert made.flux_BP.abs().max() < 20


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("flip", "dropout")])
def test_a_strength_of_nothing_changes_nothing(method: str) -> None:
    batch = spectra()
    nothing = {name: 0.0 for name in PRESETS["none"][method] if name != "probability"}
    made = changed(Augment.checked("augment", {method: nothing | {"probability": 1.0}}), batch)
    for before, after in zip(batch, made, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@every_method
def test_without_a_continuum_the_rest_is_the_same(method: str) -> None:
    flux, ivar, continuum = spectra()
    settings = alone(Augment(), method)
    alike, bare = changed(settings, (flux, ivar, continuum)), changed(settings, (flux, ivar, None))
    assert bare.continuum_BP is None
    assert torch.equal(alike.flux_BP, bare.flux_BP)
    assert torch.equal(alike.ivar_BP, bare.ivar_BP)


@every_method
def test_double_precision_agrees_with_single(method: str) -> None:
    batch = spectra()
    settings = alone(Augment(), method)
    one = changed(settings, batch)
    two = changed(settings, tuple(values.double() for values in batch))  # type: ignore[arg-type]
    for single, double in zip(one, two, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=2e-3, atol=2e-4)


@examples(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    preset=st.sampled_from(["light", "full", "survey"]),
    size=st.sampled_from([2, 3, 4, 12]),
)
def test_results_do_not_depend_on_the_number_of_workers(seed: int, preset: str, size: int) -> None:
    flux, ivar, continuum = spectra(12)
    settings = Augment.checked("augment", {"preset": preset, "probability": 0.9})
    whole = changed(settings, (flux, ivar, continuum), seed)
    each = 12 // size
    for rank in range(size):
        part = slice(rank * each, (rank + 1) * each)
        made = changed(settings, (flux[part], ivar[part], continuum[part]), seed, (rank, size))
        assert all(torch.equal(one[part], two) for one, two in zip(whole, made, strict=True))


@every_method
def test_workers_without_a_chosen_row_stay_in_step(method: str) -> None:
    flux, ivar, continuum = spectra(6)
    settings = Augment.checked("augment", {method: {"probability": 0.3}})
    states = []
    for rank in range(6):
        generator = torch.Generator().manual_seed(8)
        augmented(
            settings,
            flux[rank : rank + 1],
            ivar[rank : rank + 1],
            continuum[rank : rank + 1],
            generator,
            (rank, 6),
        )
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_the_same_generator_gives_the_same_spectra_and_another_others() -> None:
    batch, settings = spectra(), Augment(preset="survey")
    assert all(
        torch.equal(one, two)
        for one, two in zip(changed(settings, batch), changed(settings, batch), strict=True)
    )
    assert not torch.equal(changed(settings, batch, 1).flux_BP, changed(settings, batch, 2).flux_BP)


def test_so_many_spectra_are_changed_as_the_probabilities_say() -> None:
    batch = spectra(4000, 8, bad=0.0)
    made = changed(
        Augment.checked(
            "augment", {"probability": 0.6, "noise": {"probability": 0.4}, "offset": {"probability": 0.5}}
        ),
        batch,
    )
    share = float((made.flux_BP != batch[0]).any(1).float().mean())
    assert abs(share - 0.6 * (1 - 0.6 * 0.5)) < 4 * np.sqrt(0.42 * 0.58 / 4000)


def test_the_preset_none_gives_back_the_spectra() -> None:
    batch = spectra()
    assert all(torch.equal(one, two) for one, two in zip(changed(Augment(), batch), batch, strict=True))


# Each method against its obvious form


@pytest.mark.parametrize(
    "method", ["shift", "smoothing", "scaling", "drift", "offset", "noise", "ivar_noise"]
)
def test_ivar_is_that_of_the_noise_that_is_there(method: str) -> None:
    pixels, rows = 2000, 40
    generator = torch.Generator().manual_seed(1)
    ivar = torch.full((rows, pixels), 400.0) * (1 + torch.arange(pixels) / pixels)
    clean = torch.ones(rows, pixels)
    noisy = clean + torch.randn((rows, pixels), generator=generator) / ivar.sqrt()
    settings = alone(Augment.checked("augment", {"noise": {"sd": 0.05}}), method)
    made, truth = changed(settings, (noisy, ivar, None)), changed(settings, (clean, ivar, None))
    expected = clean if "noise" in method else truth.flux_BP
    assert float(((made.flux_BP - expected) ** 2 * made.ivar_BP)[made.ivar_BP > 0].mean()) == pytest.approx(
        1, abs=0.02
    )


@pytest.mark.parametrize("number", [0.0, 0.2, 0.5, 0.77, 1 - 1e-7])
def test_a_shift_is_numpy_interpolation_and_comes_in_bad(number: float) -> None:
    flux, ivar, continuum = spectra(bad=0.0)
    made = distortions.shift(Spectra(flux, ivar, continuum), Fixed(number, flux), 3.0)
    moved, at = 3.0 * (2 * number - 1), np.arange(300)
    inside = (at - moved >= -1e-6) & (at - moved <= 299 + 1e-6)
    assert ((made.ivar_BP > 0) == torch.from_numpy(inside)).all()
    for row in range(len(flux)):
        np.testing.assert_allclose(
            made.flux_BP[row, inside], np.interp(at - moved, at, flux[row])[inside], atol=1e-4
        )
        assert made.continuum_BP is not None
        np.testing.assert_allclose(
            made.continuum_BP[row], np.interp(at - moved, at, continuum[row]), atol=1e-4
        )


def test_shifts_go_to_both_sides_and_never_wrap() -> None:
    flux, ivar = torch.ones(200, 100), torch.ones(200, 100)
    flux[:, 50], flux[:, :3], flux[:, -3:] = 0.0, 3.0, 3.0
    made = changed(
        Augment.checked("augment", {"shift": {"probability": 1.0, "max_pixels": 5.0}}), (flux, ivar, None)
    )
    place = ((1 - made.flux_BP[:, 40:61]) * torch.arange(-10, 11)).sum(1)
    assert place.min() < -4.5
    assert place.max() > 4.5
    assert abs(float(place.mean())) < 4 * 5 / np.sqrt(3 * 200)
    assert ((made.ivar_BP[:, 0] == 0) == (place > 0)).all()
    assert ((made.ivar_BP[:, -1] == 0) == (place < 0)).all()
    assert (made.flux_BP[:, 10:40] == 1).all()


def test_a_shifted_pixel_that_takes_from_a_bad_one_is_bad() -> None:
    flux, ivar = torch.ones(1, 20), torch.ones(1, 20)
    ivar[0, 10] = 0
    for number, gone in (
        (0.05, [9, 10, 19]),
        (0.4, [9, 10, 19]),
        (0.6, [0, 10, 11]),
        (0.75, [0, 10, 11]),
        (0.95, [0, 10, 11]),
        (1.0, [0, 11]),
    ):
        made = distortions.shift(Spectra(flux, ivar, None), Fixed(number, flux), 1.0)
        assert (made.ivar_BP[0] == 0).nonzero()[:, 0].tolist() == gone


@pytest.mark.parametrize("sigma", [0.3, 1.0, 6.0, 50.0])
def test_smoothing_is_a_mean_by_ivar_and_a_gaussian(sigma: float) -> None:
    flux, ivar, _ = (values.double() for values in spectra(2, 60, bad=0.3))
    made = distortions.smoothing(Spectra(flux, ivar, None), Fixed(0.8, flux), sigma)
    for row in range(2):
        for pixel in range(60):
            bell = np.exp(-0.5 * ((np.arange(60) - pixel) / (0.8 * sigma)) ** 2) * (
                abs(np.arange(60) - pixel) <= np.ceil(4 * sigma)
            )
            weight = bell * ivar[row].numpy()
            if ivar[row, pixel] > 0:
                assert float(made.flux_BP[row, pixel]) == pytest.approx(
                    (weight * flux[row].numpy()).sum() / weight.sum(), rel=1e-6
                )
                assert float(made.ivar_BP[row, pixel]) == pytest.approx(
                    weight.sum() ** 2 / (bell * weight).sum(), rel=1e-6
                )


@pytest.mark.parametrize(("method", "strength"), [("scaling", 0.08), ("drift", 0.15)])
def test_a_misplaced_continuum_keeps_the_signal_to_noise_and_what_was_measured(
    method: str, strength: float
) -> None:
    batch = spectra(200, bad=0.0)
    made = changed(alone(Augment.checked("augment", {"drift": {"strength": 0.15}}), method), batch)
    torch.testing.assert_close(
        made.flux_BP * made.ivar_BP.sqrt(), batch[0] * batch[1].sqrt(), rtol=1e-4, atol=1e-4
    )
    factor = (batch[1] / made.ivar_BP).sqrt()
    assert factor.max() <= 1 + strength + 1e-5
    assert factor.min() >= 1 - strength - 1e-5
    assert (factor - 1).abs().max() > 0.9 * strength
    assert (factor.diff(n=2).abs() < 0.02 * strength).all()
    assert made.continuum_BP is not None
    measured = made.flux_BP * made.continuum_BP / (batch[0] * batch[2])
    torch.testing.assert_close(measured, measured[:, :1].expand_as(measured), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.continuum_BP.mean(1), batch[2].mean(1))


def test_constant_noise_has_its_standard_deviation() -> None:
    batch = spectra(64, bad=0.0)
    made = changed(Augment.checked("augment", {"noise": {"probability": 1.0, "sd": 0.03}}), batch)
    assert float((made.flux_BP - batch[0]).std()) == pytest.approx(0.03, rel=0.03)
    torch.testing.assert_close(1 / made.ivar_BP, 1 / batch[1] + 0.03**2)


def test_noise_by_ivar_is_a_multiple_of_the_spectrums_own() -> None:
    batch = spectra(64, 1000, bad=0.0)
    made = changed(Augment.checked("augment", {"ivar_noise": {"probability": 1.0, "strength": 2.0}}), batch)
    times = ((made.flux_BP - batch[0]) * batch[1].sqrt()).std(1)
    torch.testing.assert_close((batch[1] / made.ivar_BP).mean(1), 1 + times**2, rtol=0.1, atol=0.0)
    assert times.max() < 2.1
    assert times.min() < 0.3
    assert times.max() > 1.8


def test_noise_by_ivar_drowns_no_pixel_in_more_than_the_continuum() -> None:
    flux, ivar = torch.ones(50, 100), torch.full((50, 100), 1e-20)
    made = changed(Augment.checked("augment", {"ivar_noise": {"probability": 1.0}}), (flux, ivar, None))
    assert made.flux_BP.std() == pytest.approx(1.0, rel=0.05)


@examples(max_examples=20, deadline=None)
@given(bands=st.integers(1, 5), width=st.integers(1, 500), seed=st.integers(0, 1000))
def test_gaps_are_no_more_and_no_wider_than_asked_and_leave_half(bands: int, width: int, seed: int) -> None:
    flux, ivar = torch.full((30, 200), 0.5), torch.ones(30, 200)
    dropout = {"probability": 1.0, "bands": bands, "width": width}
    made = changed(Augment.checked("augment", {"dropout": dropout}), (flux, ivar, None), seed)
    gone = torch.nn.functional.pad((made.ivar_BP == 0).int(), (1, 1))
    assert ((gone.diff(dim=1) > 0).sum(1) <= bands).all()
    assert (gone.sum(1) <= bands * (width + 1)).all()
    assert (gone.sum(1) <= 100 + bands).all()
    assert ((made.flux_BP == 1) == (made.ivar_BP == 0)).all()


def test_an_offset_is_one_number_per_spectrum() -> None:
    batch = spectra(100, bad=0.0)
    made = changed(Augment.checked("augment", {"offset": {"probability": 1.0, "by": 0.1}}), batch)
    added = made.flux_BP - batch[0]
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=0, atol=1e-6)
    assert added.min() < -0.08
    assert added.max() > 0.08
    assert torch.equal(made.ivar_BP, batch[1])


def test_a_flip_turns_all_arrays_round() -> None:
    batch = spectra()
    made = changed(alone(Augment(), "flip"), batch)
    assert all(torch.equal(one, two.flip(1)) for one, two in zip(made, batch, strict=True))


# Settings


class Outer(Settings):
    augment: Augment = Field(Augment(), description="augmentation")


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        (
            "full",
            {
                "probability": 0.6,
                "noise": (0.4, 0.008),
                "scaling": (0.3, 0.08),
                "drift": (0.35, 0.015),
                "shift": (0.25, 3.0),
            },
        ),
        ("light", {"probability": 0.3, "noise": (0.5, 0.005), "scaling": (0.4, 0.05)}),
    ],
)
def test_full_and_light_are_those_of_system_0(preset: str, values: dict[str, Any]) -> None:
    found = Augment.checked("augment", {"preset": preset}).lasting()
    assert found["probability"] == values["probability"]
    for method in METHODS:
        used = tuple(found[method].values())
        assert used == values.get(method, used)
        assert (found[method]["probability"] > 0) == (method in values)


def test_a_preset_fills_what_is_not_given_wherever_it_is_set() -> None:
    given = Outer.checked(
        "train", {"augment": {"preset": "full", "noise": {"sd": 0.02}, "probability": 1.0}}
    ).augment.lasting()
    assert given["noise"] == {"probability": 0.4, "sd": 0.02}
    assert given["probability"] == 1.0
    assert given["shift"] == {"probability": 0.25, "max_pixels": 3.0}
    assert given["flip"] == {"probability": 0.0}


def test_what_comes_out_alike_has_the_same_fingerprint() -> None:
    full = Augment(preset="full")
    assert Augment.checked("augment", full.lasting()).fingerprint() == full.fingerprint()
    assert full.fingerprint() != Augment(preset="light").fingerprint()
    assert Augment.model_validate_json(full.model_dump_json()).fingerprint() == full.fingerprint()


def test_settings_that_make_no_sense_are_refused() -> None:
    for values, told in (
        ({"shift": {"max_pixels": -1.0}}, "shift.max_pixels: -1.0"),
        ({"noise": {"sd": "much"}}, "noise.sd: 'much'"),
    ):
        with pytest.raises(SettingsError, match=told):
            Augment.checked("augment", values)
    with pytest.raises(ValueError, match="no method 'blur'; there are flip, shift"):
        alone(Augment(), "blur")


def test_arrays_that_do_not_fit_are_refused() -> None:
    flux, ivar, continuum = spectra()
    for wrong in ((flux, ivar[:, :-1], continuum), (flux, ivar, continuum[:-1])):
        with pytest.raises(ValueError, match=r"augment: flux is \(8, 300\)"):
            changed(Augment(), wrong)
    with pytest.raises(ValueError, match="share is place 2 of 2 workers"):
        changed(Augment(), (flux, ivar, continuum), share=(2, 2))
