"""What a long job shows while it runs: a live bar on a terminal, a plain line now and then in a log."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG_INTERVAL = 10.0
"""Seconds between two lines in a log; the first line comes a little earlier."""


class Progress:
    """Counts finished work. A `total` of None means that it is not known beforehand, as for a listing."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started, self.last_line = 0, time.monotonic(), 0.0
        self.note = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _new_bar()
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, note="")
        return self

    def add(self, count: int, note: str = "") -> None:
        """Count more finished work; the note replaces the last one."""
        self.done += count
        self.note = note
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=f"{self._rate_text()} {note}")
        elif time.monotonic() - max(self.last_line, self.started - 0.8 * LOG_INTERVAL) > LOG_INTERVAL:
            self._write(self._line())

    def rate(self) -> float:
        """Finished work per second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-6)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        note = f", {self.note}" if self.note else ""
        ending = "" if kind is None else ", stopped"
        duration = duration_text(time.monotonic() - self.started)
        self._write(f"{self.title}: {self.done:,} {self.unit} in {duration}{note}{ending}")

    def _line(self) -> str:
        share = ""
        if self.total:
            share = f" of {self.total:,} ({self.done / self.total:.0%})"
            if self.done and self._rate_is_typical():
                share += f", {duration_text((self.total - self.done) / self.rate())} left"
        note = f", {self.note}" if self.note else ""
        return f"{self.title}: {self.done:,}{share}, {self._rate_text()}{note}"

    def _rate_is_typical(self) -> bool:
        """Whether the start, which is slow, no longer decides the rate."""
        is_past_start = time.monotonic() - self.started >= LOG_INTERVAL
        return is_past_start or self.done >= 0.01 * (self.total or 0)

    def _rate_text(self) -> str:
        """The rate per second, or per minute if the work is slow."""
        rate = self.rate()
        return f"{60 * rate:.1f} {self.unit}/min" if 0 < rate < 1 else f"{rate:,.0f} {self.unit}/s"

    def _write(self, line: str) -> None:
        self.last_line = time.monotonic()
        with suppress(OSError):  # the reader of a pipe, or the disk of a log, may be gone
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            sys.stderr.flush()


def duration_text(seconds: float) -> str:
    """Seconds as "9.9 s", "42 s", "1:00" or "1:00:00"."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rounded} s"
    hours, minutes, seconds_left = rounded // 3600, rounded // 60 % 60, rounded % 60
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"


def _new_bar() -> "Bar":
    """A live bar of the library rich, which is imported only where a terminal can show it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
