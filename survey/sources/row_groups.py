"""Rows of a row group of a Parquet file. A large one is decoded a few rows at a time.

pandas writes row groups of a million rows: 20 GB of spectra. Parquet has no way to a row but through those
before it. So a large row group stays open at the last row that was read, and the next shard of this process
goes on from there. Small row groups are read at once.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.messages import counted

LARGE = 64 << 20
"""Bytes of a row group that is read at once."""
SLOW = 256 << 20
"""Bytes of a row group that a user should hear of."""
ROWS = 32
"""Rows of a large row group that are decoded at a time."""
BUFFER = 1 << 20
"""Bytes of a column that are read at a time."""
REMOTE_BUFFER = 8 << 20
"""The same in a bucket, where each read is a request."""

Piece = tuple[list[int], int, pa.Table]
"""Some of the rows that are wanted, and a table that holds them, with the number of its first row."""

_open: list["_Decoder"] = []
"""The large row group that this process read last."""


def pieces(
    parquet: pq.ParquetFile, file: Any, path: str, group: int, columns: list[str], numbers: list[int]
) -> Iterator[Piece]:
    """These rows of a row group, in rising order; `file` is what `parquet` reads from."""
    if _size(parquet.metadata, group, columns) <= LARGE:
        yield numbers, 0, parquet.read_row_group(group, columns=columns, use_threads=False)
        return
    decoder = _decoder(parquet, file, path, group, columns, numbers[0])
    while numbers:
        decoder.go_to(numbers[0])
        inside = bisect_left(numbers, decoder.stop)
        if decoder.key and inside == len(numbers):
            _open[:] = [decoder]  # before the last piece, after which no one may ask again
        yield numbers[:inside], decoder.first, decoder.table
        numbers = numbers[inside:]


def large_row_groups(path: str) -> str:
    """A sentence about a Parquet file whose row groups are very large; empty for another file."""
    if not path.lower().endswith(".parquet"):
        return ""
    try:
        with files.open_file(path) as file:
            facts = pq.ParquetFile(file).metadata
    except pa.ArrowException as error:
        raise ValueError(f"{path}: no readable Parquet ({error}); write it again") from error
    sizes = [_size(facts, group, None) for group in range(facts.num_row_groups)]
    if max(sizes, default=0) < SLOW:
        return ""
    return (
        f"{path}: row groups of {max(sizes) / 1e9:.1f} GB are slow with many workers, because each decodes "
        "all rows before its own; write the table again with row_group_size=1000"
    )


class _Decoder:
    """A row group that is decoded from its first row on. `table` holds the rows from `first` to `stop`."""

    def __init__(self, parquet: pq.ParquetFile, group: int, columns: list[str], key: tuple[Any, ...]) -> None:
        self.key, self.first, self.stop = key, 0, 0
        self.table = pa.table({})
        self._batches = parquet.iter_batches(
            batch_size=ROWS, row_groups=[group], columns=columns, use_threads=False
        )

    def go_to(self, number: int) -> None:
        """Decode until the table holds this row."""
        while self.stop <= number:
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(f"it ends after {counted(self.stop, 'row')}")
            self.table = pa.Table.from_batches([batch])
            self.first, self.stop = self.stop, self.stop + batch.num_rows


def _decoder(
    parquet: pq.ParquetFile, file: Any, path: str, group: int, columns: list[str], number: int
) -> _Decoder:
    """A decoder of a row group that is not beyond a row: the open one, or a new one."""
    key: tuple[Any, ...] = ()
    buffer = REMOTE_BUFFER
    if not files.is_remote(path):
        place = files.on_disk(path)
        facts, buffer = Path(place).stat(), BUFFER
        key = (path, facts.st_ino, facts.st_size, facts.st_mtime_ns, group, *columns)
        with suppress(IndexError):  # another thread may take it first
            kept = _open.pop()
            if kept.key == key and kept.first <= number:
                return kept
        file = pa.OSFile(place.encode(errors="surrogateescape"))
    parquet = pq.ParquetFile(file, metadata=parquet.metadata, buffer_size=buffer, pre_buffer=False)
    return _Decoder(parquet, group, columns, key)


def _size(facts: pq.FileMetaData, group: int, columns: list[str] | None) -> int:
    """The bytes that columns of a row group take in memory; None = all columns."""
    rows = facts.row_group(group)
    size = 0
    for number in range(rows.num_columns):
        column = rows.column(number)
        if columns is None or column.path_in_schema.partition(".")[0] in columns:
            width = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}.get(column.physical_type, 1)
            size += max(column.num_values * width, column.total_uncompressed_size)
    return size
