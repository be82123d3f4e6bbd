"""The planes of a catalog's stars: counts in bins, and what is drawn of many and of few stars."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from survey.reports.star_planes import (
    MAX_ERRORS,
    Plane,
    PlaneCounts,
    absolute_carbon,
    column,
    count_stars,
    cropped,
    draw_plane,
    label_planes,
    read_stars,
)
from survey.reports.style import BLUE, MAX_POINTS
from tests.catalog.test_catalog import plain

PLANE = Plane("a plane", column("a", "a", 0, 10, 0.5), column("b", "b", -1, 1, 0.1, falls=True))


def stars(size: int, seed: int = 0) -> pa.Table:
    """Stars with numbers in both columns, some of them unknown, and errors."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(5, 1, size), rng.normal(0, 0.2, size)
    a[::7] = np.nan
    errors = {"a_err": np.full(size, 0.3), "b_err": np.full(size, 0.05)}
    return pa.table({"a": pa.array(a, from_pandas=True), "b": b, **errors})


def counted(table: pa.Table) -> PlaneCounts:
    return count_stars([table], [PLANE])[PLANE.name]


def test_stars_are_counted_as_a_histogram_counts_them_however_they_are_split() -> None:
    table = stars(5000)
    whole = counted(table)
    split = count_stars([table.slice(0, 1700), table.slice(1700)], [PLANE])[PLANE.name]
    known = table.filter(table["a"].is_valid())
    expected, _, _ = np.histogram2d(known["b"], known["a"], (whole.y_edges, whole.x_edges))
    np.testing.assert_array_equal(whole.count_YX, expected)
    np.testing.assert_array_equal(split.count_YX, whole.count_YX)


def test_a_star_beyond_the_range_is_in_the_last_bin() -> None:
    counts = counted(pa.table({"a": [99.0, -5.0], "b": [0.0, 3.0]}))
    assert counts.count_YX.sum() == 2
    assert counts.count_YX[:, -1].sum() == 1
    assert counts.count_YX[-1, 0] == 1


def test_cropping_keeps_nearly_all_stars_and_every_given_point() -> None:
    counts = counted(stars(20000))
    shown = cropped(counts, np.array([9.2]), np.array([-0.9]))
    assert shown.count_YX.sum() >= 0.995 * counts.count_YX.sum()
    assert shown.x_edges[0] > 0.4
    assert shown.x_edges[0] <= 9.2 <= shown.x_edges[-1]
    assert shown.y_edges[0] <= -0.9
    assert shown.count_YX.shape == (len(shown.y_edges) - 1, len(shown.x_edges) - 1)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_plane_of_few_stars_or_none_can_be_cropped(size: int) -> None:
    counts = counted(stars(size))
    shown = cropped(counts, np.zeros(0), np.zeros(0))
    assert shown.count_YX.sum() == counts.count_YX.sum()


def draw(size: int) -> Figure:
    figure = Figure()
    draw_plane(figure.subplots(), PLANE, counted(stars(20000, 1)), stars(size), BLUE)
    return figure


def test_few_stars_are_points_with_their_errors_on_the_counts_of_all() -> None:
    (axis,) = draw(20).axes
    known = stars(20).filter(stars(20)["a"].is_valid())
    assert np.asarray(axis.lines[0].get_xydata()) == pytest.approx(np.stack([known["a"], known["b"]], 1))
    across, up = (bars.get_segments() for bars in axis.containers[0][2])
    assert np.ptp(np.array(across)[:, :, 0], axis=1) == pytest.approx(0.6)
    assert np.ptp(np.array(up)[:, :, 1], axis=1) == pytest.approx(0.1)
    cells: Any = np.ma.asarray(axis.collections[0].get_array())
    assert cells.sum() == pytest.approx(counted(stars(20000, 1)).count_YX.sum(), rel=0.01)
    assert cells.min() >= 1
    assert axis.get_ylim()[0] > axis.get_ylim()[1]


def test_more_stars_have_one_median_error() -> None:
    (axis,) = draw(10 * MAX_ERRORS).axes
    across, up = (bars.get_segments() for bars in axis.containers[0][2])
    assert len(across) == len(up) == 1
    assert np.ptp(np.array(up[0])[:, 1]) == pytest.approx(0.1)
    assert [text.get_text() for text in axis.texts] == ["median\nerror"]


def test_very_many_stars_are_contours_and_no_points() -> None:
    (axis,) = draw(10 * MAX_POINTS).axes
    assert not axis.lines
    (contours,) = [each for each in axis.collections if isinstance(each, ContourSet)]
    assert len(np.asarray(contours.levels)) == 2


def test_absolute_carbon_is_that_of_the_sun_for_solar_labels() -> None:
    """A(C) of the Sun is 8.43 (Asplund et al. 2009)."""
    table = pa.table({"CH": [0.0, -1.0], "FeH": [0.0, -2.0], "CFe": [0.0, 1.0], "FeH_err": [0.3, 0.3]})
    table = table.append_column("CFe_err", [[0.4, 0.4]])
    for columns in (["CH", "FeH", "CFe"], ["FeH", "CFe"]):
        assert absolute_carbon(columns).value(table) == pytest.approx([8.43, 7.43])
    assert absolute_carbon(["FeH", "CFe"]).error(table) == pytest.approx([0.5, 0.5])


def test_only_planes_with_columns_exist() -> None:
    assert [plane.title for plane in label_planes(["Teff", "logg", "FeH"])] == ["Kiel diagram"]
    assert len(label_planes(["Teff", "logg", "FeH", "CFe"])) == 3
    assert len(label_planes(["FeH", "CH"])) == 1


def test_a_damaged_tile_is_named_with_advice(tmp_path: Path) -> None:
    """Bytes inside a page are found by its checksum; a file that was cut short has no end of Parquet."""
    shutil.copytree(Path(plain()[1].folder) / "hats", tmp_path / "hats")
    [tile] = (tmp_path / "hats" / "stars" / "dataset").rglob("Npix=*.parquet")
    assert sum(table.num_rows for table in read_stars(str(tmp_path), {"ra", "FeH"})) > 0
    written = bytearray(tile.read_bytes())
    column = pq.ParquetFile(tile).metadata.row_group(0)
    names = [column.column(number).path_in_schema for number in range(column.num_columns)]
    start = column.column(names.index("FeH")).data_page_offset + 200
    written[start : start + 100] = bytes(100)
    for damaged in (written, written[:-100]):
        tile.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Npix=.*\.parquet: damaged \(.*\); run survey catalog with"):
            list(read_stars(str(tmp_path), {"ra", "FeH"}))
