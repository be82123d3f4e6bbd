"""What a person sees of a search: plots that show the trials, and a summary with intervals."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.reports import study_plots
from survey.reports import tune as report
from survey.search import queue, results, tune
from survey.search.results import PickedTrial, TargetResult
from survey.search.seeds import Gain, SeedSummary
from survey.search.tune import SearchOutcome
from survey.training.settings import Train
from tests.search import sweeps
from tests.training import lessons


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    return folder


def score(train: Train) -> float:
    """Best at a rate of 3e-3; much higher rates fail, and very low ones are far worse than all others."""
    lr = train.optimiser.lr or 1e-3
    distance = abs(math.log10(lr) + 2.5)
    return math.nan if lr > 0.06 else 0.06 + 0.02 * distance**2 + (5.0 if lr < 2e-4 else 0.0)


def searched(toys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> SearchOutcome:
    """A search whose trainings are over at once."""
    monkeypatch.setattr(queue, "run_training", sweeps.simulated(score))
    lines = sweeps.SPACE | {
        "batch": {"choices": [16, 32, 64]},
        "options.depth": {"range": [1, 3]},
        "ema": {"choices": [0.0, 0.9], "when": {"batch": 16}},
    }
    space = str(sweeps.write_space(folder, lines))
    values = {"space": space, "elements": ["C_FE"], "trials": 16} | changes
    return tune.tune(sweeps.search_settings(toys, folder, **values))


@pytest.fixture(scope="module")
def plain(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchOutcome:
    """A search in which every trial goes to its end."""
    with pytest.MonkeyPatch.context() as patch:
        return searched(toys, tmp_path_factory.mktemp("plain"), patch, prune={"name": "none"})


def figures(outcome: SearchOutcome, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The plots of the search as figures, by name; those of optuna leave the style of others as it was."""
    drawn: list[Figure] = []
    before = dict(mpl.rcParams)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    names = list(study_plots.pictures(outcome.schedules[0]))
    assert dict(mpl.rcParams) == before
    return dict(zip(names, drawn, strict=True))


def rows_of(outcome: SearchOutcome, state: str) -> list[dict[str, Any]]:
    return [row for row in results.rows(outcome.schedules[0]) if row["state"] == state]


def line(axis: Axes, label: str) -> tuple[list[float], list[float]]:
    """The points of the line with this label in the legend."""
    found = next(each for each in axis.lines if each.get_label() == label)
    return list(np.asarray(found.get_xdata(), float)), list(np.asarray(found.get_ydata(), float))


def test_the_plots_of_a_search_are_drawn_once(plain: SearchOutcome) -> None:
    paths = report.pictures(plain)
    names = ("history", "importances", "parallel", "slices")
    assert [Path(path).name for path in paths] == [f"C_FE-{name}.png" for name in names]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)
    stamps = {path: Path(path).stat().st_mtime_ns for path in paths}
    again = tune.tune(plain.settings)
    assert report.pictures(again) == paths
    assert {path: Path(path).stat().st_mtime_ns for path in paths} == stamps


