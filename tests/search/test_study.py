"""What a study decides and notes, without a training: which trial is next, which is stopped, what a killed driver leaves to the next one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from survey.search import schedule, storage
from survey.search.schedule import Search, here
from survey.search.settings import Prune, aims
from survey.search.study import STAGE, USUAL, Study
from survey.search.target import Quest
from survey.settings import JobError
from tests.search import sweeps
from tests.search.sweeps import pretended, study_of, wanted


def journal(folder: Path) -> Any:
    """The study's storage as a new driver opens it."""
    return storage.opened(str(folder / "study"), "journal")


def row(epoch: int, value: float, metric: str = "mae_FeH") -> dict[str, float]:
    return {"epoch": float(epoch), f"validation_{metric}": value}


def about(value: float, metric: str = "mae_FeH", **other: Any) -> dict[str, Any]:
    told = {
        "validation": {metric: value},
        "parameters": 10,
        "training_seconds": 1.0,
        "best_epoch": 2,
        "epochs": 2,
    }
    return told | other


def finish(study: Study, value: float | None = None) -> int:
    """The next trial goes to its end."""
    picked = study.next()
    assert picked
    study.done(picked.number, about(0.5 + 0.1 * picked.number if value is None else value))
    return picked.number


def test_the_recipe_as_it_is_comes_first_and_then_other_values(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path), journal(tmp_path))
    first, second = study.next(), study.next()
    assert first
    assert second
    assert (first.number, first.chosen) == (0, {})
    assert set(second.chosen) == set(sweeps.SPACE)
    assert USUAL in study.trials()[0].user_attrs
    assert study.trials()[0].params == {"optimiser.lr": 1e-3, "options.dropout": 0.1}


def test_trials_under_way_count_and_a_failed_one_is_made_up_for(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path, trials=2), journal(tmp_path))
    first, second = study.next(), study.next()
    assert first
    assert second
    assert study.next() is None
    assert not study.over
    study.failed(second.number, "no luck")
    third = study.next()
    assert third
    study.done(first.number, about(0.5))
    study.done(third.number, about(0.4))
    assert study.over
    assert [trial.state for trial in study.trials()] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    assert study.trials()[1].user_attrs["reason"] == "no luck"
    assert study.trials()[1].values is None


def test_what_a_killed_driver_was_at_comes_first_with_the_same_number_and_values(toys: Path, tmp_path: Path):
    settings = wanted(toys, tmp_path, trials=6)
    study = study_of(settings, journal(tmp_path))
    finish(study)
    left = [study.next(), study.next()]
    study.heard(left[0].number, row(1, 0.7))  # type: ignore[union-attr]
    again = study_of(settings, journal(tmp_path))
    assert [again.next(), again.next()] == left
    fresh = again.next()
    assert fresh
    assert fresh.number == 3
    assert again.trials()[1].intermediate_values == {1: 0.7}


def test_a_driver_killed_between_a_trial_and_its_values_draws_those_that_are_missing(
    toys: Path, tmp_path: Path
):
    settings = wanted(toys, tmp_path)
    study = study_of(settings, journal(tmp_path))
    finish(study)
    trial = study.study.ask()
    trial.suggest_float("optimiser.lr", 1e-4, 1e-1, log=True)
    again = study_of(settings, journal(tmp_path)).next()
    assert again
    assert (again.number, set(again.chosen)) == (1, set(sweeps.SPACE))
    assert again.chosen["optimiser.lr"] == pytest.approx(trial.params["optimiser.lr"], rel=1e-3)


def test_a_search_that_was_stopped_tries_what_an_undisturbed_one_tries(toys: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed, stopped = (wanted(toys, tmp_path / name, trials=14) for name in "ab")
    study = study_of(undisturbed, journal(tmp_path / "a"))
    while not study.over:
        finish(study)
    while not (again := study_of(stopped, journal(tmp_path / "b"))).over:
        finish(again)  # a new driver for each trial
    assert [trial.params for trial in again.trials()] == [trial.params for trial in study.trials()]
    assert len({str(trial.params) for trial in study.trials()}) == 14


def test_more_trials_go_on_from_there(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path, trials=2), journal(tmp_path))
    finish(study)
    finish(study)
    assert study.over
    more = study_of(wanted(toys, tmp_path, trials=3), journal(tmp_path))
    assert finish(more) == 2
    assert more.over


