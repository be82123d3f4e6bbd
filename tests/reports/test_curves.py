"""The picture of a training."""

import struct

import numpy as np
import pytest

from survey.reports.curves import picture


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": number,
            "lr": 1e-3 * 0.9**number,
            "train_loss": 1 / (1 + number),
            "validation_loss": 1.2 / (1 + number),
            "f1_CEMP": 0.5,
            "mae_Teff": 90,
        }
        for number in range(epochs)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        history(1),
        history(60),
        [row | {"train_loss": np.nan, "f1_CEMP": np.nan} for row in history(3)],
        [
            {"epoch": 0, "train_loss": 0.3},
            {"epoch": 1, "validation_loss": None, "mae_FeH": 0.2},
            {"train_loss": 0.1},
        ],
        [{"epoch": 4}],
        [{"epoch": 0, "train_loss": -3.0, "validation_loss": 0.0, "lr": 0.0, "mae_FeH": 0.0}],
        [{"epoch": 0, "validation_mae_CFe": 0.1, "validation_f1_M0": 0.3}],
    ],
    ids=["one epoch", "many", "NaN", "gaps", "no metric", "zeros", "prefixed"],
)
def test_any_history_can_be_drawn(rows: list[dict[str, float]]) -> None:
    data = picture(rows)
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (1575, 1080)


def test_a_history_without_epochs_is_an_error() -> None:
    with pytest.raises(ValueError, match="a history of 0 epochs; give at least one row"):
        picture([])
