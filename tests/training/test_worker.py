"""Trainings of small networks in this process: they learn, repeat, resume, and obey their settings."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from survey.labelling import samples
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.epochs import Epochs
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import change_document
from tests.training import lessons

SYNTHESIS = {
    "probability": 0.5,
    "sd": {"FeH": 0.3},
    "redraw": {"probability": 0.3, "ranges": {"CFe": [0, 2]}},
}


def weights(run: Path) -> str:
    return hashlib.sha256((run / runs.MODEL).read_bytes()).hexdigest()


def test_a_run_learns_and_its_document_says_how_well(finished: Path) -> None:
    rows = runs.history(str(finished / "run"))
    document = runs.run_document(str(finished / "run"))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["validation_loss"] < 0.75 * rows[0]["validation_loss"]
    assert document.validation["loss"] == min(row["validation_loss"] for row in rows)
    assert sum(part.spectra for part in document.parts.values()) == lessons.STARS
    assert document.task.labels == ("FeH", "CFe")
    assert document.units == {"FeH": "dex", "CFe": "dex"}


def test_one_seed_gives_one_run_and_another_seed_another(finished: Path, place: Path) -> None:
    """The second one of equal seed reads its spectra from the store as it needs them."""
    assert weights(lessons.train(place, data="streaming")) == weights(finished / "run")
    other = runs.history(str(lessons.train(place, run=str(place / "other"), seed=1, epochs=1)))
    assert other[0]["train_loss"] != runs.history(str(finished / "run"))[0]["train_loss"]


def test_small_windows_stream_like_resident_ones(place: Path) -> None:
    resident, streaming = (
        lessons.train(place, data=data, window=60, epochs=2, run=str(place / data))
        for data in ("resident", "streaming")
    )
    assert weights(resident) == weights(streaming)


class KilledError(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9, "schedule": {"name": "plateau", "patience": 0}, "augment": {"preset": "full"}},
        {"synthesis": SYNTHESIS},
    ],
    ids=["plain", "mean weights, plateau, augmentation", "synthesis"],
)
def test_a_run_that_was_stopped_ends_like_an_undisturbed_one(
    finished: Path, place: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, undisturbed = str(place / "undisturbed"), finished / "run"
    if changes:
        changes = changes | {"epochs": 4}
        undisturbed = lessons.train(place, run=other, **changes)
    stops, close = (2, changes.get("epochs", 6) - 1), Epochs.close

    def stop(self: Epochs, row: dict[str, float], tensors: Callable[[], dict[str, Tensor]]) -> None:
        close(self, row, tensors)
        if self.state.epoch in stops:
            raise KilledError

    monkeypatch.setattr(Epochs, "close", stop)
    for _ in range(2):
        with pytest.raises(KilledError):
            lessons.train(place, **changes)
    resumed = lessons.train(place, **changes)
    assert weights(resumed) == weights(undisturbed)
    histories = (runs.history(str(run)) for run in (resumed, undisturbed))
    for row, expected in zip(*histories, strict=True):
        for name in row.keys() - {"seconds", "spectra_per_second"}:
            assert row[name] == pytest.approx(expected[name], rel=0, abs=0, nan_ok=True), name


def test_a_run_whose_best_weights_are_lost_is_trained_again(
    finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message about a damaged file says: remove it and run the job again."""

    def kill(*args: Any) -> None:
        raise KilledError

    monkeypatch.setattr(runs, "finish", kill)
    with pytest.raises(KilledError):
        lessons.train(place)
    monkeypatch.undo()
    (place / "run" / "checkpoints" / "best.safetensors").unlink()
    assert weights(lessons.train(place)) == weights(finished / "run")


def test_threads_that_are_chosen_by_their_speed_change_results_by_rounding_only(
    finished: Path, place: Path
) -> None:
    rows = runs.history(str(lessons.train(place, threads="auto")))
    expected = runs.history(str(finished / "run"))
    assert rows[-1]["validation_loss"] == pytest.approx(expected[-1]["validation_loss"], rel=1e-3)


