"""Files whose arrays are written without Arrow's encoding of lists are, to every reader, those of Arrow."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey.store import store, thrift, write_pages
from survey.store.schema import image_column
from survey.store.store import to_parquet
from tests.store.test_pages import equal, table


def by_arrow(made: pa.Table, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The same file with the arrays encoded by Arrow."""
    with monkeypatch.context() as patch:
        patch.setattr(write_pages, "_is_usual", lambda *_: False)
        return bytes(to_parquet(made))


def read(data: bytes, **options: Any) -> pa.Table:
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True, **options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (40, 1), (40, 2), (7, 130), (300, 4900), (2, 300_000)])
def test_arrow_reads_what_arrow_writes(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(*shape) if min(shape) > 3 else table(max(shape[0], 3), max(shape[1], 4)).slice(0, shape[0])
    assert equal(read(bytes(to_parquet(made))), read(by_arrow(made, monkeypatch)))


def test_what_a_file_says_of_its_columns_is_as_by_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(300, 4900)
    first, second = (
        pq.ParquetFile(pa.BufferReader(data))
        for data in (bytes(to_parquet(made)), by_arrow(made, monkeypatch))
    )
    assert first.schema.equals(second.schema)
    assert first.schema_arrow.equals(second.schema_arrow, check_metadata=True)
    one, other = first.metadata.row_group(0), second.metadata.row_group(0)
    for number in range(one.num_columns):
        said, expected = one.column(number).to_dict(), other.column(number).to_dict()
        sizes = {"total_compressed_size", "total_uncompressed_size"}
        places = {"data_page_offset", "dictionary_page_offset", "file_offset"}
        for name in said.keys() - sizes - places - {"encodings", "geo_statistics", "statistics"}:
            assert said[name] == expected[name], name
        assert set(said["encodings"]) == set(expected["encodings"])
        assert all(said[name] == pytest.approx(expected[name], rel=0.02, abs=64) for name in sizes)
    assert one.total_byte_size == pytest.approx(other.total_byte_size, rel=0.02)
    assert sum(one.column(number).total_uncompressed_size for number in range(4)) == one.total_byte_size


def test_columns_after_the_arrays_keep_their_values() -> None:
    made, images = table(), np.arange(40 * 12, dtype=np.uint8).reshape(40, 12)
    made = made.append_column("image", image_column(list(images), 12))
    made = made.append_column("image_path", pa.array([f"{row}.png" for row in range(40)]))
    assert read(bytes(to_parquet(made))).equals(made)
    assert read(bytes(to_parquet(made)), columns=["image"]).equals(made.select(["image"]))


def test_a_part_of_a_table_and_several_parts_are_written_as_they_are() -> None:
    made = table()
    assert read(bytes(to_parquet(made.slice(7, 11)))).equals(made.slice(7, 11))
    joined = pa.concat_tables([made.slice(0, 5), made.slice(9)])
    assert read(bytes(to_parquet(joined))).equals(joined)


def test_the_same_table_gives_the_same_bytes() -> None:
    assert bytes(to_parquet(table(300, 4900))) == bytes(to_parquet(table(300, 4900)))


def test_an_array_that_holds_a_null_or_could_is_left_to_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    made, size = table(), 300
    values = made["flux"].combine_chunks().flatten()
    could = pa.FixedSizeListArray.from_arrays(values, size)
    assert could.type.value_field.nullable
    for column in (pa.array([None, *made["flux"].to_pylist()[1:]], made["flux"].type), could):
        other = made.set_column(2, "flux", column)
        assert not write_pages._is_usual(other, "flux")
        # of the second array, which is written by pages all the same, nothing is lost
        assert read(bytes(to_parquet(other)), columns=["ivar"]).equals(made.select(["ivar"]))
    assert read(bytes(to_parquet(made.set_column(2, "flux", could))))["flux"].equals(
        pa.chunked_array([could])
    )
    assert bytes(to_parquet(made.slice(0, 0))) == by_arrow(made.slice(0, 0), monkeypatch)


def test_pages_hold_complete_lists_and_a_damaged_one_is_noticed(tmp_path: Any) -> None:
    made, path = table(300, 4900), tmp_path / "part.parquet"
    data = bytearray(to_parquet(made))
    path.write_bytes(data)
    count, total = duckdb.connect().execute(f"select count(*), sum(len(flux)) from '{path}'").fetchone() or ()
    assert (count, total) == (300, 300 * 4900)
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.total_uncompressed_size > 5 * write_pages.PAGE
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    with pytest.raises(OSError, match="CRC checksum"):
        read(bytes(data))


@given(st.binary(max_size=60), st.lists(st.integers(-(2**62), 2**62), max_size=40), st.booleans())
def test_a_structure_is_read_as_it_was_written(text: bytes, numbers: list[int], truth: bool) -> None:
    inner = {3: thrift.Value(thrift.DOUBLE, b"12345678"), 20: thrift.Value(thrift.I32, -7)}
    fields = {
        1: thrift.Value(thrift.BINARY, text),
        2: thrift.Value(thrift.LIST, (thrift.I64, numbers)),
        40: thrift.Value(thrift.TRUE if truth else thrift.FALSE, truth),
        41: thrift.Value(thrift.LIST, (thrift.STRUCT, [inner, {}])),
        400: thrift.Value(thrift.BYTE, 9),
    }
    data = thrift.struct_bytes(fields)
    assert thrift.read_struct(data, 0) == (fields, len(data))


def test_the_footer_of_a_file_is_written_as_arrow_wrote_it() -> None:
    data = bytes(store.to_parquet(table().select(["path", "row"])))
    size = int.from_bytes(data[-8:-4], "little")
    footer, end = thrift.read_struct(data, len(data) - 8 - size)
    assert end == len(data) - 8
    assert thrift.struct_bytes(footer) == data[-8 - size : -8]
