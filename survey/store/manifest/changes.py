"""Files that changed since a manifest listed them: found by size, time or content, and updated on request."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from survey import files
from survey.fetch import fetch
from survey.spectrum import Refused
from survey.store.manifest.manifest import ITEM, SCHEMA, Manifest, ManifestPart

MAX_EXAMPLES = 20
CHANGING_COLUMNS = ("path", "size", "stamp")
Checksums = Callable[[int], pa.Table]
"""For a shard: a table path, row, crc of what the store holds (CRC-32 of the file; null if none was read)."""


class Changes:
    """The known rows whose file differs from the manifest: how many, which, and what they are now.

    The files as they are now are kept only if they are to be read again (`reread`).
    """

    def __init__(
        self, manifest: Manifest, compare: Literal["size", "time", "hash", "none"], reread: bool
    ) -> None:
        self._manifest, self._compare, self._reread = manifest, compare, reread
        self._changed: list[tuple[np.ndarray, pa.Table]] = []
        self.count, self.compared = 0, 0
        self.examples: tuple[str, ...] = ()

    def compare_listing(self, listed: pa.Table, row: np.ndarray) -> None:
        """Compare listed rows with these manifest rows by size and time, if both are known."""
        if self._compare not in ("size", "time") or not row.size:
            return
        size, stamp = _sizes(listed), _stamps(listed)
        if not (size >= 0).any():
            return
        old_size, old_stamp = (values[row] for values in self._sizes_and_stamps)
        both_known = (size >= 0) & (old_size >= 0)
        differs = size != old_size
        if self._compare == "time":
            differs |= (stamp != old_stamp) & np.isfinite(stamp) & np.isfinite(old_stamp)
        self.compared += int(both_known.sum())
        changed = both_known & differs
        self._note(row[changed], listed.filter(pa.array(changed)))

    def compare_contents(self, rows: np.ndarray, checksums: Checksums) -> None:
        """Compare the files of these manifest rows by content."""
        shards = self._manifest.shards_of(rows)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            tasks = [
                pool.submit(self._changed_contents, shard, rows[shards == shard], checksums)
                for shard in np.unique(shards).tolist()
            ]
            for task in tasks:
                compared, row, listed = task.result()
                self.compared += compared
                self._note(row, listed)

    def _changed_contents(
        self, shard: int, rows: np.ndarray, checksums: Checksums
    ) -> tuple[int, np.ndarray, pa.Table]:
        """How many rows of a shard were compared, which of them changed, and their files as they are now."""
        first = self._manifest.first_row(shard)
        table = self._manifest.shard(shard)
        crc = {row["path"]: row["crc"] for row in checksums(shard).to_pylist() if row["row"] == ITEM}
        paths, row_numbers = table["path"].to_pylist(), table["row"].to_pylist()
        offsets = [
            offset
            for offset in (rows - first).tolist()
            if paths[offset] in crc and row_numbers[offset] == ITEM
        ]
        contents = fetch([paths[offset] for offset in offsets])
        changed = [
            offset
            for offset, data in zip(offsets, contents, strict=True)
            if crc[paths[offset]] != (None if isinstance(data, Refused) else isal_zlib.crc32(data))
        ]
        listed = _with_present_sizes(table.take(pa.array(changed, pa.int64())))
        return len(offsets), np.array(changed, np.int64) + first, listed

    def _note(self, row: np.ndarray, listed: pa.Table) -> None:
        self.count += row.size
        if len(self.examples) < MAX_EXAMPLES:
            self.examples += tuple(listed["path"][: MAX_EXAMPLES - len(self.examples)].to_pylist())
        if self._reread and row.size:
            self._changed.append((row, listed.select(list(CHANGING_COLUMNS))))

    @cached_property
    def _sizes_and_stamps(self) -> tuple[np.ndarray, np.ndarray]:
        """Size and time of every row of the manifest."""
        tables = [self._manifest.read(part, ["size", "stamp"]) for part in self._manifest.parts]
        sizes = np.concatenate([_sizes(table) for table in tables])
        return sizes, np.concatenate([_stamps(table) for table in tables])

    def updated_manifest(self) -> tuple[Manifest, tuple[int, ...]]:
        """The manifest with the files as they are now, not saved yet, and the shards to ingest again."""
        if not self._changed:
            return self._manifest, ()
        rows = np.concatenate([row for row, _ in self._changed])
        order = np.argsort(rows)
        listed = pa.concat_tables([table for _, table in self._changed]).take(pa.array(order))
        rows = rows[order]
        shards = self._manifest.shards_of(rows)
        redo = tuple(np.unique(shards).tolist())
        parts = []
        for part in self._manifest.parts:
            inside = (shards >= part.first_shard) & (shards < part.first_shard + part.shards)
            offsets = rows[inside] - self._manifest.first_row(part.first_shard)
            changed = listed.filter(pa.array(inside))
            parts.append(self._replacement(part, offsets, changed) if offsets.size else part)
        versions = Counter(self._manifest.versions)
        versions.update(redo)
        return replace(self._manifest, parts=tuple(parts), versions=dict(versions)), redo

    def _replacement(self, part: ManifestPart, offsets: np.ndarray, changed: pa.Table) -> ManifestPart:
        """A part with these rows changed, written as a new file."""
        table = self._manifest.read(part)
        mask = np.zeros(table.num_rows, bool)
        mask[offsets] = True
        for name in CHANGING_COLUMNS:
            old, new = table[name].combine_chunks(), changed[name].combine_chunks()
            column = pc.replace_with_mask(old, pa.array(mask), new)
            table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
        return self._manifest.write(part, table)


def _with_present_sizes(listed: pa.Table) -> pa.Table:
    """The rows with the size and time that their files have now."""
    entries = [files.stat_of(path) for path in listed["path"].to_pylist()]
    values = {
        "size": [entry and entry.size for entry in entries],
        "stamp": [entry and entry.stamp for entry in entries],
    }
    for name, column in values.items():
        field = SCHEMA.field(name)
        listed = listed.set_column(listed.schema.get_field_index(name), field, pa.array(column, field.type))
    return listed


def _sizes(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.fill_null(table["size"], -1).to_numpy())


def _stamps(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.fill_null(table["stamp"], np.nan).to_numpy())
