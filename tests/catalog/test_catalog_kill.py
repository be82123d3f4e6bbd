"""Kills at random moments of the catalog: the rerun makes what an undisturbed one makes, and half of one is never taken for whole."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from survey.catalog.catalog import CATALOG
from survey.catalog.hats import HATS, PROOF
from survey.catalog.spill import WORK
from tests.catalog.test_catalog import survey
from tests.processes import Job, Workplace, new_workplace

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.kill, pytest.mark.timeout(200 + 60 * KILLS)]

DATED = ("properties", CATALOG, "pictures.json")
"""Names of files that tell when they were made."""


@pytest.fixture
def place() -> Iterator[Workplace]:
    with new_workplace() as found:
        yield found


def begun(place: Workplace, folder: Path, catalog: Path) -> Job:
    """A job that has begun to write."""
    job = place.python(
        "jobs/catalog.py", f"predictions={folder / 'said'}", f"catalog={catalog}", "rows_per_file=1000"
    )
    assert job.until(lambda: (catalog / WORK).exists() or (catalog / CATALOG).exists()), job.err
    return job


def contents(catalog: Path) -> dict[str, bytes]:
    """All files by name, but for those that are dated."""
    files = [
        path
        for path in catalog.rglob("*")
        if path.is_file() and not path.name.endswith(DATED) and path.suffix != ".png"
    ]
    return {str(path.relative_to(catalog)): path.read_bytes() for path in files}


def test_a_killed_catalog_is_made_again_the_same(tmp_path: Path, place: Workplace) -> None:
    survey(tmp_path)
    whole, catalog = place.folder / "undisturbed", place.folder / "catalog"
    job = begun(place, tmp_path, whole)
    begin = time.monotonic()
    assert job.wait() == 0, job.err
    length, dice = time.monotonic() - begin, random.Random(5)
    for _ in range(KILLS):
        job = begun(place, tmp_path, catalog)
        time.sleep(dice.uniform(0, 0.9 * length))
        if job.process.poll() is None:
            job.kill()
        if (catalog / CATALOG).exists():
            shutil.rmtree(catalog)  # too late; another one
        elif (catalog / HATS).exists():
            assert (catalog / HATS / PROOF).exists()
    job = begun(place, tmp_path, catalog)
    assert job.wait() == 0, job.err
    assert (catalog / CATALOG).exists()
    assert not (catalog / WORK).exists()
    found, wanted = contents(catalog), contents(whole)
    assert set(found) == set(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []
