"""Layers of the networks of systems 1 and 3: inception and residual blocks, attention, norms, perceptrons.

All layers take and give (B, C, T) or (B, D). Convolutions pad with 0, so the networks subtract 1 from the
flux: the padding of the first convolution is then continuum. Biases and norms are those of the originals,
whose parameter counts the tests check. Shapes: B spectra, C channels, T steps, S steps that are attended to,
H heads, D features.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from survey.models.network import FeatureDropout, Heads, Outputs
from survey.models.options import StepNorm
from survey.models.settings import Task


def check_pixels(net: str, pixels: int, least: int) -> None:
    """An error if spectra are too short for a network."""
    if pixels < least:
        raise ValueError(
            f"{net}: spectra have {pixels} pixels, it needs at least {least}; take a finer or longer grid"
        )


class ChannelNorm(nn.LayerNorm):
    """Mean 0 and deviation 1 over the channels, for each step of each spectrum alone."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x, normalised at each step, then scaled per channel."""
        return super().forward(x_BCT.transpose(1, 2)).transpose(1, 2)


def norm_layer(kind: StepNorm, channels: int) -> nn.Module:
    """The norm of that name."""
    return ChannelNorm(channels) if kind == "layer" else nn.BatchNorm1d(channels)


def rectifier(slope: float) -> nn.Module:
    """ReLU, or leaky ReLU with that slope below 0."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def mean_over_steps(x_BCT: Tensor) -> Tensor:
    """Global average pooling, (B, C)."""
    return x_BCT.mean(dim=-1)


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a weight that depends on the means of all channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction), bias=False)
        self.excite = nn.Linear(max(1, channels // reduction), channels, bias=False)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """x, its channels multiplied by weights between 0 and 1."""
        weight_BC = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean_over_steps(x_BCT)))))
        return x_BCT * weight_BC[:, :, None]


class Inception(nn.Module):
    """Parallel convolutions of several widths, each with norm and ReLU; channels are joined and weighted."""

    def __init__(
        self,
        inputs: int,
        width: int,
        kernels: Sequence[int],
        kind: StepNorm,
        reduction: int,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.channels = width * len(kernels)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(inputs, width, kernel, stride, kernel // 2), norm_layer(kind, width), nn.ReLU()
            )
            for kernel in kernels
        )
        self.excite = SqueezeExcite(self.channels, reduction)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The joined channels of all widths."""
        joined_BCT: Tensor = self.excite(torch.cat([branch(x_BCT) for branch in self.branches], dim=1))
        return joined_BCT


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, plus a shortcut (a 1x1 convolution if the channels change)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, slope: float = 0.0, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
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
        """The sum of branch and shortcut, rectified."""
        sum_BCT: Tensor = self.rectify(self.branch(x_BCT) + self.shortcut(x_BCT))
        return sum_BCT


class MultiHeadAttention(nn.Module):
    """Attention of a sequence to another or to itself, added to the sequence and normalised."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"attention: {heads} heads do not divide {channels} channels; change heads or channels"
            )
        self.heads = heads
        self.queries = nn.Linear(channels, channels, bias=False)
        self.keys = nn.Linear(channels, channels, bias=False)
        self.values = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BTC: Tensor, context_BSC: Tensor) -> Tensor:
        """x plus what it attends to in the context (which may be x), normalised."""
        attended_BHTC = scaled_dot_product_attention(
            _split(self.queries(x_BTC), self.heads),
            _split(self.keys(context_BSC), self.heads),
            _split(self.values(context_BSC), self.heads),
        )
        sum_BTC: Tensor = self.norm(x_BTC + self.out(attended_BHTC.transpose(1, 2).flatten(2)))
        return sum_BTC

    @torch.no_grad()
    def weights(self, x_BTC: Tensor, context_BSC: Tensor) -> Tensor:
        """The mean weights of the heads, (B, T, S); rows sum to 1. The full matrix is in memory."""
        queries_BHTC = _split(self.queries(x_BTC), self.heads)
        keys_BHSC = _split(self.keys(context_BSC), self.heads)
        match_BHTS = (queries_BHTC @ keys_BHSC.transpose(2, 3)) * queries_BHTC.shape[-1] ** -0.5
        return torch.softmax(match_BHTS, dim=-1).mean(dim=1)


def _split(x_BTC: Tensor, heads: int) -> Tensor:
    return x_BTC.reshape(*x_BTC.shape[:2], heads, -1).transpose(1, 2)


class Perceptron(nn.Sequential):
    """Linear layers, each with a norm if wanted, a rectifier and its dropout."""

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
            layers.append(nn.Linear(before, after))
            if normed:
                layers.append(nn.LayerNorm(after))
            layers += [rectifier(slope), FeatureDropout(share)]
        super().__init__(*layers)
        self.features = hidden[-1]


class PerceptronHeads(nn.Module):
    """A perceptron with the last layers of a task on top; its features are the latent ones."""

    def __init__(self, perceptron: Perceptron, task: Task) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.last = Heads(perceptron.features, perceptron.features, task)

    def forward(self, x_BD: Tensor) -> Outputs:
        """Outputs, `latent` among them."""
        latent_BD = self.perceptron(x_BD)
        outputs: Outputs = self.last(latent_BD, latent_BD) | {"latent": latent_BD}
        return outputs
