"""Predictions of survey files: the same rows as through a store, and the spectra are not kept."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.predict.predict import PredictResult
from survey.reports.predict import summary
from survey.settings import SettingsError
from survey.store.ingest import RefusalsError
from tests import survey_files
from tests.ensemble import untrained
from tests.predict.small_predictions import predicted


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten files and three broken ones, and an ensemble of three members."""
    folder = tmp_path_factory.mktemp("origin")
    untrained.three(folder / "ensemble", untrained.store(folder, broken=True))
    return folder


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """The files and the ensemble, without the store."""
    survey_files.write(tmp_path / "files", range(10), broken=True)
    shutil.copytree(origin / "ensemble", tmp_path / "ensemble")
    return tmp_path


def from_files(folder: Path, **changes: Any) -> tuple[PredictResult, pa.Table]:
    """The predictions of the files of a folder, four in each shard."""
    ingest = {"shard": 4} | changes.pop("ingest", {})
    values = {"store": None, "input": str(folder / "files"), "refuse_above": 1.0, "ingest": ingest}
    return predicted(folder, **(values | changes))


def test_files_give_the_rows_of_their_store_to_the_last_bit(origin: Path, tmp_path: Path) -> None:
    _, stored = predicted(origin, predictions=str(tmp_path / "stored"), refuse_above=1.0, members=True)
    result, fresh = from_files(origin, predictions=str(tmp_path / "fresh"), members=True)
    pd.testing.assert_frame_equal(stored.to_pandas(), fresh.to_pandas())
    document = result.document
    assert (document.rows_in, document.rows) == (13, 10)
    assert document.refused == {"empty": 1, "not_fits": 1, "bad_gzip": 1}
    assert document.source.kind == "files"


def test_the_spectra_are_not_kept(place: Path) -> None:
    from_files(place)
    folder = place / "predictions"
    assert {path.name for path in folder.iterdir()} == {
        *("settings.json", "plan.json", "predictions.json", "manifest.json", "validation.parquet"),
        "shards.parquet",
        *("manifest", "markers", "predictions", "refused"),
    }
    assert not {"flux", "ivar"} & set(pq.read_schema(folder / "predictions" / "part-00000.parquet").names)


def test_refused_files_are_listed_with_their_reasons(place: Path) -> None:
    result, _ = from_files(place)
    paths = sorted((place / "predictions" / "refused").iterdir())
    refused = pa.concat_tables(pq.read_table(path) for path in paths).to_pandas()
    assert dict(zip(refused["path"].map(os.path.basename), refused["reason"], strict=True)) == {
        "broken-0.fits": "empty",
        "broken-1.fits": "not_fits",
        "broken-2.fits.gz": "bad_gzip",
    }
    assert "bad_gzip: " in summary(result)


def test_too_many_refusals_fail_the_job_after_everything_is_written(place: Path) -> None:
    message = (
        r"complete, but 3 of 13 rows \(23.1%\) were refused, "
        rf"more than refuse_above=0.1 allows \(bad_gzip 1, such as {place}/files/.*; "
        r"empty 1, such as .*broken-0.fits: no bytes; not_fits 1, such as .*: starts with"
    )
    with pytest.raises(RefusalsError, match=message):
        from_files(place, refuse_above=0.1)
    with pytest.raises(RefusalsError, match=r"refuse_above=0\.2 allows"):
        from_files(place, refuse_above=None, ingest={"refuse_above": 0.2})
    assert from_files(place)[0].created == 0


def test_new_files_are_added_and_files_that_return_are_read(place: Path) -> None:
    path = place / "files" / survey_files.name(3)
    data = path.read_bytes()
    alone, _ = from_files(place)
    assert "inputs" not in summary(alone)
    assert f"next       survey catalog RECIPE predictions={place}/predictions catalog=" in summary(alone)
    survey_files.write(place / "next", range(10, 15))
    result, table = from_files(place, input=str(place / "next"))
    text = f"inputs     these are the spectra of 2 inputs: {place}/files, {place}/next\n"
    assert text in summary(result)
    assert "for those of one input alone, give another predictions=" in summary(result)
    assert (result.created, result.document.rows, table.num_rows) == (2, 15, 15)
    path.unlink()
    for marker in (place / "predictions" / "markers").iterdir():
        marker.unlink()
    lost, _ = from_files(place)
    assert (lost.document.rows, lost.document.refused["missing"]) == (14, 1)
    path.write_bytes(data)
    returned, table = from_files(place, ingest={"reread": True})
    assert (returned.created, returned.document.rows) == (1, 15)
    assert sorted(table["obsid"].to_pylist()) == [1000 + number for number in range(15)]


def test_a_changed_file_is_read_again_if_wanted(place: Path) -> None:
    from_files(place)
    path = place / "files" / survey_files.name(2)
    path.write_bytes(survey_files.file(102))
    os.utime(path, (2e9, 2e9))
    unchanged, _ = from_files(place)
    assert unchanged.created == 0
    assert f"changed    1 files, such as {path}; give ingest.reread=true" in summary(unchanged)
    result, table = from_files(place, ingest={"reread": True})
    assert result.created == 1
    assert 1102 in table["obsid"].to_pylist()


def test_files_are_prepared_like_the_training_spectra(place: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"ingest.prepare: .* not prepared like .* member both: continuum is msfl, not segment; "
        "prepare them with ingest.prepare.continuum=segment, or give",
    ):
        from_files(place, ingest={"prepare": {"continuum": "msfl"}})
    grid = {"start": 4000.0, "stop": 8500.0, "step": 20.0, "scale": "linear"}
    with pytest.raises(ValueError, match=r"predict: ingest.prepare.grid: .*226 linear points"):
        from_files(place, ingest={"prepare": {"grid": grid}})
    assert not (place / "predictions").exists()
    gates = {"low_snr": {"limit": 1000.0, "then": "refuse"}}
    result, _ = from_files(place, ingest={"prepare": {"gates": gates}})
    assert result.document.refused["low_snr"] == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "nowhere"}, "nowhere: no such file or folder"),
        ({"ingest": {"sources": ["lamst"]}}, "there is no source 'lamst'; did you mean lamost"),
        ({"ingest": {"options": {"lamost": {"mrs": "both"}}}}, "should be 'coadd' or 'single'"),
    ],
)
def test_mistakes_in_the_input_are_reported(place: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((SettingsError, ValueError, FileNotFoundError), match=message):
        from_files(place, **changes)


def test_a_shard_whose_files_are_all_refused_has_no_rows(place: Path) -> None:
    shutil.rmtree(place / "files")
    survey_files.write(place / "files", range(0), broken=True)
    result, table = from_files(place, embeddings=True, arrays=True)
    assert (result.document.rows_in, result.document.rows, table.num_rows) == (3, 0, 0)
    assert np.load(place / "predictions" / "arrays" / "labels.npy").shape == (0, 2)
