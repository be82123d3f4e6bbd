"""Layers of systems 1 and 3, against their definitions written out."""

import pytest
import torch

from survey.models.inception_layers import (
    ChannelNorm,
    Inception,
    Perceptron,
    PerceptronHeads,
    Residual,
    SqueezeExcite,
)
from survey.models.network import Task


def test_a_channel_norm_norms_each_step_alone() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(2, 5, 7), ChannelNorm(5)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    found = layer(x)
    for row in range(2):
        for step in range(7):
            at = x[row, :, step]
            wanted = (at - at.mean()) / (at.var(correction=0) + 1e-5).sqrt() * layer.weight + layer.bias
            torch.testing.assert_close(found[row, :, step], wanted)


def test_squeeze_and_excite_scales_whole_channels_between_0_and_1() -> None:
    torch.manual_seed(0)
    x, layer = torch.rand(3, 16, 9) + 1, SqueezeExcite(16, 8)
    rate = layer(x) / x
    torch.testing.assert_close(rate, rate[:, :, :1].expand_as(rate))
    wanted = torch.sigmoid(layer.excite.weight @ torch.relu(layer.squeeze.weight @ x[1].mean(1)))
    torch.testing.assert_close(rate[1, :, 0], wanted)


@pytest.mark.parametrize(("stride", "steps"), [(1, 11), (2, 6)])
def test_an_inception_block_joins_all_widths_at_the_same_steps(stride: int, steps: int) -> None:
    block = Inception(3, 4, (3, 5, 11), "layer", 4, stride)
    assert block(torch.rand(2, 3, 11)).shape == (2, block.channels, steps)
    assert block.channels == 12


def test_a_residual_block_whose_way_gives_nothing_is_the_shortcut_alone() -> None:
    block = Residual(4, 4, 3, slope=0.1).eval()
    for parameter in block.way[3].parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 6)
    torch.testing.assert_close(block(x), torch.where(x > 0, x, 0.1 * x))


def test_the_latent_features_are_what_the_last_layers_see() -> None:
    heads = PerceptronHeads(
        Perceptron(6, (5, 4), (0.5, 0.5), normed=True), Task("cls_reg", ("FeH",), sigma=True)
    ).eval()
    answers = heads(torch.randn(3, 6))
    assert set(answers) == {"logits", "mu", "log_var", "latent"}
    torch.testing.assert_close(heads.last.mu(answers["latent"]), answers["mu"])
