"""A search on toy stars from its settings to its results, in this process; stopped, copied, extended, misused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey import files
from survey.search import schedule, tune
from survey.search.schedule import Search, here
from survey.search.settings import Tune
from survey.settings import JobError, SettingsError, load
from survey.training import run as bundle
from survey.training.train import Train
from tests.search import sweeps
from tests.search.sweeps import pretended, wanted


def score(train: Train) -> float:
    """What pretended trainings reach: better with dropout, worse for large batches, each seed a little otherwise."""
    dropout = float(train.options.get("dropout", 0.1))
    return 0.5 - 0.3 * dropout + 0.001 * train.batch + 0.001 * (train.seed % 7)


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trainings that only pretend from now on."""

    def begin(wish: Callable[[Train], float] = score) -> None:
        monkeypatch.setattr(schedule, "work", pretended(wish))

    begin()
    return begin


@pytest.fixture(scope="module")
def searched(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tune, tune.Outcome]:
    """A real search: for two elements, with other seeds and a retrained winner."""
    folder = tmp_path_factory.mktemp("searched")
    settings = wanted(toys, folder, elements=["C_FE", "FE"], trials=3, seeds=2, retrain=True, name="toy")
    return settings, tune.tune(settings)


def test_a_search_ends_with_the_best_two_of_each_element(searched: tuple[Tune, tune.Outcome]):
    settings, outcome = searched
    study = Path(settings.study)
    assert outcome.made
    assert [one.finished for one in outcome.standings] == [3, 3]
    told = json.loads((study / "study.json").read_text())["found"]
    assert told == json.loads(json.dumps(outcome.found))
    for name, label in (("C_FE", "CFe"), ("FE", "FeH")):
        found = told[name]
        assert found["metrics"] == [f"mae_{label}"]
        assert found["study"].endswith(f"-{name}")
        assert {"best", "second", "usual"} <= found.keys()
        for role in ("best", "second", "usual"):
            values = found[role]["repeated"]["values"]
            assert len(values) == 2
            low, high = found[role]["repeated"]["interval"]
            assert low < found[role]["repeated"]["mean"] < high
            runs = [study / "repeats" / name / f"{found[role]['trial']}-{seed}" for seed in (2025, 2026)]
            assert np.allclose(
                [bundle.about_run(str(run))["validation"][f"mae_{label}"] for run in runs], values, rtol=1e-4
            )
        if found["best"]["trial"] == found["usual"]["trial"]:
            assert found["gain"] == {"by": 0.0, "share": 0.0, "interval": None}, (
                "the recipe as it is gains nothing over itself"
            )
        else:
            assert found["gain"]["interval"][0] < found["gain"]["by"] < found["gain"]["interval"][1]
    table = files.read_table(str(study / "trials.parquet")).to_pylist()
    assert [row["trial"] for row in table] == [0, 1, 2, 0, 1, 2]
    assert {"set_optimiser.lr", "set_batch", "state", "reason", "mae_CFe", "mae_FeH", "parameters"} <= table[
        0
    ].keys()


def test_a_winner_lies_over_a_recipe_and_trains_what_was_found(
    searched: tuple[Tune, tune.Outcome], tmp_path: Path
):
    settings, outcome = searched
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(json.dumps({"train": sweeps.TRAIN | {"task": "cls_reg"}}))
    assert [path.rpartition("/")[2] for path in outcome.winners] == [
        "toy-C_FE.yaml",
        "toy-C_FE-second.yaml",
        "toy-FE.yaml",
        "toy-FE-second.yaml",
    ]
    given = [f"store={settings.store}", f"labels={settings.labels}", "run=r", "tracking.use=never"]
    for path, name, role in zip(
        outcome.winners, ("C_FE", "C_FE", "FE", "FE"), ("best", "second") * 2, strict=True
    ):
        made = load(Train, "train", [str(recipe), f"with={path}", *given])
        run = Path(settings.study) / "trials" / name / str(outcome.found[name][role]["trial"])
        told = files.read_json(str(run / bundle.SETTINGS))["settings"]
        lasting = json.loads(json.dumps(made.lasting(), default=str))
        assert lasting == told


