"""One small Ray for all tests of the session, and a workplace for jobs that start their own."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.processes import Workplace, new_workplace


@pytest.fixture(scope="session")
def small_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray with two CPUs in this process."""
    import ray

    folder = tempfile.mkdtemp(prefix="sv-", dir="/tmp")  # sockets: a path of pytest's is too long
    ray.init(
        num_cpus=2,
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workplace() -> Iterator[Workplace]:
    """A fresh home for jobs; swept afterwards."""
    with new_workplace() as place:
        yield place
