"""An ensemble opened from its folder, and a run's folder in its place."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from survey.ensemble.build import build
from survey.ensemble.combine import combine
from survey.ensemble.ensemble import DOMAIN, ENSEMBLE, named, open_ensemble
from survey.ensemble.settings import Build
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import run as bundle
from survey.training.batches import Spectra, read_places
from tests.ensemble import teams

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs and an ensemble of them."""
    folder = teams.place(tmp_path_factory.mktemp("ensemble"), *RUNS)
    runs = [str(folder / name) for name in RUNS]
    build(
        Build.checked(
            "ensemble", {"ensemble": str(folder / "team"), "runs": runs, "threads": 1, "gpu": "never"}
        )
    )
    return folder


@pytest.fixture(scope="module")
def spectra(made: Path) -> Spectra:
    return read_places(open_store(str(made / "store")), np.array([(1, row) for row in range(30)]), False)


SNR = np.where(np.arange(30) % 7 == 0, np.nan, np.linspace(5, 90, 30))


def test_a_run_is_an_ensemble_of_one_that_says_what_the_run_says(made: Path, spectra: Spectra):
    one, run = open_ensemble(str(made / "sure")), bundle.open_run(str(made / "sure"))
    said, alone = one.said(spectra, SNR), run.said(spectra, "float32")
    assert (one.id, one.names, one.labels, one.classes) == (
        run.about["id"],
        ("sure",),
        ("CFe", "FeH"),
        ("MP", "CEMP", "NMP"),
    )
    assert one.units == {"CFe": "dex", "FeH": "dex"}
    assert np.array_equal(said.combined.p_NC, alone["p"])
    assert np.array_equal(said.combined.mu_NL, alone["mu"])
    assert np.array_equal(said.combined.total_NL, alone["sigma"])
    assert np.allclose(said.high_NL - said.low_NL, 2 * 1.959964 * alone["sigma"])
    assert said.domain_N is None
    assert not one.about["calibrated"]


def test_an_ensemble_says_what_its_members_make_of_it(made: Path, spectra: Spectra):
    team = open_ensemble(str(made / "team"))
    said = team.said(spectra, SNR)
    told, latents = team.members.ask(spectra)
    raw = combine(told, team.weights)
    assert (team.names, team.labels) == (RUNS, ("FeH", "CFe"))
    assert np.array_equal(said.combined.mu_NL, raw.mu_NL)
    assert np.allclose(raw.p_NC, np.einsum("m,mnc->nc", team.weights.class_M, told.p_MNC))
    assert np.allclose(
        raw.mu_NL, sum(team.weights.label_ML[member] * told.mu_MNL[member] for member in range(2))
    )
    assert (said.low_NL < said.combined.mu_NL).all()
    assert (said.high_NL > said.combined.mu_NL).all()
    assert np.array_equal(said.domain_N, team.domain.score(latents))


def test_answers_as_columns_are_those_of_the_tables(made: Path, spectra: Spectra):
    said = open_ensemble(str(made / "team")).said(spectra, SNR)
    columns = said.columns()
    assert list(columns)[:6] == ["p_mp", "p_cemp", "p_nmp", "said", "entropy", "doubt"]
    kinds = ["", "_err", "_err_data", "_err_model", "_spread", "_low", "_high"]
    assert list(columns)[6:] == [*(f"{name}{kind}" for name in ("FeH", "CFe") for kind in kinds), "domain"]
    assert {array.dtype.name for name, array in columns.items() if name != "said"} == {"float32"}
    assert np.array_equal(columns["said"], said.combined.p_NC.argmax(1))
    assert np.allclose(
        columns["FeH_err"] ** 2, columns["FeH_err_data"] ** 2 + columns["FeH_err_model"] ** 2, rtol=1e-5
    )


def test_where_nobody_answers_the_class_is_no_class(made: Path, spectra: Spectra):
    sick = Spectra(spectra.flux.clone(), spectra.ivar)
    sick.flux[4] = torch.where(sick.ivar[4] > 0, float("nan"), 1.0)
    columns = open_ensemble(str(made / "team")).said(sick, SNR).columns()
    assert columns["said"][4] == -1
    assert np.isnan([columns[name][4] for name in columns if name != "said"]).all()
    assert all(np.isfinite(np.delete(array, 4)).all() for array in columns.values())


