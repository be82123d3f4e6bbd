"""What the tests of reports share."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from tests.catalog.test_catalog import run, write_survey
from tests.reports.sketches import sketch


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn in the test; they are not rendered."""
    return sketch(monkeypatch)


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog of toy stars, with their truth."""
    folder: Path = tmp_path_factory.mktemp("catalog")
    write_survey(folder)
    return run(folder, exports=[], truth=str(folder / "truth.csv"))
