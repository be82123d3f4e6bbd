"""Ray Tune as the place of a search: the same study as in one process, trainings side by side, those that die gone on with."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError

from survey.cluster import search as cluster
from survey.search import tune
from survey.search.schedule import Search
from survey.search.settings import Tune
from survey.settings import JobError, SettingsError
from survey.training import run as bundle
from tests.search import sweeps
from tests.training import lessons

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("small_ray"),
    pytest.mark.filterwarnings("ignore:::ray"),  # Ray copies settings of its own that it has given up
]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    lessons.store(folder / "store", 120)
    return folder


def wanted(toys: Path, folder: Path, **changes: Any) -> Tune:
    return sweeps.wanted(toys, folder, **({"workers": None} | changes))


def test_a_sweep_of_two_elements_side_by_side(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Some are stopped early, some cannot be, one kind fails by itself; paths are relative."""
    lines = sweeps.SPACE | {"options.components": {"choices": [16, 2000]}}
    sweeps.space(tmp_path, lines)
    monkeypatch.chdir(tmp_path)
    most: list[int] = []

    def watched(search: Search) -> None:
        usual = search.next

        def counting() -> Any:
            order = usual()
            most.append(len(search.under_way))
            return order

        monkeypatch.setattr(search, "next", counting)
        cluster.place(settings)(search)

    given = {
        "space": "space.yaml",
        "study": "study",
        "winners": "winners",
        "elements": ["C_FE", "FE"],
        "trials": 4,
        "seeds": 2,
    }
    settings = wanted(
        toys, tmp_path, **given, train=sweeps.TRAIN | {"epochs": 4}, prune={"name": "halving", "first": 1}
    )
    outcome = tune.tune(settings, watched)
    assert [one.finished for one in outcome.standings] == [4, 4]
    assert all(one.counts["running"] == 0 for one in outcome.standings)
    assert max(most) > 1
    failed = {reason for one in outcome.standings for reason in one.reasons}
    assert not failed or all("fewer than options.components=2000" in reason for reason in failed)
    for found in outcome.found.values():
        assert len(found["best"]["repeated"]["values"]) == 2
        assert found["best"]["repeated"]["mean"] > 0
    assert not tune.tune(settings, cluster.place(settings)).made


def _carried(work: Any) -> Any:
    """The worker's function with another training in it: processes of Ray import the module afresh."""

    def run(config: dict[str, Any]) -> None:
        from survey.cluster import search

        search.work = work
        search._work(config)

    return run


def test_a_dead_process_costs_its_training_one_step_and_one_that_always_dies_is_a_failed_trial(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def deadly(settings: Any, tell: Any) -> Any:
        """Its process dies in its second epoch: once, or each time where the batch is large."""
        from survey.search.trial import work

        died = Path(settings.run).with_suffix(".died")

        def telling(row: Any) -> None:
            if row["epoch"] == 2 and (settings.batch == 32 or not died.exists()):
                died.parent.mkdir(parents=True, exist_ok=True)
                died.write_text("x")
                os.kill(os.getpid(), signal.SIGKILL)
            tell(row)

        return work(settings, telling)

    monkeypatch.setattr(cluster, "_work", _carried(deadly))
    given = {
        "space": str(sweeps.space(tmp_path, {"batch": {"choices": [16, 32]}})),
        "train": sweeps.TRAIN | {"epochs": 3, "batch": 16},
    }
    settings = wanted(toys, tmp_path, trials=3, sampler="grid", failures=1, prune={"name": "none"}, **given)
    outcome = tune.tune(settings, cluster.place(settings))
    counts = outcome.standings[0].counts
    assert (counts["complete"], counts["failed"]) == (2, 1)
    assert all("its processes died one after the other" in reason for reason in outcome.standings[0].reasons)
    first = Path(settings.study) / "trials" / "FE" / "0"
    assert [row["epoch"] for row in bundle.history(str(first))] == [1, 2, 3]
    assert first.with_suffix(".died").exists()


def test_a_place_of_work_that_breaks_down_has_its_trainings_done_again_but_not_for_ever(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Ray does when it kills for want of memory, which Tune does not expect."""
    broken: list[int] = []

    class Breaking(cluster.Ear):
        def stop_all(self) -> bool:
            if self.bridge.keys and len(broken) < 3:
                broken.append(len(self.bridge.search.under_way))
                raise RuntimeError("unexpected") from OutOfMemoryError("the node runs low on memory")
            return super().stop_all()

    monkeypatch.setattr(cluster, "Ear", Breaking)
    settings = wanted(toys, tmp_path, trials=2, failures=2, prune={"name": "none"})
    outcome = tune.tune(settings, cluster.place(settings))
    assert len(broken) == 3
    assert outcome.standings[0].finished == 2
    assert all("the node runs low on memory" in reason for reason in outcome.standings[0].reasons)


def test_trouble_with_all_trainings_ends_the_search(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def hopeless(settings: Any, tell: Any) -> Any:
        return {"failed": "no luck today"}

    monkeypatch.setattr(cluster, "_work", _carried(hopeless))
    settings = wanted(toys, tmp_path, trials=9)
    with pytest.raises(JobError, match="trainings failed: no luck today; mend that"):
        tune.tune(settings, cluster.place(settings))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gpu": 0.5}, r"gpu=0.5: Ray has 0 GPUs; give a smaller share, or 0"),
        ({"threads": 64}, r"threads=64: the largest machine of Ray has 2 CPUs; give fewer threads"),
    ],
)
def test_what_ray_does_not_have_is_told(toys: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    settings = wanted(toys, tmp_path, **changes)
    with pytest.raises(SettingsError, match=told):
        tune.tune(settings, cluster.place(settings))
