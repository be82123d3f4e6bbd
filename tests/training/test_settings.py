"""Wrong settings of a training are reported before anything heavy is loaded, and nothing is written."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from survey.settings import SettingsError
from survey.training.settings import Train, is_better

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"store": "store", "labels": "labels.csv", "run": "run"}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"targets": ["Unobtainium"]}, "there is no label 'Unobtainium'"),
    ({"model": "mpbd"}, "model: 'mpbd': there is no such model; did you mean mpbdnet"),
    ({"options": {"width": 3}}, "options.width: unknown setting"),
    (
        {"model": "ridge", "options": {"component": 3}},
        "options.component: unknown setting .*did you mean options.components",
    ),
    ({"freeze": ["body"]}, "freeze: body of a model that is not trained yet; give start_from=RUN"),
    ({"batch": 15, "workers": 2}, "batch: 15 spectra cannot be divided evenly among workers=2"),
    ({"threads": 0}, "threads: 0: is neither auto nor a number from 1"),
    ({"threads": "all"}, "threads: 'all': is neither auto nor a number from 1"),
    ({"split": {"parts": [0.7, 0.1, 0.1]}}, "split"),
    ({"split": {"parts": [0.8, 0.0, 0.2]}}, "split: there is no validation part to choose the best epoch by"),
    (
        {"learn_from": "train+validation"},
        "no validation part is left to choose the best epoch by; give keep=last",
    ),
    (
        {"learn_from": "train+validation", "keep": "last", "schedule": {"name": "plateau"}},
        "no validation part is left for schedule.name=plateau; give another schedule",
    ),
    ({"keep": "last", "patience": 3}, "keep=last: patience=3 stops by the best epoch, which is not kept"),
    ({"curriculum": {"first": 0.2}}, "curriculum.first=0.2 and epochs=0 do not fit together; give both"),
    (
        {"tracking": {"uri": "http://me:hush@host:5000"}},
        "holds a password or a token; give it in MLFLOW_TRACKING_USERNAME",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_mistake_is_reported_from_the_settings_alone(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Train.from_dict("train", NEEDED | changes)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as error:
        Train.from_dict("train", NEEDED | {"tracking": {"uri": "http://me:hush@host:5000"}})
    assert "hush" not in str(error.value)
    assert "http://me:***@host:5000" in str(error.value)


def test_the_settings_load_nothing_heavy() -> None:
    heavy = ("torch", "ray", "pyarrow", "pandas", "scipy", "sklearn", "matplotlib", "astropy", "mlflow")
    code = (
        "import sys\n"
        "from survey.training.settings import Train\n"
        f"Train.from_dict('train', {NEEDED | {'model': 'prism', 'options': {'hidden': 16}}!r})\n"
        f"sys.stdout.write(' '.join(name for name in {heavy!r} if name in sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_options_of_a_run_that_is_continued_are_not_those_of_the_default_model() -> None:
    """The model is then that of the other run, which is read later."""
    changes = {"start_from": "run", "options": {"components": 16}}
    assert Train.from_dict("train", NEEDED | changes).options == {"components": 16}


def test_the_help_lists_the_options_of_the_model() -> None:
    assert "options.components" in Train.extra_help({"model": "prism"})
    assert "options.alphas" not in Train.extra_help({})


def test_a_share_that_grows_ends_with_all_spectra() -> None:
    curriculum = Train.from_dict("train", NEEDED | {"curriculum": {"first": 0.25, "epochs": 2}}).curriculum
    assert [curriculum.share(epoch) for epoch in range(4)] == [0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("loss", 0.1, 0.2), ("mae_FeH", 0.1, 0.2), ("f1_CEMP", 0.2, 0.1), ("bias_Teff", -0.1, 0.2)],
)
def test_the_name_of_a_metric_says_which_value_is_better(metric: str, better: float, worse: float) -> None:
    assert is_better(metric, better, worse)
    assert not is_better(metric, worse, better)
    assert is_better(metric, worse, None)
    assert not is_better(metric, float("nan"), None)
