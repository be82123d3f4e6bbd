"""What a study decides and records, without a training: the next trial, early stops, and what a killed
driver leaves.
"""

import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from survey.search import queue, results, storage
from survey.search.queue import TrainingQueue, run_locally
from survey.search.schedule import TargetSchedule
from survey.search.study import RECIPE, STAGE, Study, Suggestion
from survey.search.study_progress import target_progress
from survey.search.target import read_targets
from survey.settings import JobError
from survey.training.settings import Train
from tests.search import sweeps
from tests.search.sweeps import open_study, scores, search_settings, simulated


def journal(folder: Path) -> BaseStorage:
    """The storage of the study as a new driver opens it."""
    return storage.open_storage(str(folder / "study"), "journal")


def row(epoch: int, value: float, metric: str = "mae_FeH") -> dict[str, float]:
    return {"epoch": float(epoch), f"validation_{metric}": value, "seconds": 2.0}


def next_trial(study: Study) -> Suggestion:
    """The next trial; there must be one."""
    suggestion = study.next()
    assert suggestion
    return suggestion


def finish_next(study: Study) -> int:
    """The next trial reaches its end; its number. Later trials are worse."""
    number = next_trial(study).number
    study.succeed(number, scores(0.5 + 0.1 * number))
    return number


def test_the_recipe_itself_is_the_first_trial_and_then_come_other_values(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path), journal(tmp_path))
    first, second = next_trial(study), next_trial(study)
    assert (first.number, first.chosen) == (0, {})
    assert set(second.chosen) == set(sweeps.SPACE)
    assert RECIPE in study.trials()[0].user_attrs
    assert study.trials()[0].params == {"optimiser.lr": 1e-3, "options.dropout": 0.1}


def test_running_trials_count_and_a_failed_one_is_replaced(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path, trials=2), journal(tmp_path))
    first, second = next_trial(study), next_trial(study)
    assert study.next() is None
    assert not study.is_done
    study.fail(second.number, "no luck")
    third = next_trial(study)
    study.succeed(first.number, scores(0.5))
    study.succeed(third.number, scores(0.4))
    assert study.is_done
    assert [trial.state for trial in study.trials()] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    assert study.trials()[1].user_attrs["reason"] == "no luck"
    assert study.trials()[1].values is None


def test_the_trials_of_a_killed_driver_come_first_with_the_same_numbers_and_values(
    toys: Path, tmp_path: Path
) -> None:
    settings = search_settings(toys, tmp_path, trials=6)
    study = open_study(settings, journal(tmp_path))
    finish_next(study)
    left = [next_trial(study), next_trial(study)]
    assert [suggestion.number for suggestion in left] == [1, 2]
    assert all(set(suggestion.chosen) == set(sweeps.SPACE) for suggestion in left)
    study.report(left[0].number, row(1, 0.7))
    again = open_study(settings, journal(tmp_path))
    assert [next_trial(again), next_trial(again)] == left
    assert next_trial(again).number == 3
    assert again.trials()[1].intermediate_values == {1: 0.7}


def test_values_that_a_killed_driver_had_not_yet_chosen_are_chosen_now(toys: Path, tmp_path: Path) -> None:
    settings = search_settings(toys, tmp_path)
    study = open_study(settings, journal(tmp_path))
    finish_next(study)
    trial = study.optuna_study.ask()
    trial.suggest_float("optimiser.lr", 1e-4, 1e-1, log=True)
    again = next_trial(open_study(settings, journal(tmp_path)))
    assert (again.number, set(again.chosen)) == (1, set(sweeps.SPACE))
    assert again.chosen["optimiser.lr"] == pytest.approx(trial.params["optimiser.lr"], rel=1e-3)


def test_a_search_that_was_stopped_tries_the_values_of_an_undisturbed_one(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed, stopped = (search_settings(toys, tmp_path / name, trials=14) for name in "ab")
    study = open_study(undisturbed, journal(tmp_path / "a"))
    while not study.is_done:
        finish_next(study)
    while not (again := open_study(stopped, journal(tmp_path / "b"))).is_done:
        finish_next(again)  # a new driver for each trial
    assert [trial.params for trial in again.trials()] == [trial.params for trial in study.trials()]
    assert len({str(trial.params) for trial in study.trials()}) == 14


def test_more_trials_continue_a_study(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path, trials=2), journal(tmp_path))
    finish_next(study)
    finish_next(study)
    assert study.is_done
    more = open_study(search_settings(toys, tmp_path, trials=3), journal(tmp_path))
    assert finish_next(more) == 2
    assert more.is_done


