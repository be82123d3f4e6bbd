"""RRNet: a thin residual trunk with a recurrent layer after it (post-RNN), before it (pre-RNN) or none (raw).

The defaults are the version of the CEMP search, where a convolution turns the trunk's output into a short
sequence. `channels=[4,8,16] pool=2 embedding=null steps=40` is the first RRNet, which cuts the trunk's output
into pieces. Differences from the originals:
- spectra are padded with continuum to a true multiple;
- all modes work at any length;
- a step is a range of wavelengths with all its channels; the original swapped two axes and so mixed channels
  with wavelengths.
"""

import math

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import DenseHeads, Padding, Pieces, Trunk, multiple_for_pieces
from survey.models.network import Network, Outputs
from survey.models.options import DenseOptions, Kernel, RecurrentMode, Size, Sizes
from survey.models.settings import Task


class Options(DenseOptions):
    """Architecture of an RRNet; the defaults are those of the CEMP search."""

    mode: RecurrentMode = Field(
        "post-RNN", description="place of the recurrent layer: none, before the trunk, or after it"
    )
    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    kernel: Kernel = Field(3, description="width in pixels of the trunk's convolutions, odd")
    pool: int = Field(3, ge=2, description="pixels that are averaged into one after each stage")
    embedding: Size | None = Field(
        50,
        description="post-RNN: channels of the convolution before it, which divides the length by 3; "
        "null: cut into `steps` pieces",
    )
    steps: Size = Field(
        20,
        description="equal pieces to read: of the spectrum (pre-RNN), "
        "of the trunk's output (post-RNN without embedding)",
    )


class Net(Network):
    """RRNet."""

    learning_rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        kernels = ((options.kernel, options.kernel),)
        self.trunk = Trunk(options.channels, 1, options.pool, kernels)
        self.padding = Padding(pixels, _multiple(options), options.centred, least=self.trunk.shrinks)
        length, width = self.padding.length // self.trunk.shrinks, options.channels[-1]
        steps = options.steps
        self.before = Pieces(self.padding.length, steps) if options.mode == "pre-RNN" else None
        self.embed = None
        if options.mode == "post-RNN" and options.embedding is not None:
            self.embed = nn.Sequential(
                nn.Conv1d(width, options.embedding, 3, stride=3, padding=1), nn.ReLU(inplace=True)
            )
            length, width = (length - 1) // 3 + 1, options.embedding
            steps = length
        self.after = Pieces(length * width, steps) if options.mode == "post-RNN" else None
        self.heads = DenseHeads(length * width, options, task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the normalised flux alone."""
        x_BCP = self.padding(flux_BP)
        if self.before is not None:
            x_BCP = self.before(x_BCP.flatten(1))[:, None]
        x_BCT = self.trunk(x_BCP)
        if self.embed is not None:
            x_BCT = self.embed(x_BCT)
        x_BD = x_BCT.transpose(1, 2).flatten(1)
        outputs: Outputs = self.heads(x_BD if self.after is None else self.after(x_BD))
        return outputs


def _multiple(options: Options) -> int:
    """The multiple that the length of a spectrum has to be of, so that the pieces are equal."""
    if options.mode == "pre-RNN":
        return math.lcm(options.multiple, options.steps)
    if options.mode == "post-RNN" and options.embedding is None:
        shrinks = options.pool ** len(options.channels)
        return multiple_for_pieces(options.steps, options.channels[-1], shrinks)
    return options.multiple
