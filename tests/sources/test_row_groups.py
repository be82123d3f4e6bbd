"""Large row groups of a Parquet file are read piece by piece: the same rows as pyarrow reads at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.reports.ingest import summary
from survey.sources import arrays, reading, row_groups
from survey.spectrum import Refused, Spectrum
from survey.store.ingest import ingest
from survey.store.settings import Ingest

COUNT, PIXELS = 300, 50
NULL = arrays.Options()


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every row group is large, and none is open."""
    monkeypatch.setattr(row_groups, "LARGE", 0)
    monkeypatch.setattr(row_groups, "_open", [])
    yield
    monkeypatch.undo()


def table(path: Path, seed: int = 1, rows: int = COUNT, group: int = COUNT) -> str:
    random = np.random.default_rng(seed)
    columns = {
        "flux": list(random.normal(1, 0.1, (rows, PIXELS)).astype("f4")),
        "ivar": list(random.uniform(1, 2, (rows, PIXELS)).astype("f4")),
        "wave": list(np.tile(np.linspace(4000, 5000, PIXELS), (rows, 1))),
        "obsid": np.arange(1, rows + 1),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return str(path)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first row of every batch that is decoded."""
    first: list[int] = []
    advance = row_groups._Decoder.go_to

    def note(decoder: row_groups._Decoder, number: int) -> None:
        before = decoder.stop
        advance(decoder, number)
        first.extend(range(before, decoder.stop, row_groups.ROWS))

    monkeypatch.setattr(row_groups._Decoder, "go_to", note)
    return first


def check(path: str, rows: list[int]) -> None:
    """These rows are those that pyarrow reads."""
    truth = pq.read_table(path)
    for row, spectrum in zip(rows, arrays.read_rows(path, rows, NULL), strict=True):
        assert isinstance(spectrum, Spectrum)
        np.testing.assert_array_equal(spectrum.flux, truth["flux"][row].values.to_numpy())
        np.testing.assert_array_equal(spectrum.ivar, truth["ivar"][row].values.to_numpy())
        assert spectrum.visit["obsid"] == row + 1


@pytest.mark.parametrize("group", [300, 70])
def test_rows_of_large_row_groups_are_those_that_pyarrow_reads(tmp_path: Path, group: int) -> None:
    path = table(tmp_path / "t.parquet", group=group)
    for rows in ([0, 1, 299], list(range(60, 150)), [299, 5, 5, 64, 63], list(range(COUNT))):
        check(path, rows)


def test_the_next_shard_goes_on_where_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = table(tmp_path / "t.parquet"), decoded(monkeypatch)
    for start in range(0, COUNT, 100):
        check(path, list(range(start, start + 100)))
    assert first == list(range(0, COUNT, row_groups.ROWS))
    check(path, [3])
    assert first[-1] == 0


def test_a_file_that_was_written_anew_is_not_read_from_the_open_one(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet")
    check(path, list(range(100)))
    table(tmp_path / "t.parquet", seed=2)
    check(path, list(range(100, 200)))


def test_spectra_before_a_damaged_place_are_kept(tmp_path: Path) -> None:
    path = Path(table(tmp_path / "t.parquet", group=100))
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    found = reading.table_rows(str(path), list(range(COUNT)), {"arrays": NULL})
    good = [next(found) for _ in range(100)]
    assert not [spectrum for spectrum in good if isinstance(spectrum, Refused)]
    with pytest.raises(ValueError, match="row group 1 is damaged"):
        next(found)


def test_spectra_come_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = table(tmp_path / "t.parquet"), decoded(monkeypatch)
    found = reading.table_rows(path, list(range(COUNT)), {"arrays": NULL})
    next(found)
    assert first == [0]


def test_very_large_row_groups_are_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "t.parquet")
    assert row_groups.large_row_groups(path) == ""
    monkeypatch.setattr(row_groups, "SLOW", 1000)
    assert row_groups.large_row_groups(path).endswith("write the table again with row_group_size=1000")
    assert row_groups.large_row_groups(str(tmp_path / "X.npy")) == ""


def test_the_summary_of_an_ingest_names_a_table_that_is_slow_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "t.parquet", rows=10)
    prepare = {"grid": {"start": 4100.0, "stop": 4900.0, "step": 10.0}}
    values = {"input": path, "store": str(tmp_path / "s"), "prepare": prepare, "refuse_above": 1.0}
    monkeypatch.setattr(row_groups, "SLOW", 1000)
    result = ingest(Ingest.from_dict("ingest", values))
    assert f"slow       {path}: row groups of" in summary(result)
