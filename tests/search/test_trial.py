"""One training of a search: gone on with where it was left, each epoch told once more to whoever takes it up, errors as answers."""

from pathlib import Path
from typing import Any

import pytest

from survey import files
from survey.search import trial
from survey.search.trial import work
from survey.training import run
from survey.training.loop import StoppedError
from tests.training import lessons


def training(toys: Path, folder: Path, **changes: Any) -> Any:
    return lessons.training(
        toys, run=str(folder / "run"), task="reg", targets=["FeH"], monitor="mae_FeH", epochs=4, **changes
    )


def test_a_training_that_was_left_goes_on_and_tells_its_epochs_again(toys: Path, tmp_path: Path):
    settings, heard = training(toys, tmp_path), []

    class KilledError(BaseException):
        pass

    def until_two(row: Any) -> None:
        heard.append(row["epoch"])
        if row["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        work(settings, until_two)
    moved = settings.model_copy(update={"labels": "/elsewhere/labels.csv"})
    again: list[float] = []
    told = work(moved, lambda row: again.append(row["epoch"]))
    assert (heard, again) == ([1, 2], [1, 2, 3, 4])
    assert told["about"]["epochs"] == 4
    assert told["about"]["validation"]["mae_FeH"] > 0
    whole: list[float] = []
    assert work(moved, lambda row: whole.append(row["epoch"])) == told
    assert whole == [1, 2, 3, 4]
    assert run.about_run(settings.run)["epochs"] == 4


def test_who_listens_may_stop_it(toys: Path, tmp_path: Path):
    def stop(row: Any) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        work(training(toys, tmp_path), stop)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimiser": {"lr": 99.0}, "clip": 0, "ema": 0.0}, "the gradients are not finite"),
        ({"options": {"components": 2000}}, "300 pixels are fewer than options.components=2000"),
        ({"model": "no_such_net"}, "there is no plugin 'no_such_net'"),
    ],
)
def test_what_goes_wrong_is_an_answer(toys: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    values: dict[str, Any] = {"optimiser": {"lr": 3e-3}} | changes
    answer = work(training(toys, tmp_path, **values), lambda row: None)
    if "failed" in answer or "lr" not in changes.get("optimiser", {}):
        assert told in answer["failed"]


def test_an_error_of_another_kind_is_named_by_its_kind(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def exhausted(settings: Any, **more: Any) -> None:
        raise MemoryError("cannot allocate 1 TB")

    monkeypatch.setattr(trial, "learn", exhausted)
    assert work(training(toys, tmp_path), lambda row: None) == {"failed": "MemoryError: cannot allocate 1 TB"}


def test_what_is_forgotten_leaves_the_history(toys: Path, tmp_path: Path):
    settings = training(toys, tmp_path)
    work(settings, lambda row: None)
    trial.forget(settings.run, weights=False)
    assert not files.names(files.join(settings.run, run.CHECKPOINTS))
    assert run.open_run(settings.run)
    trial.forget(settings.run, weights=True)
    assert len(run.history(settings.run)) == 4
    assert not files.exists(files.join(settings.run, run.MODEL))
    assert len(trial.known(settings)) == 4
