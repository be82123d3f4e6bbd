"""What the tests of reports share."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports import style
from tests.catalog.test_catalog import run, write_survey
from tests.reports.sketches import sketch


@pytest.fixture
def measured() -> None:
    """Panels find their places as for users: by the sizes of all texts."""


@pytest.fixture(autouse=True)
def quick_layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels have fixed places, unless a test asks for `measured`: texts take long to measure."""
    if "measured" not in request.fixturenames:
        monkeypatch.setattr(style, "ConstrainedLayoutEngine", lambda **_: "none")


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
