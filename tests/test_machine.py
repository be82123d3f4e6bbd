"""How the number of threads is chosen, from times that the tests make up; bfloat16 of this machine."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from survey.machine import CHANGED, TURN_STEPS, TURNS, WINDOW, ThreadChooser, candidate_threads, settle

COMPARISON = TURNS * (TURN_STEPS + 1)
"""Steps of one candidate in a comparison."""


def run(chooser: ThreadChooser, seconds: Callable[[int], float], steps: int) -> list[int]:
    """The numbers of threads of some steps, each of which takes as long as `seconds` says for that number."""
    used = []
    for _ in range(steps):
        used.append(chooser.next())
        chooser.record(seconds(used[-1]))
    return used


def quiet(threads: int) -> float:
    return 1.0 / threads


def busy(threads: int) -> float:
    return 1.5 if threads == 1 else 30.0


def test_blas_has_one_thread_and_torch_as_many_as_it_is_given() -> None:
    before = torch.get_num_threads()
    try:
        settle(2)
        np.linalg.inv(np.eye(300))
        assert {row["num_threads"] for row in threadpool_info() if row["user_api"] == "blas"} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_candidates_are_one_half_and_all() -> None:
    assert [candidate_threads(most) for most in (1, 2, 3, 8)] == [[1], [1, 2], [1, 3], [1, 4, 8]]


def test_all_candidates_are_tried_and_the_fastest_is_used() -> None:
    used = run(ThreadChooser([1, 4, 8]), {1: 1.0, 4: 0.6, 8: 0.8}.__getitem__, 3 * COMPARISON + 50)
    compared = used[: 3 * COMPARISON]
    assert [compared.count(threads) for threads in (1, 4, 8)] == [COMPARISON] * 3
    assert set(used[3 * COMPARISON :]) == {4}


def test_the_first_step_of_a_turn_does_not_count() -> None:
    """It starts the threads."""
    chooser, last = ThreadChooser([1, 2]), [0]

    def seconds(threads: int) -> float:
        is_first, last[0] = threads != last[0], threads
        return quiet(threads) + 1.5 * is_first

    assert run(chooser, seconds, 2 * COMPARISON + 10)[-10:] == [2] * 10


def test_a_candidate_that_is_far_too_slow_is_given_up_at_once() -> None:
    used = run(ThreadChooser([1, 2]), busy, 2 * COMPARISON)
    assert used.count(2) == 1
    assert used[-1] == 1


def test_a_single_candidate_is_never_compared() -> None:
    chooser = ThreadChooser([3])
    assert not chooser.is_comparing
    assert set(run(chooser, quiet, 100)) == {3}


def test_other_work_on_the_machine_makes_it_choose_again() -> None:
    chooser = ThreadChooser([1, 2])
    assert run(chooser, quiet, 100)[-1] == 2
    used = run(chooser, busy, 2 * WINDOW + 2 * COMPARISON)
    assert used[-1] == 1
    assert used.count(2) <= WINDOW + 1


def test_it_chooses_again_when_the_other_work_has_ended() -> None:
    chooser = ThreadChooser([1, 2])
    run(chooser, lambda threads: 2.5 * quiet(threads) if threads == 1 else 30.0, 300)
    assert chooser.next() == 1
    assert run(chooser, quiet, 1000)[-1] == 2


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.9])
def test_small_changes_of_speed_are_no_reason_to_compare(factor: float) -> None:
    assert factor < CHANGED
    chooser = ThreadChooser([1, 2])
    run(chooser, quiet, 200)
    assert set(run(chooser, lambda threads: factor * quiet(threads), 500)) == {2}


def test_one_slow_step_changes_nothing() -> None:
    chooser = ThreadChooser([1, 2])
    run(chooser, quiet, 200)
    chooser.record(500.0)
    assert set(run(chooser, quiet, 200)) == {2}


def test_comparisons_take_a_small_share_of_the_time_however_often_the_speed_changes() -> None:
    chooser, compared, total = ThreadChooser([1, 2]), 0.0, 0.0
    run(chooser, quiet, 100)
    for step in range(20_000):
        seconds = (1.0 if step // 60 % 2 else 5.0) * quiet(chooser.next())
        compared += seconds * chooser.is_comparing
        total += seconds
        chooser.record(seconds)
    assert 0 < compared < 0.12 * total


def test_torch_uses_the_chosen_number_inside_a_timed_step() -> None:
    before = torch.get_num_threads()
    try:
        with settle(1).timed():
            assert torch.get_num_threads() == 1
        chooser = settle("auto", 2)
        with chooser.timed(size=64):
            assert torch.get_num_threads() == 1
        assert chooser.turn
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(2, 32, 1), (4, 16, 1), (8, 8, 1)])
def test_bfloat16_is_computed_rightly_on_every_cpu(shape: tuple[int, int, int]) -> None:
    """With the matrix units of Intel's CPUs, such convolutions were wrong by as much as their result."""
    channels, kernel, stride = shape
    generator = torch.Generator().manual_seed(0)
    spectra = torch.randn(4, channels, 300, generator=generator)
    weight = torch.randn(32, channels, kernel, generator=generator)
    expected = torch.conv1d(spectra, weight, stride=stride)
    found = torch.conv1d(spectra.bfloat16(), weight.bfloat16(), stride=stride).float()
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
