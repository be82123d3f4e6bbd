"""System 1's last network: three residual blocks and, beside them, a GRU that reads the same steps both ways.

171,073 parameters for one label with the GRU, 112,961 without. The GRU walks over half as many steps as there are pixels, one by one: it is
most of the time on a CPU. Batch norms follow new batches quickly (momentum 0.5), as the original's do. Mended: the first padding is continuum, as
flux enters less 1. Shapes: see `survey.models.network`.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Perceptron,
    PerceptronHeads,
    Residual,
    Share,
    demand,
    mean_over_steps,
)
from survey.models.network import Answers, Dropout, Network, Task
from survey.settings import Settings


class Options(Settings):
    """The size of the network."""

    recurrent: bool = Field(True, description="whether a GRU reads the spectrum beside the residual blocks")
    channels: int = Field(
        64, ge=1, description="channels of the convolutions; the GRU has as many per direction"
    )
    blocks: int = Field(3, ge=1, description="residual blocks")
    momentum: float = Field(
        0.5, gt=0, le=1, description="weight of the newest batch in the running statistics of the batch norms"
    )
    dropout_body: float = Field(0.1, ge=0, lt=1, description="after the first convolution")
    dropout: tuple[Share, Share] = Field(
        (0.25, 0.15), strict=False, description="after the first and the second layer of the perceptron"
    )


class Net(Network):
    """A convolution at half resolution, residual blocks and a GRU side by side, merged, their mean, a perceptron."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        demand("cnngru", pixels, 4)
        wide, momentum = options.channels, options.momentum
        self.stem = nn.Sequential(
            nn.Conv1d(1, wide, 7, padding=3),
            nn.BatchNorm1d(wide, momentum=momentum),
            nn.ReLU(),
            Dropout(options.dropout_body),
            nn.MaxPool1d(2),
        )
        self.blocks = nn.Sequential(
            *(Residual(wide, wide, 3, momentum=momentum) for _ in range(options.blocks))
        )
        self.gru = nn.GRU(wide, wide, batch_first=True, bidirectional=True) if options.recurrent else None
        joined = 3 * wide if options.recurrent else wide
        self.merge = nn.Sequential(
            nn.Conv1d(joined, wide, 1), nn.BatchNorm1d(wide, momentum=momentum), nn.ReLU()
        )
        self.heads = PerceptronHeads(Perceptron(wide, (256, 64), options.dropout), task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the mean over the steps of both readings."""
        start_BCT = self.stem(flux_BP[:, None] - 1)
        seen_BCT = self.blocks(start_BCT)
        if self.gru is not None:
            read_BTC = self.gru(start_BCT.transpose(1, 2))[0]
            seen_BCT = torch.cat([seen_BCT, read_BTC.transpose(1, 2)], dim=1)
        answers: Answers = self.heads(mean_over_steps(self.merge(seen_BCT)))
        return answers
