"""Many small questions to a bucket, asked side by side. Those to a disk take no time and need no threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from survey.progress import Progress

THREADS = 32
"""Questions that are asked at a time."""
HELD = 8
"""Questions for each thread that wait for it, or whose answers wait to be taken."""

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(
    work: Callable[[T], R],
    items: Iterable[T],
    is_remote: Callable[[T], bool],
    title: str = "",
    total: int | None = None,
    threads: int = THREADS,
) -> Iterator[R]:
    """The results of the work for each item, in order. Remote items are done side by side.

    If there are any, the progress is shown under the title; without a title it is not.
    """
    asked: deque[Future[R]] = deque()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        stack.callback(lambda: [future.cancel() for future in asked])
        progress: Progress | None = None

        def answer() -> R:
            if progress:
                progress.add(1)
            return asked.popleft().result()

        for item in items:
            if is_remote(item):
                if title and not progress:
                    progress = stack.enter_context(Progress(title, total, "files"))
                asked.append(pool.submit(work, item))
                if len(asked) == HELD * threads:
                    yield answer()
                continue
            while asked:
                yield answer()
            yield work(item)
        while asked:
            yield answer()