def test_what_does_badly_is_stopped_and_what_is_told_twice_counts_once(toys: Path, tmp_path: Path):
    settings = wanted(
        toys, tmp_path, train=sweeps.TRAIN | {"epochs": 9}, prune={"name": "halving", "first": 1}, trials=10
    )
    study = study_of(settings, journal(tmp_path))
    first = study.next()
    assert first
    assert not any(study.heard(first.number, row(epoch, 0.5)) for epoch in range(1, 10))
    assert not study.heard(first.number, row(9, 0.5))
    assert study.trials()[0].intermediate_values == dict.fromkeys(range(1, 10), 0.5)
    study.done(first.number, about(0.5))
    second = study.next()
    assert second
    assert study.heard(second.number, row(1, 0.9))
    assert study.trials()[1].state == TrialState.PRUNED
    assert study.heard(second.number, row(2, 0.1))  # an old word that comes late changes nothing
    study.done(second.number, about(0.1))
    assert study.trials()[1].state == TrialState.PRUNED


def test_nobody_is_stopped_in_the_last_epoch_and_the_recipe_never(toys: Path, tmp_path: Path):
    study = study_of(
        wanted(toys, tmp_path, prune={"name": "halving", "first": 2}, trials=10), journal(tmp_path)
    )
    usual, good, poor = study.next(), study.next(), study.next()
    assert usual
    assert good
    assert poor
    assert not study.heard(good.number, row(1, 0.1))
    assert not study.heard(good.number, row(2, 0.1))
    assert not study.heard(poor.number, row(2, 0.9))  # of two epochs
    assert not study.heard(usual.number, row(1, 5.0))


@pytest.mark.parametrize("name", ["hyperband", "median"])
def test_other_ways_of_stopping_stop_what_is_poor(toys: Path, tmp_path: Path, name: str):
    train = sweeps.TRAIN | {"epochs": 9}
    study = study_of(
        wanted(toys, tmp_path, train=train, prune={"name": name, "first": 1, "startup": 2}, trials=30),
        journal(tmp_path),
    )
    for _ in range(12):
        picked = study.next()
        assert picked
        if not any(study.heard(picked.number, row(epoch, 0.5 + picked.number)) for epoch in range(1, 10)):
            study.done(picked.number, about(0.5 + picked.number))
    assert study.count(TrialState.PRUNED) > 3


def test_the_second_stage_stays_close_to_the_best_of_the_first(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path, stages=2, trials=20, wide=0.5), journal(tmp_path))
    for _ in range(20):
        finish(study)
    stages = [trial.user_attrs[STAGE] for trial in study.trials()]
    assert stages == [1] * 10 + [2] * 10
    best = min((trial for trial in study.trials()[:10] if trial.params), key=study.score).params
    for trial in study.trials()[10:]:
        assert 0.49 <= trial.params["optimiser.lr"] / best["optimiser.lr"] <= 2.01
        assert trial.params.get("batch") == best.get("batch", trial.params.get("batch"))


def test_a_grid_ends_by_itself_and_skips_no_point(toys: Path, tmp_path: Path):
    settings = wanted(toys, tmp_path, sampler="grid", points=2, trials=100)
    study = study_of(settings, journal(tmp_path))
    for _ in range(4):
        finish(study)
    study = study_of(settings, journal(tmp_path))
    while not study.over:
        finish(study)
    assert len(study.trials()) == 2 * 2 * 2 + 1
    assert len({str(sorted(trial.params.items())) for trial in study.trials()}) == 9
    assert study.wanted == 9


