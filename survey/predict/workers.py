"""Workers: they load the ensemble once and then predict one shard after another.

The worker of this process is here; those of Ray are in `survey.cluster.actors`. Two threads call a worker, so
that the next shard is read while the networks compute.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from survey import machine
from survey.settings import Threads

ShardFunction = Callable[[int], dict[str, Any]]
"""A worker: it does a shard and returns the result, as JSON can hold it."""

MakeWorker = Callable[[Threads, int, bool], ShardFunction]
"""Makes a worker from its threads, the CPUs that it may use, and whether it uses a GPU."""

Workers = Callable[[MakeWorker, Iterable[int]], Iterator[dict[str, Any]]]
"""Makes workers, gives them the shards, and yields the results in any order."""

SHARDS_AHEAD = 2
"""Shards that a worker has at a time: the networks compute one while the other is read."""


def local_workers(threads: Threads, gpu: bool) -> Workers:
    """One worker in this process; with `gpu`, it uses a GPU if there is one."""

    def run(make_worker: MakeWorker, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        worker = make_worker(threads, machine.cpus(), gpu and machine.device().type == "cuda")
        waiting = deque[Future[dict[str, Any]]]()
        with ThreadPoolExecutor(SHARDS_AHEAD) as pool:
            for shard in shards:
                waiting.append(pool.submit(worker, shard))
                if len(waiting) > SHARDS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    return run
