"""DualBranchSpectralModel of system 3: a thin ResNet, a global and a local branch, their fusion, a head.

Each of the first three may be left out (`backbone=null`, `global_branch=null`, `local_branch=null`), but not
all. Without the backbone, a strided convolution cuts the spectrum into steps, because attention over 4,900 of
them would cost too much. Differences from the original: the first padding is continuum, because the network
subtracts 1 from the flux; the fusion by cross-attention really is one. Shapes: see `survey.models.network`.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from survey.models.dualbranch_layers import (
    Bottleneck,
    Fusion,
    GlobalAttention,
    LocalInception,
    convolution,
    steps_after,
)
from survey.models.inception_layers import (
    MultiHeadAttention,
    Perceptron,
    PerceptronHeads,
    check_pixels,
    mean_over_steps,
)
from survey.models.network import Network, Outputs
from survey.models.options import Kernels, Share, Size, Sizes
from survey.models.settings import Task
from survey.settings import Settings


class Backbone(Settings):
    """A thin ResNet-50 in one dimension."""

    stem: Size = Field(
        16, description="channels of the first convolution, which with its pooling divides the steps by 4"
    )
    channels: Sizes = Field((16, 32, 64, 32), description="output channels of each stage")
    repeats: Sizes = Field((3, 4, 6, 3), description="blocks of each stage")
    strides: Sizes = Field((1, 2, 2, 2), description="each stage divides the steps by this")
    narrowing: Size = Field(4, description="blocks convolve in 1/this of their channels")

    @field_validator("repeats", "strides")
    @classmethod
    def _one_per_stage(cls, value: Sizes, info: ValidationInfo) -> Sizes:
        return _same_length(value, info, "channels")


class GlobalBranch(Settings):
    """Attention of each step to all steps, then convolutions; the last one halves the steps."""

    heads: Size = Field(8, description="heads of the attention; they divide the channels")
    channels: Size = Field(64, description="channels of the convolutions")
    kernels: Kernels = Field((3, 5, 3), description="widths of the convolutions, odd")


class LocalBranch(Settings):
    """Inception blocks: parallel convolutions of several widths."""

    channels: Sizes = Field((64, 128, 128), description="channels per width, of each block")
    kernels: Annotated[tuple[Kernels, ...], Field(strict=False)] = Field(
        ((3, 5, 7), (3, 5), (3, 5, 7)), description="odd widths of each block"
    )
    strides: Sizes = Field((1, 2, 1), description="each block divides the steps by this")
    reduction: Size = Field(16, description="reduction of squeeze and excite")

    @field_validator("kernels", "strides")
    @classmethod
    def _one_per_block(cls, value: Sizes, info: ValidationInfo) -> Sizes:
        return _same_length(value, info, "channels")


def _same_length(value: Sizes, info: ValidationInfo, field: str) -> Sizes:
    if len(value) != len(info.data.get(field, value)):
        raise ValueError(
            f"has {len(value)} entries, {field} has {len(info.data[field])}; give the same number"
        )
    return value


class Options(Settings):
    """The parts and their sizes."""

    backbone: Backbone | None = Field(
        Backbone(),
        description="a thin ResNet before the branches; null: they get the spectrum cut into steps",
    )
    patch: Size = Field(8, description="without backbone: pixels per step")
    global_branch: GlobalBranch | None = Field(
        GlobalBranch(), description="the branch that sees the whole spectrum at once; null: left out"
    )
    local_branch: LocalBranch | None = Field(
        LocalBranch(), description="the branch that sees lines and bands; null: left out"
    )
    fusion: Literal["add", "concat", "cross_attention"] = Field(
        "add",
        description="sum of the branches, their concatenation, or attention of the global to the local one",
    )
    width: Size = Field(64, description="channels after the fusion")
    head: Literal["pyramid", "plain"] = Field(
        "pyramid", description="attention, pools and a perceptron per output; or mean and one perceptron"
    )
    heads: Size = Field(4, description="heads of the head's and the fusion's attention; they divide width")
    hidden: Sizes = Field((512, 128, 32), description="widths of the perceptrons' layers")
    dropout: Share = Field(0.1, description="dropout after each of these layers")

    @field_validator("local_branch")
    @classmethod
    def _not_empty(cls, value: LocalBranch | None, info: ValidationInfo) -> LocalBranch | None:
        if value is None and info.data.get("backbone") is None and info.data.get("global_branch") is None:
            raise ValueError("backbone, global_branch and local_branch are all null; keep one")
        return value

    @field_validator("heads")
    @classmethod
    def _divide_width(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("width", value) % value:
            raise ValueError(f"does not divide the width {info.data['width']}")
        return value


class DualBranchTrunk(nn.Sequential):
    """The layers before the branches: the backbone, or one strided convolution."""

    def __init__(self, pixels: int, options: Options) -> None:
        backbone = options.backbone
        if backbone is None:
            super().__init__(nn.Conv1d(1, 32, options.patch, options.patch), nn.ReLU())
            self.channels, self.steps = 32, pixels // options.patch
            return
        super().__init__(convolution(1, backbone.stem, 3, 2), nn.ReLU(), nn.MaxPool1d(3, 2, 1))
        self.channels, self.steps = backbone.stem, steps_after(pixels, (2, 2, *backbone.strides))
        stages = zip(backbone.channels, backbone.repeats, backbone.strides, strict=True)
        for channels, repeats, stride in stages:
            for repeat in range(repeats):
                block_stride = 1 if repeat else stride
                self.append(Bottleneck(self.channels, channels, block_stride, backbone.narrowing))
                self.channels = channels


class PlainHead(nn.Module):
    """The mean over the steps and one perceptron for all outputs."""

    def __init__(self, channels: int, task: Task, options: Options) -> None:
        super().__init__()
        dropouts = [options.dropout] * len(options.hidden)
        self.outputs = PerceptronHeads(Perceptron(channels, options.hidden, dropouts), task)

    def forward(self, x_BCT: Tensor) -> Outputs:
        """Outputs, `latent` among them."""
        outputs: Outputs = self.outputs(mean_over_steps(x_BCT))
        return outputs


class PyramidHead(nn.Module):
    """Attention among the steps, pooling convolutions, and one perceptron for the classes and each label."""

    def __init__(self, channels: int, steps: int, task: Task, options: Options) -> None:
        super().__init__()
        if steps < 4:
            raise ValueError(
                f"dualbranch: the pyramid gets {steps} steps, it needs at least 4; "
                "take smaller strides, a smaller patch, or head=plain"
            )
        self.attention = MultiHeadAttention(channels, options.heads)
        self.pyramid = nn.Sequential()
        for width in (32, 16):
            self.pyramid.extend([convolution(channels, width, 3), nn.ReLU(), nn.MaxPool1d(2)])
            channels = width
        tasks = [Task("cls", classes=task.classes)] if task.classifies else []
        tasks += [Task("reg", (name,), sigma=task.sigma) for name in task.labels] if task.regresses else []
        features, dropouts = channels * (steps // 4), [options.dropout] * len(options.hidden)
        self.outputs = nn.ModuleList(
            PerceptronHeads(Perceptron(features, options.hidden, dropouts), single) for single in tasks
        )

    def forward(self, x_BCT: Tensor) -> Outputs:
        """Outputs; `latent` joins the features of all perceptrons, `attention` is (B, T, T)."""
        x_BTC = x_BCT.transpose(1, 2)
        flat_BD = self.pyramid(self.attention(x_BTC, x_BTC).transpose(1, 2)).flatten(1)
        by_task = [heads(flat_BD) for heads in self.outputs]
        names = dict.fromkeys(name for outputs in by_task for name in outputs)
        joined = {
            name: torch.cat([outputs[name] for outputs in by_task if name in outputs], dim=1)
            for name in names
        }
        return joined | {"attention": self.attention.weights(x_BTC, x_BTC)}


class Net(Network):
    """Trunk, branches, fusion and head."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        check_pixels("dualbranch", pixels, 256)
        self.trunk = DualBranchTrunk(pixels, options)
        far, near, shape = (
            options.global_branch,
            options.local_branch,
            (self.trunk.channels, self.trunk.steps),
        )
        self.far = GlobalAttention(*shape, far.channels, far.kernels, far.heads) if far else None
        self.near = (
            LocalInception(*shape, near.channels, near.kernels, near.strides, near.reduction)
            if near
            else None
        )
        branches = [branch for branch in (self.far, self.near) if branch is not None]
        shapes = [(branch.channels, branch.steps) for branch in branches] or [shape]
        self.fusion = Fusion(shapes, options.width, options.fusion, options.heads)
        self.heads = (
            PlainHead(options.width, task, options)
            if options.head == "plain"
            else PyramidHead(options.width, self.fusion.steps, task, options)
        )

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the branches together."""
        x_BCT = self.trunk(flux_BP[:, None] - 1)
        branches = [branch(x_BCT) for branch in (self.far, self.near) if branch is not None]
        outputs: Outputs = self.heads(self.fusion(branches or [x_BCT]))
        return outputs
