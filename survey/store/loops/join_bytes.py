"""The four bytes of numbers, kept apart in a store, become numbers again."""

import numpy as np
from numba import types

from survey.store.loops.compile_loop import NOTHING, Array, compiled

_BYTES, _WORDS = types.Array(types.uint8, 2, "C", readonly=True), types.uint32[::1]


@compiled(NOTHING(_BYTES, _WORDS))
def join_bytes(bytes_4N: Array, words_N: Array) -> None:
    """Joins the four bytes of each word, the lowest first."""
    b0, b1, b2, b3 = bytes_4N[0], bytes_4N[1], bytes_4N[2], bytes_4N[3]
    for i in range(len(words_N)):
        upper = (np.uint32(b3[i]) << np.uint32(24)) | (np.uint32(b2[i]) << np.uint32(16))
        words_N[i] = upper | (np.uint32(b1[i]) << np.uint32(8)) | np.uint32(b0[i])