def test_about_no_spectra_an_ensemble_says_nothing(made: Path, spectra: Spectra):
    said = open_ensemble(str(made / "team")).said(spectra[:0], SNR[:0])
    assert len(said) == 0
    assert {len(array) for array in said.columns().values()} == {0}


def test_another_grid_is_refused(made: Path):
    team = open_ensemble(str(made / "team"))
    grid = team.members.runs[0].about["grid"]
    team.fits(grid, "predict: store")
    with pytest.raises(ValueError, match="predict: store: its grid has 301 linear points from 4000 to 4600"):
        team.fits(grid | {"points": 301, "stop": 4600.0}, "predict: store")


def moved(made: Path, folder: Path) -> Path:
    """The team and its runs as copies, in which the team's members are the copies."""
    for name in (*RUNS, "team"):
        shutil.copytree(made / name, folder / name)
    about = json.loads((folder / "team" / ENSEMBLE).read_text())
    for member in about["members"]:
        member["path"] = str(folder / member["name"])
    (folder / "team" / ENSEMBLE).write_text(json.dumps(about))
    return folder / "team"


def test_a_domain_that_is_missing_is_named(made: Path, tmp_path: Path):
    team = moved(made, tmp_path)
    (team / DOMAIN).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"domain.safetensors: is missing, though the ensemble is finished; put a copy back, or make",
    ):
        open_ensemble(str(team))


def test_a_member_that_is_missing_is_named(made: Path, tmp_path: Path):
    team = moved(made, tmp_path)
    shutil.rmtree(tmp_path / "sure")
    with pytest.raises(
        FileNotFoundError, match=r"team: its member sure is not at .*sure; put the run back there"
    ):
        open_ensemble(str(team))


def test_a_member_that_has_changed_since_is_refused(made: Path, tmp_path: Path):
    team = moved(made, tmp_path)
    shutil.rmtree(tmp_path / "sure")
    shutil.copytree(made / "both", tmp_path / "sure")
    with pytest.raises(
        ValueError,
        match=r"its member sure at .* has changed since \(\w{16} then, \w{16} now\); put that run back",
    ):
        open_ensemble(str(team))


def test_an_ensemble_of_another_version_is_refused(made: Path, tmp_path: Path):
    team = moved(made, tmp_path)
    about = json.loads((team / ENSEMBLE).read_text())
    (team / ENSEMBLE).write_text(json.dumps(about | {"version": 0}))
    with pytest.raises(ValueError, match="the ensemble is of version 0, this code reads 1; make it anew"):
        open_ensemble(str(team))


def test_a_folder_that_is_neither_is_told(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no ensemble.json and no run.json in it, so no finished ensemble or run; run jobs/ensemble.py",
    ):
        open_ensemble(str(tmp_path))


def test_names_are_the_ends_of_paths_as_long_as_is_needed():
    assert named(["/a/b", "/a/c/"]) == ["b", "c"]
    assert named(["/a/run", "/b/run", "s3://x/c/d"]) == ["a/run", "b/run", "c/d"]
    assert named(["/a/ensemble", "/a/b"]) == ["a/ensemble", "a/b"]
    assert named(["ensemble"]) == ["ensemble"]
    with pytest.raises(SettingsError, match="/a/run is given twice; give each run once"):
        named(["/a/run", "/a/run/"])


def test_the_id_is_that_of_what_an_ensemble_says(made: Path, tmp_path: Path):
    runs, team = [str(made / name) for name in RUNS], open_ensemble(str(made / "team"))
    again, voting = (
        build(
            Build.checked(
                "ensemble", {"ensemble": str(tmp_path / how), "runs": runs, "threads": 1, "how": how}
            )
        ).about["id"]
        for how in ("mean", "vote")
    )
    assert again == team.id
    assert voting != team.id
