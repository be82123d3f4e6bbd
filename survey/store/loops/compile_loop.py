"""Compiles a loop over the pixels of spectra for this CPU, by numba.

The loops of this folder are the slowest steps of preparing spectra and of reading stores. Those of preparing
are written for torch too, in the files that call them: read those first. A GPU runs them, and the tests
compare both. In torch, every operation goes through the memory for a whole batch; in a loop, a spectrum stays
in the cache from the first operation to the last.

numba compiles a loop when it is first used on a machine, which takes a second or two. It keeps the result on
the disk until the file of the loop changes. Only the order of sums differs from torch. NaN and infinity are
as there.

A loop works on eight or sixteen pixels at a time if each line of it chooses between two numbers: `a if b
else c`. With `and`, `|`, `min` or `max` of pixels, the compiler takes one pixel after the other, which is
five times slower.

Shapes: B spectra, W pixels of a window, G grid points, K coefficients or windows of indices.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import njit, types

Array = np.ndarray
Loop = Callable[..., Any]

ROW, ROWS, NUMBER = types.float32[::1], types.float32[:, ::1], types.float32
INTEGER = types.int64
NOTHING = types.void
ZERO, ONE = np.float32(0), np.float32(1)
_FREE_SUMS = {"reassoc", "nsz", "contract"}
"""What the compiler may change: sums are added in any order, so that several pixels are added at once."""


def compiled(signature: Any) -> Callable[[Loop], Loop]:
    """Compiles a loop, and keeps it on the disk where there is a folder for it."""
    options = {"fastmath": _FREE_SUMS, "nogil": True, "error_model": "numpy"}

    def compile_loop(loop: Loop) -> Loop:
        try:
            return cast(Loop, njit(signature, cache=True, **options)(loop))
        except (RuntimeError, OSError):  # no folder for it can be written, or the disk is full
            return cast(Loop, njit(signature, **options)(loop))

    return compile_loop
