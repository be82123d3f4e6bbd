"""Boosted trees: as their libraries say, resumed as undisturbed, sealed."""

import copy
import importlib
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch
import xgboost

from survey import plugins
from survey.models import trees
from survey.models.baseline import Aim, FitError, Known
from survey.models.network import Task
from survey.models.trees import Boosted, binned
from survey.settings import SettingsError
from survey.training import checkpoint, run
from tests.models import batches

PIXELS = 200
SMALL = {"rounds": 40, "report": 10, "patience": 0, "components": 8, "colsample": 0.5}
BOTH = Task("cls_reg", ("FeH", "CH"))

every_library = pytest.mark.parametrize("name", ["xgboost", "lightgbm"])


def made(name: str, task: Task = BOTH, **options: Any) -> Boosted:
    net = run.build(name, SMALL | options, task, PIXELS)
    assert isinstance(net, Boosted)
    return net.eval()


def beheld(net: Boosted, rows: int = 120) -> tuple[Known, Known]:
    flux, ivar, _ = batches.spectra(rows, PIXELS, 3)
    net.behold(*net.seen(flux, ivar))
    return batches.known(net, rows, 1), batches.known(net, rows // 2, 2)


def fitted(
    name: str, task: Task = BOTH, aim: Aim | None = None, **options: Any
) -> tuple[Boosted, Known, Known]:
    net = made(name, task, **options)
    train, validation = beheld(net)
    list(net.fit(train, validation, aim or Aim()))
    return net, train, validation


@every_library
def test_answers_are_what_the_library_itself_says(name: str):
    net, _, validation = fitted(name)
    said, array = net.told(validation.feature_NF), validation.feature_NF.numpy()
    for target, answer in (("label_FeH", said["mu"][:, 0]), ("classes", said["logits"].softmax(1))):
        forest = net.forests[target]
        best = int(forest.best)
        if name == "xgboost":
            booster = xgboost.Booster()
            booster.load_model(bytearray(forest.content()))
            wanted = booster.predict(xgboost.DMatrix(array), iteration_range=(0, best))
        else:
            wanted = lightgbm.Booster(model_str=forest.content().decode()).predict(array, num_iteration=best)
        np.testing.assert_allclose(answer.numpy(), wanted, rtol=1e-5, atol=1e-6)


@every_library
def test_a_fit_that_was_left_and_taken_up_ends_as_the_undisturbed_one(name: str, tmp_path: Path):
    through, train, validation = fitted(name)
    first = made(name)
    beheld(first)
    reports = first.fit(train, validation, Aim())
    assert [next(reports)["rounds"] for _ in range(2)] == [10, 20]
    path = str(tmp_path / "half.safetensors")
    checkpoint.write_tensors(path, first.state_dict(), {})
    second = made(name)
    checkpoint.load_strictly(second, checkpoint.read_tensors(path)[0], path)
    assert [report["rounds"] for report in second.fit(train, validation, Aim())] == [30, 40]
    assert list(second.fit(train, validation, Aim())) == []
    for key, value in through.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_library
def test_trees_learn_and_the_seed_decides_how(name: str):
    task = Task("reg", ("FeH",))
    net, _, validation = fitted(name, task)
    error = (net.told(validation.feature_NF)["mu"] - validation.label_NL).square().mean()
    assert error < 0.6 * validation.label_NL.var()
    again, other = fitted(name, task)[0], fitted(name, task, Aim(seed=1))[0]
    assert torch.equal(net.forests["label_FeH"].raw, again.forests["label_FeH"].raw)
    assert not torch.equal(net.forests["label_FeH"].raw, other.forests["label_FeH"].raw)


@every_library
def test_each_forest_stops_when_it_gets_no_better_and_is_asked_as_far_as_it_was_best(name: str):
    net, _, validation = fitted(name, Task("reg", ("FeH", "CH")), rounds=3000, patience=20, lr=0.5)
    for number, forest in enumerate(net.forests.values()):
        assert 20 <= int(forest.grown) - int(forest.best) < 30  # of portions of ten
        error = (
            (net.told(validation.feature_NF)["mu"][:, number] - validation.label_NL[:, number])
            .square()
            .mean()
            .item()
        )
        assert float(forest.value) == pytest.approx(error if name == "lightgbm" else error**0.5, rel=1e-4)
    kept, *_ = fitted(name, Task("reg", ("FeH", "CH")), Aim(choose=False), rounds=60, patience=20, lr=0.5)
    assert [(int(forest.grown), int(forest.best)) for forest in kept.forests.values()] == [(60, 60)] * 2


@every_library
def test_a_label_that_is_not_known_does_not_count_whatever_stands_there(name: str):
    net = made(name, Task("reg", ("FeH",)))
    train, validation = beheld(net)
    train.label_weight_NL[::3] = 0
    list(net.fit(train, validation, Aim()))
    raw = net.forests["label_FeH"].raw.clone()
    train.label_NL[::3] = 1e6
    again = made(name, Task("reg", ("FeH",)))
    again.load_state_dict(
        {key: value for key, value in net.state_dict().items() if not key.startswith("forests")}, strict=False
    )
    list(again.fit(train, validation, Aim()))
    assert torch.equal(again.forests["label_FeH"].raw, raw)
    train.label_weight_NL[:] = 0
    with pytest.raises(
        SettingsError,
        match=f"{name}: no training spectrum that this worker has is labelled with FeH; give more labels",
    ):
        list(made(name, Task("reg", ("FeH",))).fit(train, validation, Aim()))


@every_library
def test_without_a_validation_part_all_rounds_are_kept(name: str):
    net = made(name)
    train, validation = beheld(net)
    list(net.fit(train, validation.at(torch.arange(0)), Aim()))
    assert {int(forest.best) for forest in net.forests.values()} == {40}


@every_library
def test_absolute_errors_are_made_small_where_these_are_asked_for(name: str):
    task = Task("reg", ("FeH",))
    net = made(name, task)
    train, validation = beheld(net)
    train.label_NL[::10] = 50  # wrong by far
    errors = {}
    for errors_of in ("squared", "absolute"):
        one = made(name, task)
        beheld(one)
        list(one.fit(train, validation, Aim(errors=errors_of)))  # type: ignore[arg-type]
        errors[errors_of] = (one.told(validation.feature_NF)["mu"] - validation.label_NL).abs().mean()
    assert errors["absolute"] < 0.5 * errors["squared"]


@every_library
@pytest.mark.parametrize("features", ["pixels", "components", "both"])
def test_trees_look_at_what_is_asked_for(name: str, features: str):
    net, train, _ = fitted(name, Task("reg", ("FeH",)), features=features, rounds=3)
    wide = {"pixels": 25, "components": 8, "both": 33}[features]
    opened = net.open(net.forests["label_FeH"].content())
    assert (opened.num_features() if name == "xgboost" else opened.num_feature()) == wide
    assert torch.equal(net.told(train.feature_NF)["latent"], train.feature_NF[:, :8])


@every_library
def test_damaged_trees_are_told_before_the_library_meets_them(name: str):
    net, *_ = fitted(name, Task("reg", ("FeH",)), rounds=3)
    for damage in ("flip", "cut", "empty", "count"):
        state = {key: value.clone() for key, value in net.state_dict().items()}
        raw = state["forests.label_FeH.raw"]
        if damage == "flip":
            raw[len(raw) // 2] ^= 1
        elif damage == "count":
            state["forests.label_FeH.best"] += 99
        else:
            state["forests.label_FeH.raw"] = raw[: 40 if damage == "cut" else 0].clone()
        with pytest.raises(
            ValueError, match=r"the trees of FeH are damaged .*; put a copy of the run back, or train it anew"
        ):
            checkpoint.load_strictly(made(name, Task("reg", ("FeH",))), state, "here")
    state = net.state_dict() | {"forests.label_FeH.raw": torch.zeros(3)}
    with pytest.raises((ValueError, RuntimeError)):
        checkpoint.load_strictly(made(name, Task("reg", ("FeH",))), state, "here")


@every_library
def test_a_copy_answers_as_the_original_and_leaves_are_counted(name: str):
    net, train, _ = fitted(name, Task("reg", ("FeH",)), rounds=5)
    wanted = net.told(train.feature_NF)["mu"]
    assert torch.equal(copy.deepcopy(net).told(train.feature_NF)["mu"], wanted)
    opened = net.open(net.forests["label_FeH"].content())
    frame = opened.trees_to_dataframe()
    leaves = (frame["Feature"] == "Leaf").sum() if name == "xgboost" else frame["split_feature"].isna().sum()
    assert net.size() == leaves > 5


@every_library
def test_without_the_library_it_can_be_listed_but_not_built(name: str, monkeypatch: pytest.MonkeyPatch):
    def gone(wanted: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{wanted}'")

    monkeypatch.setattr(trees.importlib, "import_module", gone)
    with pytest.raises(
        SettingsError,
        match=rf"train: model={name}: the library is not there \(No module .*\); pip install 'survey",
    ):
        made(name)
    assert name in plugins.names("models")
    assert plugins.load("models", name).Options().rounds == 1000


def test_importing_the_models_does_not_import_the_libraries():
    for name in ("xgboost", "lightgbm"):
        module = importlib.import_module(f"survey.models.{name}")
        assert not [value for value in vars(module).values() if getattr(value, "__name__", "") == name]


@every_library
def test_a_failure_of_the_library_is_told_as_such(name: str, monkeypatch: pytest.MonkeyPatch):
    net = made(name)
    train, validation = beheld(net)
    errors = {"xgboost": xgboost.core.XGBoostError, "lightgbm": lightgbm.basic.LightGBMError}

    def fail(*_: Any, **__: Any) -> Any:
        raise errors[name]("out of luck")

    monkeypatch.setattr(importlib.import_module(name), "train", fail)
    with pytest.raises(FitError, match=f"{name}: the library failed: out of luck"):
        list(net.fit(train, validation, Aim()))


def test_bins_are_weighted_means_and_missing_where_no_pixel_is_good():
    dice = torch.Generator().manual_seed(0)
    flux, ivar = torch.rand((4, 21), generator=dice), torch.rand((4, 21), generator=dice) * 1e30
    ivar[:, 3:6], ivar[1, 8:16], ivar[2, 16:] = 0, 0, 0
    found = binned(flux, ivar, 8).numpy()
    for row in range(4):
        for number in range(3):
            here = slice(8 * number, 8 * number + 8)
            weight = ivar[row, here].double().numpy()
            wanted = np.average(flux[row, here].double().numpy(), weights=weight) if weight.sum() else np.nan
            np.testing.assert_allclose(found[row, number], wanted, rtol=1e-5)
    assert np.isnan(found[1, 1])
    assert np.isnan(found[2, 2])


@every_library
def test_bins_wider_than_the_spectrum_are_refused(name: str):
    with pytest.raises(
        ValueError, match=rf"{name}: options.bin=201: spectra have 200 pixels; give a smaller one"
    ):
        made(name, bin=201)
