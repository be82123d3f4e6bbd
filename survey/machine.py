"""What a process asks of the machine it runs on: threads, memory, device."""

import ctypes
import gc
import os
import sys

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def settle(threads: int) -> None:
    """Make this process fit for batched array work: so many torch threads, and large buffers kept instead of mapped anew each time.

    glibc gives each buffer over 128 kB back to the kernel; fresh pages then cost more than the arithmetic on them (factor 1.5 to 3.5).
    """
    torch.set_num_threads(threads)
    gc.set_threshold(
        50_000, 20, 20
    )  # millions of small objects come and go without cycles; looking for them costs 3 %
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(
            M_ARENA_MAX, 1
        )  # a thread's own arena holds 64 MB at most; what is larger would be mapped after all
        library.mallopt(M_TRIM_THRESHOLD, 512 << 20)
        library.mallopt(M_TOP_PAD, 64 << 20)


def release() -> None:
    """Give free memory back: where trainings run one after the other, each in a thread of its own, what `settle` keeps adds up, by 0.4 GB each."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steady(exact: bool) -> None:
    """GPUs compute the same each time, and in true float32 where that is asked for: by default some convolutions do neither."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not exact
