"""A manifest on disk: ``manifest/part-NNNNN.parquet``, one row group per shard, and ``manifest.json``, which is replaced last.

A part that ``manifest.json`` does not list does not exist: a plan that was killed is made again and writes over it. A part is never changed;
where rows have to change, another file takes its place.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.store.manifest import rows
from survey.tables import read as streams

FORMAT = 1
SHARDS = 64
"""Shards per part: large enough that 11 million rows are 175 files, small enough to hold one."""


@dataclass(frozen=True)
class Part:
    """One file of a manifest."""

    file: str
    first_shard: int
    shards: int
    rows: int


@dataclass(frozen=True)
class Listed:
    """One plan that added rows: from what, when, and how many of its rows were listed twice."""

    input: str
    rows: int
    first_shard: int
    duplicates: int
    when: str


@dataclass(frozen=True)
class Manifest:
    """A manifest without its rows: small, and the same on every worker.

    `versions` counts for a shard how often its rows were replaced because files changed; a shard ingested under another version is out of date.
    """

    store: str
    shard_size: int
    parts: tuple[Part, ...] = ()
    inputs: tuple[Listed, ...] = ()
    versions: dict[int, int] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return sum(part.shards for part in self.parts)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.rows for part in self.parts)

    def path(self, part: Part) -> str:
        """Where a part lies."""
        return files.join(self.store, "manifest", part.file)

    def part_of(self, shard: int) -> Part:
        """The part that holds a shard."""
        if not 0 <= shard < self.shards:
            raise ValueError(
                f"manifest: {self.store}: there is no shard {shard}; there are {self.shards}, counted from 0"
            )
        return self.parts[bisect_right(self.parts, shard, key=lambda part: part.first_shard) - 1]

    def rows_in(self, shard: int) -> int:
        """How many rows a shard has; only the last one of a plan may have less than `shard_size`."""
        part = self.part_of(shard)
        return min(self.shard_size, part.rows - (shard - part.first_shard) * self.shard_size)

    def shard(self, shard: int) -> pa.Table:
        """The rows of a shard; nothing else is read."""
        part = self.part_of(shard)
        try:
            with streams.opened(self.path(part)) as stream:
                table = pq.ParquetFile(stream).read_row_group(shard - part.first_shard, use_threads=False)
        except (ConnectionError, PermissionError):
            raise  # the file may be sound
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"manifest: {self.path(part)}: cannot be read ({error}); plan the store anew in another folder"
            ) from error
        if table.num_rows != self.rows_in(shard):
            raise ValueError(
                f"manifest: {self.path(part)}: shard {shard} has {table.num_rows} rows, not {self.rows_in(shard)}; the file was replaced"
            )
        return table

    def read(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        """These columns of a whole part."""
        return pq.read_table(pa.BufferReader(files.read(self.path(part))), columns=columns, use_threads=False)

    def stretches(self) -> Iterator[tuple[Listed, range]]:
        """Every plan with the positions of its rows."""
        first = 0
        for listed in self.inputs:
            yield listed, range(first, first + listed.rows)
            first += listed.rows

    def save(self) -> None:
        """Make this the manifest: the one step that counts."""
        files.write(_json(self.store), self.text().encode())

    def text(self) -> str:
        """What ``manifest.json`` says."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "shard": self.shard_size,
            "rows": self.rows,
            "shards": self.shards,
        }
        values["duplicates"] = sum(listed.duplicates for listed in self.inputs)
        values["inputs"] = [asdict(listed) for listed in self.inputs]
        values["parts"] = [asdict(part) for part in self.parts]
        values["versions"] = {str(shard): version for shard, version in sorted(self.versions.items())}
        return json.dumps(values, indent=1) + "\n"


def _json(store: str) -> str:
    return files.join(store, "manifest.json")


def begun(store: str) -> bool:
    """Whether a store has a manifest."""
    return files.exists(_json(store))


def open_manifest(store: str) -> Manifest:
    """The manifest of a store as it is now."""
    store = streams.absolute(store)
    if not begun(store):
        raise ValueError(
            f"manifest: {store}: no manifest.json; make the store with jobs/ingest.py, or give the path of one that is made"
        )
    try:
        values = json.loads(files.read(_json(store)))
        if values["format"] != FORMAT:
            raise ValueError(
                f"manifest: {_json(store)}: format {values['format']}, this version reads {FORMAT}; make the store anew"
            )
        parts = tuple(Part(**part) for part in values["parts"])
        inputs = tuple(Listed(**listed) for listed in values["inputs"])
        return Manifest(
            store,
            values["shard"],
            parts,
            inputs,
            {int(shard): version for shard, version in values["versions"].items()},
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"manifest: {_json(store)}: damaged ({error!r}); put a copy back or make the store anew"
        ) from error


def shard_rows(store: str, shard: int) -> pa.Table:
    """The manifest rows of one shard."""
    return open_manifest(store).shard(shard)


def encoded(table: pa.Table, shard_size: int) -> pa.Buffer:
    """A part as Parquet, one row group per shard."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=shard_size,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=False,
    )
    return sink.getvalue()


class Writer:
    """Writes rows as the parts that follow those of a manifest; `close` gives the new parts."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._number = 1 + max(
            (int(part.file.removesuffix(".parquet").split("-")[1]) for part in manifest.parts), default=-1
        )
        self._shard = manifest.shards
        self._waiting: list[pa.Table] = []
        self._parts: list[Part] = []

    def add(self, table: pa.Table) -> None:
        """More rows."""
        full = SHARDS * self._manifest.shard_size
        self._waiting.append(table)
        while sum(waiting.num_rows for waiting in self._waiting) >= full:
            together = pa.concat_tables(self._waiting)
            self._write(together.slice(0, full))
            self._waiting = [together.slice(full)]

    def close(self) -> tuple[Part, ...]:
        """The parts, the last rows among them."""
        last = pa.concat_tables(self._waiting or [rows.SCHEMA.empty_table()])
        if last.num_rows:
            self._write(last)
        return tuple(self._parts)

    def _write(self, table: pa.Table) -> None:
        size = self._manifest.shard_size
        part = Part(
            f"part-{self._number:05d}.parquet", self._shard, -(-table.num_rows // size), table.num_rows
        )
        files.write(self._manifest.path(part), memoryview(encoded(table, size)))
        self._parts.append(part)
        self._number += 1
        self._shard += part.shards


def clear(manifest: Manifest, kept: Iterable[Part]) -> None:
    """Remove the parts that are not kept: those of a killed plan, and those that others took the place of."""
    folder, listed = files.join(manifest.store, "manifest"), {part.file for part in kept}
    for name in files.names(folder):
        if name.startswith("part-") and name not in listed:
            files.remove(files.join(folder, name))
