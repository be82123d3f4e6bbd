"""Workers as actors of Ray: as many as there are GPUs, or as CPUs and memory allow.

Each actor holds the networks and does one item after another. Two threads call an actor, so that it reads the
next item while its networks compute. Ray restarts an actor that dies, and repeats its items. Ray Data is not
used, because it prints an error for every pool of actors that may be restarted (Ray 2.60).
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from survey import machine
from survey.cluster import connection, stream
from survey.predict.workers import SHARDS_AHEAD, MakeWorker, ShardFunction, local_workers
from survey.settings import Threads

MEMORY = 2 << 30
"""Bytes for an actor: 0.5 GB for the interpreter with torch, the rest for two shards and a large network."""


def run(
    make_worker: MakeWorker, items: list[int], workers: int | None, threads: Threads, gpu: bool
) -> Iterator[dict[str, Any]]:
    """The results of the items, from so many actors with so many threads each."""
    if len(items) == 1 and not (gpu and _may_have_remote_gpus()):
        return local_workers(1 if threads == "auto" else threads, gpu)(make_worker, items)
    connection.connect()
    connection.await_cpus(1)
    wish = workers if connection.may_grow() else None
    pool = plan_pool(ray.nodes(), workers, threads, gpu, len(items), wish)
    return _results(pool, make_worker, items)


def _may_have_remote_gpus() -> bool:
    """Whether this process has no GPU, but belongs to a cluster that may have some."""
    return machine.device().type != "cuda" and connection.may_grow()


@dataclass(frozen=True)
class Pool:
    """So many actors, each with so many CPUs and threads, and with a GPU or without."""

    actors: int
    cpus: int
    threads: Threads
    gpu: bool


def plan_pool(
    nodes: list[dict[str, Any]],
    workers: int | None,
    threads: Threads,
    gpu: bool,
    items: int,
    wish: int | None = None,
) -> Pool:
    """The pool for the nodes of a cluster.

    An actor gets a GPU and its share of the CPUs. Without GPUs it gets a CPU, or several where there is too
    little memory for an actor per CPU. `wish`: so many workers may be more than the CPUs of now; those beyond
    wait, and a cluster that grows starts machines for them.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = (sum(int(node.get(name, 0)) for node in alive) for name in ("CPU", "GPU"))
    fixed = None if threads == "auto" else threads
    if gpu and gpus:
        share = fixed or max(1, cpus // gpus)
        return Pool(min(workers or gpus, gpus, items), share, threads, True)
    largest_node = max(int(node.get("CPU", 1)) for node in alive)
    if wish and wish > cpus:
        share = min(fixed or 1, max(largest_node, 1))
        return Pool(min(wish, items), share, threads if fixed is None else share, False)
    in_memory = sum(int(node.get("memory", 0)) for node in alive) // MEMORY
    wanted = min(workers or cpus, max(in_memory, 1), cpus)
    share = min(fixed or max(1, cpus // wanted), largest_node)
    fitting = sum(int(node.get("CPU", 0)) // share for node in alive)
    actors = max(1, min(wanted, fitting, items))
    return Pool(actors, share, threads if fixed is None else share, False)


def _results(pool: Pool, make_worker: MakeWorker, items: list[int]) -> Iterator[dict[str, Any]]:
    with stream.report_ray_errors():
        yield from _run_on_actors(pool, make_worker, items)


def _run_on_actors(pool: Pool, make_worker: MakeWorker, items: list[int]) -> Iterator[dict[str, Any]]:
    """Gives each actor that is ready, or has finished an item, the next item; yields the results."""
    resources = {"num_cpus": 1, "num_gpus": 1} if pool.gpu else {"num_cpus": pool.cpus}
    remote_class = ray.remote(
        max_restarts=-1, max_task_retries=-1, max_concurrency=SHARDS_AHEAD, **resources
    )(Actor)
    shared = [ray.put(partial(_make, make_worker, pool)), stream.new_death_counter()]
    waiting, unfinished = deque(items), len(items)
    actors = [remote_class.remote(stream.MAX_DEATHS) for _ in range(pool.actors)]
    running = {actor.ready.remote(shared): actor for actor in actors for _ in range(SHARDS_AHEAD)}
    actors.clear()
    actor = None
    try:
        while unfinished:
            (finished,), _ = ray.wait(list(running))
            actor, result = running.pop(finished), ray.get(finished)
            if waiting:
                running[actor.do.remote(shared, waiting.popleft())] = actor
            if result:
                unfinished -= 1
                yield stream.read_result(result)
    finally:
        # Ray ends an actor when its last handle is gone; the traceback of an error would keep these
        running.clear()
        shared.clear()
        actor = None


class Actor:
    """Holds a worker, made at the first call; an actor that was restarted makes it again.

    Each call brings references to the function that makes the worker and to the counter of deaths. Ray
    warns of such references in the constructor of an actor that may be restarted.
    """

    def __init__(self, max_deaths: int) -> None:
        self.max_deaths = max_deaths
        self.worker: ShardFunction | None = None
        self.lock = threading.Lock()

    def ready(self, shared: list[Any]) -> str:
        """Makes the worker. The empty answer says that it is there."""
        self._get_worker(shared[0])
        return ""

    def do(self, shared: list[Any], item: int) -> str:
        """The result of an item, or its error, as JSON."""
        make, counter = shared
        return stream.result_json(self._get_worker(make), item, counter, self.max_deaths)

    def _get_worker(self, make: Any) -> ShardFunction:
        with self.lock:
            if self.worker is None:
                self.worker = ray.get(make)()
        return self.worker


def _make(make_worker: MakeWorker, pool: Pool) -> ShardFunction:
    """A worker on the node of an actor, which may have fewer CPUs than the pool plans.

    An error in making it is raised by the first item, where the driver can report it.
    """
    cpus = min(pool.cpus, machine.cpus())
    threads: Threads = pool.threads if pool.threads == "auto" else min(pool.threads, machine.cpus())
    try:
        return make_worker(threads, cpus, pool.gpu)
    except Exception as error:  # noqa: BLE001 - raised again by whoever calls the worker
        return partial(_raise, error)


def _raise(error: Exception, item: int) -> dict[str, Any]:
    raise error
