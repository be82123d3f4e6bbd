"""MPBDNet, the multi-path net of the CEMP search: four stages of double-branch blocks, then an LSTM in either direction.

Each block is the sum of its input, a branch of short kernels and one of long kernels. The LSTM's directions are averaged, not joined.
Against the original: spectra are lengthened with continuum, to a true multiple (8 as it meant; of 4900 pixels the pooling then leaves out
the last 40, with `multiple=81` none); `constrained` brings back the first version's classification-constrained regression; norm, widths
and stages are settings: `channels=[16,32,64] norm=batch embedding=128 hidden=128` is the variant of the time series library.
"""

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import Dense, Ends, Kernels, Norm, Sizes, Start, Trunk
from survey.models.network import Answers, Network, Task


class Options(Ends):
    """Architecture of an MPBDNet; the defaults are the CEMP search's."""

    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    blocks: int = Field(3, ge=1, description="blocks of each stage")
    short: Kernels = Field((3, 3), description="pixels of the convolutions of the one branch, odd")
    long: Kernels = Field((5, 7), description="pixels of the convolutions of the other branch, odd")
    pool: int = Field(3, ge=2, description="pixels that become one after each stage")
    norm: Norm = Field(
        "none",
        description="after each convolution of a branch: nothing, batch norm, or layer norm over channels and pixels",
    )
    embedding: int = Field(
        50, ge=1, description="channels of the convolution before the LSTM, which halves the length"
    )
    hidden: int = Field(50, ge=1, description="width of the LSTM, per direction")
    constrained: bool = Field(
        False, description="cls_reg only: the classifier's features are added to the regressor's"
    )


class Net(Network):
    """MPBDNet."""

    rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.trunk = Trunk(
            options.channels,
            options.blocks,
            options.pool,
            (options.short, options.long),
            closed=True,
            norm=options.norm,
        )
        self.start = Start(pixels, options.multiple, options.centred, least=self.trunk.shrinks)
        self.embed = nn.Sequential(
            nn.Conv1d(options.channels[-1], options.embedding, 3, stride=2, padding=1), nn.ReLU(inplace=True)
        )
        self.lstm = nn.LSTM(options.embedding, options.hidden, batch_first=True, bidirectional=True)
        steps = (self.start.length // self.trunk.shrinks - 1) // 2 + 1
        self.heads = Dense(steps * options.hidden, options, task, options.constrained)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the normalised flux alone."""
        x_BCT = self.embed(self.trunk(self.start(flux_BP)))
        both_BTD = self.lstm(x_BCT.transpose(1, 2))[0]
        mean_BTD = both_BTD.unflatten(2, (2, -1)).mean(2)
        answers: Answers = self.heads(mean_BTD.flatten(1))
        return answers
