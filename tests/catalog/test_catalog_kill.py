"""Kills at random moments: the next run makes the same catalog as an undisturbed run."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from survey.catalog.document import CATALOG
from survey.catalog.hats import COLLECTION, HATS
from survey.catalog.spill import WORK
from tests.catalog.test_catalog import write_survey
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.long, pytest.mark.kill, pytest.mark.timeout(1800 + 120 * KILLS)]

PICTURES = "pictures.json"
"""The file that holds the time at which the pictures were drawn."""


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as workplace:
        yield workplace


def start(place: Workplace, folder: Path, catalog: Path) -> Job:
    """A job that has begun to write."""
    predictions = f"predictions={folder / 'predictions'}"
    job = place.python("jobs/catalog.py", predictions, f"catalog={catalog}", "rows_per_file=1000")
    assert job.until(lambda: (catalog / WORK).exists() or (catalog / CATALOG.file).exists()), job.err
    return job


def begin_like(other: Path, catalog: Path) -> None:
    """Begin a catalog at the time of another: its files hold that time."""
    catalog.mkdir(exist_ok=True)
    shutil.copy(other / "settings.json", catalog)


def contents(catalog: Path) -> dict[str, bytes]:
    """All files by name, without the pictures."""
    files = [
        path
        for path in catalog.rglob("*")
        if path.is_file() and path.name != PICTURES and path.suffix != ".png"
    ]
    return {str(path.relative_to(catalog)): path.read_bytes() for path in files}


def test_a_killed_catalog_is_made_again_the_same(tmp_path: Path, place: Workplace) -> None:
    write_survey(tmp_path)
    undisturbed, catalog = place.folder / "undisturbed", place.folder / "catalog"
    job = start(place, tmp_path, undisturbed)
    started = time.monotonic()
    assert job.wait() == 0, job.err
    seconds, generator = time.monotonic() - started, random.Random(5)
    for _ in range(KILLS):
        begin_like(undisturbed, catalog)
        job = start(place, tmp_path, catalog)
        time.sleep(generator.uniform(0, 0.9 * seconds))
        if job.process.poll() is None:
            job.kill()
        if (catalog / CATALOG.file).exists():
            shutil.rmtree(catalog)  # too late; try again
        elif (catalog / HATS).exists():
            assert (catalog / HATS / COLLECTION).exists()
    begin_like(undisturbed, catalog)
    job = start(place, tmp_path, catalog)
    assert job.wait() == 0, job.err
    assert (catalog / CATALOG.file).exists()
    assert not (catalog / WORK).exists()
    killed, expected = contents(catalog), contents(undisturbed)
    assert set(killed) == set(expected)
    assert [name for name in expected if killed[name] != expected[name]] == []
