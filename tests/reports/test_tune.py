"""What a person sees of a search: plots where there are trials enough, and the numbers with their intervals."""

import math
from pathlib import Path
from typing import Any

import pytest

from survey.reports import study_plots
from survey.reports import tune as study
from survey.search import schedule, tune
from tests.search import sweeps
from tests.training import lessons


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    return folder


def score(train: Any) -> float:
    """Best at a rate of 3e-3; a hundred times that fails, and some are far worse than all others."""
    lr = train.optimiser.lr or 1e-3
    far = abs(math.log10(lr) + 2.5)
    return math.nan if lr > 0.06 else 0.06 + 0.02 * far**2 + (5.0 if lr < 2e-4 else 0.0)


def searched(toys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tune.Outcome:
    monkeypatch.setattr(schedule, "work", sweeps.pretended(score))
    lines = sweeps.SPACE | {
        "options.depth": {"range": [1, 3]},
        "ema": {"choices": [0.0, 0.9], "when": {"batch": 16}},
    }
    lines["batch"] = {"choices": [16, 32, 64]}
    return tune.tune(
        sweeps.wanted(
            toys,
            folder,
            space=str(sweeps.space(folder, lines)),
            elements=["C_FE"],
            **({"trials": 16} | changes),
        )
    )


def test_a_search_is_drawn_from_all_sides_once(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outcome = searched(toys, tmp_path, monkeypatch, prune={"name": "none"})
    paths = study.pictures(outcome)
    assert [Path(path).name for path in paths] == [
        f"C_FE-{name}.png" for name in ("history", "importances", "parallel", "slices")
    ]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)
    stamps = {path: Path(path).stat().st_mtime_ns for path in paths}
    again = tune.tune(outcome.settings)
    assert study.pictures(again) == paths
    assert {path: Path(path).stat().st_mtime_ns for path in paths} == stamps


def test_two_metrics_have_their_front_drawn(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outcome = searched(toys, tmp_path, monkeypatch, metrics=["mae", "parameters"])
    assert {"history", "front", "slices"} <= set(study_plots.pictures(outcome.quests[0]))
    assert "finished before: nothing to do" in study.summary(tune.tune(outcome.settings), [])


def test_the_summary_says_what_was_gained_and_what_failed(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outcome = searched(toys, tmp_path, monkeypatch, name="toy")
    text = study.summary(outcome, ["x.png"])
    assert "C_FE       16 of 16 trials finished" in text
    assert "as it is" in text
    assert "not repeated" in text
    assert "gain" not in text  # of one training each nothing is claimed
    assert "times: the gradients are not finite" in text or not outcome.found["C_FE"]["reasons"]
    assert f"with={tmp_path}/winners/toy-C_FE.yaml" in text


def test_intervals_are_told_and_a_gain_that_may_be_none_is_called_so():
    one = {
        "trial": 3,
        "values": [0.1],
        "set": {"batch": 16},
        "repeated": {"mean": 0.11, "interval": [0.09, 0.13], "values": [0.1, 0.11, 0.12]},
    }
    usual = one | {"trial": 0, "set": {}}
    gain = {"by": 0.001, "share": 0.01, "interval": [-0.01, 0.012]}
    text = study.table(
        "C_FE",
        {
            "metrics": ["mae_CFe"],
            "best": one,
            "usual": usual,
            "gain": gain,
            "unwell": {"repeats/x": "no luck"},
        },
    )
    assert "0.11 (0.09 to 0.13), 3 seeds" in text
    assert "no sure gain: the interval holds 0" in text
    assert "repeats/x: no luck" in text
    assert "no trial went to its end" in study.table("C_FE", {"metrics": ["mae_CFe"], "unwell": {}})


def test_one_trial_has_a_history_and_nothing_else(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outcome = searched(toys, tmp_path, monkeypatch, trials=1)
    assert set(study_plots.pictures(outcome.quests[0])) == {"history"}
    assert study_plots.metric_name("mae_CFe") == "mean absolute error of [C/Fe] (dex)"
    assert study_plots.metric_name("training_seconds") == "training (s)"
    assert study_plots.metric_name("r2_mean") == "r2 mean"


def test_a_study_that_is_only_looked_at_is_not_drawn(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outcome = searched(toys, tmp_path, monkeypatch, trials=2)
    shown = tune.tune(outcome.settings.model_copy(update={"show": True}))
    assert study.pictures(shown) == []
    assert "nobody seems to be at work on it" in study.summary(shown, [])
