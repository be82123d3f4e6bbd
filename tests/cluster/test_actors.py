"""Actors as a crew: the results of a loop, whatever dies on the way."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from survey.cluster import actors, stream
from survey.cluster.actors import Pool
from survey.predict.predict import Predict, predict
from survey.predict.workers import Work
from survey.settings import JobError
from tests.ensemble import askable
from tests.processes import Workplace

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]


ONE = actors.crew(2, 2, False)
"""A crew of a single actor on two CPUs: its process takes seconds to start, so the tests that need no second one have none."""


def square(threads: int, gpu: bool) -> Work:
    """Hires a worker that squares numbers and says who it is."""
    return lambda number: {"square": number * number, "pid": os.getpid(), "threads": threads, "gpu": gpu}


@pytest.mark.usefixtures("small_ray")
def test_a_crew_of_actors_gives_the_results_of_a_loop_from_other_processes():
    results = list(actors.crew(2, None, True)(square, range(7)))
    assert sorted(result["square"] for result in results) == [number * number for number in range(7)]
    assert os.getpid() not in {result["pid"] for result in results}
    assert {(result["threads"], result["gpu"]) for result in results} == {(1, False)}


@pytest.mark.parametrize(("workers", "items"), [(1, [1, 2, 3]), (None, [5]), (4, [])])
def test_one_worker_or_one_item_needs_no_ray(monkeypatch: pytest.MonkeyPatch, workers: int, items: list[int]):
    monkeypatch.setattr(stream, "connect", lambda: pytest.fail("Ray was started"))
    assert [result["square"] for result in actors.crew(workers, 1, False)(square, items)] == [
        item * item for item in items
    ]


def refusing(threads: int, gpu: bool) -> Work:
    raise FileNotFoundError("predict: ensemble: is missing; give another")


def failing(number: int) -> dict[str, Any]:
    raise JobError(f"shard {number}: found 7; give 8")


@pytest.mark.usefixtures("small_ray")
def test_an_error_of_a_worker_or_of_its_hiring_is_raised_as_what_it_builds_on(
    capfd: pytest.CaptureFixture[str],
):
    with pytest.raises(FileNotFoundError, match="predict: ensemble: is missing; give another"):
        list(ONE(refusing, range(4)))
    with pytest.raises(RuntimeError, match=r"shard .: found 7; give 8") as caught:
        list(ONE(lambda threads, gpu: failing, range(4)))
    assert "on a worker:" in caught.value.__notes__[0]
    assert capfd.readouterr() == ("", "")


def mortal(folder: Path, always: int | None, threads: int, gpu: bool) -> Work:
    """Hires a worker that each third item kills once, and one item always."""

    def work(number: int) -> dict[str, Any]:
        died = folder / f"died-{number}"
        if number == always or (always is None and number % 3 == 0 and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": number}

    return work


@pytest.mark.usefixtures("small_ray")
def test_items_of_actors_that_die_are_done_again_and_come_once(tmp_path: Path):
    results = list(ONE(partial(mortal, tmp_path, None), range(5)))
    assert sorted(result["number"] for result in results) == list(range(5))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("small_ray")
def test_an_item_that_kills_every_actor_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "DEADLY", 2)
    with pytest.raises(
        ChildProcessError, match=r"item .: 2 workers in turn died of it, likely for want of memory"
    ):
        list(ONE(partial(mortal, tmp_path, 2), range(4)))


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"memory": 64 << 30, **resources}}


@pytest.mark.parametrize(
    ("nodes", "asked", "pool"),
    [
        ([node(CPU=2)], {}, Pool(2, 1, False)),
        ([node(CPU=16)], {"workers": 4}, Pool(4, 4, False)),
        ([node(CPU=16)], {"threads": 5}, Pool(3, 5, False)),
        ([node(CPU=16, memory=8 << 30)], {}, Pool(4, 4, False)),
        ([node(CPU=2), node(CPU=8), node(False, CPU=64)], {"workers": 3}, Pool(2, 3, False)),
        ([node(CPU=2), node(CPU=8)], {"threads": 99}, Pool(1, 8, False)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {}, Pool(4, 6, True)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {"workers": 2, "threads": 3}, Pool(2, 3, True)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {"gpu": False}, Pool(24, 1, False)),
        ([node(CPU=16)], {"items": 3}, Pool(3, 1, False)),
    ],
)
def test_what_there_is_is_shared_out(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Any], asked: dict[str, Any], pool: Pool
):
    monkeypatch.setattr(actors.ray, "nodes", lambda: nodes)
    assert actors._pool(**{"workers": None, "threads": None, "gpu": True, "items": 100} | asked) == pool


@pytest.fixture
def place(tmp_path: Path) -> Path:
    askable.three(tmp_path / "ensemble", askable.store(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("small_ray")
def test_predictions_by_actors_are_those_of_a_loop_byte_for_byte(place: Path):
    written = []
    for name, crew in (("loop", None), ("actors", actors.crew(2, None, False))):
        values = {
            "ensemble": str(place / "ensemble"),
            "store": str(place / "store"),
            "predictions": str(place / name),
            "threads": 1,
            "batch": 3,
        }
        report = predict(Predict.checked("predict", values), crew)
        written.append((report.about, [path.read_bytes() for path in sorted((place / name).rglob("part-*"))]))
    assert written[0] == written[1]
    assert len(written[0][1]) == 6


def test_a_job_with_actors_says_only_what_it_does(workplace: Workplace):
    askable.three(workplace.folder / "ensemble", askable.store(workplace.folder))
    given = [f"{name}={workplace.folder}/{name}" for name in ("ensemble", "store", "predictions")]
    started = time.monotonic()
    run = workplace.python("jobs/predict.py", *given, "workers=2", "batch=3")
    assert run.wait() == 0, run.err
    assert all(line[8:18] == " predict: " for line in run.err.splitlines()), run.err
    assert "shards     3 complete, 3 made by this run" in run.out
    assert time.monotonic() - started < 100
