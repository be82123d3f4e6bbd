"""How far a study is, from its storage alone: nothing is changed, so it may be asked for while the study is at work, wherever it can be seen."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from survey.search.study import FINISHED, METRICS, REASON, USUAL, WANTED, last_epoch, seconds


@dataclass(frozen=True)
class Standing:
    """One aim of a study: what was wanted of it, how its trials stand, the best by the first metric, the trials under way, why others failed."""

    name: str
    metrics: tuple[str, ...]
    signs: tuple[int, ...]
    wanted: int
    counts: dict[str, int]
    best: FrozenTrial | None
    running: list[FrozenTrial]
    reasons: dict[str, int]
    seconds_left: float | None

    @property
    def finished(self) -> int:
        """Trials that count."""
        return self.counts["complete"] + self.counts["pruned"]


def standings(ident: str, storage: BaseStorage) -> list[Standing]:
    """All aims of the study of this id."""
    names = sorted(name for name in optuna.get_all_study_names(storage) if name.startswith(f"{ident}-"))
    return [
        standing(optuna.load_study(study_name=name, storage=storage), name.removeprefix(f"{ident}-"))
        for name in names
    ]


def standing(study: optuna.Study, name: str) -> Standing:
    """How one aim stands."""
    trials = study.get_trials(deepcopy=False)
    signs = tuple(1 if direction == StudyDirection.MINIMIZE else -1 for direction in study.directions)
    by_state = Counter(one.state for one in trials)
    states = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
        "running": TrialState.RUNNING,
    }
    complete = [one for one in trials if one.state == TrialState.COMPLETE]
    running = [one for one in trials if one.state == TrialState.RUNNING]
    wanted = int(study.user_attrs.get(WANTED, len(trials)))
    return Standing(
        name,
        tuple(study.user_attrs.get(METRICS, ["value"] * len(signs))),
        signs,
        wanted,
        {name: by_state[state] for name, state in states.items()},
        min(complete, key=lambda one: signs[0] * float(one.values[0]), default=None),
        running,
        dict(Counter(str(one.user_attrs[REASON]) for one in trials if REASON in one.user_attrs)),
        _left(trials, wanted, len(running)),
    )


def _left(trials: list[FrozenTrial], wanted: int, running: int) -> float | None:
    """Seconds until as many are finished as are wanted, as long as trials take what they took on average, as many at a time as now."""
    took = [seconds(one) for one in trials if one.state in FINISHED]
    if not took or not running:
        return None
    mean = sum(took) / len(took)
    behind = sum(min(seconds(one), mean) for one in trials if one.state == TrialState.RUNNING)
    return max(mean * (wanted - len(took)) - behind, 0.0) / running


def text(one: Standing) -> str:
    """How one aim stands, as a few lines."""
    counts = ", ".join(f"{count} {state}" for state, count in one.counts.items() if count)
    left = f", about {clock(one.seconds_left)} left" if one.seconds_left is not None else ""
    lines = [
        f"{one.name:<10} {one.finished} of {one.wanted} trials finished ({counts or 'none begun'}){left}"
    ]
    if one.best:
        values = ", ".join(
            f"{name} {value:.5g}" for name, value in zip(one.metrics, one.best.values, strict=True)
        )
        lines.append(f"  best     {values}: trial {one.best.number}, {_params(one.best)}")
    for trial in one.running:
        reached = (
            f", {one.metrics[0]} {trial.intermediate_values[max(trial.intermediate_values)]:.5g}"
            if trial.intermediate_values
            else ""
        )
        lines.append(f"  running  trial {trial.number}, epoch {last_epoch(trial)}{reached}: {_params(trial)}")
    lines += [
        f"  failed   {count} times: {reason}"
        for reason, count in sorted(one.reasons.items(), key=lambda item: -item[1])
    ]
    return "\n".join(lines)


def _params(trial: FrozenTrial) -> str:
    if USUAL in trial.user_attrs:
        return "the recipe as it is"
    return " ".join(f"{key}={_shown(value)}" for key, value in trial.params.items()) or "nothing set"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(left: float) -> str:
    """A duration for people."""
    return (
        f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min" if left < 6000 else f"{left / 3600:.1f} h"
    )
