"""An ensemble from finished runs, and from runs that are trained for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from survey import files
from survey.answers import UNCALIBRATED
from survey.arguments import load
from survey.claim import CLAIM
from survey.ensemble import build as building
from survey.ensemble import fit_data, holdout
from survey.ensemble.build import BuiltEnsemble, build
from survey.ensemble.calibration import fit_calibration
from survey.ensemble.combine import combine
from survey.ensemble.criterion import criterion_of
from survey.ensemble.ensemble import ENSEMBLE, open_ensemble
from survey.ensemble.members import Members
from survey.ensemble.settings import Build, trainings
from survey.ensemble.weights import fit_label_weights
from survey.folder import SETTINGS
from survey.labelling import samples
from survey.labels import CLASSES
from survey.metrics.star_visits import star_numbers
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.batches import Spectra
from survey.training.settings import Train
from tests.ensemble import small_runs
from tests.finished import change_document
from tests.training import lessons

RUNS = ("both", "sure", "classes")
PRISM = {
    "model": "prism",
    "options": {"components": 8, "hidden": 16},
    "targets": ["FeH", "CFe"],
    "epochs": 2,
    "batch": 16,
    "optimiser": {"lr": 3e-3},
    "split": small_runs.SPLIT,
    "tracking": {"use": "never"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("build"), *RUNS)


def settings(folder: Path, place: Path, **changes: Any) -> Build:
    values = {
        "ensemble": str(place / "team"),
        "runs": [str(folder / name) for name in RUNS],
        "threads": 1,
        "gpu": "never",
    }
    return Build.from_dict("ensemble", values | changes)


def training_settings(folder: Path, place: Path, **changes: Any) -> Build:
    """Settings of an ensemble with members to train."""
    paths = {"store": str(folder / "store"), "labels": str(folder / "labels.csv"), "train": PRISM, "runs": []}
    return settings(folder, place, **paths | changes)


@pytest.fixture(scope="module")
def team(folder: Path) -> BuiltEnsemble:
    return build(settings(folder, folder))


def test_an_ensemble_writes_its_files_and_its_document(folder: Path, team: BuiltEnsemble) -> None:
    ensemble = Path(team.folder)
    assert {path.name for path in ensemble.iterdir()} == {
        "settings.json",
        "domain.safetensors",
        "validation.parquet",
        "metrics.parquet",
        "diversity.parquet",
        "ensemble.json",
    }
    assert team.is_new
    assert [member.path for member in team.document.members] == [str(folder / name) for name in RUNS]
    assert (team.document.store.path, team.document.store.id) == (str(folder / "store"), "toy-0")
    assert team.document.calibrated
    assert str(ensemble) not in (ensemble / ENSEMBLE.file).read_text()


def test_the_validation_table_has_the_answers_and_the_truth(folder: Path, team: BuiltEnsemble) -> None:
    ensemble, table = open_ensemble(team.folder), pq.read_table(Path(team.folder) / "validation.parquet")
    store = open_store(str(folder / "store"))
    samples = holdout.part_samples(ensemble.members, store, "validation")
    members, latents = ensemble.members.predict_store(store.path, samples.shard_row_N2, "again")
    result = ensemble.conclude(members, latents, samples.extra["snr"].to_numpy())
    assert table.num_rows == len(samples) == team.document.validation.spectra > 60
    columns = result.answers.to_columns() | result.uncalibrated.to_columns(UNCALIBRATED)
    for name, array in columns.items():
        assert np.array_equal(table[name].to_numpy(), array, equal_nan=array.dtype.kind == "f"), name
    assert np.array_equal(table["true_class"].to_numpy(), samples.class_N)
    assert np.allclose(table["true_FeH"].to_numpy(), samples.label_NL[:, 0])
    assert {"star", "snr", "snr_g", "visit", "p_mp_raw", "FeH_err_raw"} <= set(table.column_names)
    for name in ("class", "subclass", "tio5", "h_delta", "c2_5165"):
        shard, row = samples.shard_row_N2[-1]
        assert table[name][-1] == store.spectra(int(shard), [name])[name][int(row)], name


def test_each_class_of_the_training_spectra_is_a_reference_of_the_domain(team: BuiltEnsemble) -> None:
    domain = open_ensemble(team.folder).domain
    assert domain is not None
    assert [len(member.centre_GK) for member in domain.members] == [len(CLASSES)] * len(RUNS)
    assert len(domain.usual_G) == len(CLASSES)


@pytest.mark.parametrize("kind", ["noise", "emission lines", "molecular bands"])
def test_a_spectrum_that_is_no_star_of_the_training_is_outside_of_each_class(
    team: BuiltEnsemble, kind: str
) -> None:
    ensemble, random = open_ensemble(team.folder), np.random.default_rng(0)
    pixel_P, points = np.arange(len(ensemble.grid)), len(ensemble.grid)
    line_B1 = random.uniform(0, points, (50, 1))
    flux_BP = {
        "noise": random.normal(1, 1, (50, points)),
        "emission lines": 1 + 4 * np.exp(-0.5 * ((pixel_P - line_B1) / (points / 15)) ** 2),
        "molecular bands": np.where(pixel_P // (points // 8) % 2, 0.3, 1)
        + random.normal(0, 0.02, (50, points)),
    }[kind]
    flux = torch.from_numpy(flux_BP.astype(np.float32))
    answers = ensemble.predict(Spectra(flux, torch.full_like(flux, 100.0)), np.full(50, 50.0)).answers
    assert answers.domain_N is not None
    assert (answers.domain_N > 2).all()


def test_the_definition_of_cemp_is_that_of_the_members(folder: Path) -> None:
    members = open_ensemble(str(folder / RUNS[0])).members
    assert criterion_of(members.runs) == "carbon_0.7"
    values = members.runs[0].document.settings | {"join": {"criterion": "aoki2007"}}
    document = members.runs[0].document.model_copy(update={"settings": values})
    run = replace(members.runs[0], document=document)
    assert criterion_of([run]) == "aoki2007"


def test_calibrated_errors_hold_on_validation(team: BuiltEnsemble) -> None:
    assert team.metrics is not None
    calibrated: Any = team.calibrated
    uncalibrated: Any = team.uncalibrated
    rows = {
        (row["who"], row["subject"], row["metric"]): row["value"]
        for row in team.metrics.to_pylist()
        if row["kind"] == "all"
    }
    answers = calibrated.answers
    inside = (answers.low_NL <= calibrated.label_NL) & (calibrated.label_NL <= answers.high_NL)
    for number, name in enumerate(("FeH", "CFe")):
        assert rows["ensemble", name, "coverage_68"] == pytest.approx(0.683, abs=0.02)
        assert rows["ensemble", name, "coverage_interval"] == pytest.approx(0.95, abs=0.02)
        assert inside[:, number].mean() == pytest.approx(0.95, abs=0.02)
    assert {who for who, _, _ in rows} == {*RUNS, "before calibration", "ensemble"}
    assert not np.allclose(uncalibrated.error("FeH"), calibrated.error("FeH"))


def test_a_second_run_does_nothing(folder: Path, team: BuiltEnsemble) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(team.folder).iterdir()}
    again = build(settings(folder, folder))
    assert not again.is_new
    assert {path: path.stat().st_mtime_ns for path in Path(team.folder).iterdir()} == before
    assert again.metrics is not None
    assert again.metrics.equals(team.metrics)
    first: Any = team.calibrated
    second: Any = again.calibrated
    assert np.array_equal(second.p_NC, first.p_NC)


def test_other_settings_for_a_finished_ensemble_are_an_error(folder: Path, team: BuiltEnsemble) -> None:
    message = r"team: was made with other settings: combine=mean there, vote now; give the same"
    with pytest.raises(SettingsError, match=message):
        build(settings(folder, folder, combine="vote"))


def test_an_unfinished_ensemble_may_be_built_with_other_settings(
    folder: Path, team: BuiltEnsemble, tmp_path: Path
) -> None:
    shutil.copytree(team.folder, tmp_path / "team")
    (tmp_path / "team" / ENSEMBLE.file).unlink()
    again = build(settings(folder, tmp_path, weights="equal", domain=False))
    assert again.is_new
    assert not again.document.domain


def test_a_folder_with_other_files_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "thesis.tex").write_text("text")
    with pytest.raises(
        SettingsError, match=r"team: holds thesis.tex but is no ensemble; give an empty or a new folder"
    ):
        build(settings(folder, tmp_path))


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": {"input": "x"}}'])
def test_settings_of_another_kind_of_folder_are_an_error(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "settings.json").write_text(content)
    with pytest.raises(SettingsError, match=r"team: .*(give an empty or a new folder|in a new folder)"):
        build(settings(folder, tmp_path))
    assert (tmp_path / "team" / "settings.json").read_text() == content


def test_the_folder_of_a_run_is_an_error_though_it_has_settings(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "both", tmp_path / "team"))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(SettingsError, match=r"team: is the folder of another job \(run, not ensemble\)"):
        build(settings(folder, tmp_path))
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_member_with_the_name_ensemble_gets_a_longer_name(folder: Path, tmp_path: Path) -> None:
    runs = [str(shutil.copytree(folder / "both", tmp_path / "ensemble")), str(folder / "sure")]
    built = build(settings(folder, tmp_path, runs=runs))
    names = [f"{tmp_path.name}/ensemble", f"{folder.name}/sure"]
    assert list(built.document.names) == names
    assert built.metrics is not None
    who = list(dict.fromkeys(built.metrics["who"].to_pylist()))
    assert who == [*names, "before calibration", "ensemble"]


def test_weights_of_the_user_are_divided_by_their_sum(folder: Path, tmp_path: Path) -> None:
    weights = build(settings(folder, tmp_path, weights=[1, 3, 4])).document.weights
    assert weights.to_dict() == {
        "combine": "mean",
        "classes": [0.125, 0.375, 0.5],
        "labels": [[0.25, 0.75, 0.0], [0.25, 0.75, 0.0]],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"weights": [1, 2]},
            r"^ensemble: weights: 2 numbers for 3 members; give one per member, in their order$",
        ),
        (
            {"weights": [1, -1, 2]},
            r"weights: \[1, -1, 2\]: is not validation, not equal and no list of numbers of 0 or more",
        ),
        ({"weights": [0, 0, 0]}, r"weights: \[0, 0, 0\]: no weight is above 0"),
        ({"weights": "best"}, r"weights: 'best': is not validation, not equal"),
        ({"metric": "f1"}, r"metric: 'f1': should be 'log_loss'"),
        (
            {"runs": [], "members": []},
            r"runs, members: both are empty; give runs=\[...\] of finished runs, or members=",
        ),
        ({"coverage": 1.0}, r"coverage: 1.0"),
        (
            {"seeds": 5},
            r"seeds: is for members that are trained, but runs= gives finished ones; leave out seeds=",
        ),
        ({"members": [{"model": "prism"}]}, r"members: is for members that are trained, but runs= gives"),
    ],
)
def test_a_wrong_setting_is_an_error(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(folder, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 1}, "passes=1: one pass has no scatter"),
        (
            {"metric": "f1_cemp", "combine": "vote", "runs": ["nowhere"]},
            r"nowhere: no such folder, so no finished run; give the folder of one",
        ),
        ({"store": "nowhere"}, r"nowhere: no such folder, so no finished store; give the folder of one"),
        ({"store": "nowhere", "weights": [0, 0, 1]}, r"weights: all members that give FeH have the weight 0"),
        (
            {"store": "nowhere", "runs": ["{folder}/both", "{folder}/both/"]},
            r"runs: .*both is given twice; give each run once",
        ),
    ],
)
def test_a_wrong_file_or_folder_is_an_error(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    runs = [run.format(folder=folder) for run in changes.get("runs", [str(folder / name) for name in RUNS])]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(settings(folder, tmp_path, **changes | {"runs": runs}))
    assert not (tmp_path / "team" / ENSEMBLE.file).exists()


def test_without_common_validation_stars_nothing_can_be_fitted(folder: Path, tmp_path: Path) -> None:
    other = small_runs.train(folder, "elsewhere", split={"parts": [0.93, 0.05, 0.02], "seed": 3}, epochs=1)
    runs = [str(folder / "both"), other]
    message = r"\d+ stars are in the validation part .* weights and calibration need 20; .* calibrate=false"
    with pytest.raises(SettingsError, match=message):
        build(settings(folder, tmp_path, runs=runs))
    plain = build(settings(folder, tmp_path, runs=runs, calibrate=False, weights="equal"))
    assert plain.document.weights.class_M.tolist() == [0.5, 0.5]
    assert plain.document.calibration.temperature == 1.0


def test_a_store_of_no_member_has_no_labels_and_no_training_spectra(folder: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "other" / "store", count=40, seed=8)
    plain = {"store": str(tmp_path / "other" / "store"), "calibrate": False, "weights": "equal"}
    with pytest.raises(
        SettingsError,
        match=r"store: is not the store of a member, so the labels of its spectra are unknown; give "
        r"labels= too",
    ):
        build(settings(folder, tmp_path, store=plain["store"]))
    with pytest.raises(
        SettingsError,
        match=r"no member was trained on a labelled spectrum in it, so the distance .* is unknown",
    ):
        build(settings(folder, tmp_path, **plain))
    built = build(settings(folder, tmp_path, **plain, domain=False))
    assert (built.metrics, built.diversity, built.calibrated) == (None, None, None)
    assert (built.document.validation.spectra, built.document.validation.stars) == (0, 0)


def test_members_with_differently_prepared_spectra_are_an_error(folder: Path, tmp_path: Path) -> None:
    for name, kind in (("both", "msfl"), ("sure", "spline")):
        shutil.copytree(folder / name, tmp_path / name)
        small_runs.change_preparation(tmp_path / name / "run.json", continuum=kind)
    shutil.copytree(folder / "store", tmp_path / "store")
    small_runs.change_preparation(tmp_path / "store" / "store.json", continuum="msfl")
    runs = [str(tmp_path / name) for name in ("both", "sure")]
    message = r"not prepared like those that .*sure was trained on: continuum is msfl, not spline; give runs"
    with pytest.raises(SettingsError, match=message):
        build(settings(tmp_path, tmp_path, runs=runs, store=str(tmp_path / "store")))


def test_labels_of_another_table_are_used_for_validation(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "labels.csv").read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join([lines[0], *lines[1:201]]))
    built = build(settings(folder, tmp_path, labels=str(tmp_path / "other.csv")))
    members = open_ensemble(built.folder).members
    validation = holdout.part_samples(members, open_store(str(folder / "store")), "validation")
    obsids = set(validation.extra["obsid"].to_pylist())
    table = pq.read_table(Path(built.folder) / "validation.parquet")
    assert set(table["obsid"].to_pylist()) == {obsid for obsid in obsids if obsid < 1200}


def test_labels_beyond_the_ranges_that_were_learned_decide_neither_weights_nor_errors(
    folder: Path, tmp_path: Path
) -> None:
    ranges = {"FeH": [-2.0, 0.0]}
    for name in ("both", "sure"):
        shutil.copytree(folder / name, tmp_path / name)
        change_document(tmp_path / name / "run.json", lambda run: run["settings"].update(label_ranges=ranges))
    runs = [str(tmp_path / name) for name in ("both", "sure")]
    built = build(settings(folder, tmp_path, runs=runs, domain=False))
    members, store = open_ensemble(built.folder).members, open_store(str(folder / "store"))
    validation = holdout.part_samples(members, store, "validation")
    answers, _ = members.predict_store(store.path, validation.shard_row_N2, "again")
    stars, feh_N = star_numbers(validation.extra["star"]), validation.label_NL[:, 0]
    clipped_NL, inside_NL = validation.label_NL.copy(), validation.label_NL.copy()
    clipped_NL[:, 0] = np.clip(feh_N, -2, 0)
    inside_NL[(feh_N < -2) | (feh_N > 0), 0] = np.nan
    weights = built.document.weights
    assert np.array_equal(weights.label_ML, fit_label_weights(answers, clipped_NL, stars))
    truth, snr_N = (validation.class_N, inside_NL), validation.extra["snr"].to_numpy()
    expected = fit_calibration(combine(answers, weights), *truth, snr_N, star_N=stars)
    assert built.document.calibration.errors == expected.errors


def test_other_kinds_are_not_learned_from_stars_that_validate_or_test(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every spectrum of the store is of another kind by its type."""
    all_N2 = samples.read(str(folder / "both")).shard_row_N2
    learned: list[list[int]] = []
    predict = Members.predict_store

    def noted(self: Members, store: str, place_N2: Any, title: str, **how: Any) -> Any:
        if title == "predict other kinds":
            learned.extend(place_N2.tolist())
        return predict(self, store, place_N2, title, **how)

    monkeypatch.setattr(fit_data, "unlabelled_others", lambda *_: all_N2)
    monkeypatch.setattr(Members, "predict_store", noted)
    build(settings(folder, tmp_path, domain=False))
    assert learned == samples.read(str(folder / "both")).part("train").shard_row_N2.tolist()


