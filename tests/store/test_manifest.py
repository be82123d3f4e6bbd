"""The manifest: every kind of input, each spectrum once, shards that never change, and what a later plan finds changed."""

import gzip
import os
import pickle
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey import files
from survey.settings import SettingsError
from survey.spectrum import Refused
from survey.store.manifest import Input, Plan, open_manifest, plan, shard_rows
from survey.store.manifest.pattern import LAMOST, parse, paths
from survey.store.manifest.row_keys import Known, Seen, keys_of
from survey.store.manifest.rows import COLUMNS, SCHEMA, table
from survey.tables import cells


def planned(store: Path, source: Path | str, **more: object) -> Plan:
    return plan(Input.checked("ingest", {"input": str(source), **more}), str(store))


def everything(store: Path) -> list[dict[str, Any]]:
    manifest = open_manifest(str(store))
    return [row for shard in range(manifest.shards) for row in manifest.shard(shard).to_pylist()]


def names(store: Path, root: Path) -> list[str]:
    return [os.path.relpath(row["path"], root) for row in everything(store)]


def spectra(folder: Path, *files_: str) -> Path:
    for name in files_:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"SIMPLE  =" + name.encode())
    return folder


def catalogue(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# Folders, tables, single files


def test_a_folder_gives_its_survey_files_in_the_order_of_their_names_with_size_and_time(
    tmp_path: Path,
) -> None:
    root = spectra(
        tmp_path / "in",
        "b/2.fits",
        "b/1.FITS.GZ",
        "a.fit",
        "c.fts",
        ".hidden.fits",
        ".trash/x.fits",
        "b/notes.txt",
        "readme",
    )
    found = planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fit", "c.fts", "b/1.FITS.GZ", "b/2.fits"]
    assert (found.new_rows, found.ignored, found.duplicates) == (4, 4, 0)
    row = everything(tmp_path / "store")[0]
    assert row["path"] == str(root / "a.fit")
    assert (row["row"], row["size"], row["stamp"], row["obsid"]) == (
        -1,
        14,
        (root / "a.fit").stat().st_mtime,
        None,
    )


def test_what_is_named_like_a_survey_file_but_is_none_becomes_an_item_to_be_refused(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "folder.fits/inner.fits")
    (root / "link.fits").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.fits")
    planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fits", "folder.fits", "link.fits", "pipe.fits"]
    reasons = [
        item.reason if isinstance(item, Refused) else "read"
        for item in files.fetch(r["path"] for r in everything(tmp_path / "store"))
    ]
    assert reasons == ["read", "not_a_file", "missing", "not_a_file"]


def test_a_file_name_that_is_no_text_is_kept_and_will_be_missing(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.fits")).write_bytes(b"x")
    assert planned(tmp_path / "store", root).rows == 2


def test_the_store_inside_the_input_folder_is_not_its_own_input(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "z.fits")
    store = root / "store"
    planned(store, root)
    (store / "spectra").mkdir()
    pq.write_table(pa.table({"flux": [[1.0]]}), store / "spectra" / "part-00000.parquet")
    assert planned(store, root).new_rows == 0


def test_tables_of_spectra_give_one_row_per_spectrum(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "m.fits")
    np.save(root / "X_train.npy", np.zeros((3, 5), np.float32))
    np.save(root / "y_train.npy", np.zeros(3))
    pq.write_table(pa.table({"flux": [[1.0, 2.0]] * 2}), root / "flux.parquet")
    pq.write_table(pa.table({"label": [1.0]}), root / "labels.parquet")
    (root / "damaged.parquet").write_bytes(b"PAR1 and no more")
    (root / "X_damaged.npy").write_bytes(b"no array")
    found = planned(tmp_path / "store", root)
    listed = [(Path(row["path"]).name, row["row"]) for row in everything(tmp_path / "store")]
    whole = [("X_damaged.npy", -1), ("damaged.parquet", -1), ("m.fits", -1)]
    assert listed == [
        whole[0],
        *[("X_train.npy", i) for i in range(3)],
        whole[1],
        *[("flux.parquet", i) for i in range(2)],
        whole[2],
    ]
    assert found.ignored == 2
    single = planned(tmp_path / "other", root / "X_train.npy")
    assert (single.rows, single.shards) == (3, 1)


def test_one_survey_file_is_a_store_of_one_row(tmp_path: Path) -> None:
    root = spectra(tmp_path, "one.fits", "other")
    planned(tmp_path / "store", root / "one.fits")
    planned(tmp_path / "store", root / "other")
    assert names(tmp_path / "store", root) == ["one.fits", "other"]


# Catalogues


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz"])
@pytest.mark.parametrize("mark", [",", "|", "\t"])
def test_a_catalogue_says_where_its_files_are_and_what_it_knows_of_them(
    tmp_path: Path, name: str, mark: str
) -> None:
    text = "\ufeffcombined_obsid,Combined_File,designation,ra,dec,rv,combined_z,Z,extra\n"
    text += "7,20111024/F1/a.fits.gz,LAMOST J01+02,10.5,-5,-9999,0.1,,x\n\n-9999,b.fits,,370,nan,12.5,0.2,-0.001,y\n"
    planned(tmp_path / "store", catalogue(tmp_path / name, text.replace(",", mark)))
    first, second = everything(tmp_path / "store")
    assert first == {"path": str(tmp_path / "20111024/F1/a.fits.gz"), "row": -1, "size": None, "stamp": None, "obsid": 7} | {
        "star": "J01+02", "ra": 10.5, "dec": -5.0, "rv": None, "z": 0.1
    }  # fmt: skip
    assert [second[key] for key in ("obsid", "star", "ra", "dec", "rv", "z")] == [
        None,
        None,
        None,
        None,
        12.5,
        -0.001,
    ]


def test_the_files_of_a_catalogue_may_lie_elsewhere(tmp_path: Path) -> None:
    table_ = catalogue(tmp_path / "c.csv", "file\na.fits\n/abs/b.fits\ns3://bucket/c.fits\n./x/../d.fits\n")
    planned(tmp_path / "store", table_, files="s3://other/prefix/")
    assert [row["path"] for row in everything(tmp_path / "store")][:3] == [
        "s3://other/prefix/a.fits",
        "/abs/b.fits",
        "s3://bucket/c.fits",
    ]
    planned(tmp_path / "local", table_, files=str(tmp_path / "data"))
    assert everything(tmp_path / "local")[3]["path"] == str(tmp_path / "data/d.fits")


def test_without_a_file_column_the_survey_s_own_rule_names_the_file(tmp_path: Path) -> None:
    planned(
        tmp_path / "l", catalogue(tmp_path / "l.csv", "obsid|lmjd|planid|spid|fiberid\n1|55859.0|F5902|3|7\n")
    )
    assert names(tmp_path / "l", tmp_path) == ["F5902/spec-55859-F5902_sp03-007.fits.gz"]
    planned(
        tmp_path / "s",
        catalogue(tmp_path / "s.csv", "ra,plate,MJD,fiberID\n1,295,51985,610\n2,10000,51985,1000\n"),
    )
    assert names(tmp_path / "s", tmp_path) == ["spec-0295-51985-0610.fits", "spec-10000-51985-1000.fits"]


def test_a_pattern_of_one_s_own_wins_over_a_file_column(tmp_path: Path) -> None:
    text = "combined_obsdate,combined_planid,spid,file\n2011-10-24,F5902,3,a.fits\n2011-10-24T00:00:00,F5902,13,a.fits\n24.10.2011,F5902,3,a.fits\n"
    found = planned(
        tmp_path / "store",
        catalogue(tmp_path / "c.csv", text),
        pattern="{obsdate:%Y%m%d}/{planid}/{spid:02d}.fits",
    )
    assert names(tmp_path / "store", tmp_path) == [
        "20111024/F5902/03.fits",
        "20111024/F5902/13.fits",
        "c.csv#row-3",
    ]
    assert found.nameless == 1


def test_rows_that_say_no_file_are_kept_and_counted_and_will_be_missing(tmp_path: Path) -> None:
    text = "lmjd,planid,spid,fiberid,ra\n55859,F1,3,7,1\n,F1,3,8,2\nx,F1,3,8,3\n55859,-9999,3,8,4\n55859,F1,3.5,8,10 13 34.7\n55859,F1,-1,8,6\n"
    found = planned(tmp_path / "store", catalogue(tmp_path / "c.csv", text))
    assert names(tmp_path / "store", tmp_path) == [
        "F1/spec-55859-F1_sp03-007.fits.gz",
        *(f"c.csv#row-{n}" for n in range(2, 7)),
    ]
    assert found.nameless == 5
    assert [row["ra"] for row in everything(tmp_path / "store")] == [1, 2, 3, 4, None, 6]
    assert isinstance(next(iter(files.fetch([str(tmp_path / "c.csv#row-2")]))), Refused)
    assert planned(tmp_path / "store", tmp_path / "c.csv").new_rows == 0


def test_a_parquet_catalogue_and_a_manifest_are_inputs_too(tmp_path: Path) -> None:
    values = {
        "file": ["a.fits", None],
        "source_id": [12345678901234567.0, None],
        "ra": pa.array([1, 2], pa.int32()),
        "obsid": ["5", "x"],
    }
    pq.write_table(pa.table(values), tmp_path / "c.parquet")
    planned(tmp_path / "store", tmp_path / "c.parquet")
    first, second = everything(tmp_path / "store")
    assert (first["star"], first["ra"], first["obsid"]) == ("12345678901234568", 1.0, 5)
    assert (second["path"], second["star"], second["obsid"]) == (f"{tmp_path}/c.parquet#row-2", None, None)
    root = spectra(tmp_path / "in", "a.fits")
    np.save(root / "X.npy", np.zeros((2, 3)))
    planned(tmp_path / "one", root)
    planned(tmp_path / "two", tmp_path / "one" / "manifest" / "part-00000.parquet")
    assert everything(tmp_path / "two") == everything(tmp_path / "one")


def test_a_real_catalogue_with_combined_columns(tmp_path: Path, shared: Path) -> None:
    source = shared / "labels" / "dr8_repeat_groups.csv"
    found = planned(tmp_path / "store", source, files="/lamost", shard=100)
    rows = everything(tmp_path / "store")
    assert (found.rows, found.shards, found.nameless, len(rows)) == (156, 2, 0, 156)
    assert rows[0]["path"] == "/lamost/20111024/F5902/spec-55859-F5902_sp03-232.fits.gz"
    assert (rows[0]["obsid"], rows[0]["ra"], rows[0]["dec"], rows[0]["star"]) == (
        103232,
        330.9094528,
        -0.17471,
        None,
    )


def test_a_real_plan_catalogue_names_the_same_files_by_column_and_by_pattern(
    tmp_path: Path, shared: Path
) -> None:
    source = shared / "labels" / "lamost_dr1_plan_catalog.csv"
    planned(tmp_path / "file", source, files="/lamost")
    planned(
        tmp_path / "pattern",
        source,
        files="/lamost",
        pattern=LAMOST.removeprefix("{planid}/").removesuffix(".gz"),
    )
    rows = everything(tmp_path / "file")
    others = everything(tmp_path / "pattern")
    assert (len(rows), rows[:1969]) == (2125, others[:1969])
    assert all(
        row["path"] != other["path"] for row, other in zip(rows[1969:], others[1969:], strict=True)
    )  # there it names another visit's file
    assert (rows[0]["path"], rows[0]["star"], rows[0]["rv"]) == (
        "/lamost/spec-55860-B6001_sp05-022.fits",
        "J221103.75+290739.6",
        -11.33,
    )
    assert min(row["rv"] for row in rows if row["rv"] is not None) > -1000


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gaia_lamost_halo_features.csv", 1244),
        ("mdwarf_teff_logg_feh.csv", 34),
        ("lamost_dr2_apogee_dr12.csv", None),
    ],
)
def test_other_real_catalogues_are_understood(
    tmp_path: Path, shared: Path, name: str, count: int | None
) -> None:
    found = planned(tmp_path / "store", shared / "labels" / name)
    assert found.nameless == 0
    assert found.new_rows + found.duplicates == (count or 7445)
    assert all(row["star"] for row in everything(tmp_path / "store"))


