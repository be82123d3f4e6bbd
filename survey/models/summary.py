"""What a network is made of and what it costs: parameters and floating-point operations of each part, as numbers and as a table to read.

A multiply-add counts as 2 operations. Convolutions, linear and recurrent layers and attention are counted; norms, activations, pools and
Fourier transforms are not. A copy of the network is given one featureless spectrum, on a CPU, and watched.
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

REST = "(between)"
"""Stands for what a network does itself, between its parts."""


@dataclass(frozen=True)
class Part:
    """A child of a network: its parameters, how many of them are trained, and its operations for one spectrum."""

    name: str
    parameters: int
    trainable: int
    flops: int


def parts(net: Network) -> list[Part]:
    """The children of a network in the order it holds them; what it computes outside them comes last, where that is anything."""
    counts = _counts(net)
    rows = [
        _part(name, child.parameters(), _flops(child, f"{type(net).__name__}.{name}", counts))
        for name, child in net.named_children()
    ]
    rest = _part(
        REST, net.parameters(recurse=False), counts.get("Global", 0) - sum(row.flops for row in rows)
    )
    return rows + [rest] * bool(rest.parameters or rest.flops)


def megaflop(net: Network) -> float:
    """Millions of operations for one spectrum, forward."""
    return _counts(net).get("Global", 0) / 1e6


def text(net: Network) -> str:
    """A table of the parts and their total; a multiply-add is 2 operations."""
    rows = parts(net)
    total = _part("total", net.parameters(), sum(row.flops for row in rows))
    cells = [("part", "parameters", "trained", "MFLOP", "share")]
    for row in (*rows, total):
        share = f"{row.flops / total.flops:.1%}" if total.flops else ""
        cells.append(
            (row.name, f"{row.parameters:,}", f"{row.trainable:,}", f"{row.flops / 1e6:,.2f}", share)
        )
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            (name.ljust(wide[0]), *(cell.rjust(width) for cell, width in zip(numbers, wide[1:], strict=True)))
        )
        for name, *numbers in cells
    ]
    asked = f"{net.task.kind} {' '.join(net.task.labels)}".rstrip()
    fitted = [f"fitted, not trained: {net.size():,} numbers"] * (net.size() != total.parameters)
    return "\n".join(
        [f"{type(net).__module__.rpartition('.')[2]}: {asked}, {net.pixels:,} pixels", *lines, *fitted]
    )


def _part(name: str, parameters: Iterable[nn.Parameter], flops: int) -> Part:
    held = list(parameters)
    return Part(name, sum(p.numel() for p in held), sum(p.numel() for p in held if p.requires_grad), flops)


def _flops(module: nn.Module, name: str, counts: dict[str, int]) -> int:
    """Operations of a module; of one that is never called itself, such as a list, those of its children."""
    if name in counts:
        return counts[name]
    return sum(_flops(child, f"{name}.{below}", counts) for below, child in module.named_children())


def _counts(net: Network) -> dict[str, int]:
    """Operations of one spectrum by dotted name of module, and of all under `Global`."""
    watched = copy.deepcopy(net).to("cpu").eval()
    for module in watched.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = partial(_as_products, module)
    spectrum_BP = torch.ones(
        (1, net.pixels), dtype=next((held.dtype for held in net.parameters()), torch.float32)
    )
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        watched(spectrum_BP, spectrum_BP, spectrum_BP if "continuum" in net.inputs else None)
    return {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}


def _as_products(rnn: nn.RNNBase, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """What a recurrent layer gives in shape, and costs: each weight matrix once per step. Its steps themselves escape the counter."""
    steps = x.shape[:-1].numel()
    for weight in rnn.parameters():
        if weight.ndim == 2:
            torch.mm(x.new_zeros(steps, weight.shape[1]), weight.t())
    directions = 1 + rnn.bidirectional
    features = rnn.proj_size or rnn.hidden_size
    batch = x.shape[0 if rnn.batch_first else 1 : -1][: x.ndim - 2]
    last = x.new_zeros(directions * rnn.num_layers, *batch, features)
    cell = x.new_zeros(directions * rnn.num_layers, *batch, rnn.hidden_size)
    return x.new_zeros(*x.shape[:-1], directions * features), (last, cell) if isinstance(
        rnn, nn.LSTM
    ) else last
