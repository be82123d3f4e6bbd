"""The spectral model, and training stars with other labels."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from survey.labelling.samples import Samples
from survey.labels import CLASSES, classes
from survey.models.settings import Task
from survey.settings import SettingsError
from survey.training.batches import Spectra
from survey.training.losses import Targets
from survey.training.scaling import fit_scaling
from survey.training.sources import learned_labels
from survey.training.synthesis import (
    FACTORS,
    SpectralModel,
    Synthesizer,
    label_columns,
    polynomial_terms,
    select_rows,
    usable_synthesis,
)
from survey.training.synthesis_settings import Synthesis, count_terms, input_labels
from tests.training import lessons

# The spectral model

RNG = np.random.default_rng(3)
LABEL_NI = np.stack([RNG.uniform(4500, 6500, 400), RNG.uniform(-3, 0, 400)], 1)


def toy_flux(label_NI: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three pixels: a constant, a parabola, a product of labels."""
    warm, metal = (label_NI[:, 0] - 5500) / 1000, label_NI[:, 1] + 1.5
    return np.stack([np.ones_like(warm), 0.8 - 0.05 * warm + 0.02 * metal**2, 0.7 + 0.03 * warm * metal], 1)


def fit_model(order: int = 2, portions: int = 1, bad: bool = False) -> SpectralModel:
    flux_NP = torch.from_numpy(toy_flux(LABEL_NI)).float()
    ivar_NP = torch.full_like(flux_NP, 1e4)
    if bad:
        masked = torch.from_numpy(RNG.random(flux_NP.shape) < 0.2)
        flux_NP[masked], ivar_NP[masked] = torch.nan, 0.0
    chunks = zip(flux_NP.chunk(portions), ivar_NP.chunk(portions), strict=True)
    return SpectralModel.fit(LABEL_NI, chunks, order)


@pytest.mark.parametrize(("portions", "bad"), [(1, False), (7, False), (1, True)])
def test_the_model_finds_the_polynomials_of_the_spectra(portions: int, bad: bool) -> None:
    label_NI = np.array([[5000.0, -2.0], [6400.0, -0.1]])
    flux_NP = fit_model(2, portions, bad)(torch.from_numpy(label_NI))
    np.testing.assert_allclose(flux_NP, toy_flux(label_NI), atol=3e-3)


def test_a_pixel_that_is_always_bad_is_not_changed() -> None:
    flux_NP = torch.ones(400, 2)
    ivar_NP = torch.tensor([[1e4, 0.0]]).expand(400, 2)
    model = SpectralModel.fit(LABEL_NI, [(flux_NP, ivar_NP)], 2)
    before, after = torch.from_numpy(LABEL_NI[:5]), torch.from_numpy(LABEL_NI[5:10])
    np.testing.assert_allclose(model.factors(before, after), 1.0, atol=1e-3)


def test_factors_are_ratios_within_limits() -> None:
    model = fit_model()
    before, after = torch.tensor([[5500.0, -1.5]]).double(), torch.tensor([[6000.0, -0.5]]).double()
    expected = toy_flux(after.numpy()) / toy_flux(before.numpy())
    np.testing.assert_allclose(model.factors(before, after), expected, atol=5e-3)
    extreme = replace(model, weight_KP=model.weight_KP * torch.tensor([1.0, 60.0, -60.0]))
    factor = extreme.factors(before, after)
    assert bool(torch.isfinite(factor).all())
    assert FACTORS[0] <= float(factor.min()) <= float(factor.max()) <= FACTORS[1]


def test_a_model_from_the_tensors_of_another_predicts_the_same() -> None:
    model = fit_model(3)
    again = SpectralModel.from_tensors(model.tensors(), 3)
    label_NI = torch.from_numpy(LABEL_NI[:4])
    assert torch.equal(again(label_NI), model(label_NI))