def test_sdss_objects_find_their_files_by_the_rule_of_the_survey(tmp_path: Path, shared: Path) -> None:
    planned(tmp_path / "store", shared / "labels" / "sdss_mstar_objects.csv")
    assert names(tmp_path / "store", shared / "labels")[0] == "spec-0295-51985-0610.fits"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 99999),
            st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True),
            st.integers(0, 99),
            st.integers(0, 999),
        ),
        min_size=1,
    )
)
@settings(max_examples=50, deadline=None)
def test_a_pattern_writes_what_python_writes(values: list[tuple[int, str, int, int]]) -> None:
    columns = dict(
        zip(
            ("lmjd", "planid", "spid", "fiberid"),
            (pa.array(column) for column in zip(*values, strict=True)),
            strict=True,
        )
    )
    wanted = [
        LAMOST.format(lmjd=lmjd, planid=planid, spid=spid, fiberid=fiberid)
        for lmjd, planid, spid, fiberid in values
    ]
    assert paths(parse(LAMOST), columns).to_pylist() == wanted
    as_text = {
        name: pa.array([f"{value}.0" if name == "spid" else str(value) for value in column.to_pylist()])
        for name, column in columns.items()
    }
    assert paths(parse(LAMOST), as_text).to_pylist() == wanted


# Errors


