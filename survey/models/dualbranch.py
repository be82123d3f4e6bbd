"""DualBranchSpectralModel of system 3, put together from parts: a thin ResNet, a branch that sees far, one that sees near, their fusion, a head.

Any part may be left out (`backbone=null`, `global_branch=null`, `local_branch=null`) as long as one of the three remains. Without the backbone
a strided convolution cuts the spectrum into steps, as attention over 4,900 of them would be out of proportion. Mended: the first padding
is continuum, as flux enters less 1; fusion by cross-attention is one. Shapes: see `survey.models.network`.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from survey.models.attention import Attention
from survey.models.inception_layers import (
    Inception,
    Perceptron,
    PerceptronHeads,
    Share,
    Size,
    Sizes,
    demand,
    mean_over_steps,
)
from survey.models.network import Answers, Network, Task
from survey.settings import Settings

Fuse = Literal["add", "concat", "cross_attention"]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("is even; the width of a convolution is odd, so that it has a middle")
    return value


Widths = Annotated[tuple[Annotated[Size, AfterValidator(_odd)], ...], Field(strict=False, min_length=1)]
"""Widths of convolutions, in steps."""


class Backbone(Settings):
    """A ResNet-50 in one dimension, thin."""

    stem: Size = Field(
        16, description="channels of the first convolution, which with its pooling divides the steps by 4"
    )
    channels: Sizes = Field((16, 32, 64, 32), description="channels that each stage ends in")
    repeats: Sizes = Field((3, 4, 6, 3), description="blocks of each stage")
    strides: Sizes = Field((1, 2, 2, 2), description="what each stage divides the steps by")
    narrowing: Size = Field(4, description="blocks convolve in 1/this of their channels")

    @field_validator("repeats", "strides")
    @classmethod
    def _one_per_stage(cls, value: Sizes, info: ValidationInfo) -> Sizes:
        return _as_many(value, info, "channels")


class GlobalBranch(Settings):
    """Attention of each step to all others, then convolutions; the last one halves the steps."""

    heads: Size = Field(8, description="heads of the attention; they divide the channels")
    channels: Size = Field(64, description="channels of the convolutions")
    kernels: Widths = Field((3, 5, 3), description="widths of the convolutions, odd")


class LocalBranch(Settings):
    """Inception blocks: convolutions of several widths side by side."""

    channels: Sizes = Field((64, 128, 128), description="channels per width, of each block")
    kernels: Annotated[tuple[Widths, ...], Field(strict=False)] = Field(
        ((3, 5, 7), (3, 5), (3, 5, 7)), description="odd widths of each block"
    )
    strides: Sizes = Field((1, 2, 1), description="what each block divides the steps by")
    reduction: Size = Field(16, description="how far the weighing of channels is squeezed")

    @field_validator("kernels", "strides")
    @classmethod
    def _one_per_block(cls, value: Sizes, info: ValidationInfo) -> Sizes:
        return _as_many(value, info, "channels")


def _as_many(value: Sizes, info: ValidationInfo, other: str) -> Sizes:
    if len(value) != len(info.data.get(other, value)):
        raise ValueError(f"holds {len(value)} entries, {other} {len(info.data[other])}; give as many")
    return value


class Options(Settings):
    """Which parts, and their sizes."""

    backbone: Backbone | None = Field(
        Backbone(), description="a thin ResNet before the branches; null: they see the cut spectrum"
    )
    patch: Size = Field(8, description="without backbone: pixels per step")
    global_branch: GlobalBranch | None = Field(
        GlobalBranch(), description="what sees the whole spectrum at once; null: left out"
    )
    local_branch: LocalBranch | None = Field(
        LocalBranch(), description="what sees lines and bands; null: left out"
    )
    fusion: Fuse = Field("add", description="branches summed, joined, or the global one asking the local one")
    width: Size = Field(64, description="channels after the fusion")
    head: Literal["pyramid", "plain"] = Field(
        "pyramid", description="attention, pools and a perceptron per answer; or mean and one perceptron"
    )
    heads: Size = Field(4, description="heads of the head's and the fusion's attention; they divide width")
    hidden: Sizes = Field((512, 128, 32), description="layers of the perceptrons")
    dropout: Share = Field(0.1, description="after each of these layers")

    @field_validator("local_branch")
    @classmethod
    def _something_remains(cls, value: LocalBranch | None, info: ValidationInfo) -> LocalBranch | None:
        if value is None and info.data.get("backbone") is None and info.data.get("global_branch") is None:
            raise ValueError("backbone, global_branch and local_branch are all null; keep one")
        return value

    @field_validator("heads")
    @classmethod
    def _heads_divide(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("width", value) % value:
            raise ValueError(f"does not divide the width {info.data['width']}")
        return value


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution and the norm of its batch; steps / stride remain, rounded up."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(outputs)
    )


def fewer(steps: int, strides: Sequence[int]) -> int:
    """Steps that remain behind convolutions or pools of these strides."""
    for stride in strides:
        steps = -(-steps // stride)
    return steps


class Bottleneck(nn.Module):
    """A residual block that narrows, convolves, and widens again."""

    def __init__(self, inputs: int, outputs: int, stride: int, narrowing: int) -> None:
        super().__init__()
        inner = max(1, outputs // narrowing)
        self.way = nn.Sequential(
            normed(inputs, inner, 1),
            nn.ReLU(),
            normed(inner, inner, 3, stride),
            nn.ReLU(),
            normed(inner, outputs, 1),
        )
        self.shortcut = (
            nn.Identity() if (inputs, stride) == (outputs, 1) else normed(inputs, outputs, 1, stride)
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The sum of both ways, rectified."""
        return torch.relu(self.way(x_BCT) + self.shortcut(x_BCT))


