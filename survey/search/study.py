"""The trials of one target: an Optuna study in its storage. No Ray.

What is tried next, whether a training stops early and how it ended are written to the storage before
anything is done about them. So a driver that is killed at any moment loses no finished trial. The trainings
that it had running have the same number, the same settings and the same folder afterwards, and continue
there.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from survey import plugins
from survey.search import sampling
from survey.search.seeds import Scores
from survey.search.settings import Tune
from survey.search.space import Values, value_at
from survey.search.target import Target, measured
from survey.training.settings import Train

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
REASON, EPOCH, STAGE, RECIPE, SECONDS = "reason", "epoch", "stage", "recipe", "training_seconds"
"""Attributes of a trial: why it failed, its last epoch, its stage, that it is the recipe itself, and the
seconds of its epochs, without pauses.
"""
WANTED, METRICS = "wanted", "metrics"
"""Attributes of a study: the number of trials to finish, and the metrics."""
MAX_REASON = 1000
"""Characters of a reason."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to train: its number and its values, as the settings hold them."""

    number: int
    chosen: Values


@dataclass
class Study:
    """The trials of one target.

    `running` are the trials that this driver has running, `unfinished` those that an earlier driver has left.
    `recipe_params` are the recipe's own values, as far as the space has them. `grid` are the points besides
    the recipe. `seconds` has those of each epoch, by trial; a training that continues reports all of them.
    """

    settings: Tune
    target: Target
    name: str
    storage: BaseStorage
    optuna_study: optuna.Study = field(repr=False)
    recipe_params: Values
    grid: list[Values]
    unfinished: list[int]
    needs_recipe: bool
    running: dict[int, Trial] = field(default_factory=dict)
    seconds: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def open(cls, settings: Tune, target: Target, name: str, storage: BaseStorage) -> Self:
        """The study of that name; a new one if there is none."""
        directions = [
            StudyDirection.MINIMIZE if sign > 0 else StudyDirection.MAXIMIZE for sign in target.signs
        ]
        opened = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions,
            load_if_exists=True,
            pruner=sampling.pruner(settings, target),
        )
        trials = opened.get_trials(deepcopy=False)
        unfinished = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        has_recipe = any(RECIPE in trial.user_attrs and trial.state != TrialState.FAIL for trial in trials)
        params = recipe_params(target)
        grid = target.space.grid(settings.points, settings.seed) if settings.sampler == "grid" else []
        if params not in [trial.params for trial in trials if RECIPE not in trial.user_attrs]:
            grid = [point for point in grid if point != params]  # earlier versions tried it
        study = cls(settings, target, name, storage, opened, params, grid, unfinished, not has_recipe)
        opened.set_user_attr(WANTED, study.wanted)
        opened.set_user_attr(METRICS, list(target.metrics))
        with sampling.experimental():
            opened.set_metric_names(list(target.metrics))  # for Optuna's own dashboard
        return study

    @property
    def wanted(self) -> int:
        """The number of trials to finish; a grid ends by itself."""
        most = len(self.grid) + 1 if self.settings.sampler == "grid" else self.settings.trials
        return min(self.settings.trials, most)

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number."""
        return self.optuna_study.get_trials(deepcopy=False)

    def complete(self) -> list[FrozenTrial]:
        """Trials that were trained to their end."""
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    def count(self, *states: TrialState) -> int:
        """The number of trials in these states."""
        return sum(trial.state in states for trial in self.trials())

    def score(self, trial: FrozenTrial) -> float:
        """The first metric of a trial, smaller being better."""
        return self.target.signs[0] * float(trial.values[0])

    def best(self) -> FrozenTrial | None:
        """The best trial by the first metric."""
        return min(self.complete(), key=self.score, default=None)

    def chosen(self, trial: FrozenTrial) -> Values:
        """The values of a trial, as the settings hold them; none for the recipe itself."""
        return {} if RECIPE in trial.user_attrs else self.target.space.to_settings(trial.params)

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to train, and none is running."""
        return not self.running and not self.unfinished and self._has_enough()

    def next(self) -> Suggestion | None:
        """The next trial. First come those that an earlier driver has left.

        None if there are enough, or if those that are running may be enough.
        """
        if self.unfinished:
            number = self.unfinished.pop(0)
            is_second = self.trials()[number].user_attrs.get(STAGE) == 2
            return self._suggest(number, self._best_before(number) if is_second else None)
        if self._has_enough():
            return None
        self._enqueue()
        stage, near = self._stage()
        self._set_sampler(len(self.trials()), near)
        trial = self.optuna_study.ask()
        if STAGE not in trial.user_attrs:  # enqueued trials have one
            trial.set_user_attr(STAGE, stage)
        return self._suggest(trial.number, near)

    def _has_enough(self) -> bool:
        """Whether finished and running trials are as many as wanted, or all points of a grid are taken."""
        trials = self.trials()
        if sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials) >= self.settings.trials:
            return True
        if any(trial.state == TrialState.WAITING for trial in trials):
            return False
        is_grid = self.settings.sampler == "grid"
        return is_grid and not self.needs_recipe and self._grid_taken() >= len(self.grid)

    def _enqueue(self) -> None:
        """First the recipe itself, then the next point of a grid. Each driver tries a recipe that failed
        again.
        """
        if any(trial.state == TrialState.WAITING for trial in self.trials()):
            return
        if self.needs_recipe:
            self.needs_recipe = False
            self.optuna_study.enqueue_trial(self.recipe_params, user_attrs={RECIPE: True, STAGE: 1})
        elif self.grid:
            self.optuna_study.enqueue_trial(self.grid[self._grid_taken()], user_attrs={STAGE: 1})

    def _grid_taken(self) -> int:
        """The number of points of the grid that have a trial."""
        return sum(RECIPE not in trial.user_attrs for trial in self.trials())

    def _set_sampler(self, number: int, near: Values | None) -> None:
        """Give the study the sampler of this trial; a second stage keeps its choices fixed."""
        choices = {dimension.key for dimension in self.target.space.dimensions if dimension.choices}
        fixed = {key: value for key, value in (near or {}).items() if key in choices}
        self.optuna_study.sampler = sampling.sampler(self.settings, self.target, number, fixed)

    def _suggest(self, number: int, near: Values | None) -> Suggestion:
        """The trial with the values that it has, and new ones for those that it lacks."""
        self._set_sampler(number, near)
        trial = self.running[number] = Trial(self.optuna_study, self._id(number))
        if RECIPE not in trial.user_attrs:
            return Suggestion(number, self.target.space.suggest(trial, near))
        for dimension in self.target.space.dimensions:
            if dimension.key in self.recipe_params:
                dimension.suggest(trial)
        return Suggestion(number, {})

    def _stage(self) -> tuple[int, Values | None]:
        """The stage of a new trial and, in the second stage, the stored values of the best trial so far."""
        if self.settings.stages == 1:
            return 1, None
        first = [
            trial for trial in self.trials() if _is_first_stage(trial) and trial.state != TrialState.FAIL
        ]
        if len(first) < math.ceil(self.settings.wide * self.settings.trials):
            return 1, None
        near = self._best_before(len(self.trials()))
        return (1, None) if near is None else (2, near)

    def _best_before(self, number: int) -> Values | None:
        """The stored values of the best trial of the first stage, among those with smaller numbers."""
        first = [
            trial
            for trial in self.complete()
            if _is_first_stage(trial) and trial.number < number and trial.params
        ]
        return min(first, key=self.score).params if first else None

    def report(self, number: int, row: Mapping[str, float]) -> bool:
        """Record an epoch of a trial; whether the training is to stop, which is recorded too.

        An epoch that is reported twice counts once. A restarted worker may report a trial that has ended.
        """
        if not self._is_running(number):
            return True
        frozen, step = self.trials()[number], int(row["epoch"])
        self.seconds[number][step] = row.get("seconds", 0.0)
        if step <= last_epoch(frozen):
            return False
        if len(self.target.metrics) > 1:
            self._set(number, EPOCH, step)
            return False
        metric = self.target.metrics[0]
        value = measured(metric, row.get(f"validation_{metric}", math.nan))
        values = [each for each in (value, *frozen.intermediate_values.values()) if math.isfinite(each)]
        if not values:
            return False
        trial = self.running[number]
        trial.report(min(values) if self.target.signs[0] > 0 else max(values), step)
        is_poor = trial.should_prune()  # for every trial, because others are compared with it
        is_last = step >= frozen.params.get("epochs", self.target.max_epochs)
        if not is_poor or is_last or RECIPE in frozen.user_attrs:
            return False
        self._set(number, EPOCH, step)
        self._end(number, TrialState.PRUNED)
        return True

    def succeed(self, number: int, scores: Scores) -> None:
        """Record a training that reached its end; one without a finite score has failed."""
        if not self._is_running(number):
            return
        values = {name: scores.metric(name) for name in self.target.metrics}
        if unusable := [name for name, value in values.items() if not math.isfinite(value)]:
            epochs = f"{scores.best_epoch} of {scores.epochs}"
            self.fail(number, f"{', '.join(unusable)} is not finite in the best epoch, {epochs}")
            return
        for name in ("best_epoch", "parameters", SECONDS):
            self._set(number, name, getattr(scores, name))
        self._set(number, EPOCH, scores.epochs)
        self._end(number, TrialState.COMPLETE, list(values.values()))

    def fail(self, number: int, reason: str) -> None:
        """Record a training that ended in an error."""
        if self._is_running(number):
            self._set(number, REASON, reason[:MAX_REASON])
            self._end(number, TrialState.FAIL)

    def _is_running(self, number: int) -> bool:
        return self.trials()[number].state == TrialState.RUNNING

    def _id(self, number: int) -> int:
        """The trial in the storage, which has numbers of its own."""
        study = self.storage.get_study_id_from_name(self.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)

    def _set(self, number: int, name: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._id(number), name, value)

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        epochs = self.seconds.pop(number, {})
        if epochs and state != TrialState.COMPLETE:
            self._set(number, SECONDS, round(sum(epochs.values()), 2))
        self.optuna_study.tell(number, values, state)
        self.running.pop(number, None)


def recipe_params(target: Target) -> Values:
    """The recipe's own values as the storage holds them, for those dimensions that have them.

    A learning rate that the recipe leaves to the network is the network's.
    """
    recipe = Train.from_dict("tune: train", target.train)
    network = plugins.load("models", recipe.model)
    values = recipe.model_dump(mode="json")
    values["options"] = network.Options.from_dict("tune: train", recipe.options).model_dump(mode="json")
    if recipe.optimiser.lr is None:
        values["optimiser"]["lr"] = network.Net.learning_rate
    chosen: Values = {}
    params: Values = {}
    for dimension in target.space.dimensions:
        stored = dimension.to_stored(value_at(values, dimension.key))
        if dimension.is_active(chosen) and stored is not None:
            chosen[dimension.key], params[dimension.key] = dimension.to_setting(stored), stored
    return params


def _is_first_stage(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(STAGE, 1) == 1)


def last_epoch(trial: FrozenTrial) -> int:
    """The last epoch of a trial that was reported."""
    return max([int(trial.user_attrs.get(EPOCH, 0)), *trial.intermediate_values])
