"""The test population: its labels, spectra and signal to noise are those that it says, and it can be used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from survey import files
from survey.ensemble.build import build
from survey.ensemble.drawn_stars import CARBON, MOST_CARBON, StarDraws, TestPopulation
from survey.ensemble.ensemble import POPULATION, VALIDATION
from survey.ensemble.settings import Build, Population
from survey.labelling import samples
from survey.labels import CLASSES
from survey.settings import SettingsError
from survey.store.store import open_store
from tests.ensemble import small_runs
from tests.training import lessons

STILL = {"preset": "none"}
MP, CEMP, NMP = range(len(CLASSES))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of toy stars with indices, and a run."""
    folder = tmp_path_factory.mktemp("population")
    lessons.store(folder / "store", small_runs.COUNT, with_indices=True)
    targets = ["Teff", "logg", "FeH", "CFe"]
    small_runs.train(folder, "run", targets=targets, task="cls_reg")
    return folder


def population(place: Path, **changes: object) -> TestPopulation:
    """A test population drawn from the validation part of the run."""
    both = samples.read(str(place / "run"))
    settings = Population.from_dict("test", {"spectra": 4000, "augment": STILL} | changes)
    store = open_store(str(place / "store"))
    return TestPopulation(settings, store, both.part("train"), both.part("validation"), "carbon_0.7")


def shuffled(draws: StarDraws) -> StarDraws:
    """Draws of many bases in the first portion."""
    order = np.random.default_rng(0).permutation(len(draws))
    return StarDraws(*(array[order] for array in vars(draws).values()))


def test_stars_that_are_not_metal_poor_have_the_metallicities_of_the_survey(place: Path) -> None:
    drawn = population(place, feh_mean=-0.5, feh_sd=0.15, sd={"CFe": 0.1})
    draws = drawn.draw()
    is_nmp = drawn.base.class_N[draws.base_D] == NMP
    feh = draws.before_DI[is_nmp, drawn.inputs.index("FeH")]
    assert feh.mean() == pytest.approx(-0.5, abs=0.06)
    assert feh.std() == pytest.approx(0.15, abs=0.05)
    assert is_nmp.mean() == pytest.approx(0.7, abs=0.03)


def test_classes_follow_from_the_new_labels(place: Path) -> None:
    drawn = population(place)
    draws = drawn.draw()
    feh, cfe = (draws.after_DI[:, drawn.inputs.index(name)] for name in ("FeH", "CFe"))
    true = drawn.true_classes(draws)
    assert np.array_equal(true == NMP, feh > -1)
    assert np.array_equal(true == CEMP, (feh <= -1) & (cfe >= 0.7))
    assert 0.01 < (true != drawn.base.class_N[draws.base_D]).mean() < 0.3, "some stars cross a border"


def test_a_spectrum_changes_as_a_star_with_the_new_labels_does(place: Path) -> None:
    drawn = population(place, sd={"FeH": 0.2})
    portion, before, after = next(drawn.spectra(shuffled(drawn.draw()), ()))
    pixel = int(np.argmin(np.abs(drawn.store.grid.wave - 4450)))
    labels = dict(zip(drawn.inputs, portion.before_DI.T, strict=True))
    depth = [0.2 * np.exp(0.7 * feh) for feh in (labels["FeH"], portion.after_DI[:, 2])]
    expected = (1 - depth[1]) / (1 - depth[0])
    measured = (after.flux[:, pixel] / before.flux[:, pixel]).numpy()
    good = (before.ivar[:, pixel] > 0).numpy() & (np.abs(expected - 1) > 0.01)
    assert good.sum() > 200
    assert np.corrcoef(measured[good], expected[good])[0, 1] > 0.95
    assert measured[good] == pytest.approx(expected[good], abs=0.05)


def test_bands_of_carbon_are_blanked_in_some_carbon_rich_stars_only(place: Path) -> None:
    drawn = population(place)
    draws = drawn.draw()
    assert set(drawn.base.class_N[draws.base_D[draws.blanked_D]].tolist()) == {CEMP}
    portion, _, after = next(drawn.spectra(shuffled(draws), ()))
    band = (drawn.store.grid.wave > 4255) & (drawn.store.grid.wave < 4325)
    rows = torch.from_numpy(portion.blanked_D)
    assert bool((after.flux[rows][:, torch.from_numpy(band)] == 1).all())
    assert not bool((after.flux[~rows][:, torch.from_numpy(band)] == 1).all(1).any())


