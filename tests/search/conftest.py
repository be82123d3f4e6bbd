"""A store of toy stars that all searches share."""

import gc
from pathlib import Path

import pytest

from tests.training import lessons


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of toy stars and their labels.

    A first training loads what all trainings need. From then on it stays, so that the garbage collector need
    not look at it after each of the many trainings.
    """
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    lessons.train(folder, run=str(tmp_path_factory.mktemp("first") / "run"), epochs=1)
    gc.collect()
    gc.freeze()
    return folder
