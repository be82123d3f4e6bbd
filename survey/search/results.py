"""What a search has found: its trials as a table, the best two beside the recipe as it is with intervals over seeds, what mattered.

Everything is computed from the study and the folders of its trainings; nothing is remembered.
"""

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
import pyarrow as pa
from optuna.trial import FrozenTrial, TrialState

from survey.search.seeds import gain, short
from survey.search.study import REASON, STAGE, USUAL, last_epoch, seconds
from survey.search.target import Quest
from survey.settings import over

NOTHING = {"by": 0.0, "share": 0.0, "interval": None}
"""The gain where nothing that was tried is better than the recipe as it is."""
ENOUGH = 6
"""Fewer trials say nothing of what mattered."""
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def rows(quest: Quest) -> list[dict[str, Any]]:
    """A row per trial: what it was, what it reached, how it ended."""
    found = []
    for one in quest.study.trials():
        values = one.values or ([math.nan] * len(quest.aim.metrics))
        if one.state == TrialState.PRUNED and len(quest.aim.metrics) == 1 and one.intermediate_values:
            values = [one.intermediate_values[max(one.intermediate_values)]]
        if one.state in STATES:
            found.append(
                {
                    "element": quest.aim.name,
                    "trial": one.number,
                    "state": STATES[one.state],
                    "recipe_as_it_is": USUAL in one.user_attrs,
                    "stage": int(one.user_attrs.get(STAGE, 1)),
                    **dict(zip(quest.aim.metrics, map(float, values), strict=True)),
                    "epochs": last_epoch(one),
                    "best_epoch": one.user_attrs.get("best_epoch"),
                    "training_seconds": one.user_attrs.get("training_seconds", seconds(one)),
                    "parameters": one.user_attrs.get("parameters"),
                    "reason": one.user_attrs.get(REASON),
                    **{f"set_{key}": value for key, value in quest.study.chosen(one).items()},
                }
            )
    return found


def table(quests: Sequence[Quest]) -> pa.Table:
    """The trials of all aims; values of settings that are of several kinds are told as text."""
    told = [row for quest in quests for row in rows(quest)]
    names = list(dict.fromkeys(name for row in told for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in told]
        kinds = {type(value) for value in values if value is not None}
        plain = kinds <= {int, float} or kinds in ({str}, {bool})
        columns[name] = pa.array(
            [
                float(v) if kinds == {int, float} and v is not None else v if plain or v is None else str(v)
                for v in values
            ]
        )
    return pa.table(columns)


def importances(quest: Quest, metric: int = 0) -> dict[str, float]:
    """How much of the difference between trials each setting explains; nothing where there are few trials, or settings with conditions only."""
    space = quest.aim.space.distributions()
    everywhere = {
        key: one
        for key, one in space.items()
        if not next(knob for knob in quest.aim.space.knobs if knob.key == key).when
    }
    plain = [
        _bare(one, everywhere, metric)
        for one in quest.study.complete()
        if everywhere.keys() <= one.params.keys()
    ]
    if len(plain) < ENOUGH or not everywhere or len({one.values[0] for one in plain}) < 2:
        return {}
    study = optuna.create_study(direction="minimize" if quest.aim.signs[metric] > 0 else "maximize")
    study.add_trials(plain)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError) as error:  # all values of a setting alike, for one
        logging.getLogger(__name__).debug("importances: %s", error)
        return {}
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def _bare(one: FrozenTrial, space: dict[str, Any], metric: int) -> FrozenTrial:
    """A trial with one value, of the whole space: a second stage has ranges of its own."""
    return optuna.trial.create_trial(
        params={key: one.params[key] for key in space}, distributions=space, value=one.values[metric]
    )


def found(quest: Quest) -> dict[str, Any]:
    """What is known of one aim, for study.json, the summary and the files of winners."""
    study, trials = quest.study, quest.study.trials()
    reasons: dict[str, int] = {}
    for one in trials:
        if reason := one.user_attrs.get(REASON):
            reasons[reason] = reasons.get(reason, 0) + 1
    picks = quest.ranked()
    scores = {role: quest.repeated(one.number) for role, one in picks.items()}
    told: dict[str, Any] = {
        "study": study.name,
        "metrics": list(quest.aim.metrics),
        "trials": {name: study.count(state) for state, name in STATES.items()} | {"wanted": study.wanted},
        "reasons": reasons,
        "importances": {key: short(value) for key, value in importances(quest).items()},
    }
    for role, one in picks.items():
        told[role] = {
            "trial": one.number,
            "values": [short(float(value)) for value in one.values],
            "set": quest.study.chosen(one),
            "best_epoch": one.user_attrs.get("best_epoch"),
            "repeated": scores[role].told(),
        }
    if "usual" in scores and "best" in scores:
        itself = picks["usual"].number == picks["best"].number
        told["gain"] = NOTHING if itself else gain(scores["usual"], scores["best"], quest.aim.signs[0])
    if len(quest.aim.metrics) > 1:
        told["front"] = sorted(one.number for one in study.study.best_trials)
    told["unwell"] = quest.unwell
    return told


def differing(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """What settings say otherwise than others, for them to be laid over these."""
    other = over(below, above)
    kept: dict[str, Any] = {}
    for name, value in above.items():
        same = (
            name in below
            and below[name] == other[name]
            and not ("model" in above and name == "options" and above["model"] != below.get("model"))
        )
        if same:
            continue
        inner = below.get(name)
        partly = (
            isinstance(value, dict)
            and isinstance(inner, dict)
            and not (name == "options" and above.get("model") != below.get("model"))
        )
        kept[name] = differing(inner, value) if partly and isinstance(inner, dict) else value
    return kept