def test_labels_stay_where_carbon_is_not_known(place: Path) -> None:
    drawn = population(place)
    labels = drawn.base.label_NL.copy()
    labels[:, drawn.base.labels.index("CFe")] = np.nan
    drawn.base, drawn.label_NI = replace(drawn.base, label_NL=labels), labels
    portion, before, after = next(drawn.spectra(drawn.draw(), ()))
    rows = torch.from_numpy(~(portion.blanked_D | portion.injected_D))
    assert torch.equal(before.flux[rows], after.flux[rows])
    assert np.array_equal(drawn.true_classes(portion), drawn.base.class_N[portion.base_D])


def without_carbon(drawn: TestPopulation) -> TestPopulation:
    """A population of stars whose carbon was never measured; metal-poor ones are called MP."""
    labels, class_N = drawn.base.label_NL.copy(), drawn.base.class_N.copy()
    labels[:, drawn.base.labels.index("CFe")] = np.nan
    class_N[class_N == CEMP] = MP
    drawn.base, drawn.label_NI = replace(drawn.base, label_NL=labels, class_N=class_N), labels
    return drawn


def test_carbon_is_put_into_metal_poor_stars_whose_carbon_is_not_known(place: Path) -> None:
    assert not population(place).draw().injected_D.any(), "the carbon of all of them is known"
    drawn = without_carbon(population(place, spectra=500))
    draws = drawn.draw()
    assert np.array_equal(draws.injected_D, np.arange(len(draws)) >= 500)
    given = draws.at(slice(500, None))
    stars = np.flatnonzero(drawn.base.class_N == MP)
    assert set(np.unique(given.base_D)) <= set(stars)
    assert len(np.unique(given.base_D)) > 0.8 * len(stars)
    assert np.array_equal(given.before_DI[:, 3], np.zeros(len(given)))
    assert np.array_equal(given.before_DI[:, :3], given.after_DI[:, :3]), "other labels stay"
    carbon = drawn.carbon(draws)
    assert np.isnan(carbon[:500]).all()
    assert carbon[500:] == pytest.approx(given.after_DI[:, 3], rel=1e-6)
    assert (carbon[500:].min(), carbon[500:].max()) == pytest.approx(CARBON, abs=0.05)
    assert (carbon[500:] + given.after_DI[:, 2]).max() == pytest.approx(MOST_CARBON, abs=0.05)
    assert np.array_equal(drawn.true_classes(given) == CEMP, carbon[500:] >= 0.7)
    _, before, after = next(drawn.spectra(shuffled(given), ()))
    portion = shuffled(given).at(slice(0, len(after)))
    band = torch.from_numpy(np.abs(drawn.store.grid.wave - 4300) < 6)
    deeper = (before.flux - after.flux)[:, band].mean(1).numpy()
    assert np.corrcoef(deeper, portion.after_DI[:, 3])[0, 1] > 0.8


def test_an_ensemble_keeps_its_answers_about_the_population(place: Path) -> None:
    settings = Build.from_dict(
        "ensemble",
        {
            "ensemble": str(place / "ensemble"),
            "runs": [str(place / "run")],
            "population": {"spectra": 1500, "augment": {"preset": "survey"}},
            "gpu": "never",
            "threads": 1,
        },
    )
    build(settings)
    folder = place / "ensemble"
    drawn, validation = (files.read_table(str(folder / name)) for name in (POPULATION, VALIDATION))
    assert drawn.num_rows == 1500
    assert drawn["base"].to_numpy().max() < validation.num_rows
    base_snr = validation["snr"].to_numpy()[drawn["base"].to_numpy()]
    assert np.all(drawn["snr"].to_numpy() <= 1.003 * base_snr), "noise is added, none is taken away"
    assert np.mean(drawn["snr"].to_numpy() / base_snr) < 0.985
    p_NC = np.stack([drawn[f"p_{name.lower()}"].to_numpy() for name in CLASSES], 1)
    assert p_NC.sum(1) == pytest.approx(1, abs=5e-3)
    accuracy = (p_NC.argmax(1) == drawn["true_class"].to_numpy()).mean()
    assert accuracy > 0.8
    assert {"tio5", "h_delta", "domain"} <= set(drawn.column_names)


def test_wrong_settings_are_reported() -> None:
    with pytest.raises(SettingsError, match="feh_sd"):
        Population.from_dict("ensemble", {"feh_sd": 0})
