"""Two threads call a worker, and its networks compute one shard at a time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from survey.ensemble.ensemble import Ensemble
from survey.predict.inputs import StoreInput
from survey.predict.output import Choice
from survey.predict.worker import PredictionSpec, Worker
from survey.predict.workers import ShardFunction, local_workers
from survey.settings import Threads
from survey.store.store import open_store
from tests.ensemble import untrained


def constant(worker: ShardFunction) -> Any:
    """Makes this worker, whatever threads, CPUs and GPU it gets."""
    return lambda threads, cpus, gpu: worker


def test_a_local_worker_reads_ahead_and_gives_results_in_order() -> None:
    both_started = threading.Barrier(2, timeout=10)
    running: list[int] = []
    most: list[int] = []

    def worker(shard: int) -> dict[str, Any]:
        running.append(shard)
        most.append(len(running))
        both_started.wait()
        running.remove(shard)
        return {"shard": shard}

    def make_worker(threads: Threads, cpus: int, gpu: bool) -> ShardFunction:
        assert (threads, gpu) == (3, False)
        return worker

    results = [result["shard"] for result in local_workers(3, False)(make_worker, range(8))]
    assert results == list(range(8))
    assert max(most) == 2


def test_a_local_worker_takes_no_more_shards_than_it_needs() -> None:
    taken: list[int] = []

    def shards() -> Iterator[int]:
        for shard in range(100):
            taken.append(shard)
            yield shard

    results = local_workers(1, False)(constant(lambda shard: {"shard": shard}), shards())
    assert next(results) == {"shard": 0}
    assert len(taken) == 3


def test_an_error_in_a_thread_is_raised_where_the_results_are_read() -> None:
    def worker(shard: int) -> dict[str, Any]:
        if shard == 2:
            raise ValueError("shard 2: damaged")
        return {}

    with pytest.raises(ValueError, match="shard 2: damaged"):
        list(local_workers(1, False)(constant(worker), range(5)))


def make_spec(tmp_path: Path) -> PredictionSpec:
    """What three small shards are predicted with."""
    untrained.three(tmp_path / "ensemble", untrained.store(tmp_path))
    return PredictionSpec(
        folder=str(tmp_path / "predictions"),
        ensemble=str(tmp_path / "ensemble"),
        ensemble_id="three-members",
        inputs=StoreInput.from_store(open_store(str(tmp_path / "store"))),
        choice=Choice(batch=4, precision="float32"),
        fingerprint="x",
        seed=0,
        members=False,
        embeddings=False,
    )


def test_networks_compute_one_shard_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(tmp_path)
    inside: list[int] = []
    predict = Ensemble.predict

    def watched(self: Ensemble, *arguments: Any, **options: Any) -> Any:
        inside.append(1)
        threading.Event().wait(0.02)
        assert len(inside) == 1
        answers = predict(self, *arguments, **options)
        inside.pop()
        return answers

    monkeypatch.setattr(Ensemble, "predict", watched)
    workers = local_workers(1, False)
    markers = list(workers(lambda threads, cpus, gpu: Worker(spec, threads, cpus, gpu), range(3)))
    assert [marker["rows"] for marker in markers] == [4, 4, 2]


@pytest.mark.parametrize(("cpus", "most"), [(1, 1), (2, 2)])
def test_a_worker_with_one_cpu_does_one_shard_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, most: int
) -> None:
    spec, load = make_spec(tmp_path), StoreInput.load
    running: list[int] = []
    counts: list[int] = []
    both = threading.Barrier(most, timeout=30)

    def watched(self: StoreInput, shard: int, columns: list[str]) -> Any:
        running.append(shard)
        if shard < most:
            both.wait()
        counts.append(len(running))
        tables = load(self, shard, columns)
        running.remove(shard)
        return tables

    monkeypatch.setattr(StoreInput, "load", watched)
    worker = Worker(spec, 1, cpus, False)
    markers = list(local_workers(1, False)(constant(worker), range(3)))
    assert [marker["rows"] for marker in markers] == [4, 4, 2]
    assert max(counts) == most