def test_weights_are_kept_of_the_best_two_and_histories_of_all(searched: tuple[Tune, tune.Outcome]):
    settings, outcome = searched
    for name, found in outcome.found.items():
        best = {found[role]["trial"] for role in ("best", "second")}
        for number in range(3):
            run = Path(settings.study) / "trials" / name / str(number)
            assert (run / bundle.MODEL).exists() == (number in best)
            assert not list((run / bundle.CHECKPOINTS).glob("*.safetensors"))
            assert (run / bundle.HISTORY).exists() or found["trials"]["pruned"]
        assert bundle.open_run(str(Path(settings.study) / "trials" / name / str(min(best)))).labels


def test_the_winner_is_trained_again_with_the_validation_stars(searched: tuple[Tune, tune.Outcome]):
    settings, outcome = searched
    winner = bundle.about_run(str(Path(settings.study) / "winners" / "FE"))
    trial = bundle.about_run(
        str(Path(settings.study) / "trials" / "FE" / str(outcome.found["FE"]["best"]["trial"]))
    )
    assert winner["settings"]["learn_from"] == "train+validation"
    assert winner["settings"]["epochs"] == trial["best_epoch"]
    assert winner["settings"]["options"] == trial["settings"]["options"]


def test_a_study_that_has_all_its_trials_is_left_alone(searched: tuple[Tune, tune.Outcome]):
    settings, outcome = searched
    before = {
        path: path.stat().st_mtime_ns
        for path in Path(settings.study).rglob("*.*")
        if path.name != "driver.lock"
    }
    again = tune.tune(settings)
    assert not again.made
    assert again.found == outcome.found
    unchanged = {path: path.stat().st_mtime_ns for path in before if path.name != "study.log"}
    assert unchanged == {path: stamp for path, stamp in before.items() if path.name != "study.log"}


def test_showing_a_study_needs_its_folder_only_and_changes_nothing(searched: tuple[Tune, tune.Outcome]):
    settings, _ = searched
    before = {path: path.read_bytes() for path in Path(settings.study).rglob("*") if path.is_file()}
    shown = tune.tune(Tune.checked("tune", {"study": settings.study, "show": True}))
    assert [one.name for one in shown.standings] == ["C_FE", "FE"]
    assert shown.standings[0].best
    assert {path: path.read_bytes() for path in Path(settings.study).rglob("*") if path.is_file()} == before


def test_settings_of_another_study_are_refused_with_what_differs(
    searched: tuple[Tune, tune.Outcome], toys: Path, tmp_path: Path
):
    settings, _ = searched
    (other := tmp_path / "other").mkdir()
    for changes, told in (
        (
            {"train": sweeps.TRAIN | {"epochs": 3}},
            r"is a study of other settings: train.epochs=2 there, 3 now",
        ),
        ({"sampler": "random"}, "sampler=tpe there, random now"),
        (
            {"space": str(sweeps.space(other, {"batch": {"choices": [16, 64]}}))},
            r"tried.space.optimiser.lr.*tried.space.batch.choices",
        ),
    ):
        given = wanted(toys, tmp_path, **({"elements": ["C_FE", "FE"], "trials": 3} | changes))
        with pytest.raises(SettingsError, match=told):
            tune.tune(given.model_copy(update={"study": settings.study}))
    table = tmp_path / "labels.csv"
    table.write_text((toys / "labels.csv").read_text().replace("1000,", "1000000,", 1))
    with pytest.raises(SettingsError, match=r"train.labels=.* there, .* now"):
        tune.tune(settings.model_copy(update={"labels": str(table)}))


