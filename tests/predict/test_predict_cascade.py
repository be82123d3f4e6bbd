"""Predictions by a cascade are as safe as others, and the catalog knows which stars were ruled out."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from survey import files
from survey.catalog.catalog import make_catalog
from survey.catalog.settings import CatalogSettings
from survey.ensemble.cascade import CASCADE
from survey.estimate.settings import Prices
from survey.estimate.shard_work import estimate_prediction
from survey.predict.output import POPULATION, VALIDATION, open_predictions
from survey.predict.predict import predict
from survey.reports.predict import summary
from survey.settings import JobError, SettingsError
from tests.ensemble import small_cascade
from tests.finished import change_document
from tests.predict.small_predictions import numbers, predicted, settings, stopped_after
from tests.training import lessons


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble with its cascade, and a store of other stars to predict, `sky`."""
    folder = small_cascade.make(tmp_path_factory.mktemp("predictions"))
    lessons.store(folder / "others" / "store", 500, seed=9, first=90_000, with_indices=True)
    (folder / "others" / "store").rename(folder / "sky")
    return folder


def predict_sky(place: Path, to: Path, **changes: Any) -> pa.Table:
    """The rows that are predicted of the other stars."""
    given = {"store": str(place / "sky"), "predictions": str(to), "batch": 16, "gpu": "never"}
    return predicted(place, **given | changes)[1]


@pytest.fixture(scope="module")
def said(place: Path) -> Path:
    """The predictions of the other stars by the cascade; tests do not change them."""
    predict_sky(place, place / "said", cascade=True)
    return place / "said"


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    """Those by the ensemble alone; tests do not change them."""
    predict_sky(place, place / "plain")
    return place / "plain"