def test_a_poor_trial_is_stopped_and_an_epoch_reported_twice_counts_once(toys: Path, tmp_path: Path) -> None:
    settings = search_settings(
        toys, tmp_path, train=sweeps.TRAIN | {"epochs": 9}, prune={"name": "halving", "first": 1}, trials=10
    )
    study = open_study(settings, journal(tmp_path))
    first = next_trial(study).number
    assert not any(study.report(first, row(epoch, 0.5)) for epoch in range(1, 10))
    assert not study.report(first, row(9, 0.5))
    assert study.trials()[0].intermediate_values == dict.fromkeys(range(1, 10), 0.5)
    study.succeed(first, scores(0.5))
    second = next_trial(study).number
    assert study.report(second, row(1, 0.9))
    assert study.trials()[1].state == TrialState.PRUNED
    assert study.trials()[1].user_attrs["training_seconds"] == 2.0
    assert study.report(second, row(2, 0.1))  # a late report changes nothing
    study.succeed(second, scores(0.1))
    assert study.trials()[1].state == TrialState.PRUNED


def test_the_seconds_of_a_trial_are_those_of_its_epochs_whenever_they_were(
    toys: Path, tmp_path: Path
) -> None:
    settings = search_settings(toys, tmp_path, trials=4)
    study = open_study(settings, journal(tmp_path))
    finish_next(study)  # two epochs in 1.5 s
    left = next_trial(study).number
    study.report(left, row(1, 0.7))
    study = open_study(settings, journal(tmp_path))
    assert next_trial(study).number == left
    progress = target_progress(study.optuna_study, "FE")
    assert progress.seconds_left == pytest.approx(3 * 1.5 - 0.75)  # one of three has done an epoch
    for epoch in (1, 2):  # the training reports its past epochs again
        study.report(left, row(epoch, 0.7))
    study.fail(left, "no luck")
    study.fail(next_trial(study).number, "no luck at once")
    rows = results.rows(TargetSchedule(settings, study.target, study))
    assert [each["training_seconds"] for each in rows] == [1.5, 4.0, None]


def test_no_trial_is_stopped_in_its_last_epoch_and_the_recipe_never(toys: Path, tmp_path: Path) -> None:
    settings = search_settings(toys, tmp_path, prune={"name": "halving", "first": 2}, trials=10)
    study = open_study(settings, journal(tmp_path))
    recipe, good, poor = (next_trial(study).number for _ in range(3))
    assert not study.report(good, row(1, 0.1))
    assert not study.report(good, row(2, 0.1))
    assert not study.report(poor, row(2, 0.9))  # of two epochs
    assert not study.report(recipe, row(1, 5.0))


@pytest.mark.parametrize("name", ["hyperband", "median"])
def test_other_pruners_stop_poor_trials_too(toys: Path, tmp_path: Path, name: str) -> None:
    train = sweeps.TRAIN | {"epochs": 9}
    prune = {"name": name, "first": 1, "startup": 2}
    study = open_study(
        search_settings(toys, tmp_path, train=train, prune=prune, trials=30), journal(tmp_path)
    )
    for _ in range(12):
        number = next_trial(study).number
        if not any(study.report(number, row(epoch, 0.5 + number)) for epoch in range(1, 10)):
            study.succeed(number, scores(0.5 + number))
    assert study.count(TrialState.PRUNED) > 3


def test_the_second_stage_stays_close_to_the_best_of_the_first(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path, stages=2, trials=20, wide=0.5), journal(tmp_path))
    for _ in range(20):
        finish_next(study)
    assert [trial.user_attrs[STAGE] for trial in study.trials()] == [1] * 10 + [2] * 10
    best = min((trial for trial in study.trials()[:10] if trial.params), key=study.score).params
    for trial in study.trials()[10:]:
        assert 0.49 <= trial.params["optimiser.lr"] / best["optimiser.lr"] <= 2.01
        assert trial.params.get("batch") == best.get("batch", trial.params.get("batch"))


