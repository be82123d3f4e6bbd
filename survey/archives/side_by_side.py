"""Several files at a time: threads that end with the process.

A pool of `concurrent.futures` waits for its threads at the end of the process; one that waits for an archive
would hold up Ctrl-C for a minute.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from survey.archives.pace import EndedError, Pace
from survey.archives.targets import WantedFile

PATIENCE = 2.0
"""Seconds that the end of a job waits for its threads, all together."""

T = TypeVar("T")


def by_threads(
    function: Callable[[WantedFile], T], items: list[WantedFile], count: int, pace: Pace
) -> Iterator[T]:
    """The results of a function for all items, by so many threads, as they are ready."""
    waiting, lock = iter(items), threading.Lock()
    done: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def work() -> None:
        try:
            while not pace.stop.is_set():
                with lock:
                    item = next(waiting, None)
                if item is None:
                    break
                done.put((function(item), None))
        except EndedError:
            pass  # the job ends
        except Exception as error:  # noqa: BLE001 - it is raised in the main thread
            done.put((None, error))

    threads = [
        threading.Thread(target=work, daemon=True, name="download") for _ in range(min(count, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in items:
            result, error = done.get()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        pace.stop.set()
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
