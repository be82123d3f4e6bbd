"""Our own large network: it uses the noise of pixels, shortens spectra early, reads lines at their place.

*Noise*: the mean spectrum is subtracted and bad pixels are set to 0; a weight of each pixel by its noise is a
second channel. *Shortening*: the first convolution has a stride of 8 pixels, the second one of 4, so most
arithmetic is done on a thirty-second of the length, and the residual blocks have a wide view. *Places*:
spectra are in their rest frame, so the last features are not averaged over wavelength but read where they
are. Where the store has continua, `broad` adds their shape, which carbon bands and temperature change too.

Between the convolutions, a spectrum is an image of one row (B, C, 1, P) whose channels are neighbours in
memory. CPUs compute it in this order; from the other, every convolution would sort it first, which takes a
third of the time.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from survey.models.network import FeatureDropout, Heads, Network, Outputs
from survey.models.options import Kernel, Share, Size, Sizes
from survey.models.settings import Task
from survey.models.statistics import Difference
from survey.settings import Settings


class Options(Settings):
    """The network's architecture."""

    channels: Sizes = Field((32, 64), description="channels after each strided convolution")
    steps: Sizes = Field((8, 4), description="stride of each of these convolutions, in pixels")
    blocks: Sizes = Field((1, 2), description="residual blocks after each of these convolutions")
    kernel: Kernel = Field(7, description="width in pixels of the blocks' convolutions, odd")
    group: Size = Field(16, description="channels per group of the blocks' convolutions")
    kept: Size = Field(12, description="channels that the dense layers read at every place")
    hidden: int = Field(256, ge=4, description="width of the dense layers")
    dropout: Share = Field(0.1, description="share of the dense features that are dropped in training")
    broad: int = Field(
        0,
        ge=0,
        le=512,
        description="bins of the continuum's shape as extra input; 0 = none; needs prepare.continuum=dual",
    )


class Convolution(nn.Conv1d):
    """A convolution along the row of an image of one row."""

    def forward(self, x_BC1P: Tensor) -> Tensor:
        """As by `Conv1d`, in the memory order of the input."""
        (stride,), padding = self.stride, self.padding[0]
        assert isinstance(padding, int)
        weight = self.weight[:, :, None]
        return functional.conv2d(x_BC1P, weight, self.bias, (1, stride), (0, padding), groups=self.groups)


class EchelleBlock(nn.Module):
    """A residual block: a grouped convolution, a norm over the spectrum, a small dense layer at each place.

    Its contribution to the sum starts at 0.3.
    """

    def __init__(self, channels: int, kernel: int, group: int) -> None:
        super().__init__()
        groups = max(channels // group, 1)
        if channels % groups:
            raise ValueError(
                f"echelle: options.group={group} does not divide {channels} channels; "
                "give channels that are multiples of options.group"
            )
        self.along = Convolution(channels, channels, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.GroupNorm(1, channels)
        self.wide, self.back = Convolution(channels, 2 * channels, 1), Convolution(2 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1), 0.3))

    def forward(self, x_BC1P: Tensor) -> Tensor:
        """x plus the scaled output of the block."""
        added_BC1P: Tensor = self.back(functional.silu(self.wide(self.norm(self.along(x_BC1P)))))
        return x_BC1P + self.scale[..., None] * added_BC1P


class Net(Network):
    """Difference from the mean, strided convolutions with residual blocks, dense layers, heads."""

    learning_rate = 2e-3

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        lengths = len(options.channels), len(options.steps), len(options.blocks)
        if len(set(lengths)) > 1:
            raise ValueError(
                "echelle: channels, steps and blocks have {}, {}, {} entries; give as many in each".format(
                    *lengths
                )
            )
        self.extra_inputs = ("continuum",) if options.broad else ()
        self.difference = Difference(pixels)
        self.trunk, length = _trunk(pixels, options)
        self.dropout = FeatureDropout(options.dropout)
        self.gather = nn.Linear(length * options.kept, options.hidden)
        if options.broad:
            self.broad = nn.Linear(options.broad, options.hidden // 4)
        width = options.hidden + (options.hidden // 4 if options.broad else 0)
        self.mix, self.last = nn.Linear(width, options.hidden), nn.Linear(options.hidden, options.hidden)
        self.heads = Heads(options.hidden, options.hidden, task)

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The mean of every pixel, and the spread between stars."""
        del continuum_BP
        self.difference.fit(flux_BP, ivar_BP)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Subtract the mean, shorten, read with dense layers, compute the outputs."""
        difference_BP, weight_BP = self.difference(flux_BP, ivar_BP)
        pixels_BP2 = torch.stack([difference_BP, weight_BP - 0.5], -1)
        features_BD = self.trunk(pixels_BP2.transpose(1, 2)[:, :, None])
        z_BD = functional.silu(self.gather(self.dropout(features_BD)))
        if continuum_BP is not None and self.extra_inputs:
            log_B1P = continuum_BP.clamp_min(1e-3).log()[:, None]
            shape_BK = functional.adaptive_avg_pool1d(log_B1P, self.broad.in_features)[:, 0]
            z_BD = torch.cat([z_BD, self.broad(shape_BK)], 1)
        for layer in (self.mix, self.last):
            z_BD = self.dropout(functional.silu(layer(z_BD)))
        outputs: Outputs = self.heads(z_BD, z_BD)
        return outputs | {"latent": z_BD}


def _trunk(pixels: int, options: Options) -> tuple[nn.Sequential, int]:
    """The strided convolutions with their blocks, and the length that is left."""
    layers: list[nn.Module] = []
    inputs, length = 2, pixels
    stages = zip(options.channels, options.steps, options.blocks, strict=True)
    for number, (channels, stride, blocks) in enumerate(stages):
        # The first convolution is wider than its stride, because a line is some pixels wide.
        kernel = 4 * stride if number == 0 else stride
        padding = (kernel - stride) // 2
        length = (length + 2 * padding - kernel) // stride + 1
        if length < 4:
            raise ValueError(
                f"echelle: options.steps={options.steps} leave fewer than 4 steps of {pixels} pixels; "
                "give smaller steps"
            )
        layers.append(Convolution(inputs, channels, kernel, stride, padding))
        layers += [EchelleBlock(channels, options.kernel, options.group) for _ in range(blocks)]
        inputs = channels
    last = nn.GroupNorm(1, inputs), Convolution(inputs, options.kept, 1), nn.Flatten()
    return nn.Sequential(*layers, *last), length
