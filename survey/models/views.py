"""An encoder of images that is trained by views: two changed copies of an image must get the same numbers,
and images different ones (VICReg, Bardes et al. 2022, arXiv 2105.04906).

What views differ in (angle, mirror, place, scale, seeing, brightness, noise) is what the numbers ignore: a
galaxy turned by 90 degrees is the same galaxy. In prediction the numbers are means over turned and mirrored
images. With a task, heads learn classes or labels from them at the same time.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from survey.images.motion import move
from survey.models.image_layers import make_encoder, symmetric_views
from survey.models.network import Heads, Network, Outputs
from survey.models.options import EncoderName, Size, Sizes
from survey.models.settings import Task
from survey.settings import Settings

TERMS = ("invariance", "variance", "covariance")
"""How much two views differ; how far the numbers are from varying enough; how much they say the same."""

WEIGHTS = (25.0, 25.0, 1.0)
"""The weights of the terms, as published."""


class Options(Settings):
    """Options of this network."""

    encoder: EncoderName = Field("small", description="encoder of images; small = a few convolutions")
    channels: Sizes = Field((32, 64, 128, 128), description="channels of the small encoder's stages")
    latent: Size = Field(40, description="numbers that describe an image")
    wider: Size = Field(256, description="numbers that are compared, computed from those of the latent")
    zoom: float = Field(0.2, ge=0, le=1, description="largest change of the scale between views")
    shift: float = Field(0.05, ge=0, le=0.5, description="largest shift, as a share of the side")
    brightness: float = Field(0.3, ge=0, lt=1, description="largest change of the brightness")
    colour: float = Field(0.1, ge=0, lt=1, description="the same for each colour by itself")
    noise: float = Field(0.05, ge=0, le=1, description="largest deviation of added noise; white is 1")
    turned: bool = Field(True, description="predict with means over eight turned and mirrored images")


class Net(Network):
    """Encoder, latent, and wider numbers that are compared in training."""

    extra_inputs: tuple[str, ...] = ("image",)
    answers_from: tuple[str, ...] = ("image",)
    terms: tuple[str, ...] = TERMS
    options: Options

    def __init__(self, pixels: int, task: Task, options: Options, image: tuple[int, int, int]) -> None:
        super().__init__(pixels, task, options, image)
        self.encoder = make_encoder(options.encoder, image[0], options.channels)
        self.to_latent = nn.Linear(2 * self.encoder.features, options.latent)
        self.expand = nn.Sequential(
            nn.Linear(options.latent, options.wider), nn.GELU(), nn.Linear(options.wider, options.wider)
        )
        self.heads = Heads(options.latent, options.latent, task)

    def compute_with_image(
        self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None, image_BCHW: Tensor
    ) -> Outputs:
        """The latent, the losses of two views, and the outputs of the task."""
        views = [self.changed(image_BCHW) for _ in range(2)] if self.training else _fixed_views(image_BCHW)
        latents = [self.encode(view) for view in views]
        latent_BD = (latents[0] + latents[1]) / 2
        if self.options.turned and not self.training:
            latent_BD = torch.stack([self.encode(view) for view in symmetric_views(image_BCHW)]).mean(0)
        terms_3 = compare(*(self.expand(latent) for latent in latents))
        own = (terms_3 * terms_3.new_tensor(WEIGHTS)).sum()
        rows = len(image_BCHW)
        outputs: Outputs = self.heads(latent_BD, latent_BD)
        return outputs | {
            "latent": latent_BD,
            "own_loss": own.expand(rows, 1),
            "terms": terms_3.expand(rows, 3),
        }

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """The numbers of images: from the means and the maxima of features."""
        map_BDS = self.encoder(image_BCHW).flatten(2)
        latent_BD: Tensor = self.to_latent(torch.cat((map_BDS.mean(2), map_BDS.amax(2)), 1))
        return latent_BD

    def changed(self, image_BCHW: Tensor) -> Tensor:
        """Changed images: drawn anew for each."""
        options, device = self.options, image_BCHW.device
        drawn = self.draw(torch.rand, (len(image_BCHW), 7 + image_BCHW.shape[1]), device).to(image_BCHW.dtype)
        angle_B = 2 * torch.pi * drawn[:, 0]
        mirror_B = torch.where(drawn[:, 1] < 0.5, -1.0, 1.0).to(drawn.dtype)
        scale_B = (1 + options.zoom) ** (2 * drawn[:, 2] - 1)
        shift_B2 = 2 * options.shift * (2 * drawn[:, 3:5] - 1)
        moved = move(image_BCHW, angle_B, mirror_B, scale_B, shift_B2)
        factor = 1 + options.brightness * (2 * drawn[:, 5] - 1)[:, None, None, None]
        colour = 1 + options.colour * (2 * drawn[:, 7:] - 1)[:, :, None, None]
        noise = options.noise * drawn[:, 6, None, None, None] * self.draw(torch.randn, moved.shape, device)
        return (moved * factor * colour + noise).clamp(0, 1)


def _fixed_views(image_BCHW: Tensor) -> list[Tensor]:
    """Two views without chance, by which a validation is scored: the image, and the image turned."""
    return [image_BCHW, torch.rot90(image_BCHW, 1, (2, 3)).flip(3)]


def compare(first_BD: Tensor, other_BD: Tensor) -> Tensor:
    """The terms [invariance, variance, covariance] of the numbers of two views, in full precision."""
    exact = torch.promote_types(first_BD.dtype, torch.float32)
    with torch.autocast(first_BD.device.type, enabled=False):
        return _compare(first_BD.to(exact), other_BD.to(exact))


def _compare(first_BD: Tensor, other_BD: Tensor) -> Tensor:
    invariance = (first_BD - other_BD).square().mean()
    if len(first_BD) < 2:
        return torch.stack((invariance, 0 * invariance, 0 * invariance))
    variance = covariance = invariance.new_zeros(())
    for values_BD in (first_BD, other_BD):
        spread_D = (values_BD.var(0) + 1e-4).sqrt()
        variance = variance + torch.relu(1 - spread_D).mean() / 2
        apart_BD = values_BD - values_BD.mean(0)
        covariance_DD = apart_BD.T @ apart_BD / (len(values_BD) - 1)  # torch.cov cannot be compiled
        beside_DD = covariance_DD - torch.diag(torch.diagonal(covariance_DD))
        covariance = covariance + beside_DD.square().sum() / values_BD.shape[1]
    return torch.stack((invariance, variance, covariance))
