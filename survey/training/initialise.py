"""The initial weights of a network: each layer is scaled by its outputs for real spectra.

Deep stacks without norms pass on little of the differences between stars (0.03 % of the signal at the end of
MPBDNet), and their loss stays on a plateau for hundreds of steps. One pass over some training spectra gives
every convolution and linear layer outputs of mean 0 and deviation 1 per channel, and the last layers a
deviation of 0.1, so that predictions start near the mean (cf. Mishkin & Matas 2016, arXiv 1511.06422). The
layers that a network lists as `unscaled_layers` keep torch's weights: a few dense layers pass on enough, and
with small weights they learn features, where with large weights they keep random ones.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from survey.models.network import Network
from survey.training.batches import Spectra

LAST = 0.1
"""Deviation of the outputs at the start."""


def rescale_layers(net: Network, spectra: Spectra, count: int = 256) -> None:
    """Fit the network's statistics to spectra, then scale its layers, first to last, by `count` of them."""
    net.fit_statistics(*net.prepare(spectra.flux, spectra.ivar), spectra.continuum)
    last, unscaled = set(net.last_layers()), set(net.unscaled_layers())
    hooks = []
    for layer in net.modules():
        scalable = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear) and layer.weight.requires_grad
        if scalable and layer not in unscaled:
            deviation = LAST if layer in last else 1.0
            hooks.append(layer.register_forward_hook(partial(_rescale, deviation)))
    training = net.training
    net.train()  # with dropout and batch statistics, because later layers get their effects too
    with torch.no_grad():
        some = spectra[:count]
        net(*some.arrays())
    for hook in hooks:
        hook.remove()
    net.train(training)


def _rescale(
    deviation: float, layer: nn.Conv1d | nn.Conv2d | nn.Linear, inputs: tuple[Any, ...], out: Tensor
) -> Tensor:
    """Scale the layer so that its output has mean 0 and this deviation per channel; the scaled output.

    A layer for objects that are not among these spectra, such as those with an image too, stays as it is.
    """
    del inputs
    channel = out.ndim - 1 if isinstance(layer, nn.Linear) else 1
    if out.numel() < 2 * out.shape[channel]:  # fewer than two numbers per channel have no deviation
        return out
    other_axes = [axis for axis in range(out.ndim) if axis != channel]
    mean, spread = out.mean(other_axes), out.std(other_axes)
    factor = torch.where(spread > 1e-6, deviation / spread.clamp_min(1e-6), 1.0)
    shape = [-1 if axis == channel else 1 for axis in range(out.ndim)]
    layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.copy_((layer.bias - mean) * factor)
        return (out - mean.reshape(shape)) * factor.reshape(shape)
    return out * factor.reshape(shape)
