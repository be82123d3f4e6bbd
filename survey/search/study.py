"""The trials of one aim, decided upon and noted in one place: an Optuna study in its storage. No Ray.

What is tried next, whether a training is stopped, how it ended: all of it is written before it is acted upon. So a driver that is killed at any
moment loses no finished trial; trainings that were under way have the same number, the same settings and the same folder afterwards, and go on there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from survey.search import sampling
from survey.search.dimension import Distribution
from survey.search.settings import MEASURED, Aim, Tune
from survey.search.space import Values

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
REASON, EPOCH, STAGE, USUAL = "reason", "epoch", "stage", "usual"
"""What is noted of a trial beside its values: why it failed, its last epoch, its stage, that it is the recipe as it is."""
WANTED, METRICS = "wanted", "metrics"
"""What is noted of a study: how many trials are wanted, and what is made best."""
LONGEST = 1000
"""Letters of a reason."""


@dataclass(frozen=True)
class Picked:
    """What is to be trained next: the trial's number and its values in the words of the settings."""

    number: int
    chosen: Values


@dataclass
class Study:
    """The study of one aim; `out` are the trials that this driver is at, `left` those that an earlier one has left."""

    settings: Tune
    aim: Aim
    name: str
    storage: BaseStorage
    out: set[int] = field(default_factory=set)
    left: list[int] = field(default_factory=list)
    grid: list[Values] = field(default_factory=list)
    epochs: int = 0
    usual_first: bool = True

    @classmethod
    def opened(cls, settings: Tune, aim: Aim, name: str, storage: BaseStorage) -> "Study":
        """The study of that name, made if it is not there."""
        made = cls(settings, aim, name, storage)
        directions = [StudyDirection.MINIMIZE if one > 0 else StudyDirection.MAXIMIZE for one in aim.signs]
        made.study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions,
            load_if_exists=True,
            pruner=sampling.pruner(settings, aim),
        )
        made.left = [trial.number for trial in made.trials() if trial.state == TrialState.RUNNING]
        made.grid = aim.space.grid(settings.points, settings.seed) if settings.sampler == "grid" else []
        made.usual_first = not any(
            USUAL in trial.user_attrs and trial.state != TrialState.FAIL for trial in made.trials()
        )
        made.epochs = sampling.most_epochs(aim)
        made.study.set_user_attr(WANTED, made.wanted)
        made.study.set_user_attr(METRICS, list(aim.metrics))
        with sampling.experimental():
            made.study.set_metric_names(list(aim.metrics))  # for Optuna's own dashboard
        return made

    study: optuna.Study = field(init=False, repr=False)

    @property
    def wanted(self) -> int:
        """Trials to be finished in all; a grid ends by itself."""
        return min(self.settings.trials, len(self.grid) + 1) if self.grid else self.settings.trials

    def trials(self) -> list[FrozenTrial]:
        """All trials so far."""
        return self.study.get_trials(deepcopy=False)

    def count(self, *states: TrialState) -> int:
        """Trials in these states."""
        return sum(trial.state in states for trial in self.trials())

    @property
    def over(self) -> bool:
        """Whether nothing is left to try, nor under way."""
        return not self.out and not self.left and self._enough()

    def next(self) -> Picked | None:
        """The next trial, those first that an earlier driver was at; None where there are enough, or what runs may make it enough."""
        if self.left:
            number = self.left.pop(0)
            return self._picked(
                number, self._around(number) if self.trials()[number].user_attrs.get(STAGE) == 2 else None
            )
        if self._enough():
            return None
        self._enqueue()
        stage, near = self._stage()
        self._prepare(len(self.trials()), near)
        trial = self.study.ask()
        if STAGE not in trial.user_attrs:  # it has one where it was enqueued
            trial.set_user_attr(STAGE, stage)
        return self._picked(trial.number, near)

    def _enough(self) -> bool:
        """Whether finished trials and those under way are as many as wanted; of a grid, whether every point is taken."""
        trials = self.trials()
        if sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials) >= self.settings.trials:
            return True
        if any(trial.state == TrialState.WAITING for trial in trials):
            return False
        return bool(self.grid) and not self.usual_first and self._tried() >= len(self.grid)

    def _enqueue(self) -> None:
        """First the recipe as it is; then, of a grid, its next point. A recipe that has failed has another chance with each driver."""
        trials = self.trials()
        if any(trial.state == TrialState.WAITING for trial in trials):
            return
        if self.usual_first:
            self.usual_first = False
            self.study.enqueue_trial(self.aim.space.usual(self.aim.train), user_attrs={USUAL: True, STAGE: 1})
        elif self.grid:
            self.study.enqueue_trial(self.grid[self._tried()], user_attrs={STAGE: 1})

    def _tried(self) -> int:
        """Points of the grid that have been taken."""
        return sum(USUAL not in trial.user_attrs for trial in self.trials())

    def _prepare(self, number: int, near: Values | None) -> None:
        """The study's sampler is that of the trial of this number."""
        fixed = {key: value for key, value in (near or {}).items() if self._is_choice(key)}
        self.study.sampler = sampling.sampler(self.settings, self.aim, number, fixed)

    def _picked(self, number: int, near: Values | None) -> Picked:
        """Its values: those that it has, and new ones for what it lacks. The recipe as it is has those of its own that the space knows."""
        self.out.add(number)
        self._prepare(number, near)
        trial = self._handle(number)
        if USUAL not in trial.user_attrs:
            return Picked(number, self.aim.space.drawn(trial, near))
        usual = self.aim.space.usual(self.aim.train)
        for one in self.aim.space.knobs:
            if one.key in usual:
                one.drawn(trial)
        return Picked(number, {})

    def chosen(self, trial: FrozenTrial) -> Values:
        """The values of a trial, in the words of the settings."""
        return {} if USUAL in trial.user_attrs else self.aim.space.plain(trial.params)

    def _stage(self) -> tuple[int, Values | None]:
        """The stage of a new trial and, in the second, the values that it stays close to."""
        if self.settings.stages == 1:
            return 1, None
        first = [
            trial
            for trial in self.trials()
            if trial.user_attrs.get(STAGE, 1) == 1 and trial.state != TrialState.FAIL
        ]
        if len(first) < math.ceil(self.settings.wide * self.settings.trials):
            return 1, None
        near = self._around(len(self.trials()))
        return (1, None) if near is None else (2, near)

    def _around(self, number: int) -> Values | None:
        """The values of the best of the first stage, as the storage says them."""
        first = [
            trial
            for trial in self.complete()
            if trial.user_attrs.get(STAGE, 1) == 1 and trial.number < number and trial.params
        ]
        return min(first, key=self.score).params if first else None

    def _is_choice(self, key: str) -> bool:
        kinds: dict[str, Distribution] = self.aim.space.distributions()
        return isinstance(kinds.get(key), optuna.distributions.CategoricalDistribution)

    def complete(self) -> list[FrozenTrial]:
        """Trials that went to their end."""
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    def score(self, trial: FrozenTrial) -> float:
        """A trial's first value, the smaller the better."""
        return self.aim.signs[0] * float(trial.values[0])

    def best(self) -> FrozenTrial | None:
        """The best trial by the first metric."""
        return min(self.complete(), key=self.score, default=None)

    def _handle(self, number: int) -> Trial:
        return Trial(self.study, self.trials()[number]._trial_id)

    def _under_way(self, number: int) -> bool:
        """Whether a trial may still be told of; after a restart of a worker an old word may come late."""
        return self.trials()[number].state == TrialState.RUNNING

    def heard(self, number: int, row: Mapping[str, float]) -> bool:
        """An epoch of a trial is over; whether it is to be stopped, which is noted with it. Told twice, it counts once."""
        if not self._under_way(number):
            return True
        frozen, step = self.trials()[number], int(row["epoch"])
        if step <= max([frozen.user_attrs.get(EPOCH, 0), *frozen.intermediate_values]):
            return False
        if len(self.aim.metrics) > 1:
            self._handle(number).set_user_attr(EPOCH, step)
            return False
        value = measured(self.aim.metrics[0], row.get(f"validation_{self.aim.metrics[0]}", math.nan))
        values = [known for known in (value, *frozen.intermediate_values.values()) if math.isfinite(known)]
        if not values:
            return False
        trial = self._handle(number)
        trial.report(min(values) if self.aim.signs[0] > 0 else max(values), step)
        poor = trial.should_prune()  # asked of all, for others are compared with them
        if poor and step < frozen.params.get("epochs", self.epochs) and USUAL not in frozen.user_attrs:
            trial.set_user_attr(EPOCH, step)
            self._told(number, TrialState.PRUNED)
            return True
        return False

    def done(self, number: int, about: Mapping[str, Any]) -> None:
        """A training went to its end: `about` is what run.json says. One without a finite score has failed."""
        if not self._under_way(number):
            return
        values = [
            measured(name, about[name] if name in MEASURED else about["validation"].get(name, math.nan))
            for name in self.aim.metrics
        ]
        if strange := [
            name for name, value in zip(self.aim.metrics, values, strict=True) if not math.isfinite(value)
        ]:
            self.failed(
                number,
                f"{', '.join(strange)} is no finite number in its best epoch, {about['best_epoch']} of {about['epochs']}",
            )
            return
        for name in ("best_epoch", "parameters", "training_seconds"):
            self._note(number, name, about[name])
        self._note(number, EPOCH, about["epochs"])
        self._told(number, TrialState.COMPLETE, values)

    def failed(self, number: int, reason: str) -> None:
        """A training ended in an error."""
        if self._under_way(number):
            self._note(number, REASON, reason[:LONGEST])
            self._told(number, TrialState.FAIL)

    def _note(self, number: int, name: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self.trials()[number]._trial_id, name, value)

    def _told(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self.study.tell(number, values, state)
        self.out.discard(number)


def measured(metric: str, value: float) -> float:
    """A metric as it is compared: a bias by its size."""
    return abs(float(value)) if metric.startswith("bias") else float(value)


def last_epoch(trial: FrozenTrial) -> int:
    """The last epoch that was told of a trial."""
    return max([int(trial.user_attrs.get(EPOCH, 0)), *trial.intermediate_values])


def seconds(trial: FrozenTrial) -> float:
    """How long a trial took, or has taken so far."""
    begun = trial.datetime_start
    return ((trial.datetime_complete or datetime.now(begun.tzinfo)) - begun).total_seconds() if begun else 0.0
