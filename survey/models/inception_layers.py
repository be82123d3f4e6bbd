"""Layers that the networks of systems 1 and 3 share: convolutions of several widths side by side, residual blocks, norms, perceptrons.

Everything here takes and gives (B, C, T) or (B, D). Convolutions pad with 0, so that the networks hand in flux less 1: the padding of
the first one is continuum. Biases and norms are those of the originals, whose parameter counts the tests hold.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.network import Answers, Dropout, Heads, Task

Norm = Literal["layer", "batch"]
Share = Annotated[float, Field(ge=0, lt=1)]
"""How much a dropout drops."""
Size = Annotated[int, Field(ge=1)]
"""A number of channels, steps or blocks."""
Sizes = Annotated[tuple[Size, ...], Field(strict=False, min_length=1)]
"""Some of them."""


def demand(net: str, pixels: int, fewest: int) -> None:
    """An error where spectra are too short for a network."""
    if pixels < fewest:
        raise ValueError(
            f"{net}: spectra of {pixels} pixels; it needs at least {fewest}; take a finer or longer grid"
        )


class ChannelNorm(nn.LayerNorm):
    """Mean 0 and spread 1 over the channels at each step: no spectrum and no step sees another."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x, normalised at each step, then scaled per channel."""
        return super().forward(x_BCT.transpose(1, 2)).transpose(1, 2)


def norm(kind: Norm, channels: int) -> nn.Module:
    """The norm of that name."""
    return ChannelNorm(channels) if kind == "layer" else nn.BatchNorm1d(channels)


def rectifier(slope: float) -> nn.Module:
    """What lies above 0, and of what lies below that share."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def mean_over_steps(x_BCT: Tensor) -> Tensor:
    """Global average pooling, (B, C)."""
    return x_BCT.mean(dim=-1)


class SqueezeExcite(nn.Module):
    """Each channel scaled by how much it matters for this spectrum, judged from the means of all channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction), bias=False)
        self.excite = nn.Linear(max(1, channels // reduction), channels, bias=False)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x, its channels weighed between 0 and 1."""
        weight_BC = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean_over_steps(x_BCT)))))
        return x_BCT * weight_BC[:, :, None]


class Inception(nn.Module):
    """Convolutions of several widths side by side, each normed and rectified, their channels joined and weighed."""

    def __init__(
        self, inputs: int, width: int, kernels: Sequence[int], kind: Norm, reduction: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.channels = width * len(kernels)
        self.sides = nn.ModuleList(
            nn.Sequential(nn.Conv1d(inputs, width, kernel, stride, kernel // 2), norm(kind, width), nn.ReLU())
            for kernel in kernels
        )
        self.excite = SqueezeExcite(self.channels, reduction)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The joined channels of all widths."""
        joined_BCT: Tensor = self.excite(torch.cat([side(x_BCT) for side in self.sides], dim=1))
        return joined_BCT


class Residual(nn.Module):
    """Two normed convolutions beside a shortcut, which is a convolution of width 1 only where the channels change."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, slope: float = 0.0, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.BatchNorm1d(outputs, momentum=momentum),
            rectifier(slope),
            nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2),
            nn.BatchNorm1d(outputs, momentum=momentum),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs, momentum=momentum)
            )
        self.rectify = rectifier(slope)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The sum of both ways, rectified."""
        sum_BCT: Tensor = self.rectify(self.way(x_BCT) + self.shortcut(x_BCT))
        return sum_BCT


class Perceptron(nn.Sequential):
    """Linear layers, each normed where wanted, rectified and followed by its dropout."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        dropout: Sequence[float],
        slope: float = 0.0,
        normed: bool = False,
    ) -> None:
        layers: list[nn.Module] = []
        for (before, after), share in zip(pairwise((inputs, *hidden)), dropout, strict=True):
            layers += [
                nn.Linear(before, after),
                *([nn.LayerNorm(after)] if normed else []),
                rectifier(slope),
                Dropout(share),
            ]
        super().__init__(*layers)
        self.features = hidden[-1]


class PerceptronHeads(nn.Module):
    """A perceptron and the last layers of a task on top; the perceptron's features are the latent ones."""

    def __init__(self, perceptron: Perceptron, task: Task) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.last = Heads(perceptron.features, perceptron.features, task)

    def forward(self, x_BD: Tensor) -> Answers:
        """Answers, `latent` among them."""
        latent_BD = self.perceptron(x_BD)
        answers: Answers = self.last(latent_BD, latent_BD) | {"latent": latent_BD}
        return answers
