"""A run judged by spectra whose labels are known."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey.evaluate.evaluate import Evaluate, evaluate
from survey.evaluate.result import METRICS, NOTE, PREDICTIONS, READS
from survey.labelling import samples
from survey.reports import evaluate as outcome
from survey.settings import SettingsError
from survey.training.train import begin
from survey.training.worker import learn
from tests.training import lessons


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a toy store."""
    folder = tmp_path_factory.mktemp("evaluate")
    lessons.store(folder / "store")
    settings = lessons.training(folder)
    begin(settings)
    learn(settings)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, without evaluations."""
    shutil.copytree(made / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluations*"))
    return tmp_path


def settings(place: Path, **changes: object) -> Evaluate:
    return Evaluate.checked("evaluate", {"of": str(place / "run"), "threads": 1} | changes)


def test_the_test_part_is_evaluated_once_and_shown_again(place: Path):
    first = evaluate(settings(place))
    before = (Path(first.folder) / METRICS).read_bytes()
    again = evaluate(settings(place))
    assert (first.made, again.made) == (True, False)
    assert (Path(first.folder) / METRICS).read_bytes() == before
    assert len(json.loads((place / "run" / READS).read_text())) == 1
    assert again.table.equals(first.table)
    assert np.allclose(again.judged.p_NC, first.judged.p_NC)
    assert np.allclose(again.judged.mu_NL, first.judged.mu_NL)


def test_reading_the_test_again_with_other_settings_leaves_a_trace(place: Path):
    evaluate(settings(place))
    second = evaluate(settings(place, gravity=3.5))
    assert second.about["read_before"] == 1
    assert "this part was evaluated 1 times before" in outcome.summary(second, [])


def test_predictions_stand_beside_the_truth_of_the_test_part_alone(place: Path):
    found = evaluate(settings(place))
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    test = samples.read(str(place / "run")).part("test")
    assert table["obsid"].to_pylist() == test.about["obsid"].to_pylist()
    assert np.allclose(table["true_FeH"].to_numpy(), test.label_NL[:, 0])
    assert np.allclose(sum(table[f"p_{name}"].to_numpy() for name in ("mp", "cemp", "nmp")), 1)
    mae = (
        found.table.to_pandas()
        .query("kind == 'all' and subject == 'FeH' and metric == 'mae'")["value"]
        .item()
    )
    assert mae == pytest.approx(np.abs(table["FeH"].to_numpy() - table["true_FeH"].to_numpy()).mean())


def test_other_stars_are_evaluated_where_none_of_them_was_learned_from(place: Path, tmp_path: Path):
    lessons.store(tmp_path / "new" / "store", count=60, seed=9)
    found = evaluate(
        settings(place, store=str(tmp_path / "new" / "store"), labels=str(tmp_path / "new" / "labels.csv"))
    )
    learned = samples.read(str(place / "run")).part("train").about["star"].to_pylist()
    table = pq.read_table(Path(found.folder) / PREDICTIONS)
    assert 0 < table.num_rows < 60  # the toy numbers visits from 1000 on, also in another store
    assert not set(table["star"].to_pylist()) & set(learned)


def test_stars_that_the_run_has_learned_from_are_known_under_any_name(
    place: Path, made: Path, tmp_path: Path
):
    lines = (made / "labels.csv").read_text().splitlines()
    (tmp_path / "named.csv").write_text(
        "\n".join(
            [f"gaia_source_id,{lines[0]}", *(f"{7_000_000 + n},{line}" for n, line in enumerate(lines[1:]))]
        )
    )
    found = evaluate(settings(place, labels=str(tmp_path / "named.csv")))
    assert len(found.judged) == len(samples.read(str(place / "run")).part("test"))


def test_a_run_is_evaluated_where_its_store_lies_now(place: Path, made: Path, tmp_path: Path):
    shutil.copytree(made / "store", tmp_path / "moved")
    assert evaluate(settings(place, store=str(tmp_path / "moved"))).made
    other = lessons.store(tmp_path / "other" / "store", count=20, seed=9)
    with pytest.raises(SettingsError, match="is not the store that the run was trained on"):
        evaluate(settings(place, store=str(other), gravity=3.0))


def test_evaluations_by_tables_of_one_name_lie_apart(place: Path, tmp_path: Path):
    folders = set()
    for name in ("a", "b"):
        lessons.store(tmp_path / name / "store", count=60, seed=9)
        given = {"store": str(tmp_path / name / "store"), "labels": str(tmp_path / name / "labels.csv")}
        folders.add(evaluate(settings(place, **given)).folder)
    assert len(folders) == 2


def test_plots_are_drawn_once(place: Path):
    found = evaluate(settings(place))
    drawn = outcome.pictures(found)
    assert {Path(path).name for path in drawn} >= {"confusion.png", "label_FeH.png", "curves.png"}
    times = [Path(path).stat().st_mtime_ns for path in drawn]
    assert sorted(outcome.pictures(evaluate(settings(place)))) == sorted(drawn)
    assert [Path(path).stat().st_mtime_ns for path in drawn] == times


def test_an_evaluation_that_was_cut_off_is_made_again(place: Path):
    found = evaluate(settings(place))
    (Path(found.folder) / NOTE).unlink()
    assert evaluate(settings(place)).made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"store": "elsewhere"}, "no store.json in it"),
        ({"of": "nowhere"}, "no run.json in it"),
    ],
)
def test_a_mistake_is_told(place: Path, changes: dict[str, str], told: str):
    with pytest.raises((SettingsError, FileNotFoundError), match=told):
        evaluate(settings(place, **changes))


def test_a_store_of_another_grid_is_refused(place: Path, tmp_path: Path):
    other = lessons.store(tmp_path / "other" / "store", count=20)
    about = json.loads((other / "store.json").read_text())
    (other / "store.json").write_text(json.dumps(about | {"grid": about["grid"] | {"start": 4001.0}}))
    with pytest.raises(
        ValueError,
        match=r"300 linear points from 4001 to 4598, the run .* was trained on 300 linear points from 4000 to 4598",
    ):
        evaluate(settings(place, store=str(other), labels=str(tmp_path / "other" / "labels.csv")))