def test_random_search_draws_anew_each_time(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path, sampler="random", trials=6), journal(tmp_path))
    while not study.over:
        finish(study)
    assert len({trial.params["optimiser.lr"] for trial in study.trials()}) == 6


def test_several_metrics_have_a_front_and_stop_nobody(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path, metrics=["mae", "parameters"], trials=3), journal(tmp_path))
    for value, parameters in ((0.5, 10), (0.4, 20), (0.6, 30)):
        picked = study.next()
        assert picked
        assert not study.heard(picked.number, row(1, value))
        study.done(picked.number, about(value, parameters=parameters))
    assert {trial.number for trial in study.study.best_trials} == {0, 1}
    assert study.study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2


def test_directions_follow_the_metric_and_a_bias_counts_by_its_size(toys: Path, tmp_path: Path):
    assert aims(wanted(toys, tmp_path, metrics=["r2"]))[0].signs == (-1,)
    study = study_of(wanted(toys, tmp_path, metrics=["bias"]), journal(tmp_path))
    finish_bias = [study.next(), study.next()]
    for picked, value in zip(finish_bias, (-0.5, 0.2), strict=True):
        assert picked
        study.done(picked.number, about(value, "bias_FeH"))
    assert [trial.values for trial in study.trials()] == [[0.5], [0.2]]
    assert study.best().number == 1  # type: ignore[union-attr]


def test_a_score_that_is_no_number_is_a_failure_with_its_reason(toys: Path, tmp_path: Path):
    study = study_of(wanted(toys, tmp_path), journal(tmp_path))
    picked = study.next()
    assert picked
    assert not study.heard(picked.number, row(1, math.nan))
    study.done(picked.number, about(math.nan))
    assert study.trials()[0].state == TrialState.FAIL
    assert study.trials()[0].user_attrs["reason"] == "mae_FeH is no finite number in its best epoch, 2 of 2"


def searched(
    toys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, score: Callable[[Any], float], **changes: Any
) -> tuple[Search, Quest]:
    settings = wanted(toys, folder, **changes)
    quest = Quest(settings, aims(settings)[0], study_of(settings, optuna.storages.InMemoryStorage()))
    monkeypatch.setattr(schedule, "work", pretended(score))
    made = Search([quest], lambda count, note: None)
    here(made)
    return made, quest


def test_a_failing_trial_is_told_and_the_search_goes_on(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made, quest = searched(
        toys, tmp_path, monkeypatch, lambda train: math.nan if train.batch == 16 else 1.0, trials=5
    )
    made.settle()
    assert quest.over
    assert quest.study.count(TrialState.FAIL) > 0
    assert {
        trial.user_attrs["reason"] for trial in quest.study.trials() if trial.state == TrialState.FAIL
    } == {"the gradients are not finite"}


def test_when_the_first_five_fail_the_search_ends_and_says_why(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made, quest = searched(toys, tmp_path, monkeypatch, lambda train: math.nan, trials=50)
    assert len(quest.study.trials()) == 5
    with pytest.raises(
        JobError, match="FE: the first 5 trainings failed: the gradients are not finite; mend that"
    ):
        made.settle()


def test_the_estimator_looks_where_it_was_good(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Against random search, on a valley whose bottom is known: the sampler sees what was told, and the right way round."""

    def valley(train: Any) -> float:
        lr = train.optimiser.lr or 1e-3
        return 0.1 + abs(math.log10(lr) + 3.5) + abs(train.options.get("dropout", 0.1) - 0.4)

    found = {}
    for sampler in ("tpe", "random"):
        (folder := tmp_path / sampler).mkdir()
        _, quest = searched(
            toys,
            folder,
            monkeypatch,
            valley,
            trials=30,
            sampler=sampler,
            prune=Prune(name="none").model_dump(),
        )
        found[sampler] = sorted(quest.study.score(trial) for trial in quest.study.complete())
    assert found["tpe"][8] < 0.8 * found["random"][8]
