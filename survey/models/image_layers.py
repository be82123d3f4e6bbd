"""Encoders of images, and a decoder: parts that networks share.

`ImageEncoder` is small enough for a CPU. `ResNet` is the family of He et al. 2016 (arXiv 1512.03385) with 18
to 152 layers. Its parameters have the names that torchvision uses, so that a file of its weights fits; the
library itself is not needed, for each release of it wants one release of torch.

Shapes: B images, C colours or channels, H rows, W columns, D features.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from survey.models.options import EncoderName

DEPTHS: dict[str, tuple[int, ...]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks of each stage."""

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of colours that trained weights of ResNets expect."""


def norm(channels: int) -> nn.Module:
    """A norm over groups of channels of one image: it does not depend on the other images of a batch."""
    groups = next(size for size in (8, 4, 2, 1) if channels % size == 0)
    return nn.GroupNorm(groups, channels)


class ImageEncoder(nn.Module):
    """Convolutions that halve the image at each stage, with group norms: (B, C, H, W) -> (B, D, h, w)."""

    def __init__(self, colours: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.features = channels[-1]
        stages: list[nn.Module] = []
        for size_in, size_out in zip((colours, *channels[:-1]), channels, strict=True):
            stages += [
                nn.Conv2d(size_in, size_out, 3, stride=2, padding=1),
                norm(size_out),
                nn.GELU(),
                nn.Conv2d(size_out, size_out, 3, padding=1),
                norm(size_out),
                nn.GELU(),
            ]
        self.stages = nn.Sequential(*stages)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """A map of features."""
        out: Tensor = self.stages(image_BCHW - 0.25)
        return out


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's features."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class NarrowBlock(nn.Module):
    """A convolution between two of width 1, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's features."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """A shortcut that changes the size; None where the input fits as it is."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """The trunk of a residual network: (B, C, H, W) -> (B, D, H / 32, W / 32)."""

    mean_3: Tensor
    spread_3: Tensor

    def __init__(self, name: str, colours: int) -> None:
        super().__init__()
        block: type[BasicBlock | NarrowBlock] = (
            BasicBlock if name in ("resnet18", "resnet34") else NarrowBlock
        )
        self.features = 512 * block.expansion
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, count in enumerate(DEPTHS[name]):
            width, layers = 64 * 2**number, []
            for index in range(count):
                layers.append(block(inputs, width, 2 if number and not index else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*layers))
        self.register_buffer("mean_3", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread_3", torch.tensor(SPREAD)[:, None, None], persistent=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """A map of features."""
        if image_BCHW.shape[1] == 1:
            image_BCHW = image_BCHW.expand(-1, 3, -1, -1)
        out = (image_BCHW - self.mean_3) / self.spread_3
        out = functional.max_pool2d(torch.relu(self.bn1(self.conv1(out))), 3, 2, 1)
        for number in range(4):
            out = self.get_submodule(f"layer{number + 1}")(out)
        return out


def make_encoder(name: EncoderName, colours: int, channels: Sequence[int]) -> ImageEncoder | ResNet:
    """The encoder of this name; `channels` are those of the small one."""
    return ImageEncoder(colours, channels) if name == "small" else ResNet(name, colours)


def symmetric_views(image_BCHW: Tensor) -> Tensor:
    """The image, rotated by quarter turns and mirrored: (8, B, C, H, W). The sky has no upper side."""
    turned = [torch.rot90(image_BCHW, turns, (2, 3)) for turns in range(4)]
    return torch.stack([*turned, *(image.flip(3) for image in turned)])


class ImageDecoder(nn.Module):
    """From D numbers to an image. Interpolation and convolutions: no chequered patterns."""

    def __init__(self, latent: int, shape: tuple[int, int, int], channels: Sequence[int]) -> None:
        super().__init__()
        self.shape, self.first = shape, channels[-1]
        self.side = max(1, -(-shape[1] // 2 ** len(channels)))
        self.dense = nn.Linear(latent, self.first * self.side**2)
        sizes = [*reversed(channels), max(channels[0] // 2, 4)]  # most of the work is in the last layers
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(size_in, size_out, 3, padding=1), norm(size_out), nn.GELU())
            for size_in, size_out in pairwise(sizes)
        )
        self.last = nn.Conv2d(sizes[-1], shape[0], 3, padding=1)

    def forward(self, latent_BD: Tensor) -> Tensor:
        """Images of the shape of the store."""
        out = self.dense(latent_BD).reshape(-1, self.first, self.side, self.side)
        for layer in self.convolutions:
            out = layer(functional.interpolate(out, scale_factor=2, mode="bilinear", align_corners=False))
        if out.shape[2:] != self.shape[1:]:
            out = functional.interpolate(out, self.shape[1:], mode="bilinear", align_corners=False)
        image: Tensor = self.last(out)
        return image
