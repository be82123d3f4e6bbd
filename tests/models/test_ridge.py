"""Ridge regression against scikit-learn, and what it does with what is not known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from survey.models.baseline import Aim, Known
from survey.models.components import Components
from survey.models.network import Task
from survey.models.ridge import DAMPED, NEVER, Net, Options
from tests.models import batches

PIXELS = 120


def made(task: Task, **options: Any) -> Net:
    net = Net(PIXELS, task, Options(**({"components": 12, "products": 4} | options)))
    flux, ivar, _ = batches.spectra(300, PIXELS, 3)
    net.behold(*net.seen(flux, ivar))
    return net.eval()


def parts(net: Net, rows: int = 200) -> tuple[Known, Known]:
    return batches.known(net, rows, 1), batches.known(net, rows // 2, 2)


def terms(z: np.ndarray) -> np.ndarray:
    """Components and their products, the obvious way."""
    return np.array([[*row, *(DAMPED * row[i] * row[j] for i in range(4) for j in range(i, 4))] for row in z])


def test_components_are_those_of_scikit_learn_up_to_their_sign():
    dice = np.random.default_rng(0)
    axes = np.linalg.qr(dice.normal(size=(60, 5)))[0].T
    flux = (
        1 + dice.normal(size=(200, 5)) * (9, 7, 5, 3, 2) @ axes + 0.01 * dice.normal(size=(200, 60))
    ).astype(np.float32)
    components = Components(60, 5)
    components.behold(torch.tensor(flux))
    found, wanted = components(torch.tensor(flux)).numpy(), PCA(5, whiten=True).fit_transform(flux)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=2e-3, atol=2e-3)


def test_components_of_fewer_spectra_than_asked_for_are_0_beyond():
    components = Components(60, 20)
    components.behold(1 + torch.rand(6, 60))
    z = components(torch.rand(9, 60))
    assert z[:, :5].std(0).min() > 0
    assert (z[:, 6:] == 0).all()
    components.behold(torch.ones(6, 60))  # all alike
    assert (components(torch.rand(9, 60)) == 0).all()


def test_weights_are_those_of_scikit_learn():
    net = made(Task("reg", ("FeH", "CH")), strengths=[3.0])
    train, validation = parts(net)
    train.label_weight_NL[:, 0] = torch.rand(200)
    train.label_weight_NL[::4, 1] = 0
    train.label_NL[::4, 1] = 1e9  # not known
    list(net.fit(train, validation, Aim()))
    x, ask = terms(train.feature_NF.double().numpy()), terms(validation.feature_NF.double().numpy())
    for number in range(2):
        weight = train.label_weight_NL[:, number].double().numpy()
        wanted = Ridge(3.0).fit(x, train.label_NL[:, number].double().numpy(), weight).predict(ask)
        np.testing.assert_allclose(
            net.told(validation.feature_NF)["mu"][:, number].numpy(), wanted, rtol=1e-5, atol=1e-6
        )


def test_the_strength_is_the_one_that_the_validation_part_likes_best():
    best = {}
    for strengths in ([1e-3], [30.0], [1e5], [1e-3, 30.0, 1e5]):
        net = made(Task("reg", ("FeH",)), strengths=strengths)
        train, validation = parts(net)
        list(net.fit(train, validation, Aim()))
        best[tuple(strengths)] = float(
            (net.told(validation.feature_NF)["mu"] - validation.label_NL).square().mean()
        )
    assert best.pop((1e-3, 30.0, 1e5)) == min(best.values())


@pytest.mark.parametrize("aim", [Aim(choose=False), Aim(errors="absolute", choose=False)])
def test_where_nobody_can_choose_cross_validation_does(aim: Aim):
    net = made(Task("reg", ("FeH",)), components=100)
    train, validation = parts(net, 130)
    list(net.fit(train, validation, aim))
    error = (net.told(validation.feature_NF)["mu"] - validation.label_NL).square().mean()
    weak = made(Task("reg", ("FeH",)), components=100, strengths=[1e-6])
    list(weak.fit(train, validation, aim))
    assert error < 0.8 * (weak.told(validation.feature_NF)["mu"] - validation.label_NL).square().mean()


def test_classes_are_told_apart_and_one_that_is_not_there_never_comes():
    net = made(Task("cls"), class_strengths=[0.1, 1.0])
    train, validation = (
        replace(part, class_N=(part.feature_NF[:, 0] * part.feature_NF[:, 1] + 1).clamp(0, 2).long())
        for part in parts(net, 400)
    )
    list(net.fit(train, validation, Aim()))
    said = net.told(validation.feature_NF)["logits"]
    torch.testing.assert_close(said.exp().sum(1), torch.ones(200).double())
    common = (validation.class_N.bincount().max() / 200).item()
    assert (said.argmax(1) == validation.class_N).double().mean() > common
    for there in ((0, 2), (1,)):
        kept = torch.isin(train.class_N, torch.tensor(there))
        list(net.fit(train.at(kept), validation.at(validation.class_N < 0), Aim()))
        p = net.told(validation.feature_NF)["logits"].exp()
        assert p[:, [number for number in range(3) if number not in there]].max() < 2 * np.exp(NEVER / 2)


def test_strengths_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"ridge: options.strengths: 0; give numbers above 0"):
        made(Task("cls"), strengths=[0.0, 1.0])
