"""A run evaluated on spectra with known labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.own_criterion import with_own_criterion
from survey.evaluate.result import EVALUATION, METRICS, PREDICTIONS, READS
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.reports import evaluate as report
from survey.settings import SettingsError
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import change_document
from tests.training import lessons

OTHER, AOKI = {"criterion": "carbon_1.0"}, {"criterion": "aoki2007"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a toy store."""
    folder = tmp_path_factory.mktemp("evaluate")
    lessons.store(folder / "store")
    settings = lessons.training(folder)
    plan(settings)
    learn(settings)
    return folder


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    """A copy of the run, without evaluations."""
    shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluations*"))
    return tmp_path


def evaluate(place: Path, **changes: Any) -> Any:
    values = {"of": str(place / "run"), "threads": 1} | changes
    return evaluate_ensemble(Evaluate.from_dict("evaluate", values))


def test_the_test_part_is_evaluated_once_and_shown_again(place: Path) -> None:
    first = evaluate(place)
    before = (Path(first.folder) / METRICS).read_bytes()
    again = evaluate(place)
    assert (first.is_new, again.is_new) == (True, False)
    assert (Path(first.folder) / METRICS).read_bytes() == before
    assert len(json.loads((place / "run" / READS).read_text())) == 1
    assert again.metrics.equals(first.metrics)
    assert np.array_equal(again.calibrated.p_NC, first.calibrated.p_NC)
    assert np.array_equal(again.calibrated.value_NL, first.calibrated.value_NL)


def test_another_evaluation_of_the_test_part_is_noted(place: Path) -> None:
    evaluate(place)
    second = evaluate(place, gravity=3.5)
    assert second.document.read_before == 1
    assert "this part was evaluated 1 times before" in report.summary(second, [])


def test_the_table_of_answers_has_the_truth_of_the_test_part_only(place: Path) -> None:
    evaluation = evaluate(place)
    table = pq.read_table(Path(evaluation.folder) / PREDICTIONS)
    test = samples.read(str(place / "run")).part("test")
    assert table["obsid"].to_pylist() == test.extra["obsid"].to_pylist()
    assert np.allclose(table["true_FeH"].to_numpy(), test.label_NL[:, 0])
    total = np.sum([table[f"p_{name}"].to_numpy() for name in ("mp", "cemp", "nmp")], 0)
    assert np.allclose(total, 1)
    frame = evaluation.metrics.to_pandas()
    mae = frame.query("kind == 'all' and subject == 'FeH' and metric == 'mae'")["value"].item()
    residual = table["FeH"].to_numpy() - table["true_FeH"].to_numpy()
    assert mae == pytest.approx(np.abs(residual).mean())


def test_other_stars_are_evaluated_without_those_of_the_training(place: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "new" / "store", count=60, seed=9)
    new = {"store": str(tmp_path / "new" / "store"), "labels": str(tmp_path / "new" / "labels.csv")}
    evaluation = evaluate(place, **new)
    trained = samples.read(str(place / "run")).part("train").extra["star"].to_pylist()
    table = pq.read_table(Path(evaluation.folder) / PREDICTIONS)
    assert 0 < table.num_rows < 60  # the toy numbers visits from 1000 on, also in another store
    assert not set(table["star"].to_pylist()) & set(trained)


def test_stars_of_the_training_are_recognised_under_another_name(
    place: Path, folder: Path, tmp_path: Path
) -> None:
    first, *lines = (folder / "labels.csv").read_text().splitlines()
    named = [f"{7_000_000 + number},{line}" for number, line in enumerate(lines)]
    (tmp_path / "named.csv").write_text("\n".join([f"gaia_source_id,{first}", *named]))
    evaluation = evaluate(place, labels=str(tmp_path / "named.csv"))
    assert len(evaluation.calibrated) == len(samples.read(str(place / "run")).part("test"))


