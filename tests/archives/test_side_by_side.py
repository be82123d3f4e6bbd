"""Threads that fetch files, and their end."""

import threading
import time

import pytest

from survey.archives import side_by_side
from survey.archives.pace import Pace
from survey.archives.side_by_side import by_threads
from survey.archives.targets import WantedFile


def test_the_end_of_a_job_waits_for_all_threads_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "PATIENCE", 0.2)
    free = threading.Event()
    items = [WantedFile(str(number), ()) for number in range(20)]

    def work(target: WantedFile) -> str:
        if target.key != "0":
            free.wait(30)
        return target.key

    results = by_threads(work, items, len(items), Pace(1000))
    assert next(results) == "0"
    begun = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    passed = time.monotonic() - begun
    free.set()
    assert passed < 2, "20 threads, each with its own patience, would take 4 s"
