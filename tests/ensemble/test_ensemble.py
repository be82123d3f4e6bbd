"""An ensemble opened from its folder, and a run as an ensemble."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey.ensemble.build import build
from survey.ensemble.combine import combine
from survey.ensemble.ensemble import DOMAIN, ENSEMBLE, open_ensemble
from survey.ensemble.member_names import short_names
from survey.ensemble.settings import Build
from survey.settings import SettingsError
from survey.spectrum import Grid
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra
from survey.training.run import open_run
from tests.ensemble import small_runs
from tests.finished import change_document

RUNS = ("both", "sure", "classes")
ENDINGS = ("", "_err", "_err_data", "_err_model", "_spread", "_low", "_high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs and an ensemble of them."""
    folder = small_runs.place(tmp_path_factory.mktemp("ensemble"), *RUNS)
    runs = [str(folder / name) for name in RUNS]
    values = {"ensemble": str(folder / "team"), "runs": runs, "threads": 1, "gpu": "never"}
    build(Build.from_dict("ensemble", values))
    return folder


@pytest.fixture(scope="module")
def spectra(folder: Path) -> Spectra:
    rows = np.array([(1, row) for row in range(30)])
    return read_spectra(open_store(str(folder / "store")), rows)


SNR = np.where(np.arange(30) % 7 == 0, np.nan, np.linspace(5, 90, 30))


def test_a_run_is_an_ensemble_of_one_member_with_the_same_answers(folder: Path, spectra: Spectra) -> None:
    ensemble, run = open_ensemble(str(folder / "sure")), open_run(str(folder / "sure"))
    answers: Any = ensemble.predict(spectra, SNR).answers
    alone = run.predict(spectra, "float32")
    assert (ensemble.id, ensemble.names) == (run.document.id, ("sure",))
    assert (ensemble.labels, ensemble.classes) == (("CFe", "FeH"), ("MP", "CEMP", "NMP"))
    assert ensemble.units == {"CFe": "dex", "FeH": "dex"}
    assert np.array_equal(answers.p_NC, alone["p"])
    assert np.array_equal(answers.value_NL, alone["mu"])
    assert np.array_equal(answers.err_NL, alone["sigma"])
    assert np.allclose(answers.high_NL - answers.low_NL, 2 * 1.959964 * alone["sigma"])
    assert answers.domain_N is None
    assert not ensemble.document.calibrated


def test_an_ensemble_combines_and_calibrates_the_answers_of_its_members(
    folder: Path, spectra: Spectra
) -> None:
    ensemble: Any = open_ensemble(str(folder / "team"))
    result: Any = ensemble.predict(spectra, SNR)
    members, latents = ensemble.members.predict(spectra)
    weights = ensemble.document.weights
    combined: Any = combine(members, weights)
    assert (ensemble.names, ensemble.labels) == (RUNS, ("FeH", "CFe"))
    assert np.array_equal(result.answers.value_NL, combined.value_NL)
    assert np.array_equal(result.uncalibrated.p_NC, combined.p_NC)
    assert np.allclose(combined.p_NC, np.einsum("m,mnc->nc", weights.class_M, members.p_MNC))
    mean = sum(weights.label_ML[member] * members.value_MNL[member] for member in range(2))
    assert np.allclose(combined.value_NL, mean)
    assert (result.answers.low_NL < combined.value_NL).all()
    assert (result.answers.high_NL > combined.value_NL).all()
    assert np.array_equal(result.answers.domain_N, ensemble.domain.score(latents))


def test_the_columns_of_the_answers_are_those_of_every_table(folder: Path, spectra: Spectra) -> None:
    answers: Any = open_ensemble(str(folder / "team")).predict(spectra, SNR).answers
    columns = answers.to_columns()
    of_classes = ["p_mp", "p_cemp", "p_nmp", "predicted_class", "class_entropy", "class_entropy_model"]
    of_labels = [f"{name}{ending}" for name in ("FeH", "CFe") for ending in ENDINGS]
    assert list(columns) == [*of_classes, *of_labels, "domain", "other_kind", "anomaly"]
    kinds = {array.dtype.name for name, array in columns.items() if name != "predicted_class"}
    assert kinds == {"float32"}
    assert np.array_equal(columns["predicted_class"], answers.p_NC.argmax(1))
    whole_error = np.hypot(columns["FeH_err_data"], columns["FeH_err_model"])
    assert np.allclose(columns["FeH_err"], whole_error, rtol=1e-5)


