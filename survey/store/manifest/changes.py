"""Files that changed since a manifest listed them: found by size, time or content, and put right in the manifest where asked."""

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
from survey.spectrum import Refused
from survey.store.manifest import rows
from survey.store.manifest.manifest import Manifest, Part, encoded

EXAMPLES = 20
FACTS = ("path", "size", "stamp")
Checksums = Callable[[int], pa.Table]
"""For a shard: a table path, row, crc (crc32 of the file's bytes, null where none was read) of what is in the store."""


class Changes:
    """The known rows whose file is another than the manifest says: how many, which, and what they are now."""

    def __init__(
        self, manifest: Manifest, compare: Literal["size", "time", "hash", "none"], collect: bool
    ) -> None:
        self._manifest, self._compare, self._collect = manifest, compare, collect
        self._found: list[tuple[np.ndarray, pa.Table]] = []
        self.count, self.compared = 0, 0
        self.examples: tuple[str, ...] = ()

    def look(self, listed: pa.Table, position: np.ndarray) -> None:
        """Compare listed rows with the known ones at these positions by size and time, where both are known."""
        if self._compare not in ("size", "time") or not position.size:
            return
        size, stamp = _sizes(listed), _stamps(listed)
        both = size >= 0
        if not both.any():
            return
        old_size, old_stamp = (facts[position] for facts in self._stated)
        both &= old_size >= 0
        other = size != old_size
        if self._compare == "time":
            other |= (stamp != old_stamp) & np.isfinite(stamp) & np.isfinite(old_stamp)
        self.compared += int(both.sum())
        self._note(position[both & other], listed.filter(pa.array(both & other)))

    def read_again(self, met: np.ndarray, checksums: Checksums) -> None:
        """Compare the files at the positions that a listing met by their content."""
        shards = shards_of(self._manifest, met)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            tasks = [
                pool.submit(self._differing, shard, met[shards == shard], checksums)
                for shard in np.unique(shards).tolist()
            ]
            for task in tasks:
                compared, position, listed = task.result()
                self.compared += compared
                self._note(position, listed)

    def _differing(
        self, shard: int, met: np.ndarray, checksums: Checksums
    ) -> tuple[int, np.ndarray, pa.Table]:
        first = first_position(self._manifest, shard)
        table = self._manifest.shard(shard)
        stored = checksums(shard)
        crc = {
            path: value
            for path, row, value in zip(
                *(stored[name].to_pylist() for name in ("path", "row", "crc")), strict=True
            )
            if row == rows.ITEM
        }
        paths = table["path"].to_pylist()
        items = [
            offset
            for offset in (met - first).tolist()
            if paths[offset] in crc and table["row"][offset].as_py() == rows.ITEM
        ]
        now = files.fetch([paths[offset] for offset in items])
        other = [
            offset
            for offset, data in zip(items, now, strict=True)
            if crc[paths[offset]] != (None if isinstance(data, Refused) else isal_zlib.crc32(data))
        ]
        return (
            len(items),
            np.array(other, np.int64) + first,
            _as_they_are(table.take(pa.array(other, pa.int64()))),
        )

    def _note(self, position: np.ndarray, listed: pa.Table) -> None:
        self.count += position.size
        self.examples += (
            tuple(listed["path"][: EXAMPLES - len(self.examples)].to_pylist())
            if len(self.examples) < EXAMPLES
            else ()
        )
        if self._collect and position.size:
            self._found.append((position, listed.select(list(FACTS))))

    @cached_property
    def _stated(self) -> tuple[np.ndarray, np.ndarray]:
        """Size and time of every row as the manifest says them."""
        tables = [self._manifest.read(part, ["size", "stamp"]) for part in self._manifest.parts]
        return np.concatenate([_sizes(table) for table in tables]), np.concatenate(
            [_stamps(table) for table in tables]
        )

    def put_right(self) -> tuple[Manifest, tuple[int, ...]]:
        """The manifest with the files as they are now, not saved yet, and the shards that have to be ingested again."""
        if not self._found:
            return self._manifest, ()
        position = np.concatenate([at for at, _ in self._found])
        order = np.argsort(position)
        position, listed = (
            position[order],
            pa.concat_tables([table for _, table in self._found]).take(pa.array(order)),
        )
        shards = shards_of(self._manifest, position)
        redo = tuple(np.unique(shards).tolist())
        parts = []
        for part in self._manifest.parts:
            inside = (shards >= part.first_shard) & (shards < part.first_shard + part.shards)
            at = position[inside] - first_position(self._manifest, part.first_shard)
            parts.append(self._replaced(part, at, listed.filter(pa.array(inside))) if at.size else part)
        versions = Counter(self._manifest.versions)
        versions.update(redo)
        return replace(self._manifest, parts=tuple(parts), versions=dict(versions)), redo

    def _replaced(self, part: Part, at: np.ndarray, listed: pa.Table) -> Part:
        table = self._manifest.read(part)
        mask = np.zeros(table.num_rows, bool)
        mask[at] = True
        for name in FACTS:
            column = pc.replace_with_mask(
                table[name].combine_chunks(), pa.array(mask), listed[name].combine_chunks()
            )
            table = table.set_column(table.schema.get_field_index(name), rows.SCHEMA.field(name), column)
        stem, number, *version = part.file.removesuffix(".parquet").split("-")
        new = replace(part, file=f"{stem}-{number}-{int(version[0]) + 1 if version else 1}.parquet")
        files.write(self._manifest.path(new), memoryview(encoded(table, self._manifest.shard_size)))
        return new


def shards_of(manifest: Manifest, position: np.ndarray) -> np.ndarray:
    """The shard that each position is in."""
    starts = np.cumsum([0, *(part.rows for part in manifest.parts)])
    number = np.searchsorted(starts, position, side="right") - 1
    first = np.array([part.first_shard for part in manifest.parts], np.int64)
    return np.asarray(first[number] + (position - starts[number]) // manifest.shard_size)


def first_position(manifest: Manifest, shard: int) -> int:
    """The position of a shard's first row."""
    part = manifest.part_of(shard)
    return (
        sum(other.rows for other in manifest.parts if other.first_shard < part.first_shard)
        + (shard - part.first_shard) * manifest.shard_size
    )


def _as_they_are(listed: pa.Table) -> pa.Table:
    """The rows with the size and time that their files have now."""
    facts = [files.stat_of(path) for path in listed["path"].to_pylist()]
    values = {
        "size": [fact and fact.size for fact in facts],
        "stamp": [fact and fact.stamp for fact in facts],
    }
    for name, value in values.items():
        listed = listed.set_column(
            listed.schema.get_field_index(name),
            rows.SCHEMA.field(name),
            pa.array(value, rows.SCHEMA.field(name).type),
        )
    return listed


def _sizes(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.fill_null(table["size"], -1).to_numpy())


def _stamps(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.fill_null(table["stamp"], np.nan).to_numpy())
