"""FreqInceptionLNet of system 3: frequencies of the continuum, inception blocks of the flux, joined by gates.

3,748,372 parameters for four labels, at any number of pixels. Norms are over channels (`norm=layer`, the
original) or over the batch (`norm=batch`, its sibling FreqInceptionNet); the perceptron's norms are over
features in both, because a batch of one spectrum has no spread. Differences from the original:
- the Fourier transform is always float32 or better, because half precision overflows in it (the original's
  NaN);
- the network subtracts 1 from flux and continuum, so that the first padding is continuum and the zero
  frequency has no constant.

Shapes: see `survey.models.network`; F frequencies.
"""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Inception,
    Perceptron,
    PerceptronHeads,
    check_pixels,
    mean_over_steps,
    norm_layer,
)
from survey.models.network import FeatureDropout, Network, Outputs
from survey.models.options import Share, Size, StepNorm
from survey.models.settings import Task
from survey.settings import Settings

BLOCKS = ((16, (3, 5, 7), 8), (32, (3, 5, 9), 16), (64, (3, 5, 11), 16), (96, (3, 5), 16))
"""Inception blocks: channels per width, the widths, the reduction of squeeze and excite."""


class Options(Settings):
    """Norms, gates, and the input of the Fourier transform."""

    norm: StepNorm = Field(
        "layer", description="norm of the convolutions: over the channels of each step, or over the batch"
    )
    frequency_of: Literal["continuum", "flux"] = Field(
        "continuum", description="input of the Fourier transform; flux where a store has no continuum"
    )
    gated: Size = Field(256, description="features of each direction of the gates")
    dropout: Share = Field(0.3, description="dropout of the joined features and in the perceptron")
    dropout_gates: Share = Field(
        0.2, description="dropout between the gates and on the features of the frequencies"
    )


class Frequencies(nn.Module):
    """Features of a curve: its Fourier transform through three convolutions and a perceptron."""

    def __init__(self, kind: StepNorm, features: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        for (before, after), kernel in zip(pairwise((2, 16, 32, 64)), (7, 5, 3), strict=True):
            convolution = nn.Conv1d(before, after, kernel, 2, kernel // 2)
            self.convolutions.append(nn.Sequential(convolution, norm_layer(kind, after), nn.ReLU()))
        self.perceptron = Perceptron(64, (features,), (dropout,))

    def forward(self, curve_BP: Tensor) -> Tensor:
        """Features (B, D) of curves whose continuum is 0."""
        features_BD: Tensor = self.perceptron(mean_over_steps(self.convolutions(fourier(curve_BP))))
        return features_BD


def fourier(curve_BP: Tensor) -> Tensor:
    """Real and imaginary part of the orthonormal Fourier transform, (B, 2, F), in float32 or better.

    Autocast is off here, and half precision is raised by hand.
    """
    wide_BP = curve_BP.to(torch.promote_types(curve_BP.dtype, torch.float32))
    with torch.autocast(curve_BP.device.type, enabled=False):
        return torch.view_as_real(torch.fft.rfft(wide_BP, norm="ortho")).transpose(1, 2)


class LstmGates(nn.Module):
    """Two bidirectional LSTM layers over a sequence of length 1, as in the original.

    Because there is no earlier step, they are a perceptron with gates.
    """

    def __init__(self, inputs: int, features: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.LSTM(inputs, features, batch_first=True, bidirectional=True)
        self.dropout = FeatureDropout(dropout)
        self.second = nn.LSTM(2 * features, features, batch_first=True, bidirectional=True)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Gated features of both directions, joined."""
        first_BTD = self.first(x_BD[:, None])[0]
        second_BD: Tensor = self.second(self.dropout(first_BTD))[0][:, 0]
        return second_BD


class Net(Network):
    """Two branches, joined and gated, and a perceptron."""

    extra_inputs: tuple[str, ...] = ("continuum",)
    learning_rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        check_pixels("freqinception", pixels, 2 ** (len(BLOCKS) - 1))
        self.extra_inputs = ("continuum",) if options.frequency_of == "continuum" else ()
        self.frequencies = Frequencies(options.norm, 256, options.dropout_gates)
        self.shapes = nn.Sequential()
        channels = 1
        for number, (width, kernels, reduction) in enumerate(BLOCKS, 1):
            block = Inception(channels, width, kernels, options.norm, reduction)
            self.shapes.append(nn.Sequential(block, nn.MaxPool1d(2)) if number < len(BLOCKS) else block)
            channels = block.channels
        self.dropout = FeatureDropout(options.dropout)
        self.gates = LstmGates(256 + channels, options.gated, options.dropout_gates)
        perceptron = Perceptron(2 * options.gated, (512, 256), [options.dropout] * 2, normed=True)
        self.heads = PerceptronHeads(perceptron, task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the frequencies of the continuum (or flux) and the shapes of the lines."""
        curve_BP = flux_BP if continuum_BP is None or "continuum" not in self.extra_inputs else continuum_BP
        features_BD = [self.frequencies(curve_BP - 1), mean_over_steps(self.shapes(flux_BP[:, None] - 1))]
        outputs: Outputs = self.heads(self.gates(self.dropout(torch.cat(features_BD, dim=1))))
        return outputs