def test_a_spectrum_without_an_answer_has_no_class(folder: Path, spectra: Spectra) -> None:
    broken = Spectra(spectra.flux.clone(), spectra.ivar)
    broken.flux[4] = torch.where(broken.ivar[4] > 0, float("nan"), 1.0)
    columns = open_ensemble(str(folder / "team")).predict(broken, SNR).answers.to_columns()
    assert columns["predicted_class"][4] == -1
    assert np.isnan([columns[name][4] for name in columns if name != "predicted_class"]).all()
    assert np.isnan(columns.pop("other_kind")).all(), "there are no stars of other kinds to learn"
    assert np.isnan(columns.pop("anomaly")).all(), "no member is an autoencoder"
    assert all(np.isfinite(np.delete(array, 4)).all() for array in columns.values())


def test_answers_about_no_spectra_are_empty(folder: Path, spectra: Spectra) -> None:
    result = open_ensemble(str(folder / "team")).predict(spectra[:0], SNR[:0])
    assert len(result) == 0
    assert {len(array) for array in result.answers.to_columns().values()} == {0}


def test_another_grid_is_an_error(folder: Path) -> None:
    ensemble = open_ensemble(str(folder / "team"))
    ensemble.check_grid(ensemble.grid, "predict: store")
    with pytest.raises(ValueError, match="predict: store: its grid has 301 linear points from 4000 to 4600"):
        ensemble.check_grid(Grid(4000.0, 4600.0, 2.0), "predict: store")


def copied(folder: Path, to: Path) -> Path:
    """Copies of the ensemble and its runs; the members of the copy are the copied runs."""
    for name in (*RUNS, "team"):
        shutil.copytree(folder / name, to / name)

    def move(document: dict[str, Any]) -> None:
        for member in document["members"]:
            member["path"] = str(to / member["name"])

    change_document(to / "team" / ENSEMBLE.file, move)
    return to / "team"


def test_a_missing_domain_is_an_error(folder: Path, tmp_path: Path) -> None:
    team = copied(folder, tmp_path)
    (team / DOMAIN).unlink()
    message = r"domain.safetensors: is missing; run survey ensemble with the same settings again, or put"
    with pytest.raises(FileNotFoundError, match=message):
        open_ensemble(str(team))


def test_a_missing_member_is_an_error_with_its_name(folder: Path, tmp_path: Path) -> None:
    team = copied(folder, tmp_path)
    shutil.rmtree(tmp_path / "sure")
    message = r"team: its member sure is not at .*sure; put the run back there"
    with pytest.raises(FileNotFoundError, match=message):
        open_ensemble(str(team))


def test_a_changed_member_is_an_error(folder: Path, tmp_path: Path) -> None:
    team = copied(folder, tmp_path)
    shutil.rmtree(tmp_path / "sure")
    shutil.copytree(folder / "both", tmp_path / "sure")
    message = r"its member sure at .* has changed \(\w{16} before, \w{16} now\); put the old run back"
    with pytest.raises(ValueError, match=message):
        open_ensemble(str(team))


def test_an_ensemble_of_another_version_is_an_error(folder: Path, tmp_path: Path) -> None:
    team = copied(folder, tmp_path)
    change_document(team / ENSEMBLE.file, {"version": 0})
    with pytest.raises(ValueError, match="ensemble of version 0, this code reads version 3; make it again"):
        open_ensemble(str(team))


def test_a_folder_that_is_no_ensemble_and_no_run_is_an_error(tmp_path: Path) -> None:
    message = r"no ensemble.json and no run.json in it, so it is no finished ensemble .* run survey ensemble"
    with pytest.raises(FileNotFoundError, match=message):
        open_ensemble(str(tmp_path))


def test_a_folder_of_another_job_and_a_missing_one_are_named_as_such(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"gone: no such folder; give the folder of a finished ensemble"
    ):
        open_ensemble(str(tmp_path / "gone"))
    (tmp_path / "settings.json").write_text('{"kind": "store", "settings": {}}')
    with pytest.raises(SettingsError, match=r": is a folder of the kind store, no ensemble and no run; give"):
        open_ensemble(str(tmp_path))


def test_names_are_the_ends_of_paths_as_long_as_needed() -> None:
    assert short_names(["/a/b", "/a/c/"]) == ["b", "c"]
    assert short_names(["/a/run", "/b/run", "s3://x/c/d"]) == ["a/run", "b/run", "c/d"]
    assert short_names(["/a/ensemble", "/a/b"]) == ["a/ensemble", "a/b"]
    assert short_names(["ensemble"]) == ["ensemble"]
    with pytest.raises(SettingsError, match="/a/run is given twice; give each run once"):
        short_names(["/a/run", "/a/run/"])


def test_the_id_changes_with_what_decides_the_answers(folder: Path, tmp_path: Path) -> None:
    runs = [str(folder / name) for name in RUNS]
    values = {"ensemble": str(tmp_path / "vote"), "runs": runs, "threads": 1, "combine": "vote"}
    voting = build(Build.from_dict("ensemble", values)).document.id
    assert voting != open_ensemble(str(folder / "team")).id
