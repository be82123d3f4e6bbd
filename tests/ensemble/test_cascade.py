"""A cascade gives the answers of the ensemble where they matter, and of its fastest member elsewhere."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey import files
from survey.ensemble import fit_cascade
from survey.ensemble.bounds import NEAR
from survey.ensemble.cascade import CASCADE, Cascade, fastest_member, open_cascade
from survey.ensemble.ensemble import POPULATION, VALIDATION, Ensemble, open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.ensemble.fit_ensemble import fit_ensemble
from survey.ensemble.members import Members
from survey.ensemble.recalibration import LabelCorrection, Recalibration
from survey.labels import CLASSES
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.stored_paths import LostFolderError
from survey.training.batches import Spectra, read_spectra
from tests.ensemble import small_cascade, small_runs
from tests.finished import change_document
from tests.training import lessons


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_cascade.make(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="module")
def cascade(place: Path) -> Cascade:
    return open_cascade(open_ensemble(str(place / "ensemble")))


@pytest.fixture(scope="module")
def spectra(place: Path) -> tuple[Spectra, np.ndarray]:
    """Other toy stars, and their signal to noise."""
    lessons.store(place / "others" / "store", 400, seed=9, first=90_000)
    store = open_store(str(place / "others" / "store"))
    where = np.array([(shard, row) for shard in range(8) for row in range(50)])
    snr = [store.spectra(shard, ["snr"])["snr"].to_numpy() for shard in range(8)]
    return read_spectra(store, where), np.concatenate(snr).astype(float)


def test_spectra_that_go_on_get_the_answers_of_the_ensemble(
    cascade: Cascade, spectra: tuple[Spectra, np.ndarray]
) -> None:
    answers, expected = (one.predict(*spectra, batch=16) for one in (cascade, cascade.ensemble))
    assert answers.ruled_out_N is not None
    assert 0.1 < answers.ruled_out_N.mean() < 0.6
    for name, values in expected.answers.arrays().items():
        found = answers.answers.arrays()[name]
        assert found[~answers.ruled_out_N] == pytest.approx(
            values[~answers.ruled_out_N], rel=1e-4, abs=1e-5, nan_ok=True
        ), name
        assert not np.allclose(found[answers.ruled_out_N], values[answers.ruled_out_N]), name


def test_spectra_that_are_ruled_out_get_the_answers_of_the_fastest_member(
    cascade: Cascade, spectra: tuple[Spectra, np.ndarray]
) -> None:
    answers, alone = (one.predict(*spectra, batch=16) for one in (cascade, cascade.fastest))
    assert answers.ruled_out_N is not None
    for name, values in alone.answers.arrays().items():
        found = answers.answers.arrays()[name]
        assert np.array_equal(found[answers.ruled_out_N], values[answers.ruled_out_N], equal_nan=True), name
    assert np.isnan(answers.member_answers.value_MNL[0, answers.ruled_out_N]).all()
    assert np.isfinite(answers.member_answers.value_MNL[1]).all()
    assert np.isnan(answers.latents[0][answers.ruled_out_N]).all()
    assert [latent.shape[1] for latent in answers.latents] == [
        latent.shape[1] for latent in cascade.ensemble.predict(*spectra).latents
    ]


def test_nothing_near_a_list_is_ruled_out(cascade: Cascade, spectra: tuple[Spectra, np.ndarray]) -> None:
    answers, expected = (one.predict(*spectra) for one in (cascade, cascade.ensemble))
    assert expected.answers.p_NC is not None
    assert answers.ruled_out_N is not None
    near = expected.answers.p_NC[:, :2].sum(1) >= NEAR
    assert (near & answers.ruled_out_N).sum() <= 0.02 * near.sum()


def test_answers_do_not_depend_on_the_spectra_around(
    cascade: Cascade, spectra: tuple[Spectra, np.ndarray]
) -> None:
    flux, snr = spectra
    together = cascade.predict(flux, snr, batch=16)
    apart = cascade.predict(flux[100:150], snr[100:150], batch=16)
    assert together.ruled_out_N is not None
    assert apart.ruled_out_N is not None
    assert np.array_equal(together.ruled_out_N[100:150], apart.ruled_out_N)
    for name, values in apart.answers.arrays().items():
        found = together.answers.arrays()[name][100:150]
        assert found == pytest.approx(values, rel=1e-4, abs=1e-4, nan_ok=True), name
    nothing = cascade.predict(flux[:0], snr[:0])
    assert len(nothing) == 0


def test_the_calibration_of_the_fastest_member_is_its_own(
    cascade: Cascade, spectra: tuple[Spectra, np.ndarray], place: Path
) -> None:
    answers = cascade.fastest.predict(*spectra).answers
    labels = lessons.stars(400, 9)
    truth = np.stack([labels[name] for name in cascade.ensemble.labels], 1)
    inside = (answers.low_NL <= truth) & (truth <= answers.high_NL)
    assert np.all(np.abs(inside.mean(0) - 0.95) < 0.05)
    temperatures = [one.document.calibration.temperature for one in (cascade.fastest, cascade.ensemble)]
    assert temperatures[0] != temperatures[1]


@pytest.mark.parametrize("name", [VALIDATION, POPULATION])
def test_the_tested_stars_have_the_answers_of_the_cascade(place: Path, cascade: Cascade, name: str) -> None:
    folder = place / "ensemble"
    tested, before = (files.read_table(str(path / name)) for path in (folder / CASCADE.name, folder))
    ruled_out = tested["ruled_out"].to_numpy(zero_copy_only=False)
    assert 0.1 < ruled_out.mean() < 0.9
    p_mp, p_before = (table["p_mp"].to_numpy() for table in (tested, before))
    assert p_mp[~ruled_out] == pytest.approx(p_before[~ruled_out], rel=0.01, abs=1e-4)
    assert not np.allclose(p_mp[ruled_out], p_before[ruled_out], rtol=0.01)
    assert (tested["p_nmp"].to_numpy()[ruled_out] > 1 - NEAR - 0.01).all()


def test_the_bounds_say_what_they_miss(cascade: Cascade) -> None:
    bounds, went_on = cascade.document.bounds, cascade.document.went_on
    for bound in bounds.lists.values():
        assert bound.stars > 20
        assert 0 < bound.value < 0.5
        assert bound.share is not None
        assert bound.high is not None
        assert bound.share < bound.high < 0.2
    assert went_on["MP"] > 0.97
    assert went_on["CEMP"] > 0.97
    assert went_on["NMP"] < 0.8


def test_a_cascade_is_made_once_and_again_after_damage_or_for_another_ensemble(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(*given: Any) -> Ensemble:
        made.append(given[0].ensemble)
        return fit_ensemble(*given)

    monkeypatch.setattr(fit_cascade, "fit_ensemble", counted)
    ensemble = open_ensemble(str(place / "ensemble"))
    first = fitted_cascade(ensemble, 1).document.model_dump(mode="json")
    assert made == []
    table = place / "ensemble" / CASCADE.name / VALIDATION
    table.write_bytes(table.read_bytes()[:-9] + b"123456789")
    assert fitted_cascade(ensemble, 1).document.model_dump(mode="json") == first
    assert len(made) == 1
    change_document(place / "ensemble" / CASCADE.name / CASCADE.file, {"ensemble": "another"})
    with pytest.raises(JobError, match=r"is of the ensemble another, not of .*cascade=true again"):
        open_cascade(ensemble)
    assert fitted_cascade(ensemble, 1).document.model_dump(mode="json") == first
    assert len(made) == 2


def test_tested_stars_are_not_recalibrated(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the table of an ensemble nor in that of its cascade: they are of another survey."""
    high = LabelCorrection(stars=50, offset=0.5, low=-9, high=9)
    moved = Recalibration(store="survey", labels={"FeH": high})
    monkeypatch.setattr(fit_cascade, "fit_recalibration", lambda *_: (moved, None))
    ensemble = open_ensemble(str(place / "ensemble"))
    document = ensemble.document.model_copy(update={"recalibration": moved})
    cascade = fitted_cascade(replace(ensemble, path=str(tmp_path), document=document), 1)
    assert cascade.fastest.document.recalibration == moved
    for name in (VALIDATION, POPULATION):
        folders = place / "ensemble" / CASCADE.name, tmp_path / CASCADE.name
        tables = [files.read_table(str(folder / name)) for folder in folders]
        assert tables[0]["FeH"].equals(tables[1]["FeH"]), name


