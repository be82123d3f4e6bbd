"""What to expect of the lists, in pictures: curves over thresholds, and bins with counts and intervals."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports.selection_plots import plot_curves, plot_selection
from tests.catalog.test_catalog import run, write_survey

PANELS = [("completeness", "MP"), ("completeness", "CEMP"), ("purity", "MP"), ("purity", "CEMP")]


def test_the_curves_are_those_of_the_table_with_intervals_and_the_threshold(
    result: CatalogResult, figures: list[Figure]
) -> None:
    assert plot_curves(result) is not None
    table = pq.read_table(Path(result.folder) / "curves.parquet").to_pylist()
    for axis, (metric, name) in zip(figures[0].axes, PANELS, strict=True):
        rows = [row for row in table if (row["search"], row["metric"]) == (name, metric)]
        rows = [row for row in rows if row["value"] is not None]
        curve, threshold, point = axis.get_lines()[:3]
        points = [(row["threshold"], row["value"]) for row in rows]
        assert np.asarray(curve.get_xydata()) == pytest.approx(np.array(points))
        chosen = result.document.thresholds[name]  # type: ignore[index]
        assert np.asarray(threshold.get_xdata()).tolist() == [chosen.value] * 2
        assert np.asarray(point.get_xydata()) == pytest.approx(
            np.array([[chosen.value, getattr(chosen, metric).value]])
        )
        assert [chosen.value, getattr(chosen, metric).value] in np.asarray(curve.get_xydata()).tolist()
        band = np.asarray(axis.collections[0].get_paths()[0].vertices)
        assert band[:, 1].min() == pytest.approx(min(row["low"] for row in rows))
        value = getattr(chosen, metric)
        expected = f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
        assert f"{name} list: {metric} {expected} at the threshold" in axis.get_title() + axis.get_title(
            "left"
        )


def test_each_bin_has_its_share_its_interval_and_its_count(
    result: CatalogResult, figures: list[Figure]
) -> None:
    assert plot_selection(result) is not None
    table = pq.read_table(Path(result.folder) / "selection.parquet").to_pylist()
    for axis, (metric, name) in zip(figures[0].axes, PANELS, strict=True):
        rows = [row for row in table if (row["search"], row["metric"]) == (name, metric)]
        rows = [row for row in rows if row["value"] is not None]
        texts = [text.get_text() for text in axis.texts]
        assert texts == [
            f"{row['value']:.2f}\n{row['low']:.2f} to {row['high']:.2f}\nn = {row['n']:,}" for row in rows
        ]
        [image] = axis.get_images()
        share: Any = np.ma.asarray(image.get_array())
        assert np.sort(share.compressed()) == pytest.approx(np.sort([row["value"] for row in rows]))


def test_bins_without_a_star_and_lists_without_a_number_are_left_out(
    result: CatalogResult, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(Path(result.folder) / "selection.parquet").to_pandas()
    table.loc[table["search"] == "CEMP", "value"] = None
    table.loc[(table["snr"] == "10-20") | (table["Teff"] == "<4500"), "value"] = None
    changed = pa_table(table)
    monkeypatch.setattr(CatalogResult, "table", lambda *_: changed)
    assert plot_selection(result) is not None
    axes = figures[0].axes
    assert len(axes) == 2
    names = {text.get_text() for axis in axes for text in axis.get_xticklabels() + axis.get_yticklabels()}
    assert not names & {"10-20", "<4500"}
    table["value"] = None
    changed = pa_table(table)
    assert plot_selection(result) is None


def pa_table(frame: Any) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def test_a_catalog_without_classes_has_no_curves(tmp_path: Path, figures: list[Figure]) -> None:
    write_survey(tmp_path, classes=False)
    result = run(tmp_path, exports=[])
    assert plot_curves(result) is None
    assert plot_selection(result) is None
    assert figures == []
