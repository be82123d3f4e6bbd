"""A variational autoencoder of images: 40 numbers describe a galaxy (after Xu et al. 2023, arXiv 2303.08627).

`anomaly` is the mean squared error of pixels in units of the learned noise.

Differences from the original: group norms; a decoder by interpolation, without chequered patterns; the noise
of pixels is learned, so the reconstruction and the divergence have their natural weights; beta rises in the
first epochs; any size of latent and image. With a task, heads learn classes or labels from the latent at the
same time.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.images.similarity import ssim
from survey.models.image_layers import ImageDecoder, ImageEncoder
from survey.models.network import Heads, Network, Outputs
from survey.models.options import LatentOptions, Sizes
from survey.models.reconstruct import active_numbers, divergence, draw
from survey.models.settings import Task

TERMS = ("reconstruction", "kl", "ssim", "active")
"""Root of the mean squared error of pixels (0 to 1); divergence in nats; likeness of the images; used numbers
of the latent."""


class Options(LatentOptions):
    """Options of this network."""

    channels: Sizes = Field((16, 32, 64, 128), description="channels of the stages, each half as large")


class Net(Network):
    """Encoder, latent, decoder."""

    extra_inputs: tuple[str, ...] = ("image",)
    answers_from: tuple[str, ...] = ("image",)
    terms: tuple[str, ...] = TERMS
    options: Options

    def __init__(self, pixels: int, task: Task, options: Options, image: tuple[int, int, int]) -> None:
        super().__init__(pixels, task, options, image)
        self.encoder = ImageEncoder(image[0], options.channels)
        side = -(-image[1] // 2 ** len(options.channels))
        self.to_latent = nn.Linear(self.encoder.features * side**2, 2 * options.latent)
        self.decoder = ImageDecoder(options.latent, image, options.channels)
        self.log_noise = nn.Parameter(torch.tensor(math.log(0.1)))
        self.heads = Heads(options.latent, options.latent, task)
        with torch.no_grad():  # the first images are dark and even, as most of the sky is
            self.decoder.last.weight.mul_(0.1)
            self.decoder.last.bias.fill_(0.2)  # type: ignore[union-attr]

    def compute_with_image(
        self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None, image_BCHW: Tensor
    ) -> Outputs:
        """The latent, the losses, and the outputs of the task."""
        mean_BD, log_var_BD = self.encode(image_BCHW)
        latent_BD = draw(self, mean_BD, log_var_BD)
        made_BCHW = self.decoder(latent_BD)
        error_B = (made_BCHW - image_BCHW).square().flatten(1).mean(1)
        kl_BD = divergence(mean_BD, log_var_BD)
        pixels = image_BCHW[0].numel()
        log_noise = self.log_noise.clamp(-6, 2)
        likelihood_B = 0.5 * error_B / torch.exp(2 * log_noise) + log_noise  # of a pixel
        beta = self.options.beta_at(self.epoch if self.training else math.inf)
        cost_B = kl_BD.clamp_min(self.options.free_bits).sum(1)
        own_B = likelihood_B + beta * cost_B / pixels
        like_B = ssim(made_BCHW.detach().to(image_BCHW.dtype).clamp(0, 1), image_BCHW)
        terms = (error_B.sqrt(), kl_BD.sum(1), like_B, active_numbers(mean_BD))
        outputs: Outputs = self.heads(latent_BD, latent_BD)
        return outputs | {
            "latent": mean_BD,
            "own_loss": own_B[:, None],
            "terms": torch.stack(terms, 1),
            "anomaly": (error_B / torch.exp(2 * log_noise))[:, None],
        }

    def unscaled_layers(self) -> list[nn.Module]:
        """The layer that makes the pixels keeps its own weights."""
        return [self.decoder.last]

    def encode(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances of the latent."""
        mean_BD, log_var_BD = self.to_latent(self.encoder(image_BCHW).flatten(1)).chunk(2, 1)
        return mean_BD, log_var_BD.clamp(-12, 8)

    def decode(self, latent_BD: Tensor) -> Tensor:
        """The images of latents, 0 to 1."""
        made: Tensor = self.decoder(latent_BD)
        return made.clamp(0, 1)