def test_an_ensemble_without_a_fast_member_for_all_is_refused(place: Path, tmp_path: Path) -> None:
    ensemble = open_ensemble(str(place / "ensemble"))
    assert ensemble.names[fastest_member(ensemble)] == "fast"
    with pytest.raises(SettingsError, match=r"has one member.*leave out cascade="):
        fastest_member(open_ensemble(str(place / "fast")))
    document = ensemble.document.model_copy(update={"anomaly": 1.0})
    with pytest.raises(SettingsError, match="autoencoder, which has to see every spectrum"):
        fastest_member(replace(ensemble, document=document))
    small_runs.train(place, "labels", targets=small_cascade.TARGETS, task="reg", epochs=1)
    small_runs.train(place, "classes", task="cls", epochs=1)

    def of(*names: str) -> Ensemble:
        runs = [open_ensemble(str(place / name)).members.runs[0] for name in names]
        return replace(ensemble, members=Members(tuple(runs)))

    with pytest.raises(SettingsError, match=r"no member predicts all of MP, CEMP, NMP, Teff.*FeH"):
        fastest_member(of("labels", "classes"))
    with pytest.raises(SettingsError, match=r"predicts no classes.* needs MP, CEMP, NMP"):
        fastest_member(of("labels", "labels"))


def test_without_its_store_an_ensemble_gets_no_cascade(place: Path, tmp_path: Path) -> None:
    ensemble = open_ensemble(str(place / "ensemble"))
    moved = replace(ensemble, path=str(tmp_path / "copy"))
    store = place / "store"
    store.rename(place / "lost")
    try:
        with pytest.raises(LostFolderError, match=r"cascade=true: .*has no cascade yet.*is not found"):
            fitted_cascade(moved, 1)
    finally:
        (place / "lost").rename(store)
    assert not (tmp_path / "copy" / CASCADE.name / CASCADE.file).exists()


def test_the_document_of_a_cascade_holds_no_settings_of_a_machine(place: Path) -> None:
    document = json.loads((place / "ensemble" / CASCADE.name / CASCADE.file).read_text())
    assert document["fastest"]["members"][0]["path"] == "fast"
    assert document["fastest"]["settings"] == {}
    table = files.read_table(str(place / "ensemble" / CASCADE.name / POPULATION))
    assert isinstance(table, pa.Table)
    assert set(CLASSES) == {"MP", "CEMP", "NMP"}
