"""A manifest on disk: ``manifest/part-NUMBER-CHECKSUM.parquet``, one row group per shard, and
``manifest.json``.

A row says where one spectrum is, and what a listing or a catalogue knows of it. A part that ``manifest.json``
does not list does not exist: a plan that was killed left it. A part never changes; if rows have to change,
another file replaces it. The checksum of the content is in the name, so that two plans that are made at once
never write other rows into the same file.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from survey import checked, files

VERSION = 4
SHARDS_PER_PART = 64
"""11 million rows are 175 files, and one part fits into memory."""

COLUMNS = {
    "path": (
        "string",
        "the file, absolute or s3://; `<catalogue>#row-<n>` (n counts from 1) if a catalogue names no file",
    ),
    "row": ("int64", "the row of a table of spectra; -1 = the file is one item"),
    "image": ("string", "the file of the object's image, if it has one beside the spectrum"),
    "size": ("int64", "bytes of the file, null if the listing does not know it"),
    "stamp": ("float64", "time of the file's last change in seconds, null if the listing does not know it"),
    "obsid": ("int64", "the survey's number of the observation"),
    "star": ("string", "the catalogue's name of the source"),
    "ra": ("float64", "right ascension, degrees"),
    "dec": ("float64", "declination, degrees"),
    "rv": ("float64", "radial velocity, km/s"),
    "z": ("float64", "redshift"),
}
"""The columns of a manifest: Arrow type, description. What is not known is null, never -9999."""

SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])

ADVICE = "put a copy back, or make the store again in another folder"

ITEM = -1
"""`row` of a file that is one item."""


def manifest_rows(count: int, values: Mapping[str, Any]) -> pa.Table:
    """So many rows with these values, null in the other columns. A single value is repeated in all rows."""
    columns = []
    for column in SCHEMA:
        value = values.get(column.name)
        if value is None or isinstance(value, (str, int, float)):
            columns.append(pa.repeat(pa.scalar(value, column.type), count))
        else:
            columns.append(value if isinstance(value, pa.Array) else pa.array(value, column.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@dataclass(frozen=True)
class ManifestPart:
    """One file of a manifest. `sizes` are the rows of its shards, if rows were taken out of them.

    `crc` is the checksum of the file.
    """

    file: str
    first_shard: int
    shards: int
    rows: int
    sizes: tuple[int, ...] = ()
    crc: int = 0

    @property
    def number(self) -> int:
        """The number of the part, counted from 0."""
        return int(self.file.removesuffix(".parquet").split("-")[1])


@dataclass(frozen=True)
class InputRecord:
    """One plan that added rows: its input, and how many of its rows were listed twice.

    The files are in `folder` or below, except those that a catalogue names by their absolute paths.
    """

    input: str
    rows: int
    first_shard: int
    duplicates: int
    folder: str = ""


@dataclass(frozen=True)
class Manifest:
    """A manifest without its rows: small, and the same on every worker.

    `versions` counts, for each shard, how often its rows were replaced because files changed. A shard that
    was ingested with another version is out of date.
    """

    store: str
    shard_size: int
    parts: tuple[ManifestPart, ...] = ()
    inputs: tuple[InputRecord, ...] = ()
    versions: dict[int, int] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return sum(part.shards for part in self.parts)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(part.rows for part in self.parts)

    def path(self, part: ManifestPart) -> str:
        """The path of a part."""
        return files.join(self.store, "manifest", part.file)

    def part_of(self, shard: int) -> ManifestPart:
        """The part that holds a shard."""
        if not 0 <= shard < self.shards:
            raise ValueError(
                f"manifest: {self.store}: there is no shard {shard}; there are {self.shards}, counted from 0"
            )
        return self.parts[bisect_right(self.parts, shard, key=lambda part: part.first_shard) - 1]

    @property
    def folder(self) -> str:
        """The deepest folder that holds all inputs, for names relative to it; empty = unknown."""
        folders = {record.folder for record in self.inputs}
        if "" in folders or len({files.is_remote(folder) for folder in folders}) != 1:
            return ""
        return os.path.commonpath(folders) if len(folders) > 1 else folders.pop()

    def sizes(self, part: ManifestPart) -> Sequence[int]:
        """The rows of each shard of a part: all but the last are full, unless rows were taken out."""
        last = part.rows - (part.shards - 1) * self.shard_size
        return part.sizes or [self.shard_size] * (part.shards - 1) + [last]

    def first_row(self, shard: int) -> int:
        """The number of a shard's first row, counted over all parts."""
        part = self.part_of(shard)
        before = sum(other.rows for other in self.parts if other.first_shard < part.first_shard)
        return before + sum(self.sizes(part)[: shard - part.first_shard])

    def rows_in(self, shard: int) -> int:
        """Number of rows of a shard."""
        part = self.part_of(shard)
        return self.sizes(part)[shard - part.first_shard]

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """The shard of each row."""
        sizes = [size for part in self.parts for size in self.sizes(part)]
        return np.asarray(np.searchsorted(np.cumsum([0, *sizes]), rows, side="right") - 1)

    def shard(self, shard: int) -> pa.Table:
        """The rows of a shard; nothing else is read."""
        part = self.part_of(shard)
        try:
            with files.open_file(self.path(part)) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True)
                table = file.read_row_group(shard - part.first_shard, use_threads=False)
        except (ConnectionError, PermissionError):
            raise  # the file may be sound
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"manifest: {self.path(part)}: cannot be read ({error}); "
                "make the store again in another folder"
            ) from error
        if table.num_rows != self.rows_in(shard):
            raise ValueError(
                f"manifest: {self.path(part)}: shard {shard} has {table.num_rows} rows, "
                f"but {self.rows_in(shard)} are expected; put the original file back"
            )
        return table

    def read(self, part: ManifestPart, columns: list[str] | None = None) -> pa.Table:
        """A complete part, or some of its columns. A damaged one, or one of another manifest, is an error."""
        data = files.read(self.path(part))
        if isal_zlib.crc32(data) != part.crc:
            raise ValueError(f"manifest: {self.path(part)}: damaged (its checksum differs); {ADVICE}")
        return pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)

    def write(self, part: ManifestPart, rows: pa.Table) -> ManifestPart:
        """Write these rows as a part of this number; the part with its checksum, in the name too."""
        data = to_parquet_part(rows, self.sizes(part))
        crc = isal_zlib.crc32(data)
        written = replace(part, crc=crc, file=f"part-{part.number:05d}-{crc:08x}.parquet")
        checked.write(self.path(written), data)
        return written

    def input_rows(self) -> Iterator[tuple[InputRecord, range]]:
        """Every plan with the numbers of its rows."""
        first = 0
        for record in self.inputs:
            yield record, range(first, first + record.rows)
            first += record.rows

    def save(self) -> None:
        """Write ``manifest.json``: only this step changes the manifest."""
        checked.write_json(_json_path(self.store), self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        values: dict[str, Any] = {
            "format": VERSION,
            "shard": self.shard_size,
            "rows": self.rows,
            "shards": self.shards,
        }
        values["duplicates"] = sum(record.duplicates for record in self.inputs)
        values["inputs"] = [asdict(record) for record in self.inputs]
        parts = [asdict(part) for part in self.parts]
        values["parts"] = [{key: value for key, value in part.items() if value != ()} for part in parts]
        values["versions"] = {str(shard): version for shard, version in sorted(self.versions.items())}
        return values


def _json_path(store: str) -> str:
    return files.join(store, "manifest.json")


def has_manifest(store: str) -> bool:
    """Whether a store has a manifest."""
    return files.exists(_json_path(store))


def open_manifest(store: str) -> Manifest:
    """The manifest of a store as it is now."""
    store = files.absolute(store)
    path = _json_path(store)
    if not has_manifest(store):
        raise ValueError(
            f"manifest: {store}: no manifest.json; make the store with survey ingest, or give another path"
        )
    try:
        written = files.read_json(path, ADVICE)
        if written["format"] != VERSION:
            raise ValueError(
                f"manifest: {path}: format {written['format']}, this version reads {VERSION}; "
                "make the store again in another folder"
            )
        values = checked.verify(path, written, ADVICE)
        return Manifest(
            store,
            values["shard"],
            tuple(ManifestPart(**part | {"sizes": tuple(part.get("sizes", ()))}) for part in values["parts"]),
            tuple(InputRecord(**record) for record in values["inputs"]),
            {int(shard): version for shard, version in values["versions"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"manifest: {path}: damaged ({error!r}); {ADVICE}") from error


def to_parquet_part(table: pa.Table, sizes: Sequence[int]) -> pa.Buffer:
    """A part as the bytes of a Parquet file, one row group per shard."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        first = 0
        for size in sizes:
            writer.write_table(table.slice(first, size), row_group_size=max(size, 1))
            first += size
    return sink.getvalue()


class PartWriter:
    """Writes rows as parts that follow those of a manifest. `close` gives the new parts."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._number = 1 + max((part.number for part in manifest.parts), default=-1)
        self._shard = manifest.shards
        self._waiting: list[pa.Table] = []
        self._parts: list[ManifestPart] = []

    def add(self, table: pa.Table) -> None:
        """More rows."""
        full = SHARDS_PER_PART * self._manifest.shard_size
        self._waiting.append(table)
        while sum(waiting.num_rows for waiting in self._waiting) >= full:
            rows = pa.concat_tables(self._waiting)
            self._write(rows.slice(0, full))
            self._waiting = [rows.slice(full)]

    def close(self) -> tuple[ManifestPart, ...]:
        """Write the last rows; all new parts."""
        rows = pa.concat_tables(self._waiting or [SCHEMA.empty_table()])
        if rows.num_rows:
            self._write(rows)
        return tuple(self._parts)

    def _write(self, rows: pa.Table) -> None:
        size = self._manifest.shard_size
        shards = -(-rows.num_rows // size)
        part = ManifestPart(f"part-{self._number:05d}", self._shard, shards, rows.num_rows)
        self._parts.append(self._manifest.write(part, rows))
        self._number += 1
        self._shard += part.shards


def remove_unlisted_parts(manifest: Manifest) -> None:
    """Remove the parts that the manifest does not list: those of a killed plan, and replaced ones."""
    folder, listed = files.join(manifest.store, "manifest"), {part.file for part in manifest.parts}
    for name in files.names(folder):
        if name.startswith("part-") and name not in listed:
            files.remove(files.join(folder, name))
