"""Layers of the networks of the CEMP search: padding, residual trunk, recurrent layer, dense heads.

Shapes: B spectra, P pixels, C channels, T steps of a sequence, D features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from survey.models.network import FeatureDropout, Heads, Outputs
from survey.models.options import DenseOptions, Norm
from survey.models.settings import Task


class Padding(nn.Module):
    """Spectra as one channel (B, 1, P), padded with continuum to a multiple; `length` is the new length."""

    def __init__(self, pixels: int, multiple: int, centred: bool, least: int = 1) -> None:
        super().__init__()
        smallest = (least - 1) // multiple * multiple + 1
        if pixels < smallest:
            raise ValueError(
                f"model: spectra have {pixels} pixels, this network needs at least {smallest}; "
                "take a finer grid or pool less"
            )
        self.length = math.ceil(pixels / multiple) * multiple
        self.extra, self.centred = self.length - pixels, centred

    def forward(self, flux_BP: Tensor) -> Tensor:
        """The flux with `extra` more pixels of continuum."""
        if self.extra:
            flux_BP = nn.functional.pad(flux_BP, (0, self.extra), value=1.0)
        return (flux_BP - 1 if self.centred else flux_BP)[:, None]

    def extra_repr(self) -> str:
        """The padded length."""
        return f"length={self.length}, centred={self.centred}"


class BranchBlock(nn.Module):
    """The sum of branches of convolutions and of the input (a 1x1 convolution if channels change)."""

    def __init__(
        self, channels: int, wider: int, branches: Sequence[Sequence[int]], closed: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, wider, kernels, closed, norm) for kernels in branches)
        self.skip = nn.Identity() if channels == wider else nn.Conv1d(channels, wider, 1)

    def forward(self, x_BCP: Tensor) -> Tensor:
        """The sum; the number of pixels stays."""
        total_BCP: Tensor = self.skip(x_BCP)
        for branch in self.branches:
            total_BCP = total_BCP + branch(x_BCP)
        return total_BCP


def _branch(channels: int, wider: int, kernels: Sequence[int], closed: bool, norm: Norm) -> nn.Sequential:
    """Convolutions with an activation between them, and one after the last if the branch is closed."""
    layers: list[nn.Module] = []
    for number, kernel in enumerate(kernels, 1):
        inputs = wider if number > 1 else channels
        layers.append(nn.Conv1d(inputs, wider, kernel, padding=kernel // 2, bias=norm == "none"))
        if norm != "none":
            layers.append(nn.BatchNorm1d(wider) if norm == "batch" else nn.GroupNorm(1, wider))
        if closed or number < len(kernels):
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Trunk(nn.Sequential):
    """Stages of residual blocks, each followed by a mean over `pool` pixels.

    (B, 1, P) becomes (B, last of `channels`, P // `shrinks`). The last pixels are left out where `shrinks`
    does not divide P.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: int,
        pool: int,
        branches: Sequence[Sequence[int]],
        closed: bool = False,
        norm: Norm = "none",
    ) -> None:
        layers: list[nn.Module] = []
        for inputs, width in zip((1, *channels), channels, strict=False):
            layers += [
                BranchBlock(inputs if number == 0 else width, width, branches, closed, norm)
                for number in range(blocks)
            ]
            layers.append(nn.AvgPool1d(pool))
        super().__init__(*layers, nn.ReLU())
        self.shrinks: int = pool ** len(channels)


def multiple_for_pieces(steps: int, channels: int, shrinks: int) -> int:
    """A multiple of pixels whose pooled features (B, C, T) make `steps` equal pieces."""
    return shrinks * (steps // math.gcd(steps, channels))


class Pieces(nn.Module):
    """A recurrent layer (tanh) reads features in equal pieces; as many features come out."""

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        if size % steps:
            raise ValueError(
                f"model: steps={steps} does not divide {size} features; give a number that divides them"
            )
        self.steps, self.width = steps, size // steps
        self.rnn = nn.RNN(self.width, self.width, batch_first=True)

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, D) to (B, D)."""
        out_BTD: Tensor = self.rnn(x_BD.reshape(len(x_BD), self.steps, self.width))[0]
        return out_BTD.flatten(1)


class DenseHeads(nn.Module):
    """One dense layer that all tasks share, one for each task, then the outputs.

    `latent` holds the features before the outputs: first those for classes, then those for labels.
    `constrained`: the features for classes are added to those for labels, so that what separates classes also
    changes labels.
    """

    def __init__(self, features: int, options: DenseOptions, task: Task, constrained: bool = False) -> None:
        super().__init__()
        tasks = ["cls"] * task.classifies + ["reg"] * task.regresses
        if constrained and len(tasks) < 2:
            raise ValueError(
                f"model: constrained=true needs classes and labels, the task is {task.kind}; "
                "set constrained=false, or task=cls_reg"
            )
        self.constrained = constrained
        self.shared = _dense(features, options.shared, options.dropout)
        self.by_task = nn.ModuleDict(
            {name: _dense(options.shared, options.own, options.dropout) for name in tasks}
        )
        self.last = Heads(options.own, options.own, task)

    def forward(self, x_BD: Tensor) -> Outputs:
        """Outputs from the flattened features of the body."""
        shared_BD = self.shared(x_BD)
        features = [layer(shared_BD) for layer in self.by_task.values()]
        if self.constrained:
            features[1] = features[1] + features[0]
        outputs: Outputs = self.last(features[0], features[-1])
        return outputs | {"latent": torch.cat(features, 1)}


def _dense(features: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(inplace=True), FeatureDropout(dropout))
