"""The plot of predictions shard by shard."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from survey.evaluate.drift import DEPARTS, Drift
from survey.reports.drift import picture
from survey.reports.style import RED
from tests.reports.sketches import sketch

SHARDS = 12


def drift() -> Drift:
    """Numbers of twelve shards; in shard 5 the stars are cooler."""
    teff = np.random.default_rng(0).normal(5000, 10, SHARDS)
    teff[5] -= 600
    columns = {
        "shard": np.arange(SHARDS),
        "Teff": teff,
        "Teff_16": teff - 400,
        "Teff_84": teff + 400,
        "share_MP": np.full(SHARDS, 0.3),
        "outside_training": np.full(SHARDS, np.nan),
        "snr": np.full(SHARDS, 40.0) + 0.001 * np.arange(SHARDS),
        DEPARTS: [["Teff"] if shard == 5 else [] for shard in range(SHARDS)],
    }
    return Drift("predictions", pa.table(columns), ("MP",), ("Teff",), True, "drift", SHARDS)


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure of these shards, not rendered."""
    figures = sketch(monkeypatch)
    picture(drift())
    return figures[0]


def test_a_label_is_drawn_with_its_middle_part_and_the_departing_shard_is_marked(figure: Figure) -> None:
    axis, table = figure.axes[0], drift().table
    _, median, marked = axis.get_lines()
    assert np.asarray(median.get_ydata()) == pytest.approx(table["Teff"].to_numpy())
    assert np.asarray(marked.get_xydata()).tolist() == [[5, table["Teff"][5].as_py()]]
    assert marked.get_color() == RED
    band = np.asarray(axis.collections[0].get_paths()[0].vertices)[:, 1]
    assert band.min() == pytest.approx(table["Teff_16"].to_numpy().min())
    assert band.max() == pytest.approx(table["Teff_84"].to_numpy().max())


def test_shards_are_whole_numbers_and_tiny_differences_look_tiny(figure: Figure) -> None:
    axis = figure.axes[2]
    assert all(float(place).is_integer() for place in axis.get_xticks())
    low, high = axis.get_ylim()
    assert high - low >= 3.9


def test_shares_that_are_unknown_are_not_drawn(figure: Figure) -> None:
    (line,) = figure.axes[1].get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [0.3] * SHARDS


def test_every_class_has_a_line_and_far_off_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    few = drift()
    classes = tuple(f"M{number}" for number in range(9))
    table = few.table.set_column(
        few.table.column_names.index("outside_training"), "outside_training", pa.array(np.full(SHARDS, 0.1))
    )
    for name in classes:
        table = table.append_column(f"share_{name}", pa.array(np.full(SHARDS, 0.1)))
    figures = sketch(monkeypatch)
    picture(replace(few, table=table, classes=classes))
    lines = figures[0].axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["far off", *classes]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
