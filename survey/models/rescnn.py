"""SpectralResCNN of system 1: residual groups at falling resolution, the mean over the steps, a perceptron.

System 1 trained one network per element. `first` and `second` are its two versions (1,277,825 and 314,273
parameters for one label, at any number of pixels). Difference from the original: the padding of the first
convolution is continuum, because the network subtracts 1 from the flux. Shapes: see `survey.models.network`.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from survey.models.inception_layers import (
    Perceptron,
    PerceptronHeads,
    ResidualBlock,
    check_pixels,
    mean_over_steps,
    rectifier,
)
from survey.models.network import FeatureDropout, Network, Outputs
from survey.models.options import Share
from survey.models.settings import Task
from survey.settings import Settings


@dataclass(frozen=True)
class _Version:
    stem: tuple[int, int]  # channels, kernel
    groups: tuple[tuple[int, int], ...]
    pool: int
    dropout_body: float
    dropout: float
    hidden: tuple[int, ...]
    slope: float


VERSIONS = {
    "first": _Version((32, 7), ((64, 5), (128, 3), (256, 3)), 4, 0.2, 0.5, (512, 256, 128), 0.0),
    "second": _Version((16, 5), ((32, 3), (64, 3), (128, 3)), 2, 0.1, 0.2, (256, 128, 64), 0.1),
}
"""The versions by name."""


class Options(Settings):
    """Which SpectralResCNN."""

    version: Literal["first", "second"] = Field(
        "first", description="first: wide and pooled by 4; second: narrow, leaky and pooled by 2"
    )
    dropout: Share | None = Field(
        None, description="dropout in the perceptron; null: that of the version, 0.5 or 0.2"
    )
    dropout_body: Share | None = Field(
        None, description="dropout after each group; null: that of the version, 0.2 or 0.1"
    )


class Net(Network):
    """Groups of two residual blocks, then the mean over all steps, then a perceptron."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        version = VERSIONS[options.version]
        check_pixels("rescnn", pixels, version.pool ** len(version.groups))
        dropout_body = version.dropout_body if options.dropout_body is None else options.dropout_body
        dropout = version.dropout if options.dropout is None else options.dropout
        channels, kernel = version.stem
        self.stem = nn.Sequential(
            nn.Conv1d(1, channels, kernel, padding=kernel // 2),
            nn.BatchNorm1d(channels),
            rectifier(version.slope),
        )
        self.groups = nn.Sequential()
        for width, kernel in version.groups:
            first = ResidualBlock(channels, width, kernel, version.slope)
            second = ResidualBlock(width, width, kernel, version.slope)
            pool = nn.MaxPool1d(version.pool)
            self.groups.append(nn.Sequential(first, second, pool, FeatureDropout(dropout_body)))
            channels = width
        dropouts = [dropout] * len(version.hidden)
        self.heads = PerceptronHeads(Perceptron(channels, version.hidden, dropouts, version.slope), task)
        if options.version == "second":
            self.apply(_kaiming)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Outputs from the mean of the last group's channels."""
        outputs: Outputs = self.heads(mean_over_steps(self.groups(self.stem(flux_BP[:, None] - 1))))
        return outputs


def _kaiming(layer: nn.Module) -> None:
    """Initial weights with which leaky layers keep the variance; the last layers keep torch's own."""
    slope = VERSIONS["second"].slope
    if isinstance(layer, nn.Conv1d):
        nn.init.kaiming_normal_(layer.weight, a=slope, mode="fan_out", nonlinearity="leaky_relu")
    elif isinstance(layer, Perceptron):
        for inner in layer:
            if isinstance(inner, nn.Linear):
                nn.init.kaiming_normal_(inner.weight, a=slope, nonlinearity="leaky_relu")
                nn.init.zeros_(inner.bias)
