"""The report of a comparison: every difference with its interval and its verdict."""

import numpy as np
import pyarrow as pa
import pytest

from survey.evaluate.compare import comparison_table
from survey.evaluate.result import Against
from survey.metrics.score import LabelledAnswers
from survey.metrics.settings import ScoreSettings
from survey.reports.compare import pictures, summary
from survey.reports.style import BLUE, GREY, RED
from tests.labelled import labelled_answers
from tests.reports.sketches import sketch

AGAINST = Against(paths={}, left_out={"two": 3, "three": 0}, alone={"three": ["Teff"]})


def answers(scale: float, names: tuple[str, ...] = ("FeH",), size: int = 200) -> LabelledAnswers:
    """Answers with errors of a scale; the truth and the signs of the errors are always the same."""
    rng = np.random.default_rng(0)
    truth, error = rng.normal(-1, 0.5, (size, len(names))), rng.normal(0, 0.2, (size, len(names)))
    classes = rng.integers(0, 3, size)
    p, value = np.eye(3)[classes], truth + scale * error
    extra = {"snr": rng.uniform(0, 60, size)}
    return labelled_answers(classes, truth, names, p_NC=p, value_NL=value, extra=extra)


def compared(**labelled: LabelledAnswers) -> tuple[pa.Table, str]:
    size = len(next(iter(labelled.values())))
    table = comparison_table(labelled, [str(number) for number in range(size)], ScoreSettings())
    return table, summary(table, AGAINST)


def test_the_text_says_what_is_better_and_worse_with_intervals() -> None:
    table, text = compared(one=answers(1.0), two=answers(0.5), three=answers(1.5))
    assert "comparison with one on 200 spectra of 200 stars" in text
    assert "two has seen 3 spectra of the first: left out" in text
    assert "three has seen" not in text
    assert "only three predicts Teff: not compared" in text
    better, worse = (
        next(line for line in text.splitlines() if line.split()[:2] == [who, "200"])
        for who in ("two", "three")
    )
    assert better.endswith("better")
    assert worse.endswith("worse")
    assert " ↓" in text
    assert " ↑" in text
    assert "accuracy" in text
    (row,) = [
        row for row in table.to_pylist() if (row["kind"], row["who"], row["metric"]) == ("all", "two", "mae")
    ]
    interval = f"[{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    assert f"{row['difference']:+.3f} {interval}" in better


def test_equal_answers_are_not_called_better_or_worse() -> None:
    _, text = compared(one=answers(1.0), two=answers(1.0))
    assert not any(line.endswith(("better", "worse")) for line in text.splitlines())


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("names", [("FeH",), ("FeH", "Teff", "logg", "CFe")])
def test_few_spectra_and_many_labels_have_plots(
    size: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch(monkeypatch)
    table, text = compared(one=answers(1.0, names, size), two=answers(0.5, names, size))
    assert set(pictures(table)) == {"against", "against_snr"}
    assert "nan" not in text


def test_the_plots_are_png_files() -> None:
    table, _ = compared(one=answers(1.0), two=answers(0.5))
    assert all(data.startswith(b"\x89PNG") for data in pictures(table).values())


def test_the_text_says_that_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch(monkeypatch)
    unknown = labelled_answers(np.full(4, -1), np.full((4, 1), np.nan), ("FeH",), value_NL=np.zeros((4, 1)))
    table, text = compared(one=unknown, two=unknown)
    assert pictures(table) == {}
    assert "no spectrum has a label or a class that they predict" in text


def test_each_error_is_drawn_with_its_interval_in_the_colour_of_its_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = sketch(monkeypatch)
    table, _ = compared(one=answers(1.0), two=answers(0.5), three=answers(1.5))
    pictures(table)
    rows = {row["who"]: row for row in table.to_pylist() if (row["kind"], row["metric"]) == ("all", "mae")}
    axis = figures[0].axes[0]
    for number, (who, color) in enumerate((("one", GREY), ("two", BLUE), ("three", RED))):
        point, _, (bar,) = axis.containers[number]
        assert point.get_xydata().tolist() == [[rows[who]["value"], number]]
        assert bar.get_segments()[0][:, 0] == pytest.approx([rows[who]["low"], rows[who]["high"]])
        assert point.get_color() == color
    assert [text.get_text() for text in axis.get_yticklabels()] == ["one", "two", "three"]


def test_errors_by_signal_to_noise_are_those_of_the_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = sketch(monkeypatch)
    table, _ = compared(one=answers(1.0), two=answers(0.5))
    pictures(table)
    axis = figures[1].axes[0]
    rows = [row for row in table.to_pylist() if (row["kind"], row["metric"]) == ("snr", "mae")]
    for container, who in zip(axis.containers, ("one", "two"), strict=True):
        expected = [row["value"] for row in rows if row["who"] == who]
        assert np.asarray(container[0].get_ydata()) == pytest.approx(expected)
    bins = list(dict.fromkeys(row["group"] for row in rows))
    assert [text.get_text() for text in axis.get_xticklabels()] == bins