def test_the_history_shows_each_trial_and_the_best_so_far(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = sweeps.TRAIN | {"epochs": 9}
    prune = {"name": "halving", "first": 1}
    outcome = searched(toys, tmp_path, monkeypatch, trials=24, train=train, prune=prune)
    axis = figures(outcome, monkeypatch)["history"].axes[0]
    complete, pruned = rows_of(outcome, "complete"), rows_of(outcome, "pruned")
    assert complete
    assert pruned
    x, y = line(axis, "complete")
    assert x == [row["trial"] for row in complete]
    assert y == [row["mae_CFe"] for row in complete]
    assert min(line(axis, "best so far")[1]) == min(y)
    assert line(axis, "stopped early (best epoch)")[0] == [row["trial"] for row in pruned]
    assert line(axis, "the recipe itself")[1] == [complete[0]["mae_CFe"]] * 2
    assert axis.get_ylabel() == "mean absolute error of [C/Fe] (dex)"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_trial_is_inside_the_limits_and_a_very_poor_one_hides_no_difference(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    metric = "mae" if sign > 0 else "r2"
    outcome = searched(toys, tmp_path, monkeypatch, metrics=[metric], prune={"name": "none"}, trials=9)
    schedule = outcome.schedules[0]
    values = [0.5 + 0.01 * (row["trial"] % 7) for row in results.rows(schedule)]
    values[3], values[7] = 0.5 - 0.4 * sign, 0.5 + 30.0 * sign  # the best and the worst one by far
    trials = [
        row | {f"{metric}_CFe": value, "state": "complete", "recipe_as_it_is": False}
        for row, value in zip(results.rows(schedule), values, strict=True)
    ]
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    study_plots.history(schedule, trials)
    study_plots.slices(schedule, trials, ["optimiser.lr"])
    for figure in drawn:
        low, high = figure.axes[0].get_ylim()
        assert low < values[3] < high
        assert low < min(values[:3]) < max(values[:3]) < high
        assert high - low < 2
    assert len(drawn) == 2


def test_the_importances_name_the_setting_that_decides(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = searched(
        toys, tmp_path, monkeypatch, prune={"name": "none"}, metrics=["mae", "parameters"], trials=80
    )
    drawn = figures(outcome, monkeypatch)
    for name, number, setting in (("importances", 0, "optimiser.lr"), ("importances-parameters", 1, "batch")):
        axis = drawn[name].axes[0]
        shares = results.importances(outcome.schedules[0], number)
        widths = [bar.get_width() for bar in axis.patches]  # type: ignore[attr-defined]
        labels = [tick.get_text() for tick in axis.get_yticklabels()]
        assert dict(zip(labels, widths, strict=True)) == pytest.approx(shares)
        assert max(shares, key=lambda key: shares[key]) == setting
        assert axis.get_facecolor()[:3] == (1, 1, 1)


def test_parallel_lines_and_slices_show_every_complete_trial(
    plain: SearchOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = figures(plain, monkeypatch)
    varied = [row for row in rows_of(plain, "complete") if not row["recipe_as_it_is"]]
    parallel, slices = drawn["parallel"].axes[0], drawn["slices"].axes
    assert len(parallel.collections) == len(varied)
    names = ["optimiser.lr", "batch", "options.dropout", "options.depth", "ema"]
    assert [tick.get_text() for tick in parallel.get_xticklabels()] == [*names, "mae_CFe"]
    assert [axis.get_xlabel() for axis in slices] == names
    x = np.asarray(slices[0].collections[0].get_offsets())[:, 0]
    rates = np.array([row["set_optimiser.lr"] for row in varied])
    assert x == pytest.approx((np.log10(rates) + 4) / 3)  # from 1e-4 to 1e-1, on an axis from 0 to 1


def test_the_front_shows_the_trials_that_no_other_trial_beats(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = searched(toys, tmp_path, monkeypatch, metrics=["mae", "parameters"])
    axis = figures(outcome, monkeypatch)["front"].axes[0]
    complete = {row["trial"]: (row["mae_CFe"], row["parameters"]) for row in rows_of(outcome, "complete")}
    front = outcome.results["C_FE"].front
    assert front
    points = np.asarray(axis.collections[-1].get_offsets())
    assert sorted(map(tuple, points)) == sorted(complete[number] for number in front)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("mean absolute error of [C/Fe] (dex)", "parameters")
    assert "was finished before: nothing to do" in report.summary(tune.tune(outcome.settings), [])


def test_the_summary_names_the_gain_and_the_reasons_of_failures(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = searched(toys, tmp_path, monkeypatch, name="toy")
    text = report.summary(outcome, ["x.png"])
    assert "C_FE       16 of 16 trials finished" in text
    assert "as it is" in text
    assert "not repeated" in text
    assert "gain" not in text  # nothing is claimed from one training each
    failed = outcome.progress[0].counts["failed"]
    assert failed
    assert f"failed   {failed} times: the gradients are not finite" in text
    assert f"with={tmp_path}/winners/toy-C_FE.yaml" in text


def picked(trial: int, settings: dict[str, Any]) -> PickedTrial:
    seeds = SeedSummary(mean=0.11, interval=(0.09, 0.13), values=(0.1, 0.11, 0.12))
    return PickedTrial(trial=trial, values=(0.1,), settings=settings, best_epoch=2, seeds=seeds)


def test_a_gain_whose_interval_contains_zero_is_called_not_certain() -> None:
    result = TargetResult(
        study="x-C_FE",
        metrics=("mae_CFe",),
        trials={"complete": 4},
        best=picked(3, {"batch": 16}),
        recipe=picked(0, {}),
        gain=Gain(by=0.001, share=0.01, interval=(-0.01, 0.012)),
        failed_runs={"seeds/x": "no luck"},
    )
    text = report.result_table("C_FE", result)
    assert "0.11 (0.09 to 0.13), 3 seeds" in text
    assert "not certain: the interval contains 0" in text
    assert "seeds/x: no luck" in text
    empty = TargetResult(study="x-C_FE", metrics=("mae_CFe",), trials={})
    assert "no trial reached its end" in report.result_table("C_FE", empty)


def test_a_study_of_one_trial_has_a_history_and_no_other_plot(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = searched(toys, tmp_path, monkeypatch, trials=1)
    assert set(study_plots.pictures(outcome.schedules[0])) == {"history"}


def test_metrics_have_names_for_people() -> None:
    assert study_plots.metric_name("mae_CFe") == "mean absolute error of [C/Fe] (dex)"
    assert study_plots.metric_name("training_seconds") == "training (s)"
    assert study_plots.metric_name("r2_mean") == "r2 mean"


def test_a_study_that_is_only_shown_is_not_drawn(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = searched(toys, tmp_path, monkeypatch, trials=2)
    shown = tune.tune(outcome.settings.model_copy(update={"show": True}))
    assert report.pictures(shown) == []
    assert "is run by no process that this machine can see" in report.summary(shown, [])
