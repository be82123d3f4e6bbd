"""MPBDNet of the CEMP search: four stages of double-branch blocks, then a bidirectional LSTM.

Each block is the sum of its input, a branch of short kernels and one of long kernels. The directions of the
LSTM are averaged, not joined. Differences from the original:
- spectra are padded with continuum to a true multiple (8, as the original intended; of 4900 pixels the
  pooling then leaves out the last 40, with `multiple=81` none);
- `constrained` brings back the classification-constrained regression of the first version;
- norm, widths and stages are settings: `channels=[16,32,64] norm=batch embedding=128 hidden=128` is the
  variant of the time series library.
"""

from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import DenseHeads, Padding, Trunk
from survey.models.network import Network, Outputs
from survey.models.options import DenseOptions, Kernels, Norm, Size, Sizes
from survey.models.settings import Task


class Options(DenseOptions):
    """Architecture of an MPBDNet; the defaults are those of the CEMP search."""

    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    blocks: Size = Field(3, description="blocks of each stage")
    short: Kernels = Field((3, 3), description="widths in pixels of the first branch's convolutions, odd")
    long: Kernels = Field((5, 7), description="widths in pixels of the second branch's convolutions, odd")
    pool: int = Field(3, ge=2, description="pixels that are averaged into one after each stage")
    norm: Norm = Field(
        "none",
        description="norm after each convolution: none, batch, or layer (over channels and pixels)",
    )
    embedding: Size = Field(
        50, description="channels of the convolution before the LSTM, which halves the length"
    )
    hidden: Size = Field(50, description="width of the LSTM, per direction")
    constrained: bool = Field(
        False, description="cls_reg only: add the classifier's features to the regressor's"
    )


class Net(Network):
    """MPBDNet."""

    learning_rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        kernels = (options.short, options.long)
        self.trunk = Trunk(
            options.channels, options.blocks, options.pool, kernels, closed=True, norm=options.norm
        )
        self.padding = Padding(pixels, options.multiple, options.centred, least=self.trunk.shrinks)
        self.embed = nn.Sequential(
            nn.Conv1d(options.channels[-1], options.embedding, 3, stride=2, padding=1), nn.ReLU(inplace=True)
        )
        self.lstm = nn.LSTM(options.embedding, options.hidden, batch_first=True, bidirectional=True)
        steps = (self.padding.length // self.trunk.shrinks - 1) // 2 + 1
        self.heads = DenseHeads(steps * options.hidden, options, task, options.constrained)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the normalised flux alone."""
        x_BCT = self.embed(self.trunk(self.padding(flux_BP)))
        both_BTD = self.lstm(x_BCT.transpose(1, 2))[0]
        mean_BTD = both_BTD.unflatten(2, (2, -1)).mean(2)
        outputs: Outputs = self.heads(mean_BTD.flatten(1))
        return outputs
