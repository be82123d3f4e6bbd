"""Actors as workers: the results of a loop, even if actors die."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from survey.cluster import actors, connection, stream
from survey.cluster.actors import Pool, plan_pool
from survey.cluster.work import shard_workers
from survey.predict.predict import predict
from survey.predict.workers import MakeWorker, ShardFunction
from survey.settings import JobError, Threads
from tests.ensemble import untrained
from tests.predict.small_predictions import settings
from tests.processes import Workplace

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]

ONE_ACTOR = shard_workers(2, 2, False)
"""A single actor on two CPUs. A second one takes seconds to start, so tests that do not need it have one."""


def square(threads: Threads, cpus: int, gpu: bool) -> ShardFunction:
    """Makes a worker that squares numbers and describes itself."""
    process = {"pid": os.getpid(), "threads": threads, "cpus": cpus, "gpu": gpu}
    return lambda number: {"square": number * number, **process}


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_actors_give_the_results_of_a_loop_from_other_processes() -> None:
    results = list(shard_workers(2, 1, True)(square, range(7)))
    assert sorted(result["square"] for result in results) == [number * number for number in range(7)]
    assert os.getpid() not in {result["pid"] for result in results}
    assert {(result["threads"], result["cpus"], result["gpu"]) for result in results} == {(1, 1, False)}


@pytest.mark.parametrize(("workers", "items"), [(1, [1, 2, 3]), (None, [5]), (4, [])])
def test_one_worker_or_one_item_does_not_need_ray(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, items: list[int]
) -> None:
    monkeypatch.setattr(connection, "connect", lambda: pytest.fail("Ray was started"))
    results = shard_workers(workers, 1, False)(square, items)
    assert [result["square"] for result in results] == [item * item for item in items]


def refusing(threads: Threads, cpus: int, gpu: bool) -> ShardFunction:
    raise FileNotFoundError("predict: ensemble: is missing; give another")


def failing(number: int) -> dict[str, Any]:
    raise JobError(f"shard {number}: found 7; give 8")


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_error_of_a_worker_is_raised_as_a_job_error_or_the_built_in_one_that_it_extends(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(FileNotFoundError, match="predict: ensemble: is missing; give another"):
        list(ONE_ACTOR(refusing, range(4)))
    with pytest.raises(JobError, match=r"shard .: found 7; give 8") as caught:
        list(ONE_ACTOR(lambda threads, cpus, gpu: failing, range(4)))
    assert "on a worker:" in caught.value.__notes__[0]
    assert capfd.readouterr() == ("", "")


def mortal(folder: Path, always: int | None, threads: Threads, cpus: int, gpu: bool) -> ShardFunction:
    """Makes a worker that dies of every third item once, or of the item `always` each time."""

    def worker(number: int) -> dict[str, Any]:
        died = folder / f"died-{number}"
        if number == always or (always is None and number % 3 == 0 and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": number}

    return worker


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_items_of_actors_that_die_are_repeated_and_give_one_result(tmp_path: Path) -> None:
    results = list(ONE_ACTOR(partial(mortal, tmp_path, None), range(5)))
    assert sorted(result["number"] for result in results) == list(range(5))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
def test_an_item_that_kills_every_actor_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_DEATHS", 2)
    with pytest.raises(ChildProcessError, match=r"item .: .*2 workers"):
        list(ONE_ACTOR(partial(mortal, tmp_path, 2), range(4)))


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"memory": 64 << 30, **resources}}


@pytest.mark.parametrize(
    ("nodes", "changes", "pool"),
    [
        ([node(CPU=2)], {}, Pool(2, 1, "auto", False)),
        ([node(CPU=16)], {"workers": 4}, Pool(4, 4, "auto", False)),
        ([node(CPU=16)], {"threads": 5}, Pool(3, 5, 5, False)),
        ([node(CPU=16, memory=8 << 30)], {}, Pool(4, 4, "auto", False)),
        ([node(CPU=2), node(CPU=8), node(False, CPU=64)], {"workers": 3}, Pool(2, 3, "auto", False)),
        ([node(CPU=2), node(CPU=8)], {"threads": 99}, Pool(1, 8, 8, False)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {}, Pool(4, 6, "auto", True)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {"workers": 2, "threads": 3}, Pool(2, 3, 3, True)),
        ([node(CPU=8), node(CPU=16, GPU=4)], {"gpu": False}, Pool(24, 1, "auto", False)),
        ([node(CPU=16)], {"items": 3}, Pool(3, 1, "auto", False)),
        ([node(), node(CPU=16)], {"workers": 40, "wish": 40}, Pool(40, 1, "auto", False)),
        ([node(CPU=16)], {"workers": 40, "wish": 40, "items": 20}, Pool(20, 1, "auto", False)),
        ([node(CPU=16)], {"workers": 4, "wish": 4}, Pool(4, 4, "auto", False)),
        ([node(CPU=2)] * 2, {"workers": 8, "wish": 8, "threads": 4}, Pool(8, 2, 2, False)),
    ],
)
def test_a_pool_shares_the_cpus_gpus_and_memory_of_a_cluster(
    nodes: list[dict[str, Any]], changes: dict[str, Any], pool: Pool
) -> None:
    values: dict[str, Any] = {"workers": None, "threads": "auto", "gpu": True, "items": 100}
    assert plan_pool(nodes, **(values | changes)) == pool


@pytest.mark.usefixtures("small_ray")
def test_a_job_says_that_it_waits_for_cpus_of_other_jobs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REPORTED_S", 0.5)
    taken = placement_group([{"CPU": 1}] * 2)
    assert taken.wait(60)
    while connection.await_cpus(1) and not caplog.messages:
        time.sleep(0.1)
    assert caplog.messages[0].startswith("other jobs use 2 of the 2 CPUs of the cluster: this one waits")
    remove_placement_group(taken)
    while ray.available_resources().get("CPU") != 2:
        time.sleep(0.1)
    caplog.clear()
    assert connection.await_cpus(1) == 2
    assert not caplog.messages


@pytest.fixture
def place(tmp_path: Path) -> Path:
    untrained.three(tmp_path / "ensemble", untrained.store(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("small_ray")
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.long)])
def test_predictions_by_actors_equal_those_of_a_loop_byte_for_byte(
    place: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(actors, "local_workers", lambda *_: pytest.fail("no actor was used"))

    def on_actors(make_worker: MakeWorker, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        return actors.run(make_worker, list(items), count, 1, False)

    written = []
    for name, workers in (("loop", None), ("actors", on_actors)):
        result = predict(settings(place, predictions=str(place / name)), workers)
        parts = [path.read_bytes() for path in sorted((place / name).rglob("part-*"))]
        written.append((result.document, parts))
    assert written[0] == written[1]
    assert len(written[0][1]) == 6


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_job_with_actors_prints_only_its_progress_and_its_summary(workplace: Workplace) -> None:
    untrained.three(workplace.folder / "ensemble", untrained.store(workplace.folder))
    given = [f"{name}={workplace.folder}/{name}" for name in ("ensemble", "store", "predictions")]
    run = workplace.python("jobs/predict.py", *given, "workers=2", "batch=3")
    assert run.wait(300) == 0, run.err
    assert all(line[8:18] == " predict: " for line in run.err.splitlines()), run.err
    assert "shards     3 complete, 3 made by this run" in run.out
