"""Attention, against sums written out."""

import pytest
import torch

from survey.models.attention import Attention


def test_what_is_found_is_the_weighted_mean_of_the_values_head_by_head() -> None:
    torch.manual_seed(0)
    layer = Attention(6, 2).double()
    x, asked = torch.randn(1, 3, 6).double(), torch.randn(1, 5, 6).double()
    ask, keys, values = layer.ask(x)[0], layer.keys(asked)[0], layer.values(asked)[0]
    found, mean = torch.zeros(3, 6).double(), torch.zeros(3, 5).double()
    for part in (slice(0, 3), slice(3, 6)):
        for step in range(3):
            weight = torch.softmax(keys[:, part] @ ask[step, part] / 3**0.5, 0)
            found[step, part] = weight @ values[:, part]
            mean[step] += weight / 2
    torch.testing.assert_close(layer(x, asked)[0], layer.norm(x[0] + layer.out(found)))
    torch.testing.assert_close(layer.weights(x, asked)[0], mean, check_dtype=False)


def test_the_order_of_the_steps_that_are_asked_does_not_matter() -> None:
    torch.manual_seed(0)
    layer, x, asked = Attention(8, 4), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x, asked), layer(x, asked[:, [3, 1, 0, 4, 2]]))
    assert (layer(x, asked) - layer(x, asked + 1)).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="8 heads do not divide 12 channels; change heads or channels"):
        Attention(12, 8)
