"""Which rows have been listed before: a key of 106 bits per row, in sorted arrays, looked up in batches.

11.2 million keys take 180 MB and a few seconds; a Python set of the paths would take 2 GB. A key is two
hashes of the path, mixed with the row. It is stored as a complex number, because numpy sorts and searches
those by both parts. The probability that two of 11.2 million rows share a key is 1e-18.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

SALTS = ("survey, manifest", "another 16 bytes")
SPREAD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def keys_of(rows: pa.Table) -> np.ndarray:
    """One key per manifest row; ``.fits`` and ``.fits.gz`` are the same spectrum, as for `survey.fetch`."""
    path = rows["path"].combine_chunks()
    is_gzipped = pc.ends_with(path, ".gz")
    if pc.any(is_gzipped).as_py():
        path = pc.if_else(is_gzipped, pc.utf8_slice_codeunits(path, 0, -3), path)
    text = path.to_numpy(zero_copy_only=False).astype(object, copy=False)
    offset = (rows["row"].to_numpy() + 1).astype(np.uint64)
    keys = np.empty(len(text), np.complex128)
    for half, salt, spread in zip((keys.real, keys.imag), SALTS, SPREAD, strict=True):
        mixed = pd.util.hash_array(text, hash_key=salt, categorize=False) ^ (offset * np.uint64(spread))
        half[:] = mixed >> np.uint64(11)
    return keys


def search(sorted_keys: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each key in a sorted array, and whether it is there. Sorted keys are 4 times as fast."""
    index = np.searchsorted(sorted_keys, keys)
    index[index == sorted_keys.size] = 0
    is_there = sorted_keys[index] == keys if sorted_keys.size else np.zeros(keys.size, bool)
    return index, is_there


class KeySet:
    """A growing set of keys: sorted arrays, each at least twice as long as the next, merged as they grow."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Add keys. True where a key was not in the set before."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        is_new = np.ones(keys.size, bool)
        is_new[1:] = ordered[1:] != ordered[:-1]
        for array in self._arrays:
            is_new &= ~search(array, ordered)[1]
        self._append(ordered[is_new])
        mask = np.empty(keys.size, bool)
        mask[order] = is_new
        return mask

    def _append(self, array: np.ndarray) -> None:
        while self._arrays and self._arrays[-1].size < 2 * array.size:
            array = np.concatenate([self._arrays.pop(), array])
            array.sort(kind="stable")  # a merge, since both halves are sorted
        if array.size:
            self._arrays.append(array)


class ListedKeys:
    """The keys of a manifest's rows, and which of them the present listing has (`listed_again`)."""

    def __init__(self, keys: np.ndarray) -> None:
        self._row = np.argsort(keys, kind="stable")
        self._sorted = keys[self._row]
        self.listed_again = np.zeros(keys.size, bool)

    def look_up(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The manifest row of each key, -1 if there is none; and whether this is the row's first look-up."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        index, is_there = search(self._sorted, ordered)
        is_first = is_there.copy()
        is_first[1:] &= ordered[1:] != ordered[:-1]
        row = np.full(keys.size, -1)
        newly_listed = np.zeros(keys.size, bool)
        row[order[is_there]] = self._row[index[is_there]]
        newly_listed[order[is_first]] = ~self.listed_again[self._row[index[is_first]]]
        self.listed_again[row[newly_listed]] = True
        return row, newly_listed
