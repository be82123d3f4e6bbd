"""How a network starts: each layer scaled by what it does to real spectra.

Deep stacks without normalisation pass on little of what tells stars apart (0.03 % of the signal at MPBDNet's end), and sit on a plateau for
hundreds of steps. One pass over some training spectra sets every convolution and linear layer to mean 0 and deviation 1 per channel, and the
last ones to a tenth, so that learning begins from "no opinion" (cf. Mishkin & Matas 2016, arXiv 1511.06422). Layers that a network names as small
stay as torch sets them: few and dense, they pass on enough, and small weights find features of their own where large ones keep random ones.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from survey.models.network import Network
from survey.training.batches import Spectra

LAST = 0.1
"""Deviation of the answers at the start."""


def rescaled(net: Network, spectra: Spectra, count: int = 256) -> None:
    """Let the network see the data, and scale its layers by some of them, one after the other in the order in which they are used."""
    net.behold(*net.seen(spectra.flux, spectra.ivar), spectra.continuum)
    last, small = set(net.last_layers()), set(net.small_layers())
    layers = [
        part
        for part in net.modules()
        if isinstance(part, nn.Conv1d | nn.Linear) and part.weight.requires_grad and part not in small
    ]
    hooks = [part.register_forward_hook(partial(_rescale, LAST if part in last else 1.0)) for part in layers]
    was = net.training
    net.train()  # with its dropout and batch statistics: what they add is part of what the next layer meets
    with torch.no_grad():
        some = spectra[:count]
        net(some.flux, some.ivar, some.continuum)
    for hook in hooks:
        hook.remove()
    net.train(was)


def _rescale(deviation: float, part: nn.Conv1d | nn.Linear, given: tuple[Any, ...], out: Tensor) -> Tensor:
    """The layer's output with mean 0 and the deviation per channel, and the layer changed to give just that."""
    del given
    channel = 1 if isinstance(part, nn.Conv1d) else out.ndim - 1
    others = [axis for axis in range(out.ndim) if axis != channel]
    mean, spread = out.mean(others), out.std(others)
    factor = torch.where(spread > 1e-6, deviation / spread.clamp_min(1e-6), 1.0)
    shape = [-1 if axis == channel else 1 for axis in range(out.ndim)]
    part.weight.mul_(factor.reshape(-1, *[1] * (part.weight.ndim - 1)))
    if part.bias is not None:
        part.bias.copy_((part.bias - mean) * factor)
        return (out - mean.reshape(shape)) * factor.reshape(shape)
    return out * factor.reshape(shape)