@pytest.mark.parametrize(("labels", "order", "count"), [(4, 3, 35), (5, 3, 56), (1, 5, 6), (2, 2, 6)])
def test_terms_are_counted(labels: int, order: int, count: int) -> None:
    assert len(polynomial_terms(labels, order)) == count_terms(labels, order) == count
    assert polynomial_terms(2, 2) == ((), (0,), (1,), (0, 0), (0, 1), (1, 1))


# Training stars with other labels

NAMES = ("Teff", "logg", "FeH", "CH", "CFe")
COLUMN = {name: number for number, name in enumerate(NAMES)}
TASK = Task("cls_reg", NAMES)
VALUES: dict[str, Any] = {
    "probability": 0.5,
    "sd": {"Teff": 100.0, "FeH": 0.2},
    "redraw": {"probability": 0.5, "ranges": {"CFe": [0.0, 2.0]}, "where": {"FeH": [-9.0, -1.0]}},
    "order": 2,
}


def toy_stars(count: int = 240) -> tuple[Samples, Spectra]:
    """Toy stars, and their spectra."""
    labels = lessons.stars(count)
    flux, ivar = lessons.spectra(labels)
    label_NL = np.stack([labels[name] for name in NAMES], 1)
    samples = Samples(
        NAMES,
        np.stack([np.zeros(count), np.arange(count)], 1).astype(np.int64),
        np.zeros(count, np.int8),
        classes(labels["FeH"], labels["CFe"]),
        label_NL,
        np.zeros_like(label_NL),
        pa.table({"star": [str(number) for number in range(count)]}),
    )
    return samples, Spectra(torch.from_numpy(flux), torch.from_numpy(ivar))


def make_synthesizer(samples: Samples, spectra: Spectra, **changes: Any) -> tuple[Synthesizer, Targets]:
    """A synthesizer of these stars, and their targets."""
    settings = Synthesis.from_dict("synthesis", VALUES | changes)
    settings, left_out = usable_synthesis(settings, TASK, samples)
    assert left_out == ()
    scaling = fit_scaling("standard", samples.label_NL, NAMES)
    inputs = input_labels(NAMES)
    rows = select_rows(settings, samples, inputs)
    chosen = spectra[torch.from_numpy(rows)]
    label_NI = label_columns(samples, inputs)[rows]
    model = SpectralModel.fit(label_NI, [(chosen.flux, chosen.ivar)], settings.order)
    label_BL = torch.from_numpy(scaling.scale(samples.label_NL)).float()
    class_B = torch.from_numpy(samples.class_N.astype(np.int64))
    targets = Targets(class_B, label_BL, torch.zeros_like(label_BL), torch.ones(len(samples)))
    return Synthesizer(settings, TASK, samples, scaling, "carbon_0.7", model), targets


def test_labels_and_classes_change_together() -> None:
    samples, spectra = toy_stars()
    synthesizer, targets = make_synthesizer(samples, spectra)
    changes = synthesizer.draw(np.arange(len(samples)), (1, 2))
    changed = synthesizer.targets(targets, changes)
    label_NL, before_NL = synthesizer.scaling.unscale(changed.label_BL), samples.label_NL
    feh, ch, cfe, teff = (label_NL[:, COLUMN[name]] for name in ("FeH", "CH", "CFe", "Teff"))
    is_changed = np.isin(np.arange(len(samples)), changes.index_V)
    assert 0.4 < is_changed.mean() < 0.9
    np.testing.assert_allclose(label_NL[~is_changed], before_NL[~is_changed], atol=1e-3)
    np.testing.assert_allclose(ch, feh + cfe, atol=1e-4)
    clear = (np.abs(feh + 1) > 1e-3) & (np.abs(cfe - 0.7) > 1e-3)
    assert (changed.class_B.numpy() == classes(feh, cfe))[clear].all()
    assert teff.min() >= before_NL[:, COLUMN["Teff"]].min() - 0.01


