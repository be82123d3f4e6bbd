"""Predictions straight from survey files: the rows of the road over a store, with nothing of the spectra kept."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.predict.output import open_predictions
from survey.predict.predict import Predict, Report, predict
from survey.reports.predict import summary
from survey.settings import SettingsError
from survey.store.ingest import RefusalsError
from tests import survey_files
from tests.ensemble import askable


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten files and three broken ones, and an ensemble of three."""
    folder = tmp_path_factory.mktemp("origin")
    askable.three(folder / "ensemble", askable.store(folder, broken=True))
    return folder


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """The files and the ensemble alone."""
    survey_files.write(tmp_path / "files", range(10), broken=True)
    shutil.copytree(origin / "ensemble", tmp_path / "ensemble")
    return tmp_path


def made(folder: Path, **given: Any) -> tuple[Report, pa.Table]:
    values = {
        "ensemble": str(folder / "ensemble"),
        "predictions": str(folder / "said"),
        "threads": 1,
        "batch": 3,
        "refuse_above": 1.0,
    }
    values |= {"input": str(folder / "files"), "ingest": {"shard": 4, **given.pop("ingest", {})}}
    report = predict(Predict.checked("predict", values | given))
    return report, pa.concat_tables(open_predictions(report.path).tables())


def test_files_give_the_rows_that_their_store_gives_to_the_last_bit(origin: Path, tmp_path: Path):
    _, stored = made(
        origin, predictions=str(tmp_path / "stored"), input=None, store=str(origin / "store"), members=True
    )
    report, fresh = made(origin, predictions=str(tmp_path / "fresh"), members=True)
    pd.testing.assert_frame_equal(stored.to_pandas(), fresh.to_pandas())
    assert (report.about["rows_in"], report.about["rows"]) == (13, 10)
    assert report.about["refused"] == {"empty": 1, "not_fits": 1, "bad_gzip": 1}
    assert report.about["source"]["kind"] == "files"


def test_nothing_of_the_spectra_is_kept(place: Path):
    made(place)
    assert {path.name for path in (place / "said").iterdir()} == {
        *("settings.json", "plan.json", "predictions.json", "manifest.json", "validation.parquet"),
        *("manifest", "markers", "predictions", "refused"),
    }  # fmt: skip
    assert not {"flux", "ivar"} & set(
        pq.read_schema(place / "said" / "predictions" / "part-00000.parquet").names
    )


def test_refused_files_are_named_with_their_reasons(place: Path):
    report, _ = made(place)
    refused = pa.concat_tables(
        pq.read_table(path) for path in sorted((place / "said" / "refused").iterdir())
    ).to_pandas()
    assert dict(zip(refused["path"].map(os.path.basename), refused["reason"], strict=True)) == {
        "broken-0.fits": "empty",
        "broken-1.fits": "not_fits",
        "broken-2.fits.gz": "bad_gzip",
    }
    assert "bad_gzip: the gzip stream is damaged" in summary(report)


def test_too_many_refusals_fail_the_job_after_all_is_written(place: Path):
    told = r"complete, but 3 of 13 rows \(23.1%\) were refused, more than refuse_above=0.1 allows \(bad_gzip 1, empty 1, not_fits 1\)"
    with pytest.raises(RefusalsError, match=told):
        made(place, refuse_above=0.1)
    with pytest.raises(RefusalsError, match=r"refuse_above=0\.2 allows"):
        made(place, refuse_above=None, ingest={"refuse_above": 0.2})
    assert made(place)[0].made == 0


def test_another_night_is_appended_and_files_that_came_back_are_read(place: Path):
    missing = place / "files" / survey_files.name(3)
    kept = missing.read_bytes()
    made(place)
    survey_files.write(place / "next", range(10, 15))
    report, table = made(place, input=str(place / "next"))
    assert (report.made, report.about["rows"], table.num_rows) == (2, 15, 15)
    missing.unlink()
    for path in (place / "said" / "markers").iterdir():
        path.unlink()
    lost, _ = made(place)
    assert (lost.about["rows"], lost.about["refused"]["missing"]) == (14, 1)
    missing.write_bytes(kept)
    again, table = made(place, ingest={"reread": True})
    assert (again.made, again.about["rows"]) == (1, 15)
    assert sorted(table["obsid"].to_pylist()) == [1000 + number for number in range(15)]


def test_a_changed_file_is_read_again_where_that_is_wanted(place: Path):
    made(place)
    path = place / "files" / survey_files.name(2)
    path.write_bytes(survey_files.file(102))
    os.utime(path, (2e9, 2e9))
    left, _ = made(place)
    assert left.made == 0
    assert f"changed    1 files since, such as {path}; ingest.reread=true reads them again" in summary(left)
    report, table = made(place, ingest={"reread": True})
    assert report.made == 1
    assert 1102 in table["obsid"].to_pylist()


def test_files_are_prepared_as_the_spectra_of_the_training(place: Path):
    with pytest.raises(
        SettingsError,
        match=r"ingest.prepare: the spectra are prepared otherwise .* member both .*: continuum is msfl, not segment",
    ):
        made(place, ingest={"prepare": {"continuum": "msfl"}})
    with pytest.raises(ValueError, match=r"predict: ingest.prepare: its grid has 226 linear points"):
        made(
            place,
            ingest={"prepare": {"grid": {"start": 4000.0, "stop": 8500.0, "step": 20.0, "scale": "linear"}}},
        )
    assert not (place / "said").exists()
    lenient = {"gates": {"low_snr": {"limit": 1000.0, "then": "refuse"}}}
    assert made(place, ingest={"prepare": lenient})[0].about["refused"]["low_snr"] == 10


def test_mistakes_in_the_input_are_told_as_the_ingest_tells_them(place: Path):
    for given, told in (
        ({"input": "nowhere"}, "nowhere: no such file or folder"),
        ({"ingest": {"sources": ["lamst"]}}, "there is no source 'lamst'; there are"),
        ({"ingest": {"options": {"lamost": {"mrs": "both"}}}}, "should be 'coadd' or 'single'"),
    ):
        with pytest.raises((SettingsError, ValueError), match=told):
            made(place, predictions=str(place / told[:5].strip()), **given)


def test_a_shard_of_which_every_file_is_refused_is_a_shard_without_rows(place: Path):
    shutil.rmtree(place / "files")
    survey_files.write(place / "files", range(0), broken=True)
    report, table = made(place, embeddings=True, arrays=True)
    assert (report.about["rows_in"], report.about["rows"], table.num_rows) == (3, 0, 0)
    assert np.load(place / "said" / "arrays" / "labels.npy").shape == (0, 2)
