"""The order of spectra in a training, and how workers share it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from survey.store.store import open_store
from survey.training.batches import Batches, Reader, Spectra, Step, read_spectra, windows
from survey.training.learning_settings import Curriculum
from tests.training import lessons

Stored = tuple[str, NDArray[np.int64]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """The path of a store, and most of its spectra as (shard, row in shard)."""
    folder = lessons.store(tmp_path_factory.mktemp("batches") / "store")
    sizes = [table.num_rows for table in open_store(str(folder)).tables(["row"])]
    rows = np.array([(shard, row) for shard, size in enumerate(sizes) for row in range(size)])
    return str(folder), rows[np.random.default_rng(5).random(len(rows)) < 0.8]


def steps(
    stored: Stored,
    is_resident: bool,
    rank: int = 0,
    size: int = 1,
    weight_N: NDArray[np.float64] | None = None,
) -> list[Step]:
    path, rows = stored
    resident = read_spectra(open_store(path), rows) if is_resident else None
    return list(Batches(rows, 16, 7, 90, Reader(path), resident, weight_N, rank, size).epoch(3))


def random_weights(stored: Stored, is_weighted: bool, low: float) -> NDArray[np.float64] | None:
    return np.random.default_rng(1).uniform(low, 3, len(stored[1])) if is_weighted else None


@pytest.mark.parametrize("is_weighted", [False, True])
def test_streaming_gives_the_batches_that_resident_spectra_give(stored: Stored, is_weighted: bool) -> None:
    weight_N = random_weights(stored, is_weighted, 0)
    resident, streamed = (steps(stored, is_resident, weight_N=weight_N) for is_resident in (True, False))
    for one, two in zip(resident, streamed, strict=True):
        assert (one.batch_index == two.batch_index).all()
        assert torch.equal(one.spectra.flux, two.spectra.flux)
        assert torch.equal(one.spectra.ivar, two.spectra.ivar)


@pytest.mark.parametrize("is_resident", [True, False])
def test_workers_share_each_batch_without_a_gap_or_an_overlap(stored: Stored, is_resident: bool) -> None:
    workers = [steps(stored, is_resident, rank, 4) for rank in range(4)]
    for number, step in enumerate(steps(stored, is_resident)):
        shares = [worker[number] for worker in workers]
        assert (np.concatenate([share.local_index for share in shares]) == step.batch_index).all()
        assert torch.equal(torch.cat([share.spectra.flux for share in shares]), step.spectra.flux)


@pytest.mark.parametrize("paired", [False, True])
def test_spectra_of_several_sources_are_the_same_streamed_and_shared(stored: Stored, paired: bool) -> None:
    """The first shards are one source, the last is another, which comes three times."""
    path, rows = stored
    source_N = (rows[:, 0] == rows[:, 0].max()).astype(np.int64)
    weight_N, pair_N = 1.0 + 2 * source_N, np.arange(len(rows)) % 40 if paired else None
    whole, *shared = (
        list(
            Batches(
                rows, 16, 7, 60, Reader(path), spectra, weight_N, rank, size, pair_N=pair_N, source_N=source_N
            ).epoch(3)
        )
        for spectra, rank, size in ((read_spectra(open_store(path), rows), 0, 1), (None, 0, 2), (None, 1, 2))
    )
    for number, step in enumerate(whole):
        halves = [worker[number] for worker in shared]
        assert all((half.batch_index == step.batch_index).all() for half in halves)
        assert torch.equal(torch.cat([half.spectra.flux for half in halves]), step.spectra.flux)
    assert len(whole) == len(shared[0]) == len(shared[1])


def test_a_spectrum_comes_with_its_own_pixels(stored: Stored) -> None:
    path, rows = stored
    spectra = read_spectra(open_store(path), rows)
    for step in steps(stored, is_resident=False):
        assert torch.equal(step.spectra.flux, spectra.flux[torch.from_numpy(step.local_index)])


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 60), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_an_epoch_has_every_sample_once(shards: int, size: int, window: int, epoch: int) -> None:
    shard_N = np.repeat(np.arange(shards), size)
    order = np.concatenate(list(windows(shard_N, None, 3, epoch, window)))
    assert sorted(order.tolist()) == list(range(len(shard_N)))


def test_epochs_differ_and_a_seed_repeats_them() -> None:
    shard_N = np.repeat(np.arange(4), 50)
    orders = [
        np.concatenate(list(windows(shard_N, None, seed, epoch, 100))).tolist()
        for seed, epoch in ((1, 0), (1, 1), (1, 0), (2, 0))
    ]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0] != orders[3]


def test_the_weight_of_a_sample_is_how_often_it_comes() -> None:
    shard_N, weight_N = np.repeat(np.arange(10), 100), np.tile([3.0, 0.25, 1.0, 0.5], 250)
    counts = np.zeros(1000)
    for epoch in range(20):
        counts += np.bincount(np.concatenate(list(windows(shard_N, weight_N, 1, epoch, 300))), minlength=1000)
    means = [counts[kind::4].mean() / 20 for kind in range(4)]
    assert np.allclose(means, [3, 0.25, 1, 0.5], atol=0.03)


def test_as_many_samples_as_a_batch_make_a_step(stored: Stored) -> None:
    path, rows = stored
    batches = Batches(rows[:5], 5, 7, 90, Reader(path))
    assert [len(step.batch_index) for step in batches.epoch(0)] == [5]


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_growing_training_part_is_the_same_in_both_ways_of_reading(
    stored: Stored, is_weighted: bool
) -> None:
    path, rows = stored
    weight_N = random_weights(stored, is_weighted, 0.5)
    resident = read_spectra(open_store(path), rows)
    curriculum = Curriculum(first=0.25, epochs=3)
    both = [
        Batches(rows, 16, 7, 90, Reader(path), spectra, weight_N, curriculum=curriculum)
        for spectra in (resident, None)
    ]
    for epoch, share in enumerate([0.25, 0.25 ** (2 / 3), 0.25 ** (1 / 3), 1.0]):
        orders = [[step.batch_index.tolist() for step in batches.epoch(epoch)] for batches in both]
        assert orders[0] == orders[1]
        used = {sample for batch in orders[0] for sample in batch}
        assert len(used) <= len(rows) * share + 1
        assert len(orders[0]) <= both[0].steps(epoch)


def test_a_growing_training_part_loses_no_sample(stored: Stored) -> None:
    """Batches of one spectrum, so that nothing is left over at the end of an epoch."""
    path, rows = stored
    batches = Batches(rows, 1, 7, 90, Reader(path), curriculum=Curriculum(first=0.25, epochs=3))
    earlier: set[int] = set()
    for epoch in range(4):
        used = {int(step.batch_index[0]) for step in batches.epoch(epoch)}
        assert earlier <= used
        earlier = used
    assert len(earlier) == len(rows)


def test_samples_of_a_pair_follow_one_another_and_none_is_lost() -> None:
    shard = np.repeat([0, 1, 2, 3], 50)
    pair = np.where(np.arange(200) % 50 < 20, np.arange(200) % 100, -1)  # of shards 0 and 2, 1 and 3
    (order,) = windows(shard, None, 7, 3, 1000, pair)
    assert sorted(order) == list(range(200))
    place = np.argsort(order)
    for number in np.unique(pair[pair >= 0]):
        first, other = place[pair == number]
        assert abs(first - other) == 1
    assert order.tolist() != sorted(order)
    assert order.tolist() != next(windows(shard, None, 7, 4, 1000, pair)).tolist()


@pytest.mark.parametrize("place", [0, 5, 63, 64, 199, None])
def test_an_object_has_a_spectrum_if_any_of_its_pixels_is_good(place: int | None) -> None:
    ivar_BP, image = torch.zeros(3, 200), torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    if place is not None:
        ivar_BP[1, place] = 1e-3
    image[2, 0, 3, 3] = 1
    spectra = Spectra(torch.ones(3, 200), ivar_BP, image=image)
    assert spectra.have(("spectrum",)).tolist() == [False, place is not None, False]
    assert spectra.have(("image",)).tolist() == [False, False, True]
    assert spectra.have(("spectrum", "image")).tolist() == [False, place is not None, True]
