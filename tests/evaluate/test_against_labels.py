"""Predictions compared with the labels of another survey."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import evaluate
from survey.evaluate.result import CSV, PREDICTIONS, Evaluation
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.reports import evaluate as report
from survey.settings import SettingsError
from tests.ensemble import small_runs
from tests.finished import change_document, seal_predictions
from tests.reports.sketches import sketch
from tests.training import lessons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and its predictions for all stars of its store."""
    folder = small_runs.place(tmp_path_factory.mktemp("against"), "both")
    values = {
        "ensemble": str(folder / "both"),
        "store": str(folder / "store"),
        "predictions": str(folder / "predicted"),
        "threads": 1,
    }
    predict(Predict.from_dict("predict", values))
    return folder


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    """The predictions, and labels like those of another survey: by file name, [C/Fe] with an offset."""
    shutil.copytree(folder / "predicted", tmp_path / "predicted")
    truth = lessons.stars(small_runs.COUNT)
    columns = {
        "spec": [f"spec-{obsid}.fits" for obsid in truth["obsid"]],
        "teff": truth["Teff"],
        "logg": truth["logg"],
        "C_FE": truth["CFe"] + 0.5,
    }
    pd.DataFrame(columns).to_csv(tmp_path / "galah_C_FE.csv", index=False)
    return tmp_path


def compare(place: Path, **changes: Any) -> Any:
    values = {
        "of": str(place / "predicted"),
        "labels": str(place / "galah_C_FE.csv"),
        "labels_name": "GALAH",
        "join": {"classes": "none"},
    }
    evaluation = evaluate(Evaluate.from_dict("evaluate", values | changes))
    assert isinstance(evaluation, Evaluation)
    return evaluation


def test_predictions_are_compared_without_stars_of_the_training(place: Path, folder: Path) -> None:
    evaluation = compare(place)
    table = pq.read_table(Path(evaluation.folder) / PREDICTIONS)
    test = samples.read(str(folder / "both")).part("test")
    assert sorted(table["obsid"].to_pylist()) == sorted(test.extra["obsid"].to_pylist())
    document = evaluation.document
    assert document.seen_in_training == small_runs.COUNT - len(test)
    assert (document.no_answer, document.missing_members) == (0, 0)
    parts = sorted((place / "predicted" / "predictions").iterdir())
    predicted = pa.concat_tables([pq.read_table(path) for path in parts]).to_pandas().set_index("obsid")
    expected = predicted.loc[table["obsid"].to_pylist(), "CFe"].to_numpy()
    assert np.array_equal(table["CFe"].to_numpy(), expected)
    overall = [row for row in evaluation.metrics.to_pylist() if row["kind"] == "all"]
    (bias,) = [row for row in overall if (row["subject"], row["metric"]) == ("CFe", "bias")]
    residual = table["CFe"].to_numpy() - table["true_CFe"].to_numpy()
    assert bias["value"] == pytest.approx(residual.mean())
    assert bias["low"] < bias["value"] < bias["high"] < 0
    assert {"scatter", "mae"} <= {row["metric"] for row in overall if row["low"] is not None}
    assert "FeH" not in evaluation.calibrated.labels  # the table has no such label


