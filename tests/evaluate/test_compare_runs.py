"""Runs and ensembles that are compared: all on the same spectra, with errors for what cannot be compared."""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.result import AGAINST, PREDICTIONS, READS
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.reports import evaluate as report
from survey.settings import SettingsError
from tests.ensemble import small_runs
from tests.finished import change_document
from tests.reports.sketches import sketch

RUNS = ("both", "sure", "warm", "classes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one store and one split, and one of another split."""
    folder = small_runs.place(tmp_path_factory.mktemp("compare"), "both", "sure", "classes")
    small_runs.train(folder, "warm", task="reg", targets=["Teff", "FeH"], epochs=1)
    small_runs.train(folder, "elsewhere", epochs=1, split=small_runs.SPLIT | {"seed": 5})
    return folder


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    """The runs, without evaluations."""
    ignored = shutil.ignore_patterns("evaluations*", "checkpoints")
    for name in (*RUNS, "elsewhere"):
        shutil.copytree(folder / name, tmp_path / name, ignore=ignored)
    return tmp_path


def evaluate(place: Path, of: str, *against: str, **changes: Any) -> Any:
    values = {"of": str(place / of), "against": [str(place / name) for name in against], "threads": 1}
    return evaluate_ensemble(Evaluate.from_dict("evaluate", values | changes))


def row_of(evaluation: Any, **wanted: str) -> dict[str, Any]:
    keys = {"kind": "all"} | wanted
    (only,) = [
        row
        for row in evaluation.against.to_pylist()
        if all(row[name] == value for name, value in keys.items())
    ]
    return dict(only)


def test_a_comparison_gives_each_run_the_metrics_of_its_own_evaluation(place: Path) -> None:
    evaluation = evaluate(place, "both", "sure")
    for name in ("both", "sure"):
        mae = [
            row["value"]
            for row in evaluate(place, name).metrics.to_pylist()
            if (row["kind"], row["subject"], row["metric"]) == ("all", "CFe", "mae")
        ]
        row = row_of(evaluation, subject="CFe", metric="mae", who=name)
        assert row["value"] == pytest.approx(mae[0])
    row = row_of(evaluation, subject="CFe", metric="mae", who="sure")
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    groups = {row["group"] for row in evaluation.against.to_pylist() if row["kind"] == "gravity"}
    assert groups == {"dwarf", "giant"}  # logg is no label of these runs


def test_a_comparison_is_shown_again_and_noted_in_all_runs(place: Path) -> None:
    first, again = (evaluate(place, "both", "sure") for _ in range(2))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.against.equals(first.against)
    assert first.folder != evaluate(place, "both").folder
    assert (Path(first.folder) / AGAINST).exists()
    for name in ("both", "sure"):
        notes = json.loads((place / name / READS).read_text())
        assert [note["what"] for note in notes if "against" in note["what"]] == [first.document.what]


def test_stars_that_another_was_trained_on_are_left_out_and_counted(place: Path) -> None:
    evaluation = evaluate(place, "both", "elsewhere")
    test = set(samples.read(str(place / "both")).part("test").extra["star"].to_pylist())
    other = samples.read(str(place / "elsewhere"))
    seen = other.at(np.flatnonzero((other.part_N == 0) | (other.part_N == 1)))
    seen_stars = set(seen.extra["star"].to_pylist())
    kept = pq.read_table(Path(evaluation.folder) / PREDICTIONS)["star"].to_pylist()
    count = len(test & seen_stars)
    assert set(kept) == test - seen_stars
    assert evaluation.document.against.left_out == {"elsewhere": count}
    text = report.summary(evaluation, [])
    assert f"elsewhere has seen {count} spectra of the first: left out" in text


def test_runs_with_different_labels_are_compared_on_their_common_ones(place: Path) -> None:
    evaluation = evaluate(place, "both", "warm", "classes", "sure")
    assert evaluation.document.against.alone == {"warm": ["Teff"]}
    who = defaultdict(set)
    for row in evaluation.against.to_pylist():
        who[row["subject"], row["metric"]].add(row["who"])
    assert who["FeH", "mae"] == {"both", "sure", "warm"}
    assert ("Teff", "mae") not in who
    assert who["all", "accuracy"] == {"both", "classes", "sure"}
    assert "only warm predicts Teff: not compared" in report.summary(evaluation, [])


def test_a_comparison_has_plots_and_a_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sketch(monkeypatch)
    evaluation = evaluate(place, "both", "sure")
    names = {Path(path).name for path in report.pictures(evaluation)}
    assert {"against.png", "against_snr.png", "label_CFe.png"} <= names
    text = report.summary(evaluation, sorted(names))
    assert "comparison with both on" in text
    assert "MAE - that of both" in text


@pytest.mark.parametrize(
    ("of", "against", "message"),
    [
        ("warm", ["classes"], r"classes predicts classes, .*warm predicts Teff, FeH: nothing in common"),
        ("both", ["both"], r"both would be compared with itself; give each run or ensemble once"),
        ("both", ["sure", "sure"], r"sure would be compared with itself"),
    ],
)
def test_runs_that_cannot_be_compared_are_an_error(
    place: Path, of: str, against: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate(place, of, *against)


def test_a_missing_run_is_an_error(place: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no such folder; give the folder of a finished ensemble or run"
    ):
        evaluate(place, "both", "nowhere")


def test_runs_with_another_grid_or_preparation_are_an_error(place: Path, folder: Path) -> None:
    store = Path(shutil.copytree(folder / "store", place / "store"))
    file = place / "sure" / "run.json"
    small_runs.change_preparation(store / "store.json", continuum="msfl")
    small_runs.change_preparation(file, continuum="spline")
    message = r"against: sure: the training spectra of .*sure are not prepared like those of .*continuum is"
    with pytest.raises(SettingsError, match=message):
        evaluate(place, "both", "sure", store=str(store))
    change_document(file, lambda document: document["grid"].update(start=4100.0, stop=4698.0))
    message = r"its grid has 300 linear points from 4000 to 4598, the run .*sure was .* points from 4100"
    with pytest.raises(ValueError, match=message):
        evaluate(place, "both", "sure")


def test_no_common_spectrum_is_an_error(place: Path, folder: Path) -> None:
    lines = (folder / "labels.csv").read_text().splitlines()
    other, first = (samples.read(str(place / name)) for name in ("elsewhere", "both"))
    trained = set(other.at(np.flatnonzero(other.part_N == 0)).extra["obsid"].to_pylist())
    both = trained & set(first.part("test").extra["obsid"].to_pylist())
    kept = [line for line in lines[1:] if int(line.split(",")[0]) in both]
    (place / "seen.csv").write_text("\n".join([lines[0], *kept]))
    message = rf"no spectrum is left that none of them was trained on .*elsewhere has seen {len(both)}"
    with pytest.raises(SettingsError, match=message):
        evaluate(place, "both", "elsewhere", labels=str(place / "seen.csv"))