def test_a_grid_ends_by_itself_and_skips_no_point(toys: Path, tmp_path: Path) -> None:
    settings = search_settings(toys, tmp_path, sampler="grid", points=2, trials=100)
    study = open_study(settings, journal(tmp_path))
    for _ in range(4):
        finish_next(study)
    study = open_study(settings, journal(tmp_path))
    while not study.is_done:
        finish_next(study)
    assert len(study.trials()) == 2 * 2 * 2 + 1
    assert len({str(sorted(trial.params.items())) for trial in study.trials()}) == 9
    assert study.wanted == 9


def test_a_grid_of_numbers_with_a_step_has_both_ends(toys: Path, tmp_path: Path) -> None:
    space = str(sweeps.write_space(tmp_path, {"options.dropout": {"range": [0.1, 0.3], "step": 0.1}}))
    study = open_study(search_settings(toys, tmp_path, space=space, sampler="grid"), journal(tmp_path))
    tried = []
    while suggestion := study.next():
        study.succeed(suggestion.number, scores(0.5))
        tried.append(suggestion.chosen)
    assert tried[0] == {}  # the recipe itself, with 0.1
    assert sorted(chosen["options.dropout"] for chosen in tried[1:]) == [0.2, 0.3]
    assert study.is_done
    assert study.wanted == 3


def test_a_trial_with_the_values_of_the_recipe_is_not_another_one(toys: Path, tmp_path: Path) -> None:
    space = str(sweeps.write_space(tmp_path, {"options.dropout": {"choices": [0.1, 0.2]}}))
    settings = search_settings(toys, tmp_path, space=space, trials=5)
    study = open_study(settings, journal(tmp_path))
    while suggestion := study.next():
        study.succeed(
            suggestion.number, scores(0.5 if suggestion.chosen == {"options.dropout": 0.2} else 0.4)
        )
    picked = TargetSchedule(settings, study.target, study).picked()
    assert picked["best"].params == {"options.dropout": 0.1}
    assert picked["second"].params == {"options.dropout": 0.2}


def test_trials_of_both_stages_are_compared_in_the_ranges_of_the_space(toys: Path, tmp_path: Path) -> None:
    space = str(sweeps.write_space(tmp_path, {"options.dropout": {"range": [0.1, 0.7], "step": 0.2}}))
    settings = search_settings(toys, tmp_path, space=space, stages=2, trials=12, wide=0.5)
    study = open_study(settings, journal(tmp_path))
    while suggestion := study.next():  # the best has 0.5: the second stage tries 0.3 to 0.7
        study.succeed(suggestion.number, scores(abs(0.5 - suggestion.chosen.get("options.dropout", 0.1))))
    schedule = TargetSchedule(settings, study.target, study)
    compared = results.comparable(schedule)
    assert compared
    assert {round(trial.params["options.dropout"], 9) for trial in compared.trials} <= {0.1, 0.3, 0.5, 0.7}
    assert max(trial.params["options.dropout"] for trial in study.trials()[6:]) == 0.7


def test_a_random_search_tries_new_values_each_time(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path, sampler="random", trials=6), journal(tmp_path))
    while not study.is_done:
        finish_next(study)
    assert len({trial.params["optimiser.lr"] for trial in study.trials()}) == 6


def test_several_metrics_have_a_front_and_no_trial_is_stopped(toys: Path, tmp_path: Path) -> None:
    settings = search_settings(toys, tmp_path, metrics=["mae", "parameters"], trials=3)
    study = open_study(settings, journal(tmp_path))
    for value, parameters in ((0.5, 10), (0.4, 20), (0.6, 30)):
        number = next_trial(study).number
        assert not study.report(number, row(1, value))
        study.succeed(number, scores(value, parameters=parameters))
    assert {trial.number for trial in study.optuna_study.best_trials} == {0, 1}
    assert study.optuna_study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2


def test_an_element_replaces_the_monitor_of_the_recipe(toys: Path, tmp_path: Path) -> None:
    train = sweeps.TRAIN | {"targets": ["MgFe"], "monitor": "mae_MgFe"}
    assert read_targets(search_settings(toys, tmp_path, train=train))[0].monitor == "mae_FeH"


