"""Search spaces: what they suggest, and the errors of those that are wrong."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.search.dimension import read_dimension
from survey.search.space import SearchSpace, Values, read_space, with_values
from survey.search.study import recipe_params
from survey.search.target import Target
from survey.settings import SettingsError
from survey.training.settings import Train
from tests.search import sweeps

ROOT = Path(__file__).resolve().parents[2]
BASE = sweeps.TRAIN | {"store": "s", "labels": "l", "run": "r"}


def space_of(
    folder: Path, lines: dict[str, Any], train: dict[str, Any] | None = None, **base: Any
) -> SearchSpace:
    return read_space(str(sweeps.write_space(folder, lines, train)), BASE | base)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"optimiser.rl": {"log": [1e-5, 1e-2]}}, r"optimiser.rl: unknown setting; did you mean optimiser.lr\?"),
    ({"options.droput": {"range": [0.1, 0.2]}}, r"unknown setting of prism; did you mean options.dropout\?"),
    ({"optimiser.lr": {"log": [1e-2, 1e-5]}}, r"the range \[0.01, 1e-05\] is empty; give \[low, high\]"),
    ({"optimiser.lr": {"log": [0, 1e-2]}}, "the range begins at 0, which has no logarithm"),
    ({"optimiser.lr": {"log": ["tiny", 1e-2]}}, "'tiny' is not a number; give one"),
    ({"optimiser.lr": {"log": [1e-5, 1000.0]}}, "optimiser.lr: 1000.0: should be less than or equal to 100"),
    ({"optimiser.lr": {"log": [1e-5]}}, "is not a range; give two numbers"),
    ({"optimiser.lr": {"lgo": [1e-5, 1e-2]}}, "does not say which values to try"),
    ({"optimiser.lr": {"log": [1e-5, 1e-2], "range": [1, 2]}}, "does not say which values to try"),
    (
        {"optimiser.lr": {"log": [1e-5, 1e-2], "steps": 3}},
        "steps: unknown word; give log, range, choices, step or when",
    ),
    ({"optimiser.lr": {"log": [1e-5, 1e-2], "step": 1e-3}}, "a logarithmic range has no step"),
    ({"optimiser.lr": [1e-5, 1e-2]}, "does not say which values to try"),
    ({"epochs": {"range": [1.5, 4]}}, "1.5: the setting is a whole number"),
    ({"epochs": {"range": [10, 40], "step": 7}}, "7 does not lead from 10 to 40"),
    ({"epochs": {"range": [True, 40]}}, "True is not a number"),
    ({"batch": {"choices": ["16", 32]}}, "batch: '16': should be a valid integer"),
    ({"batch": {"choices": []}}, "is not a list of values; give two or more"),
    ({"batch": {"choices": [16, 16]}}, "holds a value twice"),
    ({"batch": {"choices": [16, 32], "step": 2}}, "choices have no step"),
    ({"model": {"choices": ["prism", "prsm"]}}, "there is no network 'prsm'; give one of"),
    ({"options.depth": {"range": [0, 3]}}, "depth: 0: should be greater than or equal to 1"),
    ({"options.version": {"choices": ["first"], "when": {"model": "rescnn"}}}, "unknown setting of prism"),
    ({"batch": {"choices": [16, 32], "when": {"ema": 0.9}}}, "ema is not varied in this space"),
    (
        {"batch": {"choices": [16, 32], "when": {"optimiser.lr": 0.1}}, "optimiser.lr": {"log": [0.01, 0.1]}},
        "has a range and no choices",
    ),
    (
        {"ema": {"choices": [0.9], "when": {"batch": 64}}, "batch": {"choices": [16, 32]}},
        "batch is never 64; its choices are 16, 32",
    ),
    (
        {"ema": {"choices": [0.9], "when": {"batch": 16}}, "batch": {"choices": [16], "when": {"ema": 0.9}}},
        "ema, batch depend on each other",
    ),
    ({"seed": {"choices": [1, 2]}}, "seed: is set by the search itself"),
    ({"split.seed": {"choices": [1, 2]}}, "set by the search itself"),
    ({"threads": {"choices": [1, 2]}}, "threads: does not change the result"),
    (
        {"model": {"choices": ["prism", "ridge"]}, "batch": {"choices": [16, 32]}},
        "batch: ridge does not use this setting",
    ),
    ({}, "space: is empty"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_a_wrong_space_is_reported_before_any_work(
    tmp_path: Path, lines: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        space_of(tmp_path, lines)
    assert "space" in str(error.value)


def test_a_setting_is_fixed_or_varied_but_not_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch: is fixed as 8 in train: and varied in space:"):
        space_of(tmp_path, {"batch": {"choices": [16, 32]}}, {"batch": 8})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.yaml: no such file"):
        read_space(str(tmp_path / "nowhere.yaml"), BASE)


def test_a_misspelt_key_in_a_space_is_reported_without_loading_torch_or_optuna(tmp_path: Path) -> None:
    path = sweeps.write_space(tmp_path, {"optimiser.rl": {"log": [1e-5, 1e-2]}})
    code = (
        "import sys\n"
        "from survey.search.settings import Tune\n"
        "from survey.settings import SettingsError\n"
        "values = {'study': 's', 'store': 's', 'labels': 'l', 'space': sys.argv[1]}\n"
        "try:\n    Tune.from_dict('tune', values)\nexcept SettingsError as error:\n    print(error)\n"
        "heavy = {'torch', 'ray', 'optuna', 'scipy', 'sklearn', 'pyarrow', 'pandas', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    message, loaded = done.stdout.splitlines()
    assert "optimiser.rl: unknown setting; did you mean optimiser.lr?" in message
    assert loaded == "[]"


def suggestions(space: SearchSpace, count: int = 40) -> list[Values]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    rows = []
    for _ in range(count):
        trial = study.ask()
        rows.append(space.suggest(trial))
        study.tell(trial, 0.0)
    return rows


def test_suggested_values_lie_in_the_ranges_and_give_a_training(tmp_path: Path) -> None:
    lines = sweeps.SPACE | {
        "epochs": {"range": [10, 40], "step": 10},
        "optimiser.betas": {"choices": [[0.9, 0.99], [0.8, 0.9]]},
    }
    rows = suggestions(space_of(tmp_path, lines))
    assert {row["epochs"] for row in rows} == {10, 20, 30, 40}
    assert all(type(row["epochs"]) is int and 1e-4 <= row["optimiser.lr"] <= 1e-1 for row in rows)
    assert all(float(f"{row['optimiser.lr']:.4g}") == row["optimiser.lr"] for row in rows)
    train = Train.from_dict("x", with_values(BASE, rows[0]))
    assert train.optimiser.lr == rows[0]["optimiser.lr"]
    assert list(train.optimiser.betas) == rows[0]["optimiser.betas"]
    assert train.options["components"] == 16  # options of the recipe stay


def test_a_condition_decides_which_values_are_suggested_and_networks_have_their_own_options(
    tmp_path: Path,
) -> None:
    lines = {
        "options.version": {"choices": ["first", "second"], "when": {"model": "rescnn"}},
        "options.hidden": {"range": [16, 64], "when": {"model": ["prism"]}},
        "model": {"choices": ["prism", "rescnn"]},
    }
    for row in suggestions(space_of(tmp_path, lines)):
        assert ("options.version" in row) == (row["model"] == "rescnn") != ("options.hidden" in row)
        train = Train.from_dict("x", with_values(BASE, row))
        assert ("components" in train.options) == (row["model"] == "prism")


def test_the_recipe_has_params_where_the_space_contains_its_values(tmp_path: Path) -> None:
    """2 epochs, a batch of 64 and no mean are not in the space; the learning rate is the network's own."""
    lines = sweeps.SPACE | {"epochs": {"range": [10, 40]}, "ema": {"choices": [0.9, 0.99]}}
    target = Target("FE", BASE, ("mae_FeH",), space_of(tmp_path, lines))
    assert recipe_params(target) == {"optimiser.lr": 1e-3, "options.dropout": 0.1}


