"""BGANet: a spectrum as a sequence of a few bands, read by two bidirectional GRUs, then attention between the bands.

`attention` says how much each band looks at each other one. Against the original: spectra are lengthened with continuum instead of their
last value; logits come out, so that the loss applies the one softmax; in the joint task the classifier's logits and those made of the
labels are averaged, which averages log-probabilities (up to a constant that no softmax sees); the spreads are log variances.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import Start
from survey.models.network import Answers, Dropout, Heads, Network, Task
from survey.settings import Settings


class Options(Settings):
    """Architecture of a BGANet; the defaults are the CEMP search's."""

    bands: int = Field(6, ge=1, description="equal bands that a spectrum is cut into: steps of the sequence")
    wide: int = Field(64, ge=1, description="width of the first GRU, per direction")
    narrow: int = Field(32, ge=1, description="width of the second GRU, per direction")
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of features that are dropped after each GRU in training"
    )
    centred: bool = Field(False, description="the continuum lies at 0 instead of 1")


class Attention(nn.Module):
    """Each step becomes a mean of all steps, weighted by how well they match."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.asked = nn.Linear(features, 3 * features)
        self.told = nn.Linear(features, features)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The new steps and the weights (B, T, T); those of a step sum to 1."""
        query_BTD, key_BTD, value_BTD = self.asked(x_BTD).chunk(3, 2)
        match_BTT = query_BTD @ key_BTD.transpose(1, 2) * x_BTD.shape[2] ** -0.5
        weight_BTT = torch.softmax(match_BTT, 2)
        return self.told(weight_BTT @ value_BTD), weight_BTT


class Net(Network):
    """BGANet."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.start = Start(pixels, options.bands, options.centred)
        self.first = nn.GRU(
            self.start.length // options.bands, options.wide, batch_first=True, bidirectional=True
        )
        self.norm = nn.BatchNorm1d(2 * options.wide)
        self.second = nn.GRU(2 * options.wide, options.narrow, batch_first=True, bidirectional=True)
        self.drop = Dropout(options.dropout)
        self.attention = Attention(2 * options.narrow)
        self.heads = _Judge(2 * options.narrow, task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the normalised flux alone."""
        bands_BTP = self.start(flux_BP).reshape(len(flux_BP), -1, self.first.input_size)
        x_BTD, _ = self.first(bands_BTP)
        x_BTD = self.norm(self.drop(x_BTD).flatten(0, 1)).view_as(x_BTD)
        x_BTD, _ = self.second(x_BTD)
        x_BTD, weight_BTT = self.attention(self.drop(x_BTD))
        latent_BD = torch.relu(x_BTD.mean(1))
        answers: Answers = self.heads(latent_BD)
        return answers | {"latent": latent_BD, "attention": weight_BTT}


class _Judge(nn.Module):
    """The answers; where both are asked for, labels have a say in the class."""

    def __init__(self, features: int, task: Task) -> None:
        super().__init__()
        self.last = Heads(features, features, task)
        self.of_labels = nn.Linear(len(task.labels), task.classes) if task.kind == "cls_reg" else None

    def forward(self, x_BD: Tensor) -> Answers:
        answers: Answers = self.last(x_BD, x_BD)
        if self.of_labels is not None:
            answers["logits"] = (answers["logits"] + self.of_labels(answers["mu"])) / 2
        return answers
