"""Ridge regression against scikit-learn, and what it does with missing labels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from survey.models.baseline import FitSettings, TrainingSet
from survey.models.ridge import ABSENT_LOGIT, PRODUCT_SCALE, Net, Options
from survey.models.settings import Task
from survey.models.statistics import Components
from tests.models import batches

PIXELS = 120


def build(task: Task, **options: Any) -> Net:
    net = Net(PIXELS, task, Options(**({"components": 12, "products": 4} | options)))
    flux, ivar, _ = batches.spectra(300, PIXELS, 3)
    net.fit_statistics(*net.prepare(flux, ivar))
    return net.eval()


def parts(net: Net, rows: int = 200) -> tuple[TrainingSet, TrainingSet]:
    return batches.training_set(net, rows, 1), batches.training_set(net, rows // 2, 2)


def terms(components: NDArray[Any]) -> NDArray[Any]:
    """Components and their products, the obvious way."""
    pairs = [(i, j) for i in range(4) for j in range(i, 4)]
    return np.array([[*row, *(PRODUCT_SCALE * row[i] * row[j] for i, j in pairs)] for row in components])


def squared_error(net: Net, part: TrainingSet) -> float:
    return float((net.predict(part.feature_NF)["mu"] - part.label_NL).square().mean())


def test_components_are_those_of_scikit_learn_up_to_their_sign() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(60, 5)))[0].T
    signal = rng.normal(size=(200, 5)) * (9, 7, 5, 3, 2) @ axes
    flux = (1 + signal + 0.01 * rng.normal(size=(200, 60))).astype(np.float32)
    components = Components(60, 5)
    components.fit(torch.tensor(flux))
    output, expected = components(torch.tensor(flux)).numpy(), PCA(5, whiten=True).fit_transform(flux)
    np.testing.assert_allclose(np.abs(output), np.abs(expected), rtol=2e-3, atol=2e-3)


def test_components_beyond_the_number_of_spectra_are_0() -> None:
    components = Components(60, 20)
    torch.manual_seed(0)
    components.fit(1 + 0.001 * torch.rand(6, 60))
    output = components(1 + 0.001 * torch.rand(9, 60))
    assert output[:, :5].std(0).min() > 0
    assert (output[:, 5:] == 0).all()  # six spectra differ from their mean in five directions
    components.fit(torch.ones(6, 60))  # equal spectra
    assert (components(torch.rand(9, 60)) == 0).all()


def test_weights_are_those_of_scikit_learn() -> None:
    net = build(Task("reg", ("FeH", "CH")), strengths=[3.0])
    train, validation = parts(net)
    train.label_weight_NL[:, 0] = torch.rand(200)
    train.label_weight_NL[::4, 1] = 0
    train.label_NL[::4, 1] = 1e9  # not known
    list(net.fit(train, validation, FitSettings()))
    train_terms = terms(train.feature_NF.double().numpy())
    check_terms = terms(validation.feature_NF.double().numpy())
    for number in range(2):
        weight, label = (
            values[:, number].double().numpy() for values in (train.label_weight_NL, train.label_NL)
        )
        expected = Ridge(3.0).fit(train_terms, label, weight).predict(check_terms)
        output = net.predict(validation.feature_NF)["mu"][:, number].numpy()
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_the_chosen_strength_has_the_smallest_validation_error() -> None:
    errors = {}
    for strengths in ([1e-3], [30.0], [1e5], [1e-3, 30.0, 1e5]):
        net = build(Task("reg", ("FeH",)), strengths=strengths)
        train, validation = parts(net)
        list(net.fit(train, validation, FitSettings()))
        errors[tuple(strengths)] = squared_error(net, validation)
    assert errors.pop((1e-3, 30.0, 1e5)) == min(errors.values())


@pytest.mark.parametrize(
    "settings", [FitSettings(keep_best=False), FitSettings(errors="absolute", keep_best=False)]
)
def test_without_validation_cross_validation_chooses(settings: FitSettings) -> None:
    net = build(Task("reg", ("FeH",)), components=100)
    train, validation = parts(net, 130)
    list(net.fit(train, validation, settings))
    weak = build(Task("reg", ("FeH",)), components=100, strengths=[1e-6])
    list(weak.fit(train, validation, settings))
    assert squared_error(net, validation) < 0.8 * squared_error(weak, validation)


def test_classes_are_learned_and_an_absent_class_is_never_predicted() -> None:
    net = build(Task("cls"), class_strengths=[0.1, 1.0])
    train, validation = (
        replace(part, class_N=(part.feature_NF[:, 0] * part.feature_NF[:, 1] + 1).clamp(0, 2).long())
        for part in parts(net, 400)
    )
    list(net.fit(train, validation, FitSettings()))
    logits = net.predict(validation.feature_NF)["logits"]
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(200).double())
    most_common = (validation.class_N.bincount().max() / 200).item()
    assert (logits.argmax(1) == validation.class_N).double().mean() > most_common
    for present in ((0, 2), (1,)):
        kept = torch.isin(train.class_N, torch.tensor(present))
        list(net.fit(train.select(kept), validation.select(validation.class_N < 0), FitSettings()))
        p = net.predict(validation.feature_NF)["logits"].exp()
        absent = [number for number in range(3) if number not in present]
        assert p[:, absent].max() < 2 * np.exp(ABSENT_LOGIT / 2)


def test_a_strength_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ridge: options.strengths: holds 0; give numbers above 0"):
        build(Task("cls"), strengths=[0.0, 1.0])
