"""Kills at random moments of a training: the rerun, or Ray itself, ends with what an undisturbed run ends with. SURVEY_KILLS=20 is the long form."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from survey.training import run as bundle
from survey.training.train import begin
from survey.training.worker import learn
from tests.processes import Workplace, new_workplace
from tests.training import lessons

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(200 + 60 * KILLS)]

EPOCHS = 40
ARGUMENTS = [
    "model=prism",
    "options={components: 16, hidden: 32}",
    "targets=[FeH, CFe]",
    f"epochs={EPOCHS}",
    "batch=16",
    "ema=0.9",
    "augment.preset=full",
    "tracking.use=never",
    "gpu=never",
    "threads=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy stars, and an undisturbed run on them."""
    place = tmp_path_factory.mktemp("fit-kill")
    lessons.store(place / "store")
    settings = lessons.training(
        place,
        run=str(place / "undisturbed"),
        epochs=EPOCHS,
        ema=0.9,
        augment={"preset": "full"},
        optimiser={"lr": 1e-3},
    )
    begin(settings)
    learn(settings)
    return place


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as found:
        yield found


def arguments(folder: Path, run: Path, workers: int) -> list[str]:
    return [
        f"store={folder / 'store'}",
        f"labels={folder / 'labels.csv'}",
        f"run={run}",
        f"workers={workers}",
        *ARGUMENTS,
    ]


def rows(run: Path) -> list[dict[str, float]]:
    return bundle.history(str(run))


def assert_same_end(found: list[dict[str, float]], wanted: list[dict[str, float]], close: float) -> None:
    assert [row["epoch"] for row in found] == [row["epoch"] for row in wanted]
    for name in ("train_loss", "validation_loss", "validation_mae_FeH", "lr"):
        assert found[-1][name] == pytest.approx(wanted[-1][name], rel=close), name


def test_a_killed_driver_leaves_a_run_that_ends_as_an_undisturbed_one(folder: Path, place: Workplace):
    run, dice = place.folder / "run", random.Random(4)
    checkpoint = run / bundle.CHECKPOINTS / "last.safetensors"
    for _ in range(KILLS):
        job = place.python("jobs/train.py", *arguments(folder, run, 1))
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        if not job.until(
            lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before
        ):
            break
        time.sleep(dice.uniform(0, 0.5))
        if job.process.poll() is None:
            job.kill()
    last = place.python("jobs/train.py", *arguments(folder, run, 1))
    assert last.wait() == 0, last.err
    assert_same_end(rows(run), rows(folder / "undisturbed"), 1e-12)
    assert (run / bundle.MODEL).read_bytes() == (folder / "undisturbed" / bundle.MODEL).read_bytes()


def workers_of(place: Workplace) -> list[psutil.Process]:
    return [process for process in place.processes() if "RayTrainWorker" in " ".join(process.cmdline())]


def test_a_killed_worker_is_replaced_and_the_run_ends_as_an_undisturbed_one(folder: Path, place: Workplace):
    run = place.folder / "run"
    checkpoint = run / bundle.CHECKPOINTS / "last.safetensors"
    job = place.python("jobs/train.py", *arguments(folder, run, 2))
    assert job.until(checkpoint.exists, 120), job.err
    victims = workers_of(place)
    assert victims, [process.cmdline()[:2] for process in place.processes()]
    victims[0].kill()
    assert job.wait(150) == 0, job.err
    assert_same_end(rows(run), rows(folder / "undisturbed"), 5e-3)
