"""The columns of a store from the bytes of its Parquet file; the arrays without Parquet's own decoding.

Parquet keeps two small numbers for each number of a list, its levels, which say where a list begins and what
is null. Decoding them takes most of the time of reading a list, and in a store they hold no information: all
lists have one length and nothing is null. So the values are taken from the pages directly. They are the same
bit by bit. A file that is written in another way is left to Arrow.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey.store.schema import ARRAY_COLUMNS, array_column
from survey.store.thrift import Struct, read_struct

ALIGNMENT = 64
"""Bytes. The start of an array decides how vector units read it, and the last bit of a matrix product."""
CODECS = {"LZ4": "lz4_raw", "SNAPPY": "snappy", "ZSTD": "zstd", "UNCOMPRESSED": ""}
LOOP = "survey.store.loops.byte_planes"
MANY = 1 << 30
"""Numbers, of about 100,000 spectra, from which on it pays to load the compiled loop, which takes a second or
two. It joins them five times as fast as numpy."""
DATA_PAGE = 0
PLAIN, BYTE_STREAM_SPLIT = 0, 9
"""Numbers of the Parquet format: a kind of page, and two encodings."""


class OtherLayoutError(ValueError):
    """The values cannot be taken from the pages."""


def parse_spectra(
    data: bytes, path: str, columns: Sequence[str] | None = None, some_may_be_missing: bool = False
) -> pa.Table:
    """The table in the bytes of a store's file, or some of its columns.

    The checksum of the whole file must have been checked; those of its pages are not checked again.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        names = schema.names if columns is None else list(columns)
        if some_may_be_missing:
            names = [name for name in names if name in schema.names]
        fields = [schema.field(name) for name in names]
        arrays = dict(_arrays(data, file, [name for name in names if name in ARRAY_COLUMNS]))
        others = file.read([name for name in names if name not in arrays], use_threads=False)
        values = [arrays[name] if name in arrays else others[name] for name in names]
        return pa.table(values, schema=pa.schema(fields, metadata=schema.metadata))
    except (pa.ArrowException, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); put a copy back, or run its job again") from error


def _arrays(data: bytes, file: pq.ParquetFile, names: list[str]) -> Iterator[tuple[str, pa.Array]]:
    """The columns of arrays whose values can be taken from their pages."""
    if file.metadata.num_row_groups != 1 or not file.metadata.num_rows:
        return
    group = file.metadata.row_group(0)
    places = {group.column(number).path_in_schema: number for number in range(group.num_columns)}
    for name in names:
        number, kind = places.get(f"{name}.list.element"), file.schema_arrow.field(name).type
        if number is None or not pa.types.is_fixed_size_list(kind):
            continue
        try:
            levels = file.schema.column(number)
            chunk = _Chunk(data, group.column(number), bool(levels.max_definition_level))
            values = chunk.values(group.num_rows * kind.list_size)
        except (ValueError, TypeError, LookupError, OverflowError, MemoryError, pa.ArrowException, OSError):
            continue  # Arrow says what is wrong with it, if anything
        yield name, array_column(values.reshape(group.num_rows, kind.list_size))


@dataclass(frozen=True)
class _Chunk:
    """The pages of a column of lists of float32."""

    data: bytes
    column: Any
    may_be_null: bool

    def values(self, count: int) -> NDArray[np.float32]:
        """The values of all pages, which must be `count`: else some are null."""
        column = self.column
        if column.physical_type != "FLOAT" or column.has_dictionary_page or column.compression not in CODECS:
            raise OtherLayoutError
        values, start, at = aligned_array(count), 0, column.data_page_offset
        end = at + column.total_compressed_size
        while at < end:
            header, at = read_struct(self.data, at)
            size = int(header[3].value)
            start += self._page(header, memoryview(self.data)[at : at + size], values[start:])
            at += size
        if start != count:
            raise OtherLayoutError
        return values

    def _page(self, header: Struct, packed: memoryview, values: NDArray[np.float32]) -> int:
        """Puts the values of a page into an array, and returns their number."""
        kind, unpacked, size = (header[number].value for number in (1, 2, 3))
        if kind != DATA_PAGE or size < 0:
            raise OtherLayoutError
        codec, encoding = CODECS[self.column.compression], header[5].value[2].value
        page = np.frombuffer(pa.decompress(packed, unpacked, codec) if codec else packed, np.uint8)
        for _ in range(1 + self.may_be_null):  # the levels: their size in four bytes, then themselves
            page = page[4 + int.from_bytes(page[:4].tobytes(), "little") :]
        count = len(page) // 4
        if len(page) % 4 or count > len(values) or encoding not in (PLAIN, BYTE_STREAM_SPLIT):
            raise OtherLayoutError
        if encoding == PLAIN:
            values[:count].view(np.uint8)[:] = page
        else:
            _join(page.reshape(4, count), values[:count].view(np.uint32))
        return count


_joined = 0
"""Numbers that this process has joined."""


def _join(bytes_4N: NDArray[np.uint8], words_N: NDArray[np.uint32]) -> None:
    """Joins the four bytes of each number, the lowest first: by a compiled loop where there is much to do."""
    global _joined
    _joined += len(words_N)
    if _joined > MANY or LOOP in sys.modules:
        from survey.store.loops.byte_planes import join_bytes

        join_bytes(bytes_4N, words_N)
        return
    np.copyto(words_N, bytes_4N[3])
    for byte_N in bytes_4N[2::-1]:
        words_N <<= 8
        words_N |= byte_N


def aligned_array(count: int) -> NDArray[np.float32]:
    """Room for so many numbers, aligned for vector units."""
    room = np.empty(4 * count + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + 4 * count].view(np.float32)
