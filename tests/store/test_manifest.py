"""The manifest: every kind of input, each spectrum once, stable shards, and changes found by a later plan."""

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
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey import files
from survey.fetch import fetch
from survey.settings import SettingsError
from survey.sources.naming import namings
from survey.spectrum import Refused
from survey.store.manifest import IngestPlan, Manifest, open_manifest, plan, planning
from survey.store.manifest.forget import without_rows
from survey.store.manifest.manifest import COLUMNS, SCHEMA, manifest_rows
from survey.store.manifest.pattern import parse_pattern, write_paths
from survey.store.manifest.row_keys import KeySet, ListedKeys, keys_of
from survey.store.settings import Input
from survey.tables.read import array_rows

LAMOST = next(naming.path for naming in namings() if naming.star_prefix == "LAMOST")
"""The pattern of the paths of LAMOST's files."""


def planned(store: Path, source: Path | str, **more: object) -> IngestPlan:
    return plan(Input.from_dict("ingest", {"input": str(source), **more}), str(store))


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
    result = planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fit", "c.fts", "b/1.FITS.GZ", "b/2.fits"]
    assert (result.new_rows, result.ignored, result.duplicates) == (4, 4, 0)
    row = everything(tmp_path / "store")[0]
    assert row["path"] == str(root / "a.fit")
    assert (row["row"], row["size"], row["stamp"], row["obsid"]) == (
        -1,
        14,
        (root / "a.fit").stat().st_mtime,
        None,
    )


