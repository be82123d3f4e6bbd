"""The bookkeeping of epochs, without a network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from survey.settings import JobError
from survey.training import checkpoint
from survey.training.epochs import Epochs
from survey.training.settings import Train


def new_epochs(folder: Path, is_leader: bool = True, **changes: Any) -> Epochs:
    values = {"store": "", "labels": "", "run": "", "epochs": 9} | changes
    return Epochs(Train.from_dict("train", values), str(folder), is_leader)


def run_epoch(epochs: Epochs, loss: float) -> None:
    """One epoch, whose weights are its loss."""
    weights = {"weight": torch.tensor([loss])}
    epochs.keep_if_best(epochs.monitored({"loss": loss}), lambda: weights)
    epochs.close({"epoch": epochs.state.epoch + 1.0, "validation_loss": loss}, lambda: weights)


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path)
    for loss in (3.0, float("nan"), 1.0, 2.0):
        run_epoch(epochs, loss)
    tensors, document = checkpoint.read_tensors(epochs.best)
    assert document == {"epoch": 3}
    assert tensors["weight"].item() == 1.0


def test_the_weights_of_the_last_epoch_are_kept_with_keep_last(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path, keep="last")
    for loss in (3.0, 1.0, 2.0):
        run_epoch(epochs, loss)
    assert checkpoint.read_tensors(epochs.best)[0]["weight"].item() == 2.0


def test_the_first_epoch_is_kept_even_if_its_metric_is_not_finite(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path)
    run_epoch(epochs, float("nan"))
    assert epochs.state.best_epoch == 1
    run_epoch(epochs, 5.0)
    assert epochs.state.best_epoch == 2


def test_a_training_that_was_stopped_continues_with_the_same_state(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path)
    for loss in (3.0, 1.0):
        run_epoch(epochs, loss)
    again = new_epochs(tmp_path)
    assert again.resume()["weight"].item() == 1.0
    assert again.state == epochs.state
    assert new_epochs(tmp_path / "empty").resume() == {}


def test_patience_ends_a_training(tmp_path: Path) -> None:
    epochs, losses = new_epochs(tmp_path, patience=2), [3.0, 1.0, 2.0, 2.0]
    for loss in losses:
        assert not epochs.is_over
        run_epoch(epochs, loss)
    assert epochs.is_over


def test_epochs_before_the_full_weight_of_an_alignment_count_as_nothing(tmp_path: Path) -> None:
    """It rises in the second epoch, and is full from the third on."""
    source = {"other": {"store": "s", "labels": "none"}}
    align = {"method": "coral", "warm_up": 1}
    epochs = new_epochs(tmp_path, patience=2, sources=source, align=align)
    for loss in (1.0, 2.0, 5.0, 4.0, 4.5):
        assert not epochs.is_over
        run_epoch(epochs, loss)
    assert epochs.state.best_epoch == 4
    assert checkpoint.read_tensors(epochs.best)[0]["weight"].item() == 4.0
    run_epoch(epochs, 6.0)
    assert epochs.is_over


def test_the_number_of_epochs_ends_a_training(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path, epochs=2)
    for loss in (3.0, 1.0):
        run_epoch(epochs, loss)
    assert epochs.is_over


def test_only_the_leader_writes(tmp_path: Path) -> None:
    epochs = new_epochs(tmp_path, is_leader=False)
    run_epoch(epochs, 1.0)
    assert epochs.state.epoch == epochs.state.best_epoch == 1
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_not_there_is_an_error_only_if_it_decides(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="monitor=f1_CEMP: there is no such metric; give one of loss"):
        new_epochs(tmp_path, monitor="f1_CEMP").monitored({"loss": 1.0})
    new_epochs(tmp_path, monitor="f1_CEMP", keep="last").monitored({})