def test_a_copied_study_goes_on_elsewhere_with_its_store_and_labels_elsewhere(
    toys: Path, tmp_path: Path, pretending: Callable[..., None]
):
    (there := tmp_path / "there").mkdir()
    settings = wanted(toys, there, trials=3)

    class StoppedError(Exception):
        pass

    def stop(search: Search) -> None:
        first, second = schedule.next(), schedule.next()
        assert first
        assert second
        schedule.ended(first.key, pretended(score)(first.settings, lambda row: None))
        raise StoppedError  # the second is under way

    with pytest.raises(StoppedError):
        tune.tune(settings, stop)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    shutil.copytree(there / "study", elsewhere / "study")
    shutil.copytree(toys, elsewhere / "toys")
    outcome = tune.tune(wanted(elsewhere / "toys", elsewhere, trials=3))
    assert outcome.standings[0].counts["complete"] == 3
    assert outcome.found["FE"]["trials"]["wanted"] == 3


def test_an_element_may_join_later_and_more_trials_too(
    toys: Path, tmp_path: Path, pretending: Callable[..., None]
):
    tune.tune(wanted(toys, tmp_path, elements=["FE"], trials=2))
    tune.tune(wanted(toys, tmp_path, elements=["CFe"], trials=3))
    outcome = tune.tune(wanted(toys, tmp_path, elements=["FE", "CFe"], trials=4))
    assert [one.finished for one in outcome.standings] == [4, 4]
    told = files.read_json(str(tmp_path / "study" / "study.json"))["found"]
    assert set(told) == {"FE", "CFe"}
    assert files.read_table(str(tmp_path / "study" / "trials.parquet")).num_rows == 8


def test_without_elements_the_recipes_own_task_is_searched_by_its_monitor(
    toys: Path, tmp_path: Path, pretending: Callable[..., None]
):
    outcome = tune.tune(
        wanted(
            toys,
            tmp_path,
            elements=[],
            trials=3,
            train=sweeps.TRAIN | {"targets": ["FeH", "CFe"], "monitor": "mae_FeH"},
        )
    )
    found = outcome.found["task"]
    assert found["metrics"] == ["mae_FeH"]
    assert outcome.winners[0].endswith("study-task.yaml")


