"""Echelle: its blocks keep the length of a spectrum."""

import pytest
import torch

from survey.models.echelle import Net, Options
from survey.models.settings import Task
from survey.settings import SettingsError


def test_a_kernel_without_a_middle_pixel_is_refused_before_the_training() -> None:
    with pytest.raises(SettingsError, match=r"train: options: kernel: 8: is even"):
        Options.from_dict("train: options", {"kernel": 8})


@pytest.mark.parametrize("kernel", [1, 9])
def test_an_odd_kernel_keeps_the_length(kernel: int) -> None:
    net = Net(400, Task("reg", ("FeH",)), Options(kernel=kernel)).eval()
    assert net(torch.ones(2, 400), torch.ones(2, 400))["mu"].shape == (2, 1)
