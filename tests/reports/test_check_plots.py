"""The picture of the checks: points and bars are the numbers of the catalog."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports.check_plots import plot_checks
from tests.catalog.test_asked import of_all_kinds
from tests.catalog.test_catalog import run, write_survey
from tests.catalog.test_catalog_odd import change


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder: Path = tmp_path_factory.mktemp("mixed")
    write_survey(folder)
    change(folder, of_all_kinds)
    return run(folder, exports=[])


def test_points_and_bars_are_the_counts(mixed: CatalogResult, figures: list[Figure]) -> None:
    assert plot_checks(mixed) is not None
    bins, mirror = figures[0].axes
    frequency = mixed.document.frequency
    assert frequency is not None
    points = [float(np.asarray(line.get_ydata())[0]) for line in bins.get_lines()]
    assert points == [bin_.cemp for bin_ in frequency.bins]
    assert [text.get_text() for text in bins.get_xticklabels()] == [
        "> -1.5",
        "-2 to -1.5",
        "-2.5 to -2",
        "-3 to -2.5",
        "< -3",
    ]
    shown = {text.get_text().strip() for text in mirror.texts}
    assert shown == {f"{row.search}: {row.passed:,} of {row.n:,}" for row in mixed.document.mirror}
