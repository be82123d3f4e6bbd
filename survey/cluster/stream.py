"""Ray Data as a `map`: a function is applied to items on all CPUs of a machine or cluster.

An item is a number or a short text, such as the number of a shard. A result is a small dict that JSON can
hold. The work itself goes from files to files. Results come in any order, as they are ready. One item is one
block of Ray Data and one task; if a worker dies, its task runs again elsewhere.
"""

import builtins
import json
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.data import DataContext
from ray.exceptions import RayError

from survey.cluster import connection
from survey.messages import shorten
from survey.settings import JobError

MAX_DEATHS = 20
"""An item fails after it has killed this many workers. Ray Data itself never gives up."""

Function = Callable[[Any], dict[str, Any]]

WAVE = 1000
"""Items of one dataset, at least. It is 20 per CPU if that is more."""


def run(function: Function, items: list[Any], workers: int | None) -> Iterator[dict[str, Any]]:
    """The results of the items, from so many tasks at a time; None = one per CPU."""
    connection.connect()  # now, so that the seconds of the start do not count as work
    connection.await_cpus(1)
    return _stream(function, items, workers)


def _stream(function: Function, items: list[Any], workers: int | None) -> Iterator[dict[str, Any]]:
    """One dataset after the other: Ray Data needs 17 s to start one of 11,000 blocks, and 2 s for 1,000."""
    prepare_context()
    cpus = ray.cluster_resources().get("CPU", 1)
    is_limit = workers is not None and workers < cpus  # a limit without an effect costs 0.2 s per task
    size = max(WAVE, int(20 * cpus))
    with report_ray_errors():
        for start in range(0, len(items), size):
            yield from _run_wave(function, items[start : start + size], workers if is_limit else None)


def _run_wave(function: Function, items: list[Any], limit: int | None) -> Iterator[dict[str, Any]]:
    shared, counter, max_deaths = ray.put(items), new_death_counter(), MAX_DEATHS

    def apply(batch: dict[str, Any]) -> dict[str, list[str]]:
        wave = [ray.get(shared)[number] for number in batch["id"].tolist()]
        return {"result": [result_json(function, item, counter, max_deaths) for item in wave]}

    compute = ray.data.TaskPoolStrategy(size=limit)
    numbers = ray.data.range(len(items), override_num_blocks=len(items))
    results = numbers.map_batches(apply, batch_size=None, num_cpus=1, compute=compute)
    for row in results.iter_rows():
        yield read_result(row["result"])


def result_json(function: Function, item: Any, counter: Any, max_deaths: int) -> str:
    """The result of an item as JSON, or its error.

    Ray would wrap an error that it sees, print it twice, and hide its type. `counter` is that of
    `DeathCounter`.
    """
    deaths = count_deaths(counter, item)
    try:
        _check_deaths(item, deaths, max_deaths)
        return json.dumps({"result": function(item)})
    except Exception as error:  # noqa: BLE001 - it is raised again where the results are read
        builtin = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
        kind = JobError if isinstance(error, JobError) else builtin
        message = str(error)
        if kind is Exception:
            kind, message = RuntimeError, f"{type(error).__name__}: {message}"
        return json.dumps({"error": kind.__name__, "message": message, "trace": traceback.format_exc()})


def _check_deaths(item: Any, deaths: int, max_deaths: int) -> None:
    if deaths >= max_deaths:
        raise ChildProcessError(
            f"stream: item {item}: {deaths} workers died of it, probably for lack of memory; "
            "make items smaller, or give fewer workers="
        )


def read_result(text: str) -> dict[str, Any]:
    """The result of an item, or its error raised again.

    The error is a `JobError`, or has the built-in type that it had or was derived from, and the worker's
    trace as a note.
    """
    values = json.loads(text)
    if "error" not in values:
        return dict(values["result"])
    kind = JobError if values["error"] == JobError.__name__ else getattr(builtins, values["error"])
    try:
        error = kind(values["message"])
    except TypeError:  # such as UnicodeDecodeError, which needs more than a message
        error = RuntimeError(f"{values['error']}: {values['message']}")
    error.add_note(f"on a worker:\n{values['trace']}")
    raise error


def prepare_context(ordered: bool = False) -> None:
    """Set Ray Data to report only what is wrong, and to start a task as soon as a CPU is free.

    To divide resources among operators leaves each CPU idle for 0.15 to 0.2 s between tasks; with one
    operator there is nothing to divide.
    """
    context = DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.execution_options.preserve_order = ordered
    for name in ("enable_progress_bars", "print_on_execution_start"):
        setattr(context, name, False)
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.WARNING)
    for handler in logger.handlers:
        handler.addFilter(_is_no_advice)  # a filter is added only once


def _is_no_advice(record: logging.LogRecord) -> bool:
    """False for Ray's advice about what is switched off here on purpose.

    And for the stack of an error that is raised as well: `report_ray_errors` says it in a sentence.
    """
    return not record.exc_info and "Progress bars disabled" not in record.getMessage()


@contextmanager
def report_ray_errors() -> Iterator[None]:
    """An error of Ray itself becomes a sentence of one line; an error of the work stays as it is."""
    try:
        yield
    except RayError as error:
        text = " ".join(str(error).split())
        raise JobError(f"{connection.RAY_ENDED} ({type(error).__name__}: {shorten(text, 200)})") from error


class DeathCounter:
    """The attempts at each item, by public means of Ray.

    Ray repeats the task of a worker that died, and Ray Data does so without an end. So each attempt reports
    its start here; all attempts before the present one have died.
    """

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
