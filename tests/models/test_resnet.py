"""ResNet-1D: what it shares with RRNet, and the one length that the original knew."""

import torch

from survey.models import rrnet
from survey.models.network import Task
from survey.models.resnet import Net, Options
from tests.models.batches import spectra

TASK = Task("cls_reg", ("FeH", "CFe"))


@torch.no_grad()
def test_it_is_rrnet_without_its_recurrent_layer() -> None:
    """The same weights, but for the order in which the trunk's output is laid out before the dense layer."""
    raw, net = rrnet.Net(601, TASK, rrnet.Options(mode="raw")).eval(), Net(601, TASK, Options()).eval()
    weights = raw.state_dict()
    weights["heads.shared.0.weight"] = (
        weights["heads.shared.0.weight"].unflatten(1, (-1, 160)).transpose(1, 2).flatten(1)
    )
    net.load_state_dict(weights)
    flux_BP, ivar_BP, _ = spectra(3, 601)
    torch.testing.assert_close(net(flux_BP, ivar_BP), raw(flux_BP, ivar_BP))


def test_the_originals_length_gives_the_originals_heads() -> None:
    assert Net(3834, TASK, Options()).get_parameter("heads.shared.0.weight").shape == (256, 47 * 160)
