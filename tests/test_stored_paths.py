"""A folder is found by the path that another folder has written down, wherever a command is given."""

import json
from pathlib import Path

import pytest

from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.holdout import seen_in_training
from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.folder import SETTINGS
from survey.labelling import samples
from survey.store.store import STORE
from survey.stored_paths import LostFolderError, find_folder
from survey.training.run import run_document
from tests.training import lessons


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which commands are given; the current one is another."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def finished(path: Path, identity: str = "right") -> Path:
    """A finished store, as far as its path matters."""
    path.mkdir(parents=True)
    (path / "store.json").write_text(json.dumps({"id": identity}))
    return path


def owner(path: Path, command_folder: Path | None = None) -> str:
    """The folder of a run, made by a command in this folder."""
    path.mkdir(parents=True)
    if command_folder:
        (path / SETTINGS).write_text(json.dumps({"command_folder": str(command_folder)}))
    return str(path)


def found(path: str, of: str) -> str:
    return find_folder(path, of, STORE, "right")


def test_a_path_from_the_current_folder_is_found_as_it_is(place: Path) -> None:
    finished(place / "elsewhere" / "store")
    assert found("store", owner(place / "run", place)) == "store"


def test_a_path_from_the_folder_of_the_command_is_found_from_anywhere(place: Path) -> None:
    store = finished(place / "data" / "store")
    assert found("data/store", owner(place / "runs" / "deep" / "run", place)) == str(store)
    assert found("../../data/store", owner(place / "run", place / "runs" / "deep")) == str(store)


@pytest.mark.parametrize("path", ["store", "old/store"])
def test_a_folder_that_was_moved_with_its_run_is_found_beside_it(place: Path, path: str) -> None:
    store = finished(place / "moved" / "store")
    assert found(path, owner(place / "moved" / "run", place / "gone")) == str(store)


def test_another_folder_of_the_same_name_is_not_taken_for_it(place: Path) -> None:
    finished(place / "elsewhere" / "store", "other")
    store = finished(place / "store")
    assert found("store", owner(place / "run", place)) == str(store)


def test_what_was_tried_is_named_if_a_folder_is_nowhere(place: Path) -> None:
    run = owner(place / "run", place / "begun")
    message = (
        rf"the store s, .*none in s or {place}/begun/s or {place}/s; .*give store= with its present path"
    )
    with pytest.raises(LostFolderError, match=message):
        found("s", run)


def test_a_run_is_evaluated_and_fine_tuned_from_any_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings have the paths `store` and `first`."""
    monkeypatch.chdir(place)
    lessons.store(place / "store", 120)
    changes = {"store": "store", "labels": "labels.csv", "epochs": 1}
    lessons.train(place, run="first", **changes)
    lessons.train(place, run="second", start_from="first", **changes)
    known = samples.read("second")
    monkeypatch.chdir(place / "elsewhere")
    of = str(place / "second")
    assert evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": of})).document.spectra > 0
    assert open_ensemble(of).store_path == str(place / "store")
    seen_N, missing = seen_in_training({"second": run_document(of).id}, str(place / "said"), known.extra)
    assert missing == 0
    assert seen_N.sum() == len(known) - len(known.part("test"))