def refused(tmp_path: Path, source: Path | str, **more: object) -> str:
    with pytest.raises(ValueError) as caught:
        planned(tmp_path / "store", source, **more)
    assert not (tmp_path / "store" / "manifest.json").exists()
    return str(caught.value)


def test_inputs_without_a_spectrum_are_refused_with_a_reason_and_a_way_out(tmp_path: Path) -> None:
    assert "no such file or folder; give" in refused(tmp_path, tmp_path / "none")
    spectra(tmp_path / "in", "a.txt")
    assert "holds no spectrum (1 other files); give a folder" in refused(tmp_path, tmp_path / "in")
    assert "holds no spectrum at all" in refused(tmp_path, catalogue(tmp_path / "head.csv", "file\n"))
    assert "empty; give" in refused(tmp_path, catalogue(tmp_path / "empty.csv", ""))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04\0\0")
    assert "neither text nor FITS" in refused(tmp_path, tmp_path / "zip")
    np.save(tmp_path / "X.npy", np.zeros(3))
    assert "shape (3,); a table of spectra" in refused(tmp_path, tmp_path / "X.npy")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    assert "damaged or no such kind of file" in refused(tmp_path, tmp_path / "bad.parquet")


def test_a_catalogue_in_fits_is_told_from_a_spectrum(tmp_path: Path) -> None:
    with (tmp_path / "dr8.fits").open("wb") as file:
        file.truncate(files.LARGEST + 1)
    assert "is no spectrum; if it is a catalogue, give it as CSV or Parquet" in refused(
        tmp_path, tmp_path / "dr8.fits"
    )


