"""Models that are fitted become runs like any other: learned, resumed, chosen, refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from survey.evaluate.evaluate import Evaluate, evaluate
from survey.labelling import samples
from survey.models.baseline import FitError
from survey.models.xgboost import Net
from survey.reports import train
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training import fit
from survey.training import run as bundle
from survey.training.batches import read_places
from survey.training.loop import Watch
from survey.training.train import begin
from survey.training.worker import learn
from tests.training import lessons

TREES = {"components": 16, "rounds": 60, "report": 20, "patience": 20, "colsample": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "xgboost": TREES,
    "lightgbm": TREES,
    "ridge": {"components": 40},
    "mean": {},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitting")
    lessons.store(folder / "store")
    return folder


def trained(place: Path, run: Path, kind: str, watch: Watch | None = None, **changes: Any) -> Path:
    settings = lessons.training(place, run=str(run), **({"model": kind, "options": KINDS[kind]} | changes))
    if begin(settings):
        learn(settings, watch=watch)
    return run


def weights(run: Path) -> str:
    return str(bundle.about_run(str(run))["weights_sha256"])


@every_kind
def test_a_fitted_model_is_a_run_like_any_other(place: Path, tmp_path: Path, kind: str):
    run = trained(place, tmp_path / "run", kind)
    about, rows = bundle.about_run(str(run)), bundle.history(str(run))
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == (3 if kind in ("xgboost", "lightgbm") else 1)
    assert about["best_epoch"] == min(rows, key=lambda row: row["validation_loss"])["epoch"]
    test = samples.read(str(run)).part("test")
    said = bundle.open_run(str(run)).said(read_places(open_store(str(place / "store")), test.place_N2, False))
    error, spread = (
        np.sqrt(np.nanmean((x - test.label_NL) ** 2, 0)) for x in (said["mu"], np.nanmean(test.label_NL, 0))
    )
    assert (error < (1.1 if kind == "mean" else 0.8) * spread).all()
    assert about["unused"] == ["epochs", "batch", "optimiser"]
    assert about["parameters"] > 0 or kind == "mean"
    shown = train.summary(
        lessons.training(place, run=str(run), model=kind),
        True,
        train.pictures(lessons.training(place, run=str(run))),
    )
    assert f"not used   epochs, batch, optimiser: settings of networks that mean nothing to a {kind}" in shown
    found = evaluate(Evaluate.checked("evaluate", {"of": str(run), "threads": 1}))
    assert found.table.num_rows


@every_kind
def test_one_seed_gives_one_run_and_a_finished_one_is_left_alone(place: Path, tmp_path: Path, kind: str):
    one, two = (trained(place, tmp_path / name, kind) for name in ("one", "two"))
    assert weights(one) == weights(two)
    assert not begin(lessons.training(place, run=str(one), model=kind, options=KINDS[kind]))


class EndedError(Exception):
    """A search has seen enough; or a kill."""


@every_kind
def test_a_watch_hears_every_report_and_may_end_the_fit_which_then_goes_on_from_there(
    place: Path, tmp_path: Path, kind: str
):
    heard: list[float] = []

    def watch(row: dict[str, float]) -> None:
        heard.append(row["epoch"])
        assert np.isfinite(row["validation_loss"])
        if len(heard) == 1:
            raise EndedError

    with pytest.raises(EndedError):
        trained(place, tmp_path / "run", kind, watch)
    run, through = trained(place, tmp_path / "run", kind, watch), trained(place, tmp_path / "through", kind)
    rows = bundle.history(str(through))
    assert heard == [row["epoch"] for row in rows]
    assert weights(run) == weights(through)
    for one, two in zip(bundle.history(str(run)), rows, strict=True):
        np.testing.assert_equal(one | {"seconds": 0}, two | {"seconds": 0})


@every_kind
@pytest.mark.parametrize(
    "changes", [{"task": "cls"}, {"task": "reg", "loss": {"reg": "gaussian_nll"}}, {"balance": "balanced"}]
)
def test_every_task_is_fitted(place: Path, tmp_path: Path, kind: str, changes: dict[str, Any]):
    run = bundle.open_run(
        str(
            trained(
                place,
                tmp_path / "run",
                kind,
                options=KINDS[kind] | ({"rounds": 20} if "rounds" in KINDS[kind] else {}),
                **changes,
            )
        )
    )
    validation = samples.read(run.path).part("validation")
    said = run.said(read_places(open_store(str(place / "store")), validation.place_N2, False))
    if "p" in said:
        np.testing.assert_allclose(said["p"].sum(1), 1)
    if "loss" in changes:  # one sigma for all: the scatter on the validation part
        scatter = np.sqrt(((said["mu"] - validation.label_NL) ** 2).mean(0))
        np.testing.assert_allclose(said["sigma"], np.broadcast_to(scatter, said["sigma"].shape), rtol=0.01)


def test_rare_classes_count_more_where_they_are_balanced(place: Path, tmp_path: Path):
    recall = {}
    for balance in ("none", "balanced"):
        run = trained(place, tmp_path / balance, "mean", task="cls", balance=balance)
        recall[balance] = bundle.open_run(str(run)).net.state_dict()["log_share_C"].exp()
    assert recall["balanced"].std() < 0.01 < recall["none"].std()


def test_a_winner_is_fitted_again_on_training_and_validation_part(place: Path, tmp_path: Path):
    both = {"keep": "last", "learn_from": "train+validation"}
    for kind in KINDS:
        run = trained(place, tmp_path / kind, kind, epochs=2, **both)
        row = bundle.history(str(run))[-1]
        assert bundle.about_run(str(run))["best_epoch"] == row["epoch"]
        assert np.isfinite(row["train_loss"])
        if kind in ("xgboost", "lightgbm"):
            assert row["rounds"] == 2 * TREES["report"]
        assert bundle.about_run(str(run))["unused"] == ["batch", "optimiser"]
    with pytest.raises(
        SettingsError,
        match=r"model=ridge: its sigmas are told by validation spectra, and there are none; give another loss.reg",
    ):
        trained(place, tmp_path / "sigma", "ridge", task="reg", loss={"reg": "gaussian_nll"}, **both)


def test_a_view_is_what_a_fitted_model_sees(place: Path, tmp_path: Path):
    run = bundle.open_run(
        str(trained(place, tmp_path / "run", "ridge", task="reg", view={"windows": [[4400.0, 4500.0]]}))
    )
    flux, ivar = torch.ones(2, len(lessons.GRID)), torch.ones(2, len(lessons.GRID))
    flux[1, lessons.GRID.wave < 4390] = 0.5
    said = run.net(flux, ivar)
    assert torch.equal(said["mu"][0], said["mu"][1])
    flux[1, (lessons.GRID.wave > 4440) & (lessons.GRID.wave < 4460)] = 0.7
    assert not torch.equal(*run.net(flux, ivar)["mu"])


def test_settings_that_mean_nothing_are_named(place: Path):
    given = lessons.training(
        place,
        model="ridge",
        augment={"preset": "full"},
        ema=0.9,
        schedule={"name": "cosine"},
        loss={"reg": "smooth_l1", "cls": "focal"},
    )
    assert set(fit.unused(given, given.loss)) == {
        *("epochs", "batch", "optimiser", "augment", "ema", "schedule"),
        "loss.cls",
        "loss.reg=smooth_l1 (squared errors instead)",
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"before": "BEFORE"},
            "before: a ridge is fitted from the start and cannot go on from another run; leave before out",
        ),
        ({"options": {"component": 3}}, "component: unknown setting .*did you mean components"),
        (
            {"resident_gb": 1e-6},
            "model=ridge: 1.. spectra of 40 features take .* GB, there is room for 1e-06 GB; give options with fewer features",
        ),
        ({"monitor": "mae_Mg"}, "there is no such metric"),
    ],
)
def test_a_mistake_is_told(place: Path, tmp_path: Path, changes: dict[str, Any], told: str):
    if "before" in changes:
        changes = {"before": str(trained(place, tmp_path / "before", "ridge"))}
    with pytest.raises((SettingsError, JobError), match=told):
        trained(place, tmp_path / "run", "ridge", **changes)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def fail(*_: Any) -> Any:
        raise FitError("xgboost: the library failed: out of luck")

    return lambda: monkeypatch.setattr(Net, "grow", fail)


def test_a_failure_of_a_library_ends_the_job_with_its_words(
    place: Path, tmp_path: Path, failing: Callable[[], None]
):
    failing()
    with pytest.raises(JobError, match="train: model=xgboost: xgboost: the library failed: out of luck"):
        trained(place, tmp_path / "run", "xgboost")


def test_a_damaged_checkpoint_is_told_of(place: Path, tmp_path: Path):
    def stop(row: dict[str, float]) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        trained(place, tmp_path / "run", "lightgbm", stop)
    last = tmp_path / "run" / bundle.CHECKPOINTS / "last.safetensors"
    raw = bytearray(last.read_bytes())
    raw[-200] ^= 1
    last.write_bytes(raw)
    with pytest.raises(ValueError, match=r"are damaged .*; put a copy of the run back, or train it anew"):
        trained(place, tmp_path / "run", "lightgbm")
    assert not (tmp_path / "run" / bundle.RUN).exists()


def test_good_pixels_that_are_no_numbers_are_told_of(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = read_places

    def damaged(store: Any, places: Any, continuum: bool) -> Any:
        found = original(store, places, continuum)
        found.flux[3], found.ivar[3] = torch.inf, 1.0
        return found

    monkeypatch.setattr("survey.training.batches.read_places", damaged)
    with pytest.raises(
        JobError,
        match=r"train: spectrum 3 of \d+ .* holds good pixels that are not finite; ingest the store anew",
    ):
        trained(place, tmp_path / "run", "xgboost")


def test_spectra_are_read_in_portions_and_become_the_same_features(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = trained(place, tmp_path / "whole", "lightgbm")
    monkeypatch.setattr(fit, "PIECE", 17)
    parts = trained(place, tmp_path / "parts", "lightgbm")
    one, two = (json.loads((run / bundle.RUN).read_text())["validation"]["loss"] for run in (whole, parts))
    assert one == pytest.approx(two, rel=0.02)