def test_pieces_of_a_step_add_up_to_the_step(place: Path) -> None:
    options = {"components": 16, "hidden": 32, "dropout": 0.0}
    losses = [
        runs.history(
            str(
                lessons.train(
                    place, run=str(place / str(pieces)), accumulate=pieces, options=options, epochs=2
                )
            )
        )[-1]["validation_loss"]
        for pieces in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("task", ["cls", "reg"])
def test_each_task_learns_alone(place: Path, task: str) -> None:
    """Far better than the same answer for all spectra; so much no rounding of a machine changes."""
    learned, constant = (
        runs.run_document(str(lessons.train(place, task=task, run=str(place / model), **network)))
        for model, network in (("prism", {"model": "prism"}), ("mean", {"model": "mean", "options": {}}))
    )
    assert learned.validation["loss"] < 0.7 * constant.validation["loss"]


def test_the_likelihood_trains_sigmas(place: Path) -> None:
    run = runs.open_run(str(lessons.train(place, task="reg", loss={"reg": "gaussian_nll"}, epochs=8)))
    test = samples.read(run.path).part("test")
    predicted = run.predict(read_spectra(open_store(str(place / "store")), test.shard_row_N2))
    pull = (predicted["mu"] - test.label_NL) / predicted["sigma"]
    assert 0.3 < np.median(np.abs(pull)) < 1.5


def test_a_rare_class_can_be_drawn_more_often(place: Path) -> None:
    rows = runs.history(str(lessons.train(place, balance="balanced", epochs=2)))
    assert np.isfinite(rows[-1]["validation_f1_CEMP"])


def test_patience_ends_a_training(place: Path) -> None:
    rows = runs.history(str(lessons.train(place, epochs=40, patience=2, optimiser={"lr": 1e-2})))
    assert len(rows) < 40
    best = min(rows, key=lambda row: row["validation_loss"])
    assert len(rows) - best["epoch"] == 2
    assert runs.run_document(str(place / "run")).best_epoch == best["epoch"]


def test_the_last_epoch_is_kept_with_keep_last(place: Path) -> None:
    document = runs.run_document(str(lessons.train(place, keep="last", epochs=4, optimiser={"lr": 3e-2})))
    assert document.best_epoch == document.epochs == 4


def test_a_balanced_epoch_with_fewer_spectra_than_a_batch_still_has_steps(place: Path) -> None:
    for seed in range(3):
        run = lessons.train(
            place, run=str(place / str(seed)), balance="balanced", batch=1000, seed=seed, epochs=1
        )
        assert len(runs.history(str(run))) == 1


def test_a_growing_training_part_ends_with_all_of_it(place: Path) -> None:
    run = lessons.train(place, curriculum={"first": 0.3, "epochs": 3}, epochs=4)
    spectra = [row["spectra_per_second"] * row["seconds"] for row in runs.history(str(run))]
    assert spectra[0] < spectra[-1]


def store_with_an_infinite_pixel(folder: Path) -> Callable[..., Any]:
    """A reader of a store that makes one good pixel of one training spectrum infinite."""
    lessons.store(folder / "store")
    settings = lessons.training(folder)
    plan(settings)
    train = samples.read(settings.run).part("train")
    shutil.rmtree(settings.run)

    def read(store: Any, shard_row_N2: Any, extra: Any) -> Any:
        spectra = read_spectra(store, shard_row_N2, extra)
        spectra.flux[(shard_row_N2 == train.shard_row_N2[3]).all(1), 20] = torch.inf
        return spectra

    return read


def test_a_step_without_finite_gradients_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("survey.training.batches.read_spectra", store_with_an_infinite_pixel(tmp_path))
    message = (
        r"epoch 1, step \d+, samples .*: the gradients are not finite: "
        r"the spectra hold values that are not finite; .*nan=skip"
    )
    with pytest.raises(JobError, match=message):
        lessons.train(tmp_path, initialise="plain")


@pytest.mark.parametrize("values", [{}, {"model": "bganet", "options": {}}], ids=["prism", "batch norm"])
def test_a_step_without_finite_gradients_can_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    monkeypatch.setattr("survey.training.batches.read_spectra", store_with_an_infinite_pixel(tmp_path))
    run = lessons.train(tmp_path, nan="skip", initialise="plain", epochs=2, **values)
    assert runs.run_document(str(run)).skipped_steps == 2  # once in each epoch


def test_a_store_may_be_moved_while_a_run_is_not_finished(place: Path) -> None:
    plan(lessons.training(place, epochs=1))
    (place / "store").rename(place / "elsewhere")
    settings = lessons.training(place, store=str(place / "elsewhere"), epochs=1)
    assert plan(settings)
    learn(settings)
    assert runs.is_finished(settings.run)


def test_a_store_that_has_changed_is_refused(finished: Path, place: Path) -> None:
    settings = lessons.training(place)
    plan(settings)
    (place / "store").unlink()
    shutil.copytree(finished / "store", place / "store")
    path = place / "store" / "store.json"
    change_document(path, {"id": "grown"})
    with pytest.raises(SettingsError, match=r"it was toy-0, now it is grown\); give a new run="):
        learn(settings)