def test_two_metrics_give_the_ends_of_what_cannot_be_had_together(
    toys: Path, tmp_path: Path, pretending: Callable[..., None]
):
    pretending(lambda train: 1.0 / train.batch)  # large batches are better and, here, have more parameters
    outcome = tune.tune(wanted(toys, tmp_path, metrics=["mae", "parameters"], trials=6))
    found = outcome.found["FE"]
    assert found["metrics"] == ["mae_FeH", "parameters"]
    best, second = found["best"]["values"], found["second"]["values"]
    assert best[0] < second[0]
    assert best[1] > second[1]
    assert set(found["front"]) >= {found["best"]["trial"], found["second"]["trial"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"elements": ["FE", "EU_FE"]}, r"EU_FE: labels: .*EuFe"),
        ({"elements": ["UN_FE"]}, "there is no label 'UN_FE'"),
        ({"elements": ["FE", "FeH"]}, "FE, FeH are one; give it once"),
        (
            {"metrics": ["mea"]},
            r"metrics: mea: there is no such metric of FE; did you mean mae_FeH\?|mea: there is no such metric of FE",
        ),
        ({"metrics": ["parameters"]}, "say nothing of how right a network is"),
        ({"metrics": ["mae", "mae"], "prune": {"name": "none"}}, "one is there twice"),
        ({"space": None}, "tune: space: not given"),
        ({"store": None}, "tune: store: not given"),
        ({"labels": "/no/such/table.csv"}, "/no/such/table.csv"),
        ({"train": sweeps.TRAIN | {"epohcs": 3}}, r"epohcs: unknown setting .*did you mean epochs\?"),
    ],
)
def test_a_mistake_is_told_before_any_work(toys: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    def no_work(search: Search) -> None:
        raise AssertionError("work has begun")

    with pytest.raises((ValueError, OSError), match=told):
        tune.tune(wanted(toys, tmp_path, **changes), no_work)
    assert not (tmp_path / "study").exists()


def test_losses_do_not_compare_where_the_loss_is_tried(toys: Path, tmp_path: Path):
    path = sweeps.space(tmp_path, {"loss.reg": {"choices": ["mse", "mae"]}})
    with pytest.raises(SettingsError, match=r"loss.reg is tried, so losses do not compare"):
        tune.tune(wanted(toys, tmp_path, space=str(path), metrics=["loss"]), here)


def test_a_folder_of_something_else_is_no_study(toys: Path, tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("x")
    with pytest.raises(SettingsError, match=r"holds thesis.txt but is no study"):
        tune.tune(wanted(toys, tmp_path))
    with pytest.raises(FileNotFoundError, match="so no study"):
        tune.tune(wanted(toys, tmp_path, show=True))


def test_when_all_fails_the_job_ends_with_the_reason_and_can_go_on(
    toys: Path, tmp_path: Path, pretending: Callable[..., None]
):
    pretending(lambda train: float("nan"))
    with pytest.raises(JobError, match="the first 5 trainings failed: the gradients are not finite"):
        tune.tune(wanted(toys, tmp_path, trials=20))
    pretending()
    outcome = tune.tune(wanted(toys, tmp_path, trials=6))
    assert (outcome.standings[0].finished, outcome.standings[0].counts["failed"]) == (6, 5)
    assert outcome.found["FE"]["reasons"] == {"the gradients are not finite": 5}
    assert outcome.found["FE"]["usual"]["trial"] == 5  # the recipe has had another chance


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_study_is_a_run_of_mlflow_with_its_trials_below(toys: Path, tmp_path: Path):
    mlflow = pytest.importorskip("mlflow")
    settings = wanted(toys, tmp_path, trials=1, tracking={"use": "always"})
    outcome = tune.tune(settings)
    quest = outcome.quests[0]
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.address(settings.study))
    runs = client.search_runs([client.get_experiment_by_name("survey").experiment_id])
    parent = next(run for run in runs if run.info.run_name == quest.study.name)
    child = next(run for run in runs if run.info.run_name == "0")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.info.status == child.info.status == "FINISHED"
    assert child.data.metrics["validation_mae_FeH"] > 0
    with tune.tracker(quest) as tracked:
        tracked.keep([str(tmp_path / "study" / "study.json")])
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["study.json"]
    assert (tmp_path / "mlartifacts").is_dir()  # beside the database, wherever the job was started


def test_data_in_slices_and_what_is_seen_are_tried_and_so_are_models_that_are_fitted(
    toys: Path, tmp_path: Path
):
    """Whole groups of settings are choices too; a fitted model has no epochs of its own to be stopped in."""
    lines = {
        "model": {"choices": ["prism", "ridge"]},
        "growth": {
            "choices": [{"first": 1.0, "epochs": 0}, {"first": 0.5, "epochs": 1}],
            "when": {"model": "prism"},
        },
        "view.clip": {"choices": [[0.0, 1.5], [0.1, 1.2]]},
        "options.components": {"choices": [4, 8]},
    }
    outcome = tune.tune(
        wanted(
            toys,
            tmp_path,
            space=str(sweeps.space(tmp_path, lines)),
            trials=6,
            sampler="grid",
            prune={"name": "none"},
        )
    )
    rows = files.read_table(str(tmp_path / "study" / "trials.parquet")).to_pylist()
    assert outcome.standings[0].counts["complete"] == 6
    assert {row["set_model"] for row in rows} == {None, "prism", "ridge"}
    seen = [
        files.read_json(str(tmp_path / "study" / "trials" / "FE" / str(row["trial"]) / bundle.SETTINGS))[
            "settings"
        ]
        for row in rows[1:]
    ]
    assert {str(one["view"]["clip"]) for one in seen} <= {"[0.0, 1.5]", "[0.1, 1.2]"}
    assert {one["growth"]["first"] for one in seen if one["model"] == "prism"} <= {0.5, 1.0}
