"""The arrays of a store become pages of its Parquet file without Parquet's own encoding of lists.

Arrow writes everything but the arrays. In their place it writes null lists, which take no time, and so
everything that a file says of its columns is Arrow's own. Then the values are put in: pages of complete
lists, byte planes packed by lz4, behind the two levels that Parquet keeps for each number. These say where a
list begins and what is null. In a store they are the same for every list, and take Arrow half of the time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib
from numpy.typing import NDArray

from survey.store import thrift
from survey.store.schema import flat_values
from survey.store.thrift import I32, I64, LIST, STRUCT, Struct, Value, unsigned_bytes

PAGE = 1 << 20
"""Bytes of the numbers of a page, at most, if one list is not longer."""
_TAIL = 8
"""Bytes behind the footer: its size, and the mark of the format."""
_DATA_PAGE, _RLE, _BYTE_STREAM_SPLIT = 0, 3, 9
"""Numbers of the Parquet format: a kind of page, and two encodings."""
_COLUMNS, _BYTES, _PACKED_BYTES = 1, 2, 6
"""Fields of a group of rows; of its columns, `_FACTS` are the metadata."""
_FACTS, _PATH, _OFFSETS = 3, 3, (9, 10, 11)
_GROUPS, _UNPACKED_SIZE, _SIZE = 4, 6, 7
"""The field of a footer that lists the groups of rows; bytes of a column, unpacked and in the file."""


def written(table: pa.Table, arrays: list[str], options: dict[str, Any]) -> pa.Buffer:
    """A table as a Parquet file of one group of rows; `arrays` are its columns of lists of float32.

    `options` are those of `pyarrow.parquet.write_table`, with lz4. An array that holds a null, or could hold
    one in a list, is left to Arrow.
    """
    chunks = {name: _Chunk.of(table, name) for name in arrays if _is_usual(table, name)}
    for name in chunks:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), _null_lists(table[name]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1 << 30, **options)
    data = sink.getvalue()
    return pa.py_buffer(_filled(data.to_pybytes(), chunks)) if chunks else data


def _is_usual(table: pa.Table, name: str) -> bool:
    """Whether the levels of a column are those of complete lists."""
    column, field = table[name], table.schema.field(name)
    never_null = pa.types.is_fixed_size_list(field.type) and not field.type.value_field.nullable
    return bool(len(column) and never_null and field.nullable and not column.null_count)


def _null_lists(column: pa.ChunkedArray) -> pa.Array:
    is_null = pa.array(np.ones(len(column), bool))
    return pa.FixedSizeListArray.from_arrays(flat_values(column), type=column.type, mask=is_null)


def _filled(data: bytes, chunks: dict[str, "_Chunk"]) -> bytes:
    """The bytes of a file whose columns of null lists are replaced by these chunks."""
    end = len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")
    footer, _ = thrift.read_struct(data, end)
    (group,) = footer[_GROUPS].value[1]
    parts, at = [data[:4]], 4
    for column in group[_COLUMNS].value[1]:
        facts: Struct = column[_FACTS].value
        start, size = min(facts[number].value for number in _OFFSETS if number in facts), facts[_SIZE].value
        chunk = chunks.get(facts[_PATH].value[1][0].decode())
        if chunk is None:
            parts.append(data[start : start + size])
            for number in _OFFSETS:
                if number in facts:
                    facts[number] = Value(I64, facts[number].value + at - start)
        else:
            pages, bytes_unpacked = chunk.pages()
            column[_FACTS] = Value(STRUCT, chunk.facts(facts, at, len(pages), bytes_unpacked))
            _add(group, _BYTES, bytes_unpacked - facts[_UNPACKED_SIZE].value)
            _add(group, _PACKED_BYTES, len(pages) - size)
            parts.append(pages)
        at += len(parts[-1])
    footer_bytes = thrift.struct_bytes(footer)
    return b"".join((*parts, footer_bytes, len(footer_bytes).to_bytes(4, "little"), data[-4:]))


def _add(fields: Struct, number: int, more: int) -> None:
    if number in fields:
        fields[number] = Value(I64, fields[number].value + more)


@dataclass(frozen=True)
class _Chunk:
    """The values [R, P] of a column: a list of P numbers in each of R rows."""

    values_RP: NDArray[np.float32]

    @classmethod
    def of(cls, table: pa.Table, name: str) -> "_Chunk":
        """The chunk of a column."""
        size: int = table.schema.field(name).type.list_size
        return cls(flat_values(table[name]).to_numpy().reshape(table.num_rows, size))

    def pages(self) -> tuple[bytes, int]:
        """All pages with their headers, and how many bytes they would be unpacked."""
        rows = max(PAGE // (4 * self.values_RP.shape[1]), 1)
        parts, unpacked = list[bytes](), 0
        for first in range(0, len(self.values_RP), rows):
            header, packed, size = _page(self.values_RP[first : first + rows])
            parts += header, packed
            unpacked += len(header) + size
        return b"".join(parts), unpacked

    def facts(self, facts: Struct, start: int, packed: int, unpacked: int) -> Struct:
        """The metadata of the column, from those of its null lists."""
        encodings = Value(LIST, (I32, [_BYTE_STREAM_SPLIT, _RLE]))
        sizes = (self.values_RP.size, unpacked, packed)
        numbers = {
            number: Value(I64, size) for number, size in zip((5, _UNPACKED_SIZE, _SIZE), sizes, strict=True)
        }
        return (
            {number: facts[number] for number in (1, 3, 4)}
            | {2: encodings}
            | numbers
            | {9: Value(I64, start)}
        )


def _page(values_RP: NDArray[np.float32]) -> tuple[bytes, bytes, int]:
    """The header of a page, its bytes, and how many they are unpacked."""
    from survey.store.loops.byte_planes import split_bytes  # numba takes a moment

    levels, count = _levels(*values_RP.shape), values_RP.size
    page = np.empty(len(levels) + 4 * count, np.uint8)
    page[: len(levels)] = np.frombuffer(levels, np.uint8)
    split_bytes(values_RP.reshape(-1).view(np.uint32), page[len(levels) :].reshape(4, count))
    packed: bytes = pa.compress(page, "lz4_raw", asbytes=True)
    checksum = int.from_bytes(isal_zlib.crc32(packed).to_bytes(4, "little"), "little", signed=True)
    of_page = {
        1: Value(I32, count),
        2: Value(I32, _BYTE_STREAM_SPLIT),
        3: Value(I32, _RLE),
        4: Value(I32, _RLE),
    }
    numbers = (_DATA_PAGE, len(page), len(packed), checksum)
    header = {number: Value(I32, value) for number, value in enumerate(numbers, 1)} | {
        5: Value(STRUCT, of_page)
    }
    return thrift.struct_bytes(header), packed, len(page)


def _levels(rows: int, points: int) -> bytes:
    """The levels of complete lists: 0 where a list begins and 1 inside it, then 2 for numbers that are not
    null. Each is a series of runs: twice the length, and the level."""
    inside = unsigned_bytes(points - 1 << 1) + b"\1" if points > 1 else b""
    repetition = (unsigned_bytes(1 << 1) + b"\0" + inside) * rows
    definition = unsigned_bytes(rows * points << 1) + b"\2"
    return b"".join(len(runs).to_bytes(4, "little") + runs for runs in (repetition, definition))
