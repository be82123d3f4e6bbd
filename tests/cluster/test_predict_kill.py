"""Kills at random moments of a prediction: the next run ends with the same files as an undisturbed run.

SURVEY_KILLS=20 is the long form.
"""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from survey.predict.output import open_predictions
from survey.predict.predict import predict
from survey.store.store import open_store
from tests import survey_files
from tests.ensemble import untrained
from tests.forks import JobServer
from tests.predict.small_predictions import settings
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(1800 + 120 * KILLS)]

PATIENCE = 300
"""Seconds after which a job counts as stuck; a loaded machine takes a minute to start Ray."""

SHARDS = 12
SIZE, PASSES = (100, 40) if KILLS > 1 else (40, 10)
"""Spectra of a shard, and dropout passes of the ensemble: together they make a shard take a moment."""


def contents(predictions: Path) -> dict[str, bytes]:
    """The files of predictions that depend on the spectra."""
    patterns = ("predictions/*.parquet", "markers/*.json", "predictions.json")
    paths = [path for pattern in patterns for path in sorted(predictions.glob(pattern))]
    return {str(path.relative_to(predictions)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many names of 40 files, an ensemble and undisturbed predictions."""
    folder = tmp_path_factory.mktemp("predict-kill")
    base = sorted(survey_files.write(folder / "base", range(40)).iterdir())
    (folder / "files").mkdir()
    for number in range(SHARDS * SIZE):
        file = base[number % len(base)]
        (folder / "files" / f"{number:05d}-{file.name}").hardlink_to(file)
    untrained.three(folder / "ensemble", untrained.store(folder, range(0), shard=SIZE), passes=PASSES)
    result = predict(settings(folder, batch=16))
    assert (result.document.shards, result.document.rows) == (SHARDS, SHARDS * SIZE)
    return folder


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as workplace:
        yield workplace


@pytest.fixture
def start(place: Workplace, origin: Path, forks: JobServer) -> Callable[[int], Job]:
    """Starts the job with so many workers; one worker needs no Ray, and may be a fork."""
    given = [
        f"ensemble={origin}/ensemble",
        f"store={origin}/store",
        f"predictions={place.folder}/predictions",
        "threads=1",
        "batch=16",
        "gpu=never",
    ]
    python: dict[int, Callable[..., Job]] = {1: partial(forks.python, place), 2: place.python}
    return lambda workers: python[workers]("jobs/predict.py", *given, f"workers={workers}")


def markers(place: Workplace) -> int:
    """The number of shards that are done."""
    return len(list((place.folder / "predictions" / "markers").glob("*.json")))


def at_least(place: Workplace, count: int) -> Callable[[], bool]:
    return lambda: markers(place) >= count


def check_complete(place: Workplace, folder: Path) -> None:
    """The predictions are those of the undisturbed run, byte for byte, and every spectrum is there once."""
    predictions = place.folder / "predictions"
    tables = [pq.read_table(path) for path in sorted((predictions / "predictions").glob("*.parquet"))]
    paths = [path for table in tables for path in table["path"].to_pylist()]
    assert len(paths) == len(set(paths)) == open_store(str(folder / "store")).document.written
    assert open_predictions(str(predictions)).document.rows == len(paths)
    written, wanted = contents(predictions), contents(folder / "predictions")
    assert written.keys() == wanted.keys()
    assert [name for name in written if written[name] != wanted[name]] == []


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_driver_may_be_killed_at_any_moment(
    place: Workplace, origin: Path, start: Callable[[int], Job], workers: int
) -> None:
    chance = random.Random(workers)
    moments = []
    for number in range(KILLS):
        run, before = start(workers), markers(place)
        if number % 4 == 3:  # after some time, perhaps before anything is written
            time.sleep(chance.uniform(0.2, 12))
        else:
            wanted = chance.randint(before + 1, max(before + 1, SHARDS - 6))
            assert run.until(at_least(place, wanted), PATIENCE), run.err
            time.sleep(chance.uniform(0, 0.3))
        run.kill()
        moments.append(markers(place))
        if number % 2 or number == KILLS - 1 or moments[-1] > SHARDS - 7:
            last = start(workers)  # at once: actors of the dead driver may still be writing
            assert last.wait(PATIENCE) == 0, last.err
            check_complete(place, origin)
            place.sweep()
            shutil.rmtree(place.folder / "predictions")
    print(f"{KILLS} kills of the driver with so many shards done: {moments}")
    assert any(0 < moment < SHARDS for moment in moments)


def actors(place: Workplace) -> list[psutil.Process]:
    """The processes that hold networks."""
    return [process for process in place.processes() if title(process).startswith("ray::Actor")]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def has_actors(place: Workplace, count: int) -> Callable[[], bool]:
    return lambda: bool(actors(place)) and markers(place) >= count


@pytest.mark.long
def test_workers_may_be_killed_at_any_moment(
    place: Workplace, origin: Path, start: Callable[[int], Job]
) -> None:
    chance = random.Random(2)
    moments: list[int] = []
    while len(moments) < KILLS:
        run = start(2)
        wanted = chance.randint(0, 6)
        while len(moments) < KILLS and run.until(has_actors(place, wanted), PATIENCE):
            time.sleep(chance.uniform(0, 0.3))
            alive = actors(place)
            if alive and markers(place) < SHARDS:
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(alive).kill()
                    moments.append(markers(place))
            wanted = markers(place) + chance.randint(1, 6)
        assert run.wait(PATIENCE) == 0, run.err
        check_complete(place, origin)
        place.sweep()
        shutil.rmtree(place.folder / "predictions")
    print(f"{KILLS} kills of a worker with so many shards done: {moments}")