def test_temperatures_and_gravities_of_the_table_group_the_stars(
    place: Path, every_group: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch(monkeypatch)
    evaluation = compare(place)
    groups = {row["group"] for row in evaluation.metrics.to_pylist() if row["kind"] == "gravity"}
    assert groups == {"dwarf", "giant"}
    names = {Path(path).name for path in report.pictures(evaluation)}
    assert {"kiel_CFe.png", "label_CFe.png"} <= names
    text = report.summary(evaluation, sorted(names))
    assert "truth      GALAH, from" in text
    assert "spectra of stars that a member was trained on" in text
    assert "dwarfs" in text
    assert "predicted - GALAH" in (Path(evaluation.folder) / "residuals.txt").read_text()


def test_an_evaluation_is_shown_again_under_another_name_and_as_csv(place: Path) -> None:
    first = compare(place)
    again = compare(place, labels_name="LASP", csv=True)
    assert (first.is_new, again.is_new, again.calibrated.labels_name) == (True, False, "LASP")
    assert np.array_equal(again.calibrated.value_NL, first.calibrated.value_NL)
    assert again.metrics.equals(first.metrics)
    rows = pq.read_table(Path(again.folder) / PREDICTIONS)["obsid"].to_pylist()
    assert pd.read_csv(Path(again.folder) / CSV)["obsid"].tolist() == rows


def test_a_corrected_table_is_compared_again(place: Path) -> None:
    first = compare(place)
    frame = pd.read_csv(place / "galah_C_FE.csv")
    frame.assign(C_FE=frame["C_FE"] - 0.5).to_csv(place / "galah_C_FE.csv", index=False)
    second = compare(place)
    assert (first.folder, first.is_new, second.is_new) == (second.folder, True, True)
    assert np.allclose(second.calibrated.label_NL, first.calibrated.label_NL - 0.5)


def test_stars_of_a_missing_member_are_kept_with_a_warning(place: Path) -> None:
    path = place / "predicted" / "predictions.json"

    def change(document: dict[str, Any]) -> None:
        document["ensemble"]["members"][0]["path"] = str(place / "missing")

    change_document(path, change)
    evaluation = compare(place)
    assert len(evaluation.calibrated) == small_runs.COUNT
    assert "1 members are not at their paths any more" in report.summary(evaluation, [])


def test_rows_without_an_answer_are_left_out_and_counted(place: Path, folder: Path) -> None:
    test = set(samples.read(str(folder / "both")).part("test").extra["obsid"].to_pylist())
    path = place / "predicted" / "predictions" / "part-00000.parquet"
    table = pq.read_table(path)
    removed = [number for number, obsid in enumerate(table["obsid"].to_pylist()) if obsid in test][:2]
    for name in ("CFe", "CFe_err", "p_mp"):
        values = [None if row in removed else value for row, value in enumerate(table[name].to_pylist())]
        column = table.column_names.index(name)
        table = table.set_column(column, table.schema.field(name), pa.array(values, pa.float32()))
    pq.write_table(table, path)
    seal_predictions(place / "predicted")
    evaluation = compare(place)
    assert evaluation.document.no_answer == 2
    assert len(evaluation.calibrated) == len(test) - 2


def test_tables_that_do_not_fit_are_an_error(place: Path, folder: Path) -> None:
    trained = samples.read(str(folder / "both")).part("train").extra["obsid"].to_pylist()
    pd.DataFrame({"obsid": trained, "C_FE": 0.1}).to_csv(place / "seen.csv", index=False)
    message = rf"of {len(trained)} spectra with labels, {len(trained)} are of stars that members were trained"
    with pytest.raises(SettingsError, match=message):
        compare(place, labels=str(place / "seen.csv"))
    pd.DataFrame({"obsid": [5], "C_FE": [0.1]}).to_csv(place / "others.csv", index=False)
    with pytest.raises(ValueError, match=r"none of 1 rows"):
        compare(place, labels=str(place / "others.csv"))
    (place / "predicted" / "predictions.json").unlink()
    with pytest.raises(FileNotFoundError, match="finished predictions"):
        compare(place)


def test_the_names_of_columns_and_the_criterion_of_the_training_are_known(tmp_path: Path) -> None:
    """The run was trained with names of one's own; a table with them needs no join.columns."""
    lessons.store(tmp_path / "store", small_runs.COUNT)
    names = {"FeH": "iron", "CFe": "carbon"}
    frame = pd.read_csv(tmp_path / "labels.csv").drop(columns=["CH", "Teff", "logg"]).rename(columns=names)
    frame.to_csv(tmp_path / "labels.csv", index=False)
    small_runs.train(tmp_path, "own", join={"columns": names, "criterion": "carbon_1.0"})
    values = {"ensemble": str(tmp_path / "own"), "store": str(tmp_path / "store"), "threads": 1}
    predict(Predict.from_dict("predict", values | {"predictions": str(tmp_path / "predicted")}))
    frame.to_csv(tmp_path / "galah_C_FE.csv", index=False)
    evaluation = compare(tmp_path, join={})
    assert set(evaluation.document.labels) == {"FeH", "CFe"}
    assert evaluation.document.no_truth == ()
    assert evaluation.criterion == "carbon_1.0"
    assert "by carbon_1.0" in str(evaluation.document.joined)
    test = samples.read(str(tmp_path / "own")).part("test")
    assert sorted(evaluation.calibrated.class_N.tolist()) == sorted(test.class_N.tolist())
    assert compare(tmp_path, join={}, criterion="carbon_0.7").criterion == "carbon_0.7"


def test_a_predicted_label_without_a_column_is_said_with_what_to_give(place: Path) -> None:
    evaluation = compare(place)
    assert evaluation.document.no_truth == ("FeH",)
    text = report.summary(evaluation, [])
    assert "warning    FeH not evaluated: no value in" in text
    assert "give join.columns={FeH: ITS_COLUMN}" in text
