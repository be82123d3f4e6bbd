"""BGANet: two bidirectional GRUs read a spectrum as a few bands, then attention between the bands.

The output `attention` holds how much each band attends to each other band. Differences from the original:
- spectra are padded with continuum instead of their last value;
- the outputs are logits, so that the loss applies the only softmax;
- in the joint task, the classifier's logits and logits computed from the labels are averaged, which averages
  log probabilities (up to a constant that the softmax ignores);
- uncertainties are log variances.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.models.layers import Padding
from survey.models.network import FeatureDropout, Heads, Network, Outputs
from survey.models.options import Share, Size
from survey.models.settings import Task
from survey.settings import Settings


class Options(Settings):
    """Architecture of a BGANet; the defaults are those of the CEMP search."""

    bands: Size = Field(6, description="equal bands that a spectrum is cut into: the steps of the sequence")
    wide: Size = Field(64, description="width of the first GRU, per direction")
    narrow: Size = Field(32, description="width of the second GRU, per direction")
    dropout: Share = Field(0.2, description="share of features that are dropped after each GRU in training")
    centred: bool = Field(False, description="subtract 1, so that the continuum is at 0")


class BandAttention(nn.Module):
    """Attention with one head: each step becomes a mean of all steps, weighted by how well they match."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The new steps and the weights (B, T, T); the weights of a step sum to 1."""
        query_BTD, key_BTD, value_BTD = self.query_key_value(x_BTD).chunk(3, 2)
        match_BTT = query_BTD @ key_BTD.transpose(1, 2) * x_BTD.shape[2] ** -0.5
        weight_BTT = torch.softmax(match_BTT, 2)
        return self.out(weight_BTT @ value_BTD), weight_BTT


class JointHeads(nn.Module):
    """The last layers; in the joint task, labels contribute to the class."""

    def __init__(self, features: int, task: Task) -> None:
        super().__init__()
        self.last = Heads(features, features, task)
        joint = task.kind == "cls_reg"
        self.cls_from_labels = nn.Linear(len(task.labels), task.classes) if joint else None

    def forward(self, x_BD: Tensor) -> Outputs:
        """The outputs from the features."""
        outputs: Outputs = self.last(x_BD, x_BD)
        if self.cls_from_labels is not None:
            outputs["logits"] = (outputs["logits"] + self.cls_from_labels(outputs["mu"])) / 2
        return outputs


class Net(Network):
    """BGANet."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.padding = Padding(pixels, options.bands, options.centred)
        band = self.padding.length // options.bands
        self.first = nn.GRU(band, options.wide, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(2 * options.wide)
        self.second = nn.GRU(2 * options.wide, options.narrow, batch_first=True, bidirectional=True)
        self.dropout = FeatureDropout(options.dropout)
        self.attention = BandAttention(2 * options.narrow)
        self.heads = JointHeads(2 * options.narrow, task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the normalised flux alone."""
        bands_BTP = self.padding(flux_BP).reshape(len(flux_BP), -1, self.first.input_size)
        x_BTD, _ = self.first(bands_BTP)
        x_BTD = self.norm(self.dropout(x_BTD).flatten(0, 1)).view_as(x_BTD)
        x_BTD, _ = self.second(x_BTD)
        x_BTD, weight_BTT = self.attention(self.dropout(x_BTD))
        latent_BD = torch.relu(x_BTD.mean(1))
        outputs: Outputs = self.heads(latent_BD)
        return outputs | {"latent": latent_BD, "attention": weight_BTT}
