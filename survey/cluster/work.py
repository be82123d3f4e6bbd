"""Where a job works: in this process, or on Ray.

Ray takes up to a second to load, so it is loaded only if it is used.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from survey.cluster.stream import Function
    from survey.predict.workers import MakeWorker, Workers
    from survey.search.queue import TrainingQueue
    from survey.search.settings import Tune
    from survey.settings import Threads
    from survey.training.settings import Train

FEW = 8
"""Items that take about as long in one process as Ray takes to start: a shard takes about a second."""


def is_few(items: int, workers: int | None) -> bool:
    """Whether so many items are not worth the start of Ray; a wish for workers or a cluster comes first."""
    return workers is None and "RAY_ADDRESS" not in os.environ and items <= FEW


def make_map(
    workers: int | None = None,
) -> "Callable[[Function, Iterable[Any]], Iterator[dict[str, Any]]]":
    """A `map` with so many tasks of Ray at a time; None = one per CPU.

    With one worker, or for one item, the function runs in this process, without Ray. So it does for few items
    where neither a number of workers nor a cluster is given.
    """

    def run(function: "Function", items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        waiting = list(items)
        if workers == 1 or len(waiting) < 2 or is_few(len(waiting), workers):
            return map(function, waiting)
        from survey.cluster import stream

        return stream.run(function, waiting, workers)

    return run


def shard_workers(workers: int | None, threads: "Threads", gpu: bool) -> "Workers":
    """So many workers with so many threads each. A single worker and few items do not need Ray.

    Without a number: one worker per GPU, else one per CPU, or fewer if there is too little memory.
    """
    from survey.predict.workers import local_workers

    def run(make_worker: "MakeWorker", items: Iterable[int]) -> Iterator[dict[str, Any]]:
        waiting = list(items)
        if workers == 1 or not waiting or is_few(len(waiting), workers):
            return local_workers(threads, gpu)(make_worker, waiting)
        from survey.cluster import actors

        return actors.run(make_worker, waiting, workers, threads, gpu)

    return run


def fit(settings: "Train") -> bool:
    """Train, in this process or in several workers of Ray; returns whether there was something to do."""
    from survey.folder import Folder
    from survey.training import run, train, worker

    with Folder(settings.run, run.RUN).claim(settings.plain()):
        if not train.plan(settings):
            return False
        if settings.workers == 1 or train.needs_one_worker(settings):
            worker.learn(settings)
        else:
            from survey.cluster.train import fit_on_ray

            fit_on_ray(settings)
        return True


def run_trainings(settings: "Tune") -> "Callable[[TrainingQueue], None]":
    """Runs the trainings of a search: in this process if workers=1, else on Ray."""

    def run(queue: "TrainingQueue") -> None:
        if settings.workers == 1:
            from survey.search.queue import run_locally

            run_locally(queue)
        else:
            from survey.cluster.search import run_on_ray

            run_on_ray(settings, queue)

    return run
