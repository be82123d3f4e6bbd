"""Predictions shard by shard, while they are made and after."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey import checked, files
from survey.checked import WrittenFile
from survey.evaluate.drift import BATCHES, Drift, departs, measure_drift
from survey.evaluate.evaluate import evaluate
from survey.evaluate.settings import Evaluate
from survey.predict.output import PredictionMarker
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.reports import evaluate as report
from survey.settings import SettingsError
from survey.store.markers import complete_markers
from tests.ensemble import untrained
from tests.finished import change_document


def predicted(ensemble: Path, folder: Path) -> Path:
    """Predictions of the store in a folder, in batches of four."""
    values = {
        "ensemble": str(ensemble),
        "store": str(folder / "store"),
        "predictions": str(folder / "predicted"),
        "threads": 1,
        "batch": 4,
    }
    predict(Predict.from_dict("predict", values))
    return folder / "predicted"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of ten spectra in three shards."""
    folder = tmp_path_factory.mktemp("drift")
    return predicted(untrained.three(folder / "ensemble", untrained.store(folder)), folder)


@pytest.fixture
def predictions(made: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(made, tmp_path / "predicted"))


def measure(predictions: Path, **changes: Any) -> Drift:
    drift = evaluate(Evaluate.from_dict("evaluate", {"of": str(predictions)} | changes))
    assert isinstance(drift, Drift)
    return drift


def test_the_numbers_of_a_shard_are_those_of_its_rows(predictions: Path) -> None:
    drift = measure(predictions)
    assert (drift.finished, drift.new) == (True, 3)
    assert (drift.labels, drift.classes) == (("Teff", "FeH"), ("MP", "CEMP", "NMP"))
    for number, row in enumerate(drift.table.to_pylist()):
        part = pq.read_table(predictions / "predictions" / f"part-{number:05d}.parquet").to_pandas()
        assert row["rows"] == len(part)
        assert row["Teff"] == pytest.approx(np.median(part["Teff"]))
        assert row["Teff_84"] == pytest.approx(np.quantile(part["Teff"], 0.84))
        assert row["FeH_err"] == pytest.approx(np.median(part["FeH_err"]))
        assert row["share_CEMP"] == pytest.approx((part["predicted_class"] == 1).mean())
        assert row["outside_training"] == pytest.approx((part["domain"] > 1).mean())
    assert drift.departing == {}


