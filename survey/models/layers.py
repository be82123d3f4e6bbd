"""What networks of convolutions are put together from: the start of a spectrum, a trunk of residual stages, a recurrent layer, dense heads.

Shapes: B spectra, P pixels, C channels, T steps of a sequence, D features.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from survey.models.network import Answers, Dropout, Heads, Task
from survey.settings import Settings


def _sizes(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or min(value) < 1:
        raise ValueError("one or more numbers from 1 on are wanted")
    return value


def _odd(value: tuple[int, ...]) -> tuple[int, ...]:
    if not all(size % 2 for size in value):
        raise ValueError("an even kernel has no middle pixel, an odd one is wanted")
    return value


Norm = Literal["none", "batch", "layer"]
"""What follows a convolution: nothing, batch norm, or layer norm over the channels and pixels of each spectrum."""
Mode = Literal["raw", "pre-RNN", "post-RNN"]
"""Where a recurrent layer stands: nowhere, before the convolutions, after them."""
Sizes = Annotated[tuple[int, ...], Field(strict=False), AfterValidator(_sizes)]
"""Widths of layers that follow each other."""
Kernels = Annotated[tuple[int, ...], Field(strict=False), AfterValidator(_sizes), AfterValidator(_odd)]
"""Pixels of convolutions that follow each other: odd, so that a spectrum stays as long as it is."""
Kernel = Annotated[int, AfterValidator(lambda value: _odd(_sizes((value,)))[0])]
"""Pixels of a convolution."""


class Ends(Settings):
    """How a network takes up a spectrum, and the dense layers that it ends in."""

    multiple: int = Field(
        8, ge=1, description="spectra are lengthened with continuum to a multiple of this many pixels"
    )
    centred: bool = Field(
        False, description="the continuum lies at 0 instead of 1, level with the borders of convolutions"
    )
    shared: int = Field(256, ge=1, description="width of the dense layer that tasks share")
    own: int = Field(128, ge=1, description="width of the dense layer of each task's own")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="share of dense features that are dropped in training"
    )


class Start(nn.Module):
    """Spectra as one channel (B, 1, P), lengthened with continuum to a multiple; `length` is what comes out, `least` what has to."""

    def __init__(self, pixels: int, multiple: int, centred: bool, least: int = 1) -> None:
        super().__init__()
        smallest = (least - 1) // multiple * multiple + 1
        if pixels < smallest:
            raise ValueError(
                f"model: spectra of {pixels} pixels are too short, {smallest} is the least that works; take a finer grid or pool less"
            )
        self.length = math.ceil(pixels / multiple) * multiple
        self.extra, self.centred = self.length - pixels, centred

    def forward(self, flux_BP: Tensor) -> Tensor:
        """The flux, longer by `extra` pixels of continuum."""
        if self.extra:
            flux_BP = nn.functional.pad(flux_BP, (0, self.extra), value=1.0)
        return (flux_BP - 1 if self.centred else flux_BP)[:, None]

    def extra_repr(self) -> str:
        """The length that comes out."""
        return f"length={self.length}, centred={self.centred}"


class Block(nn.Module):
    """Sum of branches of convolutions and of the input itself (a 1x1 convolution where channels change)."""

    def __init__(
        self, channels: int, wider: int, branches: Sequence[Sequence[int]], closed: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, wider, kernels, closed, norm) for kernels in branches)
        self.skip = nn.Identity() if channels == wider else nn.Conv1d(channels, wider, 1)

    def forward(self, x_BCP: Tensor) -> Tensor:
        """As many pixels as went in."""
        total_BCP: Tensor = self.skip(x_BCP)
        for branch in self.branches:
            total_BCP = total_BCP + branch(x_BCP)
        return total_BCP


def _branch(channels: int, wider: int, kernels: Sequence[int], closed: bool, norm: Norm) -> nn.Sequential:
    """Convolutions with an activation between them, and after the last where the branch is closed."""
    layers: list[nn.Module] = []
    for number, kernel in enumerate(kernels, 1):
        layers.append(
            nn.Conv1d(
                wider if number > 1 else channels, wider, kernel, padding=kernel // 2, bias=norm == "none"
            )
        )
        if norm != "none":
            layers.append(nn.BatchNorm1d(wider) if norm == "batch" else nn.GroupNorm(1, wider))
        if closed or number < len(kernels):
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Trunk(nn.Sequential):
    """Stages of residual blocks, a mean over `pool` pixels after each; (B, 1, P) becomes (B, last of `channels`, P // `shrinks`).

    The last pixels, too few for a mean, are left out; none are where `shrinks` divides P.
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
        for before, wide in zip((1, *channels), channels, strict=False):
            layers += [
                Block(before if number == 0 else wide, wide, branches, closed, norm)
                for number in range(blocks)
            ]
            layers.append(nn.AvgPool1d(pool))
        super().__init__(*layers, nn.ReLU())
        self.shrinks: int = pool ** len(channels)


def equal_pieces(steps: int, channels: int, shrinks: int) -> int:
    """What a length must be a multiple of, so that `channels` of its `shrinks`-th part make so many equal pieces."""
    return shrinks * (steps // math.gcd(steps, channels))


class Pieces(nn.Module):
    """A row of numbers cut into equal pieces, which a recurrent layer (tanh) reads one after the other; as many numbers come out."""

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        if size % steps:
            raise ValueError(
                f"model: {size} features make no {steps} equal pieces; pick a number of steps that divides them"
            )
        self.steps, self.width = steps, size // steps
        self.rnn = nn.RNN(self.width, self.width, batch_first=True)

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, D) to (B, D)."""
        out_BTD: Tensor = self.rnn(x_BD.reshape(len(x_BD), self.steps, self.width))[0]
        return out_BTD.flatten(1)


class Dense(nn.Module):
    """Heads of one layer that tasks share, one of each task's own, and the answers; `latent` is what the last sees, for classes, then labels.

    `constrained`: the classifier's features are added to the regressor's, so that what makes a class also moves the labels.
    """

    def __init__(self, features: int, options: Ends, task: Task, constrained: bool = False) -> None:
        super().__init__()
        tasks = ["cls"] * task.classifies + ["reg"] * task.regresses
        if constrained and len(tasks) < 2:
            raise ValueError(
                f"model: constrained=true joins classes and labels, the task is {task.kind}; set constrained=false, or task=cls_reg"
            )
        self.constrained = constrained
        self.shared = _layer(features, options.shared, options.dropout)
        self.own = nn.ModuleDict(
            {name: _layer(options.shared, options.own, options.dropout) for name in tasks}
        )
        self.last = Heads(options.own, options.own, task)

    def forward(self, x_BD: Tensor) -> Answers:
        """Answers from the flattened features of the body."""
        shared_BD = self.shared(x_BD)
        features = [layer(shared_BD) for layer in self.own.values()]
        if self.constrained:
            features[1] = features[1] + features[0]
        answers: Answers = self.last(features[0], features[-1])
        return answers | {"latent": torch.cat(features, 1)}


def _layer(features: int, wide: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, wide), nn.ReLU(inplace=True), Dropout(dropout))
