"""StarNet: two convolutions, one pooling, wide dense layers. Quick to compute, with many parameters.

Differences from the original: any length works; a recurrent layer may stand before or after the convolutions;
spectra are padded with continuum to a multiple of the pooling.
"""

import math

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import DenseHeads, Padding, Pieces, multiple_for_pieces
from survey.models.network import Network, Outputs
from survey.models.options import DenseOptions, Kernel, RecurrentMode, Size, Sizes
from survey.models.settings import Task


class Options(DenseOptions):
    """Architecture of a StarNet; the defaults are those of the CEMP search."""

    multiple: Size = Field(
        4, description="spectra are padded with continuum to a multiple of this many pixels"
    )
    mode: RecurrentMode = Field(
        "raw", description="place of a recurrent layer: none, before the convolutions, or after them"
    )
    channels: Sizes = Field((4, 16), description="channels of each convolution")
    kernel: Kernel = Field(3, description="width of a convolution in pixels, odd")
    pool: Size = Field(4, description="pixels of which the largest is kept")
    steps: Size = Field(
        20, description="equal pieces to read: of the spectrum (pre-RNN), of the pooled features (post-RNN)"
    )


class Net(Network):
    """StarNet."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.padding = Padding(pixels, _multiple(options), options.centred, least=options.pool)
        layers: list[nn.Module] = []
        for inputs, width in zip((1, *options.channels), options.channels, strict=False):
            layers.append(nn.Conv1d(inputs, width, options.kernel, padding=options.kernel // 2))
            layers.append(nn.ReLU(inplace=True))
        self.trunk = nn.Sequential(*layers, nn.MaxPool1d(options.pool))
        features = self.padding.length // options.pool * options.channels[-1]
        self.before = Pieces(self.padding.length, options.steps) if options.mode == "pre-RNN" else None
        self.after = Pieces(features, options.steps) if options.mode == "post-RNN" else None
        self.heads = DenseHeads(features, options, task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the normalised flux alone."""
        x_BCP = self.padding(flux_BP)
        if self.before is not None:
            x_BCP = self.before(x_BCP.flatten(1))[:, None]
        x_BCT = self.trunk(x_BCP)
        x_BD = x_BCT.flatten(1) if self.after is None else self.after(x_BCT.transpose(1, 2).flatten(1))
        outputs: Outputs = self.heads(x_BD)
        return outputs


def _multiple(options: Options) -> int:
    """The multiple that the length of a spectrum has to be of, so that the pieces are equal."""
    if options.mode == "pre-RNN":
        return math.lcm(options.multiple, options.steps)
    if options.mode == "post-RNN":
        return multiple_for_pieces(options.steps, options.channels[-1], options.pool)
    return options.multiple
