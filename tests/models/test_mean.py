"""The mean predictor, counted by hand."""

import pytest
import torch

from survey.models.baseline import Aim, Known
from survey.models.mean import Net, Options
from survey.models.network import Task

KNOWN = Known(
    torch.zeros(4, 0),
    torch.tensor([0, 0, 2, 1]),
    torch.tensor([1.0, 1.0, 2.0, 0.0]),
    torch.tensor([[1.0], [2.0], [9.0], [77.0]]),
    torch.tensor([[1.0], [1.0], [2.0], [0.0]]),
)


@pytest.mark.parametrize(("aim", "wanted"), [(Aim(), 21 / 4), (Aim(errors="absolute"), 2.0)])
def test_it_says_the_mean_or_the_median_and_the_shares(aim: Aim, wanted: float):
    net = Net(10, Task("cls_reg", ("FeH",)), Options())
    list(net.fit(KNOWN, KNOWN, aim))
    answers = net(torch.rand(3, 10), torch.ones(3, 10))
    assert answers["mu"].flatten().tolist() == pytest.approx([wanted] * 3)
    torch.testing.assert_close(
        answers["logits"].softmax(1), torch.tensor([[0.5, 0.0, 0.5]] * 3), atol=2e-6, rtol=0
    )
    assert answers["latent"].shape == (3, 1)


def test_what_nobody_is_labelled_with_is_0():
    net = Net(10, Task("reg", ("FeH",)), Options())
    list(net.fit(KNOWN.at(torch.tensor([3])), KNOWN, Aim()))
    assert net.mean_L.tolist() == [0]
