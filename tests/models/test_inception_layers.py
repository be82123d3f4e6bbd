"""Layers of the networks of systems 1 and 3, against their definitions."""

import pytest
import torch

from survey.models.inception_layers import (
    ChannelNorm,
    Inception,
    MultiHeadAttention,
    Perceptron,
    PerceptronHeads,
    ResidualBlock,
    SqueezeExcite,
)
from survey.models.settings import Task


def test_a_channel_norm_normalises_each_step_alone() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(2, 5, 7), ChannelNorm(5)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    output = layer(x)
    for row in range(2):
        for step in range(7):
            values = x[row, :, step]
            scaled = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(output[row, :, step], scaled * layer.weight + layer.bias)


def test_squeeze_and_excite_scales_channels_by_0_to_1() -> None:
    torch.manual_seed(0)
    x, layer = torch.rand(3, 16, 9) + 1, SqueezeExcite(16, 8)
    weight = layer(x) / x
    torch.testing.assert_close(weight, weight[:, :, :1].expand_as(weight))
    expected = torch.sigmoid(layer.excite.weight @ torch.relu(layer.squeeze.weight @ x[1].mean(1)))
    torch.testing.assert_close(weight[1, :, 0], expected)


@pytest.mark.parametrize(("stride", "steps"), [(1, 11), (2, 6)])
def test_an_inception_block_joins_all_widths_at_the_same_steps(stride: int, steps: int) -> None:
    block = Inception(3, 4, (3, 5, 11), "layer", 4, stride)
    assert block(torch.rand(2, 3, 11)).shape == (2, block.channels, steps)
    assert block.channels == 12


def test_a_residual_block_with_an_empty_branch_is_its_shortcut() -> None:
    block = ResidualBlock(4, 4, 3, slope=0.1).eval()
    for parameter in block.branch[3].parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 6)
    torch.testing.assert_close(block(x), torch.where(x > 0, x, 0.1 * x))


def test_the_latent_features_are_the_inputs_of_the_last_layers() -> None:
    perceptron = Perceptron(6, (5, 4), (0.5, 0.5), normed=True)
    heads = PerceptronHeads(perceptron, Task("cls_reg", ("FeH",), sigma=True)).eval()
    outputs = heads(torch.randn(3, 6))
    assert set(outputs) == {"logits", "mu", "log_var", "latent"}
    torch.testing.assert_close(heads.last.mu(outputs["latent"]), outputs["mu"])


def test_attention_is_the_weighted_mean_of_the_values_in_each_head() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 2).double()
    x, context = torch.randn(1, 3, 6).double(), torch.randn(1, 5, 6).double()
    queries, keys, values = layer.queries(x)[0], layer.keys(context)[0], layer.values(context)[0]
    attended, mean_weight = torch.zeros(3, 6).double(), torch.zeros(3, 5).double()
    for head in (slice(0, 3), slice(3, 6)):
        for step in range(3):
            weight = torch.softmax(keys[:, head] @ queries[step, head] / 3**0.5, 0)
            attended[step, head] = weight @ values[:, head]
            mean_weight[step] += weight / 2
    torch.testing.assert_close(layer(x, context)[0], layer.norm(x[0] + layer.out(attended)))
    torch.testing.assert_close(layer.weights(x, context)[0], mean_weight, check_dtype=False)


def test_the_order_of_the_context_does_not_matter_to_attention() -> None:
    torch.manual_seed(0)
    layer, x, context = MultiHeadAttention(8, 4), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x, context), layer(x, context[:, [3, 1, 0, 4, 2]]))
    assert (layer(x, context) - layer(x, context + 1)).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="8 heads do not divide 12 channels; change heads or channels"):
        MultiHeadAttention(12, 8)
