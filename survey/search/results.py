"""The results of a search: its trials as a table, the best two next to the recipe, and what mattered.

The best two of each target are also written as small recipes that `with=` of survey train reads.
Everything is computed from the study and from the folders of its runs.
"""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pyarrow as pa
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ConfigDict

from survey import files
from survey.recipes import merge_recipes
from survey.search.dimension import Dimension
from survey.search.schedule import TargetSchedule
from survey.search.seeds import NO_GAIN, Gain, SeedScores, SeedSummary, gain, rounded
from survey.search.settings import Tune
from survey.search.space import Values, with_values
from survey.search.study import REASON, RECIPE, SECONDS, STAGE, last_epoch

MIN_TRIALS = 6
"""With fewer trials nothing can be said about what mattered."""
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
RECIPES = "recipes"
"""The folder of a study with the recipes of the best two trials."""

WINNERS = {"best": "", "second": "-second"}
"""The roles of trials that become recipes, with the endings of their files' names."""
LOCAL = ("store", "labels", "run", "workers")
"""Settings that belong to the place of a training and not to the winner."""


class PickedTrial(BaseModel):
    """A trial in the results: its metrics, the settings that it varied, and its scores with other seeds."""

    model_config = ConfigDict(frozen=True)

    trial: int
    values: tuple[float, ...]
    settings: dict[str, Any]
    best_epoch: int | None
    seeds: SeedSummary


class TargetResult(BaseModel):
    """The results for one target.

    `trials` counts trials by state, and those `wanted`; `reasons` counts failed trials by reason; `front`
    are the trials that no other trial beats in all metrics, if there are several; `failed_runs` are
    trainings after the trials that failed, with their reasons.
    """

    model_config = ConfigDict(frozen=True)

    study: str
    metrics: tuple[str, ...]
    trials: dict[str, int]
    reasons: dict[str, int] = {}
    importances: dict[str, float] = {}
    best: PickedTrial | None = None
    second: PickedTrial | None = None
    recipe: PickedTrial | None = None
    gain: Gain | None = None
    front: tuple[int, ...] = ()
    failed_runs: dict[str, str] = {}

    def picked(self) -> dict[str, PickedTrial]:
        """The trials that there are of `best`, `second` and `recipe`."""
        roles = {"best": self.best, "second": self.second, "recipe": self.recipe}
        return {role: trial for role, trial in roles.items() if trial}


def target_result(schedule: TargetSchedule) -> TargetResult:
    """The results for one target so far."""
    study, picked = schedule.study, schedule.ranked()
    scores = {role: schedule.seed_scores(trial.number) for role, trial in picked.items()}
    better_by = None
    if {"recipe", "best"} <= picked.keys():
        is_recipe = picked["recipe"].number == picked["best"].number
        better_by = NO_GAIN if is_recipe else _gain(schedule, picked, scores)
    several = len(schedule.target.metrics) > 1
    counts = {name: study.count(state) for state, name in STATES.items()}
    trials = {
        role: PickedTrial(
            trial=trial.number,
            values=tuple(float(f"{value:.5g}") for value in trial.values),
            settings=study.chosen(trial),
            best_epoch=trial.user_attrs.get("best_epoch"),
            seeds=scores[role].summary(),
        )
        for role, trial in picked.items()
    }
    return TargetResult(
        study=study.name,
        metrics=schedule.target.metrics,
        trials=counts | {"wanted": study.wanted},
        reasons=reasons(study.trials()),
        importances={key: rounded(share) or 0.0 for key, share in importances(schedule).items()},
        gain=better_by,
        front=tuple(sorted(trial.number for trial in study.optuna_study.best_trials)) if several else (),
        failed_runs=schedule.failed_runs,
        **trials,
    )


def _gain(
    schedule: TargetSchedule, picked: Mapping[str, FrozenTrial], scores: Mapping[str, SeedScores]
) -> Gain | None:
    """The gain of the best over the recipe. By a single metric, the same scores chose it of the best two."""
    changed = {picked[role].number for role in ("best", "second") if role in picked}
    choices = len(changed - {picked["recipe"].number}) if len(schedule.target.metrics) == 1 else 1
    return gain(scores["recipe"], scores["best"], schedule.target.signs[0], choices)


