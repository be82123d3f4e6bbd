"""A store of toy stars with a finished run, made once for all tests of a process."""

import shutil
from pathlib import Path

import pytest

from tests.training import lessons


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, labels, and a finished run on them. Tests do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    lessons.store(folder / "store")
    lessons.train(folder)
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """The same store and labels in a folder of this test, without a run."""
    (tmp_path / "store").symlink_to(finished / "store")
    shutil.copy(finished / "labels.csv", tmp_path)
    return tmp_path