def test_members_are_trained_once_and_used_again(folder: Path, tmp_path: Path) -> None:
    trained: list[str] = []

    def train(training: Train) -> None:
        trained.append(training.run.rpartition("/")[2])
        building.run_locally(training)

    members = [{}, {"model": "bganet", "name": "bands", "options": {"wide": 8, "narrow": 4}}]
    train_once = PRISM | {"epochs": 1}
    both = training_settings(folder, tmp_path, train=train_once, members=members, seeds=2, passes=3)
    first = build(both, train)
    names = ["prism-2024", "prism-2025", "bands-2024", "bands-2025"]
    assert trained == names
    assert [member.path for member in first.document.members] == [f"./runs/{name}" for name in names]
    assert not build(both, train).is_new
    assert trained == names
    with pytest.raises(
        SettingsError,
        match=r"other settings: runs=prism-2024, prism-2025, .* there, prism-2024, bands-2024 now",
    ):
        build(both.model_copy(update={"seeds": 1}), train)
    shutil.move(tmp_path / "team", tmp_path / "moved")
    ensemble = open_ensemble(str(tmp_path / "moved"))
    assert ensemble.names == tuple(names)
    assert (ensemble.document.passes, ensemble.members.runs[2].document.model) == (3, "bganet")


def test_a_wrong_member_is_an_error_before_any_is_trained(folder: Path, tmp_path: Path) -> None:
    def never(training: Train) -> None:
        raise AssertionError(training.run)

    for changes, message in (
        ({"members": [{}, {"monitor": "f1_CEPM", "name": "b"}]}, "monitor=f1_CEPM: there is no such metric"),
        ({"members": [{}, {"model": "prims"}]}, "model: 'prims': there is no such model"),
        (
            {"members": [{}, {"epocs": 3, "name": "b"}]},
            r"ensemble: train: epocs: unknown setting \(value 3\); did you mean epochs\?",
        ),
        ({"members": [{"options": {"dropout": 0.0}}], "passes": 4}, "no member has a layer with dropout"),
        (
            {"members": [{}, {}]},
            r"members: two have the name prism-2024; give each a name, such as \{model: prism, name: wide\}",
        ),
        ({"store": None}, r"store: not given, but needed to train members; give store=..., or runs=\[...\]"),
    ):
        with pytest.raises(ValueError, match=message):
            build(training_settings(folder, tmp_path / str(len(message)), **changes), never)


