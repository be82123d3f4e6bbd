"""The picture of M subdwarfs and carbon stars: the points are the stars of the lists."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports.kind_plots import plot_kinds
from tests.catalog.test_catalog import run, write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_kind_lists import read, with_templates


@pytest.fixture(scope="module")
def with_kinds(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder: Path = tmp_path_factory.mktemp("kinds")
    write_survey(folder)
    change(folder, with_templates)
    return run(folder, exports=[])


def test_points_are_the_stars_of_the_lists(with_kinds: CatalogResult, figures: list[Figure]) -> None:
    assert plot_kinds(with_kinds) is not None
    subdwarfs, carbon = figures[0].axes
    table = read(with_kinds, "m_subdwarfs")
    cah = table["cah2"].to_numpy() + table["cah3"].to_numpy()
    expected = np.stack([cah, table["tio5"].to_numpy()], 1)
    assert np.asarray(subdwarfs.get_lines()[0].get_xydata()) == pytest.approx(expected, abs=1e-5)
    table = read(with_kinds, "carbon_stars")
    expected = np.stack([table["na_d"].to_numpy(), table["c2_5165"].to_numpy()], 1)
    assert np.asarray(carbon.get_lines()[0].get_xydata()) == pytest.approx(expected, abs=1e-5)


def test_the_lines_of_zeta_separate_the_classes(with_kinds: CatalogResult, figures: list[Figure]) -> None:
    """A usdM lies above all of them, an sdM above the last only."""
    plot_kinds(with_kinds)
    lines = figures[0].axes[0].get_lines()[1:4]
    for row in read(with_kinds, "m_subdwarfs").to_pylist():
        above = [
            row["tio5"] > np.interp(row["cah2"] + row["cah3"], *np.asarray(line.get_data(), float))
            for line in lines
        ]
        assert sum(above) == {"usdM": 3, "esdM": 2, "sdM": 1}[row["m_class"]]
