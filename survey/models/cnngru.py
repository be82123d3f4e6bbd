"""The last network of system 1: three residual blocks, and parallel to them a bidirectional GRU.

171,073 parameters for one label with the GRU, 112,961 without. The GRU reads half as many steps as there are
pixels, one after the other: on a CPU it takes most of the time. Batch norms follow new batches quickly
(momentum 0.5), as in the original. Difference from the original: the first padding is continuum, because the
network subtracts 1 from the flux. Shapes: see `survey.models.network`.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Perceptron,
    PerceptronHeads,
    ResidualBlock,
    check_pixels,
    mean_over_steps,
)
from survey.models.network import FeatureDropout, Network, Outputs
from survey.models.options import Share, Size
from survey.models.settings import Task
from survey.settings import Settings


class Options(Settings):
    """The size of the network."""

    recurrent: bool = Field(
        True, description="whether a GRU reads the spectrum parallel to the residual blocks"
    )
    channels: Size = Field(64, description="channels of the convolutions; the GRU has as many per direction")
    blocks: Size = Field(3, description="residual blocks")
    momentum: float = Field(
        0.5, gt=0, le=1, description="weight of the newest batch in the running statistics of the batch norms"
    )
    dropout_body: Share = Field(0.1, description="dropout after the first convolution")
    dropout: tuple[Share, Share] = Field(
        (0.25, 0.15),
        strict=False,
        description="dropout after the first and the second layer of the perceptron",
    )


class Net(Network):
    """A convolution, residual blocks and a GRU in parallel, merged, their mean, a perceptron."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        check_pixels("cnngru", pixels, 4)
        width, momentum = options.channels, options.momentum
        self.stem = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3),
            nn.BatchNorm1d(width, momentum=momentum),
            nn.ReLU(),
            FeatureDropout(options.dropout_body),
            nn.MaxPool1d(2),
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(width, width, 3, momentum=momentum) for _ in range(options.blocks))
        )
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True) if options.recurrent else None
        joined = 3 * width if options.recurrent else width
        self.merge = nn.Sequential(
            nn.Conv1d(joined, width, 1), nn.BatchNorm1d(width, momentum=momentum), nn.ReLU()
        )
        self.heads = PerceptronHeads(Perceptron(width, (256, 64), options.dropout), task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the mean over the steps of blocks and GRU."""
        stem_BCT = self.stem(flux_BP[:, None] - 1)
        features_BCT = self.blocks(stem_BCT)
        if self.gru is not None:
            recurrent_BTC = self.gru(stem_BCT.transpose(1, 2))[0]
            features_BCT = torch.cat([features_BCT, recurrent_BTC.transpose(1, 2)], dim=1)
        outputs: Outputs = self.heads(mean_over_steps(self.merge(features_BCT)))
        return outputs
