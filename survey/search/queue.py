"""All trainings of a search, over all its targets: requests go out, epochs and ends come in.

Whoever runs the trainings asks for `next` until the queue `is_done`, reports what the trainings report, and
stops a training when the answer says so.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from survey.files import DiskFullError
from survey.search.schedule import Request, TargetSchedule
from survey.search.storage import report_write_errors
from survey.search.study import FINISHED
from survey.search.trial import Row, TrainingEnd, run_training
from survey.settings import JobError
from survey.training.epochs import StoppedError


@dataclass
class TrainingQueue:
    """The schedules of a search.

    `advance` receives the number of trainings that have ended, and a note to show. `error`: why the search
    cannot go on. `losses`: how often the workers of a training have died.
    """

    schedules: Sequence[TargetSchedule]
    advance: Callable[[int, str], None]
    error: str = ""
    running: dict[str, tuple[TargetSchedule, Request]] = field(default_factory=dict)
    returned: list[Request] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)

    def next(self) -> Request | None:
        """The next training; None if there is none now."""
        if self.error:
            return None
        if self.returned:
            return self.returned.pop(0)
        for schedule in self.schedules:
            with self._keep_error(schedule):
                if request := schedule.next():
                    self.running[request.key] = schedule, request
                    return request
            if self.error:
                break
        return None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do. After an error, trainings that are running are not waited for."""
        return bool(self.error) or (not self.running and all(schedule.is_done for schedule in self.schedules))

    def return_all(self, failures: int, reason: str) -> None:
        """All workers have died: their trainings are requested again, each at most `failures` times."""
        self.losses.update(list(self.running))
        self.returned = [
            request for _, request in self.running.values() if self.losses[request.key] <= failures
        ]
        for key in list(self.running):
            if self.losses[key] > failures:
                self.end(key, TrainingEnd(failed=reason))

    def report(self, key: str, row: Row) -> bool:
        """Record an epoch of a training; whether it is to stop."""
        schedule, is_stopped = self.running[key][0], True
        with self._keep_error(schedule):
            is_stopped = schedule.report(key, row)
        if is_stopped:
            self._close(key)
        else:
            self.advance(0, self._note())
        return is_stopped

    def end(self, key: str, end: TrainingEnd) -> None:
        """Record the end of a training."""
        schedule, _ = self.running[key]
        with self._keep_error(schedule):
            schedule.end(key, end)
        self._close(key)

    def raise_error(self) -> None:
        """Raise the error that ended the search, if there is one."""
        if self.error:
            raise JobError(self.error)

    @contextmanager
    def _keep_error(self, schedule: TargetSchedule) -> Iterator[None]:
        """An error that ends the search waits for `raise_error`; Ray would hide it here."""
        try:
            with report_write_errors(schedule.settings.study):
                yield
        except (JobError, DiskFullError) as error:
            self.error = str(error)

    def _close(self, key: str) -> None:
        self.running.pop(key)
        self.advance(1, self._note())

    def _note(self) -> str:
        """The state of each target, for the progress bar."""
        notes = []
        for schedule in self.schedules:
            study, target = schedule.study, schedule.target
            best = study.best()
            score = f", best {target.metrics[0]} {best.values[0]:.4g}" if best else ""
            notes.append(f"{target.name} {study.count(*FINISHED)}/{study.wanted}{score}")
        return "; ".join(notes)


def run_locally(queue: TrainingQueue) -> None:
    """Run the trainings in this process, one after the other."""

    def reporter(key: str) -> Callable[[Row], Any]:
        def report(row: Row) -> None:
            if queue.report(key, row):
                raise StoppedError

        return report

    while request := queue.next():
        try:
            end = run_training(request.settings, reporter(request.key))
        except StoppedError:
            continue
        queue.end(request.key, end)
