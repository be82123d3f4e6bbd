"""A variational autoencoder of spectra: what it cannot rebuild is unlike what it has learned.

The likelihood of a pixel has the noise of the spectrum and a noise of its own, which is learned: so a
spectrum of low signal to noise is not unusual for being noisy. `anomaly` is the mean squared error of good
pixels in these units. With a task, heads learn classes or labels from the latent at the same time.
"""

import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from survey.models.image_layers import norm
from survey.models.network import Heads, Network, Outputs
from survey.models.options import LatentOptions, Size, Sizes
from survey.models.reconstruct import active_numbers, divergence, draw
from survey.models.settings import Task

TERMS = ("chi2", "kl", "active")
"""Mean squared error of a good pixel in units of its noise; divergence in nats; used numbers of the
latent."""

LEAST_NOISE, MOST_NOISE = 1e-3, 0.3
"""Limits of the learned noise, of the continuum."""


class Options(LatentOptions):
    """Options of this network."""

    latent: Size = Field(24, description="numbers of the latent")
    channels: Sizes = Field((16, 32, 64, 64, 64), description="channels of the stages, each a third as long")


class Net(Network):
    """Encoder, latent, decoder: convolutions that shorten a spectrum to a third, and lengthen it again."""

    terms: tuple[str, ...] = TERMS
    options: Options

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        channels = options.channels
        self.steps = max(2, -(-pixels // 3 ** len(channels)))
        self.encoder = nn.Sequential(
            *(
                layer
                for size_in, size_out in zip((2, *channels[:-1]), channels, strict=True)
                for layer in (nn.Conv1d(size_in, size_out, 7, 3, 3), norm(size_out), nn.GELU())
            )
        )
        self.to_latent = nn.Linear(channels[-1] * self.steps, 2 * options.latent)
        self.from_latent = nn.Linear(options.latent, channels[-1] * self.steps)
        sizes = (*reversed(channels), channels[0])
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.Conv1d(size_in, size_out, 5, 1, 2), norm(size_out), nn.GELU())
            for size_in, size_out in pairwise(sizes)
        )
        self.last = nn.Conv1d(sizes[-1], 1, 5, 1, 2)
        self.mean_P = nn.Parameter(torch.zeros(pixels))
        self.log_noise = nn.Parameter(torch.tensor(math.log(0.03)))
        self.heads = Heads(options.latent, options.latent, task)
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """Start from the mean spectrum."""
        good_BP = (ivar_BP > 0).to(flux_BP.dtype)
        with torch.no_grad():
            self.mean_P.copy_(((flux_BP - 1) * good_BP).sum(0) / good_BP.sum(0).clamp_min(1))

    def unscaled_layers(self) -> list[nn.Module]:
        """The layer that makes the pixels keeps its own weights."""
        return [self.last]

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """The latent, the losses, the anomaly, and the outputs of the task."""
        good_BP = (ivar_BP > 0).to(flux_BP.dtype)
        mean_BD, log_var_BD = self.encode(flux_BP, good_BP)
        latent_BD = draw(self, mean_BD, log_var_BD)
        noise = self.log_noise.exp().clamp(LEAST_NOISE, MOST_NOISE)
        var_BP = 1 / ivar_BP.clamp_min(1e-6) + noise**2
        square_BP = (flux_BP - self.decode(latent_BD)) ** 2 / var_BP * good_BP
        count_B = good_BP.sum(1).clamp_min(1)
        chi2_B = square_BP.sum(1) / count_B
        likelihood_B = 0.5 * (chi2_B + (var_BP.log() * good_BP).sum(1) / count_B)
        kl_BD = divergence(mean_BD, log_var_BD)
        beta = self.options.beta_at(self.epoch if self.training else math.inf)
        own_B = likelihood_B + beta * kl_BD.clamp_min(self.options.free_bits).sum(1) / count_B
        terms = torch.stack((chi2_B, kl_BD.sum(1), active_numbers(mean_BD)), 1)
        outputs: Outputs = self.heads(latent_BD, latent_BD)
        return outputs | {
            "latent": mean_BD,
            "own_loss": own_B[:, None],
            "terms": terms,
            "anomaly": chi2_B[:, None],
        }

    def encode(self, flux_BP: Tensor, good_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances of the latent."""
        centred_BP = (flux_BP - 1 - self.mean_P) * good_BP
        hidden = self.encoder(torch.stack((centred_BP, good_BP), 1))
        hidden = functional.adaptive_avg_pool1d(hidden, self.steps)
        mean_BD, log_var_BD = self.to_latent(hidden.flatten(1)).chunk(2, 1)
        return mean_BD, log_var_BD.clamp(-12, 8)

    def decode(self, latent_BD: Tensor) -> Tensor:
        """The spectra of latents."""
        out = self.from_latent(latent_BD).reshape(len(latent_BD), -1, self.steps)
        for number, layer in enumerate(self.decoder):
            length = min(self.pixels, self.steps * 3 ** (number + 1))
            out = layer(functional.interpolate(out, length, mode="linear", align_corners=False))
        if out.shape[2] != self.pixels:
            out = functional.interpolate(out, self.pixels, mode="linear", align_corners=False)
        spectrum_BP: Tensor = 1 + self.mean_P + self.last(out)[:, 0]
        return spectrum_BP
