"""Predictions shard by shard, while they come in and after."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.evaluate import drift as trends
from survey.evaluate.drift import BATCHES, Trend, departs, trend
from survey.evaluate.evaluate import Evaluate
from survey.evaluate.review import review
from survey.predict.predict import Predict, predict
from survey.reports import evaluate
from survey.settings import SettingsError
from survey.store.markers import whole
from tests.ensemble import askable


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Predictions of ten spectra in three shards."""
    askable.three(tmp_path / "ensemble", askable.store(tmp_path))
    values = {
        "ensemble": str(tmp_path / "ensemble"),
        "store": str(tmp_path / "store"),
        "predictions": str(tmp_path / "said"),
        "threads": 1,
    }
    predict(Predict.checked("predict", values | {"batch": 4}))
    return tmp_path / "said"


def looked(said: Path, **given: Any) -> Trend:
    found = review(Evaluate.checked("evaluate", {"of": str(said)} | given))
    assert isinstance(found, Trend)
    return found


def test_a_shard_is_told_by_what_its_rows_say(said: Path) -> None:
    found = looked(said)
    assert (found.finished, found.new, found.labels, found.classes) == (
        True,
        3,
        ("Teff", "FeH"),
        ("MP", "CEMP", "NMP"),
    )
    for number, row in enumerate(found.table.to_pylist()):
        part = pq.read_table(said / "predictions" / f"part-{number:05d}.parquet").to_pandas()
        assert row["rows"] == len(part)
        assert row["Teff"] == pytest.approx(np.median(part["Teff"]))
        assert row["Teff_84"] == pytest.approx(np.quantile(part["Teff"], 0.84))
        assert row["FeH_err"] == pytest.approx(np.median(part["FeH_err"]))
        assert row["share_CEMP"] == pytest.approx((part["said"] == 1).mean())
        assert row["outside"] == pytest.approx((part["domain"] > 1).mean())
    assert found.unlike == {}


def test_shards_that_come_in_are_added_and_the_others_are_not_read_again(
    said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = said / "markers" / "part-00002.json"
    marker = last.read_bytes()
    last.unlink()
    (said / "predictions.json").unlink()
    first = looked(said)
    assert (first.finished, first.table.num_rows, first.new) == (False, 2, 2)
    assert "not finished: look again as shards come in" in evaluate.summary(first, [])
    last.write_bytes(marker)
    read: list[str] = []
    own = trends._row
    monkeypatch.setattr(trends, "_row", lambda path, known: (read.append(path), own(path, known))[1])
    second = looked(said)
    assert (second.table.num_rows, second.new) == (3, 1)
    assert [path.rpartition("-")[2] for path in read] == ["00002.parquet"]
    assert looked(said).table.equals(second.table)


def test_a_shard_that_was_made_again_is_read_again(said: Path) -> None:
    looked(said)
    path = said / "markers" / "part-00001.json"
    marker = json.loads(path.read_text())
    path.write_text(json.dumps(marker | {"predictions": marker["predictions"] | {"crc": 1}}))
    assert looked(said).new == 1


def test_the_trend_is_drawn_and_told(said: Path) -> None:
    found = looked(said)
    (path,) = evaluate.pictures(found)
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert (Path(found.folder) / BATCHES).exists()
    text = evaluate.summary(found, [path])
    assert "no shard is unlike the others" in text
    assert "trend.png" in text


def many(folder: Path, source: Path) -> Path:
    """Predictions of thirty shards of one survey, the last one short; in the eleventh stars are giants and far too often carbon-enhanced."""
    known = pq.read_table(source / "predictions" / "part-00000.parquet").schema
    dice = np.random.default_rng(0)
    for name in ("predictions", "markers"):
        (folder / name).mkdir(parents=True)
    (folder / "settings.json").write_bytes((source / "settings.json").read_bytes())
    for number in range(30):
        rows = 4 if number == 29 else 60
        values = {
            "Teff": dice.normal(5000, 500, rows) - 900 * (number == 10),
            "FeH": dice.normal(-1, 0.5, rows),
            "snr": dice.lognormal(3, 0.5, rows),
        }
        values |= {
            "said": np.where(dice.random(rows) < (0.5 if number == 10 else 0.02), 1, 2),
            "domain": dice.uniform(0, 1, rows),
        }
        values |= {"Teff_err": dice.normal(60, 2, rows), "FeH_err": dice.normal(0.1, 0.01, rows)}
        columns = [
            pa.array(values[field.name]).cast(field.type)
            if field.name in values
            else pa.nulls(rows, field.type)
            for field in known
        ]
        path = folder / "predictions" / f"part-{number:05d}.parquet"
        pq.write_table(pa.table(columns, schema=known), path)
        marker = {
            "shard": number,
            "rows": rows,
            "silent": 0,
            "predictions": {"bytes": path.stat().st_size, "crc": number},
        }
        (folder / "markers" / f"part-{number:05d}.json").write_text(json.dumps(marker))
    return folder


def test_a_shard_unlike_the_others_is_found_and_a_short_one_is_not(said: Path, tmp_path: Path) -> None:
    found = looked(many(tmp_path / "many", said))
    assert found.unlike == {10: ["share_CEMP", "share_NMP", "Teff"]}
    assert "shard 10: share_CEMP, share_NMP, Teff" in evaluate.summary(found, [])
    assert evaluate.pictures(found)
    assert looked(tmp_path / "many", odd=1000.0).unlike == {}


def test_what_departs_is_measured_by_the_scatter_of_shards_or_their_own_noise() -> None:
    value, rows, none = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 2.0, np.nan]), np.full(7, 100.0), np.zeros(7)
    assert departs(value, rows, none, 5.0).tolist() == [False] * 5 + [True, False]
    assert not departs(value, rows, np.full(7, 0.5), 5.0).any()
    assert not departs(value[3:], rows[3:], none[3:], 5.0).any()  # too few to be unlike
    assert not departs(np.ones(9) + 1e-9 * np.arange(9), np.ones(9), np.zeros(9), 5.0).any()


def test_predictions_without_classes_or_domain_have_a_trend_too(tmp_path: Path) -> None:
    run = askable.run(tmp_path / "run", askable.store(tmp_path), "reg", ("Teff",))
    values = {
        "ensemble": str(run),
        "store": str(tmp_path / "store"),
        "predictions": str(tmp_path / "said"),
        "threads": 1,
        "batch": 4,
    }
    predict(Predict.checked("predict", values))
    found = looked(tmp_path / "said")
    assert (found.labels, found.classes) == (("Teff",), ())
    assert np.isnan(found.column("outside")).all()
    assert evaluate.pictures(found)
    assert "share" not in evaluate.summary(found, [])


def test_no_shard_yet_and_questions_that_cannot_be_asked_are_told(said: Path) -> None:
    assert len(whole(str(said), {"predictions": "predictions"})) == 3
    with pytest.raises(SettingsError, match=r"evaluate: against: .*said holds predictions, which are made"):
        looked(said, against=["run"])
    for path in (said / "markers").iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match="no shard of these predictions is there yet"):
        trend(str(said), 5.0)
