"""FreqInceptionLNet of system 3: the continuum by its frequencies, the normalised flux by convolutions of several widths, both gated together.

3,748,372 parameters for four labels, at any number of pixels. Norms are over channels (`norm=layer`, the original) or over the batch
(`norm=batch`, its sibling FreqInceptionNet); the perceptron's are over features either way, as a batch of one spectrum has no spread. Mended:
the Fourier transform is always float32 or better, for half precision overflows in it (the original's NaN); flux and continuum enter less 1, so
that the first padding is continuum and the zero frequency holds no constant. Shapes: see `survey.models.network`; F frequencies.
"""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Inception,
    Norm,
    Perceptron,
    PerceptronHeads,
    demand,
    mean_over_steps,
    norm,
)
from survey.models.network import Answers, Dropout, Network, Task
from survey.settings import Settings

BLOCKS = ((16, (3, 5, 7), 8), (32, (3, 5, 9), 16), (64, (3, 5, 11), 16), (96, (3, 5), 16))
"""Inception blocks: channels per width, the widths, how far their weighing is squeezed."""


class Options(Settings):
    """How the network norms, gates, and what it takes the frequencies of."""

    norm: Norm = Field(
        "layer", description="of the convolutions: over the channels of each step, or over the batch"
    )
    frequency_of: Literal["continuum", "flux"] = Field(
        "continuum", description="what is Fourier transformed; flux where a store has no continuum"
    )
    gated: int = Field(256, ge=1, description="features of each direction of the gates")
    dropout: float = Field(0.3, ge=0, lt=1, description="of the joined features and in the perceptron")
    dropout_gates: float = Field(
        0.2, ge=0, lt=1, description="between the gates and on the features of the frequencies"
    )


class Frequencies(nn.Module):
    """A curve by real and imaginary part of its Fourier transform, through three convolutions to features."""

    def __init__(self, kind: Norm, features: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        for (before, after), kernel in zip(pairwise((2, 16, 32, 64)), (7, 5, 3), strict=True):
            self.convolutions.append(
                nn.Sequential(nn.Conv1d(before, after, kernel, 2, kernel // 2), norm(kind, after), nn.ReLU())
            )
        self.perceptron = Perceptron(64, (features,), (dropout,))

    def forward(self, curve_BP: Tensor) -> Tensor:
        """Features (B, D) of curves whose continuum is 0."""
        features_BD: Tensor = self.perceptron(mean_over_steps(self.convolutions(parts(curve_BP))))
        return features_BD


def parts(curve_BP: Tensor) -> Tensor:
    """Real and imaginary part of the orthonormal Fourier transform, (B, 2, F): of the curve's own precision, at least float32.

    Autocast is off here, and the precision raised by hand, as spectra may come in halves.
    """
    wide_BP = curve_BP.to(torch.promote_types(curve_BP.dtype, torch.float32))
    with torch.autocast(curve_BP.device.type, enabled=False):
        return torch.view_as_real(torch.fft.rfft(wide_BP, norm="ortho")).transpose(1, 2)


class Gates(nn.Module):
    """Two layers of LSTM in both directions over a sequence of length 1: as there is no past, only a perceptron with gates. Kept as it was."""

    def __init__(self, inputs: int, features: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.LSTM(inputs, features, batch_first=True, bidirectional=True)
        self.dropout = Dropout(dropout)
        self.second = nn.LSTM(2 * features, features, batch_first=True, bidirectional=True)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Gated features, those of both directions joined."""
        first_BTD = self.first(x_BD[:, None])[0]
        second_BD: Tensor = self.second(self.dropout(first_BTD))[0][:, 0]
        return second_BD


class Net(Network):
    """Two branches, joined and gated, and a perceptron."""

    inputs: tuple[str, ...] = ("continuum",)

    rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        demand("freqinception", pixels, 2 ** (len(BLOCKS) - 1))
        self.inputs = ("continuum",) if options.frequency_of == "continuum" else ()
        self.frequencies = Frequencies(options.norm, 256, options.dropout_gates)
        self.shapes = nn.Sequential()
        channels = 1
        for place, (width, kernels, reduction) in enumerate(BLOCKS, 1):
            block = Inception(channels, width, kernels, options.norm, reduction)
            self.shapes.append(nn.Sequential(block, nn.MaxPool1d(2)) if place < len(BLOCKS) else block)
            channels = block.channels
        self.dropout = Dropout(options.dropout)
        self.gates = Gates(256 + channels, options.gated, options.dropout_gates)
        self.heads = PerceptronHeads(
            Perceptron(2 * options.gated, (512, 256), [options.dropout] * 2, normed=True), task
        )

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the frequencies of the continuum (or flux) and the shapes of the lines."""
        curve_BP = continuum_BP if "continuum" in self.inputs and continuum_BP is not None else flux_BP
        features_BD = [self.frequencies(curve_BP - 1), mean_over_steps(self.shapes(flux_BP[:, None] - 1))]
        answers: Answers = self.heads(self.gates(self.dropout(torch.cat(features_BD, dim=1))))
        return answers
