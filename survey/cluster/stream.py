"""Ray Data as a `map`: items stream through a function on all CPUs of this machine or cluster, and the results come as they are ready.

An item is a number or a short text (a shard), a result a small JSON-able dict (what became of it): the work itself goes from files to files.
One item is one Ray Data block and one task; a worker that dies has its task run again elsewhere.
"""

import builtins
import json
import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray
from ray.data.context import DataContext

DEADLY = 20
"""An item whose workers have died this often is not unlucky but deadly. Ray Data never gives up; its max_retries goes away in 2.64."""

WAVE = 1000
"""Items of one dataset, at least; more where 20 for each CPU are more."""

Function = Callable[[Any], dict[str, Any]]


def runner(workers: int | None = None) -> Callable[[Function, Iterable[Any]], Iterator[dict[str, Any]]]:
    """A `map` over Ray with so many tasks at a time (null: one per CPU); one worker or one item runs in this process, without Ray."""

    def run(function: Function, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        waiting = list(items)
        if workers == 1 or len(waiting) < 2:
            return map(function, waiting)
        connect()  # now, so that nobody takes the seconds of a start for work
        return _streamed(function, waiting, workers)

    return run


def connect() -> None:
    """Ray is running: the cluster of RAY_ADDRESS, or that of `ray start` on this machine; without either, or for RAY_ADDRESS=local, one of our own.

    No address="auto": that would also join the private Ray of another job, and die with it.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _answers(os.environ.get("RAY_ADDRESS", ""))
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _answers(address: str) -> None:
    """Fail at once where nothing listens: Ray itself would try for five minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            advice = "start one with `ray start --head`, or unset RAY_ADDRESS to have one on this machine"
            raise ConnectionError(f"RAY_ADDRESS={address}: there is no Ray ({error}); {advice}") from None


def _streamed(function: Function, items: list[Any], workers: int | None) -> Iterator[dict[str, Any]]:
    """One dataset after the other: Ray Data takes 17 s to begin one of 11,000 blocks, and 2 s for one of a thousand."""
    prepare_context()
    cpus = ray.cluster_resources().get("CPU", 1)
    limited = workers is not None and workers < cpus  # a limit that binds nothing costs 0.2 s a task
    size = max(WAVE, int(20 * cpus))
    for start in range(0, len(items), size):
        yield from _wave(function, items[start : start + size], workers if limited else None)


def _wave(function: Function, items: list[Any], limit: int | None) -> Iterator[dict[str, Any]]:
    shared, deadly = ray.put(items), DEADLY

    def apply(batch: dict[str, Any]) -> dict[str, list[str]]:
        here = ray.get(shared)
        return {"outcome": [outcome(function, here[number], deadly) for number in batch["id"].tolist()]}

    compute = ray.data.TaskPoolStrategy(size=limit)
    results = ray.data.range(len(items), override_num_blocks=len(items)).map_batches(
        apply, batch_size=None, num_cpus=1, compute=compute
    )
    for row in results.iter_rows():
        yield result(row["outcome"])


def _dead(deaths: int) -> Function:
    """Stands in for a function that has killed too many workers."""

    def fail(item: Any) -> dict[str, Any]:
        raise ChildProcessError(
            f"stream: item {item}: {deaths} workers in turn died of it, likely for want of memory; make items smaller or workers= fewer"
        )

    return fail


def outcome(function: Function, item: Any, deadly: int) -> str:
    """The result as JSON, or what went wrong: Ray would wrap an error that it sees, print it twice and keep its type from us."""
    deaths = ray.get_runtime_context().worker.core_worker.get_current_task_attempt_number()
    try:
        return json.dumps({"result": (_dead(deaths) if deaths >= deadly else function)(item)})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again where the results are awaited
        kind, message = (
            next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins"),
            str(error),
        )
        if kind is Exception:
            kind, message = RuntimeError, f"{type(error).__name__}: {message}"
        return json.dumps({"error": kind.__name__, "message": message, "trace": traceback.format_exc()})


def result(outcome: str) -> dict[str, Any]:
    """The result, or the error raised anew as the built-in exception that it was or came from, with the worker's trace as a note."""
    told = json.loads(outcome)
    if "error" not in told:
        return dict(told["result"])
    kind = getattr(builtins, told["error"])
    try:
        error = kind(told["message"])
    except TypeError:  # such as UnicodeDecodeError, which wants more than a message
        error = RuntimeError(f"{told['error']}: {told['message']}")
    error.add_note(f"on a worker:\n{told['trace']}")
    raise error


def prepare_context(ordered: bool = False) -> None:
    """Ray Data says nothing but what is wrong, and starts a task as soon as a CPU is free.

    Sharing out resources among operators leaves each CPU idle for 0.15 to 0.2 s between tasks; with one operator there is nothing to share.
    """
    context = DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.execution_options.preserve_order = ordered
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").addFilter(_no_bars)  # a filter is added once only


def _no_bars(record: logging.LogRecord) -> bool:
    """The advice to switch the bars on that were just switched off."""
    return "Progress bars disabled" not in record.getMessage()
