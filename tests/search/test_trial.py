"""One training of a search: it continues where it was left, reports its epochs again, and its errors are
recorded.
"""

import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

from survey import files
from survey.search import trial
from survey.search.trial import ERROR, Row, TrainingEnd, run_training
from survey.training import run as runs
from survey.training.epochs import StoppedError
from survey.training.settings import Train
from survey.training.train import plan
from tests.training import lessons


def training(toys: Path, folder: Path, **changes: Any) -> Train:
    fixed = {"task": "reg", "targets": ["FeH"], "monitor": "mae_FeH", "epochs": 4}
    return lessons.training(toys, run=str(folder / "run"), **fixed, **changes)


def run(settings: Train) -> TrainingEnd:
    """The training from its start to its end."""
    return run_training(settings, lambda row: None)


def test_a_training_that_was_left_continues_and_reports_its_epochs_again(toys: Path, tmp_path: Path) -> None:
    settings = training(toys, tmp_path)

    class KilledError(BaseException):
        pass

    epochs: list[float] = []

    def die_after_two(row: Row) -> None:
        epochs.append(row["epoch"])
        if row["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        run_training(settings, die_after_two)
    elsewhere = Path(shutil.copytree(toys, tmp_path / "elsewhere"))
    places = {"store": str(elsewhere / "store"), "labels": str(elsewhere / "labels.csv")}
    moved = settings.model_copy(update=places)
    again: list[float] = []
    end = run_training(moved, lambda row: again.append(row["epoch"]))
    assert (epochs, again) == ([1, 2], [1, 2, 3, 4])
    assert end.scores
    assert end.scores.epochs == 4
    assert end.scores.validation["mae_FeH"] > 0
    finished: list[float] = []
    assert run_training(moved, lambda row: finished.append(row["epoch"])) == end
    assert finished == [1, 2, 3, 4]
    assert TrainingEnd.model_validate_json(end.model_dump_json()) == end


def test_a_report_may_stop_the_training(toys: Path, tmp_path: Path) -> None:
    def stop(row: Row) -> NoReturn:
        raise StoppedError

    with pytest.raises(StoppedError):
        run_training(training(toys, tmp_path), stop)
    assert not (tmp_path / "run" / ERROR).exists()


def test_an_error_of_a_training_is_its_end(toys: Path, tmp_path: Path) -> None:
    end = run(training(toys, tmp_path, options={"components": 2000}))
    assert end.scores is None
    assert "fewer than options.components=2000" in end.failed


def test_a_training_whose_gradients_are_not_finite_has_failed(toys: Path, tmp_path: Path) -> None:
    end = run(
        training(toys, tmp_path, optimiser={"lr": 99.0}, clip=0.0, ema=0.0, loss={"reg": "gaussian_nll"})
    )
    assert "the gradients are not finite" in end.failed


def test_the_traceback_of_an_error_is_in_the_folder_of_the_trial_until_it_is_trained_again(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, path = training(toys, tmp_path), tmp_path / "run" / ERROR

    def exhausted(settings: Train, **more: Any) -> NoReturn:
        raise MemoryError("cannot allocate 1 TB")

    with monkeypatch.context() as patched:
        patched.setattr(trial, "learn", exhausted)
        end = run(settings)
    assert end.failed.startswith("MemoryError: cannot allocate 1 TB")
    assert "error.txt in the folder of the trial" in end.failed
    assert "in exhausted\n" in path.read_text()
    assert path.read_text().endswith("MemoryError: cannot allocate 1 TB\n")
    assert run(settings).scores
    assert not path.exists()


def test_an_error_before_the_run_begins_leaves_a_folder_that_can_be_trained_in_again(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Train) -> NoReturn:
        raise RuntimeError("no network")

    with monkeypatch.context() as patched:
        patched.setattr(trial, "plan", broken)
        assert run(training(toys, tmp_path)).failed.startswith("RuntimeError: no network")
    assert (tmp_path / "run" / ERROR).exists()
    assert run(training(toys, tmp_path)).scores


def test_a_training_without_checkpoints_and_weights_keeps_its_history(toys: Path, tmp_path: Path) -> None:
    settings = training(toys, tmp_path)
    run(settings)
    trial.remove_checkpoints(settings.run, and_weights=False)
    assert not files.names(files.join(settings.run, runs.CHECKPOINTS))
    assert runs.open_run(settings.run)
    trial.remove_checkpoints(settings.run, and_weights=True)
    assert len(runs.history(settings.run)) == 4
    assert not files.exists(files.join(settings.run, runs.MODEL))
    assert len(trial.past_epochs(settings.run)) == 4


def test_a_run_of_other_settings_gives_way_also_if_it_was_stopped(toys: Path, tmp_path: Path) -> None:
    settings = training(toys, tmp_path)
    folder = Path(settings.run)
    assert plan(settings)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.safetensors").write_text("x")
    moved = settings.model_copy(update={"labels": "/elsewhere/labels.csv"})
    trial.remove_other_run(moved)
    assert (folder / "plan.json").exists()
    other = training(toys, tmp_path, batch=32)
    assert trial.differing(other) == ["batch=16 there, 32 now"]
    trial.remove_other_run(other)
    assert not list(folder.iterdir())
    assert plan(other)
