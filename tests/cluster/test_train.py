"""Trainings shared by Ray workers end as those of one process do."""

from pathlib import Path

import numpy as np
import pytest

from survey.cluster.train import RayReader, _crewed, fit
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import run
from survey.training.batches import Reader, together
from survey.training.train import PLAN, begin
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("small_ray"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:ray"
    ),  # Ray copies settings of its own that it has given up
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    lessons.store(folder / "store", continuum=True)
    return folder


def history(place: Path, name: str, **changes: object) -> list[dict[str, float]]:
    settings = lessons.training(
        place, run=str(place / name), epochs=3, augment={"preset": "full"}, ema=0.9, **changes
    )
    assert fit(settings)
    assert not fit(settings)
    return run.history(settings.run)


@pytest.mark.parametrize("data", ["resident", "streaming"])
def test_two_workers_end_as_one_does(
    place: Path, data: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(place)  # relative paths are right for workers too, whom Ray Train moves elsewhere
    vary = {
        "probability": 0.5,
        "by": {"FeH": 0.2},
        "anew": {"probability": 0.3, "between": {"CFe": [0.0, 2.0]}},
    }
    relative = {"store": "store", "labels": "labels.csv", "data": data, "vary": vary}
    alone, shared = (
        history(Path(), f"one-{data}", **relative),
        history(Path(), f"two-{data}", workers=2, **relative),
    )
    for one, two in zip(alone, shared, strict=True):
        for name in ("train_loss", "validation_loss", "validation_mae_FeH", "lr"):
            assert two[name] == pytest.approx(one[name], rel=2e-4), name
    assert "epoch 3/3" in capfd.readouterr().err  # what the leader says is heard here


def test_ray_reads_what_this_process_reads_in_the_same_order(place: Path):
    dice = np.random.default_rng(3)
    lists = [np.stack([dice.integers(0, 4, 30), dice.integers(0, 40, 30)], 1) for _ in range(5)]
    here, there = (
        together(list(reader(str(place / "store"), True)(lists))) for reader in (Reader, RayReader)
    )
    for name in ("flux", "ivar", "continuum"):
        assert np.array_equal(getattr(here, name).numpy(), getattr(there, name).numpy())
    assert len(open_store(str(place / "store")).about) > 0


def test_more_workers_than_there_are_places_for_are_refused_at_once(place: Path):
    with pytest.raises(SettingsError, match="workers=8: Ray has 2 CPUs, enough for 4 workers; give fewer"):
        history(place, "many", workers=8)


def test_a_mistake_that_another_try_would_not_mend_is_told_at_once(place: Path):
    settings = lessons.training(place, run=str(place / "gone"), workers=2)
    begin(settings)
    plan = place / "gone" / PLAN
    plan.write_text(plan.read_text().replace("toy-0", "another"))
    with pytest.raises(JobError, match="has changed since the run was begun"):
        _crewed(settings)
