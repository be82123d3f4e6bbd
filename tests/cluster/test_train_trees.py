"""Trees grown by Ray workers, each with its share of the spectra; a worker that is lost costs the portion in work."""

import math
from pathlib import Path

import psutil
import pytest

from survey.cluster.train import fit
from survey.training import run as bundle
from tests.cluster.test_train_kill import workers_of
from tests.processes import Workplace
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:ray"
    ),  # Ray copies settings of its own that it has given up
]
OPTIONS = {"components": 16, "rounds": 40, "report": 20, "lr": 0.3, "colsample": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trees")
    lessons.store(made / "store", count=600)
    return made


@pytest.mark.usefixtures("small_ray")
@pytest.mark.parametrize("model", ["xgboost", "lightgbm"])
def test_two_workers_grow_trees_as_good_as_those_of_one(folder: Path, model: str):
    found = []
    for workers in (1, 2):
        settings = lessons.training(
            folder, run=str(folder / f"{model}-{workers}"), model=model, options=OPTIONS, workers=workers
        )
        assert fit(settings)
        found.append(bundle.history(settings.run))
    assert [row["rounds"] for row in found[1]] == [20, 40]
    one, two = (rows[-1]["validation_r2_mean"] for rows in found)
    assert one > 0.75
    assert math.isclose(one, two, abs_tol=0.08)  # other rows are drawn, other bounds of histograms


@pytest.mark.usefixtures("small_ray")
def test_what_takes_seconds_is_left_to_one_worker(folder: Path):
    one, two = (
        lessons.training(
            folder, run=str(folder / f"mean-{workers}"), model="mean", options={}, workers=workers
        )
        for workers in (1, 2)
    )
    assert fit(one)
    assert fit(two)
    assert bundle.about_run(one.run)["weights_sha256"] == bundle.about_run(two.run)["weights_sha256"]


@pytest.mark.kill
@pytest.mark.long
def test_a_lost_worker_costs_the_portion_in_work(folder: Path, workplace: Workplace):
    run = workplace.folder / "run"
    options = "options={components: 16, rounds: 600, report: 50, patience: 0, colsample: 0.5}"
    job = workplace.python(
        "jobs/train.py",
        *(
            f"store={folder / 'store'}",
            f"labels={folder / 'labels.csv'}",
            f"run={run}",
            "workers=2",
            "model=xgboost",
            options,
        ),
        *("task=reg", "targets=[FeH]", "tracking.use=never", "threads=1"),
    )
    checkpoint = run / bundle.CHECKPOINTS / "last.safetensors"
    assert job.until(checkpoint.exists, 120), job.err
    victims: list[psutil.Process] = workers_of(workplace)
    assert victims
    victims[0].kill()
    assert job.wait(200) == 0, job.err
    assert [row["rounds"] for row in bundle.history(str(run))] == list(range(50, 601, 50))
