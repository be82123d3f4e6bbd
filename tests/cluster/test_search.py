"""A search on Ray Tune: the same study as in one process, trainings side by side, dead processes replaced."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError

from survey.cluster import search as cluster
from survey.cluster.work import run_trainings
from survey.search import tune
from survey.search.queue import TrainingQueue
from survey.search.schedule import Request
from survey.search.settings import Tune
from survey.search.trial import Row, TrainingEnd
from survey.settings import JobError, SettingsError
from survey.training import run as runs
from survey.training.settings import Train
from tests.search import sweeps
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("small_ray"),
    pytest.mark.filterwarnings("ignore:::ray"),  # Ray copies settings of its own that it has given up
]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    return folder


def search_settings(toys: Path, folder: Path, **changes: Any) -> Tune:
    return sweeps.search_settings(toys, folder, **({"workers": None} | changes))


def run(settings: Tune) -> tune.SearchOutcome:
    """The search, on Ray."""
    return tune.tune(settings, run_trainings(settings))


def counted(settings: Tune, monkeypatch: pytest.MonkeyPatch) -> tuple[tune.SearchOutcome, int]:
    """The search, on Ray, and the largest number of trainings that ran at a time."""
    running: list[int] = []
    original = TrainingQueue.next

    def counting(trainings: TrainingQueue) -> Request | None:
        request = original(trainings)
        running.append(len(trainings.running))
        return request

    monkeypatch.setattr(TrainingQueue, "next", counting)
    outcome = run(settings)
    return outcome, max(running)


def test_a_search_for_two_elements_runs_trainings_side_by_side(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative."""
    sweeps.write_space(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = search_settings(
        toys,
        tmp_path,
        space="space.yaml",
        study="study",
        winners="winners",
        elements=["C_FE", "FE"],
        trials=1,
        seeds=1,
        train=sweeps.TRAIN | {"epochs": 2},
        prune={"name": "halving", "first": 1},
    )
    outcome, at_a_time = counted(settings, monkeypatch)
    assert at_a_time >= 2
    assert [progress.finished for progress in outcome.progress] == [1, 1]
    assert all(progress.counts["running"] == 0 for progress in outcome.progress)
    assert not any(progress.reasons for progress in outcome.progress)
    assert set(outcome.results) == {"C_FE", "FE"}
    for result in outcome.results.values():
        assert result.best
        assert len(result.best.seeds.values) == 1
        assert result.best.seeds.mean
    assert not run(settings).is_new


@pytest.mark.long
def test_workers_limits_the_trainings_at_a_time(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "run_locally", None)  # one worker would be this process
    settings = search_settings(toys, tmp_path, trials=3, workers=2, prune={"name": "none"})
    one = settings.model_copy(update={"workers": 1})
    running: list[int] = []

    def run_with_one_worker(trainings: TrainingQueue) -> None:
        original = trainings.next

        def counting() -> Request | None:
            request = original()
            running.append(len(trainings.running))
            return request

        monkeypatch.setattr(trainings, "next", counting)
        cluster.run_on_ray(one, trainings)

    outcome = tune.tune(settings, run_with_one_worker)
    assert max(running) == 1
    assert outcome.progress[0].finished == 3


def worker_with(run_training: Callable[[Train, Callable[[Row], None]], TrainingEnd]) -> Callable[..., None]:
    """The worker's function with another training in it: processes of Ray import the module anew."""

    def run(config: dict[str, Any]) -> None:
        from survey.cluster import search

        vars(search)["run_training"] = run_training
        search.train_on_worker(config)

    return run


@pytest.mark.long
def test_a_dead_process_costs_one_epoch_and_a_training_that_always_dies_is_a_failed_trial(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(settings: Train, report: Callable[[Row], None]) -> TrainingEnd:
        """Its process dies in its second epoch: once, or each time if the batch is large."""
        from survey.search.trial import run_training

        died = Path(settings.run).with_suffix(".died")

        def die(row: Row) -> None:
            if row["epoch"] == 2 and (settings.batch == 32 or not died.exists()):
                died.parent.mkdir(parents=True, exist_ok=True)
                died.write_text("x")
                os.kill(os.getpid(), signal.SIGKILL)
            report(row)

        return run_training(settings, die)

    monkeypatch.setattr(cluster, "train_on_worker", worker_with(deadly))
    settings = search_settings(
        toys,
        tmp_path,
        trials=3,
        sampler="grid",
        failures=1,
        prune={"name": "none"},
        space=str(sweeps.write_space(tmp_path, {"batch": {"choices": [8, 32]}})),
        train=sweeps.TRAIN | {"epochs": 3, "batch": 16},
    )
    progress = run(settings).progress[0]
    assert (progress.counts["complete"], progress.counts["failed"]) == (2, 1)
    (reason,) = progress.reasons
    assert "its processes died one after the other" in reason
    first = Path(settings.study) / "trials" / "FE" / "0"
    assert [row["epoch"] for row in runs.history(str(first))] == [1, 2, 3]
    assert first.with_suffix(".died").exists()


@pytest.mark.long
def test_if_ray_breaks_down_its_trainings_are_requested_again_but_not_without_end(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray does so when it kills for lack of memory, which Tune does not expect."""
    running: list[int] = []

    class Breaking(cluster.EpochStopper):
        def stop_all(self) -> bool:
            if self.bridge.keys and len(running) < 3:
                running.append(len(self.bridge.queue.running))
                raise RuntimeError("unexpected") from OutOfMemoryError("the node runs low on memory")
            return super().stop_all()

    monkeypatch.setattr(cluster, "EpochStopper", Breaking)
    outcome = run(search_settings(toys, tmp_path, trials=2, failures=2, prune={"name": "none"}))
    assert len(running) == 3
    assert outcome.progress[0].finished == 2
    assert outcome.progress[0].reasons
    assert all("the node runs low on memory" in reason for reason in outcome.progress[0].reasons)


@pytest.mark.long
def test_a_reason_that_all_trainings_share_ends_the_search(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hopeless(settings: Train, report: Callable[[Row], None]) -> TrainingEnd:
        return TrainingEnd(failed=f"no luck with threads={settings.threads}")

    monkeypatch.setattr(cluster, "train_on_worker", worker_with(hopeless))
    with pytest.raises(JobError, match="trainings failed: no luck with threads=1; correct this"):
        run(search_settings(toys, tmp_path, trials=9, train=sweeps.TRAIN | {"threads": 2}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": 0.5}, r"gpu=0.5: Ray has 0 GPUs; give a smaller share, or 0"),
        ({"threads": 64}, r"threads=64: the largest machine of Ray has 2 CPUs; give fewer threads"),
    ],
)
def test_resources_that_ray_does_not_have_are_reported(
    toys: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        run(search_settings(toys, tmp_path, **changes))
