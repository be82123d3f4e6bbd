"""Counts how often an item has killed its worker, by public means of Ray.

Ray repeats the task of a worker that died, and Ray Data does so without an end. So each attempt reports its
start here; all attempts before the present one have died.
"""

from collections import Counter
from typing import Any

import ray


class DeathCounter:
    """The attempts at each item."""

    def __init__(self) -> None:
        self.attempts: Counter[Any] = Counter()

    def start(self, item: Any) -> int:
        """One more attempt at an item begins. The number of earlier attempts, which have died."""
        deaths = self.attempts[item]
        self.attempts[item] += 1
        return deaths


def new_death_counter() -> Any:
    """A `DeathCounter` as an actor. It needs no CPU, and ends with its last handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(DeathCounter).remote()


def count_deaths(counter: Any, item: Any) -> int:
    """How many workers have died of this item before."""
    deaths: int = ray.get(counter.start.remote(item))
    return deaths
