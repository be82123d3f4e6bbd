"""An ensemble notices that its tables and stores have another content."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from survey.ensemble.build import BuiltEnsemble, build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.ensemble.settings import Build
from survey.settings import SettingsError
from survey.training import made_from
from survey.training.settings import Train
from survey.training.worker import learn
from tests.ensemble import small_runs
from tests.finished import change_document
from tests.training import lessons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("made_from"), "both")


def ensemble(folder: Path, place: Path, **changes: Any) -> BuiltEnsemble:
    """An ensemble of one run; a small store of other stars recalibrates it."""
    values = {"ensemble": str(place / "team"), "runs": [str(folder / "both")], "threads": 1, "gpu": "never"}
    return build(Build.from_dict("ensemble", values | changes))


def test_a_corrected_label_table_is_noticed(folder: Path, tmp_path: Path) -> None:
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    ensemble(folder, tmp_path, labels=str(labels))
    assert not ensemble(folder, tmp_path, labels=str(labels)).is_new
    before = labels.read_bytes()
    lessons.shift(labels)
    message = (
        r"team: was made from other files: labels has another content now; put the files of before back, "
        r"or give another ensemble="
    )
    with pytest.raises(SettingsError, match=message):
        ensemble(folder, tmp_path, labels=str(labels))
    labels.write_bytes(before)
    assert not ensemble(folder, tmp_path, labels=str(labels)).is_new
    labels.unlink()  # a finished ensemble does not need it any more
    assert not ensemble(folder, tmp_path, labels=str(labels)).is_new


def test_other_tables_and_stores_of_a_recalibration_are_noticed(folder: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "survey" / "store", 40, seed=9, first=9000)
    labels = tmp_path / "survey" / "labels.csv"
    given = {"recalibrate": {"store": str(tmp_path / "survey" / "store"), "labels": str(labels)}}
    ensemble(folder, tmp_path, **given)
    assert not ensemble(folder, tmp_path, **given).is_new
    lessons.shift(labels)
    with pytest.raises(SettingsError, match=r"recalibrate\.labels has another content now"):
        ensemble(folder, tmp_path, **given)
    shutil.rmtree(tmp_path / "survey")
    lessons.store(tmp_path / "survey" / "store", 40, seed=10, first=9000)
    with pytest.raises(
        SettingsError, match=r"recalibrate\.labels has another content now; recalibrate\.store has another"
    ):
        ensemble(folder, tmp_path, **given)


def test_another_label_table_of_trained_members_is_noticed(folder: Path, tmp_path: Path) -> None:
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    training = lessons.training(folder).model_dump(mode="json", exclude_unset=True, exclude={"run"})
    train = training | {"split": small_runs.SPLIT, "epochs": 1}
    given: dict[str, Any] = {"runs": [], "labels": str(labels), "train": train}
    given["store"] = str(folder / "store")
    ensemble(folder, tmp_path, **given)
    assert not ensemble(folder, tmp_path, **given).is_new
    lessons.shift(labels)
    with pytest.raises(SettingsError, match=r"runs\.prism-\d+\.labels has another content now"):
        ensemble(folder, tmp_path, **given)


def test_an_ensemble_that_was_made_before_checksums_were_kept_opens(folder: Path, tmp_path: Path) -> None:
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    first = ensemble(folder, tmp_path, labels=str(labels))
    change_document(tmp_path / "team" / "ensemble.json", lambda document: document.pop("made_from"))
    assert open_ensemble(first.folder).id == first.document.id
    lessons.shift(labels)
    assert not ensemble(folder, tmp_path, labels=str(labels)).is_new


def test_an_ensemble_that_was_interrupted_does_not_mix_old_and_new_labels(
    folder: Path, tmp_path: Path
) -> None:
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    training = lessons.training(folder).model_dump(mode="json", exclude_unset=True, exclude={"run"})
    values = {"ensemble": str(tmp_path / "team"), "runs": [], "seeds": 2, "threads": 1, "gpu": "never"}
    values |= {"labels": str(labels), "store": str(folder / "store")}
    train = training | {"split": small_runs.SPLIT, "epochs": 1}
    settings = Build.from_dict("ensemble", values | {"train": train})
    trained: list[str] = []

    def interrupted(member: Train) -> None:
        if trained:
            raise KeyboardInterrupt
        trained.append(member.run)
        learn(member)

    with pytest.raises(KeyboardInterrupt):
        build(settings, interrupted)
    before = labels.read_bytes()
    lessons.shift(labels)
    message = rf"run: {trained[0]}: was made from other files: labels has another content now; put the files"
    with pytest.raises(SettingsError, match=message):
        build(settings)
    labels.write_bytes(before)
    assert build(settings).is_new


def test_a_table_that_has_not_changed_is_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    ensemble(folder, tmp_path, labels=str(labels))
    with monkeypatch.context() as context:
        context.setattr(made_from, "_checksum", lambda *stamp: pytest.fail(f"{stamp} is read"))
        assert not ensemble(folder, tmp_path, labels=str(labels)).is_new
    change_document(
        tmp_path / "team" / "ensemble.json", lambda document: document["made_from"].pop("stamps")
    )  # as it was before stamps were kept
    assert not ensemble(folder, tmp_path, labels=str(labels)).is_new


def test_a_cascade_is_not_fitted_to_another_label_table(folder: Path, tmp_path: Path) -> None:
    small_runs.train(folder, "second", seed=5, epochs=1)
    labels = Path(shutil.copy(folder / "labels.csv", tmp_path / "mine.csv"))
    runs = [str(folder / "both"), str(folder / "second")]
    first = ensemble(folder, tmp_path, runs=runs, labels=str(labels))
    lessons.shift(labels)
    with pytest.raises(SettingsError, match="labels has another content now"):
        fitted_cascade(open_ensemble(first.folder), 1)