@pytest.mark.parametrize(
    ("gpu", "of_recipe", "expected"),
    [(None, "never", "never"), (None, "auto", "auto"), (0.0, "auto", "never")],
)
def test_trainings_use_gpus_where_neither_the_recipe_nor_the_search_says_no(
    toys: Path, tmp_path: Path, gpu: float | None, of_recipe: str, expected: str
) -> None:
    settings = search_settings(toys, tmp_path, gpu=gpu, train=sweeps.TRAIN | {"gpu": of_recipe})
    study = open_study(settings, optuna.storages.InMemoryStorage())
    assert TargetSchedule(settings, study.target, study).training("x", {}).gpu == expected


def test_the_direction_follows_from_the_metric_and_a_bias_counts_by_its_size(
    toys: Path, tmp_path: Path
) -> None:
    assert read_targets(search_settings(toys, tmp_path, metrics=["r2"]))[0].signs == (-1,)
    study = open_study(search_settings(toys, tmp_path, metrics=["bias"]), journal(tmp_path))
    numbers = [next_trial(study).number, next_trial(study).number]
    for number, value in zip(numbers, (-0.5, 0.2), strict=True):
        study.succeed(number, scores(value, "bias_FeH"))
    assert [trial.values for trial in study.trials()] == [[0.5], [0.2]]
    best = study.best()
    assert best
    assert best.number == 1


def test_a_score_that_is_not_finite_is_a_failure_with_a_reason(toys: Path, tmp_path: Path) -> None:
    study = open_study(search_settings(toys, tmp_path), journal(tmp_path))
    number = next_trial(study).number
    assert not study.report(number, row(1, math.nan))
    study.succeed(number, scores(math.nan))
    assert study.trials()[0].state == TrialState.FAIL
    assert study.trials()[0].user_attrs["reason"] == "mae_FeH is not finite in the best epoch, 2 of 2"


def searched(
    toys: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    score: Callable[[Train], float],
    **changes: object,
) -> tuple[TrainingQueue, TargetSchedule]:
    """A search whose trainings are over at once, after its end."""
    settings = search_settings(toys, folder, **changes)
    study = open_study(settings, optuna.storages.InMemoryStorage())
    schedule = TargetSchedule(settings, study.target, study)
    monkeypatch.setattr(queue, "run_training", simulated(score))
    trainings = TrainingQueue([schedule], lambda count, note: None)
    run_locally(trainings)
    return trainings, schedule


def test_a_failing_trial_is_recorded_and_the_search_continues(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings, schedule = searched(
        toys, tmp_path, monkeypatch, lambda train: math.nan if train.batch == 16 else 1.0, trials=5
    )
    trainings.raise_error()
    assert schedule.is_done
    failed = [trial for trial in schedule.study.trials() if trial.state == TrialState.FAIL]
    assert failed
    assert {trial.user_attrs["reason"] for trial in failed} == {"the gradients are not finite"}


def test_the_search_ends_with_the_reason_if_the_first_five_trainings_fail(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings, schedule = searched(toys, tmp_path, monkeypatch, lambda train: math.nan, trials=50)
    assert len(schedule.study.trials()) == 5
    message = "FE: the first 5 trainings failed: the gradients are not finite; correct this"
    with pytest.raises(JobError, match=message):
        trainings.raise_error()


def test_the_parzen_estimator_finds_a_valley_that_random_search_does_not(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler sees the scores, with the right sign."""

    def valley(train: Train) -> float:
        lr = train.optimiser.lr or 1e-3
        return float(0.1 + abs(math.log10(lr) + 3.5) + abs(train.options.get("dropout", 0.1) - 0.4))

    best = {}
    for sampler in ("tpe", "random"):
        (folder := tmp_path / sampler).mkdir()
        _, schedule = searched(
            toys, folder, monkeypatch, valley, trials=30, sampler=sampler, prune={"name": "none"}
        )
        best[sampler] = sorted(schedule.study.score(trial) for trial in schedule.study.complete())
    assert best["tpe"][8] < 0.8 * best["random"][8]
