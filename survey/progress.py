"""What a long job shows while it runs: a live bar with rate, time left and notes on a terminal, a plain line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY = 10.0
"""Seconds between two lines in a log; the first comes sooner."""


class Progress:
    """Counts finished work; `total` None = not known beforehand (a listing)."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started, self.spoken = 0, time.monotonic(), 0.0
        self.note = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Bar(
                *columns,
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, note="")
        return self

    def add(self, count: int, note: str = "") -> None:
        """So much more is done; the note replaces the last one."""
        self.done += count
        self.note = note
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=f"{self._pace()} {note}")
        elif time.monotonic() - max(self.spoken, self.started - 0.8 * EVERY) > EVERY:
            self._say(self._line())

    def rate(self) -> float:
        """Finished work per second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-6)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        ending = "" if kind is None else ", stopped"
        self._say(
            f"{self.title}: {self.done:,} {self.unit} in {_clock(time.monotonic() - self.started)}{f', {self.note}' if self.note else ''}{ending}"
        )

    def _line(self) -> str:
        left = ""
        if self.total:
            time_left = f", {_clock((self.total - self.done) / self.rate())} left" if self.done else ""
            left = f" of {self.total:,} ({self.done / self.total:.0%}){time_left}"
        return f"{self.title}: {self.done:,}{left}, {self._pace()}{f', {self.note}' if self.note else ''}"

    def _pace(self) -> str:
        """The rate for people; of slow work by the minute."""
        rate = self.rate()
        return f"{60 * rate:.1f} {self.unit}/min" if 0 < rate < 1 else f"{rate:,.0f} {self.unit}/s"

    def _say(self, line: str) -> None:
        self.spoken = time.monotonic()
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )
