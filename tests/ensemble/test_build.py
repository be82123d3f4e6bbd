"""Runs become an ensemble, those that are not there yet are trained first."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.ensemble import build as building
from survey.ensemble import split
from survey.ensemble.build import Built, build
from survey.ensemble.ensemble import ENSEMBLE, open_ensemble
from survey.ensemble.settings import Build, trainings
from survey.settings import SettingsError, load
from survey.store.store import open_store
from survey.training.train import Train
from tests.ensemble import teams
from tests.training import lessons

RUNS = ("both", "sure", "classes")
PRISM = {
    "model": "prism",
    "options": {"components": 8, "hidden": 16},
    "targets": ["FeH", "CFe"],
    "epochs": 2,
    "batch": 16,
    "optimiser": {"lr": 3e-3},
    "split": teams.SPLIT,
    "tracking": {"use": "never"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teams.place(tmp_path_factory.mktemp("build"), *RUNS)


def settings(made: Path, folder: Path, **changes: Any) -> Build:
    values = {
        "ensemble": str(folder / "team"),
        "runs": [str(made / name) for name in RUNS],
        "threads": 1,
        "gpu": "never",
    }
    return Build.checked("ensemble", values | changes)


def trained(made: Path, folder: Path, **changes: Any) -> Build:
    """Settings of an ensemble whose members are still to be trained."""
    places = {"store": str(made / "store"), "labels": str(made / "labels.csv"), "train": PRISM, "runs": []}
    return settings(made, folder, **places | changes)


@pytest.fixture(scope="module")
def team(made: Path) -> Built:
    return build(settings(made, made))


def test_an_ensemble_keeps_all_that_it_was_made_by(made: Path, team: Built):
    folder = Path(team.folder)
    assert {path.name for path in folder.iterdir()} == {
        "settings.json",
        "domain.safetensors",
        "validation.parquet",
        "metrics.parquet",
        "diversity.parquet",
        "ensemble.json",
    }
    assert team.made
    assert [member["path"] for member in team.about["members"]] == [str(made / name) for name in RUNS]
    assert team.about["store"] == {"path": str(made / "store"), "id": "toy-0", "prepare": {}}
    assert team.about["calibrated"]
    assert str(folder) not in (folder / ENSEMBLE).read_text()


def test_validation_spectra_stand_beside_the_truth_with_all_that_is_said(made: Path, team: Built):
    ensemble, table = open_ensemble(team.folder), pq.read_table(Path(team.folder) / "validation.parquet")
    store = open_store(str(made / "store"))
    some = split.own(ensemble.members, store, "validation")
    told, latents = ensemble.members.ask_store(store.path, some.place_N2, "again")
    said = ensemble.concluded(told, latents, some.about["snr"].to_numpy())
    assert table.num_rows == len(some) == team.about["validation"]["spectra"] > 60
    for name, array in said.columns().items():
        assert np.array_equal(table[name].to_numpy(), array), name
    assert np.array_equal(table["true_class"].to_numpy(), some.class_N)
    assert np.allclose(table["true_FeH"].to_numpy(), some.label_NL[:, 0])
    assert {"star", "snr", "snr_g", "visit", "p_mp_raw", "FeH_err_raw"} <= set(table.column_names)


def test_calibrated_errors_hold_on_validation(team: Built):
    rows = {
        (row["who"], row["subject"], row["metric"]): row["value"]
        for row in team.metrics.to_pylist()
        if row["kind"] == "all"
    }
    for name in ("FeH", "CFe"):
        assert rows["ensemble", name, "coverage_68"] == pytest.approx(0.683, abs=0.02)
        assert rows["ensemble", name, "coverage_interval"] == pytest.approx(0.95, abs=0.02)
        inside = (team.judged.low_NL <= team.judged.label_NL) & (team.judged.label_NL <= team.judged.high_NL)
        assert inside[:, team.judged.labels.index(name)].mean() == pytest.approx(0.95, abs=0.02)
    assert {who for who, _, _ in rows} == {*RUNS, "before calibration", "ensemble"}
    assert team.raw.sigma("FeH") is not None
    assert not np.allclose(team.raw.sigma("FeH"), team.judged.sigma("FeH"))


def test_a_second_run_does_nothing(made: Path, team: Built):
    before = {path: path.stat().st_mtime_ns for path in Path(team.folder).iterdir()}
    again = build(settings(made, made))
    assert not again.made
    assert {path: path.stat().st_mtime_ns for path in Path(team.folder).iterdir()} == before
    assert again.metrics.equals(team.metrics)
    assert np.array_equal(again.judged.p_NC, team.judged.p_NC)


def test_other_settings_on_a_finished_ensemble_are_refused(made: Path, team: Built):
    with pytest.raises(
        SettingsError,
        match=r"team: was made with other settings: how=mean there, vote now; give these again, or another ensemble=",
    ):
        build(settings(made, made, how="vote"))


def test_an_ensemble_that_was_cut_off_is_made_again_also_with_other_settings(
    made: Path, team: Built, tmp_path: Path
):
    shutil.copytree(team.folder, tmp_path / "team")
    (tmp_path / "team" / ENSEMBLE).unlink()
    again = build(settings(made, tmp_path, weights="equal", domain=False))
    assert again.made
    assert not again.about["domain"]


def test_a_folder_of_something_else_is_left_alone(made: Path, tmp_path: Path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "thesis.tex").write_text("mine")
    with pytest.raises(
        SettingsError, match=r"team: holds thesis.tex but is no ensemble; give an empty or a new folder"
    ):
        build(settings(made, tmp_path))


@pytest.mark.parametrize("told", ["[]", "{}", '{"settings": {"input": "x"}}'])
def test_settings_of_something_else_are_left_alone(made: Path, tmp_path: Path, told: str):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "settings.json").write_text(told)
    with pytest.raises(
        SettingsError, match=r"team: holds settings.json but is no ensemble; give an empty or a new folder"
    ):
        build(settings(made, tmp_path))
    assert (tmp_path / "team" / "settings.json").read_text() == told


def test_the_folder_of_a_run_is_left_alone_though_it_has_settings_too(made: Path, tmp_path: Path):
    run = Path(shutil.copytree(made / "both", tmp_path / "team"))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(
        SettingsError, match=r"team: holds checkpoints, .* but is no ensemble; give an empty or a new folder"
    ):
        build(settings(made, tmp_path))
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_member_that_is_called_ensemble_is_told_from_the_ensemble(made: Path, tmp_path: Path):
    runs = [str(shutil.copytree(made / "both", tmp_path / "ensemble")), str(made / "sure")]
    found = build(settings(made, tmp_path, runs=runs))
    names = [f"{tmp_path.name}/ensemble", f"{made.name}/sure"]
    assert [member["name"] for member in found.about["members"]] == names
    assert list(dict.fromkeys(found.metrics["who"].to_pylist())) == [*names, "before calibration", "ensemble"]


def test_weights_may_be_given_and_are_made_to_sum_to_one(made: Path, tmp_path: Path):
    about = build(settings(made, tmp_path, weights=[1, 3, 4])).about
    assert about["weights"] == {
        "how": "mean",
        "classes": [0.125, 0.375, 0.5],
        "labels": [[0.25, 0.75, 0.0], [0.25, 0.75, 0.0]],
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"weights": [1, 2]},
            r"^ensemble: weights: 2 numbers for 3 members; give one for each, in their order$",
        ),
        (
            {"weights": [1, -1, 2]},
            r"weights: \[1, -1, 2\]: neither validation nor equal nor numbers of 0 or more",
        ),
        ({"weights": [0, 0, 0]}, r"weights: \[0, 0, 0\]: no weight is above 0"),
        ({"weights": "best"}, r"weights: 'best': neither validation nor equal"),
        ({"metric": "f1"}, r"metric: 'f1': should be 'log_loss'"),
        (
            {"runs": [], "members": []},
            r"runs, members: there are none; give runs=\[...\] of finished runs, or members=",
        ),
        ({"coverage": 1.0}, r"coverage: 1.0"),
    ],
)
def test_a_mistake_in_the_settings_is_told(made: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    with pytest.raises(SettingsError, match=told):
        settings(made, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"passes": 1}, "passes=1: one pass has no scatter"),
        (
            {"metric": "f1_cemp", "how": "vote", "runs": ["nowhere"]},
            r"nowhere: no run.json in it, so no finished run",
        ),
        ({"store": "nowhere"}, r"nowhere: no store.json in it"),
        ({"store": "nowhere", "weights": [0, 0, 1]}, r"weights: all members that give FeH have the weight 0"),
        (
            {"store": "nowhere", "runs": ["{made}/both", "{made}/both/"]},
            r"runs: .*both is given twice; give each run once",
        ),
    ],
)
def test_a_mistake_in_what_is_there_is_told(made: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    runs = [run.format(made=made) for run in changes.get("runs", [str(made / name) for name in RUNS])]
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        build(settings(made, tmp_path, **changes | {"runs": runs}))
    assert not (tmp_path / "team" / ENSEMBLE).exists()


def test_without_common_validation_nothing_is_fitted(made: Path, tmp_path: Path):
    other = teams.train(made, "elsewhere", split={"parts": [0.93, 0.05, 0.02], "seed": 3}, epochs=1)
    runs = [str(made / "both"), other]
    told = r"\d+ spectra are in the validation part of a member and in the train part of none; weights and calibration need 20; .* calibrate=false"
    with pytest.raises(SettingsError, match=told):
        build(settings(made, tmp_path, runs=runs))
    plain = build(settings(made, tmp_path, runs=runs, calibrate=False, weights="equal"))
    assert plain.about["weights"]["classes"] == [0.5, 0.5]
    assert plain.about["calibration"]["temperature"] == 1.0


def test_on_another_store_nothing_was_learned(made: Path, tmp_path: Path):
    lessons.store(tmp_path / "other" / "store", count=40, seed=8)
    plain = {"store": str(tmp_path / "other" / "store"), "calibrate": False, "weights": "equal"}
    with pytest.raises(
        SettingsError,
        match=r"store: is not the store of a member, so that no label of its spectra is known; give labels= too",
    ):
        build(settings(made, tmp_path, store=plain["store"]))
    with pytest.raises(
        SettingsError,
        match=r"no labelled spectrum in it was trained on, so that none shows what is far from them",
    ):
        build(settings(made, tmp_path, **plain))
    found = build(settings(made, tmp_path, **plain, domain=False))
    assert (found.metrics, found.diversity, found.judged) == (None, None, None)
    assert found.about["validation"] == {"spectra": 0, "stars": 0}


def test_members_that_know_spectra_of_another_preparation_are_refused(made: Path, tmp_path: Path):
    for name, kind in (("both", "msfl"), ("sure", "spline")):
        shutil.copytree(made / name, tmp_path / name)
        about = json.loads((tmp_path / name / "run.json").read_text())
        about["store"]["prepare"] = {"continuum": kind}
        (tmp_path / name / "run.json").write_text(json.dumps(about))
    shutil.copytree(made / "store", tmp_path / "store")
    store = json.loads((tmp_path / "store" / "store.json").read_text())
    (tmp_path / "store" / "store.json").write_text(
        json.dumps(store | {"settings": {"prepare": {"continuum": "msfl"}}})
    )
    told = r"prepared otherwise than those that .*sure has learned from: continuum is msfl, not spline; give runs that were trained on"
    with pytest.raises(SettingsError, match=told):
        build(
            settings(
                tmp_path,
                tmp_path,
                runs=[str(tmp_path / name) for name in ("both", "sure")],
                store=str(tmp_path / "store"),
            )
        )


def test_labels_of_another_table_may_validate(made: Path, tmp_path: Path):
    lines = (made / "labels.csv").read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join([lines[0], *lines[1:201]]))
    found = build(settings(made, tmp_path, labels=str(tmp_path / "other.csv")))
    wanted = split.own(open_ensemble(found.folder).members, open_store(str(made / "store")), "validation")
    obsids = set(wanted.about["obsid"].to_pylist())
    table = pq.read_table(Path(found.folder) / "validation.parquet")
    assert set(table["obsid"].to_pylist()) == {obsid for obsid in obsids if obsid < 1200}


def test_a_deep_ensemble_is_trained_in_one_go_and_its_runs_are_used_again(made: Path, tmp_path: Path):
    asked: list[str] = []

    def train(one: Train) -> None:
        asked.append(one.run.rpartition("/")[2])
        building.alone(one)

    members = [{}, {"model": "bganet", "name": "bands", "options": {"wide": 8, "narrow": 4}}]
    both = trained(made, tmp_path, members=members, seeds=2, passes=3)
    first = build(both, train)
    names = ["prism-2024", "prism-2025", "bands-2024", "bands-2025"]
    assert asked == names
    assert [member["path"] for member in first.about["members"]] == [f"./runs/{name}" for name in names]
    assert not build(both, train).made
    assert asked == names
    with pytest.raises(
        SettingsError,
        match=r"other settings: runs=prism-2024, prism-2025, .* there, prism-2024, bands-2024 now",
    ):
        build(both.model_copy(update={"seeds": 1}), train)
    shutil.move(tmp_path / "team", tmp_path / "moved")
    ensemble = open_ensemble(str(tmp_path / "moved"))
    assert ensemble.names == tuple(names)
    assert (ensemble.about["passes"], ensemble.members.runs[2].about["model"]) == (3, "bganet")


def test_what_is_wrong_with_one_member_is_told_before_any_is_trained(made: Path, tmp_path: Path):
    def never(one: Train) -> None:
        raise AssertionError(one.run)

    for changes, told in (
        ({"members": [{}, {"monitor": "f1_CEPM", "name": "b"}]}, "monitor=f1_CEPM: there is no such metric"),
        ({"members": [{}, {"model": "prims"}]}, r"no .*prims"),
        (
            {"members": [{}, {"epocs": 3, "name": "b"}]},
            r"ensemble: train: epocs: unknown setting \(value 3\); did you mean epochs\?",
        ),
        ({"members": [{"options": {"dropout": 0.0}}], "passes": 4}, "no member has a layer with dropout"),
        (
            {"members": [{}, {}]},
            r"members: two are called prism-2024; give each of them a name, such as \{model: prism, name: wide\}",
        ),
        ({"store": None}, r"store: not given, but needed to train members; give store=..., or runs=\[...\]"),
    ):
        with pytest.raises(ValueError, match=told):
            build(trained(made, tmp_path / str(len(told)), **changes), never)


def test_a_member_with_another_network_has_its_own_options(made: Path, tmp_path: Path):
    found = trainings(
        trained(
            made, tmp_path, members=[{"model": "bganet"}, {"epochs": 4, "options": {"hidden": 8}}], seeds=1
        )
    )
    assert [(one.model, one.options, one.epochs) for one in found] == [
        ("bganet", {}, 2),
        ("prism", {"components": 8, "hidden": 8}, 4),
    ]


@pytest.mark.parametrize("name", ["../../both", "a/b", "", "..", [1]])
def test_a_name_that_is_no_folder_in_that_of_the_ensemble_is_refused(made: Path, tmp_path: Path, name: Any):
    with pytest.raises(
        SettingsError, match=r"members: name: .* is no name of a folder; give letters and digits"
    ):
        trainings(trained(made, tmp_path, members=[{"name": name}]))


def test_options_stay_where_a_member_names_the_usual_network(made: Path, tmp_path: Path):
    train = {"options": {"kernel": 5}}
    plain, named, other = trainings(
        trained(
            made,
            tmp_path,
            train=train,
            members=[{}, {"model": "echelle", "name": "named"}, {"model": "prism"}],
        )
    )
    assert plain.options == named.options == {"kernel": 5}
    assert other.options == {}


def test_the_recipe_of_the_search_trains_its_own_members():
    recipe = str(Path(__file__).resolve().parents[2] / "recipes" / "cemp.yaml")
    found = trainings(
        load(Build, "ensemble", [recipe, "ensemble=x", "store=y", "labels=z", "train.epochs=7", "seeds=2"])
    )
    assert [one.run for one in found[:3]] == [
        "x/runs/echelle-2024",
        "x/runs/echelle-2025",
        "x/runs/prism-2024",
    ]
    assert [one.epochs for one in found[::2]] == [7, 30, 80]
    assert {one.ema for one in found} == {0.995}
    assert not trainings(load(Build, "ensemble", [recipe, "ensemble=x", "runs=[a, b]"]))


def test_the_fingerprint_goes_by_what_the_members_are_trained_with(made: Path, tmp_path: Path):
    one = trained(made, tmp_path)
    assert one.fingerprint() == trained(made, tmp_path / "elsewhere").fingerprint()
    assert (
        one.fingerprint()
        == trained(made, tmp_path, train=PRISM | {"tracking": {"use": "auto"}}).fingerprint()
    )
    assert one.fingerprint() != trained(made, tmp_path, train=PRISM | {"epochs": 3}).fingerprint()
    assert settings(made, tmp_path).fingerprint() == settings(made, tmp_path, train=PRISM).fingerprint()


def test_an_ensemble_says_the_same_after_it_was_killed_in_the_middle(
    made: Path, team: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[str] = []
    write = building.files.write

    def dying(path: str, data: bytes | memoryview) -> None:
        if path.startswith(str(tmp_path)) and len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(building.files, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        build(settings(made, tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "team" / ENSEMBLE).exists()
    build(settings(made, tmp_path))
    for path in Path(team.folder).iterdir():
        assert (tmp_path / "team" / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads((tmp_path / "team" / ENSEMBLE).read_text())["id"] == team.about["id"]
