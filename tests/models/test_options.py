"""Options that several networks share."""

import math

import pytest

from survey.models.options import LatentOptions


def test_beta_rises_in_each_half_cycle_and_is_full_outside_of_a_training() -> None:
    options = LatentOptions(beta=4.0, cycle=10)
    assert [options.beta_at(epoch) for epoch in (0, 2.5, 5, 9, 10, 12.5)] == pytest.approx([0, 2, 4, 4, 0, 2])
    assert options.beta_at(math.inf) == 4.0
