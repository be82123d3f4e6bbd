"""SpectralResCNN of system 1: residual groups at falling resolution, the mean over what is left, a perceptron. Made for one element per net.

`first` and `second` are the two versions that system 1 had (1,277,825 and 314,273 parameters for one label, at any number of pixels). Mended:
the padding of the first convolution is continuum, as flux enters less 1. Shapes: see `survey.models.network`.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Perceptron,
    PerceptronHeads,
    Residual,
    demand,
    mean_over_steps,
    rectifier,
)
from survey.models.network import Answers, Dropout, Network, Task
from survey.settings import Settings


@dataclass(frozen=True)
class _Version:
    stem: tuple[int, int]  # channels, kernel
    groups: tuple[tuple[int, int], ...]
    pool: int
    dropout: tuple[float, float]  # in the body, in the perceptron
    hidden: tuple[int, ...]
    slope: float


VERSIONS = {
    "first": _Version((32, 7), ((64, 5), (128, 3), (256, 3)), 4, (0.2, 0.5), (512, 256, 128), 0.0),
    "second": _Version((16, 5), ((32, 3), (64, 3), (128, 3)), 2, (0.1, 0.2), (256, 128, 64), 0.1),
}
"""The versions by name."""


class Options(Settings):
    """Which SpectralResCNN."""

    version: Literal["first", "second"] = Field(
        "first", description="of system 1: wide and pooled by 4, or narrow, leaky and pooled by 2"
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="in the perceptron; null: the version's 0.5 or 0.2"
    )
    dropout_body: float | None = Field(
        None, ge=0, lt=1, description="after each group; null: the version's 0.2 or 0.1"
    )


class Net(Network):
    """Groups of two residual blocks, then the mean over all steps, then a perceptron."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        made = VERSIONS[options.version]
        demand("rescnn", pixels, made.pool ** len(made.groups))
        body, last = (
            usual if given is None else given
            for usual, given in zip(made.dropout, (options.dropout_body, options.dropout), strict=True)
        )
        channels, kernel = made.stem
        self.stem = nn.Sequential(
            nn.Conv1d(1, channels, kernel, padding=kernel // 2),
            nn.BatchNorm1d(channels),
            rectifier(made.slope),
        )
        self.groups = nn.Sequential()
        for width, kernel in made.groups:
            blocks = Residual(channels, width, kernel, made.slope), Residual(width, width, kernel, made.slope)
            self.groups.append(nn.Sequential(*blocks, nn.MaxPool1d(made.pool), Dropout(body)))
            channels = width
        self.heads = PerceptronHeads(
            Perceptron(channels, made.hidden, [last] * len(made.hidden), made.slope), task
        )
        if options.version == "second":
            self.apply(_kaiming)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Answers from the mean of the last group's channels."""
        answers: Answers = self.heads(mean_over_steps(self.groups(self.stem(flux_BP[:, None] - 1))))
        return answers


def _kaiming(layer: nn.Module) -> None:
    """Weights of such spread that leaky layers keep the variance of what goes through; the last layers keep torch's own."""
    if isinstance(layer, nn.Conv1d):
        nn.init.kaiming_normal_(
            layer.weight, a=VERSIONS["second"].slope, mode="fan_out", nonlinearity="leaky_relu"
        )
    elif isinstance(layer, Perceptron):
        for inner in layer:
            if isinstance(inner, nn.Linear):
                nn.init.kaiming_normal_(inner.weight, a=VERSIONS["second"].slope, nonlinearity="leaky_relu")
                nn.init.zeros_(inner.bias)
