"""A store of toy stars that all searches share."""

from pathlib import Path

import pytest

from tests.training import lessons


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of toy stars and their labels."""
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    return folder
