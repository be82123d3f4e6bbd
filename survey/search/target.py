"""The road of one aim: its trials; then the best two and the recipe as it is, each with other seeds; then the winner with more stars.

What is to be trained next hangs on what is noted in the study and on what lies in its folders, on nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from survey import files
from survey.search import trial
from survey.search.seeds import Repeated, read
from survey.search.settings import Aim, Tune
from survey.search.study import FINISHED, REASON, USUAL, Study
from survey.search.trial import Row, Told
from survey.settings import JobError
from survey.training import run
from survey.training.tracking import Tracking
from survey.training.train import Train

TRIALS, REPEATS, WINNERS = "trials", "repeats", "winners"
"""Folders of a study."""
PATIENCE, ONCE_WELL = 5, 20
"""So many failed trainings in a row are no bad luck: before one has gone well, and after."""


@dataclass(frozen=True)
class Order:
    """A training that is to be done now; `key` tells which it is."""

    key: str
    settings: Train


@dataclass
class Quest:
    """What is under way for one aim, and what comes next."""

    settings: Tune
    aim: Aim
    study: Study
    tracking: Tracking = field(default_factory=lambda: Tracking(use="never"))
    out: set[str] = field(default_factory=set)
    unwell: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    well: bool = False
    forgotten: dict[int, bool] = field(default_factory=dict)

    def next(self) -> Order | None:
        """What is to be trained next; None where nothing is, or not before what runs has ended."""
        if picked := self.study.next():
            return Order(
                f"{TRIALS}/{self.aim.name}/{picked.number}",
                self.training(f"{TRIALS}/{self.aim.name}/{picked.number}", picked.chosen),
            )
        if not self.study.over:
            return None
        waiting = [order for order in self._repeats() if not self._settled(order.key)]
        if not waiting and not self.out:
            waiting = [order for order in self._retraining() if not self._settled(order.key)]
        first = next((order for order in waiting if order.key not in self.out), None)
        if first:
            self.out.add(first.key)
        return first

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, nor under way."""
        return (
            self.study.over
            and not self.out
            and all(self._settled(order.key) for order in (*self._repeats(), *self._retraining()))
        )

    def training(self, name: str, chosen: dict[str, Any], **other: Any) -> Train:
        """The settings of a training in a folder of the study."""
        changes = {
            "tracking": self.tracking.model_dump(),
            "gpu": "never" if self.settings.gpu == 0 else "auto",
        }
        return self.aim.training(files.join(self.settings.study, name), chosen, **changes, **other)

    def _settled(self, key: str) -> bool:
        return key in self.unwell or files.exists(files.join(self.settings.study, key, run.RUN))

    def picks(self) -> dict[str, FrozenTrial]:
        """The trials that results are told of: `best` and `second` of different values, and `usual`, the recipe as it is."""
        usual = next((one for one in self.study.complete() if USUAL in one.user_attrs), None)
        found = dict(zip(("best", "second"), self._best_two(), strict=False))
        return found | ({"usual": usual} if usual else {})

    def ranked(self) -> dict[str, FrozenTrial]:
        """The same, the best and the second in the order that other seeds put them in."""
        found = self.picks()
        if len(self.aim.metrics) == 1 and {"best", "second"} <= found.keys():
            best, second = (
                self.aim.signs[0] * self.repeated(found[role].number).mean for role in ("best", "second")
            )
            if second < best:
                found |= {"best": found["second"], "second": found["best"]}
        return found

    def repeated(self, number: int) -> Repeated:
        """What a trial's values reach with other seeds."""
        return read(
            [files.join(self.settings.study, name) for name in self.repeats(number)], self.aim.metrics[0]
        )

    def _best_two(self) -> Iterator[FrozenTrial]:
        """The best by the one metric; of several, from those that none betters in all: best by the first, and best by the second."""
        ranked = sorted(self.study.complete(), key=self.study.score)
        if len(self.aim.metrics) > 1:
            front = sorted(self.study.study.best_trials, key=self.study.score)
            ranked = (
                front[:1] + sorted(front, key=lambda one: self.aim.signs[1] * float(one.values[1])) + front
            )
        seen: list[Any] = []
        for one in ranked:
            if (values := self.study.chosen(one)) not in seen and len(seen) < 2:
                seen.append(values)
                yield one

    def repeats(self, number: int) -> list[str]:
        """The folders of a trial's repetitions. With seeds that had no part in its being chosen, which its own seed had."""
        seed = self.training(TRIALS, {}).seed
        return [
            f"{REPEATS}/{self.aim.name}/{number}-{seed + extra}"
            for extra in range(1, self.settings.seeds + 1)
        ]

    def _repeats(self) -> Iterator[Order]:
        for one in {one.number: one for one in self.picks().values()}.values():
            for name in self.repeats(one.number):
                yield Order(
                    name, self.training(name, self.study.chosen(one), seed=int(name.rpartition("-")[2]))
                )

    def _retraining(self) -> Iterator[Order]:
        """The winner's settings once more, on training and validation part together, for as many epochs as were best."""
        best = self.ranked().get("best")
        if self.settings.retrain and best:
            more = {
                "learn_from": "train+validation",
                "keep": "last",
                "epochs": int(best.user_attrs["best_epoch"]),
            }
            name = f"{WINNERS}/{self.aim.name}"
            yield Order(name, self.training(name, self.study.chosen(best) | more))

    def heard(self, key: str, row: Row) -> bool:
        """An epoch of a training is over; whether it is to be stopped."""
        number = self._number(key)
        if number is None or not self.study.heard(number, row):
            return False
        self.failures, self.well = [], True
        self._forget()
        return True

    def ended(self, key: str, told: Told) -> None:
        """A training is over, well or not."""
        number, reason = self._number(key), told.get("failed")
        if number is not None:
            if reason is None:
                self.study.done(number, told["about"])
            else:
                self.study.failed(number, reason)
            reason = self.study.trials()[number].user_attrs.get(REASON)
            self.failures = [*self.failures, reason] if reason else []
            self.well = self.well or not reason
            self._forget()
        elif reason:
            self.unwell[key] = reason
        self.out.discard(key)
        if len(self.failures) >= (ONCE_WELL if self.well else PATIENCE):
            reasons, which = (
                "; ".join(dict.fromkeys(self.failures[-PATIENCE:])),
                "last" if self.well else "first",
            )
            raise JobError(
                f"tune: {self.aim.name}: the {which} {len(self.failures)} trainings failed: {reasons}; mend that, then the same command goes on"
            )

    def _number(self, key: str) -> int | None:
        """The number of a trial; None for what comes after the trials."""
        kind, *_, number = key.split("/")
        return int(number) if kind == TRIALS else None

    def _forget(self) -> None:
        """Weights that nobody will ask for are removed, as far as that is wanted."""
        if self.settings.keep == "all":
            return
        kept = {one.number for role, one in self.picks().items() if role != "usual"}
        for one in self.study.trials():
            wanted = one.number in kept
            if one.state in (*FINISHED, TrialState.FAIL) and self.forgotten.get(one.number) != wanted:
                trial.forget(
                    files.join(self.settings.study, TRIALS, self.aim.name, str(one.number)),
                    weights=not wanted,
                )
                self.forgotten[one.number] = wanted
