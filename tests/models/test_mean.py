"""The mean predictor, against values counted by hand."""

import pytest
import torch

from survey.models.baseline import FitSettings, TrainingSet
from survey.models.mean import Net, Options
from survey.models.settings import Task

TRAIN = TrainingSet(
    torch.zeros(4, 0),
    torch.tensor([0, 0, 2, 1]),
    torch.tensor([1.0, 1.0, 2.0, 0.0]),
    torch.tensor([[1.0], [2.0], [9.0], [77.0]]),
    torch.tensor([[1.0], [1.0], [2.0], [0.0]]),
)


@pytest.mark.parametrize(
    ("settings", "expected"), [(FitSettings(), 21 / 4), (FitSettings(errors="absolute"), 2.0)]
)
def test_it_predicts_the_mean_or_the_median_and_the_shares(settings: FitSettings, expected: float) -> None:
    net = Net(10, Task("cls_reg", ("FeH",)), Options())
    list(net.fit(TRAIN, TRAIN, settings))
    outputs = net(torch.rand(3, 10), torch.ones(3, 10))
    assert outputs["mu"].flatten().tolist() == pytest.approx([expected] * 3)
    shares = torch.tensor([[0.5, 0.0, 0.5]] * 3)
    torch.testing.assert_close(outputs["logits"].softmax(1), shares, atol=2e-6, rtol=0)
    assert outputs["latent"].shape == (3, 1)


def test_a_label_that_no_star_has_is_0() -> None:
    net = Net(10, Task("reg", ("FeH",)), Options())
    list(net.fit(TRAIN.select(torch.tensor([3])), TRAIN, FitSettings()))
    assert net.mean_L.tolist() == [0]
