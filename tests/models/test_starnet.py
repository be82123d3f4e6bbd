"""StarNet: the size of the original, and its modes at any length."""

import pytest
import torch

from survey.models.options import RecurrentMode
from survey.models.settings import Task, TaskKind
from survey.models.starnet import Net, Options
from tests.models.batches import count_parameters, spectra

LABELS = ("FeH", "CH", "Teff", "logg", "CFe")


@pytest.mark.parametrize(("kind", "size"), [("cls", 5_051_363), ("reg", 5_051_621)])
def test_it_is_as_large_as_the_original(kind: TaskKind, size: int) -> None:
    assert count_parameters(Net(4900, Task(kind, LABELS), Options())) == size


@pytest.mark.parametrize("mode", ["raw", "pre-RNN", "post-RNN"])
@pytest.mark.parametrize("pixels", [256, 601, 4900])
def test_all_modes_train_at_any_length(mode: RecurrentMode, pixels: int) -> None:
    net = Net(pixels, Task("cls_reg", LABELS), Options(mode=mode, shared=32, own=16))
    outputs = net(*spectra(2, pixels)[:2])
    (outputs["logits"].sum() + outputs["mu"].sum()).backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@torch.no_grad()
def test_it_is_two_convolutions_and_the_largest_of_four() -> None:
    torch.manual_seed(0)
    net = Net(256, Task("cls"), Options()).eval()
    flux_BP, ivar_BP, _ = spectra(3, 256)
    x_BCP = flux_BP[:, None]
    for number in (0, 2):
        weight, bias = (net.get_parameter(f"trunk.{number}.{name}") for name in ("weight", "bias"))
        x_BCP = torch.conv1d(x_BCP, weight, bias, padding=1).clamp(min=0)
    expected = net.heads(x_BCP.unflatten(2, (64, 4)).amax(3).flatten(1))
    torch.testing.assert_close(net(flux_BP, ivar_BP), expected)
