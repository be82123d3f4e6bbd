"""Actors of Ray as a crew: each holds the networks and does item after item, as many as the machine or cluster has CPUs or GPUs for.

An actor is called by two threads, so that it reads the next item while its networks are at work. One that dies is started again by Ray, which
has its items done once more. Not by Ray Data: that writes an error to the user's screen for every pool that may be restarted (Ray 2.60).
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from survey import machine
from survey.cluster import stream
from survey.predict.workers import AHEAD, Crew, Hire, Work, alone

ROOM = 2 << 30
"""Memory that an actor is given: the interpreter with torch takes 0.5 GB, two shards and a large network's layers the rest."""


def crew(workers: int | None, threads: int | None, gpu: bool) -> Crew:
    """So many workers (null: one per GPU, else per CPU or less where memory is short) of so many threads; one worker or one item needs no Ray."""

    def run(hire: Hire, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        waiting = list(items)
        if workers == 1 or not waiting:
            return alone(threads, gpu)(hire, waiting)
        if len(waiting) == 1 and not (gpu and _elsewhere()):
            return alone(threads or 1, gpu)(hire, waiting)
        stream.connect()
        return _shared_out(_pool(workers, threads, gpu, len(waiting)), hire, waiting)

    return run


def _elsewhere() -> bool:
    """Whether a cluster may have GPUs, as this process has not."""
    return machine.device().type != "cuda" and os.environ.get("RAY_ADDRESS", "") not in ("", "local")


@dataclass(frozen=True)
class Pool:
    """So many actors with so many threads each, and a GPU each or none."""

    actors: int
    threads: int
    gpu: bool


def _pool(workers: int | None, threads: int | None, gpu: bool, items: int) -> Pool:
    """How what there is, is shared out: GPUs one by one; else CPUs, several to an actor where there is no memory for one each."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(int(node.get(name, 0)) for node in nodes) for name in ("CPU", "GPU"))
    if gpu and gpus:
        return Pool(min(workers or gpus, gpus, items), threads or max(1, cpus // gpus), True)
    widest = max(int(node.get("CPU", 1)) for node in nodes)
    room = sum(int(node.get("memory", 0)) for node in nodes) // ROOM
    wanted = min(workers or cpus, max(room, 1), cpus)
    each = min(threads or max(1, cpus // wanted), widest)
    fitting = sum(int(node.get("CPU", 0)) // each for node in nodes)
    return Pool(max(1, min(wanted, fitting, items)), each, False)


def _shared_out(pool: Pool, hire: Hire, items: list[int]) -> Iterator[dict[str, Any]]:
    """All items: whoever is ready, or has finished one, gets the next."""
    room = {"num_cpus": 1, "num_gpus": 1} if pool.gpu else {"num_cpus": pool.threads}
    remote = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=AHEAD, **room)(Actor)
    shared, waiting, left = [ray.put(hire)], deque(items), len(items)
    running: dict[Any, Any] = {}
    for actor in [remote.remote(pool.threads, pool.gpu, stream.DEADLY) for _ in range(pool.actors)]:
        running |= {actor.ready.remote(shared): actor for _ in range(AHEAD)}
    try:
        while left:
            (first,), _ = ray.wait(list(running))
            actor, told = running.pop(first), ray.get(first)
            if waiting:
                running[actor.do.remote(shared, waiting.popleft())] = actor
            if told:
                left -= 1
                yield stream.result(told)
    finally:
        running.clear()  # actors that nobody knows end, and an error would know them in its traceback
        del actor


class Actor:
    """Holds a worker, once it has been called; one that was started again hires it anew."""

    def __init__(self, threads: int, gpu: bool, deadly: int) -> None:
        self.threads, self.gpu, self.deadly = min(threads, machine.cpus()), gpu, deadly
        self.work: Work | None = None
        self.hiring = threading.Lock()

    def ready(self, hire: list[Any]) -> str:
        """Nothing: an answer at all says that the worker is there."""
        self._worker(hire)
        return ""

    def do(self, hire: list[Any], item: int) -> str:
        """What became of an item."""
        return stream.outcome(self._worker(hire), item, self.deadly)

    def _worker(self, hire: list[Any]) -> Work:
        with self.hiring:
            self.work = self.work or _hired(ray.get(hire[0]), self.threads, self.gpu)
        return self.work


def _hired(hire: Hire, threads: int, gpu: bool) -> Work:
    """A worker; what goes wrong in hiring it is told when it is first called, by an item."""
    try:
        return hire(threads, gpu)
    except Exception as error:  # noqa: BLE001 - raised again by whoever calls the worker
        return partial(_raise, error)


def _raise(error: Exception, item: int) -> dict[str, Any]:
    raise error
