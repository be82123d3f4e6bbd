"""The order of an epoch of several sources: what each window and each batch has of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.training.batches import Places, windows


def survey_of(*sizes: int, shard: int = 100) -> tuple[Places, Places]:
    """Shards and sources of so many samples, in shards of `shard`."""
    shards = [np.arange(size) // shard for size in sizes]
    starts = np.cumsum([0, *(int(numbers[-1]) + 1 for numbers in shards)])
    shard_N = np.concatenate([numbers + start for numbers, start in zip(shards, starts, strict=False)])
    return shard_N, np.repeat(np.arange(len(sizes)), sizes)


def of_second(order: Places, source_N: Places, batch: int = 32) -> np.ndarray:
    """How many samples of each batch are of the second source."""
    whole = order[: len(order) // batch * batch].reshape(-1, batch)
    return np.asarray((source_N[whole] == 1).sum(1))


@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=3),
    shard=st.integers(1, 150),
    window=st.integers(1, 500),
    epoch=st.integers(0, 9),
    paired=st.booleans(),
    weighted=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_each_sample_comes_as_often_as_its_weight_says(
    sizes: list[int], shard: int, window: int, epoch: int, paired: bool, weighted: bool
) -> None:
    shard_N, source_N = survey_of(*sizes, shard=shard)
    weight_N = np.where(np.arange(len(shard_N)) % 3 == 0, 0, 1 + 4 * source_N).astype(float)
    pair_N = np.where(np.arange(len(shard_N)) % 2, -1, np.arange(len(shard_N)) % 50)
    each = windows(
        shard_N, weight_N if weighted else None, 3, epoch, window, pair_N if paired else None, source_N
    )
    times = np.bincount(np.concatenate([*each, np.empty(0, int)]), minlength=len(shard_N))
    assert np.array_equal(times, weight_N if weighted else np.ones(len(shard_N)))


def test_epochs_of_several_sources_differ_and_a_seed_repeats_them() -> None:
    shard_N, source_N = survey_of(400, 300)
    orders = [
        np.concatenate(list(windows(shard_N, None, seed, epoch, 200, None, source_N))).tolist()
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_a_single_source_has_the_order_that_it_has_without_sources() -> None:
    shard_N, source_N = survey_of(700)
    weight_N = np.random.default_rng(1).uniform(0, 3, 700)
    one, other = (list(windows(shard_N, weight_N, 5, 2, 200, None, given)) for given in (None, source_N))
    assert [window.tolist() for window in one] == [window.tolist() for window in other]


@pytest.mark.parametrize("shard", [100, 500, 2000])
def test_every_batch_has_spectra_of_both_sources_however_large_the_shards(shard: int) -> None:
    shard_N, source_N = survey_of(4000, 4000, shard=shard)
    order = np.concatenate(list(windows(shard_N, None, 0, 0, 800, None, source_N)))
    found = of_second(order, source_N)
    assert found.min() >= 8
    assert found.max() <= 24


def test_a_small_source_is_in_every_window_in_proportion() -> None:
    shard_N, source_N = survey_of(20000, 2000)
    order = np.concatenate(list(windows(shard_N, None, 0, 0, 1000, None, source_N)))
    assert of_second(order, source_N, 64).min() >= 4


def test_repeats_by_a_share_are_spread_over_the_epoch_and_do_not_fill_a_window() -> None:
    shard_N, source_N = survey_of(10000, 200)
    each = list(windows(shard_N, np.where(source_N == 1, 50.0, 1.0), 0, 0, 800, None, source_N))
    found = of_second(np.concatenate(each), source_N)
    assert found.min() >= 8
    assert found.max() <= 24
    assert max(map(len, each)) <= 1200


def test_large_sources_are_read_about_once() -> None:
    """The number of shards that windows open; a small source is opened once for each window."""
    for sizes, shard, share in (((8000, 8000), 100, 1), ((8000, 8000), 2000, 1), ((10000, 100), 2000, 50)):
        shard_N, source_N = survey_of(*sizes, shard=shard)
        weight_N = np.where(source_N == 1, float(share), 1.0)
        each = list(windows(shard_N, weight_N, 0, 0, 800, None, source_N))
        first, second = (
            sum(len(np.unique(shard_N[window[source_N[window] == number]])) for window in each)
            for number in (0, 1)
        )
        assert first == sizes[0] // shard
        assert second <= max(sizes[1] // shard, len(each))


def meetings(shard_N: Places, source_N: Places, pair_N: Places, window: int) -> float:
    """The share of pairs that share a window."""
    met = 0
    for index in windows(shard_N, None, 0, 0, window, pair_N, source_N):
        of_each = [set(pair_N[index[source_N[index] == number]].tolist()) - {-1} for number in (0, 1)]
        met += len(of_each[0] & of_each[1])
    return met / len(np.unique(pair_N[pair_N >= 0]))


def test_shards_with_the_same_objects_share_a_window() -> None:
    shard_N, source_N = survey_of(4000, 4000)
    number_N = np.arange(8000) % 4000
    assert meetings(shard_N, source_N, number_N, 800) == 1
    moved_N = np.where(
        source_N == 1, (number_N + 50) % 4000, number_N
    )  # shards of one cut those of the other
    assert meetings(shard_N, source_N, moved_N, 800) > 0.6
    few_N = np.where(source_N == 1, number_N, np.where(number_N < 400, number_N, -1))
    kept = np.append(np.arange(4000), 4000 + np.arange(400))
    assert meetings(shard_N[kept], source_N[kept], few_N[kept], 800) == 1


def test_pairs_of_a_repeated_source_meet_too() -> None:
    shard_N, source_N = survey_of(8000, 200)
    pair_N = np.where(
        source_N == 1, np.arange(8200) - 8000, np.where(np.arange(8200) < 200, np.arange(8200), -1)
    )
    each = list(windows(shard_N, np.where(source_N == 1, 40.0, 1.0), 0, 0, 800, pair_N, source_N))
    met = sum(len(np.intersect1d(pair_N[w[source_N[w] == 0]], pair_N[w[source_N[w] == 1]])) for w in each)
    assert met == 200
