"""Functions for workers. A worker imports this file, which is quicker than importing that of the tests."""

import os
import signal
import threading
from pathlib import Path
from typing import Any


def square(number: int) -> dict[str, Any]:
    """The square, and the process that found it."""
    return {"number": number, "square": number * number, "pid": os.getpid()}


def refuses(kind: Any, number: int) -> dict[str, Any]:
    """The square, or an error of this kind for the number 3."""
    if number == 3:
        raise kind("shard 3: found 7; give 8")
    return square(number)


class UnpicklableError(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def dies_once(folder: Path, number: int) -> dict[str, Any]:
    """The square; the process dies of every third number once."""
    died = folder / f"died-{number}"
    if number % 3 == 0 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def dies_always(number: int) -> dict[str, Any]:
    """The square; the process dies of the number 2."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)
