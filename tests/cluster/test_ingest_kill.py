"""Kills at random moments: whatever dies, the next run ends with the store that an undisturbed run makes. SURVEY_KILLS=20 is the long form."""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from survey.store.ingest import Ingest, ingest
from survey.store.store import open_store
from tests import survey_files
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.cluster, pytest.mark.timeout(100 + 60 * KILLS)]

SHARDS, SIZE = 20, 250
PREPARE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}}


def contents(store: Path) -> dict[str, bytes]:
    """Everything in a store that says something of spectra."""
    kinds = ("spectra/*.parquet", "refused/*.parquet", "markers/*.json", "store.json", "shards.parquet")
    return {
        str(path.relative_to(store)): path.read_bytes() for kind in kinds for path in sorted(store.glob(kind))
    }


@pytest.fixture(scope="module")
def input_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 names of 43 files: 0.2 s of work for each of 20 shards, and hardly any disk."""
    folder = tmp_path_factory.mktemp("kill")
    base = sorted(survey_files.write(folder / "base", range(40), broken=True).iterdir())
    (folder / "in").mkdir()
    for number in range(SHARDS * SIZE):
        file = base[number % len(base)]
        (folder / "in" / f"{number:05d}-{file.name}").hardlink_to(file)
    return folder / "in"


@pytest.fixture(scope="module")
def undisturbed(input_folder: Path) -> dict[str, bytes]:
    """What a run that nobody disturbs writes."""
    values = {
        "input": str(input_folder),
        "store": str(input_folder.parent / "store"),
        "shard": SIZE,
        "refuse_above": 1.0,
        "prepare": PREPARE,
    }
    report = ingest(Ingest.checked("ingest", values))
    assert (report.shards, report.rows_in) == (SHARDS, SHARDS * SIZE)
    return contents(input_folder.parent / "store")


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as found:
        yield found


def job(place: Workplace, input_folder: Path) -> Job:
    arguments = [
        f"input={input_folder}",
        f"store={place.folder}/store",
        f"shard={SIZE}",
        "refuse_above=1.0",
        f"prepare={json.dumps(PREPARE)}",
    ]
    return place.python("jobs/ingest.py", *arguments, "workers=2")


def markers(place: Workplace) -> int:
    return len(list((place.folder / "store" / "markers").glob("*.json")))


def workers(place: Workplace) -> list[psutil.Process]:
    """The processes that are at work on a shard, else those that wait for one."""
    titles = {process: title(process) for process in place.processes()}
    busy = [process for process, said in titles.items() if said.startswith("ray::") and "Map" in said]
    return busy or [process for process, said in titles.items() if said.startswith("ray::IDLE")]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_whole(place: Workplace, undisturbed: dict[str, bytes]) -> bool:
    """The store is that of the undisturbed run, byte for byte; and its rows are all there, each once."""
    store = place.folder / "store"
    written = contents(store)
    about = open_store(str(store)).about
    paths = [
        path
        for kind in ("spectra", "refused")
        for part in sorted((store / kind).glob("*.parquet"))
        for path in pq.read_table(part)["path"].to_pylist()
    ]
    assert (
        len(paths)
        == len(set(paths))
        == about["rows_in"]
        == about["written"] + sum(about["refused"].values())
        == SHARDS * SIZE
    )
    assert written.keys() == undisturbed.keys()
    assert all(written[name] == undisturbed[name] for name in written)
    return True


def test_a_driver_may_be_killed_at_any_moment(
    place: Workplace, input_folder: Path, undisturbed: dict[str, bytes]
) -> None:
    chance = random.Random(1)
    moments, orphans = [], []
    for number in range(KILLS):
        run, before = job(place, input_folder), markers(place)
        if number % 4 == 3:  # by the clock: perhaps before anything is there
            time.sleep(chance.uniform(0.2, 8))
        else:
            wanted = chance.randint(before + 1, max(before + 1, SHARDS - 5))
            assert run.until(lambda wanted=wanted: markers(place) >= wanted)
            time.sleep(chance.uniform(0, 0.3))
        run.kill()
        orphans.append(len(workers(place)))
        moments.append(markers(place))
        if number % 2 or number == KILLS - 1 or moments[-1] > SHARDS - 6:
            last = job(place, input_folder)  # at once: workers of the dead driver may still be writing
            assert last.wait() == 0, last.err
            assert is_whole(place, undisturbed)
            place.sweep()
            shutil.rmtree(place.folder / "store")
    print(
        f"{KILLS} kills of the driver with so many shards done: {moments}; workers that outlived it: {orphans}"
    )
    assert any(0 < moment < SHARDS for moment in moments)


def test_workers_may_be_killed_at_any_moment(
    place: Workplace, input_folder: Path, undisturbed: dict[str, bytes]
) -> None:
    chance = random.Random(2)
    moments: list[int] = []
    while len(moments) < KILLS:
        run = job(place, input_folder)
        wanted = chance.randint(0, 4)
        while (
            len(moments) < KILLS
            and wanted < SHARDS - 1
            and run.until(lambda wanted=wanted: bool(workers(place)) and markers(place) >= wanted)
        ):
            time.sleep(chance.uniform(0, 0.3))
            found = workers(place)
            if found and markers(place) < SHARDS:
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(found).kill()
                    moments.append(markers(place))
            wanted = markers(place) + chance.randint(1, 5)
        assert run.wait() == 0, run.err
        assert is_whole(place, undisturbed)
        place.sweep()
        shutil.rmtree(place.folder / "store")
    print(f"{KILLS} kills of a worker with so many shards done: {moments}")
