"""What is known of a folder that a job makes or has made."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any, Literal

State = Literal["running", "stopped", "finished", "damaged"]

RECENT = 200
"""The last pieces of work that decide the rate."""
SKEW = 5.0
"""Seconds by which the clocks of two machines may differ."""
PAUSE = 300.0
"""Seconds without a finished piece after which the work counts as begun again, at least."""


@dataclass
class FolderState:
    """A folder at one moment.

    `done` of `total` pieces of work (`unit`) are finished, `missing` are the first that are not. `rows`
    counts what the pieces hold, `refused` by reason what was left out; `estimated` says from how much of it.
    `rate` is in pieces per second, `last` the seconds since the last piece.
    """

    path: str
    kind: str
    job: str
    state: State = "stopped"
    by: str = ""
    since: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    missing: Sequence[int | str] = ()
    rows: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    estimated: str = ""
    rate: float | None = None
    rows_each: float = 0.0
    seconds_left: float | None = None
    last: float | None = None
    notes: list[str] = field(default_factory=list)
    command: str = ""
    parts: list["FolderState"] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON stores them."""
        return asdict(self)

    def damage(self, text: str) -> None:
        """The folder is damaged; the text says where and what to do."""
        self.notes.append(text)
        if self.state != "running":
            self.state = "damaged"

    def measure(self, stamps: Iterable[float], now: float) -> None:
        """Rate, time left and age of the last piece, from the times at which pieces were finished."""
        recent: Sequence[float] = sorted(stamps)[-RECENT:]
        if not recent:
            return
        self.last = max(now - recent[-1], 0.0)
        if self.state == "running" and self.since and recent[-1] < seconds_of(self.since) - SKEW:
            self.notes.append(
                f"nothing is finished since the job was started again ({self.unit} before count)"
            )
            return
        recent = last_session(recent)
        seconds = recent[-1] - recent[0]
        if len(recent) < 2 or seconds <= 0:
            return
        self.rate = (len(recent) - 1) / seconds
        if self.total is not None and self.state == "running":
            self.seconds_left = max(self.total - self.done, 0) / self.rate
        usual = max(10 / self.rate, 60.0)
        if self.state == "running" and self.last > usual:
            self.notes.append(
                f"nothing was finished for {self.last:,.0f} s; usually one of the {self.unit} takes "
                f"{1 / self.rate:.3g} s"
            )


def seconds_of(moment: str) -> float:
    """A moment as a claim writes it, in seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


def last_session(stamps: Sequence[float]) -> Sequence[float]:
    """The rising times after the last long pause."""
    gaps = [after - before for before, after in pairwise(stamps)]
    if not gaps:
        return stamps
    longest = max(PAUSE, 20 * median(gaps))
    first = max((number + 1 for number, gap in enumerate(gaps) if gap > longest), default=0)
    return stamps[first:]
