"""The trainings of one target in their order: trials, then other seeds of the best two, then the winner
again.

The next training follows from the study and from the folders of its runs, and from nothing else. So a
driver that starts again requests the same trainings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from survey import files
from survey.search.seeds import SeedScores, read_seed_scores
from survey.search.settings import Tune
from survey.search.study import FINISHED, REASON, RECIPE, Study
from survey.search.target import RETRAINING, Target
from survey.search.trial import Row, TrainingEnd, differing, remove_checkpoints, remove_other_run
from survey.settings import JobError, SettingsError
from survey.training import run as runs
from survey.training.settings import Train
from survey.training.tracking_settings import Tracking

TRIALS, SEEDS, WINNERS = "trials", "seeds", "winners"
"""Folders of a study."""
FIRST_FAILURES, LATER_FAILURES = 5, 20
"""After this many failures in a row the search ends: before a training has succeeded, and after."""


@dataclass(frozen=True)
class Request:
    """A training that is to run now; the key is its folder within the study."""

    key: str
    settings: Train


@dataclass
class TargetSchedule:
    """What is running for one target, and what comes next.

    `failed_runs` are trainings after the trials that failed, with their reasons; `recent_failures` are the
    reasons of the last trials, if all of these failed.
    """

    settings: Tune
    target: Target
    study: Study
    tracking: Tracking = field(default_factory=lambda: Tracking(use="never"))
    running: set[str] = field(default_factory=set)
    failed_runs: dict[str, str] = field(default_factory=dict)
    recent_failures: list[str] = field(default_factory=list)
    any_success: bool = False
    weights_kept: dict[int, bool] = field(default_factory=dict)

    def next(self) -> Request | None:
        """The next training; None if there is none before those that are running have ended."""
        if suggestion := self.study.next():
            key = self._trial_key(suggestion.number)
            return Request(key, self.training(key, suggestion.chosen))
        if not self.study.is_done:
            return None
        waiting = [request for request in self._seed_requests() if not self._has_ended(request.key)]
        if not waiting and not self.running:
            waiting = [request for request in self._retraining() if not self._is_retrained(request)]
            for request in waiting:
                remove_other_run(request.settings)
        first = next((request for request in waiting if request.key not in self.running), None)
        if first:
            self.running.add(first.key)
        return first

    @property
    def is_done(self) -> bool:
        """Whether no training is left, and none is running."""
        if not self.study.is_done or self.running:
            return False
        if not all(self._has_ended(request.key) for request in self._seed_requests()):
            return False
        return all(map(self._is_retrained, self._retraining()))

    def training(self, name: str, chosen: dict[str, Any], **changes: Any) -> Train:
        """The settings of a training in a folder of the study."""
        changes["tracking"] = self.tracking.model_dump()
        if self.settings.gpu == 0:
            changes["gpu"] = "never"
        if self.settings.threads != "auto":
            changes["threads"] = self.settings.threads
        return self.target.training(files.join(self.settings.study, name), chosen, **changes)

    def _trial_key(self, number: int) -> str:
        return f"{TRIALS}/{self.target.name}/{number}"

    def _has_ended(self, key: str) -> bool:
        return key in self.failed_runs or runs.is_finished(files.join(self.settings.study, key))

    def _is_retrained(self, request: Request) -> bool:
        """Whether the winner of now has been trained, and not one that was the best before."""
        has_failed = request.key in self.failed_runs
        return has_failed or (self._has_ended(request.key) and not differing(request.settings))

    def picked(self) -> dict[str, FrozenTrial]:
        """The trials in the results: `best` and `second`, with different values, and `recipe`, the recipe
        itself.
        """
        recipe = next((trial for trial in self.study.complete() if RECIPE in trial.user_attrs), None)
        picked = dict(zip(("best", "second"), self._best_two(), strict=False))
        return picked | ({"recipe": recipe} if recipe else {})

    def ranked(self) -> dict[str, FrozenTrial]:
        """The same trials; other seeds decide which one is the best and which one the second."""
        picked = self.picked()
        if len(self.target.metrics) == 1 and {"best", "second"} <= picked.keys():
            sign = self.target.signs[0]
            best, second = (sign * self.seed_scores(picked[role].number).mean for role in ("best", "second"))
            if second < best:
                picked |= {"best": picked["second"], "second": picked["best"]}
        return picked

    def seed_scores(self, number: int) -> SeedScores:
        """What the values of a trial reach with other seeds."""
        folders = [files.join(self.settings.study, name) for name in self.seed_runs(number)]
        return read_seed_scores(folders, self.target.metrics[0])

    def _best_two(self) -> Iterator[FrozenTrial]:
        """The best two by a single metric. Of several metrics, the best by the first and the best by the
        second, among the trials that no other trial beats in all metrics.
        """
        ranked = sorted(self.study.complete(), key=self.study.score)
        if len(self.target.metrics) > 1:
            sign = self.target.signs[1]
            front = sorted(self.study.optuna_study.best_trials, key=self.study.score)
            by_second = sorted(front, key=lambda trial: sign * float(trial.values[1]))
            ranked = front[:1] + by_second + front
        seen: list[Any] = []
        for trial in ranked:
            values = self.target.space.to_settings(trial.params)  # the recipe's own too
            if values not in seen and len(seen) < 2:
                seen.append(values)
                yield trial

    def seed_runs(self, number: int) -> list[str]:
        """The folders of a trial's trainings with other seeds. Its own seed helped it to be chosen; these
        did not.
        """
        seed = self.training(TRIALS, {}).seed
        extra = range(seed + 1, seed + self.settings.seeds + 1)
        return [f"{SEEDS}/{self.target.name}/{number}-{other}" for other in extra]

    def _seed_requests(self) -> Iterator[Request]:
        for trial in {trial.number: trial for trial in self.picked().values()}.values():
            for name in self.seed_runs(trial.number):
                seed = int(name.rpartition("-")[2])
                yield Request(name, self.training(name, self.study.chosen(trial), seed=seed))

    def _retraining(self) -> Iterator[Request]:
        """The winner on training and validation part together, for as many epochs as its best epoch had."""
        best = self.ranked().get("best")
        if self.settings.retrain and best:
            values = RETRAINING | {"epochs": int(best.user_attrs["best_epoch"])}
            name = f"{WINNERS}/{self.target.name}"
            try:
                request = Request(name, self.training(name, self.study.chosen(best) | values))
            except SettingsError as error:  # such as an alignment that begins after the best epoch
                self.failed_runs[name] = str(error)
                return
            yield request

    def report(self, key: str, row: Row) -> bool:
        """Record an epoch of a training; whether it is to stop."""
        number = _trial_number(key)
        if number is None or not self.study.report(number, row):
            return False
        self.recent_failures, self.any_success = [], True
        self._remove_weights()
        return True

    def end(self, key: str, end: TrainingEnd) -> None:
        """Record the end of a training. Too many failures in a row are an error."""
        number = _trial_number(key)
        self.running.discard(key)
        if number is None:
            if end.failed:
                self.failed_runs[key] = end.failed
            return
        if end.scores:
            self.study.succeed(number, end.scores)
        else:
            self.study.fail(number, end.failed)
        reason = self.study.trials()[number].user_attrs.get(REASON)
        self.recent_failures = [*self.recent_failures, reason] if reason else []
        self.any_success = self.any_success or not reason
        self._remove_weights()
        self._check_failures()

    def _check_failures(self) -> None:
        count = len(self.recent_failures)
        if count >= (LATER_FAILURES if self.any_success else FIRST_FAILURES):
            which = "last" if self.any_success else "first"
            reasons = "; ".join(dict.fromkeys(self.recent_failures[-FIRST_FAILURES:]))
            raise JobError(
                f"tune: {self.target.name}: the {which} {count} trainings failed: {reasons}; "
                "correct this, then run the same command again"
            )

    def _remove_weights(self) -> None:
        """Remove the weights of trials that are not among the best two."""
        if self.settings.keep == "all":
            return
        kept = {trial.number for role, trial in self.picked().items() if role != "recipe"}
        for trial in self.study.trials():
            keep, has_ended = trial.number in kept, trial.state in (*FINISHED, TrialState.FAIL)
            if has_ended and self.weights_kept.get(trial.number) != keep:
                folder = files.join(self.settings.study, self._trial_key(trial.number))
                remove_checkpoints(folder, and_weights=not keep)
                self.weights_kept[trial.number] = keep


def _trial_number(key: str) -> int | None:
    """The number of a trial; None for the trainings after the trials."""
    kind, *_, number = key.split("/")
    return int(number) if kind == TRIALS else None
