"""Files of a store: schema, rounding, bytes, and how a finished store is opened."""

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
from survey.spectrum import GRIDS, VISIT_COLUMNS, Grid
from survey.store.markers import shard_file
from survey.store.schema import (
    FLAG_MEANINGS,
    REFUSED_COLUMNS,
    REFUSED_SCHEMA,
    STORE_COLUMNS,
    array_column,
    spectra_schema,
)
from survey.store.settings import Bits, Ingest, Prepare
from survey.store.store import (
    STORE,
    StoreDocument,
    StoreSettings,
    open_store,
    round_mantissa,
    to_parquet,
)
from tests.finished import finish_store

GRID = Grid(4000.0, 4009.0, 1.0)
normal = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(-(2.0**100), -(2.0**-100), width=32)


@given(values=arrays.arrays(np.float32, 20, elements=normal), bits=st.integers(2, 23))
def test_rounding_is_within_half_of_the_last_kept_bit(values: np.ndarray, bits: int) -> None:
    rounded = round_mantissa(values.copy(), bits)
    assert (np.abs(rounded.astype(float) - values) <= np.abs(values) * 2.0 ** -(bits + 1)).all()
    assert (round_mantissa(rounded.copy(), bits) == rounded).all(), "rounding again changes nothing"
    if bits < 23:
        assert (rounded.view(np.uint32) % (1 << (23 - bits)) == 0).all()


@pytest.mark.parametrize("bits", [2, 7, 14, 23])
def test_the_values_of_bad_points_are_kept_exactly(bits: int) -> None:
    assert round_mantissa(np.array([0.0, 1.0, -1.0, 4.0], np.float32), bits).tolist() == [0, 1, -1, 4]


def test_the_schema_holds_the_meaning_of_columns_and_the_grid() -> None:
    schema = spectra_schema(GRID, True)
    assert set(VISIT_COLUMNS) | set(STORE_COLUMNS) | {"flux", "ivar", "continuum"} == set(schema.names)
    assert all(field.metadata[b"description"] for field in schema)
    assert json.loads(schema.metadata[b"grid"]) == {
        "start": 4000,
        "stop": 4009,
        "step": 1,
        "scale": "linear",
        "points": 10,
        "medium": "vacuum",
        "unit": "angstrom",
    }
    assert "continuum" not in spectra_schema(GRID, False).names
    assert schema.field("flux").type == pa.list_(pa.field("element", pa.float32(), nullable=False), 10)
    assert set(REFUSED_SCHEMA.names) == set(REFUSED_COLUMNS)


def test_the_description_of_flags_names_every_bit() -> None:
    description = STORE_COLUMNS["flags"][1]
    for flag, meaning in FLAG_MEANINGS.items():
        assert f"{flag.value} {str(flag.name).lower()}: {meaning}" in description


