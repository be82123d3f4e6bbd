"""A study on two sources knows its stores and tables by what they hold, wherever they lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from survey.search import tune
from survey.search.settings import Tune
from survey.settings import SettingsError
from tests.search import sweeps
from tests.training import lessons


def settings(place: Path, **changes: Any) -> Tune:
    """A search in a folder that has the stores too; the winner is trained again."""
    source = {"store": str(place / "real" / "store"), "labels": str(place / "real" / "labels.csv")}
    train = sweeps.TRAIN | {"sources": {"real": source}}
    space = str(sweeps.write_space(place, {"batch": {"choices": [16, 32]}}))
    given = {"train": train, "space": space, "sampler": "grid", "retrain": True, "trials": 2}
    return sweeps.search_settings(place / "toys", place, **given | changes)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study that was moved with its stores and its tables; tests do not change it."""
    place = tmp_path_factory.mktemp("study") / "there"
    lessons.store(place / "toys" / "store", 60)
    lessons.store(place / "real" / "store", 60, seed=3, first=5000)
    assert tune.tune(settings(place)).is_new
    return place.rename(place.with_name("kept"))


@pytest.fixture
def moved(kept: Path, tmp_path: Path) -> Path:
    """A copy of it; in its first place there is nothing."""
    return Path(shutil.copytree(kept, tmp_path / "moved"))


def times(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_moved_study_keeps_its_winner_and_continues(moved: Path) -> None:
    before = times(moved / "study" / "winners")
    assert before
    assert not tune.tune(settings(moved)).is_new
    assert times(moved / "study" / "winners") == before
    outcome = tune.tune(settings(moved, trials=3))
    assert outcome.progress[0].finished == 3
    assert not outcome.progress[0].counts["failed"]
    assert not outcome.results["FE"].failed_runs


def test_other_labels_of_a_further_source_are_refused(moved: Path) -> None:
    lessons.shift(moved / "real" / "labels.csv")
    with pytest.raises(SettingsError, match=r"other settings: train\.sources\.real\.labels=.* there, .* now"):
        tune.tune(settings(moved))


def test_a_study_of_an_earlier_version_names_its_sources_by_their_paths(moved: Path) -> None:
    path = moved / "study" / "settings.json"
    written = json.loads(path.read_text())
    written["settings"]["train"]["sources"]["real"] |= settings(moved).train["sources"]["real"]
    path.write_text(json.dumps(written))
    assert not tune.tune(settings(moved)).is_new