def test_a_catalogue_without_usable_columns_says_what_it_has_and_what_it_needs(tmp_path: Path) -> None:
    said = refused(tmp_path, catalogue(tmp_path / "c.csv", "name,teff\na,5000\n"))
    assert "found name, teff; needed are a column path, file" in said
    said = refused(tmp_path, tmp_path / "c.csv", pattern="{obsid}.fits")
    assert "the pattern needs the column obsid, found name, teff; give" in said
    for bad in ("{name:5x}", "{name!r}", "{}.fits", "{name", "constant.fits"):
        assert f"ingest: pattern: {bad!r}" in refused(tmp_path, tmp_path / "c.csv", pattern=bad)


def test_a_malformed_line_and_a_cut_catalogue_are_named(tmp_path: Path) -> None:
    said = refused(tmp_path, catalogue(tmp_path / "c.csv", "file,ra\na.fits,1\nb.fits,2\nc.fits\n"))
    assert "Row #4: Expected 2 columns, got 1: c.fits" in said
    whole = gzip.compress(
        b"file\n" + b"".join(b"%d.fits\n" % i for i in np.random.default_rng(1).integers(0, 1 << 60, 20000))
    )
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-5000])
    assert f"ingest: {tmp_path}/cut.csv.gz: " in refused(tmp_path, tmp_path / "cut.csv.gz")


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    for values in ({"shard": 0}, {"shard": 20001}, {"compare": "mtime"}, {"reread": "yes"}):
        assert next(iter(values)) in refused(tmp_path, tmp_path, **values)


