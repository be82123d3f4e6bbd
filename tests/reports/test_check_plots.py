"""The picture of the checks: points and bars are the numbers of the catalog."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.catalog.document import IntervalRecord, RecoveryRecord
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


def test_recovered_shares_are_those_of_the_catalog(mixed: CatalogResult, figures: list[Figure]) -> None:
    share = IntervalRecord(value=0.8, low=0.6, high=0.9)
    bins = [(-0.2, 0.4), (1.0, 1.5)]
    records = tuple(
        RecoveryRecord(low=low, high=high, stars=7, n=50, passed=45, listed=40, share=share)
        for low, high in bins
    )
    result = replace(mixed, document=mixed.document.model_copy(update={"recovery": records}))
    assert plot_checks(result) is not None
    *_, axis = figures[0].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["-0.2 to 0.4", "1 to 1.5"]
    assert {text.get_text().strip() for text in axis.texts} == {"40 of 50"}
    assert "7 real" in axis.get_title()


def test_one_open_bin_is_named_all(mixed: CatalogResult, figures: list[Figure]) -> None:
    """Settings may leave out all edges."""
    frequency = mixed.document.frequency
    assert frequency is not None
    bins = (frequency.bins[0].model_copy(update={"low": None, "high": None, "mp": 3}),)
    document = mixed.document.model_copy(update={"frequency": frequency.model_copy(update={"bins": bins})})
    assert plot_checks(replace(mixed, document=document)) is not None
    assert [text.get_text() for text in figures[0].axes[0].get_xticklabels()] == ["all"]
