"""Trees that Ray workers grow together; a lost worker costs the rounds since the last report."""

import math
from pathlib import Path

import pytest

from survey.cluster.work import fit
from survey.training import run as runs
from tests.cluster.test_train_kill import workers_of
from tests.processes import Workplace
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    # Ray copies settings of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
OPTIONS = {"components": 16, "rounds": 40, "report": 20, "lr": 0.3, "colsample": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trees")
    lessons.store(place / "store", count=600)
    return place


@pytest.mark.long
@pytest.mark.usefixtures("small_ray")
@pytest.mark.parametrize("model", ["xgboost", "lightgbm"])
def test_the_trees_of_two_workers_are_as_good_as_those_of_one(folder: Path, model: str) -> None:
    histories = []
    for workers in (1, 2):
        run = str(folder / f"{model}-{workers}")
        settings = lessons.training(folder, run=run, model=model, options=OPTIONS, workers=workers)
        assert fit(settings)
        histories.append(runs.history(settings.run))
    assert [row["rounds"] for row in histories[1]] == [20, 40]
    one, two = (rows[-1]["validation_r2_mean"] for rows in histories)
    assert one > 0.75
    assert math.isclose(one, two, abs_tol=0.08)  # other rows are drawn, and histograms have other bounds


@pytest.mark.usefixtures("small_ray")
def test_a_model_that_takes_seconds_is_fitted_by_one_worker(folder: Path) -> None:
    weights = []
    for workers in (1, 2):
        run = str(folder / f"mean-{workers}")
        assert fit(lessons.training(folder, run=run, model="mean", options={}, workers=workers))
        weights.append(runs.run_document(run).weights_sha256)
    assert weights[0] == weights[1]


@pytest.mark.kill
@pytest.mark.long
def test_a_lost_worker_costs_the_rounds_since_the_last_report(folder: Path, workplace: Workplace) -> None:
    run = workplace.folder / "run"
    job = workplace.python(
        "jobs/train.py",
        f"store={folder / 'store'}",
        f"labels={folder / 'labels.csv'}",
        f"run={run}",
        "workers=2",
        "model=xgboost",
        "options={components: 16, rounds: 600, report: 50, patience: 0, colsample: 0.5}",
        "task=reg",
        "targets=[FeH]",
        "tracking.use=never",
        "threads=1",
    )
    checkpoint = run / runs.CHECKPOINTS / "last.safetensors"
    assert job.until(checkpoint.exists), job.err
    workers = workers_of(workplace)
    assert workers
    workers[0].kill()
    assert job.wait(200) == 0, job.err
    assert [row["rounds"] for row in runs.history(str(run))] == list(range(50, 601, 50))