class Trunk(nn.Sequential):
    """What comes before the branches: the backbone, or a cut into steps."""

    def __init__(self, pixels: int, options: Options) -> None:
        made = options.backbone
        if made is None:
            super().__init__(nn.Conv1d(1, 32, options.patch, options.patch), nn.ReLU())
            self.channels, self.steps = 32, pixels // options.patch
            return
        super().__init__(normed(1, made.stem, 3, 2), nn.ReLU(), nn.MaxPool1d(3, 2, 1))
        self.channels, self.steps = made.stem, fewer(pixels, (2, 2, *made.strides))
        for channels, repeats, stride in zip(made.channels, made.repeats, made.strides, strict=True):
            for repeat in range(repeats):
                self.append(Bottleneck(self.channels, channels, 1 if repeat else stride, made.narrowing))
                self.channels = channels


class Global(nn.Module):
    """The branch that sees far."""

    def __init__(self, channels: int, steps: int, options: GlobalBranch) -> None:
        super().__init__()
        self.attention = Attention(channels, options.heads)
        self.convolutions = nn.Sequential()
        for place, kernel in enumerate(options.kernels, 1):
            self.convolutions.extend(
                [
                    normed(channels, options.channels, kernel, 2 if place == len(options.kernels) else 1),
                    nn.ReLU(),
                ]
            )
            channels = options.channels
        self.channels, self.steps = channels, fewer(steps, (2,))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """What all steps together say, at half the steps."""
        x_BTC = x_BCT.transpose(1, 2)
        out_BCT: Tensor = self.convolutions(self.attention(x_BTC, x_BTC).transpose(1, 2))
        return out_BCT


class Local(nn.Sequential):
    """The branch that sees near."""

    def __init__(self, channels: int, steps: int, options: LocalBranch) -> None:
        blocks = []
        for width, kernels, stride in zip(options.channels, options.kernels, options.strides, strict=True):
            blocks.append(Inception(channels, width, kernels, "batch", options.reduction, stride))
            channels = blocks[-1].channels
        super().__init__(*blocks)
        self.channels, self.steps = channels, fewer(steps, options.strides)


