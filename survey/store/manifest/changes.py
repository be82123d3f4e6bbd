"""Files that changed since a manifest listed them: found by size, time or content, and updated on request.

The values of a catalogue that the store uses are compared too. A value where there was none is a change.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from survey import files
from survey.fetch import fetch, other_name
from survey.progress import Progress
from survey.spectrum import Refused
from survey.store.manifest.manifest import ITEM, SCHEMA, Manifest, ManifestPart
from survey.store.markers import shard_file
from survey.store.side_by_side import THREADS as ASKED
from survey.store.side_by_side import side_by_side

R = TypeVar("R")

MAX_EXAMPLES = 20
THREADS = 8
"""Shards that are compared at a time."""
FILE_COLUMNS = ("path", "size", "stamp")
VALUE_COLUMNS = ("rv", "z", "ra", "dec", "star", "obsid")
ROUNDING = 2.5e-7
"""Share by which a value may differ: another catalogue may hold it in single precision."""
MARGIN = 600.0
"""Seconds: a file that was written so long before its shard may have been read before that."""
Noted = list[tuple[np.ndarray, pa.Table]]
"""Rows of the manifest, and what they are now."""
Checksums = Callable[[int], pa.Table]
"""For a shard: a table path, row, crc of what the store holds (CRC-32 of the file; null if none was read)."""


class Changes:
    """The known rows whose file differs from the manifest: how many, which, and what they are now.

    `revised` rows have other values in the catalogue. What rows are now is kept only if they are to be read
    again (`reread`).
    """

    def __init__(
        self, manifest: Manifest, compare: Literal["size", "time", "hash", "none"], reread: bool
    ) -> None:
        self._manifest, self._compare, self._reread = manifest, compare, reread
        self._changed: Noted = []
        self._revised: Noted = []
        self._unknown: list[np.ndarray] = []
        self.count = self.compared = self.revised = 0
        self.examples: tuple[str, ...] = ()
        self._values = cache(self._read_values)

    def compare_listing(self, listed: pa.Table, row: np.ndarray) -> None:
        """Compare listed rows with these manifest rows by size and time, if both are known, and by values."""
        if self._compare == "none" or not row.size:
            return
        self._compare_values(listed, row)
        size, stamp = _sizes(listed), _stamps(listed)
        if self._compare == "hash":  # tables of spectra have no checksum
            size[listed["row"].to_numpy() == ITEM] = -1
        if not (size >= 0).any():
            self._unknown.append(row)
            return
        old_size, old_stamp = (values[row] for values in self._sizes_and_stamps)
        both_known = (size >= 0) & (old_size >= 0)
        differs = size != old_size
        if self._compare != "size":
            differs |= (stamp != old_stamp) & np.isfinite(stamp) & np.isfinite(old_stamp)
        self.compared += int(both_known.sum())
        self._unknown.append(row[~both_known])
        changed = both_known & differs
        self._note(row[changed], listed.filter(pa.array(changed)))

    def _compare_values(self, listed: pa.Table, row: np.ndarray) -> None:
        """Compare the values that a catalogue gives with those of these manifest rows."""
        differs = np.zeros(row.size, bool)
        for name in VALUE_COLUMNS:
            if listed[name].null_count < row.size:
                differs |= _differs(_comparable(listed[name]), self._values(name)[row])
        self.revised += int(differs.sum())
        if self._reread and differs.any():
            self._revised.append((row[differs], listed.filter(pa.array(differs)).select(list(VALUE_COLUMNS))))

    def _read_values(self, name: str) -> np.ndarray:
        """A column of every row of the manifest."""
        return np.concatenate(
            [_comparable(self._manifest.read(part, [name])[name]) for part in self._manifest.parts]
        )

    def compare_unknown(self, checksums: Checksums) -> None:
        """Compare the files whose size the listing or the manifest does not know. Only those that were
        written after their shard are read."""
        self.compare_contents(np.sort(np.concatenate([np.empty(0, int), *self._unknown])), checksums, True)

    def compare_contents(self, rows: np.ndarray, checksums: Checksums, only_new: bool = False) -> None:
        """Compare the files of these manifest rows by content, or only those newer than their shard."""
        if not rows.size:
            return
        shards = self._manifest.shards_of(rows)
        with (
            ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool,
            Progress("compare", rows.size, "files") as progress,
        ):
            tasks = [
                pool.submit(self._changed_contents, shard, rows[shards == shard], checksums, only_new)
                for shard in np.unique(shards).tolist()
            ]
            for task in tasks:
                compared, row, listed = task.result()
                self.compared += compared
                progress.add(compared)
                self._note(row, listed)

    def _changed_contents(
        self, shard: int, rows: np.ndarray, checksums: Checksums, only_new: bool
    ) -> tuple[int, np.ndarray, pa.Table]:
        """How many rows of a shard were compared, which of them changed, and their files as they are now."""
        first = self._manifest.first_row(shard)
        table = self._manifest.shard(shard)
        paths, row_numbers = table["path"].to_pylist(), table["row"].to_pylist()
        offsets = [offset for offset in (rows - first).tolist() if row_numbers[offset] == ITEM]
        compared = len(offsets)
        if only_new:
            made = files.stat_of(shard_file(self._manifest.store, "spectra", shard))
            since = made.stamp - MARGIN if made else np.inf
            written = _ask(_written, [paths[offset] for offset in offsets])
            offsets = [offset for offset, when in zip(offsets, written, strict=True) if when > since]
        listed = checksums(shard).to_pylist() if offsets else []
        crc = {row["path"]: row["crc"] for row in listed if row["row"] == ITEM}
        offsets = [offset for offset in offsets if paths[offset] in crc]
        contents = fetch([paths[offset] for offset in offsets])
        changed = [
            offset
            for offset, data in zip(offsets, contents, strict=True)
            if crc[paths[offset]] != (None if isinstance(data, Refused) else isal_zlib.crc32(data))
        ]
        present = _with_present_sizes(table.take(pa.array(changed, pa.int64())))
        return compared if only_new else len(offsets), np.array(changed, np.int64) + first, present

    def _note(self, row: np.ndarray, listed: pa.Table) -> None:
        self.count += row.size
        if len(self.examples) < MAX_EXAMPLES:
            self.examples += tuple(listed["path"][: MAX_EXAMPLES - len(self.examples)].to_pylist())
        if self._reread and row.size:
            self._changed.append((row, listed.select(list(FILE_COLUMNS))))

    @cached_property
    def _sizes_and_stamps(self) -> tuple[np.ndarray, np.ndarray]:
        """Size and time of every row of the manifest."""
        tables = [self._manifest.read(part, ["size", "stamp"]) for part in self._manifest.parts]
        sizes = np.concatenate([_sizes(table) for table in tables])
        return sizes, np.concatenate([_stamps(table) for table in tables])

    def updated_manifest(self) -> tuple[Manifest, tuple[int, ...]]:
        """The manifest with files and values as they are now, not saved yet, and the shards to make again."""
        manifest, redo = self._manifest, set[int]()
        for noted, columns in ((self._changed, FILE_COLUMNS), (self._revised, VALUE_COLUMNS)):
            if noted:
                rows = np.concatenate([row for row, _ in noted])
                order = np.argsort(rows)
                listed = pa.concat_tables([table for _, table in noted]).take(pa.array(order))
                manifest = _with_changes(manifest, rows[order], listed, columns)
                redo |= set(self._manifest.shards_of(rows).tolist())
        versions = Counter(manifest.versions)
        versions.update(redo)
        return replace(manifest, versions=dict(versions)), tuple(sorted(redo))


def _with_changes(
    manifest: Manifest, rows: np.ndarray, listed: pa.Table, columns: tuple[str, ...]
) -> Manifest:
    """A manifest with other values of these columns in some rows, in its order. New parts are written."""
    shards = manifest.shards_of(rows)
    parts = []
    for part in manifest.parts:
        inside = (shards >= part.first_shard) & (shards < part.first_shard + part.shards)
        offsets = rows[inside] - manifest.first_row(part.first_shard)
        changed = listed.filter(pa.array(inside))
        parts.append(_replacement(manifest, part, offsets, changed, columns) if offsets.size else part)
    return replace(manifest, parts=tuple(parts))


def _replacement(
    manifest: Manifest, part: ManifestPart, offsets: np.ndarray, changed: pa.Table, columns: tuple[str, ...]
) -> ManifestPart:
    """A part with these rows changed, written as a new file. A value that is not known any more stays."""
    table = manifest.read(part)
    mask = np.zeros(table.num_rows, bool)
    mask[offsets] = True
    for name in columns:
        old, new = table[name].combine_chunks(), changed[name].combine_chunks()
        if columns == VALUE_COLUMNS:
            new = pc.coalesce(new, old.filter(pa.array(mask)))
        column = pc.replace_with_mask(old, pa.array(mask), new)
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
    return manifest.write(part, table)


def _ask(question: Callable[[str], R], paths: list[str]) -> Iterator[R]:
    """The answers for each path. As many shards are compared at a time, each has its share of the threads."""
    return side_by_side(question, paths, files.is_remote, threads=ASKED // THREADS)


def _written(path: str) -> float:
    """When a file was last written or put in its place, in seconds; -inf if there is none."""
    for name in (path, other_name(path)):
        if files.is_remote(name):
            entry = files.stat_of(name)
            if entry:
                return entry.stamp
        else:
            with suppress(OSError, ValueError):
                facts = Path(files.on_disk(name)).stat()
                return max(facts.st_mtime, facts.st_ctime)
    return -np.inf


def _with_present_sizes(listed: pa.Table) -> pa.Table:
    """The rows with the size and time that their files have now."""
    entries = list(_ask(files.stat_of, listed["path"].to_pylist()))
    values = {
        "size": [entry and entry.size for entry in entries],
        "stamp": [entry and entry.stamp for entry in entries],
    }
    for name, column in values.items():
        field = SCHEMA.field(name)
        listed = listed.set_column(listed.schema.get_field_index(name), field, pa.array(column, field.type))
    return listed


def _sizes(table: pa.Table) -> np.ndarray:
    return np.array(pc.fill_null(table["size"], -1).to_numpy())


def _stamps(table: pa.Table) -> np.ndarray:
    return _numbers(table["stamp"])


def _comparable(column: pa.ChunkedArray) -> np.ndarray:
    """A column of values as numbers, NaN where null; whole numbers and hashes of text are 0 where null."""
    if pa.types.is_floating(column.type):
        return _numbers(column)
    if pa.types.is_integer(column.type):
        return np.asarray(pc.fill_null(column, 0).to_numpy())
    texts = pc.fill_null(column, "").to_numpy().astype(object, copy=False)
    return np.where(texts == "", np.uint64(0), pd.util.hash_array(texts, categorize=False))


def _differs(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Where there is a new value, and another or none before."""
    if new.dtype.kind != "f":
        return np.asarray((new != 0) & (new != old))
    return np.asarray(np.isfinite(new) & ~(np.abs(new - old) <= ROUNDING * np.abs(old)))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(column, np.nan).to_numpy())
