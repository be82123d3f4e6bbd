"""ResNet-1D, the plain network to compare with: residual trunk and dense heads of RRNet, not recurrent.

Differences from the original, whose heads fit spectra of 3834 pixels only: any length works; spectra are
padded with continuum to a true multiple; depth, kernels and norm are settings.
"""

from pydantic import Field
from torch import Tensor

from survey.models.layers import DenseHeads, Padding, Trunk
from survey.models.network import Network, Outputs
from survey.models.options import DenseOptions, Kernel, Norm, Size, Sizes
from survey.models.settings import Task


class Options(DenseOptions):
    """Architecture of a ResNet-1D; the defaults are those of the CEMP search."""

    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    blocks: Size = Field(1, description="blocks of each stage")
    kernel: Kernel = Field(3, description="width of a convolution in pixels, odd")
    pool: int = Field(3, ge=2, description="pixels that are averaged into one after each stage")
    norm: Norm = Field(
        "none",
        description="norm after each convolution: none, batch, or layer (over channels and pixels)",
    )


class Net(Network):
    """ResNet-1D."""

    learning_rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        kernels = ((options.kernel, options.kernel),)
        self.trunk = Trunk(options.channels, options.blocks, options.pool, kernels, norm=options.norm)
        self.padding = Padding(pixels, options.multiple, options.centred, least=self.trunk.shrinks)
        features = self.padding.length // self.trunk.shrinks * options.channels[-1]
        self.heads = DenseHeads(features, options, task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the normalised flux alone."""
        outputs: Outputs = self.heads(self.trunk(self.padding(flux_BP)).flatten(1))
        return outputs
