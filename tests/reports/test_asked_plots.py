"""The picture of who is asked: each bar is a number of the catalog."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from survey.catalog.catalog import CatalogResult
from survey.reports.asked_plots import plot_asked
from tests.catalog.test_asked import of_all_kinds
from tests.catalog.test_catalog import all_stars, run, write_survey
from tests.catalog.test_catalog_odd import change


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder: Path = tmp_path_factory.mktemp("mixed")
    write_survey(folder)
    change(folder, of_all_kinds)
    return run(folder, exports=[])


def bars(axis: Axes) -> dict[str, float]:
    names = [label.get_text() for label in axis.get_yticklabels()]
    widths = [patch.get_bbox().width for patch in axis.patches if isinstance(patch, Rectangle)]
    return dict(zip(names, widths, strict=True))


def test_the_bars_are_the_numbers_of_stars(mixed: CatalogResult, figures: list[Figure]) -> None:
    assert plot_asked(mixed) is not None
    kinds, reasons = figures[0].axes
    values = all_stars(mixed)["kind"].to_pylist()
    assert bars(kinds) == {name.replace("_", " "): values.count(name) for name in set(values)}
    why = all_stars(mixed)["asked_why"].to_pylist()
    assert bars(reasons) == {
        "not fgk: survey type": why.count("survey type"),
        "unsure: very low snr": why.count("very low snr"),
    }
