"""Grids, wavelengths and refusals."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey.spectrum import GRIDS, REASONS, VISIT_COLUMNS, Grid, LogWave, Refused, Spectrum


def test_the_named_grids_have_the_published_points() -> None:
    assert {name: len(grid) for name, grid in GRIDS.items()} == {
        "cemp4900": 4900,
        "log3921": 3921,
        "sdss3522": 3522,
        "none": 0,
    }
    assert (GRIDS["cemp4900"].wave == np.arange(3900, 8800)).all()
    assert GRIDS["log3921"].wave[0] == pytest.approx(3690)
    assert GRIDS["log3921"].wave[-1] <= 9100.0001
    assert GRIDS["sdss3522"].wave[[0, -1]] == pytest.approx([3819.44, 8592.11], abs=0.01)


@given(start=st.floats(100, 9e5), points=st.integers(3, 500), step=st.floats(1e-2, 100))
def test_a_grid_contains_its_stop_whatever_the_rounding(start: float, points: int, step: float) -> None:
    stop = start + step * (points - 1)
    if stop <= 1e6:
        grid = Grid(start, stop, step)
        assert len(grid) == points == len(grid.wave)
        assert grid.wave[-1] == pytest.approx(stop)
        assert (np.diff(grid.wave) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3900.0, 3900.0, 1.0), "needs 100 <= start < stop <= 1e"),
        ((3900.0, 3800.0, 1.0), "needs 100 <= start < stop"),
        ((math.nan, 3800.0, 1.0), "needs 100 <= start"),
        ((3900.0, math.inf, 1.0), "needs 100 <= start"),
        ((3.5, 3.9, 1e-4), "linear from 3.5 to 3.9"),
        ((3900.0, 8800.0, 1.0, "log"), "needs 2 <= start < stop <= 6"),
        ((3900.0, 8800.0, 0.0), "step 0.0 between 3900.0 and 8800.0"),
        ((3900.0, 8800.0, 5000.0), "needs 2 to 1,000,000 points"),
        ((3900.0, 8800.0, 1e-9), "needs 2 to 1,000,000 points"),
        ((3900.0, 8800.0, 1.0, "lin"), "the scale is 'lin'; give linear or log"),
    ],
)
def test_an_impossible_grid_is_an_error_that_says_what_to_give(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_survives_json(name: str) -> None:
    assert Grid.from_dict(json.loads(json.dumps(GRIDS[name].to_dict()))) == GRIDS[name]


def test_log_linear_wavelengths_are_those_of_their_coefficients() -> None:
    wave = LogWave(3.5682, 1e-4, 3909)
    assert len(wave) == 3909
    assert wave.angstrom()[[0, -1]] == pytest.approx([3699.985, 9099.13], abs=0.01)
    assert (Spectrum(wave, np.ones(3909), np.ones(3909)).angstrom == wave.angstrom()).all()
    listed = np.array([4000.0, 4001.0])
    assert Spectrum(listed, listed, listed).angstrom is listed


def test_a_refusal_has_a_reason_of_the_closed_list() -> None:
    assert (Refused("empty", "no bytes").reason, Refused("empty", "no bytes").detail) == ("empty", "no bytes")
    with pytest.raises(ValueError, match="'broken' is not one of the reasons missing, not_a_file"):
        Refused("broken", "x")


def test_a_refusal_can_travel_from_a_worker() -> None:
    """Exceptions travel between processes as their arguments."""
    refusal = Refused("low_snr", "2 is the signal to noise")
    again = type(refusal)(*refusal.args)
    assert (again.reason, again.detail) == (refusal.reason, refusal.detail)


def test_every_reason_and_column_is_described() -> None:
    assert all(words and not words.endswith(".") for words in REASONS.values())
    types = {"string", "int32", "int64", "float32", "float64"}
    assert all(kind in types and meaning for kind, meaning in VISIT_COLUMNS.values())