def test_only_new_shards_are_read(predictions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = predictions / "markers" / "part-00002.json"
    marker = last.read_bytes()
    last.unlink()
    (predictions / "predictions.json").unlink()
    first = measure(predictions)
    assert (first.finished, first.table.num_rows, first.new) == (False, 2, 2)
    assert "not finished: run it again to see new shards" in report.summary(first, [])
    last.write_bytes(marker)
    paths: list[str] = []
    read = files.read

    def recorded(path: str) -> bytes:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(files, "read", recorded)
    second = measure(predictions)
    assert (second.table.num_rows, second.new) == (3, 1)
    shards = [path for path in paths if "predictions/part-" in path]
    assert [path.rpartition("-")[2] for path in shards] == ["00002.parquet"]
    assert measure(predictions).table.equals(second.table)


def test_a_shard_that_was_made_again_is_read_again(predictions: Path) -> None:
    measure(predictions)
    path = predictions / "markers" / "part-00001.json"
    table = predictions / "predictions" / "part-00001.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.slice(0, rows.num_rows - 1), table)
    written = WrittenFile.at(str(table)).model_dump()
    change_document(path, {"predictions": written, "rows": rows.num_rows - 1})
    assert measure(predictions).new == 1


def test_the_drift_has_a_plot_and_a_text(predictions: Path) -> None:
    drift = measure(predictions)
    (path,) = report.pictures(drift)
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert (Path(drift.folder) / BATCHES).exists()
    text = report.summary(drift, [path])
    assert "no shard departs from the others" in text
    assert "drift.png" in text


def thirty_shards(folder: Path, source: Path) -> Path:
    """Predictions of thirty shards of one survey, the last one short.

    In shard 10 the stars are giants, and far too many are carbon-enhanced.
    """
    schema = pq.read_table(source / "predictions" / "part-00000.parquet").schema
    rng = np.random.default_rng(0)
    for name in ("predictions", "markers"):
        (folder / name).mkdir(parents=True)
    (folder / "settings.json").write_bytes((source / "settings.json").read_bytes())
    marker = checked.read_json(str(source / "markers" / "part-00000.json"), "")
    for number in range(30):
        rows = 4 if number == 29 else 60
        is_odd = number == 10
        values: dict[str, np.ndarray] = {
            "Teff": rng.normal(5000, 500, rows) - 900 * is_odd,
            "FeH": rng.normal(-1, 0.5, rows),
            "snr": rng.lognormal(3, 0.5, rows),
            "predicted_class": np.where(rng.random(rows) < (0.5 if is_odd else 0.02), 1, 2),
            "domain": rng.uniform(0, 1, rows),
            "Teff_err": rng.normal(60, 2, rows),
            "FeH_err": rng.normal(0.1, 0.01, rows),
        }
        columns = [
            pa.array(values[field.name]).cast(field.type)
            if field.name in values
            else pa.nulls(rows, field.type)
            for field in schema
        ]
        path = folder / "predictions" / f"part-{number:05d}.parquet"
        pq.write_table(pa.table(columns, schema=schema), path)
        written = WrittenFile.at(str(path)).model_dump()
        changes = {"shard": number, "rows": rows, "no_answer": 0, "predictions": written}
        checked.write_json(str(folder / "markers" / f"part-{number:05d}.json"), marker | changes)
    return folder


def test_a_shard_that_departs_is_found_and_a_short_one_is_not(predictions: Path, tmp_path: Path) -> None:
    drift = measure(thirty_shards(tmp_path / "many", predictions))
    assert drift.departing == {10: ["share_CEMP", "share_NMP", "Teff"]}
    assert "shard 10: share_CEMP, share_NMP, Teff" in report.summary(drift, [])
    assert report.pictures(drift)
    assert measure(tmp_path / "many", odd=1000.0).departing == {}


def test_a_value_departs_by_the_scatter_of_shards_or_by_its_own_noise() -> None:
    value, rows = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 3.0, np.nan]), np.full(7, 100.0)
    no_noise = np.zeros(7)
    assert departs(value, rows, no_noise, 5.0).tolist() == [False] * 5 + [True, False]
    assert not departs(value, rows, np.full(7, 0.7), 5.0).any()
    assert not departs(value[3:], rows[3:], no_noise[3:], 5.0).any()  # too few shards
    assert not departs(np.ones(9) + 1e-9 * np.arange(9), np.ones(9), np.zeros(9), 5.0).any()


@pytest.mark.parametrize("shards", [5, 6, 8, 20, 50])
def test_equal_shards_seldom_depart_however_few_there_are(shards: int) -> None:
    """Six columns of equal shards, without a known noise."""
    rng, looks, alarms = np.random.default_rng(shards), 150, 0
    rows, no_noise = np.full(shards, 1000.0), np.zeros(shards)
    for values_KS in rng.normal(30, 0.1, (looks, 6, shards)):
        alarms += any(departs(value_S, rows, no_noise, 5.0).any() for value_S in values_KS)
    assert alarms / looks < 0.07


@pytest.mark.parametrize("shards", [5, 10, 50])
def test_a_fault_departs_also_among_few_shards(shards: int) -> None:
    value_S = np.random.default_rng(0).normal(30, 0.1, shards)
    value_S[1] = 10.0
    flags = departs(value_S, np.full(shards, 1000.0), np.zeros(shards), 5.0)
    assert np.flatnonzero(flags).tolist() == [1]


def test_predictions_without_classes_or_domain_have_a_drift_too(tmp_path: Path) -> None:
    run = untrained.run(tmp_path / "run", untrained.store(tmp_path), "reg", ("Teff",))
    drift = measure(predicted(run, tmp_path))
    assert (drift.labels, drift.classes) == (("Teff",), ())
    assert np.isnan(drift.column("outside_training")).all()
    assert report.pictures(drift)
    assert "share" not in report.summary(drift, [])


def test_predictions_without_a_shard_and_settings_of_runs_are_an_error(predictions: Path) -> None:
    assert len(complete_markers(str(predictions), PredictionMarker, {"predictions": "predictions"})) == 3
    with pytest.raises(
        SettingsError, match=r"evaluate: against: .*predicted holds predictions, which cannot"
    ):
        measure(predictions, against=["run"])
    for path in (predictions / "markers").iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match="no shard of these predictions is made yet"):
        measure_drift(str(predictions), 5.0)
