"""The arrays of a store, read from the pages of its Parquet files, are those that Arrow reads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from survey.predict.inputs import to_spectra
from survey.store import pages
from survey.store.loops.byte_planes import split_bytes
from survey.store.pages import ALIGNMENT, parse_spectra
from survey.store.schema import array_column
from survey.store.store import round_mantissa, to_parquet

ROWS, POINTS = 40, 300


def table(rows: int = ROWS, points: int = POINTS, bits: tuple[int, int] = (14, 7)) -> pa.Table:
    """A small table of a store, with numbers as a survey has them and some unusual ones."""
    generator = np.random.default_rng(5)
    flux = generator.normal(1, 0.1, (rows, points)).astype(np.float32)
    ivar = np.exp(generator.normal(4, 3, (rows, points))).astype(np.float32)
    flux[:1, :4] = -0.0, -1e30, 1e-40, 3.4e38
    ivar[1:3] = 0
    arrays = (array_column(round_mantissa(*pair)) for pair in zip((flux, ivar), bits, strict=True))
    columns = [pa.array([f"file-{row}" for row in range(rows)]), pa.array(np.arange(rows)), *arrays]
    made = pa.table(columns, names=["path", "row", "flux", "ivar"])
    return made.replace_schema_metadata({"grid": "{}"})


def written(made: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(made, sink, **options)
    return bytes(sink.getvalue())


def equal(first: pa.Table, second: pa.Table) -> bool:
    """Whether two tables are the same, bit by bit."""
    same = first.schema.equals(second.schema, check_metadata=True) and first.equals(second)
    bits = (
        [
            one[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).tobytes()
            for one in (first, second)
        ]
        for name in ("flux", "ivar")
    )
    return same and all(one == other for one, other in bits)


BYTES = dict.fromkeys(("flux.list.element", "ivar.list.element"), "BYTE_STREAM_SPLIT")
WAYS: dict[str, dict[str, Any]] = {
    "one_page": {"column_encoding": BYTES, "use_dictionary": ["path"], "compression": "lz4"},
    "many_pages": {
        "column_encoding": BYTES,
        "use_dictionary": ["path"],
        "compression": "lz4",
        "data_page_size": 2000,
        "write_batch_size": 256,
        "write_page_checksum": True,
    },
    "plain": {
        "use_dictionary": False,
        "compression": "none",
        "data_page_size": 2000,
        "write_batch_size": 256,
    },
    "zstd": {"use_dictionary": False, "compression": "zstd"},
    "statistics_and_dictionary": {},
    "pages_of_version_2": {"column_encoding": BYTES, "use_dictionary": ["path"], "data_page_version": "2.0"},
    "several_groups_of_rows": {"column_encoding": BYTES, "use_dictionary": ["path"], "row_group_size": 7},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_the_same_however_its_file_was_written(way: str) -> None:
    made = table()
    assert equal(parse_spectra(written(made, **WAYS[way]), "x"), made)


@pytest.mark.parametrize("bits", [(23, 23), (14, 7), (7, 14), (4, 2)])
def test_every_number_of_kept_bits_is_read_exactly(bits: tuple[int, int]) -> None:
    made = table(bits=bits)
    assert equal(parse_spectra(bytes(to_parquet(made)), "x"), made)


def test_arrow_is_not_asked_for_the_arrays_of_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read = list[str](), pq.ParquetFile.read

    def recorded(self: pq.ParquetFile, columns: list[str], **options: Any) -> pa.Table:
        asked.extend(columns)
        return read(self, columns, **options)

    data = bytes(to_parquet(table()))
    monkeypatch.setattr(pq.ParquetFile, "read", recorded)
    parse_spectra(data, "x")
    assert asked == ["path", "row"]


def test_lists_that_are_null_are_left_to_arrow_which_refuses_them() -> None:
    made = table()
    nulls = pa.array([None, *made["flux"].to_pylist()[1:]], made["flux"].type)
    made = made.set_column(2, made.schema.field("flux"), nulls)
    with pytest.raises(ValueError, match="Expected all lists to be of size=300"):
        parse_spectra(bytes(to_parquet(made)), "x")


def test_a_table_without_rows_and_one_of_few_columns_are_read() -> None:
    made = table()
    assert parse_spectra(bytes(to_parquet(made.slice(0, 0))), "x").equals(made.slice(0, 0))
    assert parse_spectra(bytes(to_parquet(made)), "x", ["ivar", "row"]).equals(made.select(["ivar", "row"]))
    some = parse_spectra(bytes(to_parquet(made)), "x", ["row", "unknown"], some_may_be_missing=True)
    assert some.column_names == ["row"]


def test_tensors_share_the_memory_of_the_table_and_are_aligned() -> None:
    read = parse_spectra(bytes(to_parquet(table())), "x")
    flux = to_spectra(read, "x", ()).flux
    assert flux.data_ptr() % ALIGNMENT == 0
    assert flux.data_ptr() == read["flux"].chunk(0).flatten().buffers()[1].address


def test_duckdb_and_pandas_read_the_arrays_of_a_store_as_numbers(tmp_path: Any) -> None:
    made, path = table(), tmp_path / "part.parquet"
    path.write_bytes(to_parquet(made))
    expected = np.asarray(made["flux"].to_pylist(), np.float32)
    by_duckdb = duckdb.connect().execute(f"select flux from '{path}' order by row").fetchall()
    assert np.array_equal(np.array([row[0] for row in by_duckdb], np.float32), expected)
    assert np.array_equal(np.stack(pq.read_table(path).to_pandas()["flux"].to_list()), expected)


def test_a_missing_column_and_a_file_cut_short_are_errors_that_name_the_file() -> None:
    data = bytes(to_parquet(table()))
    with pytest.raises(ValueError, match=r"^some/part\.parquet: damaged"):
        parse_spectra(data, "some/part.parquet", ["flux", "unknown"])
    with pytest.raises(ValueError, match=r"^some/part\.parquet: damaged"):
        parse_spectra(data[: len(data) // 2], "some/part.parquet")


DATA = bytes(to_parquet(table(8, 40)))
FOOTER = len(DATA) - 8 - int.from_bytes(DATA[-8:-4], "little")
"""Where the footer begins. Arrow ends the process at a few wrong bytes of it, which no reader can catch: the
checksum of a file is compared before it is read.
"""


@example(279, 128)  # a number in a header where more fields belong
@given(st.integers(0, FOOTER - 1), st.integers(1, 255))
def test_a_damaged_byte_ends_in_a_table_or_an_error_that_names_the_file(place: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= change
    message = ""
    try:
        parse_spectra(bytes(damaged), "some/part.parquet", ["flux", "ivar"])
    except ValueError as error:
        message = str(error)
    assert not message or message.startswith("some/part.parquet: damaged")


@pytest.mark.parametrize("many", [False, True])
@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), zeros=st.integers(0, 31))
def test_joined_bytes_are_the_words_that_were_split(many: bool, words: list[int], zeros: int) -> None:
    words_N = np.array(words, np.uint32) >> zeros << zeros
    bytes_4N = np.ascontiguousarray(words_N.view(np.uint8).reshape(-1, 4).T)
    joined_N = np.empty_like(words_N)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MANY", 0 if many else 1 << 60)
        patch.setattr(pages, "LOOP", "")
        pages._join(bytes_4N, joined_N)
    assert np.array_equal(joined_N, words_N)


def test_a_small_store_is_read_without_the_compiled_loop(tmp_path: Path) -> None:
    """Loading it takes longer than reading all of a small store."""
    (tmp_path / "part.parquet").write_bytes(to_parquet(table()))
    code = (
        "import sys\n"
        "from survey.store.pages import parse_spectra\n"
        "parse_spectra(open(sys.argv[1], 'rb').read(), 'x')\n"
        "print('numba' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "part.parquet")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_split_bytes_are_those_of_the_words(words: list[int]) -> None:
    words_N = np.array(words, np.uint32)
    bytes_4N = np.empty((4, len(words)), np.uint8)
    split_bytes(words_N, bytes_4N)
    assert np.array_equal(bytes_4N, words_N.view(np.uint8).reshape(-1, 4).T)