def table_of(folder: Path) -> pa.Table:
    return pa.concat_tables(open_predictions(str(folder)).tables())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of predictions that hold no time."""
    names = ("predictions", "markers", VALIDATION, POPULATION)
    paths = [path for name in names for path in [folder / name, *sorted((folder / name).glob("*"))]]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def test_rows_that_go_on_are_those_of_the_ensemble(place: Path, said: Path, plain: Path) -> None:
    expected, cascade = table_of(plain), table_of(said)
    assert set(cascade.column_names) == {*expected.column_names, "ruled_out"}
    ruled_out = cascade["ruled_out"].to_numpy()
    assert 0.1 < ruled_out.mean() < 0.6
    for name in ("p_mp", "p_cemp", "FeH", "FeH_err", "CFe_low", "domain"):
        both = numbers(expected, name), numbers(cascade, name)
        assert both[1][~ruled_out] == pytest.approx(both[0][~ruled_out], rel=1e-4, abs=1e-5), name
        assert not np.allclose(both[0][ruled_out], both[1][ruled_out]), name
    document = open_predictions(str(said)).document
    assert document.cascade is not None
    assert document.cascade.ruled_out == ruled_out.sum()
    assert open_predictions(str(plain)).document.cascade is None
    kept = said / VALIDATION, place / "ensemble" / CASCADE.name / VALIDATION
    assert kept[0].read_bytes() == kept[1].read_bytes()


def test_members_are_null_where_a_member_has_not_looked(place: Path, tmp_path: Path) -> None:
    table = predict_sky(place, tmp_path / "said", cascade=True, members=True)
    ruled_out = table["ruled_out"].to_numpy()
    slow, fast = (np.isfinite(numbers(table, name)) for name in ("m0_FeH", "m1_FeH"))
    assert np.array_equal(slow, ~ruled_out)
    assert fast.all()


def test_features_of_some_members_only_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cascade, embeddings: both are given.*leave out cascade="):
        predict_sky(place, tmp_path / "said", cascade=True, embeddings=True)
    assert not (tmp_path / "said").exists()


def test_a_stopped_cascade_continues_to_the_same_files(place: Path, said: Path, tmp_path: Path) -> None:
    changes = {"store": str(place / "sky"), "predictions": str(tmp_path / "twice"), "batch": 16}
    stopped = settings(place, **changes, cascade=True)
    with pytest.raises(KeyboardInterrupt):
        predict(stopped, stopped_after(3))
    assert len(list((tmp_path / "twice" / "markers").glob("*"))) == 3
    result = predict(stopped)
    assert result.created == 7
    assert contents(said) == contents(tmp_path / "twice")
    assert predict(stopped).created == 0


def test_a_folder_without_a_cascade_is_not_continued_with_one(place: Path, plain: Path) -> None:
    before = contents(plain)
    with pytest.raises(SettingsError, match=r"made with other settings: cascade=None there, \w{16} now"):
        predict_sky(place, plain, cascade=True)
    assert contents(plain) == before


def test_a_cascade_that_changes_during_the_job_is_an_error(place: Path, tmp_path: Path) -> None:
    file = place / "ensemble" / CASCADE.name / CASCADE.file
    before = file.read_bytes()

    def change() -> None:
        change_document(file, lambda document: document.update(id="another"))

    changes = {"store": str(place / "sky"), "predictions": str(tmp_path / "said"), "cascade": True}
    try:
        with pytest.raises(JobError, match="its cascade has changed since the job began"):
            predict(settings(place, **changes), stopped_after(9, change))
    finally:
        file.write_bytes(before)


def test_a_run_has_no_cascade(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has one member.*leave out cascade="):
        predict_sky(place, tmp_path / "said", ensemble=str(place / "fast"), calibrate=False, cascade=True)
    assert not (tmp_path / "said").exists()


def test_the_summary_says_how_many_rows_were_ruled_out_and_what_is_missed(place: Path, said: Path) -> None:
    changes = {"store": str(place / "sky"), "predictions": str(said), "batch": 16, "cascade": True}
    result = predict(settings(place, **changes, gpu="never"))
    assert result.document.cascade is not None
    text = summary(result)
    assert f"fast alone: {result.document.cascade.ruled_out} rows" in text
    assert "near the CEMP list it rules out" in text


def test_a_catalog_lists_no_star_that_was_ruled_out(said: Path, plain: Path, tmp_path: Path) -> None:
    table = table_of(said)
    catalogs = {}
    for name, folder in (("said", said), ("plain", plain)):
        values = {"predictions": str(folder), "catalog": str(tmp_path / f"of_{name}")}
        catalogs[name] = make_catalog(CatalogSettings.from_dict("catalog", values))
    lists = {}
    for name, result in catalogs.items():
        lists[name] = files.read_table(str(tmp_path / f"of_{name}" / "mp_candidates.parquet"))
        assert result.document.candidates["MP"] > 20
    stars = set(table.filter(pc.invert(table["ruled_out"]))["visit"].to_pylist())
    assert set(lists["said"]["visit"].to_pylist()) <= stars
    both = set(lists["said"]["visit"].to_pylist()), set(lists["plain"]["visit"].to_pylist())
    assert len(both[0] & both[1]) > 0.95 * len(both[0] | both[1])
    assert table_of(plain).num_rows == table.num_rows
    (note,) = [text for text in catalogs["said"].document.thresholds["MP"].notes if "cascade" in text]
    assert "were ruled out by fast alone; stars without another visit are in no list" in note
    assert not [text for text in catalogs["plain"].document.thresholds["MP"].notes if "cascade" in text]
    mixes = [result.document.thresholds["MP"].mix.classes for result in catalogs.values()]
    assert mixes[0]["NMP"].share == pytest.approx(mixes[1]["NMP"].share, abs=0.02)


def test_a_plan_uses_a_cascade_and_fits_none(place: Path, tmp_path: Path) -> None:
    given = {"store": str(place / "sky"), "batch": 16, "gpu": "never", "cascade": True}
    prices = Prices.from_dict("plan", {"seconds": 0.1})
    fitted = estimate_prediction(settings(place, predictions=str(tmp_path / "a"), **given), prices)
    assert not [text for text in fitted.assumed if "cascade" in text]
    for name in ("fast", "slow"):
        (tmp_path / name).symlink_to(place / name)
    ensemble = tmp_path / "ensemble"
    shutil.copytree(place / "ensemble", ensemble, ignore=shutil.ignore_patterns(CASCADE.name))
    cost = estimate_prediction(settings(tmp_path, predictions=str(tmp_path / "b"), **given), prices)
    assert [text for text in cost.assumed if "the cascade is not fitted yet" in text]
    assert not (ensemble / CASCADE.name).exists()


def test_the_first_use_makes_the_cascade(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = place / "ensemble" / CASCADE.name
    folder.rename(place / "kept")
    try:
        with caplog.at_level(logging.INFO):
            predict_sky(place, tmp_path / "said", cascade=True)
        assert (folder / CASCADE.file).exists()
        assert "fitted, once for this ensemble" in caplog.text
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (place / "kept").rename(folder)
