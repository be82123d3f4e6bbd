"""Echelle: its blocks keep the length of a spectrum, and its convolutions are those of torch."""

import pytest
import torch

from survey.models.echelle import Convolution, Net, Options
from survey.models.settings import Task
from survey.settings import SettingsError


def test_a_kernel_without_a_middle_pixel_is_refused_before_the_training() -> None:
    with pytest.raises(SettingsError, match=r"train: options: kernel: 8: is even"):
        Options.from_dict("train: options", {"kernel": 8})


@pytest.mark.parametrize("kernel", [1, 9])
def test_an_odd_kernel_keeps_the_length(kernel: int) -> None:
    net = Net(400, Task("reg", ("FeH",)), Options(kernel=kernel)).eval()
    assert net(torch.ones(2, 400), torch.ones(2, 400))["mu"].shape == (2, 1)


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (8, 12, 1), (1, 3, 2)])
def test_a_convolution_of_an_image_of_one_row_is_that_of_the_spectrum(
    stride: int, padding: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = Convolution(16, 32, 7, stride, padding, groups=groups)
    spectra_BCP = torch.randn(3, 16, 100)
    image_BC1P = spectra_BCP[:, :, None].to(memory_format=torch.channels_last)
    expected = torch.nn.Conv1d.forward(layer, spectra_BCP)
    assert torch.allclose(layer(image_BC1P)[:, :, 0], expected, atol=1e-5)


def test_channels_are_neighbours_in_memory_up_to_the_last_layer() -> None:
    net, orders = Net(400, Task("reg", ("FeH",)), Options()).eval(), list[bool]()

    def note(_layer: torch.nn.Module, _inputs: object, out: torch.Tensor) -> None:
        orders.append(out.is_contiguous(memory_format=torch.channels_last))

    layers = list(net.trunk.children())
    for layer in layers[:-1]:
        layer.register_forward_hook(note)
    net(torch.ones(2, 400), torch.ones(2, 400))
    assert orders == [True] * len(orders)