def table(rows: int, grid: Grid = GRID) -> pa.Table:
    rng = np.random.default_rng(1)
    schema = spectra_schema(grid, False)
    flux = rng.normal(1, 0.1, (rows, len(grid))).astype(np.float32)
    values = {"string": "name", "int64": 7, "int32": 3, "double": 0.5, "float": 0.25}
    columns = [
        array_column(flux)
        if field.name in ("flux", "ivar")
        else pa.array([values[str(field.type)]] * rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def test_other_libraries_read_the_parquet_file(tmp_path: Path) -> None:
    spectra = table(50)
    path = tmp_path / "part.parquet"
    path.write_bytes(memoryview(to_parquet(spectra)))
    assert pq.read_table(path).equals(spectra)
    assert pq.read_schema(path).metadata[b"grid"] == spectra.schema.metadata[b"grid"]
    frame = pd.read_parquet(path)
    assert frame.flux[3].tolist() == spectra["flux"][3].as_py()
    relation = duckdb.sql(f"select count(*), min(flux[1]) from '{path}'")
    assert relation is not None
    counted, first = relation.fetchall()[0]
    assert counted == 50
    assert first == pytest.approx(min(row[0] for row in spectra["flux"].to_pylist()))


def test_an_empty_shard_is_a_file_too() -> None:
    for empty in (spectra_schema(GRID, True).empty_table(), REFUSED_SCHEMA.empty_table()):
        assert pq.read_table(pa.BufferReader(to_parquet(empty))).schema.names == empty.schema.names


def test_fewer_bits_make_smaller_files() -> None:
    rng = np.random.default_rng(2)
    sizes = []
    for bits in (23, 14, 8):
        values = round_mantissa(rng.normal(1, 0.1, (50, 4900)).astype(np.float32), bits)
        spectra = table(50, GRIDS["cemp4900"])
        number, field = spectra.schema.get_field_index("flux"), spectra.schema.field("flux")
        sizes.append(to_parquet(spectra.set_column(number, field, array_column(values))).size)
    assert sizes == sorted(sizes, reverse=True)


def test_files_of_shards_are_named_by_kind_and_number() -> None:
    assert shard_file("/s", "spectra", 3) == "/s/spectra/part-00003.parquet"
    assert shard_file("s3://b/s/", "markers", 123456) == "s3://b/s/markers/part-123456.json"


def finish(folder: Path, spectra: list[pa.Buffer]) -> StoreDocument:
    """Write a store with these shards."""
    document = StoreDocument(
        version=STORE.version,
        id="toy",
        shards=len(spectra),
        files=9,
        rows_in=9,
        written=7,
        refused={"empty": 2},
        grid=GRID,
        fingerprint="0",
        settings=StoreSettings(shard=4, sources=("lamost",), options={}, prepare=Prepare(), bits=Bits()),
    )
    finish_store(folder, document, spectra)
    return document


def test_a_finished_store_gives_its_document_and_its_shards(tmp_path: Path) -> None:
    document = finish(tmp_path, [to_parquet(table(3)), to_parquet(table(4))])
    store = open_store(str(tmp_path))
    assert store.document.model_copy(update={"content": {}}) == document
    assert (store.id, store.grid, store.prepare, store.shards) == ("toy", GRID, Prepare(), 2)
    assert [spectra.num_rows for spectra in store.tables()] == [3, 4]
    assert store.spectra(1, ["ra", "flux"]).column_names == ["ra", "flux"]


def test_the_document_holds_all_settings_that_decide_the_result() -> None:
    settings = Ingest.from_dict("ingest", {"input": "in", "store": "out"})
    assert set(settings.plain()) == set(StoreSettings.model_fields)
    kept = StoreSettings.model_validate(settings.plain())
    assert json.loads(kept.model_dump_json()) == settings.plain()


def test_an_unfinished_store_is_not_opened(tmp_path: Path) -> None:
    message = r"no store.json in it, so no finished store; run survey ingest with store=.* to the end"
    with pytest.raises(FileNotFoundError, match=message):
        open_store(str(tmp_path))


def test_a_store_of_another_version_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / STORE.file).write_text(json.dumps({"version": 99}))
    with pytest.raises(ValueError, match="a store of version 99, this code reads version 4; make it again"):
        open_store(str(tmp_path))


def test_bits_outside_the_range_of_a_float_are_refused() -> None:
    for wrong in ({"flux": 24}, {"flux": 3}, {"ivar": 1}, {"ivar": 7.5}):
        with pytest.raises(SettingsError, match=f"bits: {next(iter(wrong))}: "):
            Bits.from_dict("bits", wrong)


def test_other_preparation_is_described_in_words_and_gates_do_not_count() -> None:
    prepare = Prepare(masks="or")
    assert prepare.differences(Prepare()) == ["masks is and, not or"]
    assert Prepare().differences(Prepare.from_dict("x", {"gates": {"low_snr": {"limit": 9.0}}})) == []
