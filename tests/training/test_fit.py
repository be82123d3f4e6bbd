"""Baselines become runs like networks: they learn, resume, choose the best report, and refuse mistakes."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey.evaluate.evaluate import evaluate_ensemble
from survey.evaluate.settings import Evaluate
from survey.labelling import samples
from survey.models.baseline import FitError
from survey.models.xgboost import Net
from survey.reports import train as report
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import fit
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.tracking import Watch
from survey.training.train import plan
from survey.training.worker import learn
from tests.training import lessons

TREES = {"components": 16, "rounds": 30, "report": 10, "patience": 10, "colsample": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "xgboost": TREES,
    "lightgbm": TREES,
    "ridge": {"components": 40},
    "mean": {},
}
FORESTS = ("xgboost", "lightgbm")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitting")
    lessons.store(folder / "store")
    return folder


def trained(place: Path, run: Path, kind: str, watch: Watch | None = None, **changes: Any) -> Path:
    values = {"model": kind, "options": KINDS[kind]} | changes
    settings = lessons.training(place, run=str(run), **values)
    if plan(settings):
        learn(settings, watch=watch)
    return run


@pytest.fixture(scope="module")
def fitted(place: Path) -> Callable[[str], Path]:
    """A finished run of a kind, made once; tests do not change it."""
    return functools.cache(lambda kind: trained(place, place / kind, kind))


def weights(run: Path) -> str:
    return runs.run_document(str(run)).weights_sha256


def predict(place: Path, run: Path, part: samples.Samples) -> dict[str, np.ndarray]:
    spectra = read_spectra(open_store(str(place / "store")), part.shard_row_N2)
    return runs.open_run(str(run)).predict(spectra)


@every_kind
def test_a_baseline_is_a_run_like_any_other(place: Path, fitted: Callable[[str], Path], kind: str) -> None:
    run = fitted(kind)
    document, rows = runs.run_document(str(run)), runs.history(str(run))
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == (3 if kind in FORESTS else 1)
    assert document.best_epoch == min(rows, key=lambda row: row["validation_loss"])["epoch"]
    test = samples.read(str(run)).part("test")
    error = np.sqrt(np.nanmean((predict(place, run, test)["mu"] - test.label_NL) ** 2, 0))
    spread = np.nanstd(test.label_NL, 0)
    assert (error < (1.1 if kind == "mean" else 0.8) * spread).all()
    assert document.unused == ("epochs", "batch", "optimiser")
    assert document.parameters > 0 or kind == "mean"
    assert evaluate_ensemble(Evaluate.from_dict("evaluate", {"of": str(run), "threads": 1})).metrics.num_rows


def test_the_summary_names_settings_that_are_not_used(
    place: Path, fitted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = shutil.copytree(fitted("ridge"), tmp_path / "run")
    settings = lessons.training(place, run=str(run), model="ridge", options=KINDS["ridge"])
    text = report.summary(settings, True, report.pictures(settings))
    assert "not used   epochs, batch, optimiser: settings of networks that a ridge does not use" in text


class EndedError(Exception):
    """A search has seen enough; or a kill."""


@every_kind
def test_a_fit_that_was_ended_continues_to_the_same_run_and_a_finished_one_is_left_alone(
    place: Path, fitted: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    epochs: list[float] = []

    def watch(row: dict[str, float]) -> None:
        epochs.append(row["epoch"])
        assert np.isfinite(row["validation_loss"])
        if len(epochs) == 1:
            raise EndedError

    with pytest.raises(EndedError):
        trained(place, tmp_path / "run", kind, watch)
    run, undisturbed = trained(place, tmp_path / "run", kind, watch), fitted(kind)
    assert not plan(lessons.training(place, run=str(run), model=kind, options=KINDS[kind]))
    expected = runs.history(str(undisturbed))
    assert epochs == [row["epoch"] for row in expected]
    assert weights(run) == weights(undisturbed)
    for one, two in zip(runs.history(str(run)), expected, strict=True):
        np.testing.assert_equal(one | {"seconds": 0}, two | {"seconds": 0})


@every_kind
@pytest.mark.parametrize(
    "changes", [{"task": "cls"}, {"task": "reg", "loss": {"reg": "gaussian_nll"}}, {"balance": "balanced"}]
)
def test_every_task_is_fitted(place: Path, tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    fewer_rounds = {"rounds": 10} if kind in FORESTS else {}
    run = trained(place, tmp_path / "run", kind, options=KINDS[kind] | fewer_rounds, **changes)
    validation = samples.read(str(run)).part("validation")
    predicted = predict(place, run, validation)
    if "p" in predicted:
        np.testing.assert_allclose(predicted["p"].sum(1), 1)
    if "loss" in changes:  # one sigma for all spectra: the scatter on the validation part
        scatter = np.sqrt(((predicted["mu"] - validation.label_NL) ** 2).mean(0))
        expected = np.broadcast_to(scatter, predicted["sigma"].shape)
        np.testing.assert_allclose(predicted["sigma"], expected, rtol=0.01)


def test_rare_classes_have_more_weight_if_they_are_balanced(place: Path, tmp_path: Path) -> None:
    spread = {}
    for balance in ("none", "balanced"):
        run = trained(place, tmp_path / balance, "mean", task="cls", balance=balance)
        spread[balance] = runs.open_run(str(run)).net.state_dict()["log_share_C"].exp().std()
    assert spread["balanced"] < 0.01 < spread["none"]


@every_kind
def test_a_winner_is_fitted_again_on_training_and_validation_part(
    place: Path, tmp_path: Path, kind: str
) -> None:
    both: dict[str, Any] = {"keep": "last", "learn_from": "train+validation"}
    run = trained(place, tmp_path / kind, kind, epochs=2, **both)
    document, row = runs.run_document(str(run)), runs.history(str(run))[-1]
    assert document.best_epoch == row["epoch"]
    assert np.isfinite(row["train_loss"])
    if kind in FORESTS:
        assert row["rounds"] == 2 * TREES["report"]
    assert document.unused == ("batch", "optimiser")


def test_sigmas_need_a_validation_part(place: Path, tmp_path: Path) -> None:
    message = (
        "model=ridge: its sigmas are measured on the validation part, which is empty; give another loss.reg"
    )
    with pytest.raises(SettingsError, match=message):
        trained(
            place,
            tmp_path / "sigma",
            "ridge",
            task="reg",
            loss={"reg": "gaussian_nll"},
            keep="last",
            learn_from="train+validation",
        )


def test_a_baseline_sees_only_its_view(place: Path, tmp_path: Path) -> None:
    run = runs.open_run(
        str(trained(place, tmp_path / "run", "ridge", task="reg", view={"windows": [[4400.0, 4500.0]]}))
    )
    flux, ivar = torch.ones(2, len(lessons.GRID)), torch.ones(2, len(lessons.GRID))
    flux[1, lessons.GRID.wave < 4390] = 0.5
    mu = run.net(flux, ivar)["mu"]
    assert torch.equal(mu[0], mu[1])
    flux[1, (lessons.GRID.wave > 4440) & (lessons.GRID.wave < 4460)] = 0.7
    assert not torch.equal(*run.net(flux, ivar)["mu"])


def test_unused_settings_are_named(place: Path) -> None:
    settings = lessons.training(
        place,
        model="ridge",
        options={},
        augment={"preset": "full"},
        ema=0.9,
        schedule={"name": "cosine"},
        loss={"reg": "smooth_l1", "cls": "focal"},
    )
    assert set(fit.unused_settings(settings)) == {
        *("epochs", "batch", "optimiser", "augment", "ema", "schedule"),
        "loss.cls",
        "loss.reg=smooth_l1 (squared errors instead)",
    }


def test_a_baseline_cannot_continue_another_run(
    place: Path, fitted: Callable[[str], Path], tmp_path: Path
) -> None:
    start = str(fitted("ridge"))
    with pytest.raises(SettingsError, match="start_from: a ridge is fitted at once and cannot continue"):
        trained(place, tmp_path / "run", "ridge", start_from=start)


def test_features_that_do_not_fit_into_memory_are_refused(place: Path, tmp_path: Path) -> None:
    message = (
        "model=ridge: 1.. spectra of 40 features take .* GB, the limit is 1e-06 GB; "
        "give options with fewer features"
    )
    with pytest.raises(SettingsError, match=message):
        trained(place, tmp_path / "run", "ridge", resident_gb=1e-6)


def test_a_failure_of_a_library_ends_the_job_with_its_message(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise FitError("xgboost: the library failed: out of luck")

    monkeypatch.setattr(Net, "grow", fail)
    with pytest.raises(JobError, match="train: model=xgboost: xgboost: the library failed: out of luck"):
        trained(place, tmp_path / "run", "xgboost")


def test_a_damaged_checkpoint_is_reported(place: Path, tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        trained(place, tmp_path / "run", "lightgbm", stop)
    last = tmp_path / "run" / runs.CHECKPOINTS / "last.safetensors"
    raw = bytearray(last.read_bytes())
    raw[-200] ^= 1
    last.write_bytes(raw)
    with pytest.raises(ValueError, match=r"damaged .*; remove it"):
        trained(place, tmp_path / "run", "lightgbm")
    assert not runs.is_finished(str(tmp_path / "run"))


def test_good_pixels_that_are_not_finite_are_reported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(store: Any, shard_row_N2: Any, extra: Any) -> Any:
        spectra = read_spectra(store, shard_row_N2, extra)
        spectra.flux[3], spectra.ivar[3] = torch.inf, 1.0
        return spectra

    monkeypatch.setattr("survey.training.batches.read_spectra", read)
    message = r"train: spectrum 3 of \d+ .* has good pixels that are not finite; ingest the store again"
    with pytest.raises(JobError, match=message):
        trained(place, tmp_path / "run", "xgboost")


def test_spectra_that_are_read_in_pieces_become_the_same_features(
    place: Path, fitted: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = fitted("lightgbm")
    monkeypatch.setattr(fit, "PIECE", 17)
    in_pieces = trained(place, tmp_path / "in-pieces", "lightgbm")
    losses = [runs.run_document(str(run)).validation["loss"] for run in (at_once, in_pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
