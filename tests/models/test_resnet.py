"""ResNet-1D: what it shares with RRNet, and the one length of the original."""

import torch

from survey.models import rrnet
from survey.models.resnet import Net, Options
from survey.models.settings import Task
from tests.models.batches import spectra

TASK = Task("cls_reg", ("FeH", "CFe"))


@torch.no_grad()
def test_it_is_rrnet_without_its_recurrent_layer() -> None:
    """The same weights, but the trunk's output is flattened in another order before the dense layer."""
    raw, net = rrnet.Net(601, TASK, rrnet.Options(mode="raw")).eval(), Net(601, TASK, Options()).eval()
    weights = raw.state_dict()
    by_step = weights["heads.shared.0.weight"].unflatten(1, (-1, 160))
    weights["heads.shared.0.weight"] = by_step.transpose(1, 2).flatten(1)
    net.load_state_dict(weights)
    flux_BP, ivar_BP, _ = spectra(3, 601)
    torch.testing.assert_close(net(flux_BP, ivar_BP), raw(flux_BP, ivar_BP))


def test_the_length_of_the_original_gives_the_heads_of_the_original() -> None:
    assert Net(3834, TASK, Options()).get_parameter("heads.shared.0.weight").shape == (256, 47 * 160)
