"""ResNet-1D, the plain baseline: RRNet's residual trunk and dense heads, nothing recurrent.

Against the original, whose heads fit spectra of 3834 pixels only: any length works, and spectra are lengthened with continuum, to a true
multiple. Depth, kernels and norm are settings.
"""

from pydantic import Field
from torch import Tensor

from survey.models.layers import Dense, Ends, Kernel, Norm, Sizes, Start, Trunk
from survey.models.network import Answers, Network, Task


class Options(Ends):
    """Architecture of a ResNet-1D; the defaults are the CEMP search's."""

    channels: Sizes = Field((20, 40, 80, 160), description="channels of each stage")
    blocks: int = Field(1, ge=1, description="blocks of each stage")
    kernel: Kernel = Field(3, description="pixels of a convolution, odd")
    pool: int = Field(3, ge=2, description="pixels that become one after each stage")
    norm: Norm = Field(
        "none",
        description="after each convolution of a block: nothing, batch norm, or layer norm over channels and pixels",
    )


class Net(Network):
    """ResNet-1D."""

    rate = 3e-4

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.trunk = Trunk(
            options.channels,
            options.blocks,
            options.pool,
            ((options.kernel, options.kernel),),
            norm=options.norm,
        )
        self.start = Start(pixels, options.multiple, options.centred, least=self.trunk.shrinks)
        self.heads = Dense(self.start.length // self.trunk.shrinks * options.channels[-1], options, task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the normalised flux alone."""
        answers: Answers = self.heads(self.trunk(self.start(flux_BP)).flatten(1))
        return answers
