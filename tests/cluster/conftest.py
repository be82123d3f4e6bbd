"""One small Ray for all tests of the session, and a workplace for jobs that start their own."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial

import pytest

from tests.forks import INGEST, JobServer, job_server
from tests.processes import Workplace, new_workplace


@pytest.fixture(scope="session")
def small_ray() -> Iterator[None]:
    """Ray as a job starts it, with two CPUs."""
    import ray

    from survey.cluster import connection

    folder = tempfile.mkdtemp(prefix="sv-", dir="/tmp")  # sockets: a path of pytest's is too long
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setattr(ray, "init", partial(ray.init, num_cpus=2, _temp_dir=folder))
        connection.connect()
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workplace() -> Iterator[Workplace]:
    """A fresh home for jobs; swept afterwards."""
    with new_workplace() as place:
        yield place


@pytest.fixture(scope="session")
def forks() -> Iterator[JobServer]:
    """A process that forks for jobs of one worker, with what they load."""
    with job_server(*INGEST, "survey.predict.predict", "survey.reports.predict") as server:
        yield server
