"""Layers of `dualbranch`: bottleneck blocks, the global and the local branch, and their fusion.

Shapes: B spectra, C channels, T steps, S steps of the fusion.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from survey.models.inception_layers import Inception, MultiHeadAttention


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution with batch norm; steps / stride remain, rounded up."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(outputs)
    )


def steps_after(steps: int, strides: Sequence[int]) -> int:
    """Steps that remain after convolutions or pools of these strides."""
    for stride in strides:
        steps = -(-steps // stride)
    return steps


class Bottleneck(nn.Module):
    """A residual block that reduces the channels, convolves, and widens again."""

    def __init__(self, inputs: int, outputs: int, stride: int, narrowing: int) -> None:
        super().__init__()
        inner = max(1, outputs // narrowing)
        self.branch = nn.Sequential(
            convolution(inputs, inner, 1),
            nn.ReLU(),
            convolution(inner, inner, 3, stride),
            nn.ReLU(),
            convolution(inner, outputs, 1),
        )
        same_shape = (inputs, stride) == (outputs, 1)
        self.shortcut = nn.Identity() if same_shape else convolution(inputs, outputs, 1, stride)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The sum of branch and shortcut, rectified."""
        return torch.relu(self.branch(x_BCT) + self.shortcut(x_BCT))


class GlobalAttention(nn.Module):
    """The global branch: attention among all steps, then convolutions, of which the last halves the steps."""

    def __init__(self, inputs: int, steps: int, channels: int, kernels: Sequence[int], heads: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(inputs, heads)
        self.convolutions = nn.Sequential()
        for number, kernel in enumerate(kernels, 1):
            stride = 2 if number == len(kernels) else 1
            self.convolutions.extend([convolution(inputs, channels, kernel, stride), nn.ReLU()])
            inputs = channels
        self.channels, self.steps = channels, steps_after(steps, (2,))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Features of the whole spectrum, at half the steps."""
        x_BTC = x_BCT.transpose(1, 2)
        out_BCT: Tensor = self.convolutions(self.attention(x_BTC, x_BTC).transpose(1, 2))
        return out_BCT


class LocalInception(nn.Sequential):
    """The local branch: inception blocks."""

    def __init__(
        self,
        inputs: int,
        steps: int,
        channels: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[int],
        reduction: int,
    ) -> None:
        blocks: list[Inception] = []
        for width, widths, stride in zip(channels, kernels, strides, strict=True):
            blocks.append(Inception(inputs, width, widths, "batch", reduction, stride))
            inputs = blocks[-1].channels
        super().__init__(*blocks)
        self.channels, self.steps = inputs, steps_after(steps, strides)


class Adjuster(nn.Module):
    """Brings a branch to the channels and steps of the fusion: a 1x1 convolution and means over steps.

    The means are one matrix product with fixed shares, which sums in the same order every time; adaptive
    pooling on a GPU does not.
    """

    shares_TS: Tensor | None

    def __init__(self, inputs: int, steps: int, channels: int, new_steps: int) -> None:
        super().__init__()
        self.channels = nn.Identity() if inputs == channels else nn.Conv1d(inputs, channels, 1)
        shares_TS = None if steps == new_steps else mean_shares(steps, new_steps)
        self.register_buffer("shares_TS", shares_TS, persistent=False)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x in the shape of the fusion."""
        x_BCT = self.channels(x_BCT)
        return x_BCT if self.shares_TS is None else x_BCT @ self.shares_TS


def mean_shares(steps: int, new_steps: int) -> Tensor:
    """The share of each old step in each new step, (steps, new_steps); columns sum to 1."""
    old_T1 = torch.arange(steps, dtype=torch.float64)[:, None]
    new_S = torch.arange(new_steps, dtype=torch.float64) * (steps / new_steps)
    overlap_TS = torch.minimum(old_T1 + 1, new_S + steps / new_steps) - torch.maximum(old_T1, new_S)
    return (overlap_TS.clamp(min=0) * (new_steps / steps)).float()


class Fusion(nn.Module):
    """Joins the branches to one sequence with `channels` channels and the steps of the shortest branch.

    Cross-attention needs no common steps and keeps those of the first branch. A single branch only changes
    its channels.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        channels: int,
        kind: Literal["add", "concat", "cross_attention"],
        heads: int,
    ) -> None:
        super().__init__()
        cross = kind == "cross_attention"
        self.steps = shapes[0][1] if cross else min(steps for _, steps in shapes)
        self.adjusters = nn.ModuleList(
            Adjuster(inputs, steps, channels, steps if cross else self.steps) for inputs, steps in shapes
        )
        several = len(shapes) > 1
        join = kind == "concat" and several
        self.join = nn.Conv1d(len(shapes) * channels, channels, 1) if join else None
        self.attention = MultiHeadAttention(channels, heads) if cross and several else None

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """The branches (B, C, T), global before local, as one."""
        adjusted = [adjust(branch) for adjust, branch in zip(self.adjusters, branches, strict=True)]
        fused_BCT: Tensor
        if self.attention is not None:
            fused_BCT = self.attention(adjusted[0].transpose(1, 2), adjusted[1].transpose(1, 2)).transpose(
                1, 2
            )
        elif self.join is not None:
            fused_BCT = self.join(torch.cat(adjusted, dim=1))
        else:
            fused_BCT = sum(adjusted[1:], start=adjusted[0])
        return fused_BCT
