"""The progress of a study, from its storage alone.

Nothing is changed, so the progress can be read while the study runs, from every machine that sees the
storage.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from survey.search.results import STATES, reasons
from survey.search.study import FINISHED, METRICS, RECIPE, SECONDS, WANTED, last_epoch


@dataclass(frozen=True)
class TargetProgress:
    """One target of a study: its trials by state, the best, those running, and why others failed."""

    name: str
    metrics: tuple[str, ...]
    wanted: int
    counts: dict[str, int]
    best: FrozenTrial | None
    running: list[FrozenTrial]
    reasons: dict[str, int]
    seconds_left: float | None

    @property
    def finished(self) -> int:
        """Trials that count: those that reached their end, and those that were stopped early."""
        return self.counts["complete"] + self.counts["pruned"]


def read_progress(ident: str, storage: BaseStorage) -> list[TargetProgress]:
    """The progress of all targets of the study with this id."""
    names = sorted(name for name in optuna.get_all_study_names(storage) if name.startswith(f"{ident}-"))
    return [
        target_progress(optuna.load_study(study_name=name, storage=storage), name.removeprefix(f"{ident}-"))
        for name in names
    ]


def target_progress(study: optuna.Study, name: str) -> TargetProgress:
    """The progress of one target."""
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    wanted = int(study.user_attrs.get(WANTED, len(trials)))
    sign = 1 if study.directions[0] == StudyDirection.MINIMIZE else -1
    return TargetProgress(
        name,
        tuple(study.user_attrs.get(METRICS, ["value"] * len(study.directions))),
        wanted,
        {name: states[state] for state, name in STATES.items()},
        min(complete, key=lambda trial: sign * float(trial.values[0]), default=None),
        running,
        reasons(trials),
        _seconds_left(trials, wanted, running),
    )


def _seconds_left(trials: Sequence[FrozenTrial], wanted: int, running: Sequence[FrozenTrial]) -> float | None:
    """Seconds until the wanted trials are finished, if each takes the mean time and as many run as now.

    Only time in epochs counts, because a search may have been stopped for a night.
    """
    finished = [trial for trial in trials if trial.state in FINISHED]
    timed = [trial for trial in finished if SECONDS in trial.user_attrs]
    if not timed or not running:
        return None
    total = sum(trial.user_attrs[SECONDS] for trial in timed)
    mean, epoch = total / len(timed), total / sum(max(last_epoch(trial), 1) for trial in timed)
    done = sum(min(last_epoch(trial) * epoch, mean) for trial in running)
    return float(max(mean * (wanted - len(finished)) - done, 0.0) / len(running))


def progress_text(progress: TargetProgress) -> str:
    """The progress of one target in a few lines."""
    counts = ", ".join(f"{count} {state}" for state, count in progress.counts.items() if count)
    left = "" if progress.seconds_left is None else f", about {_duration(progress.seconds_left)} left"
    finished = f"{progress.finished} of {progress.wanted} trials finished"
    lines = [f"{progress.name:<10} {finished} ({counts or 'none begun'}){left}"]
    if progress.best:
        pairs = zip(progress.metrics, progress.best.values, strict=True)
        scores = ", ".join(f"{name} {value:.5g}" for name, value in pairs)
        lines.append(f"  best     {scores}: trial {progress.best.number}, {_params(progress.best)}")
    for trial in progress.running:
        values = trial.intermediate_values
        score = f", {progress.metrics[0]} {values[max(values)]:.5g}" if values else ""
        lines.append(f"  running  trial {trial.number}, epoch {last_epoch(trial)}{score}: {_params(trial)}")
    by_count = sorted(progress.reasons.items(), key=lambda item: -item[1])
    lines += [f"  failed   {count} times: {reason}" for reason, count in by_count]
    return "\n".join(lines)


def _params(trial: FrozenTrial) -> str:
    if RECIPE in trial.user_attrs:
        return "the recipe itself"
    return " ".join(f"{key}={_short(value)}" for key, value in trial.params.items()) or "no setting varied"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(left: float) -> str:
    if left < 100:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 6000 else f"{left / 3600:.1f} h"
