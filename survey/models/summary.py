"""What a network costs: parameters and floating-point operations of each part, as numbers and as a table.

A multiply-add counts as 2 operations. Convolutions, linear and recurrent layers and attention are counted;
norms, activations, pools and Fourier transforms are not. They are counted on a copy of the network that gets
one featureless spectrum on a CPU.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from survey.models.network import Network

BETWEEN = "(between)"
"""The name of what a network computes itself, between its parts."""


@dataclass(frozen=True)
class LayerCost:
    """A child of a network: its parameters, the trained ones, and its operations for one spectrum."""

    name: str
    parameters: int
    trainable: int
    flops: int


def layer_costs(net: Network) -> list[LayerCost]:
    """The children of a network in its own order; what it computes outside them comes last, if anything."""
    counts = _counts(net)
    rows = [
        _cost(name, child.parameters(), _flops(child, f"{type(net).__name__}.{name}", counts))
        for name, child in net.named_children()
    ]
    flops = counts.get("Global", 0) - sum(row.flops for row in rows)
    between = _cost(BETWEEN, net.parameters(recurse=False), flops)
    return rows + [between] * bool(between.parameters or between.flops)


def megaflop(net: Network) -> float:
    """Millions of operations for one spectrum, forward."""
    return _counts(net).get("Global", 0) / 1e6


def cost_table(net: Network) -> str:
    """A table of the parts and their total; a multiply-add is 2 operations."""
    rows = layer_costs(net)
    total = _cost("total", net.parameters(), sum(row.flops for row in rows))
    cells = [("part", "parameters", "trained", "MFLOP", "share")]
    for row in (*rows, total):
        share = f"{row.flops / total.flops:.1%}" if total.flops else ""
        flops = f"{row.flops / 1e6:,.2f}"
        cells.append((row.name, f"{row.parameters:,}", f"{row.trainable:,}", flops, share))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *numbers in cells:
        aligned = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join((name.ljust(widths[0]), *aligned)))
    model = type(net).__module__.rpartition(".")[2]
    task = f"{net.task.kind} {' '.join(net.task.labels)}".rstrip()
    if net.size() != total.parameters:
        lines.append(f"fitted, not trained: {net.size():,} numbers")
    return "\n".join([f"{model}: {task}, {net.pixels:,} pixels", *lines])


def _cost(name: str, parameters: Iterable[nn.Parameter], flops: int) -> LayerCost:
    listed = list(parameters)
    trainable = sum(parameter.numel() for parameter in listed if parameter.requires_grad)
    return LayerCost(name, sum(parameter.numel() for parameter in listed), trainable, flops)


def _flops(module: nn.Module, name: str, counts: dict[str, int]) -> int:
    """Operations of a module; if it is never called itself, such as a list, those of its children."""
    if name in counts:
        return counts[name]
    return sum(_flops(child, f"{name}.{child_name}", counts) for child_name, child in module.named_children())


def _counts(net: Network) -> dict[str, int]:
    """Operations for one spectrum by dotted name of module; all of them under `Global`."""
    watched = copy.deepcopy(net).to("cpu").eval()
    for module in watched.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = partial(_as_products, module)
    dtype = next((parameter.dtype for parameter in net.parameters()), torch.float32)
    spectrum_BP = torch.ones((1, net.pixels), dtype=dtype)
    continuum_BP = spectrum_BP if "continuum" in net.extra_inputs else None
    image_1CHW = torch.ones((1, *net.image), dtype=torch.uint8) if net.image else None
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        watched(spectrum_BP, spectrum_BP, continuum_BP, image_1CHW)
    return {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}


def _as_products(rnn: nn.RNNBase, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """A recurrent layer with its shapes and its cost, but as products: the counter does not see its steps.

    Each weight matrix is used once per step.
    """
    del state
    steps = x.shape[:-1].numel()
    for weight in rnn.parameters():
        if weight.ndim == 2:
            torch.mm(x.new_zeros(steps, weight.shape[1]), weight.t())
    directions = 1 + rnn.bidirectional
    features = rnn.proj_size or rnn.hidden_size
    batch = x.shape[0 if rnn.batch_first else 1 : -1][: x.ndim - 2]
    last = x.new_zeros(directions * rnn.num_layers, *batch, features)
    cell = x.new_zeros(directions * rnn.num_layers, *batch, rnn.hidden_size)
    output = x.new_zeros(*x.shape[:-1], directions * features)
    return output, (last, cell) if isinstance(rnn, nn.LSTM) else last
