"""Kills at random moments: the next run ends with the store that an undisturbed run makes.

SURVEY_KILLS=20 is the long form.
"""

import contextlib
import json
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

from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from tests import survey_files
from tests.forks import JobServer
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(1800 + 120 * KILLS)]

SHARDS, SIZE = 12, 250 if KILLS > 1 else 80
PREPARE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}}


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store that depend on its spectra."""
    kinds = ("spectra/*.parquet", "refused/*.parquet", "markers/*.json", "store.json", "shards.parquet")
    return {
        str(path.relative_to(store)): path.read_bytes() for kind in kinds for path in sorted(store.glob(kind))
    }


@pytest.fixture(scope="module")
def input_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many names of 43 files: work for each of 12 shards, and hardly any disk."""
    folder = tmp_path_factory.mktemp("kill")
    base = sorted(survey_files.write(folder / "base", range(40), broken=True).iterdir())
    (folder / "in").mkdir()
    for number in range(SHARDS * SIZE):
        file = base[number % len(base)]
        (folder / "in" / f"{number:05d}-{file.name}").hardlink_to(file)
    return folder / "in"


@pytest.fixture(scope="module")
def undisturbed(input_folder: Path) -> dict[str, bytes]:
    """The files that an undisturbed run writes."""
    values = {
        "input": str(input_folder),
        "store": str(input_folder.parent / "store"),
        "shard": SIZE,
        "refuse_above": 1.0,
        "prepare": PREPARE,
    }
    document = ingest(Ingest.from_dict("ingest", values)).document
    assert (document.shards, document.rows_in) == (SHARDS, SHARDS * SIZE)
    return contents(input_folder.parent / "store")


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as workplace:
        yield workplace


@pytest.fixture
def start(place: Workplace, input_folder: Path, forks: JobServer) -> Callable[[int], Job]:
    """Starts the job with so many workers; one worker needs no Ray, and may be a fork."""
    arguments = [
        f"input={input_folder}",
        f"store={place.folder}/store",
        f"shard={SIZE}",
        "refuse_above=1.0",
        "preview=0",
        f"prepare={json.dumps(PREPARE)}",
    ]
    python: dict[int, Callable[..., Job]] = {1: partial(forks.python, place), 2: place.python}
    return lambda workers: python[workers]("jobs/ingest.py", *arguments, f"workers={workers}")


def markers(place: Workplace) -> int:
    return len(list((place.folder / "store" / "markers").glob("*.json")))


def has_markers(place: Workplace, count: int) -> bool:
    return markers(place) >= count


def has_workers_and_markers(place: Workplace, count: int) -> bool:
    return bool(worker_processes(place)) and markers(place) >= count


def worker_processes(place: Workplace) -> list[psutil.Process]:
    """The processes that work on a shard; if there are none, those that wait for one."""
    titles = {process: title(process) for process in place.processes()}
    busy = [process for process, text in titles.items() if text.startswith("ray::") and "Map" in text]
    return busy or [process for process, text in titles.items() if text.startswith("ray::IDLE")]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def check_complete(place: Workplace, undisturbed: dict[str, bytes]) -> None:
    """The store equals that of the undisturbed run in every byte, and has every row exactly once."""
    store = place.folder / "store"
    written = contents(store)
    document = open_store(str(store)).document
    paths = [
        path
        for kind in ("spectra", "refused")
        for file in sorted((store / kind).glob("*.parquet"))
        for path in pq.read_table(file)["path"].to_pylist()
    ]
    assert len(paths) == len(set(paths)) == SHARDS * SIZE
    assert document.rows_in == document.written + sum(document.refused.values()) == SHARDS * SIZE
    assert written.keys() == undisturbed.keys()
    assert all(written[name] == undisturbed[name] for name in written)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_driver_may_be_killed_at_any_moment(
    place: Workplace, start: Callable[[int], Job], undisturbed: dict[str, bytes], workers: int
) -> None:
    chance = random.Random(1)
    moments, orphans = [], []
    for number in range(KILLS):
        run, before = start(workers), markers(place)
        if number % 4 == 3:  # at a time, perhaps before the first file
            time.sleep(chance.uniform(0.2, 8))
        else:
            wanted = chance.randint(before + 1, max(before + 1, SHARDS - 5))
            assert run.until(partial(has_markers, place, wanted))
            time.sleep(chance.uniform(0, 0.3))
        run.kill()
        orphans.append(len(worker_processes(place)))
        moments.append(markers(place))
        if number % 2 or number == KILLS - 1 or moments[-1] > SHARDS - 6:
            last = start(workers)  # at once: workers of the killed driver may still write
            assert last.wait() == 0, last.err
            check_complete(place, undisturbed)
            place.sweep()
            shutil.rmtree(place.folder / "store")
    print(
        f"{KILLS} kills of the driver with so many shards finished: {moments}; workers still alive: {orphans}"
    )
    assert any(0 < moment < SHARDS for moment in moments)


@pytest.mark.long
def test_workers_may_be_killed_at_any_moment(
    place: Workplace, start: Callable[[int], Job], undisturbed: dict[str, bytes]
) -> None:
    chance = random.Random(2)
    moments: list[int] = []
    while len(moments) < KILLS:
        run = start(2)
        wanted = chance.randint(0, 4)
        while (
            len(moments) < KILLS
            and wanted < SHARDS - 1
            and run.until(partial(has_workers_and_markers, place, wanted))
        ):
            time.sleep(chance.uniform(0, 0.3))
            running = worker_processes(place)
            if running and markers(place) < SHARDS:
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(running).kill()
                    moments.append(markers(place))
            wanted = markers(place) + chance.randint(1, 5)
        assert run.wait() == 0, run.err
        check_complete(place, undisturbed)
        place.sweep()
        shutil.rmtree(place.folder / "store")
    print(f"{KILLS} kills of a worker with so many shards finished: {moments}")