def test_entries_that_are_only_named_like_survey_files_become_items_to_refuse(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    (root / "link.fits").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.fits")
    (root / "plate" / "spec-1.fits.gz").mkdir(parents=True)
    (root / "empty").mkdir()
    plan = planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fits", "link.fits", "pipe.fits", "plate/spec-1.fits.gz"]
    assert plan.ignored == 0
    reasons = [
        item.reason if isinstance(item, Refused) else "read"
        for item in fetch(r["path"] for r in everything(tmp_path / "store"))
    ]
    assert reasons == ["read", "missing", "not_a_file", "not_a_file"]


def test_a_folder_that_is_named_like_a_survey_file_is_looked_into(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "plate1.fits/inner.fits", "X.npy/b.fits")
    planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fits", "X.npy/b.fits", "plate1.fits/inner.fits"]


def test_broken_links_that_are_named_like_spectra_are_missing(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    broken = ["X.npy", "b.parquet", "c.h5", "d.fits", "e.txt", "f.jpg"]
    for name in (*broken, "notes"):
        (root / name).symlink_to("/not/mounted")
    plan = planned(tmp_path / "store", root, sources=["sdss", "ascii", "images", "hdf5"])
    assert sorted(names(tmp_path / "store", root)) == sorted(["a.fits", *broken])
    assert (plan.ignored, plan.first_ignored) == (1, "notes")
    lost = [item for item in fetch(str(root / name) for name in broken) if isinstance(item, Refused)]
    assert [item.reason for item in lost] == ["missing"] * len(broken)


def test_links_to_folders_are_counted_and_named(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    spectra(tmp_path / "real", "b.fits")
    for name in ("plan", "more.fits", "X.npy", "z.parquet"):
        (root / name).symlink_to(tmp_path / "real")
    plan = planned(tmp_path / "store", root)
    assert (plan.rows, plan.links, plan.ignored) == (1, 4, 0)
    assert "4 links to folders not followed (such as X.npy)" in str(plan)
    (root / "a.fits").unlink()
    message = refused(tmp_path / "empty", root)
    assert "holds no spectrum (links to folders not followed: 4, such as X.npy); give a folder" in message


def test_a_file_whose_name_is_no_text_is_listed_and_read(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.fits")).write_bytes(b"x")
    np.save(os.fsdecode(os.fsencode(root) + b"/X\xfe.npy"), np.ones((2, 4900), "f4"))
    assert planned(tmp_path / "store", root).rows == 4
    listed = [row["path"] for row in everything(tmp_path / "store") if row["row"] < 0]
    assert r"\udcff.fits" in listed[1]
    assert list(fetch(listed))[1] == b"x"
    [array] = {row["path"] for row in everything(tmp_path / "store") if row["row"] >= 0}
    assert array_rows(array) == 2
    assert planned(tmp_path / "store", root).known == 4


def test_a_link_to_itself_is_an_item_to_refuse(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    (root / "loop.fits").symlink_to(root / "loop.fits")
    (root / "loop.txt").symlink_to(root / "loop.txt")
    (root / "through.fits").symlink_to(root / "a.fits" / "x")
    planned(tmp_path / "store", root)
    assert names(tmp_path / "store", root) == ["a.fits", "loop.fits", "through.fits"]
    reasons = [
        item.reason for item in fetch(map(str, sorted(root.glob("*.fits")))) if isinstance(item, Refused)
    ]
    assert reasons == ["missing", "missing"]


@pytest.mark.parametrize("name", ["pipe", "pipe.csv", "pipe.npy"])
def test_a_named_pipe_is_no_input(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "no regular file, but a pipe or a device" in refused(tmp_path, tmp_path / name)


@pytest.mark.parametrize("shape", [(10**12, 4900), (10**12, 0), (-5, 4900)])
def test_a_header_that_claims_more_than_its_file_holds_writes_no_manifest(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    with (root / "X.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with pytest.raises(ValueError, match=r"X.npy: .*; copy the file again$"):
        planned(tmp_path / "store", root / "X.npy")
    assert not (tmp_path / "store" / "manifest").exists()
    assert planned(tmp_path / "other", root).rows == 2
    assert [row["row"] for row in everything(tmp_path / "other")] == [-1, -1]


def test_a_catalogue_may_mix_files_and_objects_but_name_no_keys(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    table = catalogue(root / "c.csv", "filename\na.fits\ns3://sky/x/b.fits\n")
    planned(tmp_path / "store", table)
    paths = [row["path"] for row in everything(tmp_path / "store")]
    assert paths == [str(root / "a.fits"), "s3://sky/x/b.fits"]
    table = catalogue(root / "d.csv", "filename\na.fits\ns3://AKIA:hush@sky/x/b.fits\n")
    with pytest.raises(
        ValueError, match="a row names a file of which the s3:// address holds a key"
    ) as caught:
        planned(tmp_path / "other", table)
    assert "hush" not in str(caught.value)


def test_the_store_inside_the_input_folder_is_not_its_own_input(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "z.fits")
    store = root / "store"
    planned(store, root)
    (store / "spectra").mkdir()
    pq.write_table(pa.table({"flux": [[1.0]]}), store / "spectra" / "part-00000.parquet")
    assert planned(store, root).new_rows == 0


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("store.json", "{}", "store"),
        ("predictions.json", "{}", "predictions"),
        ("settings.json", '{"kind": "catalog"}', "catalog"),
    ],
)
def test_a_folder_that_a_job_made_is_no_input(tmp_path: Path, name: str, text: str, kind: str) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    (root / name).write_text(text)
    message = refused(tmp_path, root)
    assert f"holds a {kind}, not survey files; give input=" in message
    assert ("give it as store=" in message) == (kind == "store")


def test_the_folder_of_another_job_inside_the_input_is_left_out_and_counted(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b/catalog/hats/stars.fits", "b/c.fits")
    (root / "b/catalog/settings.json").write_text('{"kind": "catalog"}')
    (root / "b/settings.json").write_text('{"kind": "my own"}')
    made = planned(tmp_path / "store", root)
    assert (made.rows, made.ignored, made.first_ignored) == (2, 3, "b/settings.json")


def test_a_settings_file_of_the_user_among_survey_files_is_no_matter(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    for text in ("no JSON", "[1]", '{"kind": "lamp"}'):
        (root / "settings.json").write_text(text)
        assert planned(tmp_path / "store", root).rows == 1


def test_tables_of_spectra_give_one_row_per_spectrum(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "m.fits")
    np.save(root / "X_train.npy", np.zeros((3, 5), np.float32))
    np.save(root / "y_train.npy", np.zeros(3))
    pq.write_table(pa.table({"flux": [[1.0, 2.0]] * 2}), root / "flux.parquet")
    pq.write_table(pa.table({"label": [1.0]}), root / "labels.parquet")
    (root / "damaged.parquet").write_bytes(b"PAR1 and no more")
    (root / "X_damaged.npy").write_bytes(b"no array")
    result = planned(tmp_path / "store", root)
    listed = [(Path(row["path"]).name, row["row"]) for row in everything(tmp_path / "store")]
    whole = [("X_damaged.npy", -1), ("damaged.parquet", -1), ("m.fits", -1)]
    assert listed == [
        whole[0],
        *[("X_train.npy", i) for i in range(3)],
        whole[1],
        *[("flux.parquet", i) for i in range(2)],
        whole[2],
    ]
    assert result.ignored == 2
    single = planned(tmp_path / "other", root / "X_train.npy")
    assert (single.rows, single.shards) == (3, 1)


@pytest.mark.parametrize("key", ["files", "pattern", "image_pattern"])
@pytest.mark.parametrize(("name", "found"), [("", "a folder"), ("a.fits", "one file"), ("X.npy", "a table")])
def test_a_setting_for_catalogues_is_refused_for_another_input(
    tmp_path: Path, key: str, name: str, found: str
) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    np.save(root / "X.npy", np.ones((2, 60)))
    with pytest.raises(SettingsError, match=rf"ingest: {key}: x, but only a catalogue .* is {found}"):
        planned(tmp_path / "store", root / name, **{key: "x"})


def test_a_table_that_may_not_be_read_is_an_item_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    np.save(root / "X.npy", np.ones((2, 60)))
    opened = files.open_file

    def denied(path: str) -> Any:
        if path.endswith("X.npy"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path)

    monkeypatch.setattr(files, "open_file", denied)
    planned(tmp_path / "store", root)
    assert [(Path(row["path"]).name, row["row"]) for row in everything(tmp_path / "store")] == [
        ("X.npy", -1),
        ("a.fits", -1),
    ]


def test_one_survey_file_is_a_store_of_one_row(tmp_path: Path) -> None:
    root = spectra(tmp_path, "one.fits", "other")
    planned(tmp_path / "store", root / "one.fits")
    planned(tmp_path / "store", root / "other")
    assert names(tmp_path / "store", root) == ["one.fits", "other"]


# Catalogues


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz"])
@pytest.mark.parametrize("mark", [",", "|", "\t"])
def test_a_catalogue_gives_the_paths_and_values_of_its_spectra(tmp_path: Path, name: str, mark: str) -> None:
    text = "\ufeffcombined_obsid,Combined_File,designation,ra,dec,rv,combined_z,Z,extra\n"
    text += "7,20111024/F1/a.fits.gz,LAMOST J01+02,10.5,-5,-9999,0.1,,x\n\n"
    text += "-9999,b.fits,,370,nan,12.5,0.2,-0.001,y\n"
    planned(tmp_path / "store", catalogue(tmp_path / name, text.replace(",", mark)))
    first, second = everything(tmp_path / "store")
    assert first == {
        "path": str(tmp_path / "20111024/F1/a.fits.gz"),
        "row": -1,
        "size": None,
        "stamp": None,
        "image": None,
        "obsid": 7,
        "star": "J01+02",
        "ra": 10.5,
        "dec": -5.0,
        "rv": None,
        "z": 0.1,
    }
    assert [second[key] for key in ("obsid", "star", "ra", "dec", "rv", "z")] == [
        None,
        None,
        None,
        None,
        12.5,
        -0.001,
    ]


def test_the_files_of_a_catalogue_may_be_in_another_folder(tmp_path: Path) -> None:
    table_ = catalogue(tmp_path / "c.csv", "file\na.fits\n/abs/b.fits\ns3://bucket/c.fits\n./x/../d.fits\n")
    planned(tmp_path / "store", table_, files="s3://other/prefix/")
    assert [row["path"] for row in everything(tmp_path / "store")][:3] == [
        "s3://other/prefix/a.fits",
        "/abs/b.fits",
        "s3://bucket/c.fits",
    ]
    planned(tmp_path / "local", table_, files=str(tmp_path / "data"))
    assert everything(tmp_path / "local")[3]["path"] == str(tmp_path / "data/d.fits")


def test_without_a_file_column_the_rule_of_the_survey_names_the_file(tmp_path: Path) -> None:
    planned(
        tmp_path / "l", catalogue(tmp_path / "l.csv", "obsid|lmjd|planid|spid|fiberid\n1|55859.0|F5902|3|7\n")
    )
    assert names(tmp_path / "l", tmp_path) == ["F5902/spec-55859-F5902_sp03-007.fits.gz"]
    planned(
        tmp_path / "s",
        catalogue(tmp_path / "s.csv", "ra,plate,MJD,fiberID\n1,295,51985,610\n2,10000,51985,1000\n"),
    )
    assert names(tmp_path / "s", tmp_path) == ["spec-0295-51985-0610.fits", "spec-10000-51985-1000.fits"]


def test_a_given_pattern_is_preferred_to_a_file_column(tmp_path: Path) -> None:
    text = "combined_obsdate,combined_planid,spid,file\n2011-10-24,F5902,3,a.fits\n"
    text += "2011-10-24T00:00:00,F5902,13,a.fits\n24.10.2011,F5902,3,a.fits\n"
    result = planned(
        tmp_path / "store",
        catalogue(tmp_path / "c.csv", text),
        pattern="{obsdate:%Y%m%d}/{planid}/{spid:02d}.fits",
    )
    assert names(tmp_path / "store", tmp_path) == [
        "20111024/F5902/03.fits",
        "20111024/F5902/13.fits",
        "c.csv#row-3",
    ]
    assert result.nameless == 1


CATALOGUE = "obsid|lmjd|planid|spid|fiberid\n1|55859|F1|3|7\n2|55859|F1|3|8\n3|55859|F2|3|9\n"
NAMES = ["spec-55859-F1_sp03-007.fits.gz", "spec-55859-F1_sp03-008.fits.gz", "spec-55859-F2_sp03-009.fits.gz"]


@pytest.mark.parametrize("there", [[NAMES[2]], [NAMES[1].removesuffix(".gz")]], ids=["as named", "unpacked"])
def test_files_that_lie_flat_in_one_folder_are_found(tmp_path: Path, there: list[str]) -> None:
    root = spectra(tmp_path / "data", *there)
    planned(tmp_path / "store", catalogue(tmp_path / "c.csv", CATALOGUE), files=str(root))
    assert names(tmp_path / "store", root) == NAMES
    assert planned(tmp_path / "store", tmp_path / "c.csv", files=str(root)).new_rows == 0


@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_ids_of_gaia_that_lost_digits_are_not_used_and_the_plan_says_so(tmp_path: Path, name: str) -> None:
    """pandas makes floats of whole numbers where one is missing; two stars of Gaia are then one."""
    whole = [2134567890123456789, 2134567890123456901, None, 5]
    table = pd.DataFrame({"file": ["a", "b", "c", "d"], "source_id": whole}, dtype=object)
    table["source_id"] = table["source_id"].astype(float)
    write = table.to_parquet if name.endswith("parquet") else table.to_csv
    write(tmp_path / name, index=False)
    made = planned(tmp_path / "store", tmp_path / name)
    assert [row["star"] for row in everything(tmp_path / "store")] == [None, None, None, "5"]
    example = "2134567890123456768" if name.endswith("parquet") else "2.1345678901234568e+18"
    assert str(made).endswith(
        f"; column source_id: 2 ids, such as {example}, are floating-point numbers that do not hold all "
        "their digits, so that one is the id of several stars; they are not used. Write this column as text "
        "or as whole numbers"
    )
    table["source_id"] = pd.array(whole, "Int64")
    write(tmp_path / name, index=False)
    assert "ids" not in str(planned(tmp_path / "other", tmp_path / name))
    assert [row["star"] for row in everything(tmp_path / "other")][:2] == [str(id_) for id_ in whole[:2]]


def test_a_column_of_files_with_folders_may_name_files_that_lie_flat(tmp_path: Path) -> None:
    root = spectra(tmp_path / "data", "b.fits")
    text = 'file\n20111024/F1/a.fits\n20111024/F1/b.fits\n/elsewhere/c.fits\n""\n'
    planned(tmp_path / "store", catalogue(tmp_path / "c.csv", text), files=str(root))
    assert [row["path"] for row in everything(tmp_path / "store")] == [
        f"{root}/a.fits",
        f"{root}/b.fits",
        "/elsewhere/c.fits",
        f"{tmp_path}/c.csv#row-4",
    ]


@pytest.mark.parametrize("there", [[], ["F2/" + NAMES[2], *NAMES]], ids=["nowhere", "in both ways"])
def test_files_that_are_nowhere_or_where_they_are_expected_keep_their_folders(
    tmp_path: Path, there: list[str]
) -> None:
    root = spectra(tmp_path / "data", *there)
    planned(tmp_path / "store", catalogue(tmp_path / "c.csv", CATALOGUE), files=str(root))
    assert names(tmp_path / "store", root) == [f"{name[11:13]}/{name}" for name in NAMES]


def test_rows_without_a_file_are_listed_and_counted_and_will_be_missing(tmp_path: Path) -> None:
    text = "lmjd,planid,spid,fiberid,ra\n55859,F1,3,7,1\n,F1,3,8,2\nx,F1,3,8,3\n"
    text += "55859,-9999,3,8,4\n55859,F1,3.5,8,10 13 34.7\n55859,F1,-1,8,6\n"
    result = planned(tmp_path / "store", catalogue(tmp_path / "c.csv", text))
    assert names(tmp_path / "store", tmp_path) == [
        "F1/spec-55859-F1_sp03-007.fits.gz",
        *(f"c.csv#row-{n}" for n in range(2, 7)),
    ]
    assert result.nameless == 5
    ra = [row["ra"] for row in everything(tmp_path / "store")]
    assert ra == [1, 2, 3, 4, pytest.approx(153.3945833), 6]
    assert isinstance(next(iter(fetch([str(tmp_path / "c.csv#row-2")]))), Refused)
    assert planned(tmp_path / "store", tmp_path / "c.csv").new_rows == 0


def test_a_parquet_catalogue_and_a_manifest_are_inputs_too(tmp_path: Path) -> None:
    values = {
        "file": ["a.fits", None],
        "source_id": [1234567890123456.0, None],
        "ra": pa.array([1, 2], pa.int32()),
        "obsid": ["5", "x"],
    }
    pq.write_table(pa.table(values), tmp_path / "c.parquet")
    planned(tmp_path / "store", tmp_path / "c.parquet")
    first, second = everything(tmp_path / "store")
    assert (first["star"], first["ra"], first["obsid"]) == ("1234567890123456", 1.0, 5)
    assert (second["path"], second["star"], second["obsid"]) == (f"{tmp_path}/c.parquet#row-2", None, None)
    root = spectra(tmp_path / "in", "a.fits")
    np.save(root / "X.npy", np.zeros((2, 3)))
    planned(tmp_path / "one", root)
    (part,) = (tmp_path / "one" / "manifest").iterdir()
    planned(tmp_path / "two", part)
    assert everything(tmp_path / "two") == everything(tmp_path / "one")


def test_only_a_manifest_has_rows_sizes_and_times_of_its_files(tmp_path: Path) -> None:
    root = spectra(tmp_path, "a.fits", "b.fits")
    source = catalogue(root / "c.csv", "path,row,size,rv\na.fits,1,0.5,3\nb.fits,2,0.6,4\n")
    planned(tmp_path / "store", source)
    rows = [(row["row"], row["size"], row["stamp"], row["rv"]) for row in everything(tmp_path / "store")]
    assert rows == [(-1, None, None, 3.0), (-1, None, None, 4.0)]


def test_a_real_catalogue_with_combined_columns(tmp_path: Path, shared: Path) -> None:
    source = shared / "labels" / "dr8_repeat_groups.csv"
    result = planned(tmp_path / "store", source, files="/lamost", shard=100)
    rows = everything(tmp_path / "store")
    assert (result.rows, result.shards, result.nameless, len(rows)) == (156, 2, 0, 156)
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
    result = planned(tmp_path / "store", shared / "labels" / name)
    assert result.nameless == 0
    assert result.new_rows + result.duplicates == (count or 7445)
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
@settings(max_examples=20, deadline=None)
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
    assert write_paths(parse_pattern(LAMOST), columns).to_pylist() == wanted
    as_text = {
        name: pa.array([f"{value}.0" if name == "spid" else str(value) for value in column.to_pylist()])
        for name, column in columns.items()
    }
    assert write_paths(parse_pattern(LAMOST), as_text).to_pylist() == wanted


# Errors


def refused(tmp_path: Path, source: Path | str, **more: object) -> str:
    with pytest.raises(ValueError) as caught:
        planned(tmp_path / "store", source, **more)
    assert not (tmp_path / "store" / "manifest.json").exists()
    return str(caught.value)


def test_inputs_without_a_spectrum_are_refused_with_a_reason_and_advice(tmp_path: Path) -> None:
    assert "no such file or folder; give" in refused(tmp_path, tmp_path / "none")
    spectra(tmp_path / "in", "b/a.txt")
    message = refused(tmp_path, tmp_path / "in")
    assert "holds no spectrum (1 other file, such as b/a.txt); give a folder with files .fits" in message
    spectra(tmp_path / "hidden", ".a.fits")
    assert "holds no spectrum (1 other file); give" in refused(tmp_path, tmp_path / "hidden")
    assert "if such a file is a spectrum, give sources=[ascii]" in message
    header_only = refused(tmp_path, catalogue(tmp_path / "head.csv", "file\n"))
    assert "head.csv: has no rows; give a table of spectra, or a catalogue with a row" in header_only
    assert "empty; give" in refused(tmp_path, catalogue(tmp_path / "empty.csv", ""))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04\0\0")
    assert "is no text, FITS, Parquet or .npy" in refused(tmp_path, tmp_path / "zip")
    np.save(tmp_path / "X.npy", np.zeros(3))
    assert "shape (3,); a table of spectra" in refused(tmp_path, tmp_path / "X.npy")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    assert "damaged, or another kind of file" in refused(tmp_path, tmp_path / "bad.parquet")


def test_a_large_fits_file_is_taken_for_a_catalogue(tmp_path: Path) -> None:
    with (tmp_path / "dr8.fits").open("wb") as file:
        file.truncate(files.LARGEST + 1)
    assert "is no spectrum; if it is a catalogue, give it as CSV or Parquet" in refused(
        tmp_path, tmp_path / "dr8.fits"
    )


def test_a_catalogue_without_usable_columns_is_refused_with_the_columns_it_needs(tmp_path: Path) -> None:
    message = refused(tmp_path, catalogue(tmp_path / "c.csv", "name,teff\na,5000\n"))
    assert "found name, teff; needed is a column path, file" in message
    message = refused(tmp_path, tmp_path / "c.csv", pattern="{obsid}.fits")
    assert "the pattern needs the column obsid, found name, teff; give" in message
    for bad in ("{name:5x}", "{name!r}", "{}.fits", "{name", "constant.fits"):
        assert f"ingest: pattern: {bad!r}" in refused(tmp_path, tmp_path / "c.csv", pattern=bad)


def test_a_malformed_line_and_a_cut_catalogue_are_named(tmp_path: Path) -> None:
    message = refused(tmp_path, catalogue(tmp_path / "c.csv", "file,ra\na.fits,1\nb.fits,2\nc.fits\n"))
    assert "Row #4: Expected 2 columns, got 1: c.fits" in message
    whole = gzip.compress(
        b"file\n" + b"".join(b"%d.fits\n" % i for i in np.random.default_rng(1).integers(0, 1 << 60, 20000))
    )
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-5000])
    assert f"ingest: {tmp_path}/cut.csv.gz: " in refused(tmp_path, tmp_path / "cut.csv.gz")
    (tmp_path / "latin.csv").write_bytes("file\na.fits\né.fits\n".encode("latin-1"))
    assert "save the table as text in UTF-8" in refused(tmp_path, tmp_path / "latin.csv")


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    for values in ({"shard": 0}, {"shard": 20001}, {"compare": "mtime"}, {"reread": "yes"}):
        assert next(iter(values)) in refused(tmp_path, tmp_path, **values)


def test_a_missing_or_damaged_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest.json; make the store"):
        open_manifest(str(tmp_path))
    for text in ("{", "[]", '{"format": 4}', '{"format": 99}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest.json: (damaged|format 99)"):
            open_manifest(str(tmp_path))


@given(
    st.one_of(st.binary(max_size=200), st.text('path,ra|\n"1.5e-#\ufeff', max_size=60).map(str.encode)),
    st.sampled_from([b"", b"PAR1", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08\x00", b"path,ra\n"]),
    st.sampled_from(["c.csv", "X.npy", "t.parquet", "c.csv.gz"]),
)
@settings(max_examples=100, deadline=None)
def test_an_input_of_any_bytes_is_planned_or_refused_with_its_name(
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
    assert manifest.shard(142).num_rows == 6
    assert list(COLUMNS) == manifest.shard(0).column_names
    with pytest.raises(ValueError, match="there is no shard 143; there are 143"):
        manifest.shard(143)


def test_a_row_that_is_listed_twice_is_taken_once_and_counted(tmp_path: Path) -> None:
    text = "file,ra\na.fits,1\nb.fits,2\na.fits,3\n./a.fits,4\nx//b.fits,5\nx/b.fits,6\na.fits.gz,7\n"
    result = planned(tmp_path / "store", catalogue(tmp_path / "c.csv", text))
    assert [(row["path"], row["ra"]) for row in everything(tmp_path / "store")] == [
        (str(tmp_path / name), ra) for name, ra in (("a.fits", 1), ("b.fits", 2), ("x/b.fits", 5))
    ]
    assert (result.new_rows, result.duplicates, result.known) == (3, 4, 0)
    again = planned(tmp_path / "store", tmp_path / "c.csv")
    assert (again.new_rows, again.duplicates, again.known) == (0, 4, 3)


# Growth


def test_a_second_night_comes_after_the_first_and_old_shards_stay(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"night2/{i}.fits" for i in range(5)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    before = [open_manifest(str(store)).shard(i) for i in range(3)]
    (part,) = (store / "manifest").iterdir()
    content = part.read_bytes()
    spectra(root, "night1/a.fits", "night1/b.fits", "night1/c.fits")
    result = planned(store, root, shard=2)
    manifest = open_manifest(str(store))
    assert [manifest.shard(i) for i in range(3)] == before
    assert part.read_bytes() == content
    assert [manifest.rows_in(i) for i in range(manifest.shards)] == [2, 2, 1, 2, 1]
    assert names(store, root)[5:] == ["night1/a.fits", "night1/b.fits", "night1/c.fits"]
    assert (result.new_rows, result.known, result.rows, result.shards) == (3, 5, 8, 5)
    assert [(listed.input, listed.rows, listed.first_shard) for listed in manifest.inputs] == [
        (str(root), 5, 0),
        (str(root), 3, 3),
    ]


def test_a_plan_without_new_rows_does_not_change_the_manifest(tmp_path: Path) -> None:
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


def test_another_shard_size_is_refused_for_an_existing_store(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits")
    planned(tmp_path / "store", root, shard=10)
    with pytest.raises(SettingsError, match="has shards of 10; give shard=10 or another store="):
        planned(tmp_path / "store", root, shard=20)


def test_changed_and_vanished_files_are_reported(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"{i}.fits" for i in range(6)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    (root / "1.fits").write_bytes(b"longer than it was before")
    os.utime(root / "4.fits", (1, 1))
    (root / "5.fits").unlink()
    result = planned(store, root, shard=2)
    assert (result.changed, result.examples, result.vanished, result.redo, result.compared) == (
        2,
        (f"{root}/1.fits", f"{root}/4.fits"),
        1,
        (),
        5,
    )
    assert planned(store, root, shard=2, compare="size").examples == (f"{root}/1.fits",)
    assert planned(store, root, shard=2, compare="none").compared == 0
    assert "known files not compared" in str(planned(store, root, shard=2, compare="none"))
    assert len(everything(store)) == 6


def test_reread_marks_only_the_shards_of_changed_files(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", *(f"{i:03d}.fits" for i in range(200)))
    store = tmp_path / "store"
    planned(store, root, shard=2)
    spectra(root, "zzz.fits")
    planned(store, root, shard=2)
    before = everything(store)
    for name in ("003.fits", "150.fits", "zzz.fits"):
        (root / name).write_bytes(b"longer than it was before")
    result = planned(store, root, shard=2, reread=True)
    assert (result.redo, result.changed, result.new_rows) == ((1, 75, 100), 3, 0)
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
    result = planned(store, root, shard=2, reread=True)
    assert (result.redo, result.new_rows) == ((1,), 1)
    assert open_manifest(str(store)).versions == {1: 2, 75: 1, 100: 1}


@given(st.sets(st.integers(0, 60)))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_taken_out_of_their_shards_and_all_others_stay(tmp_path: Path, rows: set[int]) -> None:
    store = tmp_path / "store"
    if not store.exists():
        planned(store, spectra(tmp_path / "in", *(f"{i:03d}.fits" for i in range(40))), shard=2)
        planned(
            store,
            spectra(tmp_path / "more", *(f"{i:03d}.fits" for i in range(21))),
            shard=2,
            copies_above=1.0,
        )
    manifest = open_manifest(str(store))
    smaller = without_rows(manifest, np.array(sorted(rows), np.int64))
    assert smaller.shards == manifest.shards
    assert smaller.rows == manifest.rows - len(rows) == sum(record.rows for record in smaller.inputs)
    for shard in range(manifest.shards):
        first, before = manifest.first_row(shard), manifest.shard(shard).to_pylist()
        kept = [row for number, row in enumerate(before, first) if number not in rows]
        assert smaller.shard(shard).to_pylist() == kept
        assert smaller.rows_in(shard) == len(kept)
        assert smaller.versions.get(shard, 0) == (len(kept) < len(before))
    numbers = np.arange(smaller.rows)
    expected = np.repeat(np.arange(smaller.shards), [smaller.rows_in(i) for i in range(smaller.shards)])
    np.testing.assert_array_equal(smaller.shards_of(numbers), expected)


def test_a_manifest_with_smaller_shards_is_saved_extended_and_compared(tmp_path: Path) -> None:
    root, store = spectra(tmp_path / "in", *(f"{i}.fits" for i in range(7))), tmp_path / "store"
    planned(store, root, shard=3)
    without_rows(open_manifest(str(store)), np.array([0, 1, 2, 4])).save()
    manifest = open_manifest(str(store))
    assert [manifest.rows_in(shard) for shard in range(3)] == [0, 2, 1]
    assert names(store, root) == ["3.fits", "5.fits", "6.fits"]
    (root / "5.fits").write_bytes(b"longer than it was before")
    result = planned(store, root, shard=3, reread=True)
    assert (result.redo, result.new_rows, result.rows) == ((1,), 4, 7)
    assert names(store, root) == [f"{i}.fits" for i in (3, 5, 6, 0, 1, 2, 4)]


def test_the_folder_of_a_manifest_holds_all_its_inputs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    planned(store, spectra(tmp_path / "in/one", "a.fits"))
    assert open_manifest(str(store)).folder == str(tmp_path / "in/one")
    table = catalogue(tmp_path / "c.csv", "file\nb.fits\n")
    planned(store, table, files=str(tmp_path / "in/two"))
    assert open_manifest(str(store)).folder == str(tmp_path / "in")
    planned(store, spectra(tmp_path, "d.fits") / "d.fits")
    assert open_manifest(str(store)).folder == str(tmp_path)
    planned(store, catalogue(tmp_path / "r.csv", "file\nb.fits\n"), files="s3://bucket/x")
    assert open_manifest(str(store)).folder == ""


def test_a_file_that_was_gzipped_later_is_the_same_spectrum_in_a_changed_file(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits")
    planned(tmp_path / "store", root)
    (root / "a.fits").unlink()
    (root / "a.fits.gz").write_bytes(gzip.compress(b"SIMPLE  = a.fits"))
    result = planned(tmp_path / "store", root, reread=True)
    assert (result.new_rows, result.changed, result.vanished, result.redo) == (0, 1, 0, (0,))
    assert names(tmp_path / "store", root) == ["a.fits.gz", "b.fits"]


def test_a_comparison_by_content_finds_changes_with_equal_size_and_time(tmp_path: Path) -> None:
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
    result = plan(wanted, str(store), known)
    assert (result.examples, result.compared, result.redo) == (
        (f"{root}/b.fits", f"{root}/late.fits"),
        4,
        (0, 1),
    )
    assert everything(store)[3]["size"] == (root / "late.fits").stat().st_size
    with pytest.raises(SettingsError, match="there are no checksums of"):
        plan(wanted, str(store))


# Killed plans


def test_parts_that_the_manifest_does_not_list_are_removed(tmp_path: Path) -> None:
    root = spectra(tmp_path / "in", "a.fits", "b.fits")
    store = tmp_path / "store"
    (store / "manifest").mkdir(parents=True)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        (store / "manifest" / name).write_bytes(b"half a part")
    planned(store, root)
    assert names(store, root) == ["a.fits", "b.fits"]
    (part,) = open_manifest(str(store)).parts
    assert [path.name for path in (store / "manifest").iterdir()] == [part.file]


def test_a_plan_that_comes_too_late_does_not_change_the_rows_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = spectra(tmp_path / "in", "b.fits", "c.fits")
    store = tmp_path / "store"
    planned(store, root)
    first = everything(store)
    spectra(root, "a.fits")
    with monkeypatch.context() as late:  # it looked before the first was saved
        late.setattr(planning, "_old_manifest", lambda settings, path, checksums, keys: Manifest(path, 1000))
        with pytest.raises(ValueError, match="another job has changed the manifest meanwhile"):
            planned(store, root)
    assert everything(store) == first


@pytest.mark.kill
@pytest.mark.parametrize("parts", [1, pytest.param(8, marks=pytest.mark.long)])
def test_a_killed_plan_is_made_again_with_the_same_rows(tmp_path: Path, parts: int) -> None:
    source = catalogue(
        tmp_path / "c.csv", "path\n" + "".join(f"/data/{i}.fits\n" for i in range(25_000 * parts + 25_000))
    )
    code = (
        "from survey.store.manifest import plan; from survey.store.settings import Input; "
        f"plan(Input(input={str(source)!r}, shard=50), {str(tmp_path / 'killed')!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not [*tmp_path.glob(f"killed/manifest/part-{parts:05d}-*")]:
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
@settings(max_examples=50, deadline=None)
def test_a_key_set_agrees_with_a_python_set(batches: list[list[int]]) -> None:
    keys, expected_keys = KeySet(), set[int]()
    for batch in batches:
        expected = [key not in expected_keys and key not in batch[:index] for index, key in enumerate(batch)]
        assert keys.add(np.array(batch, np.complex128)).tolist() == expected
        expected_keys.update(batch)


@given(st.sets(st.integers(0, 40)), st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_look_up_gives_the_row_of_each_key_and_marks_it_once(
    key_set: set[int], batches: list[list[int]]
) -> None:
    order = list(key_set)
    keys, listed_again = ListedKeys(np.array(order, np.complex128)), set[int]()
    for batch in batches:
        row, newly_listed = keys.look_up(np.array(batch, np.complex128))
        assert row.tolist() == [order.index(key) if key in key_set else -1 for key in batch]
        assert newly_listed.tolist() == [
            key in key_set and key not in listed_again and key not in batch[:index]
            for index, key in enumerate(batch)
        ]
        listed_again |= key_set & set(batch)
    assert np.flatnonzero(keys.listed_again).tolist() == sorted(order.index(key) for key in listed_again)


def test_keys_differ_for_other_paths_and_rows() -> None:
    names = ("a.npy", "b.npy", "a.npyx", "a.fits", "ä.fits")
    keys = [keys_of(manifest_rows(5, {"path": name, "row": range(5)})) for name in names]
    assert len(np.unique(np.concatenate(keys))) == 25
    gzipped, plain = (manifest_rows(1, {"path": name, "row": -1}) for name in ("a.fits.gz", "a.fits"))
    assert keys_of(gzipped) == keys_of(plain)


ITEMS = st.integers(0, 25)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(ITEMS, min_size=1, max_size=12)), min_size=1, max_size=5
    ),
    st.integers(1, 5),
)
@settings(max_examples=20, deadline=None)
def test_growing_inputs_give_every_spectrum_once_in_stable_shards(
    tmp_path_factory: pytest.TempPathFactory, nights: list[tuple[str, list[int]]], shard: int
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    wanted: list[int] = []
    shards: list[pa.Table] = []
    for which, items in nights:
        source = catalogue(folder / f"{which}.csv", "path\n" + "".join(f"{item}.fits\n" for item in items))
        result = planned(folder / "store", source, shard=shard)
        new = [item for item in dict.fromkeys(items) if item not in wanted]
        assert (result.new_rows, result.known + result.duplicates) == (len(new), len(items) - len(new))
        assert result.known == len(set(items) & set(wanted))
        wanted += new
        manifest = open_manifest(str(folder / "store"))
        now = [manifest.shard(i) for i in range(manifest.shards)]
        assert now[: len(shards)] == shards
        assert names(folder / "store", folder) == [f"{item}.fits" for item in wanted]
        assert [manifest.rows_in(i) for i in range(manifest.shards)] == [part.num_rows for part in now]
        shards = now


@pytest.mark.parametrize("count", [70_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_many_rows_are_planned(tmp_path: Path, count: int) -> None:
    number = np.arange(count)
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
    result = planned(tmp_path / "store", tmp_path / "c.csv")
    assert (result.rows, result.shards) == (count, count // 1000)
    assert (
        open_manifest(str(tmp_path / "store")).shard(count // 1000 - 1)["star"][-1].as_py() == f"J{count - 1}"
    )
