"""Kills at random moments of a training: another run of the job, or Ray itself, ends like an undisturbed run.

SURVEY_KILLS=20 kills more often.
"""

import os
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from survey.training import run as runs
from tests.processes import Workplace, new_workplace
from tests.training import lessons

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(1800 + 120 * KILLS)]

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
    lessons.train(
        place,
        run=str(place / "undisturbed"),
        epochs=EPOCHS,
        ema=0.9,
        augment={"preset": "full"},
        optimiser={"lr": 1e-3},
    )
    return place


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as workplace:
        yield workplace


def arguments(folder: Path, run: Path, workers: int) -> list[str]:
    return [
        f"store={folder / 'store'}",
        f"labels={folder / 'labels.csv'}",
        f"run={run}",
        f"workers={workers}",
        *ARGUMENTS,
    ]


def assert_same_end(run: Path, undisturbed: Path, tolerance: float) -> None:
    rows, expected = (runs.history(str(path)) for path in (run, undisturbed))
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected]
    for name in ("train_loss", "validation_loss", "validation_mae_FeH", "lr"):
        assert rows[-1][name] == pytest.approx(expected[-1][name], rel=tolerance), name


def is_newer(path: Path, written_ns: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > written_ns


@pytest.mark.long
def test_a_killed_job_leaves_a_run_that_ends_like_an_undisturbed_one(folder: Path, place: Workplace) -> None:
    run, rng = place.folder / "run", random.Random(4)
    checkpoint = run / runs.CHECKPOINTS / "last.safetensors"
    for _ in range(KILLS):
        job = place.python("jobs/train.py", *arguments(folder, run, 1))
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        if not job.until(partial(is_newer, checkpoint, before)):
            break
        time.sleep(rng.uniform(0, 0.5))
        if job.process.poll() is None:
            job.kill()
    last = place.python("jobs/train.py", *arguments(folder, run, 1))
    assert last.wait() == 0, last.err
    assert_same_end(run, folder / "undisturbed", 1e-12)
    assert (run / runs.MODEL).read_bytes() == (folder / "undisturbed" / runs.MODEL).read_bytes()


def workers_of(place: Workplace) -> list[psutil.Process]:
    """The processes of Ray Train's workers."""
    return [process for process in place.processes() if "RayTrainWorker" in " ".join(process.cmdline())]


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_the_run_ends_like_an_undisturbed_one(
    folder: Path, place: Workplace
) -> None:
    run = place.folder / "run"
    checkpoint = run / runs.CHECKPOINTS / "last.safetensors"
    job = place.python("jobs/train.py", *arguments(folder, run, 2))
    assert job.until(checkpoint.exists), job.err
    workers = workers_of(place)
    assert workers, [process.cmdline()[:2] for process in place.processes()]
    workers[0].kill()
    assert job.wait(150) == 0, job.err
    assert_same_end(run, folder / "undisturbed", 5e-3)
