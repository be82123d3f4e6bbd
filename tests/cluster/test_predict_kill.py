"""Kills at random moments of a prediction: the next run ends with the files of an undisturbed one. SURVEY_KILLS=20 is the long form."""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from survey.predict.output import open_predictions
from survey.predict.predict import Predict, predict
from survey.store.store import open_store
from tests import survey_files
from tests.ensemble import askable
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(200 + 60 * KILLS)]

SHARDS, SIZE = 20, 100


def contents(said: Path) -> dict[str, bytes]:
    """Everything in predictions that says something of spectra."""
    kinds = ("predictions/*.parquet", "markers/*.json", "predictions.json")
    return {
        str(path.relative_to(said)): path.read_bytes() for kind in kinds for path in sorted(said.glob(kind))
    }


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 2,000 names of 40 files, an ensemble with dropout passes that takes 0.1 s or more for each of its 20 shards, and its predictions."""
    folder = tmp_path_factory.mktemp("predict-kill")
    base = sorted(survey_files.write(folder / "base", range(40)).iterdir())
    (folder / "files").mkdir()
    for number in range(SHARDS * SIZE):
        file = base[number % len(base)]
        (folder / "files" / f"{number:05d}-{file.name}").hardlink_to(file)
    askable.three(folder / "ensemble", askable.store(folder, range(0), shard=SIZE), passes=40)
    report = predict(settings(folder, folder / "said"))
    assert (report.about["shards"], report.about["rows"]) == (SHARDS, SHARDS * SIZE)
    return folder


def settings(folder: Path, said: Path) -> Predict:
    given = {
        "ensemble": str(folder / "ensemble"),
        "store": str(folder / "store"),
        "predictions": str(said),
        "threads": 1,
        "batch": 16,
    }
    return Predict.checked("predict", given)


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as found:
        yield found


def job(place: Workplace, folder: Path, workers: int) -> Job:
    given = [
        f"ensemble={folder}/ensemble",
        f"store={folder}/store",
        f"predictions={place.folder}/said",
        "threads=1",
        "batch=16",
        "gpu=never",
    ]
    return place.python("jobs/predict.py", *given, f"workers={workers}")


def markers(place: Workplace) -> int:
    return len(list((place.folder / "said" / "markers").glob("*.json")))


def is_whole(place: Workplace, folder: Path) -> bool:
    """The predictions are those of the undisturbed run, byte for byte; and every spectrum is there once."""
    said = place.folder / "said"
    paths = [
        path
        for part in sorted((said / "predictions").glob("*.parquet"))
        for path in pq.read_table(part)["path"].to_pylist()
    ]
    assert len(paths) == len(set(paths)) == open_store(str(folder / "store")).about["written"]
    assert open_predictions(str(said)).about["rows"] == len(paths)
    written, wanted = contents(said), contents(folder / "said")
    assert written.keys() == wanted.keys()
    assert [name for name in written if written[name] != wanted[name]] == []
    return True


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_driver_may_be_killed_at_any_moment(place: Workplace, origin: Path, workers: int) -> None:
    chance = random.Random(workers)
    moments = []
    for number in range(KILLS):
        run, before = job(place, origin, workers), markers(place)
        if number % 4 == 3:  # by the clock: perhaps before anything is there
            time.sleep(chance.uniform(0.2, 12))
        else:
            wanted = chance.randint(before + 1, max(before + 1, SHARDS - 6))
            assert run.until(lambda wanted=wanted: markers(place) >= wanted), run.err
            time.sleep(chance.uniform(0, 0.3))
        run.kill()
        moments.append(markers(place))
        if number % 2 or number == KILLS - 1 or moments[-1] > SHARDS - 7:
            last = job(place, origin, workers)  # at once: actors of the dead driver may still be writing
            assert last.wait() == 0, last.err
            assert is_whole(place, origin)
            place.sweep()
            shutil.rmtree(place.folder / "said")
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


def test_workers_may_be_killed_at_any_moment(place: Workplace, origin: Path) -> None:
    chance = random.Random(2)
    moments: list[int] = []
    while len(moments) < KILLS:
        run = job(place, origin, 2)
        wanted = chance.randint(0, 6)
        while (
            len(moments) < KILLS
            and wanted < SHARDS - 1
            and run.until(lambda wanted=wanted: bool(actors(place)) and markers(place) >= wanted)
        ):
            time.sleep(chance.uniform(0, 0.3))
            found = actors(place)
            if found and markers(place) < SHARDS:
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(found).kill()
                    moments.append(markers(place))
            wanted = markers(place) + chance.randint(1, 6)
        assert run.wait() == 0, run.err
        assert is_whole(place, origin)
        place.sweep()
        shutil.rmtree(place.folder / "said")
    print(f"{KILLS} kills of a worker with so many shards done: {moments}")
