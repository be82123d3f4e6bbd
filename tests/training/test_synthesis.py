"""Training stars with other labels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from survey.labelling.samples import Samples
from survey.labels import classes
from survey.models.network import Task
from survey.settings import SettingsError
from survey.training import scaling
from survey.training.batches import Spectra
from survey.training.losses import Truth
from survey.training.spectral_model import Likeness
from survey.training.synthesis import Variation, Vary, columns, sampled, told_by
from tests.training import lessons

NAMES = ("Teff", "logg", "FeH", "CH", "CFe")
TASK = Task("cls_reg", NAMES)
USUAL: dict[str, Any] = {
    "probability": 0.5,
    "by": {"Teff": 100.0, "FeH": 0.2},
    "anew": {"probability": 0.5, "between": {"CFe": [0.0, 2.0]}, "where": {"FeH": [-9.0, -1.0]}},
    "order": 2,
}


def stars(count: int = 240) -> tuple[Samples, Spectra]:
    """Toy stars, and their spectra."""
    known = lessons.stars(count)
    flux, ivar = lessons.spectra(known)
    label_NL = np.stack([known[name] for name in NAMES], 1)
    none = np.zeros(count)
    about = pa.table({"star": [str(number) for number in range(count)]})
    numbers = classes(known["FeH"], known["CFe"])
    made = Samples(
        NAMES,
        np.stack([none, np.arange(count)], 1).astype(np.int64),
        none.astype(np.int8),
        numbers,
        label_NL,
        none[:, None] + 0 * label_NL,
        about,
    )
    return made, Spectra(torch.from_numpy(flux), torch.from_numpy(ivar))


def variation(samples: Samples, lit: Spectra, task: Task = TASK, **changes: Any) -> tuple[Variation, Truth]:
    """Ready to change them, and what is known of them."""
    settings = Vary.checked("vary", USUAL | changes)
    settings.check(task, samples)
    scaled = scaling.fit("standard", samples.label_NL, NAMES)
    some = sampled(settings, samples, told_by(NAMES))
    likeness = Likeness.fit(
        columns(samples.at(some), told_by(NAMES)),
        [(lit.flux[torch.from_numpy(some)], lit.ivar[torch.from_numpy(some)])],
        settings.order,
    )
    label_BL = torch.from_numpy(scaled.scaled(samples.label_NL)).float()
    truth = Truth(
        torch.from_numpy(samples.class_N.astype(np.int64)),
        label_BL,
        torch.zeros_like(label_BL),
        torch.ones(len(samples)),
    )
    return Variation(settings, task, samples, scaled, "carbon_0.7", likeness), truth


def test_labels_classes_and_spectra_change_together():
    samples, lit = stars()
    made, truth = variation(samples, lit)
    places = np.arange(len(samples))
    drawn = made.drawn(places, (1, 2))
    changed, seen = made.truth(truth, drawn), made.spectra(lit, drawn, 0)
    label_NL = made.scaling.unscaled(changed.label_BL)
    was, column = samples.label_NL, {name: number for number, name in enumerate(NAMES)}
    touched = np.isin(places, drawn.index_V)
    assert 0.4 < touched.mean() < 0.9
    np.testing.assert_allclose(label_NL[~touched], was[~touched], atol=1e-3)
    np.testing.assert_allclose(
        label_NL[:, column["CH"]], label_NL[:, column["FeH"]] + label_NL[:, column["CFe"]], atol=1e-4
    )
    clear = (np.abs(label_NL[:, column["FeH"]] + 1) > 1e-3) & (
        np.abs(label_NL[:, column["CFe"]] - 0.7) > 1e-3
    )
    assert (changed.class_B.numpy() == classes(label_NL[:, column["FeH"]], label_NL[:, column["CFe"]]))[
        clear
    ].all()
    assert label_NL[:, column["Teff"]].min() >= was[:, column["Teff"]].min() - 0.01
    assert torch.equal(seen.flux[torch.from_numpy(~touched)], lit.flux[torch.from_numpy(~touched)])
    assert torch.equal(seen.ivar == 0, lit.ivar == 0)
    assert bool((seen.flux[seen.ivar == 0] == 1).all())
    richer = touched & (label_NL[:, column["CFe"]] > was[:, column["CFe"]] + 0.8)
    band = np.abs(lessons.GRID.wave - 4300) < 6
    deeper = (lit.flux - seen.flux)[torch.from_numpy(richer)][:, torch.from_numpy(band)].mean(1)
    assert len(deeper) > 10
    assert bool((deeper > 0.005).all())
    good = lit.ivar > 0
    np.testing.assert_allclose((seen.flux**2 * seen.ivar)[good], (lit.flux**2 * lit.ivar)[good], rtol=1e-3)


def test_a_crew_of_two_sees_what_one_sees():
    samples, lit = stars(64)
    made, _ = variation(samples, lit, spectra=100)
    drawn = made.drawn(np.arange(64), (7,))
    whole = made.spectra(lit, drawn, 0)
    halves = [made.spectra(lit[slice(first, first + 32)], drawn, first) for first in (0, 32)]
    np.testing.assert_allclose(torch.cat([half.flux for half in halves]), whole.flux, rtol=1e-5)
    again = made.drawn(np.arange(64), (7,))
    assert np.array_equal(again.index_V, drawn.index_V)
    assert torch.equal(again.after_VI, drawn.after_VI)


def test_stars_of_unknown_labels_or_of_another_rule_stay_as_they_are():
    samples, lit = stars()
    label_NL, class_N = samples.label_NL.copy(), samples.class_N.copy()
    label_NL[:50, NAMES.index("FeH")] = np.nan
    class_N[50:100] = (class_N[50:100] + 1) % 3
    made, _ = variation(replace(samples, label_NL=label_NL, class_N=class_N), lit)
    assert made.drawn(np.arange(240), (1,)).index_V.min() >= 100


def test_rare_classes_are_all_among_those_that_are_learned_from():
    samples, _ = stars()
    some = sampled(Vary.checked("vary", USUAL | {"spectra": 100}), samples, told_by(NAMES))
    counts = np.bincount(samples.class_N, minlength=3)
    assert len(some) == 100
    assert (np.diff(some) > 0).all()
    assert np.bincount(samples.class_N[some], minlength=3).min() > 0.5 * min(counts.min(), 33)


@pytest.mark.parametrize(
    ("values", "task", "told"),
    [
        ({"by": {"MgFe": 0.1}}, TASK, "MgFe: not among the labels that spectra are told by"),
        ({"by": {"CH": 0.1}}, TASK, "CH follows from FeH and CFe"),
        (
            {"anew": {"probability": 0.0}, "by": {"Teff": 1.0}},
            Task("cls_reg", ("Teff", "FeH")),
            "needs FeH and CFe among the targets",
        ),
        ({"anew": {}, "by": {"Teff": 1.0}, "order": 5}, Task("reg", (*NAMES, "MgFe")), "252 terms, 128 are"),
    ],
)
def test_what_cannot_be_changed_is_said(values: dict[str, Any], task: Task, told: str):
    with pytest.raises(ValueError, match=told) as caught:
        Vary.checked("vary", USUAL | values).check(task, stars()[0])
    assert str(caught.value).startswith("vary: ")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"by": {}}, "probability without by changes nothing"),
        ({"by": {"Teff": -1.0}}, "above 0"),
        ({"by": {"Tteff": 1.0}}, "no label"),
        ({"anew": {"between": {"CFe": [2.0, 1.0]}, "probability": 0.1}}, "no range"),
        ({"anew": {"probability": 0.1}}, "probability without between changes nothing"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(values: dict[str, Any], told: str):
    with pytest.raises(SettingsError, match=told):
        Vary.checked("vary", USUAL | values)


def test_labels_may_be_given_by_other_names():
    assert set(Vary.checked("vary", {"probability": 0.5, "by": {"C_FE": 0.2, "TEFF": 100.0}}).by) == {
        "CFe",
        "Teff",
    }
