"""What a later ingest finds changed: labels beside arrays, values of catalogues, and files they name."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import files
from survey.reports.ingest import summary
from survey.store.ingest import IngestResult, ingest
from survey.store.manifest import open_manifest
from survey.store.settings import Ingest
from tests import survey_files

GRID = {"start": 4500.0, "stop": 8000.0, "step": 10.0, "scale": "linear"}


def run(folder: Path, source: Path, **more: Any) -> IngestResult:
    values = {"input": str(source), "store": str(folder / "store"), "shard": 4, "refuse_above": 1.0}
    return ingest(Ingest.from_dict("ingest", values | {"prepare": {"grid": GRID}} | more))


def found(folder: Path) -> pd.DataFrame:
    """Path, row and velocity of every spectrum of the store, each of which is there once."""
    paths = sorted((folder / "store" / "spectra").glob("*.parquet"))
    tables = [pq.read_table(path, columns=["path", "row", "velocity", "crc", "ra"]) for path in paths]
    frame: pd.DataFrame = pa.concat_tables(table.replace_schema_metadata() for table in tables).to_pandas()
    assert not frame.duplicated(["path", "row"]).any()
    manifest = open_manifest(str(folder / "store"))
    listed = pd.concat([manifest.shard(shard).to_pandas() for shard in range(manifest.shards)])
    assert set(zip(listed["path"], listed["row"], strict=True)) >= set(
        zip(frame["path"], frame["row"], strict=True)
    )
    assert len(frame) == 10 == len(listed)
    return frame


def arrays(folder: Path, velocities: list[float]) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "X.npy").exists():
        flux = np.random.default_rng(1).normal(1, 0.02, (10, 4900)).astype("f4")
        np.save(folder / "X.npy", flux)
    pd.DataFrame({"obsid": range(1, 11), "rv": velocities}).to_csv(folder / "y.csv", index=False)
    return folder


@pytest.mark.parametrize("compare", ["size", "time", "hash"])
def test_corrected_labels_beside_an_array_are_a_change_of_it(tmp_path: Path, compare: str) -> None:
    source = arrays(tmp_path / "in", [50.0] * 10)
    run(tmp_path, source)
    assert run(tmp_path, source, compare=compare).plan.changed == 0
    arrays(tmp_path / "in", [50.0] * 9 + [-120.0])
    reported = run(tmp_path, source, compare=compare)
    assert (reported.plan.changed, reported.plan.compared, reported.created) == (10, 10, 0)
    again = run(tmp_path, source, compare=compare, reread=True)
    assert (again.created, again.plan.new_rows) == (3, 0)
    assert found(tmp_path)["velocity"].to_list() == [50.0] * 9 + [-120.0]
    assert run(tmp_path, source, compare=compare, reread=True).created == 0


def test_an_array_that_was_overwritten_is_found_by_content_too(tmp_path: Path) -> None:
    source = arrays(tmp_path / "in", [50.0] * 10)
    run(tmp_path, source)
    np.save(source / "X.npy", np.load(source / "X.npy") + 1)
    os.utime(source / "X.npy", (2e9, 2e9))
    assert run(tmp_path, source, compare="hash", reread=True).created == 3
    assert run(tmp_path, source, compare="hash", reread=True).created == 0


def catalogue(folder: Path, **changed: dict[int, float]) -> Path:
    survey_files.write(folder / "in", range(10), broken=False)
    values = {"rv": 20.0, "z": 1e-4, "ra": 10.1, "dec": -5.0}
    table = pd.DataFrame({"file": [f"in/{survey_files.name(number)}" for number in range(10)]} | values)
    for name, cells in changed.items():
        table.loc[list(cells), name] = list(cells.values())
    table.to_csv(folder / "c.csv", index=False)
    return folder / "c.csv"


def test_corrected_values_of_a_catalogue_are_reported_and_read_again_on_request(tmp_path: Path) -> None:
    run(tmp_path, catalogue(tmp_path))
    assert "known files not compared" in str(run(tmp_path, tmp_path / "c.csv").plan)
    catalogue(tmp_path, rv={1: -90.0, 2: np.nan}, dec={9: 5.0})
    reported = run(tmp_path, tmp_path / "c.csv")
    assert (reported.plan.revised, reported.plan.changed, reported.created) == (2, 0, 0)
    assert "2 with other values in the catalogue" in str(reported.plan)
    assert "2 rows have another rv, z, ra, dec, star or obsid" in summary(reported)
    assert run(tmp_path, tmp_path / "c.csv", compare="none").plan.revised == 0
    again = run(tmp_path, tmp_path / "c.csv", reread=True)
    assert (again.created, again.plan.redo) == (2, (0, 2))
    assert found(tmp_path)["velocity"].to_list() == [20.0, -90.0] + [20.0] * 8
    rows = open_manifest(str(tmp_path / "store")).shard(2).to_pylist()
    assert [(row["dec"], row["ra"], row["rv"]) for row in rows] == [(-5.0, 10.1, 20.0), (5.0, 10.1, 20.0)]
    assert run(tmp_path, tmp_path / "c.csv", reread=True).created == 0


def test_corrected_ids_and_values_that_were_missing_are_read_again(tmp_path: Path) -> None:
    star = "3210991234567890123"
    run(tmp_path, catalogue(tmp_path))
    table = pd.read_csv(tmp_path / "c.csv").drop(columns="rv")
    table["source_id"], table["obsid"] = f"{float(star):.5E}", ""  # as a spreadsheet writes them
    table.to_csv(tmp_path / "c.csv", index=False)
    rounded = run(tmp_path, tmp_path / "c.csv")
    assert "Write this column as text" in str(rounded.plan)
    assert rounded.plan.revised == 0
    table["source_id"], table["obsid"] = star, range(1, 11)
    table.to_csv(tmp_path / "c.csv", index=False)
    assert run(tmp_path, tmp_path / "c.csv").plan.revised == 10
    run(tmp_path, tmp_path / "c.csv", reread=True)
    stored = pq.read_table(tmp_path / "store" / "spectra", columns=["star"])
    assert stored["star"].to_pylist() == [star] * 10
    assert open_manifest(str(tmp_path / "store")).shard(2)["obsid"].to_pylist() == [9, 10]
    table.assign(rv=-7.0, obsid=[*range(1, 10), 99], source_id=[star] * 9 + ["42"]).to_csv(
        tmp_path / "c.csv", index=False
    )
    last = run(tmp_path, tmp_path / "c.csv", reread=True)
    assert (last.plan.revised, last.created) == (10, 3)
    stored = pq.read_table(tmp_path / "store" / "spectra", columns=["star", "velocity"])
    assert (stored["star"][9].as_py(), stored["velocity"].to_pylist()) == ("42", [-7.0] * 10)
    assert open_manifest(str(tmp_path / "store")).shard(2)["obsid"].to_pylist() == [9, 99]
    assert run(tmp_path, tmp_path / "c.csv", reread=True).created == 0


def test_cells_that_are_no_numbers_are_counted_and_read_when_they_are_corrected(tmp_path: Path) -> None:
    catalogue(tmp_path)
    table = pd.read_csv(tmp_path / "c.csv")
    right = table.assign(rv=-250.5, ra=153.3945833, dec=-2.1327500)
    wrong: dict[str, Any] = {"rv": ["-250,5", "-250.5 km/s", "", "-9999", "..."] + ["-250.5"] * 5}
    wrong |= {"ra": "10 13 34.7", "dec": "-2:07:57.9", "z": "none yet"}
    table.assign(**wrong).to_csv(tmp_path / "c.csv", index=False)
    first = run(tmp_path, tmp_path / "c.csv")
    assert first.plan.unreadable == {
        "rv": "column rv: 2 cells not used, such as '-250,5', which is no number. "
        "Write numbers with a decimal point and without a unit"
    }
    assert first.plan.unreadable["rv"] in str(first.plan)
    row = open_manifest(str(tmp_path / "store")).shard(0).to_pylist()[0]
    assert (row["rv"], round(row["ra"], 7), round(row["dec"], 5)) == (None, 153.3945833, -2.13275)
    right.to_csv(tmp_path / "c.csv", index=False)
    again = run(tmp_path, tmp_path / "c.csv", reread=True)
    assert (again.plan.revised, again.plan.unreadable) == (10, {})
    assert found(tmp_path)["velocity"].to_list() == [-250.5] * 10


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("-1.5 km/s", "correct the column of the catalogue (see input), then give reread=true"),
        ("", "give prepare.velocity=rest"),
    ],
)
def test_the_advice_without_velocities_is_to_correct_those_that_cannot_be_read(
    tmp_path: Path, cell: str, advice: str
) -> None:
    wave = np.arange(4000.0, 8600.0, 5.0)
    flux = 100 + np.random.default_rng(1).normal(0, 1, wave.size)
    np.savetxt(tmp_path / "a.txt", np.stack([wave, flux, np.ones(wave.size)], 1))
    (tmp_path / "c.csv").write_text(f"file,rv\na.txt,{cell}\n")
    made = run(tmp_path, tmp_path / "c.csv", sources=["ascii"])
    assert f"velocity   {advice}" in summary(made)


def test_values_in_single_precision_are_the_same(tmp_path: Path) -> None:
    run(tmp_path, catalogue(tmp_path))
    table = pd.read_csv(tmp_path / "c.csv")
    table.astype(dict.fromkeys(("rv", "z", "ra", "dec"), "f4")).to_parquet(tmp_path / "c.parquet")
    assert run(tmp_path, tmp_path / "c.parquet").plan.revised == 0


def test_a_file_and_its_row_in_the_catalogue_may_change_at_once(tmp_path: Path) -> None:
    run(tmp_path, catalogue(tmp_path))
    catalogue(tmp_path, rv={1: -90.0})
    path = tmp_path / "in" / survey_files.name(1)
    path.write_bytes(survey_files.file(44))
    again = run(tmp_path, tmp_path / "c.csv", compare="hash", reread=True)
    assert (again.plan.revised, again.plan.changed, again.plan.redo) == (1, 1, (0,))
    assert found(tmp_path)["velocity"][1] == -90.0
    assert run(tmp_path, tmp_path / "c.csv", compare="hash", reread=True).created == 0


def test_reread_looks_at_the_files_that_a_catalogue_names(tmp_path: Path) -> None:
    source = catalogue(tmp_path)
    run(tmp_path, source)
    before = found(tmp_path)["crc"]
    path = tmp_path / "in" / survey_files.name(5)
    path.write_bytes(survey_files.file(44))
    os.utime(path, (1e9, 1e9))  # a copy may keep an old time
    assert run(tmp_path, source).plan.compared == 0
    again = run(tmp_path, source, reread=True)
    assert (again.plan.compared, again.plan.changed, again.plan.redo) == (10, 1, (1,))
    assert again.plan.examples == (str(path),)
    after = found(tmp_path)["crc"]
    assert np.flatnonzero(before != after).tolist() == [5]
    assert run(tmp_path, source, reread=True).created == 0


def test_reread_reads_no_file_that_is_older_than_its_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = catalogue(tmp_path)
    run(tmp_path, source)
    for path in (tmp_path / "store" / "spectra").iterdir():
        os.utime(path, (4e9, 4e9))
    read: list[str] = []

    def no_fetch(paths: list[str]) -> list[bytes]:
        read.extend(paths)
        return []

    monkeypatch.setattr("survey.store.manifest.changes.fetch", no_fetch)
    assert run(tmp_path, source, reread=True).plan.compared == 10
    assert not read


def test_reread_keeps_the_spectrum_of_a_file_that_is_gone(tmp_path: Path) -> None:
    source = catalogue(tmp_path)
    run(tmp_path, source)
    files.remove(str(tmp_path / "in" / survey_files.name(5)))
    assert run(tmp_path, source, reread=True).created == 0
    found(tmp_path)


@pytest.mark.parametrize("wish", [{"reread": True}, {"forget": "missing"}])
def test_the_rows_that_a_shorter_table_has_no_more_leave_the_store(
    tmp_path: Path, wish: dict[str, Any]
) -> None:
    source = arrays(tmp_path / "in", [50.0] * 10)
    run(tmp_path, source)
    full = np.load(source / "X.npy")
    np.save(source / "X.npy", full[::-1][:3])
    arrays(tmp_path / "in", [50.0] * 10)
    pd.DataFrame({"obsid": range(1, 4), "rv": 50.0}).to_csv(source / "y.csv", index=False)
    again = run(tmp_path, source, **wish)
    assert (again.plan.forgotten, again.plan.vanished, again.plan.rows) == (7, 0, 3)
    assert (again.document.written, again.document.rows_in) == (3, 3)
    spectra = pq.read_table(tmp_path / "store" / "spectra", columns=["row", "path"])
    assert spectra["row"].to_pylist() == [0, 1, 2]
    assert run(tmp_path, source, **wish).created == 0
    np.save(source / "X.npy", full)
    arrays(tmp_path / "in", [50.0] * 10)
    assert run(tmp_path, source, reread=True).document.written == 10
    found(tmp_path)