def reasons(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """How often trials failed for each reason."""
    return dict(Counter(str(trial.user_attrs[REASON]) for trial in trials if REASON in trial.user_attrs))


def rows(schedule: TargetSchedule) -> list[dict[str, Any]]:
    """One row per trial: its settings, what it reached and how it ended."""
    return [_row(schedule, trial) for trial in schedule.study.trials() if trial.state in STATES]


def _row(schedule: TargetSchedule, trial: FrozenTrial) -> dict[str, Any]:
    metrics = schedule.target.metrics
    values = trial.values or [math.nan] * len(metrics)
    if trial.state == TrialState.PRUNED and len(metrics) == 1 and trial.intermediate_values:
        values = [trial.intermediate_values[max(trial.intermediate_values)]]
    return {
        "element": schedule.target.name,
        "trial": trial.number,
        "state": STATES[trial.state],
        "recipe_as_it_is": RECIPE in trial.user_attrs,
        "stage": int(trial.user_attrs.get(STAGE, 1)),
        **dict(zip(metrics, map(float, values), strict=True)),
        "epochs": last_epoch(trial),
        "best_epoch": trial.user_attrs.get("best_epoch"),
        SECONDS: trial.user_attrs.get(SECONDS),
        "parameters": trial.user_attrs.get("parameters"),
        "reason": trial.user_attrs.get(REASON),
        **{f"set_{key}": value for key, value in schedule.study.chosen(trial).items()},
    }


def table(schedules: Sequence[TargetSchedule]) -> pa.Table:
    """The trials of all targets; a column with values of several kinds is text."""
    every = [row for schedule in schedules for row in rows(schedule)]
    names = dict.fromkeys(name for row in every for name in row)
    return pa.table({name: _column([row.get(name) for row in every]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values])
    if kinds <= {int, float} or kinds in ({str}, {bool}):
        return pa.array(values)
    return pa.array([None if value is None else str(value) for value in values])


def importances(schedule: TargetSchedule, metric: int = 0) -> dict[str, float]:
    """The share of the differences between trials that each setting explains.

    Empty where there are too few trials, or where every setting has conditions.
    """
    study = comparable(schedule, metric)
    if study is None:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError) as error:  # if all values of a setting are the same, for example
        logging.getLogger(__name__).debug("importances: %s", error)
        return {}
    return {key: float(share) for key, share in shares.items() if math.isfinite(share)}


def comparable(schedule: TargetSchedule, metric: int = 0) -> optuna.Study | None:
    """A study in memory of the complete trials, with those settings that every trial has and with one metric.

    None if that is too little to compare. A second stage has ranges of its own, so each trial gets those of
    the space.
    """
    dimensions = [dimension for dimension in schedule.target.space.dimensions if not dimension.when]
    space = {dimension.key: distribution(dimension) for dimension in dimensions}
    trials = [trial for trial in schedule.study.complete() if space.keys() <= trial.params.keys()]
    if len(trials) < MIN_TRIALS or not space or len({trial.values[metric] for trial in trials}) < 2:
        return None
    direction = StudyDirection.MINIMIZE if schedule.target.signs[metric] > 0 else StudyDirection.MAXIMIZE
    study = optuna.create_study(direction=direction)
    for trial in trials:
        # to_stored: Optuna refuses numbers that lie above a range by a rounding
        params = {dimension.key: dimension.to_stored(trial.params[dimension.key]) for dimension in dimensions}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=trial.values[metric])
        )
    return study


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """A dimension as Optuna describes it."""
    if dimension.choices:
        return CategoricalDistribution(dimension.stored_choices())
    if dimension.is_integer:
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def write_winners(settings: Tune, schedule: TargetSchedule, result: TargetResult) -> list[str]:
    """Write the recipes of the best two; a file that is the same already is left alone."""
    first = settings.name or settings.study.rstrip("/").rpartition("/")[2]
    folder = settings.winners or files.join(settings.study, RECIPES)
    paths = []
    for role, ending in WINNERS.items():
        if trial := result.picked().get(role):
            path = files.join(folder, f"{first}-{schedule.target.name}{ending}.yaml")
            text = _winner(settings, schedule, result, role, trial).encode()
            if not files.exists(path) or files.read(path) != text:
                files.write(path, text)
            paths.append(path)
    return paths


def _winner(
    settings: Tune, schedule: TargetSchedule, result: TargetResult, role: str, trial: PickedTrial
) -> str:
    """The recipe of a winner: how it was found, and what it changes in the recipe of the search."""
    train = with_values(schedule.target.train, trial.settings)
    train = {name: value for name, value in train.items() if name not in LOCAL}
    seeds, recipe = trial.seeds, result.recipe
    if seeds.values:
        score = f"{seeds.mean:.4g} (mean of {len(seeds.values)} seeds)"
    else:
        score = f"{trial.values[0]:.4g} (one training)"
    metric = f"{result.metrics[0]} {score}"
    rank = "the best" if role == "best" else "the second best"
    content = {
        "about": f"{schedule.target.name}, {rank} of a search: {metric} on the validation part",
        "results": {
            "study": result.study,
            "trial": trial.trial,
            "metrics": dict(zip(result.metrics, trial.values, strict=True)),
            **_score(seeds),
            **({} if seeds.values else {"score": trial.values[0]}),
            "seeds": len(seeds.values),
            "trials": result.trials,
            "recipe": _score(recipe.seeds) if recipe else None,
            "gain": result.gain.model_dump(mode="json") if result.gain and role == "best" else None,
        },
        "train": changes(settings.train, train),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def _score(seeds: SeedSummary) -> Values:
    return {"score": seeds.mean, "interval": list(seeds.interval) if seeds.interval else None}


def changes(below: Values, above: Values) -> Values:
    """The settings of `above` that differ from `below`: laid over `below`, they give `above`."""
    merged = merge_recipes(below, above)
    other_model = "model" in above and above["model"] != below.get("model")
    different: Values = {}
    for name, value in above.items():
        is_own_option = name == "options" and other_model
        if name in below and below[name] == merged[name] and not is_own_option:
            continue
        inner = below.get(name)
        is_nested = isinstance(value, dict) and isinstance(inner, dict) and not is_own_option
        different[name] = changes(inner, value) if is_nested and isinstance(inner, dict) else value
    return different