def test_a_recipe_value_is_found_among_choices_that_are_written_as_another_type(tmp_path: Path) -> None:
    space = space_of(tmp_path, {"ema": {"choices": [0, 0.9]}, "view.smooth": {"choices": [0, 5]}})
    target = Target("FE", BASE, ("mae_FeH",), space)
    assert space.to_settings(recipe_params(target)) == {"ema": 0, "view.smooth": 0}


def test_a_narrowed_dimension_goes_from_half_to_twice_the_best_within_its_range_and_on_its_steps(
    tmp_path: Path,
) -> None:
    space = space_of(tmp_path, sweeps.SPACE | {"epochs": {"range": [10, 100], "step": 10}})
    dimensions = {dimension.key: dimension for dimension in space.dimensions}
    lr, epochs = dimensions["optimiser.lr"].narrowed(0.08), dimensions["epochs"].narrowed(30)
    assert (lr.low, lr.high) == (0.04, 0.1)
    assert (epochs.low, epochs.high, epochs.step) == (20, 60, 10)
    assert dimensions["batch"].narrowed(16) == dimensions["batch"]
    assert dimensions["options.dropout"].narrowed(0.0) == dimensions["options.dropout"]


@pytest.mark.parametrize(
    ("ends", "step", "values"),
    [
        ([0.1, 0.3], 0.1, [0.1, 0.2, 0.3]),
        ([0.1, 0.7], 0.2, [0.1, 0.3, 0.5, 0.7]),
        ([-0.3, 0.3], 0.1, [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]),
        ([1e-5, 3e-5], 1e-5, [1e-5, 2e-5, 3e-5]),
    ],
)
def test_steps_of_a_range_do_not_leave_it_by_a_rounding(
    ends: list[float], step: float, values: list[float]
) -> None:
    dimension = read_dimension("x", "x", {"range": ends, "step": step}, is_integer=False)
    assert dimension.grid(99) == values
    assert [dimension.to_stored(value) for value in values] == values
    assert dimension.to_stored(ends[1] * (1 + 1e-15)) == ends[1]
    assert dimension.to_stored(ends[1] + step) is None
    narrowed = dimension.narrowed(values[-2])
    assert {narrowed.low, narrowed.high} <= set(values)


def test_a_grid_has_every_combination_once_and_respects_conditions(tmp_path: Path) -> None:
    lines = {
        "optimiser.lr": {"log": [1e-4, 1e-2]},
        "batch": {"choices": [16, 32]},
        "ema": {"choices": [0.0, 0.9], "when": {"batch": 16}},
    }
    points = space_of(tmp_path, lines).grid(3, 0)
    assert len(points) == 3 * 3
    assert len({str(point) for point in points}) == 9
    assert all(("ema" in point) == (point["batch"] == 16) for point in points)
    assert {round(math.log10(point["optimiser.lr"]), 6) for point in points} == {-4, -3, -2}
    with pytest.raises(SettingsError, match="points; give fewer points"):
        space_of(tmp_path, lines).grid(100_000, 0)


@pytest.mark.parametrize("path", sorted((ROOT / "tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_of_the_project_is_correct(path: Path) -> None:
    if "space:" in path.read_text():
        read_space(str(path), {"store": "s", "labels": "l", "run": "r"})