def test_the_class_of_a_changed_star_is_known_whatever_its_source_allows() -> None:
    samples, spectra = toy_stars(64)
    synthesizer, targets = make_synthesizer(samples, spectra, max_spectra=100)
    cemp = CLASSES.index("CEMP")
    targets = replace(targets, other_B=torch.full_like(targets.class_B, cemp))
    changes = synthesizer.draw(np.arange(64), (1, 2))
    other_B = synthesizer.targets(targets, changes).other_B
    assert other_B is not None
    assert np.array_equal(np.flatnonzero(other_B == -1), changes.index_V)
    assert set(other_B.tolist()) == {-1, cemp}


def test_labels_beyond_a_range_are_changed_to_its_ends_too() -> None:
    samples, spectra = toy_stars()
    synthesizer, targets = make_synthesizer(samples, spectra)
    ranges = {"Teff": (5000.0, 5600.0), "CH": (-1.5, -0.5)}
    synthesizer.label_ranges = ranges
    scaled_NL = synthesizer.scaling.scale(learned_labels(samples, ranges))
    changes = synthesizer.draw(np.arange(len(samples)), (1, 2))
    changed = synthesizer.targets(replace(targets, label_BL=torch.from_numpy(scaled_NL)), changes)
    label_VL = synthesizer.scaling.unscale(changed.label_BL)[changes.index_V]
    after = dict(zip(synthesizer.inputs, changes.after_VI.numpy().T, strict=True))
    np.testing.assert_allclose(label_VL[:, COLUMN["Teff"]], np.clip(after["Teff"], 5000, 5600))
    carbon = np.clip(after["FeH"] + after["CFe"], -1.5, -0.5)
    np.testing.assert_allclose(label_VL[:, COLUMN["CH"]], carbon, atol=1e-9)


def test_spectra_change_with_their_labels_and_keep_their_signal_to_noise() -> None:
    samples, spectra = toy_stars()
    synthesizer, targets = make_synthesizer(samples, spectra)
    changes = synthesizer.draw(np.arange(len(samples)), (1, 2))
    label_NL = synthesizer.scaling.unscale(synthesizer.targets(targets, changes).label_BL)
    changed = synthesizer.spectra(spectra, changes, 0)
    is_changed = np.isin(np.arange(len(samples)), changes.index_V)
    unchanged = torch.from_numpy(~is_changed)
    assert torch.equal(changed.flux[unchanged], spectra.flux[unchanged])
    assert torch.equal(changed.ivar == 0, spectra.ivar == 0)
    assert bool((changed.flux[changed.ivar == 0] == 1).all())
    gain = label_NL[:, COLUMN["CFe"]] - samples.label_NL[:, COLUMN["CFe"]]
    richer = torch.from_numpy(is_changed & (gain > 0.8))
    carbon_band = torch.from_numpy(np.abs(lessons.GRID.wave - 4300) < 6)
    deeper = (spectra.flux - changed.flux)[richer][:, carbon_band].mean(1)
    assert len(deeper) > 10
    assert bool((deeper > 0.005).all())
    good = spectra.ivar > 0
    signal_to_noise = (spectra.flux**2 * spectra.ivar)[good]
    np.testing.assert_allclose((changed.flux**2 * changed.ivar)[good], signal_to_noise, rtol=1e-3)


def test_two_workers_together_get_the_same_as_one() -> None:
    samples, spectra = toy_stars(64)
    synthesizer, _ = make_synthesizer(samples, spectra, max_spectra=100)
    changes = synthesizer.draw(np.arange(64), (7,))
    expected = synthesizer.spectra(spectra, changes, 0)
    halves = [synthesizer.spectra(spectra[start : start + 32], changes, start) for start in (0, 32)]
    np.testing.assert_allclose(torch.cat([half.flux for half in halves]), expected.flux, rtol=1e-5)
    again = synthesizer.draw(np.arange(64), (7,))
    assert np.array_equal(again.index_V, changes.index_V)
    assert torch.equal(again.after_VI, changes.after_VI)


