"""Trainings that Ray workers share end like those of one process."""

from pathlib import Path

import numpy as np
import pytest

from survey.cluster.train import RayReader
from survey.cluster.work import fit
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import Reader, concatenate
from survey.training.train import plan
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("small_ray"),
    # Ray copies settings of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
EPOCHS = 2
SYNTHESIS = {
    "probability": 0.5,
    "sd": {"FeH": 0.2},
    "redraw": {"probability": 0.3, "ranges": {"CFe": [0.0, 2.0]}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    lessons.store(folder / "store", 160, size=40, continuum=True)
    return folder


def history(place: Path, name: str, **changes: object) -> list[dict[str, float]]:
    settings = lessons.training(
        place, run=str(place / name), epochs=EPOCHS, augment={"preset": "full"}, ema=0.9, **changes
    )
    assert fit(settings)
    assert not fit(settings)
    return runs.history(settings.run)


@pytest.mark.parametrize("data", [pytest.param("resident", marks=pytest.mark.long), "streaming"])
def test_two_workers_end_like_one(
    place: Path, data: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)  # relative paths must work in workers too, whose folder Ray Train changes
    values = {"store": "store", "labels": "labels.csv", "data": data, "synthesis": SYNTHESIS}
    one = history(Path(), f"one-{data}", **values)
    two = history(Path(), f"two-{data}", workers=2, **values)
    for row, expected in zip(two, one, strict=True):
        for name in ("train_loss", "validation_loss", "validation_mae_FeH", "lr"):
            assert row[name] == pytest.approx(expected[name], rel=2e-4), name
    assert f"epoch {EPOCHS}/{EPOCHS}" in capfd.readouterr().err  # the progress of the leader is shown here


@pytest.mark.long
def test_workers_that_have_reserved_all_cpus_still_get_their_spectra(place: Path) -> None:
    four = history(place, "four", workers=4, data="streaming")
    one = history(place, "one", data="streaming")
    assert four[-1]["validation_loss"] == pytest.approx(one[-1]["validation_loss"], rel=2e-4)


@pytest.mark.long
def test_ray_reads_the_spectra_of_the_store_in_the_order_of_the_lists(place: Path) -> None:
    """Compared with the columns of the shards, and with the reader of one process."""
    rng, store = np.random.default_rng(3), open_store(str(place / "store"))
    lists = [np.stack([rng.integers(0, 4, 30), rng.integers(0, 40, 30)], 1) for _ in range(5)]
    one, ray = (
        concatenate(list(reader(str(place / "store"), ("continuum",))(lists)))
        for reader in (Reader, RayReader)
    )
    for name in ("flux", "ivar", "continuum"):
        shards = [np.stack(table[name].to_numpy()) for table in store.tables([name])]
        expected = np.stack([shards[shard][row] for shard, row in np.concatenate(lists)])
        assert np.array_equal(getattr(ray, name).numpy(), expected)
        assert np.array_equal(getattr(one, name).numpy(), expected)


def test_more_workers_than_ray_has_room_for_are_refused_at_once(place: Path) -> None:
    with pytest.raises(SettingsError, match="workers=8: Ray has 2 CPUs, enough for 4 workers; give fewer"):
        history(place, "many", workers=8)


@pytest.mark.long
def test_an_error_that_another_try_would_repeat_ends_the_job_at_once(place: Path) -> None:
    settings = lessons.training(place, run=str(place / "changed"), workers=2)
    plan(settings)
    path = place / "changed" / runs.PLAN
    path.write_text(path.read_text().replace("toy-0", "another"))
    with pytest.raises(JobError, match="has changed since the run was begun"):
        fit(settings)
