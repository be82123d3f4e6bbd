"""RRNet: a thin residual trunk with a recurrent layer after it (post-RNN), before it (pre-RNN) or none (raw).

The defaults are the fork of the CEMP search, where a convolution makes the trunk's output a short sequence. `channels=[4,8,16] pool=2
embedding=null steps=40` is the first RRNet, which cuts the trunk's output into pieces. Against the originals: spectra are lengthened with
continuum, to a true multiple; all modes work at any length; a step is a stretch of wavelengths with its channels, where an axis swapped
once too often mixed channels and places.
"""

import math

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import Dense, Ends, Kernel, Mode, Pieces, Sizes, Start, Trunk, equal_pieces
from survey.models.network import Answers, Network, Task


class Options(Ends):
    """Architecture of an RRNet; the defaults are the CEMP search's."""

    mode: Mode = Field(
        "post-RNN", description="where the recurrent layer stands: nowhere, before the trunk, after it"
    )
    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    kernel: Kernel = Field(3, description="pixels of a convolution of the trunk, odd")
    pool: int = Field(3, ge=2, description="pixels that become one after each stage")
    embedding: int | None = Field(
        50,
        ge=1,
        description="post-RNN: channels of the convolution before it, shortening by 3; null: cut into `steps`",
    )
    steps: int = Field(
        20,
        ge=1,
        description="equal pieces to read: of the spectrum (pre-RNN), of the trunk's output (post-RNN without embedding)",
    )

    @property
    def unit(self) -> int:
        """What the length of a spectrum has to be a multiple of, so that the pieces are equal."""
        if self.mode == "pre-RNN":
            return math.lcm(self.multiple, self.steps)
        if self.mode == "post-RNN" and self.embedding is None:
            return equal_pieces(self.steps, self.channels[-1], self.pool ** len(self.channels))
        return self.multiple


class Net(Network):
    """RRNet."""

    rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.trunk = Trunk(options.channels, 1, options.pool, ((options.kernel, options.kernel),))
        self.start = Start(pixels, options.unit, options.centred, least=self.trunk.shrinks)
        length, wide, steps = self.start.length // self.trunk.shrinks, options.channels[-1], options.steps
        self.before = Pieces(self.start.length, steps) if options.mode == "pre-RNN" else None
        self.embed = None
        if options.mode == "post-RNN" and options.embedding is not None:
            self.embed = nn.Sequential(
                nn.Conv1d(wide, options.embedding, 3, stride=3, padding=1), nn.ReLU(inplace=True)
            )
            length, wide = (length - 1) // 3 + 1, options.embedding
            steps = length
        self.after = Pieces(length * wide, steps) if options.mode == "post-RNN" else None
        self.heads = Dense(length * wide, options, task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the normalised flux alone."""
        x_BCP = self.start(flux_BP)
        if self.before is not None:
            x_BCP = self.before(x_BCP.flatten(1))[:, None]
        x_BCT = self.trunk(x_BCP)
        if self.embed is not None:
            x_BCT = self.embed(x_BCT)
        x_BD = x_BCT.transpose(1, 2).flatten(1)
        answers: Answers = self.heads(x_BD if self.after is None else self.after(x_BD))
        return answers
