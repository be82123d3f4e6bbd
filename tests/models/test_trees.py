"""Boosted trees: predictions as their libraries make them, resumed fits, damaged bytes."""

import copy
import importlib
import sys
from pathlib import Path
from typing import Any, Literal

import lightgbm
import numpy as np
import pytest
import torch
import xgboost

from survey import plugins
from survey.models.baseline import FitError, FitSettings, TrainingSet
from survey.models.settings import Task
from survey.models.trees import BoostedTrees, Forest, bin_pixels
from survey.settings import SettingsError
from survey.training import checkpoint, run
from tests.models import batches

PIXELS = 200
SMALL = {"rounds": 40, "report": 10, "patience": 0, "components": 8, "colsample": 0.5}
BOTH = Task("cls_reg", ("FeH", "CH"))
ONE = Task("reg", ("FeH",))

every_library = pytest.mark.parametrize("name", ["xgboost", "lightgbm"])


def build(name: str, task: Task = BOTH, **options: Any) -> BoostedTrees:
    net = run.build(name, SMALL | options, task, PIXELS)
    assert isinstance(net, BoostedTrees)
    return net.eval()


def parts(net: BoostedTrees, rows: int = 120) -> tuple[TrainingSet, TrainingSet]:
    """Training and validation spectra, after the components have been fitted."""
    flux, ivar, _ = batches.spectra(rows, PIXELS, 3)
    net.fit_statistics(*net.prepare(flux, ivar))
    return batches.training_set(net, rows, 1), batches.training_set(net, rows // 2, 2)


def fit(
    name: str, task: Task = BOTH, settings: FitSettings | None = None, **options: Any
) -> tuple[BoostedTrees, TrainingSet, TrainingSet]:
    net = build(name, task, **options)
    train, validation = parts(net)
    list(net.fit(train, validation, settings or FitSettings()))
    return net, train, validation


def forest_of(net: BoostedTrees, target: str) -> Forest:
    forest = net.forests[target]
    assert isinstance(forest, Forest)
    return forest


@every_library
def test_predictions_are_those_of_the_library_itself(name: str) -> None:
    net, _, validation = fit(name)
    outputs, features = net.predict(validation.feature_NF), validation.feature_NF.numpy()
    for target, output in (("label_FeH", outputs["mu"][:, 0]), ("classes", outputs["logits"].softmax(1))):
        forest = forest_of(net, target)
        best = int(forest.best)
        if name == "xgboost":
            booster = xgboost.Booster()
            booster.load_model(bytearray(forest.content()))
            expected = booster.predict(xgboost.DMatrix(features), iteration_range=(0, best))
        else:
            booster = lightgbm.Booster(model_str=forest.content().decode())
            expected = booster.predict(features, num_iteration=best)
        np.testing.assert_allclose(output.numpy(), expected, rtol=1e-5, atol=1e-6)


@every_library
def test_a_fit_that_was_stopped_and_resumed_ends_as_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    undisturbed, train, validation = fit(name)
    first = build(name)
    parts(first)
    reports = first.fit(train, validation, FitSettings())
    assert [next(reports)["rounds"] for _ in range(2)] == [10, 20]
    path = str(tmp_path / "half.safetensors")
    checkpoint.write_tensors(path, first.state_dict(), {})
    second = build(name)
    checkpoint.load_weights(second, checkpoint.read_tensors(path)[0], path)
    assert [report["rounds"] for report in second.fit(train, validation, FitSettings())] == [30, 40]
    assert list(second.fit(train, validation, FitSettings())) == []
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_library
def test_trees_learn_and_depend_on_the_seed(name: str) -> None:
    net, _, validation = fit(name, ONE)
    error = (net.predict(validation.feature_NF)["mu"] - validation.label_NL).square().mean()
    assert error < 0.6 * validation.label_NL.var()
    again, other = fit(name, ONE)[0], fit(name, ONE, FitSettings(seed=1))[0]
    raw, raw_again, raw_other = (forest_of(model, "label_FeH").raw for model in (net, again, other))
    assert torch.equal(raw, raw_again)
    assert not torch.equal(raw, raw_other)


@every_library
def test_each_forest_stops_when_it_gets_no_better_and_predicts_with_its_best_round(name: str) -> None:
    two = Task("reg", ("FeH", "CH"))
    net, _, validation = fit(name, two, rounds=3000, patience=20, lr=0.5)
    error_L = (net.predict(validation.feature_NF)["mu"] - validation.label_NL).square().mean(0)
    for number, label in enumerate(two.labels):
        forest, error = forest_of(net, f"label_{label}"), float(error_L[number])
        assert 20 <= int(forest.grown) - int(forest.best) < 30  # portions have ten rounds
        expected = error if name == "lightgbm" else error**0.5
        assert float(forest.value) == pytest.approx(expected, rel=1e-4)
    all_kept, *_ = fit(name, two, FitSettings(keep_best=False), rounds=60, patience=20, lr=0.5)
    forests = [forest_of(all_kept, f"label_{label}") for label in two.labels]
    assert [(int(forest.grown), int(forest.best)) for forest in forests] == [(60, 60)] * 2


@every_library
def test_a_label_that_is_not_known_changes_nothing_whatever_its_value(name: str) -> None:
    net = build(name, ONE)
    train, validation = parts(net)
    train.label_weight_NL[::3] = 0
    list(net.fit(train, validation, FitSettings()))
    raw = forest_of(net, "label_FeH").raw.clone()
    train.label_NL[::3] = 1e6
    again = build(name, ONE)
    state = {key: value for key, value in net.state_dict().items() if not key.startswith("forests")}
    again.load_state_dict(state, strict=False)
    list(again.fit(train, validation, FitSettings()))
    assert torch.equal(forest_of(again, "label_FeH").raw, raw)
    train.label_weight_NL[:] = 0
    message = f"{name}: this worker has no training spectrum labelled with FeH; give more labels"
    with pytest.raises(SettingsError, match=message):
        list(build(name, ONE).fit(train, validation, FitSettings()))


@every_library
def test_without_a_validation_part_all_rounds_are_kept(name: str) -> None:
    net = build(name)
    train, validation = parts(net)
    list(net.fit(train, validation.select(torch.arange(0)), FitSettings()))
    assert {int(forest_of(net, target).best) for target in net.forests} == {40}


@every_library
def test_absolute_errors_are_less_sensitive_to_outliers(name: str) -> None:
    train, validation = parts(build(name, ONE))
    train.label_NL[::10] = 50  # very wrong
    errors = {}
    kinds: tuple[Literal["squared", "absolute"], ...] = ("squared", "absolute")
    for kind in kinds:
        net = build(name, ONE)
        parts(net)
        list(net.fit(train, validation, FitSettings(errors=kind)))
        errors[kind] = (net.predict(validation.feature_NF)["mu"] - validation.label_NL).abs().mean()
    assert errors["absolute"] < 0.5 * errors["squared"]


@every_library
@pytest.mark.parametrize(("features", "count"), [("pixels", 25), ("components", 8), ("both", 33)])
def test_trees_use_the_chosen_features(name: str, features: str, count: int) -> None:
    net, train, _ = fit(name, ONE, features=features, rounds=3)
    model = net.load_model(forest_of(net, "label_FeH").content())
    assert (model.num_features() if name == "xgboost" else model.num_feature()) == count
    assert torch.equal(net.predict(train.feature_NF)["latent"], train.feature_NF[:, :8])


@every_library
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "count"])
def test_damaged_trees_are_found_before_the_library_reads_them(name: str, damage: str) -> None:
    net, *_ = fit(name, ONE, rounds=3)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    raw = state["forests.label_FeH.raw"]
    if damage == "flip":
        raw[len(raw) // 2] ^= 1
    elif damage == "count":
        state["forests.label_FeH.best"] += 99
    else:
        state["forests.label_FeH.raw"] = raw[: 40 if damage == "cut" else 0].clone()
    message = r"the trees of FeH are damaged .*; put a copy of the run back, or train it anew"
    with pytest.raises(ValueError, match=message):
        checkpoint.load_weights(build(name, ONE), state, "here")


@every_library
def test_trees_of_another_type_are_refused(name: str) -> None:
    net, *_ = fit(name, ONE, rounds=3)
    state = net.state_dict() | {"forests.label_FeH.raw": torch.zeros(3)}
    with pytest.raises((ValueError, RuntimeError)):
        checkpoint.load_weights(build(name, ONE), state, "here")


@every_library
def test_a_copy_predicts_like_the_original_and_leaves_are_counted(name: str) -> None:
    net, train, _ = fit(name, ONE, rounds=5)
    expected = net.predict(train.feature_NF)["mu"]
    assert torch.equal(copy.deepcopy(net).predict(train.feature_NF)["mu"], expected)
    frame = net.load_model(forest_of(net, "label_FeH").content()).trees_to_dataframe()
    is_leaf = frame["Feature"] == "Leaf" if name == "xgboost" else frame["split_feature"].isna()
    assert net.size() == is_leaf.sum() > 5


@every_library
def test_without_its_library_a_model_can_be_listed_but_not_built(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # so that an import of it fails
    message = rf"train: model={name}: the library is not installed \(.*\); run pip install"
    with pytest.raises(SettingsError, match=message):
        build(name)
    assert name in plugins.names("models")
    assert plugins.options("models", name)().model_dump()["rounds"] == 1000


def test_importing_the_models_does_not_import_the_libraries() -> None:
    for name in ("xgboost", "lightgbm"):
        module = importlib.import_module(f"survey.models.{name}")
        assert not [value for value in vars(module).values() if getattr(value, "__name__", "") == name]


@every_library
def test_a_failure_of_the_library_is_an_error_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build(name)
    train, validation = parts(net)
    errors = {"xgboost": xgboost.core.XGBoostError, "lightgbm": lightgbm.basic.LightGBMError}

    def fail(*_: Any, **__: Any) -> Any:
        raise errors[name]("out of luck")

    monkeypatch.setattr(importlib.import_module(name), "train", fail)
    with pytest.raises(FitError, match=f"{name}: the library failed: out of luck"):
        list(net.fit(train, validation, FitSettings()))


def test_bins_are_weighted_means_and_missing_where_no_pixel_is_good() -> None:
    generator = torch.Generator().manual_seed(0)
    flux, ivar = torch.rand((4, 21), generator=generator), torch.rand((4, 21), generator=generator) * 1e30
    ivar[:, 3:6], ivar[1, 8:16], ivar[2, 16:] = 0, 0, 0
    bins = bin_pixels(flux, ivar, 8).numpy()
    for row in range(4):
        for number in range(3):
            pixels = slice(8 * number, 8 * number + 8)
            value, weight = (values[row, pixels].double().numpy() for values in (flux, ivar))
            expected = np.average(value, weights=weight) if weight.sum() else np.nan
            np.testing.assert_allclose(bins[row, number], expected, rtol=1e-5)
    assert np.isnan(bins[1, 1])
    assert np.isnan(bins[2, 2])


@every_library
def test_bins_wider_than_the_spectrum_are_refused(name: str) -> None:
    message = rf"{name}: options.bin=201: spectra have 200 pixels; give a smaller one"
    with pytest.raises(ValueError, match=message):
        build(name, bin=201)