def test_a_member_with_another_network_has_its_own_options(folder: Path, tmp_path: Path) -> None:
    found = trainings(
        training_settings(
            folder, tmp_path, members=[{"model": "bganet"}, {"epochs": 4, "options": {"hidden": 8}}], seeds=1
        )
    )
    assert [(one.model, one.options, one.epochs) for one in found] == [
        ("bganet", {}, 2),
        ("prism", {"components": 8, "hidden": 8}, 4),
    ]


@pytest.mark.parametrize("name", ["../../both", "a/b", "", "..", [1]])
def test_a_name_that_cannot_be_a_folder_is_an_error(folder: Path, tmp_path: Path, name: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"members: name: .* cannot be the name of a folder; give letters and digits"
    ):
        trainings(training_settings(folder, tmp_path, members=[{"name": name}]))


def test_options_stay_where_a_member_has_the_network_of_the_recipe(folder: Path, tmp_path: Path) -> None:
    train = {"options": {"kernel": 5}}
    plain, named, other = trainings(
        training_settings(
            folder,
            tmp_path,
            train=train,
            members=[{}, {"model": "echelle", "name": "named"}, {"model": "prism"}],
        )
    )
    assert plain.options == named.options == {"kernel": 5}
    assert other.options == {}


def test_the_recipe_of_the_search_trains_its_own_members() -> None:
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


