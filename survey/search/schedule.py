"""All that a job trains, one order after the other, whoever does the work: orders go out, epochs and ends come in.

A place of work asks `next` for as long as it is not `over`, tells what it hears, and stops a training when it is told to.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from survey.search.study import FINISHED
from survey.search.target import Order, Quest
from survey.search.trial import Row, Told, work
from survey.settings import JobError
from survey.training.loop import StoppedError


@dataclass
class Search:
    """The quests of a job; `advance` gets what is to be shown when something has happened."""

    quests: Sequence[Quest]
    advance: Callable[[int, str], None]
    trouble: str = ""
    under_way: dict[str, tuple[Quest, Order]] = field(default_factory=dict)
    returned: list[Order] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)

    def next(self) -> Order | None:
        """What is to be trained next; None: nothing now."""
        if self.trouble:
            return None
        if self.returned:
            return self.returned.pop(0)
        for quest in self.quests:
            if order := quest.next():
                self.under_way[order.key] = quest, order
                return order
        return None

    def lost(self, failures: int, reason: str) -> None:
        """A place of work has broken down with all that was under way there: it is given out again, but no more than so often."""
        self.losses.update(list(self.under_way))
        self.returned = [order for _, order in self.under_way.values() if self.losses[order.key] <= failures]
        for key in list(self.under_way):
            if self.losses[key] > failures:
                self.ended(key, {"failed": reason})

    @property
    def over(self) -> bool:
        """Whether nothing is left to do; what is under way when there is trouble is not waited for."""
        return bool(self.trouble) or (not self.under_way and all(quest.over for quest in self.quests))

    def heard(self, key: str, row: Row) -> bool:
        """An epoch of a training is over; whether it is to be stopped."""
        stop = self.under_way[key][0].heard(key, row)
        if stop:
            self._closed(key)
        else:
            self.advance(0, self._note())
        return stop

    def ended(self, key: str, told: Told) -> None:
        """A training is over. Trouble is kept for `settle`: places of work have errors of their own."""
        quest, _ = self.under_way[key]
        try:
            quest.ended(key, told)
        except JobError as error:
            self.trouble = str(error)
        self._closed(key)

    def settle(self) -> None:
        """The work is over, or an error says what was wrong."""
        if self.trouble:
            raise JobError(self.trouble)

    def _closed(self, key: str) -> None:
        self.under_way.pop(key)
        self.advance(1, self._note())

    def _note(self) -> str:
        """How it stands, for the progress bar."""
        told = []
        for quest in self.quests:
            best = quest.study.best()
            score = f", best {quest.aim.metrics[0]} {best.values[0]:.4g}" if best else ""
            told.append(f"{quest.aim.name} {quest.study.count(*FINISHED)}/{quest.study.wanted}{score}")
        return "; ".join(told)


def here(search: Search) -> None:
    """Do the work in this process, one training after the other."""

    def listener(key: str) -> Callable[[Row], Any]:
        def tell(row: Row) -> None:
            if search.heard(key, row):
                raise StoppedError

        return tell

    while order := search.next():
        try:
            told = work(order.settings, listener(order.key))
        except StoppedError:
            continue
        search.ended(order.key, told)
