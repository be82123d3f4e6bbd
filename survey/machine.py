"""What a process uses of the machine it runs on: threads, memory, device, precision."""

import ctypes
import gc
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from statistics import mean, median
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Parameters of glibc's mallopt."""

LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of 16 bits. Training uses bf16 only, because gradients in fp16 would have to be scaled."""

TURN_STEPS = 4
"""Steps of a turn that are timed; a turn has one more step, its first, which is not."""
TURNS = 2
"""Turns of each number of threads in a comparison."""
TOO_SLOW = 2.0
"""A number of threads that takes this many times as long as the fastest is not tried further."""
CHANGED = 2.0
"""The speed has changed if the time of a step is this many times what it was, or less than its inverse."""
WINDOW = 21
"""Steps of the running median."""
PAUSE = 10.0
"""After a comparison, the next one waits at least this many times as long as the comparison took."""


def settle(threads: int | Literal["auto"], available: int | None = None) -> "ThreadChooser":
    """Set this process up for batched array work, and return the chooser of its number of threads.

    With a fixed number, torch uses it from now on. With `auto`, torch uses all `available` CPUs (default:
    those of this process), except inside `ThreadChooser.timed`. The BLAS of numpy and scipy gets one thread:
    its products are small here, and its other threads would spin while they wait for the next one, which took
    a quarter of the CPU time of a prediction by an ensemble. Large buffers are kept instead of mapped anew
    each time: glibc gives each buffer over 128 kB back to the kernel, and fresh pages cost more than the
    arithmetic on them (a factor of 1.5 to 3.5).
    """
    most = available or cpus()
    chooser = ThreadChooser(candidate_threads(most) if threads == "auto" else [threads])
    torch.set_num_threads(most if threads == "auto" else threads)
    _bind_blas()
    # Millions of small objects come and go without cycles; looking for cycles costs 3 %.
    gc.set_threshold(50_000, 20, 20)
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        # The arena of a single thread holds 64 MB at most; larger buffers would be mapped after all.
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_TRIM_THRESHOLD, 512 << 20)
        library.mallopt(M_TOP_PAD, 64 << 20)
    return chooser


@cache
def _bind_blas() -> None:
    """One thread for the BLAS of numpy and scipy, once for a process: to find the libraries takes 8 ms."""
    threadpool_limits(1, user_api="blas")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of a library that is loaded later


def candidate_threads(most: int) -> list[int]:
    """The numbers of threads that are compared: one, half and all of so many CPUs."""
    return sorted({1, max(most // 2, 1), most})


class ThreadChooser:
    """Finds the fastest number of threads from the times of steps that are done anyway.

    Before each step, `next` gives the number of threads to use; after it, `record` takes its time. First
    all candidates are compared, in turns; the shortest mean time wins. They are compared again when the
    running median of the times has doubled since its best, because other work on the machine then makes
    threads wait for each other, or has fallen to half of what it was at the choice, because that work has
    ended.
    """

    def __init__(self, candidates: Sequence[int]) -> None:
        self.candidates = sorted(set(candidates))
        self.threads = self.candidates[0]
        """The number of threads in use, or under test."""
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.first_median = self.best_median = 0.0
        self.pause = 0.0
        self._begin_comparison()

    @property
    def is_comparing(self) -> bool:
        """Whether the candidates are being compared."""
        return bool(self.turns)

    def next(self) -> int:
        """The number of threads for the next step."""
        return self.threads

    def record(self, seconds: float) -> None:
        """Take the time of the last step."""
        if len(self.candidates) == 1:
            return
        if self.is_comparing:
            self._record_turn(seconds)
        else:
            self._record_run(seconds)

    @contextmanager
    def timed(self, size: int = 1) -> Iterator[None]:
        """Do a step with the right number of threads and record its time; steps may differ in `size`."""
        if torch.get_num_threads() != self.next():
            torch.set_num_threads(self.next())
        started = time.perf_counter()
        yield
        self.record((time.perf_counter() - started) / size)

    def _begin_comparison(self) -> None:
        self.times: dict[int, list[float]] = {threads: [] for threads in self.candidates}
        self.turns = self.candidates * TURNS if len(self.candidates) > 1 else []
        self.turn: list[float] = []
        self.spent = 0.0
        self.threads = self.candidates[0]

    def _record_turn(self, seconds: float) -> None:
        """A step of a candidate's turn. The first step is not counted, because its
        threads are being started.
        """
        self.spent += seconds
        self.turn.append(seconds)
        fastest = min((mean(times) for times in self.times.values() if times), default=math.inf)
        is_too_slow = sum(self.turn) > TOO_SLOW * (TURN_STEPS + 1) * fastest
        if len(self.turn) <= TURN_STEPS and not is_too_slow:
            return
        self.times[self.threads] += self.turn if is_too_slow else self.turn[1:]
        self.turns, self.turn = self.turns[1:], []
        if is_too_slow:
            self.turns = [threads for threads in self.turns if threads != self.threads]
        if self.turns:
            self.threads = self.turns[0]
        else:
            self._choose()

    def _choose(self) -> None:
        self.threads = min(self.candidates, key=lambda threads: mean(self.times[threads]))
        self.recent.clear()
        self.first_median = self.best_median = 0.0
        self.pause = PAUSE * self.spent

    def _record_run(self, seconds: float) -> None:
        """A step with the chosen number of threads; compare again if the speed has changed."""
        self.pause -= seconds
        self.recent.append(seconds)
        if len(self.recent) < WINDOW:
            return
        now = median(self.recent)
        self.first_median = self.first_median or now
        self.best_median = min(self.best_median or now, now)
        has_changed = now >= CHANGED * self.best_median or now <= self.first_median / CHANGED
        if has_changed and self.pause <= 0:
            self._begin_comparison()


def release_memory() -> None:
    """Give free memory back to the system.

    Where trainings or predictions run one after the other in one process, each in its own threads, the memory
    that `settle` keeps adds up: 0.4 GB for each training.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed what torch draws on the CPU or on a device, such as what dropout leaves out.

    On a machine without accelerators `torch.manual_seed` takes more than a millisecond: for each kind of them
    it notes from where it was called.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def make_deterministic(is_exact: bool) -> None:
    """Let GPUs compute the same result each time, and in true float32 if `is_exact`.

    By default some convolutions do neither.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not is_exact


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of a network's layers on a device; `auto` = bf16 on GPUs that have it.

    Weights and losses are float32 always.
    """
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "float32"
    if precision not in LOW_PRECISION:
        return nullcontext()
    return torch.autocast(device.type, LOW_PRECISION[precision])