class Adjuster(nn.Module):
    """Brings a branch to the channels and steps of the fusion: a convolution of width 1, and means over the pixels of each new step.

    The means are one matrix product with fixed shares, which adds in the same order every time; adaptive pooling on a GPU does not.
    """

    shares_TS: Tensor | None

    def __init__(self, inputs: int, steps: int, channels: int, wanted: int) -> None:
        super().__init__()
        self.channels = nn.Identity() if inputs == channels else nn.Conv1d(inputs, channels, 1)
        self.register_buffer(
            "shares_TS", None if steps == wanted else shares(steps, wanted), persistent=False
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x in the shape of the fusion."""
        x_BCT = self.channels(x_BCT)
        return x_BCT if self.shares_TS is None else x_BCT @ self.shares_TS


def shares(steps: int, wanted: int) -> Tensor:
    """Which share of each of `wanted` steps every old step makes up, (steps, wanted); columns sum to 1."""
    old_T, new_S = (
        torch.arange(steps, dtype=torch.float64)[:, None],
        torch.arange(wanted, dtype=torch.float64) * (steps / wanted),
    )
    overlap_TS = torch.minimum(old_T + 1, new_S + steps / wanted) - torch.maximum(old_T, new_S)
    return (overlap_TS.clamp(min=0) * (wanted / steps)).float()


class Fusion(nn.Module):
    """One sequence made of the branches, `channels` wide and of the shortest one's steps; a single branch only changes its channels."""

    def __init__(self, shapes: Sequence[tuple[int, int]], channels: int, how: Fuse, heads: int) -> None:
        super().__init__()
        self.steps = min(steps for _, steps in shapes)
        kept = how == "cross_attention"  # asking needs no common steps
        self.adjusters = nn.ModuleList(
            Adjuster(inputs, steps, channels, steps if kept else self.steps) for inputs, steps in shapes
        )
        if kept:
            self.steps = shapes[0][1]
        self.join = (
            nn.Conv1d(len(shapes) * channels, channels, 1) if how == "concat" and len(shapes) > 1 else None
        )
        self.attention = Attention(channels, heads) if kept and len(shapes) > 1 else None

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """The branches (B, C, T), global before local, as one."""
        alike = [adjust(branch) for adjust, branch in zip(self.adjusters, branches, strict=True)]
        fused_BCT: Tensor
        if self.attention is not None:
            fused_BCT = self.attention(alike[0].transpose(1, 2), alike[1].transpose(1, 2)).transpose(1, 2)
        elif self.join is not None:
            fused_BCT = self.join(torch.cat(alike, dim=1))
        else:
            fused_BCT = sum(alike[1:], start=alike[0])
        return fused_BCT


class Plain(nn.Module):
    """The mean over the steps and one perceptron for all answers."""

    def __init__(self, channels: int, task: Task, options: Options) -> None:
        super().__init__()
        self.answers = PerceptronHeads(
            Perceptron(channels, options.hidden, [options.dropout] * len(options.hidden)), task
        )

    def forward(self, x_BCT: Tensor) -> Answers:
        """Answers, `latent` among them."""
        answers: Answers = self.answers(mean_over_steps(x_BCT))
        return answers


class Pyramid(nn.Module):
    """Attention among the steps, convolutions that pool them, and a perceptron for the classes and for each label."""

    def __init__(self, channels: int, steps: int, task: Task, options: Options) -> None:
        super().__init__()
        if steps < 4:
            raise ValueError(
                f"dualbranch: {steps} steps come to the pyramid, which needs 4; take smaller strides, a smaller patch, or head=plain"
            )
        self.attention = Attention(channels, options.heads)
        self.pyramid = nn.Sequential()
        for width in (32, 16):
            self.pyramid.extend([normed(channels, width, 3), nn.ReLU(), nn.MaxPool1d(2)])
            channels = width
        asked = [Task("cls", classes=task.classes)] if task.classifies else []
        asked += [Task("reg", (name,), sigma=task.sigma) for name in task.labels] if task.regresses else []
        drops = [options.dropout] * len(options.hidden)
        self.answers = nn.ModuleList(
            PerceptronHeads(Perceptron(channels * (steps // 4), options.hidden, drops), one) for one in asked
        )

    def forward(self, x_BCT: Tensor) -> Answers:
        """Answers, `latent` (the perceptrons' features side by side) and `attention` (B, T, T) among them."""
        x_BTC = x_BCT.transpose(1, 2)
        flat_BD = self.pyramid(self.attention(x_BTC, x_BTC).transpose(1, 2)).flatten(1)
        single = [answer(flat_BD) for answer in self.answers]
        names = dict.fromkeys(name for answers in single for name in answers)
        joined = {
            name: torch.cat([answers[name] for answers in single if name in answers], dim=1) for name in names
        }
        return joined | {"attention": self.attention.weights(x_BTC, x_BTC)}


class Net(Network):
    """Trunk, branches, fusion and head."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        demand("dualbranch", pixels, 256)
        self.trunk = Trunk(pixels, options)
        before = self.trunk.channels, self.trunk.steps
        self.far = Global(*before, options.global_branch) if options.global_branch else None
        self.near = Local(*before, options.local_branch) if options.local_branch else None
        shapes = [(part.channels, part.steps) for part in (self.far, self.near) if part is not None] or [
            before
        ]
        self.fusion = Fusion(shapes, options.width, options.fusion, options.heads)
        plain = options.head == "plain"
        self.heads = (
            Plain(options.width, task, options)
            if plain
            else Pyramid(options.width, self.fusion.steps, task, options)
        )

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from what the branches saw together."""
        x_BCT = self.trunk(flux_BP[:, None] - 1)
        answers: Answers = self.heads(
            self.fusion([part(x_BCT) for part in (self.far, self.near) if part is not None] or [x_BCT])
        )
        return answers
