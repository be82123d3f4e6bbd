"""Our own network: what every pixel is worth beside what it says, the spectrum cut short early, each line kept at its place.

*Worth*: the mean spectrum is taken off, a bad pixel says nothing; what each pixel is worth by its noise goes in beside it, as a channel.
*Cutting short*: the first convolution takes a step of 8 pixels, the second one of 4, so most arithmetic is done on a thirty-second of the
length, and normalised residual blocks reach far. *Places*: spectra lie in their rest frame, so the last features are not averaged over
wavelength but read where they are. Where the store keeps continua, `broad` adds their shape, which carbon bands and temperature change too.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from survey.models.difference import Difference
from survey.models.layers import Sizes
from survey.models.network import Answers, Dropout, Heads, Network, Task
from survey.settings import Settings


class Options(Settings):
    """The network's architecture."""

    channels: Sizes = Field((32, 64), description="channels after each cut")
    steps: Sizes = Field((8, 4), description="pixels of each cut")
    blocks: Sizes = Field((1, 2), description="residual blocks after each cut")
    kernel: int = Field(7, ge=1, description="pixels of the blocks' convolutions")
    group: int = Field(16, ge=1, description="channels that convolve together")
    kept: int = Field(12, ge=1, description="channels that are read at every place in the end")
    hidden: int = Field(256, ge=4, description="width of the dense layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of dense features left out in training")
    broad: int = Field(
        0,
        ge=0,
        le=512,
        description="bins of the continuum's shape that are looked at too; 0 = none; needs prepare.continuum=dual",
    )


class Block(nn.Module):
    """A convolution, normalised over the spectrum, and a small dense layer at each place; its part in the sum starts small."""

    def __init__(self, channels: int, kernel: int, group: int) -> None:
        super().__init__()
        groups = max(channels // group, 1)
        if channels % groups:
            raise ValueError(
                f"echelle: {channels} channels in groups of {group} leave a rest; give channels that are multiples of options.group"
            )
        self.along = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.GroupNorm(1, channels)
        self.wide, self.back = nn.Conv1d(channels, 2 * channels, 1), nn.Conv1d(2 * channels, channels, 1)
        self.part = nn.Parameter(torch.full((channels, 1), 0.3))

    def forward(self, x_BCP: Tensor) -> Tensor:
        """The same, and what this block finds in it."""
        found: Tensor = self.back(functional.silu(self.wide(self.norm(self.along(x_BCP)))))
        return x_BCP + self.part * found


class Net(Network):
    """Difference from the mean, cuts with residual blocks, dense layers, heads."""

    rate = 2e-3

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        if not len(options.channels) == len(options.steps) == len(options.blocks):
            raise ValueError(
                f"echelle: channels, steps and blocks have {len(options.channels)}, {len(options.steps)}, {len(options.blocks)} entries"
            )
        self.inputs = ("continuum",) if options.broad else ()
        self.difference = Difference(pixels)
        self.trunk, length = self._trunk(pixels, options)
        self.dropout = Dropout(options.dropout)
        self.gather = nn.Linear(length * options.kept, options.hidden)
        if options.broad:
            self.broad = nn.Linear(options.broad, options.hidden // 4)
        width = options.hidden + (options.hidden // 4 if options.broad else 0)
        self.mix, self.last = nn.Linear(width, options.hidden), nn.Linear(options.hidden, options.hidden)
        self.heads = Heads(options.hidden, options.hidden, task)

    @staticmethod
    def _trunk(pixels: int, options: Options) -> tuple[nn.Sequential, int]:
        """The cuts with their blocks, and the length that is left."""
        layers: list[nn.Module] = []
        before, length = 2, pixels
        for number, (channels, step, blocks) in enumerate(
            zip(options.channels, options.steps, options.blocks, strict=True)
        ):
            reach = (
                4 * step if number == 0 else step
            )  # the first cut looks beyond its step: a line is some pixels wide
            side = (reach - step) // 2
            length = (length + 2 * side - reach) // step + 1
            if length < 4:
                raise ValueError(
                    f"echelle: spectra of {pixels} pixels are cut to nothing by options.steps={options.steps}; give smaller steps"
                )
            layers.append(nn.Conv1d(before, channels, reach, step, side))
            layers += [Block(channels, options.kernel, options.group) for _ in range(blocks)]
            before = channels
        return nn.Sequential(
            *layers, nn.GroupNorm(1, before), nn.Conv1d(before, options.kept, 1), nn.Flatten()
        ), length

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """Mean of every pixel, and the spread between stars."""
        del continuum_BP
        self.difference.behold(flux_BP, ivar_BP)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Take the mean off, cut short, gather, answer."""
        light_BP, worth_BP = self.difference(flux_BP, ivar_BP)
        z_BD = functional.silu(
            self.gather(self.dropout(self.trunk(torch.stack([light_BP, worth_BP - 0.5], 1))))
        )
        if continuum_BP is not None and self.inputs:
            shape_BK = functional.adaptive_avg_pool1d(
                continuum_BP.clamp_min(1e-3).log()[:, None], self.broad.in_features
            )[:, 0]
            z_BD = torch.cat([z_BD, self.broad(shape_BK)], 1)
        for layer in (self.mix, self.last):
            z_BD = self.dropout(functional.silu(layer(z_BD)))
        answers: Answers = self.heads(z_BD, z_BD)
        return answers | {"latent": z_BD}