def test_a_store_that_is_not_begun_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest.json; make the store"):
        open_manifest(str(tmp_path))
    for text in ("{", "[]", '{"format": 1}', '{"format": 99}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest: .*manifest.json: (damaged|format 99)"):
            open_manifest(str(tmp_path))


@given(
    st.one_of(st.binary(max_size=200), st.text('path,ra|\n"1.5e-#\ufeff', max_size=60).map(str.encode)),
    st.sampled_from([b"", b"PAR1", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08\x00", b"path,ra\n"]),
    st.sampled_from(["c.csv", "X.npy", "t.parquet", "c.csv.gz"]),
)
@settings(max_examples=300, deadline=None)
def test_whatever_bytes_an_input_has_it_is_planned_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(start + data)
    try:
        assert planned(folder / "store", folder / name).rows > 0
    except ValueError as error:
        assert str(folder / name) in str(error)  # noqa: PT017 - not every input is refused
    if name in ("X.npy", "t.parquet"):
        spectra(folder, "a.fits")
        assert planned(folder / "all", folder).rows >= 1


@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.floats().map(str), st.integers().map(str), st.dates().map(str))
    )
)
@settings(deadline=None)
def test_whatever_a_cell_holds_it_is_a_value_or_null(values: list[str]) -> None:
    column = pa.array(values, pa.string())
    for text, number, measured in zip(
        values, cells.numbers(column).to_pylist(), cells.measured(column, -90, 90).to_pylist(), strict=True
    ):
        if number is not None:
            assert number == float(text)
        assert measured == (number if number is not None and -90 <= number <= 90 else None)
    for text, whole in zip(values, cells.whole(column).to_pylist(), strict=True):
        assert whole is None or whole == float(text) or whole == int(text)
    assert len(cells.dates(column)) == len(cells.text(column)) == len(values)


# Shards


def test_a_shard_is_one_row_group_and_a_worker_reads_nothing_else(tmp_path: Path) -> None:
    rows = "".join(f"{i}.fits\n" for i in range(1000))
    planned(tmp_path / "store", catalogue(tmp_path / "c.csv", f"path\n{rows}"), shard=7)
    manifest = pickle.loads(pickle.dumps(open_manifest(str(tmp_path / "store"))))
    assert (manifest.shards, manifest.rows, len(manifest.parts)) == (143, 1000, 3)
    first = pq.ParquetFile(manifest.path(manifest.parts[0]))
    assert [first.metadata.row_group(i).num_rows for i in range(first.num_row_groups)] == [7] * 64
    assert [manifest.rows_in(shard) for shard in (0, 141, 142)] == [7, 7, 6]
    assert manifest.shard(100).schema == SCHEMA
    assert manifest.shard(100)["path"].to_pylist() == [str(tmp_path / f"{i}.fits") for i in range(700, 707)]
    assert shard_rows(str(tmp_path / "store"), 142).num_rows == 6
    assert list(COLUMNS) == manifest.shard(0).column_names
    with pytest.raises(ValueError, match="there is no shard 143; there are 143"):
        manifest.shard(143)


