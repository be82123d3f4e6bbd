"""A worker is called by two threads; its networks take turns."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from survey.ensemble.ensemble import Ensemble
from survey.predict.inputs import FromStore
from survey.predict.worker import Asking, Choice, Worker, chosen, written
from survey.predict.workers import Work, alone
from survey.store.store import open_store
from tests.ensemble import askable


def test_a_crew_of_one_works_ahead_and_gives_results_in_order():
    running, most, lock = 0, [0], threading.Lock()

    def work(item: int) -> dict[str, Any]:
        nonlocal running
        with lock:
            running += 1
            most[0] = max(most[0], running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return {"item": item}

    def hire(threads: int, gpu: bool) -> Work:
        assert (threads, gpu) == (3, False)
        return work

    assert [told["item"] for told in alone(3, False)(hire, range(9))] == list(range(9))
    assert most == [2]


def test_a_crew_of_one_takes_no_more_than_it_needs():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    found = alone(1, False)(lambda threads, gpu: lambda item: {"item": item}, items())
    assert next(found) == {"item": 0}
    assert len(taken) == 3


def test_an_error_in_a_thread_is_raised_where_the_results_are_awaited():
    def work(item: int) -> dict[str, Any]:
        if item == 2:
            raise ValueError("shard 2: damaged")
        return {}

    with pytest.raises(ValueError, match="shard 2: damaged"):
        list(alone(1, False)(lambda threads, gpu: work, range(5)))


def test_networks_answer_for_one_shard_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    askable.three(tmp_path / "ensemble", askable.store(tmp_path))
    origin = FromStore.of(open_store(str(tmp_path / "store")))
    asking = Asking(
        str(tmp_path / "said"),
        str(tmp_path / "ensemble"),
        "three-members",
        origin,
        Choice(4, "float32", False),
        "x",
        0,
        False,
        False,
    )
    inside, said = [], Ensemble.said

    def slow(self: Ensemble, *given: Any, **more: Any) -> Any:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.02)
        answer = said(self, *given, **more)
        inside.pop()
        return answer

    monkeypatch.setattr(Ensemble, "said", slow)
    markers = list(alone(1, False)(lambda threads, gpu: Worker(asking, threads, gpu), range(3)))
    assert [marker["rows"] for marker in markers] == [4, 4, 2]


def test_a_choice_survives_being_written():
    choice = Choice(32, "bf16", True, ("a note",))
    assert chosen(written(choice)) == choice
