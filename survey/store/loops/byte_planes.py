"""The four bytes of numbers, which a store keeps apart: split for writing, joined for reading."""

import numpy as np
from numba import types

from survey.store.loops.compile_loop import NOTHING, Array, compiled

_WORDS = types.uint32[::1]
_BYTES, _READ_BYTES = types.uint8[:, ::1], types.Array(types.uint8, 2, "C", readonly=True)


@compiled(NOTHING(_READ_BYTES, _WORDS))
def join_bytes(bytes_4N: Array, words_N: Array) -> None:
    """Joins the four bytes of each word, the lowest first."""
    b0, b1, b2, b3 = bytes_4N[0], bytes_4N[1], bytes_4N[2], bytes_4N[3]
    for i in range(len(words_N)):
        upper = (np.uint32(b3[i]) << np.uint32(24)) | (np.uint32(b2[i]) << np.uint32(16))
        words_N[i] = upper | (np.uint32(b1[i]) << np.uint32(8)) | np.uint32(b0[i])


@compiled(NOTHING(types.Array(types.uint32, 1, "C", readonly=True), _BYTES))
def split_bytes(words_N: Array, bytes_4N: Array) -> None:
    """The four bytes of each word, the lowest first."""
    b0, b1, b2, b3 = bytes_4N[0], bytes_4N[1], bytes_4N[2], bytes_4N[3]
    for i in range(len(words_N)):
        word = words_N[i]
        b0[i] = word & np.uint32(255)
        b1[i] = (word >> np.uint32(8)) & np.uint32(255)
        b2[i] = (word >> np.uint32(16)) & np.uint32(255)
        b3[i] = word >> np.uint32(24)