def test_a_row_that_is_listed_twice_is_taken_once_and_counted(tmp_path: Path) -> None:
    text = "file,ra\na.fits,1\nb.fits,2\na.fits,3\n./a.fits,4\nx//b.fits,5\nx/b.fits,6\na.fits.gz,7\n"
    found = planned(tmp_path / "store", catalogue(tmp_path / "c.csv", text))
    assert [(row["path"], row["ra"]) for row in everything(tmp_path / "store")] == [
        (str(tmp_path / name), ra) for name, ra in (("a.fits", 1), ("b.fits", 2), ("x/b.fits", 5))
    ]
    assert (found.new_rows, found.duplicates, found.known) == (3, 4, 0)
    again = planned(tmp_path / "store", tmp_path / "c.csv")
    assert (again.new_rows, again.duplicates, again.known) == (0, 4, 3)


# Growth


def test_a_second_night_comes_after_the_first_and_old_shards_stay(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"night2/{i}.fits" for i in range(5)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    before = [open_manifest(str(store)).shard(i) for i in range(3)]
    part = (store / "manifest" / "part-00000.parquet").read_bytes()
    spectra(root, "night1/a.fits", "night1/b.fits", "night1/c.fits")
    found = planned(store, root, shard=2)
    manifest = open_manifest(str(store))
    assert [manifest.shard(i) for i in range(3)] == before
    assert (store / "manifest" / "part-00000.parquet").read_bytes() == part
    assert [manifest.rows_in(i) for i in range(manifest.shards)] == [2, 2, 1, 2, 1]
    assert names(store, root)[5:] == ["night1/a.fits", "night1/b.fits", "night1/c.fits"]
    assert (found.new_first_shard, found.new_rows, found.known, found.rows, found.shards) == (3, 3, 5, 8, 5)
    assert [(listed.input, listed.rows, listed.first_shard) for listed in manifest.inputs] == [
        (str(root), 5, 0),
        (str(root), 3, 3),
    ]


def test_a_plan_with_nothing_new_leaves_the_manifest_untouched(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits")
    store = tmp_path / "store"
    planned(store, root)
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*") if path.is_file()
    }
    again = planned(store, str(root) + "/../in/", reread=True)
    assert (again.new_rows, again.changed, again.compared, again.redo) == (0, 0, 2, ())
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.rglob("*") if path.is_file()
    } == before