def test_a_run_is_evaluated_with_its_moved_store(place: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "store", tmp_path / "moved")
    assert evaluate(place, store=str(tmp_path / "moved")).is_new
    other = lessons.store(tmp_path / "other" / "store", count=20, seed=9)
    with pytest.raises(SettingsError, match="is not the store that the run was trained on"):
        evaluate(place, store=str(other), gravity=3.0)


def test_label_tables_with_one_name_give_different_folders(place: Path, tmp_path: Path) -> None:
    folders = set()
    for name in ("a", "b"):
        lessons.store(tmp_path / name / "store", count=60, seed=9)
        new = {"store": str(tmp_path / name / "store"), "labels": str(tmp_path / name / "labels.csv")}
        folders.add(evaluate(place, **new).folder)
    assert len(folders) == 2


def by_labels(evaluation: Any) -> list[dict[str, Any]]:
    """The metrics of classes that follow from predicted labels."""
    return [row for row in evaluation.metrics.to_pylist() if row["subject"].endswith(" by labels")]


def test_classes_by_labels_follow_the_criterion_of_the_training(place: Path) -> None:
    usual = evaluate(place)
    change_document(place / "run" / "run.json", lambda run: run["settings"]["join"].update(OTHER))
    given = evaluate(place, **OTHER)
    own = evaluate(place)
    assert (usual.criterion, given.criterion, own.criterion) == ("carbon_0.7", "carbon_1.0", "carbon_1.0")
    assert by_labels(own) == by_labels(given) != by_labels(usual)
    assert evaluate(place, criterion="carbon_0.7").criterion == "carbon_0.7"


def test_true_classes_of_another_table_follow_the_criterion_of_the_training(
    place: Path, folder: Path, tmp_path: Path
) -> None:
    def used(**changes: Any) -> tuple[str, str]:
        """The criterion of the classes by labels, and of the true classes."""
        evaluation = evaluate(place, **{"labels": str(folder / "labels.csv")} | changes)
        return evaluation.criterion, evaluation.document.key["settings"]["join"]["criterion"]

    change_document(place / "run" / "run.json", lambda run: run["settings"]["join"].update(OTHER))
    assert used() == ("carbon_1.0", "carbon_1.0")
    assert used(criterion="carbon_0.7") == ("carbon_0.7", "carbon_0.7")
    assert used(join={"criterion": "aoki2007"}) == ("aoki2007", "aoki2007")
    change_document(place / "run" / "run.json", lambda run: run["settings"]["join"].update(AOKI))
    assert used() == ("aoki2007", "aoki2007")
    frame = pd.read_csv(folder / "labels.csv").drop(columns=["Teff", "logg"])
    frame.to_csv(tmp_path / "carbon.csv", index=False)
    assert used(labels=str(tmp_path / "carbon.csv")) == ("carbon_0.7", "carbon_0.7")


def test_trainings_that_differ_decide_no_criterion() -> None:
    settings = Evaluate(of="run")
    usual: dict[str, Any] = {"join": {}, "sources": {}}
    other = {"join": OTHER, "sources": {"real": {"join": None}}}
    mixed = {"join": OTHER, "sources": {"real": {"join": AOKI}}}
    for runs in ([usual, other], [mixed], []):
        assert with_own_criterion(settings, runs) == settings
    assert with_own_criterion(settings, [other, other]).criterion == "carbon_1.0"


def test_plots_are_drawn_once(place: Path) -> None:
    drawn = report.pictures(evaluate(place))
    assert {Path(path).name for path in drawn} >= {"confusion.png", "label_FeH.png", "curves.png"}
    times = [Path(path).stat().st_mtime_ns for path in drawn]
    assert sorted(report.pictures(evaluate(place))) == sorted(drawn)
    assert [Path(path).stat().st_mtime_ns for path in drawn] == times


