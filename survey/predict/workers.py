"""Who does the shards of a prediction: a crew hires workers, which hold what takes long to load, and has them do one shard after the other.

The crew of one is here; that of Ray's actors is in `survey.cluster.actors`. A worker is called by two threads, so that it can read the next shard
while its networks are at work.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from survey import machine

Work = Callable[[int], dict[str, Any]]
"""Does a shard and says what became of it."""
Hire = Callable[[int, bool], Work]
"""Makes a worker that has so many threads, and a GPU or none."""
Crew = Callable[[Hire, Iterable[int]], Iterator[dict[str, Any]]]
"""Hires workers, has them do the shards, and gives the results as they come, in any order; `alone` makes one."""

AHEAD = 2
"""Shards that a worker has at a time: the networks are at one, the other is read."""


def alone(threads: int | None, gpu: bool) -> Crew:
    """A crew of one in this process; its GPU is used where it has one and may."""

    def crew(hire: Hire, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
        work = hire(threads or machine.cpus(), gpu and machine.device().type == "cuda")
        waiting = deque[Future[dict[str, Any]]]()
        with ThreadPoolExecutor(AHEAD) as pool:
            for shard in shards:
                waiting.append(pool.submit(work, shard))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    return crew
