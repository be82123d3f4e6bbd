"""What the `Options` of several networks share: types of sizes, and settings of common parts.

This file imports nothing heavy. A network's file imports these names for its `Options`, so a misspelt option
is reported without loading torch (see `survey.plugins.options`).
"""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from survey import plugins
from survey.settings import Settings


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("is even; the width of a convolution is odd, so that it has a middle pixel")
    return value


Share = Annotated[float, Field(ge=0, lt=1)]
"""The share of features that a dropout sets to 0."""
Size = Annotated[int, Field(ge=1)]
"""A number of channels, steps or blocks."""
Sizes = Annotated[tuple[Size, ...], Field(strict=False, min_length=1)]
"""Sizes of layers that follow each other."""
Kernel = Annotated[Size, AfterValidator(_odd)]
"""The width of a convolution in pixels: odd, so that a spectrum keeps its length."""
Kernels = Annotated[tuple[Kernel, ...], Field(strict=False, min_length=1)]
"""Widths of convolutions that follow each other or lie side by side."""
Norm = Literal["none", "batch", "layer"]
"""The norm after a convolution: none, batch norm, or layer norm over channels and pixels of a spectrum."""
StepNorm = Literal["layer", "batch"]
"""The norm after a convolution: layer norm over the channels of each step, or batch norm."""
EncoderName = Literal["small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
"""The encoder of images: a few convolutions, or a ResNet."""
RecurrentMode = Literal["raw", "pre-RNN", "post-RNN"]
"""Where a recurrent layer stands: nowhere, before the convolutions, after them."""


class DenseOptions(Settings):
    """How a network pads a spectrum, and the dense layers before its outputs."""

    multiple: Size = Field(
        8, description="spectra are padded with continuum to a multiple of this many pixels"
    )
    centred: bool = Field(
        False, description="subtract 1, so that the continuum is at 0 like the padding of convolutions"
    )
    shared: Size = Field(256, description="width of the dense layer that all tasks share")
    own: Size = Field(128, description="width of the dense layer that each task has of its own")
    dropout: Share = Field(0.3, description="share of the dense features that are dropped in training")


class LatentOptions(Settings):
    """Settings of the latent of a variational network."""

    latent: Size = Field(40, description="numbers of the latent")
    beta: float = Field(1.0, ge=0, description="factor of the divergence (KL); above 1 = simpler latents")
    warm_up: float = Field(5.0, ge=0, description="epochs in which beta rises from 0")
    cycle: float = Field(
        0.0, ge=0, description="epochs after which beta starts from 0 again, for the first half; 0 = never"
    )
    free_bits: float = Field(
        0.0, ge=0, description="nats that each number of the latent may use without cost"
    )

    def beta_at(self, epoch: float) -> float:
        """Beta at this point of the training; at infinity, the full one."""
        since = math.fmod(epoch, self.cycle) if self.cycle and math.isfinite(epoch) else epoch
        rise = self.cycle / 2 if self.cycle else self.warm_up
        return self.beta * (min(1.0, since / rise) if rise else 1.0)


class BaselineOptions(Settings):
    """Base of the options of a baseline: a model that is fitted instead of trained by gradients."""


class TreeOptions(BaselineOptions):
    """The features that trees use, and how they grow."""

    features: Literal["both", "pixels", "components"] = Field(
        "both", description="what trees use: binned pixels, principal components, or both"
    )
    bin: Size = Field(8, description="neighbouring pixels that are averaged into one feature")
    components: int = Field(
        64, ge=1, le=1024, description="number of principal components; they are the latent features too"
    )
    rounds: int = Field(
        1000, ge=1, le=100_000, description="maximum number of trees in a forest (for classes: of each class)"
    )
    patience: int = Field(
        50,
        ge=0,
        description="a forest stops after this many rounds without a better validation loss; 0 = never",
    )
    report: Size = Field(
        50, description="rounds between two validations; each validation is an epoch of the history"
    )
    lr: float = Field(0.1, gt=0, le=1, description="learning rate: each tree's output is multiplied by it")
    depth: int = Field(4, ge=1, le=16, description="maximum depth of a tree")
    subsample: float = Field(0.8, gt=0, le=1, description="share of the spectra that a tree learns from")
    colsample: float = Field(0.2, gt=0, le=1, description="share of the features that a tree may use")
    l2: float = Field(1.0, ge=0, description="penalty on the squared outputs of leaves")


def is_baseline(model: str) -> bool:
    """Whether a model is fitted (a baseline) and not trained by gradients; loads no torch."""
    return issubclass(plugins.options("models", model), BaselineOptions)