def test_plots_of_an_evaluation_that_was_replaced_are_drawn_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second evaluation was stopped before its plots, of which there are two here."""
    monkeypatch.setattr(report, "evaluation_pictures", lambda *_: {"confusion": b"1", "label_FeH": b"2"})
    report.pictures(evaluate(place))
    folder = Path(evaluate(place, gravity=3.5).folder)
    (folder / "label_Old.png").write_bytes(b"")
    pictures = json.loads((folder / report.PICTURES).read_text())
    pictures["names"].append("label_Old.png")
    (folder / report.PICTURES).write_text(json.dumps(pictures))
    before = (folder / report.RESIDUALS).stat().st_mtime_ns
    again = evaluate(place, gravity=3.5)
    assert not again.is_new
    names = {Path(path).name for path in report.pictures(again)}
    assert (folder / report.RESIDUALS).stat().st_mtime_ns > before
    assert {path.name for path in folder.glob("*.png")} == names


def test_a_corrected_table_of_labels_is_evaluated_again(place: Path, folder: Path, tmp_path: Path) -> None:
    frame, table = pd.read_csv(folder / "labels.csv"), tmp_path / "table.csv"
    frame.to_csv(table, index=False)
    first = evaluate(place, labels=str(table))
    assert not evaluate(place, labels=str(table)).is_new
    frame.assign(FeH=frame["FeH"] + 0.5, CFe=frame["CFe"] - 0.5).to_csv(table, index=False)
    second = evaluate(place, labels=str(table))
    assert second.is_new
    bias = [
        evaluation.metrics.to_pandas()
        .query("kind == 'all' and subject == 'FeH' and metric == 'bias'")["value"]
        .item()
        for evaluation in (first, second)
    ]
    assert bias[1] == pytest.approx(bias[0] - 0.5)


def test_another_store_at_the_same_path_is_evaluated_again(place: Path, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    shutil.copy(folder / "labels.csv", table)
    given = {"store": str(tmp_path / "new" / "store"), "labels": str(table)}
    lessons.store(tmp_path / "new" / "store", count=60, seed=9)
    first = evaluate(place, **given)
    shutil.rmtree(tmp_path / "new")
    lessons.store(tmp_path / "new" / "store", count=80, seed=10)
    second = evaluate(place, **given)
    assert (first.is_new, second.is_new) == (True, True)
    assert second.document.spectra > first.document.spectra


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (
            {"where": {"FeH": [-7, -1]}},
            r"join\.where: works on another label table, and none is given; give ",
        ),
        ({"criterion": "aoki2007"}, r"join\.criterion: .*give criterion=, labels= too, or leave it out"),
        ({"table": "a.csv", "where": {"snr": [9, 99]}}, r"join\.table, join\.where: "),
    ],
)
def test_settings_of_a_table_without_a_table_are_an_error(join: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Evaluate.from_dict("evaluate", {"of": "run", "join": join})
    assert Evaluate.from_dict("evaluate", {"of": "run", "labels": "t.csv", "join": join}).labels == "t.csv"
    assert Evaluate.from_dict("evaluate", {"of": "run", "join": {"classes": "subclass"}}).labels is None


def test_an_unfinished_evaluation_is_made_again(place: Path) -> None:
    evaluation = evaluate(place)
    (Path(evaluation.folder) / EVALUATION.file).unlink()
    assert evaluate(place).is_new


def test_an_evaluation_of_another_version_is_an_error(place: Path) -> None:
    file = Path(evaluate(place).folder) / "settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 1}))
    with pytest.raises(SettingsError, match="evaluation of version 1, this code reads version 3"):
        evaluate(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": "elsewhere"}, "elsewhere: no such folder, so no finished store; give the folder of one"),
        ({"of": "nowhere"}, "nowhere: no such folder; give the folder of a finished ensemble or run"),
    ],
)
def test_a_missing_folder_is_an_error(place: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises((SettingsError, FileNotFoundError), match=message):
        evaluate(place, **changes)


def test_a_store_with_another_grid_is_an_error(place: Path, tmp_path: Path) -> None:
    other = lessons.store(tmp_path / "other" / "store", count=20)
    change_document(other / "store.json", lambda document: document["grid"].update(start=4002.0))
    message = (
        r"299 linear points from 4002 to 4598, the run .* was trained on 300 linear points from 4000 to 4598"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(place, store=str(other), labels=str(tmp_path / "other" / "labels.csv"))