def test_stars_with_unknown_labels_or_classes_by_another_rule_are_not_changed() -> None:
    samples, spectra = toy_stars()
    label_NL, class_N = samples.label_NL.copy(), samples.class_N.copy()
    label_NL[:50, COLUMN["FeH"]] = np.nan
    class_N[50:100] = (class_N[50:100] + 1) % 3
    synthesizer, _ = make_synthesizer(replace(samples, label_NL=label_NL, class_N=class_N), spectra)
    assert synthesizer.draw(np.arange(240), (1,)).index_V.min() >= 100


def test_the_fit_uses_rare_classes_first() -> None:
    samples, _ = toy_stars()
    settings = Synthesis.from_dict("synthesis", VALUES | {"max_spectra": 100})
    rows = select_rows(settings, samples, input_labels(NAMES))
    counts = np.bincount(samples.class_N, minlength=3)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert np.bincount(samples.class_N[rows], minlength=3).min() > 0.5 * min(counts.min(), 33)


def test_fewer_training_spectra_allow_a_lower_order_only() -> None:
    settings = Synthesis.from_dict("synthesis", VALUES)
    assert usable_synthesis(settings, TASK, toy_stars(30)[0]) == (settings, ())
    lower, left_out = usable_synthesis(settings, TASK, toy_stars(20)[0])
    assert (lower.order, lower.sd) == (1, settings.sd)
    assert left_out == ("polynomials of order 2: 1 is used, for 20 spectra",)
    off, left_out = usable_synthesis(settings, TASK, toy_stars(8)[0])
    assert not off.is_used
    assert left_out == ("all: 8 training spectra with Teff, logg, FeH, CFe are too few",)


@pytest.mark.parametrize(
    ("values", "task", "reason"),
    [
        ({"sd": {"Teff": 1.0, "MgFe": 0.1}}, TASK, "MgFe: not among the labels that are varied: Teff, logg"),
        ({"sd": {"Teff": 1.0, "CH": 0.1}}, TASK, "CH: not among .*it follows from FeH and CFe"),
        ({}, Task("cls_reg", ("Teff", "FeH")), "all: the class of a changed star needs FeH and CFe"),
        (
            {"redraw": {"probability": 0.1, "ranges": {"Teff": [4000, 5000]}, "where": {"CFe": [0, 1]}}},
            Task("reg", ("Teff", "FeH")),
            "redraw: it needs CFe among the targets",
        ),
        (
            {"redraw": {}, "sd": {"Teff": 1.0}, "order": 5},
            Task("reg", (*NAMES, "MgFe")),
            "polynomials of order 5: 4 is used",
        ),
    ],
)
def test_what_the_task_does_not_allow_is_left_out_and_named(
    values: dict[str, Any], task: Task, reason: str
) -> None:
    settings, left_out = Synthesis.from_dict("synthesis", VALUES | values).usable(task, 10_000)
    assert any(re.search(f"^{reason}", text) for text in left_out)
    assert set(settings.sd if settings.is_used else {}) <= set(input_labels(task.labels))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sd": {}}, "probability without sd changes nothing"),
        ({"sd": {"Teff": -1.0}}, "above 0"),
        ({"sd": {"Tteff": 1.0}}, "no label"),
        ({"probability": 2.0}, "probability: 2.0"),
        (
            {"redraw": {"ranges": {"CFe": [2.0, 1.0]}, "probability": 0.1}},
            r"CFe: the range \[2, 1\]",
        ),
        ({"redraw": {"probability": 0.1}}, "probability without ranges changes nothing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Synthesis.from_dict("synthesis", VALUES | values)


def test_labels_may_be_named_by_their_aliases() -> None:
    settings = Synthesis.from_dict("synthesis", {"probability": 0.5, "sd": {"C_FE": 0.2, "TEFF": 100.0}})
    assert set(settings.sd) == {"CFe", "Teff"}