def test_a_folder_within_another_input_adds_nothing(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a/1.fits", "a/2.fits", "b/3.fits")
    planned(tmp_path / "store", root / "a")
    assert planned(tmp_path / "store", root).new_rows == 1
    assert (
        planned(
            tmp_path / "store",
            catalogue(tmp_path / "c.csv", "file\na/2.fits.gz\nb/4.fits\n"),
            files=str(root),
        ).new_rows
        == 1
    )
    assert names(tmp_path / "store", root) == ["a/1.fits", "a/2.fits", "b/3.fits", "b/4.fits"]


def test_another_shard_size_is_refused_for_a_store_that_is_begun(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    planned(tmp_path / "store", root, shard=10)
    with pytest.raises(SettingsError, match="cut into shards of 10; give shard=10 or another store="):
        planned(tmp_path / "store", root, shard=20)


def test_changed_and_vanished_files_are_reported(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"{i}.fits" for i in range(6)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    (root / "1.fits").write_bytes(b"longer than it was before")
    os.utime(root / "4.fits", (1, 1))
    (root / "5.fits").unlink()
    found = planned(store, root, shard=2)
    assert (found.changed, found.examples, found.vanished, found.redo, found.compared) == (
        2,
        (f"{root}/1.fits", f"{root}/4.fits"),
        1,
        (),
        5,
    )
    assert planned(store, root, shard=2, compare="size").examples == (f"{root}/1.fits",)
    assert planned(store, root, shard=2, compare="none").compared == 0
    assert "known ones not compared" in str(planned(store, root, shard=2, compare="none"))
    assert len(everything(store)) == 6


def test_changed_files_are_told_to_be_read_again_and_only_their_shards(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"{i:03d}.fits" for i in range(200)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    spectra(root, "zzz.fits")
    planned(store, root, shard=2)
    before = everything(store)
    for name in ("003.fits", "150.fits", "zzz.fits"):
        (root / name).write_bytes(b"longer than it was before")
    found = planned(store, root, shard=2, reread=True)
    assert (found.redo, found.changed, found.new_rows) == ((1, 75, 100), 3, 0)
    manifest = open_manifest(str(store))
    assert manifest.versions == {1: 1, 75: 1, 100: 1}
    after = everything(store)
    assert [i for i in range(201) if before[i] != after[i]] == [3, 150, 200]
    assert after[150] == before[150] | {"size": 25, "stamp": (root / "150.fits").stat().st_mtime}
    assert sorted(path.name for path in (store / "manifest").iterdir()) == sorted(
        part.file for part in manifest.parts
    )
    assert planned(store, root, shard=2, reread=True).changed == 0
    (root / "003.fits").write_bytes(b"and again")
    spectra(root, "zzzz.fits")
    found = planned(store, root, shard=2, reread=True)
    assert (found.redo, found.new_rows, found.new_first_shard) == ((1,), 1, 101)
    assert open_manifest(str(store)).versions == {1: 2, 75: 1, 100: 1}


def test_a_file_that_was_gzipped_since_is_the_same_spectrum_in_a_changed_file(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits")
    planned(tmp_path / "store", root)
    (root / "a.fits").unlink()
    (root / "a.fits.gz").write_bytes(gzip.compress(b"SIMPLE  = a.fits"))
    found = planned(tmp_path / "store", root, reread=True)
    assert (found.new_rows, found.changed, found.vanished, found.redo) == (0, 1, 0, (0,))
    assert names(tmp_path / "store", root) == ["a.fits.gz", "b.fits"]


def test_comparing_by_content_finds_what_size_and_time_hide(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits", "c.fits")
    store = tmp_path / "store"
    source = catalogue(tmp_path / "c.csv", "file\na.fits\nb.fits\nc.fits\nlate.fits\nnever.fits\n")
    wanted = Input(input=str(source), files=str(root), shard=2, compare="hash", reread=True)
    plan(wanted, str(store))
    crc = {
        row["path"]: zlib.crc32(Path(row["path"]).read_bytes()) if Path(row["path"]).exists() else None
        for row in everything(store)
    }

    def known(shard: int) -> pa.Table:
        listed = [
            row
            for row in open_manifest(str(store)).shard(shard).to_pylist()
            if not row["path"].endswith("c.fits")
        ]
        return pa.table(
            {
                "path": [r["path"] for r in listed],
                "row": [r["row"] for r in listed],
                "crc": pa.array([crc[r["path"]] for r in listed]),
            }
        )

    data, facts = (root / "b.fits").read_bytes(), (root / "b.fits").stat()
    (root / "b.fits").write_bytes(data[::-1])
    os.utime(root / "b.fits", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    spectra(root, "late.fits")
    found = plan(wanted, str(store), known)
    assert (found.examples, found.compared, found.redo) == (
        (f"{root}/b.fits", f"{root}/late.fits"),
        4,
        (0, 1),
    )
    assert everything(store)[3]["size"] == (root / "late.fits").stat().st_size
    with pytest.raises(SettingsError, match="nothing says the checksums"):
        plan(wanted, str(store))


# Killed plans


def test_parts_that_the_manifest_does_not_list_do_not_exist(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits")
    store = tmp_path / "store"
    (store / "manifest").mkdir(parents=True)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        (store / "manifest" / name).write_bytes(b"half a part")
    planned(store, root)
    assert names(store, root) == ["a.fits", "b.fits"]
    assert [path.name for path in (store / "manifest").iterdir()] == ["part-00000.parquet"]


@pytest.mark.kill
@pytest.mark.parametrize("parts", [1, 8])
def test_a_killed_plan_is_made_again_with_the_same_rows(tmp_path: Path, parts: int) -> None:
    source = catalogue(tmp_path / "c.csv", "path\n" + "".join(f"/data/{i}.fits\n" for i in range(200_000)))
    code = f"from survey.store.manifest import *; plan(Input(input={str(source)!r}, shard=50), {str(tmp_path / 'killed')!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        while (
            process.poll() is None
            and not (tmp_path / "killed" / "manifest" / f"part-{parts:05d}.parquet").exists()
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    planned(tmp_path / "killed", source, shard=50)
    planned(tmp_path / "whole", source, shard=50)
    killed, whole = open_manifest(str(tmp_path / "killed")), open_manifest(str(tmp_path / "whole"))
    assert killed.parts == whole.parts
    assert all(killed.read(part) == whole.read(part) for part in whole.parts)


# Keys, and everything together


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=8))
@settings(deadline=None)
def test_seen_keys_agree_with_a_set(batches: list[list[int]]) -> None:
    seen, known = Seen(), set[int]()
    for batch in batches:
        wanted = [key not in known and key not in batch[:place] for place, key in enumerate(batch)]
        assert seen.fresh(np.array(batch, np.complex128)).tolist() == wanted
        known.update(batch)


@given(st.sets(st.integers(0, 40)), st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=4))
@settings(deadline=None)
def test_known_keys_give_their_position_and_are_met_once(held: set[int], batches: list[list[int]]) -> None:
    order = list(held)
    known, met = Known(np.array(order, np.complex128)), set[int]()
    for batch in batches:
        position, newly = known.meet(np.array(batch, np.complex128))
        assert position.tolist() == [order.index(key) if key in held else -1 for key in batch]
        assert newly.tolist() == [
            key in held and key not in met and key not in batch[:place] for place, key in enumerate(batch)
        ]
        met |= held & set(batch)
    assert np.flatnonzero(known.met).tolist() == sorted(order.index(key) for key in met)


def test_keys_tell_paths_and_rows_apart(tmp_path: Path) -> None:
    many = [
        table(5, {"path": name, "row": range(5)}) for name in ("a.npy", "b.npy", "a.npyx", "a.fits", "ä.fits")
    ]
    keys = np.concatenate([keys_of(rows) for rows in many])
    assert len(np.unique(keys)) == 25
    assert keys_of(table(1, {"path": "a.fits.gz", "row": -1})) == keys_of(
        table(1, {"path": "a.fits", "row": -1})
    )


ITEMS = st.integers(0, 25)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(ITEMS, min_size=1, max_size=12)), min_size=1, max_size=5
    ),
    st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_however_inputs_grow_every_spectrum_is_there_once_in_stable_shards(
    tmp_path_factory: pytest.TempPathFactory, nights: list[tuple[str, list[int]]], shard: int
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    wanted: list[int] = []
    shards: list[pa.Table] = []
    for which, items in nights:
        source = catalogue(folder / f"{which}.csv", "path\n" + "".join(f"{item}.fits\n" for item in items))
        found = planned(folder / "store", source, shard=shard)
        new = [item for item in dict.fromkeys(items) if item not in wanted]
        assert (found.new_rows, found.known + found.duplicates) == (len(new), len(items) - len(new))
        assert found.known == len(set(items) & set(wanted))
        wanted += new
        manifest = open_manifest(str(folder / "store"))
        now = [manifest.shard(i) for i in range(manifest.shards)]
        assert now[: len(shards)] == shards
        assert names(folder / "store", folder) == [f"{item}.fits" for item in wanted]
        assert [manifest.rows_in(i) for i in range(manifest.shards)] == [part.num_rows for part in now]
        shards = now


def test_a_million_rows_take_seconds(tmp_path: Path) -> None:
    number = np.arange(1_000_000)
    columns = {
        "obsid": number,
        "lmjd": 55859 + number // 4000,
        "spid": 1 + number % 4000 // 250,
        "fiberid": 1 + number % 250,
        "rv": number % 300 - 150.5,
    }
    columns["planid"] = np.char.add("HD", (number // 4000).astype(str)).astype(object)
    columns["designation"] = np.char.add("LAMOST J", number.astype(str)).astype(object)
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "c.csv")
    started = time.process_time()
    found = planned(tmp_path / "store", tmp_path / "c.csv")
    assert time.process_time() - started < 8
    assert (found.rows, found.shards) == (1_000_000, 1000)
    assert open_manifest(str(tmp_path / "store")).shard(999)["star"][-1].as_py() == "J999999"
