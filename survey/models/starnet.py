"""StarNet: two convolutions, one pooling, wide dense layers. Quick to compute, large in parameters.

Against the original: it works at any length, with a recurrent layer before or after the convolutions too; spectra are lengthened with
continuum, to a multiple of the pooling.
"""

import math

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import Dense, Ends, Kernel, Mode, Pieces, Sizes, Start, equal_pieces
from survey.models.network import Answers, Network, Task


class Options(Ends):
    """Architecture of a StarNet; the defaults are the CEMP search's."""

    multiple: int = Field(
        4, ge=1, description="spectra are lengthened with continuum to a multiple of this many pixels"
    )
    mode: Mode = Field(
        "raw", description="where a recurrent layer stands: nowhere, before the convolutions, after them"
    )
    channels: Sizes = Field((4, 16), description="channels of each convolution")
    kernel: Kernel = Field(3, description="pixels of a convolution, odd")
    pool: int = Field(4, ge=1, description="pixels of which the largest is kept")
    steps: int = Field(
        20,
        ge=1,
        description="equal pieces to read: of the spectrum (pre-RNN), of the pooled features (post-RNN)",
    )

    @property
    def unit(self) -> int:
        """What the length of a spectrum has to be a multiple of, so that the pieces are equal."""
        if self.mode == "pre-RNN":
            return math.lcm(self.multiple, self.steps)
        if self.mode == "post-RNN":
            return equal_pieces(self.steps, self.channels[-1], self.pool)
        return self.multiple


class Net(Network):
    """StarNet."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.start = Start(pixels, options.unit, options.centred, least=options.pool)
        layers: list[nn.Module] = []
        for before, wide in zip((1, *options.channels), options.channels, strict=False):
            layers += [
                nn.Conv1d(before, wide, options.kernel, padding=options.kernel // 2),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(*layers, nn.MaxPool1d(options.pool))
        features = self.start.length // options.pool * options.channels[-1]
        self.before = Pieces(self.start.length, options.steps) if options.mode == "pre-RNN" else None
        self.after = Pieces(features, options.steps) if options.mode == "post-RNN" else None
        self.heads = Dense(features, options, task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the normalised flux alone."""
        x_BCP = self.start(flux_BP)
        if self.before is not None:
            x_BCP = self.before(x_BCP.flatten(1))[:, None]
        x_BCT = self.trunk(x_BCP)
        answers: Answers = self.heads(
            x_BCT.flatten(1) if self.after is None else self.after(x_BCT.transpose(1, 2).flatten(1))
        )
        return answers
