import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training.batches import Feed, Reader, Step, read_places, windows
from survey.training.curriculum import Growth
from tests.training import lessons


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray]:
    folder = lessons.store(tmp_path_factory.mktemp("batches") / "store")
    sizes = [table.num_rows for table in open_store(str(folder)).tables(["row"])]
    places = np.array([(shard, row) for shard, size in enumerate(sizes) for row in range(size)])
    return str(folder), places[np.random.default_rng(5).random(len(places)) < 0.8]


def steps(
    path: str,
    places: np.ndarray,
    resident: bool,
    rank: int = 0,
    size: int = 1,
    weight_N: np.ndarray | None = None,
    window: int = 90,
) -> list[Step]:
    reader = Reader(path, False)
    held = read_places(open_store(path), places, False) if resident else None
    return list(Feed(places, 16, 7, 90, reader, held, weight_N, rank, size).epoch(3))


@pytest.mark.parametrize("weighted", [False, True])
def test_streaming_gives_the_batches_that_resident_spectra_give(
    stored: tuple[str, np.ndarray], weighted: bool
):
    path, places = stored
    weight_N = np.random.default_rng(1).uniform(0, 3, len(places)) if weighted else None
    for one, two in zip(
        steps(path, places, True, weight_N=weight_N),
        steps(path, places, False, weight_N=weight_N),
        strict=True,
    ):
        assert (one.all == two.all).all()
        assert torch.equal(one.spectra.flux, two.spectra.flux)
        assert torch.equal(one.spectra.ivar, two.spectra.ivar)


@pytest.mark.parametrize("resident", [True, False])
def test_workers_share_each_batch_without_a_gap_or_an_overlap(stored: tuple[str, np.ndarray], resident: bool):
    path, places = stored
    alone = steps(path, places, resident)
    crew = [steps(path, places, resident, rank, 4) for rank in range(4)]
    for number, step in enumerate(alone):
        assert (np.concatenate([member[number].mine for member in crew]) == step.all).all()
        assert torch.equal(torch.cat([member[number].spectra.flux for member in crew]), step.spectra.flux)


def test_a_spectrum_comes_with_its_own_pixels(stored: tuple[str, np.ndarray]):
    path, places = stored
    whole = read_places(open_store(path), places, False)
    for step in steps(path, places, False):
        assert torch.equal(step.spectra.flux, whole.flux[torch.from_numpy(step.mine)])


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 60), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_an_epoch_has_every_sample_once(shards: int, size: int, window: int, epoch: int):
    shard_N = np.repeat(np.arange(shards), size)
    order = np.concatenate(list(windows(shard_N, None, 3, epoch, window)))
    assert sorted(order.tolist()) == list(range(len(shard_N)))


def test_epochs_differ_and_a_seed_repeats_them():
    shard_N = np.repeat(np.arange(4), 50)
    order = [
        np.concatenate(list(windows(shard_N, None, seed, epoch, 100))).tolist()
        for seed, epoch in ((1, 0), (1, 1), (1, 0), (2, 0))
    ]
    assert order[0] == order[2]
    assert order[0] != order[1]
    assert order[0] != order[3]


def test_weights_say_how_often_a_sample_comes():
    shard_N, weight_N = np.repeat(np.arange(10), 100), np.tile([3.0, 0.25, 1.0, 0.5], 250)
    counts = np.zeros(1000)
    for epoch in range(20):
        counts += np.bincount(np.concatenate(list(windows(shard_N, weight_N, 1, epoch, 300))), minlength=1000)
    assert np.allclose([counts[kind::4].mean() / 20 for kind in range(4)], [3, 0.25, 1, 0.5], atol=0.03)


def test_fewer_samples_than_a_batch_still_make_a_step(stored: tuple[str, np.ndarray]):
    path, places = stored
    few = places[:5]
    assert [len(step.all) for step in Feed(few, 5, 7, 90, Reader(path, False)).epoch(0)] == [5]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_growing_training_part_streams_as_it_is_held_and_loses_none_that_it_had(
    stored: tuple[str, np.ndarray], weighted: bool
):
    path, places = stored
    weight_N = np.random.default_rng(1).uniform(0.5, 3, len(places)) if weighted else None
    held, reader, growth = (
        read_places(open_store(path), places, False),
        Reader(path, False),
        Growth(first=0.25, epochs=3),
    )
    one, two = (Feed(places, 16, 7, 90, reader, kept, weight_N, growth=growth) for kept in (held, None))
    before: set[int] = set()
    for epoch, share in enumerate([0.25, 0.25 ** (2 / 3), 0.25 ** (1 / 3), 1.0]):
        found = [[step.all.tolist() for step in feed.epoch(epoch)] for feed in (one, two)]
        assert found[0] == found[1]
        here = {place for step in found[0] for place in step}
        assert len(here) <= len(places) * share + 1
        assert len(found[0]) <= one.steps(epoch)
        pool = set(one._some(epoch).tolist())
        assert before <= pool
        assert here <= pool
        before = pool


def test_a_growth_needs_its_beginning_and_its_end():
    with pytest.raises(SettingsError, match="give both"):
        Growth.checked("train: growth", {"first": 0.2})
