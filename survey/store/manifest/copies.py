"""New rows that are copies of rows which a manifest has under another path, as after a folder was moved.

A candidate has the name and the row of an old one. Names may agree by chance (`X.npy` of two nights), so the
sizes and contents of some candidates are compared.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from survey import files
from survey.fetch import fetch
from survey.spectrum import Refused
from survey.store.manifest.changes import Checksums
from survey.store.manifest.manifest import ITEM, Manifest, ManifestPart
from survey.store.manifest.row_keys import keys_of, search

MOST_COMPARED = 20
"""Candidates whose contents are compared, spread evenly over all."""
MOST_SAME = 50
"""Old rows of one name that a candidate is compared with."""
START = 1 << 20
"""Bytes of a table of spectra that are compared: whole ones may be many GB."""


@dataclass(frozen=True)
class Copies:
    """How many new rows are copies, as far as the compared ones tell, and one of them with its old path."""

    count: int = 0
    path: str = ""
    old_path: str = ""


Place = tuple[str, int]
"""The path of a file and the row in it."""


def find_copies(old: Manifest, parts: Sequence[ManifestPart], checksums: Checksums | None) -> Copies:
    """The rows of new parts that are copies of rows of a manifest."""
    if not old.parts or not parts:
        return Copies()
    new = pa.concat_tables([old.read(part, ["path", "row", "size", "stamp"]) for part in parts])
    keys = _name_keys(new)
    candidates = np.flatnonzero(_is_known(old, keys))
    if not candidates.size:
        return Copies()
    chosen = candidates[np.unique(np.linspace(0, candidates.size - 1, MOST_COMPARED).astype(int))]
    known = _rows_of(old, keys[chosen])
    contents = _Contents(old, checksums)
    copies: list[tuple[str, str]] = []
    for row, key in zip(new.take(pa.array(chosen)).to_pylist(), keys[chosen].tolist(), strict=True):
        same = (number for number in known[key][-MOST_SAME:] if contents.same(row, number))
        if (number := next(same, None)) is not None:
            copies.append((row["path"], contents.row(number)["path"]))
    if not copies:
        return Copies()
    return Copies(max(1, round(candidates.size * len(copies) / chosen.size)), *copies[0])


def _name_keys(rows: pa.Table) -> np.ndarray:
    """Keys of the names without their folders."""
    names = pc.replace_substring_regex(rows["path"], "^.*/", "")
    return keys_of(pa.table({"path": names, "row": rows["row"]}))


def _is_known(old: Manifest, keys: np.ndarray) -> np.ndarray:
    """Which of the keys a manifest has."""
    order = np.argsort(keys, kind="stable")
    is_known = np.zeros(keys.size, bool)
    for part in old.parts:
        part_keys = np.sort(_name_keys(old.read(part, ["path", "row"])))
        is_known[order] |= search(part_keys, keys[order])[1]
    return is_known


def _rows_of(old: Manifest, keys: np.ndarray) -> dict[complex, list[int]]:
    """The rows of a manifest with each key."""
    rows: dict[complex, list[int]] = {key: [] for key in keys.tolist()}
    first = 0
    for part in old.parts:
        part_keys = _name_keys(old.read(part, ["path", "row"]))
        for inside in np.flatnonzero(np.isin(part_keys, keys)).tolist():
            rows[part_keys[inside].item()].append(first + inside)
        first += part.rows
    return rows


class _Contents:
    """The contents of new rows and of those of a manifest; each is read once."""

    def __init__(self, old: Manifest, checksums: Checksums | None) -> None:
        self._old, self._checksums = old, checksums
        self._shards: dict[int, tuple[list[dict[str, Any]], dict[Place, int | None]]] = {}
        self._files: dict[Place, int | None] = {}

    def row(self, number: int) -> dict[str, Any]:
        """A row of the manifest, with the checksum that the store has of it (`crc`), if it has one."""
        shard = int(self._old.shards_of(np.array([number]))[0])
        if shard not in self._shards:
            stored = self._checksums(shard).to_pylist() if self._checksums else []
            crc = {(row["path"], row["row"]): row["crc"] for row in stored}
            self._shards[shard] = self._old.shard(shard).to_pylist(), crc
        rows, crc = self._shards[shard]
        row = rows[number - self._old.first_row(shard)]
        return row | {"crc": crc.get((row["path"], row["row"]))}

    def same(self, new: dict[str, Any], number: int) -> bool:
        """Whether a new row has the content of a row of the manifest."""
        old = self.row(number)
        if None not in (new["size"], old["size"]) and new["size"] != old["size"]:
            return False
        crc = self._read(old) if old["crc"] is None else old["crc"]
        if crc is None:  # the old file is gone: a move keeps the time of the last change
            return new["stamp"] is not None and new["stamp"] == old["stamp"]
        return crc == self._read(new)

    def _read(self, row: dict[str, Any]) -> int | None:
        place = (row["path"], min(row["row"], 0))  # of a table, all rows are one file
        if place not in self._files:
            self._files[place] = _checksum(*place)
        return self._files[place]


def _checksum(path: str, row: int) -> int | None:
    """The checksum of a file, or of the start of a table; None if it cannot be read."""
    if row == ITEM:
        data = next(iter(fetch([path])))
        return None if isinstance(data, Refused) else isal_zlib.crc32(data)
    with suppress(OSError, ValueError), files.open_file(path) as stream:
        return isal_zlib.crc32(stream.read(START))
    return None
