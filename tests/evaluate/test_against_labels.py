"""Predictions beside another survey's labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import Evaluate
from survey.evaluate.result import CSV, PREDICTIONS, Outcome
from survey.evaluate.review import review
from survey.labelling import samples
from survey.predict.predict import Predict, predict
from survey.reports import evaluate
from survey.settings import SettingsError
from tests.ensemble import teams
from tests.reports.sketches import sketch
from tests.training import lessons


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and what it says of all stars of its store."""
    folder = teams.place(tmp_path_factory.mktemp("outside"), "both")
    rows = [
        {"shard": number, "written": pq.ParquetFile(path).metadata.num_rows, "spectra": {"crc": crc(path)}}
        for number, path in enumerate(sorted((folder / "store" / "spectra").iterdir()))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "store" / "shards.parquet")
    values = {
        "ensemble": str(folder / "both"),
        "store": str(folder / "store"),
        "predictions": str(folder / "said"),
        "threads": 1,
    }
    predict(Predict.checked("predict", values))
    return folder


def crc(path: Path) -> int:
    from isal import isal_zlib

    return int(isal_zlib.crc32(path.read_bytes()))


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """The predictions, and labels as another survey would have them: by file name, the abundance last, with an offset."""
    shutil.copytree(made / "said", tmp_path / "said")
    truth = lessons.stars(teams.COUNT)
    spec = [f"spec-{obsid}.fits" for obsid in truth["obsid"]]
    frame = pd.DataFrame(
        {"spec": spec, "teff": truth["Teff"], "logg": truth["logg"], "C_FE": truth["CFe"] + 0.5}
    )
    frame.to_csv(tmp_path / "galah_C_FE.csv", index=False)
    return tmp_path


def judged(place: Path, **given: Any) -> Outcome:
    values = {
        "of": str(place / "said"),
        "labels": str(place / "galah_C_FE.csv"),
        "called": "GALAH",
        "join": {"classes": "none"},
    }
    found = review(Evaluate.checked("evaluate", values | given))
    assert isinstance(found, Outcome)
    return found


def test_what_was_said_stands_beside_their_labels_without_stars_of_the_training(
    place: Path, made: Path
) -> None:
    found = judged(place)
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    test = samples.read(str(made / "both")).part("test")
    assert sorted(table["obsid"].to_pylist()) == sorted(test.about["obsid"].to_pylist())
    assert (found.about["met"], found.about["silent"], found.about["unread"]) == (
        teams.COUNT - len(test),
        0,
        0,
    )
    said = (
        pa.concat_tables([pq.read_table(path) for path in sorted((place / "said" / "predictions").iterdir())])
        .to_pandas()
        .set_index("obsid")
    )
    assert np.allclose(table["CFe"].to_numpy(), said.loc[table["obsid"].to_pylist(), "CFe"].to_numpy())
    bias = next(
        row
        for row in found.table.to_pylist()
        if (row["kind"], row["subject"], row["metric"]) == ("all", "CFe", "bias")
    )
    assert bias["value"] == pytest.approx((table["CFe"].to_numpy() - table["true_CFe"].to_numpy()).mean())
    assert bias["low"] < bias["value"] < bias["high"] < 0
    assert {"scatter", "mae"} <= {row["metric"] for row in found.table.to_pylist() if row["low"] is not None}
    assert "FeH" not in found.judged.labels  # they do not know it


def test_their_temperatures_and_gravities_group_and_place_the_stars(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch(monkeypatch)
    found = judged(place)
    assert {row["group"] for row in found.table.to_pylist() if row["kind"] == "gravity"} == {"dwarf", "giant"}
    names = {Path(path).name for path in evaluate.pictures(found)}
    assert {"kiel_CFe.png", "label_CFe.png"} <= names
    text = evaluate.summary(found, sorted(names))
    assert "truth      GALAH, of" in text
    assert "spectra of stars that a member has met in training" in text
    assert "dwarfs" in text
    assert "predicted - GALAH" in (Path(found.folder) / "residuals.txt").read_text()


def test_it_is_shown_again_under_another_name_and_as_csv(place: Path) -> None:
    first = judged(place)
    again = judged(place, called="LASP", csv=True)
    assert (first.made, again.made, again.judged.called) == (True, False, "LASP")
    assert np.allclose(again.judged.mu_NL, first.judged.mu_NL)
    assert again.table.equals(first.table)
    assert (
        pd.read_csv(Path(again.folder) / CSV)["obsid"].tolist()
        == pq.read_table(Path(again.folder) / PREDICTIONS)["obsid"].to_pylist()
    )


def test_members_that_are_gone_are_told_and_nothing_is_left_out_for_them(place: Path) -> None:
    path = place / "said" / "predictions.json"
    about = json.loads(path.read_text())
    about["ensemble"]["about"]["members"][0]["path"] = str(place / "gone")
    path.write_text(json.dumps(about))
    found = judged(place)
    assert len(found.judged) == teams.COUNT
    assert "1 members are not where they were" in evaluate.summary(found, [])


def test_rows_without_an_answer_are_left_out_and_counted(place: Path, made: Path) -> None:
    test = set(samples.read(str(made / "both")).part("test").about["obsid"].to_pylist())
    path = place / "said" / "predictions" / "part-00000.parquet"
    table = pq.read_table(path)
    silent = [number for number, obsid in enumerate(table["obsid"].to_pylist()) if obsid in test][:2]
    for name in ("CFe", "CFe_err", "p_mp"):
        values = [None if number in silent else value for number, value in enumerate(table[name].to_pylist())]
        table = table.set_column(
            table.column_names.index(name), table.schema.field(name), pa.array(values, pa.float32())
        )
    pq.write_table(table, path)
    found = judged(place)
    assert found.about["silent"] == 2
    assert len(found.judged) == len(test) - 2


def test_tables_that_do_not_fit_are_told(place: Path, made: Path) -> None:
    learned = samples.read(str(made / "both")).part("train").about["obsid"].to_pylist()
    pd.DataFrame({"obsid": learned, "C_FE": 0.1}).to_csv(place / "seen.csv", index=False)
    with pytest.raises(
        SettingsError,
        match=rf"of {len(learned)} spectra that both know, the members have met the stars of {len(learned)}",
    ):
        judged(place, labels=str(place / "seen.csv"))
    pd.DataFrame({"obsid": [5], "C_FE": [0.1]}).to_csv(place / "others.csv", index=False)
    with pytest.raises(ValueError, match=r"none of 1 rows goes with any of"):
        judged(place, labels=str(place / "others.csv"))
    (place / "said" / "predictions.json").unlink()
    with pytest.raises(FileNotFoundError, match="so no finished predictions"):
        judged(place)
