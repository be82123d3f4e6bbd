"""Files of a store: schema, rounding, bytes, and opening a finished store."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from survey.settings import SettingsError
from survey.spectrum import GRIDS, VISIT, Grid
from survey.store import store as shards
from survey.store.quality import MEANINGS
from survey.store.store import (
    MEASURED,
    REFUSED,
    REFUSED_SCHEMA,
    Bits,
    array_column,
    open_store,
    packed,
    part,
    rounded,
    spectra_schema,
)

GRID = Grid(4000.0, 4009.0, 1.0)
normal = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(-(2.0**100), -(2.0**-100), width=32)


@given(values=arrays.arrays(np.float32, 20, elements=normal), bits=st.integers(2, 23))
def test_rounding_is_within_half_of_the_last_bit_that_is_kept(values: np.ndarray, bits: int) -> None:
    found = rounded(values.copy(), bits)
    assert (np.abs(found.astype(float) - values) <= np.abs(values) * 2.0 ** -(bits + 1)).all()
    assert (rounded(found.copy(), bits) == found).all(), "rounding again changes nothing"
    if bits < 23:
        assert (found.view(np.uint32) % (1 << (23 - bits)) == 0).all()


@pytest.mark.parametrize("bits", [2, 7, 14, 23])
def test_what_says_bad_is_kept_exactly(bits: int) -> None:
    assert rounded(np.array([0.0, 1.0, -1.0, 4.0], np.float32), bits).tolist() == [0, 1, -1, 4]


def test_the_schema_tells_columns_meanings_and_the_grid() -> None:
    schema = spectra_schema(GRID, True)
    assert set(VISIT) | set(MEASURED) | {"flux", "ivar", "continuum"} == set(schema.names)
    assert all(field.metadata[b"description"] for field in schema)
    about = json.loads(schema.metadata[b"grid"])
    assert (about["start"], about["stop"], about["step"], about["scale"], about["points"]) == (
        4000,
        4009,
        1,
        "linear",
        10,
    )
    assert (about["medium"], about["unit"]) == ("vacuum", "angstrom")
    assert "continuum" not in spectra_schema(GRID, False).names
    assert schema.field("flux").type == pa.list_(pa.field("element", pa.float32(), nullable=False), 10)
    assert set(REFUSED_SCHEMA.names) == set(REFUSED)


def test_the_description_of_flags_names_every_bit() -> None:
    said = MEASURED["flags"][1]
    assert all(f"{flag.value} {flag.name.lower()}: {words}" for flag, words in MEANINGS.items() if flag.name)
    assert all(words in said for words in MEANINGS.values())


def table(rows: int, grid: Grid = GRID) -> pa.Table:
    rng = np.random.default_rng(1)
    schema = spectra_schema(grid, False)
    flux = rng.normal(1, 0.1, (rows, len(grid))).astype(np.float32)
    kinds = {"string": "name", "int64": 7, "int32": 3, "double": 0.5, "float": 0.25}
    columns = [
        array_column(flux)
        if field.name in ("flux", "ivar")
        else pa.array([kinds[str(field.type)]] * rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def test_packed_bytes_are_a_parquet_file_that_others_read(tmp_path: Path) -> None:
    made = table(50)
    path = tmp_path / "part.parquet"
    path.write_bytes(memoryview(packed(made)))
    assert pq.read_table(path).equals(made)
    assert pq.read_schema(path).metadata[b"grid"] == made.schema.metadata[b"grid"]
    frame = pd.read_parquet(path)
    assert frame.flux[3].tolist() == made["flux"][3].as_py()
    counted, first = duckdb.sql(f"select count(*), min(flux[1]) from '{path}'").fetchall()[0]
    assert counted == 50
    assert first == pytest.approx(min(row[0] for row in made["flux"].to_pylist()))


def test_an_empty_shard_is_a_file_too() -> None:
    for empty in (spectra_schema(GRID, True).empty_table(), REFUSED_SCHEMA.empty_table()):
        assert pq.read_table(pa.BufferReader(packed(empty))).schema.names == empty.schema.names


def test_fewer_bits_make_smaller_files() -> None:
    rng = np.random.default_rng(2)
    sizes = []
    for bits in (23, 14, 8):
        values = rounded(rng.normal(1, 0.1, (50, 4900)).astype(np.float32), bits)
        made = table(50, GRIDS["cemp4900"])
        sizes.append(
            packed(
                made.set_column(
                    made.schema.get_field_index("flux"), made.schema.field("flux"), array_column(values)
                )
            ).size
        )
    assert sizes == sorted(sizes, reverse=True)


def test_parts_are_named_by_kind_and_number() -> None:
    assert part("/s", "spectra", 3) == "/s/spectra/part-00003.parquet"
    assert part("s3://b/s/", "markers", 123456) == "s3://b/s/markers/part-123456.json"


def test_a_finished_store_gives_its_shards(tmp_path: Path) -> None:
    (tmp_path / "spectra").mkdir()
    for shard in range(2):
        Path(part(str(tmp_path), "spectra", shard)).write_bytes(memoryview(packed(table(3 + shard))))
    (tmp_path / shards.STORE).write_text(json.dumps({"version": shards.VERSION, "shards": 2}))
    store = open_store(str(tmp_path))
    assert store.shards == 2
    assert [found.num_rows for found in store.tables()] == [3, 4]
    assert store.spectra(1, ["ra", "flux"]).column_names == ["ra", "flux"]


def test_an_unfinished_store_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"no store.json in it, so no finished store; run jobs/ingest.py with store=.* to the end",
    ):
        open_store(str(tmp_path))


def test_a_store_of_another_version_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / shards.STORE).write_text(json.dumps({"version": 99}))
    with pytest.raises(
        ValueError, match=f"the store is of version 99, this code reads {shards.VERSION}; ingest it anew"
    ):
        open_store(str(tmp_path))


def test_bits_beyond_what_a_float_has_are_refused() -> None:
    for wrong in ({"flux": 24}, {"flux": 3}, {"ivar": 1}, {"ivar": 7.5}):
        with pytest.raises(SettingsError, match=f"bits: {next(iter(wrong))}: "):
            Bits.checked("bits", wrong)