def test_the_fingerprint_follows_from_the_training_settings(folder: Path, tmp_path: Path) -> None:
    one = training_settings(folder, tmp_path)
    assert one.fingerprint() == training_settings(folder, tmp_path / "elsewhere").fingerprint()
    assert (
        one.fingerprint()
        == training_settings(folder, tmp_path, train=PRISM | {"tracking": {"use": "auto"}}).fingerprint()
    )
    assert one.fingerprint() != training_settings(folder, tmp_path, train=PRISM | {"epochs": 3}).fingerprint()
    assert settings(folder, tmp_path).fingerprint() == settings(folder, tmp_path, train=PRISM).fingerprint()


def test_an_interrupted_ensemble_ends_with_the_same_files(
    folder: Path, team: BuiltEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = files.write

    def interrupted(path: str, data: bytes | memoryview, durable: bool = False) -> None:
        if not path.endswith(CLAIM):  # that is renewed in a thread of its own
            if path.startswith(str(tmp_path)) and len(written) == 2:
                raise KeyboardInterrupt
            written.append(path)
        write(path, data, durable)

    monkeypatch.setattr(files, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(settings(folder, tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "team" / ENSEMBLE.file).exists()
    build(settings(folder, tmp_path))
    for path in Path(team.folder).iterdir():
        if path.name != SETTINGS:  # it holds the time of the beginning
            assert (tmp_path / "team" / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads((tmp_path / "team" / ENSEMBLE.file).read_text())["id"] == team.document.id
