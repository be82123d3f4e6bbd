"""The files of a store that come again under another path: a folder that was moved or copied."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.settings import SettingsError
from survey.store import manifest
from survey.store.ingest import IngestResult, ingest
from survey.store.manifest import open_manifest
from survey.store.settings import Ingest
from tests import survey_files

PREPARE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
ARRAYS = {"arrays": {"grid": {"start": 3900.0, "stop": 8600.0, "step": 10.0}}}


def ingested(place: Path, source: Path, **changes: Any) -> IngestResult:
    values = {"input": str(source), "store": str(place / "store"), "shard": 4, "prepare": PREPARE}
    return ingest(Ingest.from_dict("ingest", values | {"refuse_above": 1.0} | changes))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A folder of ten files, of which there is a store."""
    survey_files.write(tmp_path / "in", range(10), broken=False)
    ingested(tmp_path, tmp_path / "in")
    return tmp_path / "in"


def move(old: Path, new: Path) -> None:
    old.rename(new)


def copy(old: Path, new: Path) -> None:
    shutil.copytree(old, new, copy_function=shutil.copyfile)  # with new times


@pytest.mark.parametrize("put", [move, copy])
def test_a_moved_or_copied_folder_is_refused_and_changes_nothing(
    tmp_path: Path, first: Path, put: Any
) -> None:
    put(first, tmp_path / "other")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    with pytest.raises(SettingsError) as error:
        ingested(tmp_path, tmp_path / "other")
    assert "about 10 of 10 new rows are copies of files" in str(error.value)
    assert f"{tmp_path}/other/{survey_files.name(0)} is {first}/{survey_files.name(0)}" in str(error.value)
    assert "another store=, or copies_above=1" in str(error.value)
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_another_job_is_told_its_own_keys(tmp_path: Path, first: Path) -> None:
    copy(first, tmp_path / "other")
    store = str(tmp_path / "store")
    old = open_manifest(store)
    for shard, advice in (
        (old.shard_size, r"another predictions=, or ingest\.copies_above=1"),
        (old.shard_size + 1, rf"give ingest\.shard={old.shard_size} or another predictions="),
    ):
        settings = Ingest(input=str(tmp_path / "other"), store=store, shard=shard)
        with pytest.raises(SettingsError, match=advice):
            manifest.plan(settings, store, section="ingest.", output="predictions")


def test_copies_are_taken_if_a_setting_allows_it_and_counted(tmp_path: Path, first: Path) -> None:
    copy(first, tmp_path / "other")
    result = ingested(tmp_path, tmp_path / "other", copies_above=1.0)
    assert (result.document.written, result.plan.copies) == (20, 10)
    assert "10 copies of files that have another path" in str(result.plan)
    assert ingested(tmp_path, tmp_path / "other").plan.copies == 0  # they have been known since


def test_one_copy_among_many_new_files_is_counted_only(tmp_path: Path, first: Path) -> None:
    survey_files.write(tmp_path / "more", range(20, 45), broken=False)
    shutil.copyfile(first / survey_files.name(3), tmp_path / "more" / survey_files.name(3))
    assert ingested(tmp_path, tmp_path / "more").plan.copies == 1


def test_a_catalogue_that_names_copies_is_refused_too(tmp_path: Path, first: Path) -> None:
    copy(first, tmp_path / "other")
    table = tmp_path / "table.csv"
    table.write_text("filename\n" + "\n".join(survey_files.name(number) for number in range(10)))
    with pytest.raises(SettingsError, match="about 10 of 10 new rows are copies"):
        ingested(tmp_path, table, files=str(tmp_path / "other"))


def test_files_of_the_same_names_and_sizes_are_no_copies(tmp_path: Path, first: Path) -> None:
    (tmp_path / "second").mkdir()
    for number in (1, 2, 4, 5):  # those that are not gzipped
        data = survey_files.file(number + 100)
        assert len(data) == (first / survey_files.name(number)).stat().st_size
        (tmp_path / "second" / survey_files.name(number)).write_bytes(data)
    result = ingested(tmp_path, tmp_path / "second")
    assert (result.plan.copies, result.document.written) == (0, 14)


def test_arrays_of_two_nights_differ_and_a_copied_array_does_not(tmp_path: Path) -> None:
    for seed, night in enumerate(("a", "b")):
        (tmp_path / night).mkdir()
        flux = np.random.default_rng(seed).normal(1, 0.1, (6, 471)).astype(np.float32)
        np.save(tmp_path / night / "X.npy", flux)
        ingested(tmp_path, tmp_path / night, options=ARRAYS)
    assert open_manifest(str(tmp_path / "store")).rows == 12
    copy(tmp_path / "b", tmp_path / "c")
    with pytest.raises(SettingsError, match=r"about \d+ of 6 new rows are copies"):
        ingested(tmp_path, tmp_path / "c", options=ARRAYS)


def test_an_array_that_was_moved_is_known_by_its_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "X.npy", np.random.default_rng(1).normal(1, 0.1, (6, 471)))
    ingested(tmp_path, tmp_path / "a", options=ARRAYS)
    move(tmp_path / "a", tmp_path / "b")
    with pytest.raises(SettingsError, match="about 6 of 6 new rows are copies"):
        ingested(tmp_path, tmp_path / "b", options=ARRAYS)


def test_rows_of_a_wrong_attempt_are_no_copies(tmp_path: Path) -> None:
    survey_files.write(tmp_path / "in", range(4), broken=False)
    table = tmp_path / "table.csv"
    table.write_text("filename\n" + "\n".join(survey_files.name(number) for number in range(4)))
    ingested(tmp_path, table, files=str(tmp_path / "wrong"))
    result = ingested(tmp_path, table, files=str(tmp_path / "in"), forget="missing")
    assert (result.plan.copies, result.plan.forgotten, result.document.written) == (0, 4, 4)
