"""Ensembles evaluated on spectra with known labels, and a run with dropout passes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.settings import Build
from survey.evaluate.against_labels import evaluate_predictions
from survey.evaluate.evaluate import evaluate_ensemble, predict_labelled
from survey.evaluate.result import MEMBERS, PREDICTIONS
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.predict.predict import predict
from survey.predict.settings import Predict
from survey.reports import ensemble as ensemble_report
from survey.reports import evaluate as report
from survey.settings import SettingsError
from survey.training.run import open_run
from tests.ensemble import small_runs
from tests.training import lessons

RUNS = ("both", "sure", "classes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_runs.place(tmp_path_factory.mktemp("evaluate"), *RUNS)
    runs = [str(folder / name) for name in RUNS]
    build(Build.from_dict("ensemble", {"ensemble": str(folder / "team"), "runs": runs, "threads": 1}))
    return folder


@pytest.fixture
def team(folder: Path, tmp_path: Path) -> Path:
    """A copy of the ensemble, without evaluations."""
    ignored = shutil.ignore_patterns("evaluations*")
    return Path(shutil.copytree(folder / "team", tmp_path / "team", ignore=ignored))


def evaluate(of: Path, **changes: Any) -> Any:
    return evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": str(of), "threads": 1} | changes))


def table_of(evaluation: Any) -> Any:
    return pq.read_table(Path(evaluation.folder) / PREDICTIONS)


def test_an_ensemble_and_its_members_are_evaluated_on_the_test_stars_of_all(folder: Path, team: Path) -> None:
    evaluation = evaluate(team)
    test = samples.read(str(folder / "both")).part("test")  # the members share their split
    table = table_of(evaluation)
    assert table["obsid"].to_pylist() == test.extra["obsid"].to_pylist()
    value_of = {
        (row["who"], row["subject"], row["metric"]): row["value"]
        for row in evaluation.members.to_pylist()
        if row["kind"] == "all"
    }
    for name in RUNS:
        alone: Any = predict_labelled(open_run(str(folder / name)), test, str(folder / "store"))
        accuracy = (alone.p_NC.argmax(1) == test.class_N).mean()
        assert value_of[name, "all", "accuracy"] == pytest.approx(accuracy)
    residual = table["FeH"].to_numpy() - table["true_FeH"].to_numpy()
    assert value_of["ensemble", "FeH", "mae"] == pytest.approx(np.abs(residual).mean())
    assert ("classes", "FeH", "mae") not in value_of
    of_ensemble = evaluation.members.filter(np.array(evaluation.members["who"]) == "ensemble")
    assert evaluation.metrics.equals(of_ensemble.drop_columns(["who"]))


def test_the_answers_before_calibration_are_kept_and_reported(team: Path, every_group: None) -> None:
    evaluation = evaluate(team)
    table = table_of(evaluation)
    before, after = (
        np.stack([table[f"p_{name}{suffix}"].to_numpy() for name in ("mp", "cemp", "nmp")], 1)
        for suffix in ("_raw", "")
    )
    assert np.allclose(before.sum(1), 1)
    assert (before.argmax(1) == after.argmax(1)).all()
    assert not np.allclose(before, after, atol=1e-3)
    truth = table["true_FeH"].to_numpy()
    inside = (table["FeH_low"].to_numpy() <= truth) & (truth <= table["FeH_high"].to_numpy())
    value_of = {
        (row["subject"], row["metric"]): row["value"]
        for row in evaluation.metrics.to_pylist()
        if row["kind"] == "all"
    }
    assert value_of["FeH", "coverage_interval"] == pytest.approx(inside.mean(), abs=0.02)
    assert {"domain", "FeH_err_model", "class_entropy_model"} <= set(table.column_names)
    png_of = ensemble_report.calibration_pictures(
        evaluation.calibrated, evaluation.uncalibrated, evaluation.members
    )
    assert png_of.keys() == {"calibration", "coverage_by_snr"}
    text = report.summary(evaluation, [])
    assert "before calibration" in text
    assert "in the interval" in text


def test_an_evaluation_of_an_ensemble_is_shown_again(team: Path) -> None:
    first, again = evaluate(team), evaluate(team)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.metrics.equals(first.metrics)
    assert again.members.equals(first.members)
    for name in ("p_NC", "value_NL", "sigma_NL", "label_NL"):
        one, other = getattr(again.calibrated, name), getattr(first.calibrated, name)
        assert np.array_equal(one, other, equal_nan=True), name
    assert np.array_equal(again.uncalibrated.p_NC, first.uncalibrated.p_NC)
    assert (Path(first.folder) / MEMBERS).exists()


def test_the_validation_part_has_the_metrics_of_the_ensemble(team: Path) -> None:
    evaluation = evaluate(team, split="validation")
    built = pq.read_table(team / "metrics.parquet").to_pandas()
    accuracy = "metric == 'accuracy' and subject == 'all'"
    expected = built.query(f"who == 'ensemble' and {accuracy}")["value"].to_numpy()
    assert np.array_equal(evaluation.metrics.to_pandas().query(accuracy)["value"].to_numpy(), expected)


def test_other_stars_are_evaluated_if_no_member_has_seen_them(team: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "new" / "store", count=340, seed=9)
    new = {"store": str(tmp_path / "new" / "store"), "labels": str(tmp_path / "new" / "labels.csv")}
    obsids = table_of(evaluate(team, **new))["obsid"].to_pylist()
    run = open_ensemble(str(team)).members.runs[0].path
    test = samples.read(run).part("test").extra["obsid"].to_pylist()
    assert set(obsids) == {*test, *range(1300, 1340)}  # the toy counts from 1000 on, also in another store


def test_a_run_fitted_in_another_store_does_not_use_the_rows_of_its_own(folder: Path, tmp_path: Path) -> None:
    # The same visits, so the same stars, in the same rows, but other spectra.
    lessons.store(tmp_path / "new" / "store", count=300, seed=9)
    new = {"store": str(tmp_path / "new" / "store"), "labels": str(tmp_path / "new" / "labels.csv")}
    values = {"ensemble": str(tmp_path / "one"), "runs": [str(folder / "both")], "threads": 1}
    build(Build.from_dict("ensemble", values | new))
    for split in ("validation", "test"):
        message = (
            rf"split={split}: the run .*one has no spectra of this part in .*new/store; give another split"
        )
        with pytest.raises(SettingsError, match=message):
            evaluate(tmp_path / "one", split=split)
    evaluation = evaluate(tmp_path / "one", labels=new["labels"])
    assert len(evaluation.calibrated) == len(samples.read(str(folder / "both")).part("test"))


def test_differently_prepared_spectra_are_reported(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "both", tmp_path / "both"))
    store = Path(shutil.copytree(folder / "store", tmp_path / "store"))
    small_runs.change_preparation(run / "run.json", continuum="msfl")
    small_runs.change_preparation(store / "store.json", continuum="spline")
    evaluation = evaluate(run, store=str(store), labels=str(folder / "labels.csv"))
    warning = f"warning    spectra are prepared differently: {run}: continuum is spline, not msfl"
    assert warning in report.summary(evaluation, [])


def test_dropout_passes_give_errors_to_a_run_without_errors(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "both", tmp_path / "both"))
    plain, dropped = evaluate(run), evaluate(run, passes=20)
    assert plain.calibrated.sigma_NL is None
    assert (dropped.calibrated.sigma_NL > 0).all()
    assert np.allclose(plain.calibrated.value_NL, dropped.calibrated.value_NL, atol=0.5)
    assert "coverage_68" in {row["metric"] for row in dropped.metrics.to_pylist()}
    assert dropped.document.read_before == 1
    assert np.array_equal(evaluate(run, passes=20).calibrated.sigma_NL, dropped.calibrated.sigma_NL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 8}, r"passes=8: the ensemble .*team was calibrated with 0; give 0 or null"),
        (
            {"labels": "{folder}/seen.csv"},
            r"the ensemble was trained on all of these stars, selected by them, or recalibrated with them; "
            r"give others",
        ),
    ],
)
def test_settings_that_do_not_fit_the_ensemble_are_an_error(
    folder: Path, team: Path, changes: dict[str, Any], message: str
) -> None:
    first, *lines = (folder / "labels.csv").read_text().splitlines()
    seen = set(samples.read(str(folder / "both")).part("train").extra["obsid"].to_pylist())
    kept = [line for line in lines if int(line.split(",")[0]) in seen]
    (folder / "seen.csv").write_text("\n".join([first, *kept]))
    if "labels" in changes:
        changes = {"labels": changes["labels"].format(folder=folder)}
    with pytest.raises(SettingsError, match=message):
        evaluate(team, **changes)


def test_a_run_of_labels_beside_classes_of_other_names_is_evaluated_and_calibrated(
    folder: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(folder / "labels.csv")
    table, names = tmp_path / "kinds.csv", ["M0", "M1", "M2", "M3", "M4"]
    frame.assign(kind=[names[number % 5] for number in range(len(frame))]).to_csv(table, index=False)
    how: dict[str, Any] = {"store": str(folder / "store"), "labels": str(table), "epochs": 1}
    how |= {"targets": ["FeH"], "join": {"classes": "kind", "class_names": names}}
    labels, classes = (
        Path(small_runs.train(tmp_path, task, task=task, **how)) for task in ("reg", "cls_reg")
    )
    assert evaluate(labels).document.classes == ()
    given = {"labels": str(table), "join": {"classes": "kind"}}
    assert "mae" in evaluate(labels, **given).metrics["metric"].to_pylist()
    compared = evaluate(classes, against=[str(labels)])
    assert {"mae", "accuracy"} <= set(compared.metrics["metric"].to_pylist())
    values = {"ensemble": str(tmp_path / "one"), "runs": [str(labels)], "threads": 1}
    assert build(Build.from_dict("ensemble", values)).document.calibrated
    predicted = {"ensemble": str(labels), "store": str(folder / "store"), "threads": 1}
    predict(Predict.from_dict("predict", predicted | {"predictions": str(tmp_path / "predictions")}))
    of_table = Evaluate.from_dict("evaluate", {"of": str(tmp_path / "predictions"), **given})
    assert evaluate_predictions(of_table).document.labels == ("FeH",)


def test_a_part_without_spectra_is_an_error(folder: Path, tmp_path: Path) -> None:
    splits = [{"folds": 2, "fold": fold, "validation": 0.3} for fold in range(2)]
    runs = [
        small_runs.train(folder, f"fold-{number}", split=split, epochs=1)
        for number, split in enumerate(splits)
    ]
    values = {"ensemble": str(tmp_path / "folds"), "runs": runs, "threads": 1}
    build(Build.from_dict("ensemble", values | {"weights": "equal", "calibrate": False}))
    message = r"split=test: the ensemble .*folds has no spectra of this part in .*; give another split, or"
    with pytest.raises(SettingsError, match=message):
        evaluate(tmp_path / "folds")
