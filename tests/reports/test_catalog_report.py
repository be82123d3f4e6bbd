"""The report of a catalog: the numbers in its plots and in its summary."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports import catalog as report
from tests.catalog.test_catalog import list_of, run, write_survey
from tests.reports.sketches import sketch


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder = tmp_path_factory.mktemp("report")
    write_survey(folder)
    return run(folder, exports=[])


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn in the test; they are not rendered."""
    return sketch(monkeypatch)


def test_a_list_is_drawn_on_the_sky_in_iron_and_carbon_and_by_rank(
    result: CatalogResult, figures: list[Figure]
) -> None:
    assert report.plot_list(result, "CEMP") is not None
    candidates = list_of(result, "CEMP")
    sky, carbon, rank = figures[0].axes
    for axis, (x, y) in ((sky, ("ra", "dec")), (carbon, ("FeH", "CFe"))):
        points = np.asarray(axis.get_lines()[0].get_data(), float)
        assert points == pytest.approx(np.stack([candidates[x].to_numpy(), candidates[y].to_numpy()]))
    assert sky.get_xlim()[0] > sky.get_xlim()[1]
    score = np.asarray(rank.get_lines()[0].get_ydata(), float)
    assert score == pytest.approx(candidates["score_cemp"].to_numpy())


def test_the_curves_are_those_of_the_table_with_the_threshold(
    result: CatalogResult, figures: list[Figure]
) -> None:
    assert report.plot_curves(result) is not None
    table = pq.read_table(Path(result.folder) / "curves.parquet").to_pylist()
    for axis, name in zip(figures[0].axes, ("MP", "CEMP"), strict=True):
        lines = {str(line.get_label()): np.asarray(line.get_data(), float) for line in axis.get_lines()}
        threshold = result.document.thresholds[name].value  # type: ignore[index]
        assert lines[f"threshold {threshold:.3f}"][0].tolist() == [threshold] * 2
        for metric in ("purity", "completeness"):
            rows = [row for row in table if (row["search"], row["metric"]) == (name, metric)]
            known = [(row["threshold"], row["value"]) for row in rows if row["value"] is not None]
            assert pytest.approx(np.array(known)) == lines[f"expected {metric}"].T


def test_the_selection_function_has_a_cell_for_each_bin(result: CatalogResult, figures: list[Figure]) -> None:
    assert report.plot_selection(result) is not None
    rows = pq.read_table(Path(result.folder) / "selection.parquet").to_pylist()
    axis = figures[0].axes[0]
    [image] = axis.get_images()
    share = np.asarray(image.get_array(), float)
    first = [row for row in rows if (row["search"], row["metric"]) == ("MP", "completeness")]
    assert share.size == len(first) == len(axis.texts)
    all_stars = next(row for row in first if (row["snr"], row["Teff"]) == ("all", "all"))
    assert share[0, 0] == pytest.approx(all_stars["value"])
    assert axis.texts[0].get_text() == f"{all_stars['value']:.2f}\n({all_stars['n']:,})"


def test_plots_are_drawn_once(result: CatalogResult, figures: list[Figure]) -> None:
    paths = report.pictures(result)
    drawn = len(figures)
    assert drawn == len(paths) == 4
    unchanged = dataclasses.replace(result, created=False)
    assert report.pictures(unchanged) == paths
    assert len(figures) == drawn
