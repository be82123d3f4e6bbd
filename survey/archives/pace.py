"""How fast requests follow each other: never faster than the given rate, by all threads together.

The first request waits one interval too: a job that is killed and started again does not exceed the rate.
When an archive asks for a pause, nobody sends before its end.
"""

import threading
import time
from collections.abc import Callable

SLICE = 0.2
"""Seconds: a wait notices a pause or a stop after so long."""


class EndedError(RuntimeError):
    """The job ends: no further request is made."""


class Pace:
    """Gives each request its moment."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.stop = threading.Event()
        self._interval = 1 / rate
        self._clock, self._sleep = clock, sleep or self.stop.wait
        self._lock = threading.Lock()
        self._next = clock() + self._interval
        self._paused_until = -float("inf")

    def wait(self) -> None:
        """Return when the next request may be sent. One thread after the other gets its moment."""
        with self._lock:
            while (delay := max(self._next, self._paused_until) - self._clock()) > 0:
                self.check()
                self._sleep(min(delay, SLICE))
            self.check()
            self._next = self._clock() + self._interval

    def pause(self, seconds: float) -> None:
        """Let nobody send for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def rest(self, seconds: float) -> None:
        """A wait of this thread alone, before its next attempt."""
        end = self._clock() + seconds
        while (delay := end - self._clock()) > 0:
            self.check()
            self._sleep(min(delay, SLICE))
        self.check()

    def check(self) -> None:
        """An error if the job ends."""
        if self.stop.is_set():
            raise EndedError("the download ends")
