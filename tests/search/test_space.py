"""Search spaces: what they draw, and what is told of those that will not do."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from survey.search import space
from survey.search.space import Space
from survey.settings import SettingsError
from tests.search import sweeps

ROOT = Path(__file__).resolve().parents[2]
BASE = sweeps.TRAIN | {"store": "s", "labels": "l", "run": "r"}


def read(folder: Path, lines: dict[str, Any], train: dict[str, Any] | None = None, **base: Any) -> Space:
    return space.read(str(sweeps.space(folder, lines, train)), BASE | base)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"optimiser.rl": {"log": [1e-5, 1e-2]}}, r"optimiser.rl: unknown setting; did you mean optimiser.lr\?"),
    ({"options.droput": {"range": [0.1, 0.2]}}, r"unknown setting of prism; did you mean options.dropout\?"),
    (
        {"optimiser.lr": {"log": [1e-2, 1e-5]}},
        r"from 0.01 to 1e-05 there is nothing; give the smaller number first, \[1e-05, 0.01\]",
    ),
    ({"optimiser.lr": {"log": [0, 1e-2]}}, "begins at 0, which has no logarithm"),
    ({"optimiser.lr": {"log": ["tiny", 1e-2]}}, "'tiny' is no number; give one"),
    ({"optimiser.lr": {"log": [1e-5, 1000.0]}}, "optimiser.lr: 1000.0: should be less than or equal to 100"),
    ({"optimiser.lr": {"log": [1e-5]}}, "give two numbers"),
    ({"optimiser.lr": {"lgo": [1e-5, 1e-2]}}, "say how it varies"),
    ({"optimiser.lr": {"log": [1e-5, 1e-2], "range": [1, 2]}}, "say how it varies"),
    (
        {"optimiser.lr": {"log": [1e-5, 1e-2], "steps": 3}},
        "steps: unknown word; there are log, range, choices, step, when",
    ),
    ({"optimiser.lr": {"log": [1e-5, 1e-2], "step": 1e-3}}, "a range in logarithms has no steps"),
    ({"optimiser.lr": [1e-5, 1e-2]}, "say how it varies"),
    ({"epochs": {"range": [1.5, 4]}}, "1.5: the setting is a whole number"),
    ({"epochs": {"range": [10, 40], "step": 7}}, "7: does not lead from 10 to 40"),
    ({"epochs": {"range": [True, 40]}}, "True is no number"),
    ({"batch": {"choices": ["16", 32]}}, "batch: '16': should be a valid integer"),
    ({"batch": {"choices": []}}, "give a list of values"),
    ({"batch": {"choices": [16, 16]}}, "holds a value twice"),
    ({"batch": {"choices": [16, 32], "step": 2}}, "choices have no steps"),
    ({"model": {"choices": ["prism", "prsm"]}}, "there is no network 'prsm'; there are"),
    ({"options.depth": {"range": [0, 3]}}, "depth: 0: should be greater than or equal to 1"),
    ({"options.version": {"choices": ["first"], "when": {"model": "rescnn"}}}, "unknown setting of prism"),
    ({"batch": {"choices": [16, 32], "when": {"ema": 0.9}}}, "ema is not tried in this space"),
    (
        {"batch": {"choices": [16, 32], "when": {"optimiser.lr": 0.1}}, "optimiser.lr": {"log": [0.01, 0.1]}},
        "has a range, no choices",
    ),
    (
        {"ema": {"choices": [0.9], "when": {"batch": 64}}, "batch": {"choices": [16, 32]}},
        "batch is never 64; its choices are 16, 32",
    ),
    (
        {"ema": {"choices": [0.9], "when": {"batch": 16}}, "batch": {"choices": [16], "when": {"ema": 0.9}}},
        "ema, batch hang on one another",
    ),
    ({"seed": {"choices": [1, 2]}}, "seed: is set by the search itself"),
    ({"split.seed": {"choices": [1, 2]}}, "set by the search itself"),
    ({"threads": {"choices": [1, 2]}}, "threads: does not change what comes out"),
    (
        {"model": {"choices": ["prism", "ridge"]}, "batch": {"choices": [16, 32]}},
        "batch: means nothing to ridge, which is fitted at once",
    ),
    ({}, "says nothing"),
]


@pytest.mark.parametrize(("lines", "told"), BAD, ids=[told[:30] for _, told in BAD])
def test_a_bad_space_is_told_before_any_work(tmp_path: Path, lines: dict[str, Any], told: str):
    with pytest.raises(SettingsError, match=told) as error:
        read(tmp_path, lines)
    assert "space" in str(error.value)


def test_a_setting_is_fixed_or_tried_but_not_both(tmp_path: Path):
    with pytest.raises(SettingsError, match="batch: 8 in its train:, but tried in its space"):
        read(tmp_path, {"batch": {"choices": [16, 32]}}, {"batch": 8})


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere.yaml: no such file"):
        space.read(str(tmp_path / "nowhere.yaml"), BASE)


def draws(found: Space, count: int = 40) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    made = []
    for _ in range(count):
        trial = study.ask()
        made.append(found.drawn(trial))
        study.tell(trial, 0.0)
    return made


def test_what_is_drawn_lies_in_the_ranges_and_makes_a_training(tmp_path: Path):
    lines = sweeps.SPACE | {
        "epochs": {"range": [10, 40], "step": 10},
        "optimiser.betas": {"choices": [[0.9, 0.99], [0.8, 0.9]]},
    }
    found = read(tmp_path, lines)
    made = draws(found)
    assert {row["epochs"] for row in made} == {10, 20, 30, 40}
    assert all(type(row["epochs"]) is int and 1e-4 <= row["optimiser.lr"] <= 1e-1 for row in made)
    assert all(float(f"{row['optimiser.lr']:.4g}") == row["optimiser.lr"] for row in made)
    trained = space.checked("x", space.laid_over(BASE, made[0]))
    assert trained.optimiser.lr == made[0]["optimiser.lr"]
    assert list(trained.optimiser.betas) == made[0]["optimiser.betas"]
    assert trained.options["components"] == 16  # the recipe's stay


def test_a_condition_decides_what_is_drawn_and_another_network_has_options_of_its_own(tmp_path: Path):
    lines = {
        "options.version": {"choices": ["first", "second"], "when": {"model": "rescnn"}},
        "options.hidden": {"range": [16, 64], "when": {"model": ["prism"]}},
        "model": {"choices": ["prism", "rescnn"]},
    }
    found = read(tmp_path, lines)
    for row in draws(found):
        assert ("options.version" in row) == (row["model"] == "rescnn") != ("options.hidden" in row)
        trained = space.checked("x", space.laid_over(BASE, row))
        assert ("components" in trained.options) == (row["model"] == "prism")


def test_the_recipe_stands_where_the_space_knows_its_values(tmp_path: Path):
    found = read(tmp_path, sweeps.SPACE | {"epochs": {"range": [10, 40]}, "ema": {"choices": [0.9, 0.99]}})
    usual = found.usual(BASE)
    assert usual == {
        "optimiser.lr": 1e-3,
        "options.dropout": 0.1,
    }  # the network's own rate; 2 epochs, batch 64 and no mean are not in the space


def test_near_the_best_is_half_to_twice_within_the_range_and_on_its_steps(tmp_path: Path):
    found = read(tmp_path, sweeps.SPACE | {"epochs": {"range": [10, 100], "step": 10}})
    knobs = {one.key: one for one in found.knobs}
    lr, epochs = knobs["optimiser.lr"].near(0.08), knobs["epochs"].near(30)
    assert (lr.low, lr.high) == (0.04, 0.1)
    assert (epochs.low, epochs.high, epochs.step) == (20, 60, 10)
    assert knobs["batch"].near(16) == knobs["batch"].distribution
    assert knobs["options.dropout"].near(0.0) == knobs["options.dropout"].distribution


def test_a_grid_has_every_combination_once_and_knows_conditions(tmp_path: Path):
    lines = {
        "optimiser.lr": {"log": [1e-4, 1e-2]},
        "batch": {"choices": [16, 32]},
        "ema": {"choices": [0.0, 0.9], "when": {"batch": 16}},
    }
    points = read(tmp_path, lines).grid(3, 0)
    assert len(points) == 3 * 3
    assert len({str(point) for point in points}) == 9
    assert all(("ema" in point) == (point["batch"] == 16) for point in points)
    assert {round(math.log10(point["optimiser.lr"]), 6) for point in points} == {-4, -3, -2}
    with pytest.raises(SettingsError, match="points; give fewer points"):
        read(tmp_path, lines).grid(100_000, 0)


@pytest.mark.parametrize("path", sorted((ROOT / "tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_of_ours_is_sound(path: Path):
    if "space:" in path.read_text():
        space.read(str(path), {"store": "s", "labels": "l", "run": "r"})
