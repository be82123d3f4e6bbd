"""The curves of a training, looked at in the axes that are drawn."""

import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.reports.curves import draw, picture

Rows = list[dict[str, float]]


def history(epochs: int) -> Rows:
    return [
        {
            "epoch": number,
            "lr": 1e-3 * 0.9**number,
            "train_loss": 1 / (1 + number),
            "validation_loss": 1.2 / (1 + number),
            "f1_CEMP": 0.5,
            "mae_Teff": 90 - number,
        }
        for number in range(epochs)
    ]


def drawn(rows: Rows) -> Figure:
    figure = Figure()
    draw(figure, rows)
    return figure


def test_each_number_is_drawn_at_its_epoch() -> None:
    losses, scores, errors, rates = drawn(history(3)).axes
    train, validation, best = losses.lines
    assert np.asarray(train.get_xydata()).tolist() == [[0, 1], [1, 1 / 2], [2, 1 / 3]]
    assert np.allclose(np.asarray(validation.get_ydata()), [1.2, 0.6, 0.4])
    assert set(np.asarray(best.get_xdata())) == {2}
    assert np.asarray(scores.lines[0].get_ydata()).tolist() == [0.5, 0.5, 0.5]
    assert np.allclose(np.asarray(errors.lines[0].get_ydata()), [90 / 88, 89 / 88, 1])
    assert np.allclose(np.asarray(rates.lines[0].get_ydata()), [1e-3, 9e-4, 8.1e-4])
    assert rates.get_yscale() == "log"
    legend = errors.get_legend()
    assert legend is not None
    assert "best 88" in legend.get_texts()[0].get_text()


def test_legends_stand_beside_the_panels_and_hide_no_curve() -> None:
    figure = drawn(history(3))
    figure.draw_without_rendering()
    legends = [(axis, legend) for axis in figure.axes if (legend := axis.get_legend())]
    assert len(legends) == 2
    for axis, legend in legends:
        assert legend.get_window_extent().x0 >= axis.get_window_extent().x1


def test_gaps_and_values_that_are_not_finite_are_left_out() -> None:
    rows: Rows = [{"epoch": 0, "train_loss": 0.3}, {"epoch": 1, "train_loss": np.nan}, {"train_loss": 0.1}]
    losses = drawn(rows).axes[0]
    assert np.asarray(losses.lines[0].get_xydata()).tolist() == [[0, 0.3], [2, 0.1]]


def test_a_panel_without_numbers_says_so() -> None:
    for axis in drawn([{"epoch": 4}]).axes:
        assert [text.get_text() for text in axis.texts] == ["none recorded"]


def test_scores_of_validation_are_drawn_without_the_preferred_ones() -> None:
    rows: Rows = [{"epoch": 0, "validation_mae_CFe": 0.1, "validation_f1_M0": 0.3}]
    _, scores, errors, _ = drawn(rows).axes
    assert scores.lines[0].get_label() == "f1 M0"
    assert np.asarray(errors.lines[0].get_ydata()).tolist() == [1.0]


def test_every_label_and_score_has_a_line_however_many_there_are() -> None:
    names = ("Teff", "logg", "FeH", "CFe", "CH", "MgFe", "CaFe", "TiFe", "SiFe", "NFe")
    row = {f"mae_{name}": 0.1 for name in names} | {f"f1_M{number}": 0.5 for number in range(8)}
    _, scores, errors, _ = drawn([{"epoch": 0} | row]).axes
    lines = errors.lines[: len(names)]
    assert len({line.get_label() for line in lines}) == len(names)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(names)
    assert [line.get_label() for line in scores.lines] == [f"f1 M{number}" for number in range(8)]


@pytest.mark.parametrize(
    "rows",
    [
        history(1),
        history(60),
        [row | {"train_loss": np.nan, "f1_CEMP": np.nan} for row in history(3)],
        [{"epoch": 0, "train_loss": -3.0, "validation_loss": 0.0, "lr": 0.0, "mae_FeH": 0.0}],
    ],
    ids=["one epoch", "many", "NaN", "zeros"],
)
def test_any_history_becomes_a_picture(rows: Rows) -> None:
    data = picture(rows)
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (2025, 1080)


def test_a_history_without_epochs_is_an_error() -> None:
    with pytest.raises(ValueError, match="the history has 0 epochs; give at least one row"):
        picture([])
