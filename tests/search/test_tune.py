"""A search on toy stars from its settings to its results, in this process; stopped, copied, extended,
misused.
"""

import json
import math
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml

from survey import files
from survey.arguments import load
from survey.folder import Folder
from survey.search import queue, tune
from survey.search.queue import TrainingQueue
from survey.search.seeds import NO_GAIN, SeedScores, gain
from survey.search.settings import Tune
from survey.search.tune import SearchOutcome
from survey.settings import JobError, SettingsError
from survey.training import run as runs
from survey.training.settings import Train
from tests.search import sweeps
from tests.search.sweeps import search_settings, simulated


def score(train: Train) -> float:
    """What simulated trainings reach: better with dropout, worse for large batches, a little different by
    seed.
    """
    dropout = float(train.options.get("dropout", 0.1))
    return 0.5 - 0.3 * dropout + 0.001 * train.batch + 0.001 * (train.seed % 7)


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Train], float]], None]:
    """Trainings are over at once from now on; the test may choose what they reach."""

    def choose(reached: Callable[[Train], float]) -> None:
        monkeypatch.setattr(queue, "run_training", simulated(reached))

    choose(score)
    return choose


@pytest.fixture(scope="module")
def searched(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchOutcome:
    """A real search for two elements, with other seeds and a retrained winner."""
    folder = tmp_path_factory.mktemp("searched")
    settings = search_settings(
        toys, folder, elements=["C_FE", "FE"], trials=3, seeds=2, retrain=True, name="toy"
    )
    outcome = tune.tune(settings)
    assert set(outcome.results) == {"C_FE", "FE"}
    return outcome


def study_of(outcome: SearchOutcome) -> Path:
    return Path(outcome.settings.study)


def test_a_search_for_a_network_that_learns_by_itself_needs_no_labels(toys: Path, tmp_path: Path) -> None:
    space = sweeps.write_space(tmp_path, {"options.latent": {"choices": [2, 4]}})
    train = {"model": "specvae", "task": "none", "options": {"channels": [4, 4, 4]}, "epochs": 1}
    settings = search_settings(
        toys,
        tmp_path,
        space=str(space),
        train=train,
        labels="none",
        elements=[],
        sampler="grid",
        metrics=["chi2", "active"],
    )
    outcome = tune.tune(settings)
    table = files.read_table(str(study_of(outcome) / tune.TABLE))
    assert {2, 4} <= set(table["set_options.latent"].to_pylist())
    assert not tune.tune(settings).is_new


def test_a_search_ends_with_the_best_two_of_each_element(searched: SearchOutcome) -> None:
    study = study_of(searched)
    assert searched.is_new
    assert [progress.finished for progress in searched.progress] == [3, 3]
    document = Folder(str(study), tune.STUDY).document()
    assert document.results == searched.results
    for name, label in (("C_FE", "CFe"), ("FE", "FeH")):
        result = document.results[name]
        assert result.metrics == (f"mae_{label}",)
        assert result.study == f"{document.id}-{name}"
        assert set(result.picked()) == {"best", "second", "recipe"}
        for trial in result.picked().values():
            assert trial.seeds.mean
            assert trial.seeds.interval
            low, high = trial.seeds.interval
            assert low < trial.seeds.mean < high
            folders = [study / "seeds" / name / f"{trial.trial}-{seed}" for seed in (2025, 2026)]
            scores = [
                json.loads((folder / "run.json").read_text())["validation"][f"mae_{label}"]
                for folder in folders
            ]
            assert np.allclose(scores, trial.seeds.values, rtol=1e-4)


def test_the_gain_over_the_recipe_has_an_interval_and_the_recipe_gains_nothing_over_itself(
    searched: SearchOutcome,
) -> None:
    for result in searched.results.values():
        assert result.best
        assert result.recipe
        assert result.gain
        if result.best.trial == result.recipe.trial:
            assert result.gain == NO_GAIN
        else:
            assert result.gain.interval
            assert result.gain.by
            assert result.gain.interval[0] < result.gain.by < result.gain.interval[1]
            assert result.second
            choices = 1 if result.second.trial == result.recipe.trial else 2
            recipe, best = (
                SeedScores.from_values(trial.seeds.values) for trial in (result.recipe, result.best)
            )
            expected = gain(recipe, best, 1, choices)
            assert expected
            assert result.gain.interval == pytest.approx(expected.interval, rel=1e-2)


def test_every_trial_is_a_row_of_the_table(searched: SearchOutcome) -> None:
    rows = files.read_table(str(study_of(searched) / "trials.parquet")).to_pylist()
    assert [row["trial"] for row in rows] == [0, 1, 2, 0, 1, 2]
    columns = {"set_optimiser.lr", "set_batch", "state", "reason", "mae_CFe", "mae_FeH", "parameters"}
    assert columns <= rows[0].keys()


def test_a_winner_changes_a_recipe_into_the_training_that_won(
    searched: SearchOutcome, tmp_path: Path
) -> None:
    settings = searched.settings
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(json.dumps({"train": sweeps.TRAIN | {"task": "cls_reg"}}))
    names = [Path(path).name for path in searched.winners]
    assert names == ["toy-C_FE.yaml", "toy-C_FE-second.yaml", "toy-FE.yaml", "toy-FE-second.yaml"]
    given = [f"store={settings.store}", f"labels={settings.labels}", "run=r", "tracking.use=never"]
    picked = [
        (name, trial)
        for name, result in searched.results.items()
        for trial in (result.best, result.second)
        if trial
    ]
    for path, (name, trial) in zip(searched.winners, picked, strict=True):
        train = load(Train, "train", [str(recipe), f"with={path}", *given])
        run = study_of(searched) / "trials" / name / str(trial.trial)
        assert train.plain() == json.loads((run / "settings.json").read_text())["settings"]
        results = yaml.safe_load(Path(path).read_text())["results"]
        assert (results["trial"], results["score"], results["seeds"]) == (trial.trial, trial.seeds.mean, 2)


def test_the_best_two_keep_their_weights_and_all_trials_their_histories(searched: SearchOutcome) -> None:
    checked = 0
    for name, result in searched.results.items():
        assert result.best
        assert result.second
        best = {result.best.trial, result.second.trial}
        for number in range(3):
            run = study_of(searched) / "trials" / name / str(number)
            assert (run / runs.MODEL).exists() == (number in best)
            assert not list((run / runs.CHECKPOINTS).glob("*.safetensors"))
            assert (run / runs.HISTORY).exists() or result.trials["pruned"]
            checked += 1
        assert runs.open_run(str(study_of(searched) / "trials" / name / str(min(best)))).labels
    assert checked == 6


def test_the_winner_is_trained_again_with_the_validation_stars(searched: SearchOutcome) -> None:
    best = searched.results["FE"].best
    assert best
    folders = [study_of(searched) / "winners" / "FE", study_of(searched) / "trials" / "FE" / str(best.trial)]
    winner, trial = (json.loads((folder / "settings.json").read_text())["settings"] for folder in folders)
    assert winner["learn_from"] == "train+validation"
    assert winner["epochs"] == best.best_epoch
    assert winner["options"] == trial["options"]


def test_the_winner_is_trained_anew_when_a_later_trial_is_better(
    toys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = str(sweeps.write_space(tmp_path, {"model": {"choices": ["mean", "ridge"]}}))
    train = {"model": "mean", "threads": 1}

    def winner_after(trials: int) -> tuple[str, str]:
        """The model of the best trial, and that of the winner."""
        settings = search_settings(
            toys, tmp_path, train=train, space=space, trials=trials, sampler="grid", retrain=True
        )
        best = tune.tune(settings).results["FE"].best
        assert best
        assert not tune.tune(settings).is_new
        winner = runs.open_run(str(tmp_path / "study" / "winners" / "FE"))
        assert winner.document.settings["learn_from"] == "train+validation"
        return best.settings.get("model", "mean"), winner.document.model

    assert winner_after(1) == ("mean", "mean")  # the recipe itself
    assert not [message for message in caplog.messages if "trained anew" in message]
    assert winner_after(3) == ("ridge", "ridge")
    assert sum("model=mean there, ridge now" in message for message in caplog.messages) == 1


def test_a_grid_that_is_tried_in_part_is_reported_with_both_numbers(
    toys: Path, tmp_path: Path, simulate: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    space = str(
        sweeps.write_space(tmp_path, {"batch": {"choices": [8, 16, 32]}, "epochs": {"range": [1, 2]}})
    )
    tune.tune(search_settings(toys, tmp_path, space=space, sampler="grid", trials=5))
    assert caplog.messages == [
        "tune: FE: the grid has 6 combinations besides the recipe; trials=5 tries the recipe and 4 of them, "
        "drawn at random; trials=7 tries all"
    ]
    tune.tune(search_settings(toys, tmp_path, space=space, sampler="grid", trials=7))
    tune.tune(search_settings(toys, tmp_path, space=space, sampler="grid", trials=99))
    assert len(caplog.messages) == 1


def test_a_study_that_has_all_its_trials_is_left_alone(searched: SearchOutcome) -> None:
    paths = [
        path
        for path in study_of(searched).rglob("*.*")
        if path.name not in ("driver.lock", "study.log", "study.log.lock")
    ]
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = tune.tune(searched.settings)
    assert not again.is_new
    assert again.results == searched.results
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_showing_a_study_needs_its_folder_only_and_changes_nothing(searched: SearchOutcome) -> None:
    study = study_of(searched)
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    shown = tune.tune(Tune.from_dict("tune", {"study": str(study), "show": True}))
    assert [progress.name for progress in shown.progress] == ["C_FE", "FE"]
    assert shown.progress[0].best
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": sweeps.TRAIN | {"epochs": 3}}, r"other settings: train.epochs=2 there, 3 now"),
        ({"sampler": "random"}, "sampler=tpe there, random now"),
    ],
)
def test_settings_of_another_study_are_refused_with_the_difference(
    searched: SearchOutcome, toys: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = search_settings(toys, tmp_path, elements=["C_FE", "FE"], trials=3, **changes)
    with pytest.raises(SettingsError, match=message):
        tune.tune(given.model_copy(update={"study": searched.settings.study}))


def test_another_space_and_other_labels_are_refused_too(
    searched: SearchOutcome, toys: Path, tmp_path: Path
) -> None:
    space = str(sweeps.write_space(tmp_path, {"batch": {"choices": [16, 64]}}))
    given = search_settings(toys, tmp_path, elements=["C_FE", "FE"], trials=3, space=space)
    with pytest.raises(SettingsError, match=r"space.space.optimiser.lr.*space.space.batch.choices"):
        tune.tune(given.model_copy(update={"study": searched.settings.study}))
    table = tmp_path / "labels.csv"
    table.write_text((toys / "labels.csv").read_text().replace("1000,", "1000000,", 1))
    with pytest.raises(SettingsError, match=r"train.labels=.* there, .* now"):
        tune.tune(searched.settings.model_copy(update={"labels": str(table)}))


def test_a_copied_study_continues_with_store_and_labels_in_another_place(
    toys: Path, tmp_path: Path, simulate: Callable[..., None]
) -> None:
    (there := tmp_path / "there").mkdir()

    class DriverStoppedError(Exception):
        pass

    def interrupt(trainings: TrainingQueue) -> NoReturn:
        first, second = trainings.next(), trainings.next()
        assert first
        assert second
        trainings.end(first.key, simulated(score)(first.settings, lambda row: None))
        raise DriverStoppedError  # the second is running

    with pytest.raises(DriverStoppedError):
        tune.tune(search_settings(toys, there, trials=3), interrupt)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    shutil.copytree(there / "study", elsewhere / "study")
    shutil.copytree(toys, elsewhere / "toys")
    outcome = tune.tune(search_settings(elsewhere / "toys", elsewhere, trials=3))
    assert outcome.progress[0].counts["complete"] == 3
    assert outcome.results["FE"].trials["wanted"] == 3


def test_an_element_and_more_trials_may_be_added_later(
    toys: Path, tmp_path: Path, simulate: Callable[..., None]
) -> None:
    tune.tune(search_settings(toys, tmp_path, elements=["FE"], trials=2))
    tune.tune(search_settings(toys, tmp_path, elements=["CFe"], trials=3))
    outcome = tune.tune(search_settings(toys, tmp_path, elements=["FE", "CFe"], trials=4))
    assert [progress.finished for progress in outcome.progress] == [4, 4]
    assert set(Folder(str(tmp_path / "study"), tune.STUDY).document().results) == {"FE", "CFe"}
    assert files.read_table(str(tmp_path / "study" / "trials.parquet")).num_rows == 8


def test_results_of_other_elements_stay_when_one_continues(
    toys: Path, tmp_path: Path, simulate: Callable[..., None]
) -> None:
    tune.tune(search_settings(toys, tmp_path, elements=["FE"], trials=2))
    tune.tune(search_settings(toys, tmp_path, elements=["CFe"], trials=3))
    results = Folder(str(tmp_path / "study"), tune.STUDY).document().results
    assert {name: result.trials["complete"] for name, result in results.items()} == {"FE": 2, "CFe": 3}
    assert files.read_table(str(tmp_path / "study" / "trials.parquet")).num_rows == 5


def test_without_elements_the_recipes_own_task_is_searched_by_its_monitor(
    toys: Path, tmp_path: Path, simulate: Callable[..., None]
) -> None:
    train = sweeps.TRAIN | {"targets": ["FeH", "CFe"], "monitor": "mae_FeH"}
    outcome = tune.tune(search_settings(toys, tmp_path, elements=[], trials=3, train=train))
    assert outcome.results["task"].metrics == ("mae_FeH",)
    assert outcome.winners[0].endswith("study-task.yaml")


def test_two_metrics_give_the_best_by_each_of_them(
    toys: Path, tmp_path: Path, simulate: Callable[[Callable[[Train], float]], None]
) -> None:
    simulate(lambda train: 1.0 / train.batch)  # large batches are better and, here, have more parameters
    outcome = tune.tune(search_settings(toys, tmp_path, metrics=["mae", "parameters"], trials=6))
    result = outcome.results["FE"]
    assert result.metrics == ("mae_FeH", "parameters")
    assert result.best
    assert result.second
    assert result.best.values[0] < result.second.values[0]
    assert result.best.values[1] > result.second.values[1]
    assert {result.best.trial, result.second.trial} <= set(result.front)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elements": ["FE", "EU_FE"]}, r"EU_FE: labels: .*EuFe"),
        ({"elements": ["UN_FE"]}, "there is no label 'UN_FE'"),
        ({"elements": ["FE", "FeH"]}, "FE, FeH are the same label; give it once"),
        ({"metrics": ["mae_Fe"]}, r"metrics: mae_Fe: there is no such metric of FE; did you mean mae_FeH\?"),
        ({"metrics": ["parameters"]}, "do not measure how good the answers of a network are"),
        ({"metrics": ["mae", "mae"], "prune": {"name": "none"}}, "a metric is there twice"),
        ({"space": None}, "tune: space: not given"),
        ({"store": None}, "tune: store: not given"),
        ({"labels": "/no/such/table.csv"}, "/no/such/table.csv"),
        ({"train": sweeps.TRAIN | {"epohcs": 3}}, r"epohcs: unknown setting .*did you mean epochs\?"),
        (
            {"train": sweeps.TRAIN | {"schedule": {"name": "plateau"}}, "retrain": True},
            "no validation part is left for schedule.name=plateau",
        ),
    ],
)
def test_a_mistake_is_reported_before_any_work(
    toys: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    def no_work(trainings: TrainingQueue) -> NoReturn:
        raise AssertionError("work has begun")

    with pytest.raises((ValueError, OSError), match=message):
        tune.tune(search_settings(toys, tmp_path, **changes), no_work)
    assert not (tmp_path / "study").exists()


def test_losses_do_not_compare_if_the_space_varies_the_loss(toys: Path, tmp_path: Path) -> None:
    path = sweeps.write_space(tmp_path, {"loss.reg": {"choices": ["mse", "mae"]}})
    with pytest.raises(SettingsError, match=r"the space varies loss.reg, so losses do not compare"):
        search_settings(toys, tmp_path, space=str(path), metrics=["loss"])


def test_a_folder_with_other_files_is_no_study(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("x")
    with pytest.raises(SettingsError, match=r"holds thesis.txt but is no study"):
        tune.tune(search_settings(toys, tmp_path))
    with pytest.raises(FileNotFoundError, match="so it is no study"):
        tune.tune(search_settings(toys, tmp_path, show=True))


def test_a_search_whose_trainings_all_fail_ends_with_the_reason_and_can_continue(
    toys: Path, tmp_path: Path, simulate: Callable[[Callable[[Train], float]], None]
) -> None:
    simulate(lambda train: math.nan)
    with pytest.raises(JobError, match="the first 5 trainings failed: the gradients are not finite"):
        tune.tune(search_settings(toys, tmp_path, trials=20))
    simulate(score)
    outcome = tune.tune(search_settings(toys, tmp_path, trials=6))
    assert (outcome.progress[0].finished, outcome.progress[0].counts["failed"]) == (6, 5)
    result = outcome.results["FE"]
    assert result.reasons == {"the gradients are not finite": 5}
    assert result.recipe
    assert result.recipe.trial == 5  # the recipe is tried again


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("storage", "size", "found"),
    [
        ("journal", 8_000, "the disk is full"),
        pytest.param("sqlite", 118_000, "the database", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_ends_a_search_with_a_sentence_and_the_same_command_continues_it(
    toys: Path, tmp_path: Path, simulate: object, storage: str, size: int, found: str
) -> None:
    settings = search_settings(toys, tmp_path, trials=200, storage=storage, sampler="random")
    with largest_file(size), pytest.raises((JobError, OSError)) as error:
        tune.tune(settings)
    assert str(error.value).startswith(f"tune: {settings.study}: {found}")
    assert str(error.value).endswith("then run the same command again to continue")
    assert "\n" not in str(error.value)
    more = tune.tune(settings.model_copy(update={"trials": 6})).progress[0]
    assert more.finished >= 6
    assert not more.running


def test_a_server_of_mlflow_that_is_away_is_reported_once(
    toys: Path, tmp_path: Path, simulate: object, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"  # nobody listens there after this
    tracking = {"use": "always", "uri": address}
    outcome = tune.tune(search_settings(toys, tmp_path, trials=2, elements=["FE", "C_FE"], tracking=tracking))
    assert [progress.finished for progress in outcome.progress] == [2, 2]
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("survey")]
    about_tracking = [message for message in messages if address in message]
    assert len(about_tracking) == 2  # that it does not answer, and what follows
    assert about_tracking[1] == (
        f"tune: the trainings of this call are not tracked, because {address} does not answer; "
        f"{outcome.settings.study} has their numbers"
    )


def test_a_space_may_vary_groups_of_settings_and_models_that_are_not_trained_in_epochs(
    toys: Path, tmp_path: Path
) -> None:
    lines = {
        "model": {"choices": ["prism", "ridge"]},
        "curriculum": {
            "choices": [{"first": 1.0, "epochs": 0}, {"first": 0.5, "epochs": 1}],
            "when": {"model": "prism"},
        },
        "view.clip": {"choices": [[0.0, 1.5], [0.1, 1.2]]},
        "options.components": {"choices": [4, 8]},
    }
    space = str(sweeps.write_space(tmp_path, lines))
    outcome = tune.tune(
        search_settings(toys, tmp_path, space=space, trials=5, sampler="grid", prune={"name": "none"})
    )
    rows = files.read_table(str(tmp_path / "study" / "trials.parquet")).to_pylist()
    assert outcome.progress[0].counts["complete"] == 5
    assert {row["set_model"] for row in rows} == {None, "prism", "ridge"}
    folders = [tmp_path / "study" / "trials" / "FE" / str(row["trial"]) for row in rows[1:]]
    trained = [json.loads((folder / "settings.json").read_text())["settings"] for folder in folders]
    assert {str(train["view"]["clip"]) for train in trained} <= {"[0.0, 1.5]", "[0.1, 1.2]"}
    networks = [train["curriculum"]["first"] for train in trained if train["model"] == "prism"]
    assert networks
    assert set(networks) <= {0.5, 1.0}
