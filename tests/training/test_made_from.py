"""A run notices other labels and other spectra at the same path, and knows its own at another path."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from survey.settings import SettingsError
from survey.training import made_from
from survey.training import run as runs
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import change_document
from tests.training import lessons


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A store and labels of this test alone, without a run."""
    shutil.copytree(finished / "store", tmp_path / "store")
    shutil.copy(finished / "labels.csv", tmp_path)
    return tmp_path


def two_sources(run: Path, place: Path, other: Path) -> Train:
    """A training on the store of a folder and on that of another one."""
    real = {"store": str(other / "store"), "labels": str(other / "labels.csv")}
    return lessons.training(place, run=str(run), sources={"real": real}, epochs=1)


def regrow(place: Path) -> None:
    """Another store is there from now on."""
    change_document(place / "store" / "store.json", {"id": "grown"})


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize(
    ("change", "name"), [(lambda place: lessons.shift(place / "labels.csv"), "labels"), (regrow, "store")]
)
def test_other_labels_and_spectra_are_noticed(
    own: Path, is_finished: bool, change: Callable[[Path], None], name: str
) -> None:
    settings = lessons.training(own, epochs=1)
    assert plan(settings)
    if is_finished:
        learn(settings)
    assert plan(settings) != is_finished
    change(own)
    message = (
        rf"^train: run: {settings.run}: was made from other files: {name} has another content now; "
        "put the files of before back, or give another folder, to train from these$"
    )
    with pytest.raises(SettingsError, match=message):
        plan(settings)


def test_other_labels_of_a_further_source_are_noticed(finished: Path, own: Path) -> None:
    settings = two_sources(own / "run", finished, own)
    assert plan(settings)
    assert plan(settings)
    lessons.shift(own / "labels.csv")
    with pytest.raises(SettingsError, match=r"files: sources\.real\.labels has another content now"):
        plan(settings)


def test_another_run_to_start_from_is_noticed(finished: Path, own: Path) -> None:
    shutil.copytree(finished / "run", own / "start")
    settings = lessons.training(own, start_from=str(own / "start"), epochs=1)
    assert plan(settings)
    change_document(own / "start" / "run.json", {"id": "another"})
    with pytest.raises(SettingsError, match="files: start_from has another content now"):
        plan(settings)


def test_a_finished_run_needs_its_files_no_more(own: Path) -> None:
    settings = lessons.training(own, epochs=1)
    lessons.train(own, epochs=1)
    shutil.rmtree(own / "store")
    (own / "labels.csv").unlink()
    assert not plan(settings)


def test_the_same_files_are_known_in_another_place(own: Path) -> None:
    assert plan(lessons.training(own))
    (elsewhere := own / "elsewhere").mkdir()
    for name in ("store", "labels.csv"):
        (own / name).rename(elsewhere / name)
    moved = {"store": str(elsewhere / "store"), "labels": str(elsewhere / "labels.csv")}
    settings = lessons.training(own, **moved)
    assert plan(settings)
    learn(settings)
    assert not plan(settings)
    lessons.shift(elsewhere / "labels.csv")
    with pytest.raises(SettingsError, match=r"labels=.* there, .* now"):
        plan(settings)


def test_a_training_on_two_sources_continues_where_they_are_now(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        lessons.store(tmp_path / name / "store", 60, seed=seed, first=1000 + 4000 * seed)
    assert plan(two_sources(tmp_path / "run", tmp_path / "a", tmp_path / "b"))
    for name in ("a", "b"):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
    settings = two_sources(tmp_path / "run", tmp_path / "moved-a", tmp_path / "moved-b")
    assert plan(settings)
    learn(settings)
    assert not plan(settings)


def test_a_table_that_has_not_changed_is_not_read_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lessons.training(own)
    assert plan(settings)
    monkeypatch.setattr(made_from, "_checksum", lambda *stamp: pytest.fail(f"{stamp} is read"))
    assert plan(settings)


def test_a_run_of_an_earlier_version_opens_and_continues(own: Path) -> None:
    def forget(document: dict[str, Any]) -> None:
        document.pop("made_from")

    settings = lessons.training(own, epochs=1)
    assert plan(settings)
    change_document(own / "run" / "plan.json", forget)
    lessons.shift(own / "labels.csv")
    assert plan(settings)
    learn(settings)
    change_document(own / "run" / "run.json", forget)
    assert not plan(settings)
    assert runs.open_run(settings.run).document.made_from == made_from.MadeFrom()
