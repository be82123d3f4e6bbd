"""Which rows have been seen: a key of 106 bits per row, in sorted arrays, looked up by the batch.

11.2 million keys are 180 MB and a few seconds; a Python set of the paths would be 2 GB. A key is two hashes of the path, mixed with the row,
held as a complex number because numpy sorts and searches those by both parts. Two of 11.2 million rows share a key with a chance of 1e-18.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

SALTS = ("survey, manifest", "another 16 bytes")
SPREAD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def keys_of(rows: pa.Table) -> np.ndarray:
    """One key per manifest row; ``.fits`` and ``.fits.gz`` are one spectrum, as they are to `files.fetch`."""
    path = rows["path"].combine_chunks()
    zipped = pc.ends_with(path, ".gz")
    if pc.any(zipped).as_py():
        path = pc.if_else(zipped, pc.utf8_slice_codeunits(path, 0, -3), path)
    text = path.to_numpy(zero_copy_only=False).astype(object, copy=False)
    offset = (rows["row"].to_numpy() + 1).astype(np.uint64)
    keys = np.empty(len(text), np.complex128)
    for half, salt, spread in zip((keys.real, keys.imag), SALTS, SPREAD, strict=True):
        mixed = pd.util.hash_array(text, hash_key=salt, categorize=False) ^ (offset * np.uint64(spread))
        half[:] = mixed >> np.uint64(11)
    return keys


def _found(run: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of the sorted keys would be in a sorted run, and whether it is there; sorted keys are found four times as fast."""
    at = np.searchsorted(run, keys)
    at[at == run.size] = 0
    return at, run[at] == keys if run.size else np.zeros(keys.size, bool)


class Seen:
    """A growing set of keys: sorted runs, each at least twice as long as the next, merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def fresh(self, keys: np.ndarray) -> np.ndarray:
        """True where a key is met for the first time; from now on it is seen."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.ones(keys.size, bool)
        new[1:] = ordered[1:] != ordered[:-1]
        for run in self._runs:
            new &= ~_found(run, ordered)[1]
        self._add(ordered[new])
        mask = np.empty(keys.size, bool)
        mask[order] = new
        return mask

    def _add(self, run: np.ndarray) -> None:
        while self._runs and self._runs[-1].size < 2 * run.size:
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")  # a merge, since both halves are sorted
        if run.size:
            self._runs.append(run)


class Known:
    """The keys that a manifest holds already, by their position in it, and which of them a new listing has met."""

    def __init__(self, keys: np.ndarray) -> None:
        self._position = np.argsort(keys, kind="stable")
        self._sorted = keys[self._position]
        self.met = np.zeros(keys.size, bool)

    def meet(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The position of each key, -1 where it is not known; and whether the listing meets it for the first time."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        at, there = _found(self._sorted, ordered)
        first = there.copy()
        first[1:] &= ordered[1:] != ordered[:-1]
        position = np.full(keys.size, -1)
        newly = np.zeros(keys.size, bool)
        position[order[there]] = self._position[at[there]]
        newly[order[first]] = ~self.met[self._position[at[first]]]
        self.met[position[newly]] = True
        return position, newly
