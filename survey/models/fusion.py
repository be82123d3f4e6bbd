"""Classes from a spectrum and an image: tokens of both in one transformer, after the M-star network of the
original authors (ViLT-like fusion with a contrastive loss).

Differences from the original: activations and norms in the spectral encoder; an image encoder that a few
hundred stars can train (ResNets of 18 to 152 layers are options); norms before attention; the temperature of
the contrastive loss is learned, and its weight is a setting; the image or the spectrum may be missing, and is
left out at random in training; spectra lie on one grid in the rest frame.
"""

import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from survey.models.image_layers import make_encoder, norm
from survey.models.network import FeatureDropout, Heads, Network, Outputs
from survey.models.options import EncoderName, Share, Size, Sizes
from survey.models.settings import Task
from survey.settings import Settings, SettingsError

TERMS = ("contrastive",)
"""The loss of telling which image belongs to which spectrum, in nats."""

NEVER = -1e4


class Options(Settings):
    """Options of this network."""

    use: Literal["both", "spectrum", "image"] = Field("both", description="which inputs it looks at")
    encoder: EncoderName = Field("small", description="encoder of images; small = a few convolutions")
    weights: str = Field(
        "",
        description="file (.safetensors) with trained weights of the image encoder, named as in torchvision; "
        "empty = random weights",
    )
    channels: Sizes = Field((32, 64, 128), description="channels of the small encoder's stages")
    width: Size = Field(128, description="size of a token")
    layers: Size = Field(2, description="layers of the transformer")
    heads: Size = Field(4, description="heads of its attention; they divide the width")
    spectrum_tokens: Size = Field(32, description="tokens of a spectrum")
    image_tokens: Size = Field(4, description="tokens of an image: a square number")
    dropout: Share = Field(0.1, description="share of the features of tokens that is dropped")
    drop_image: Share = Field(0.1, description="share of training images that are left out")
    drop_spectrum: Share = Field(0.1, description="share of training spectra that are left out")
    contrastive: float = Field(0.1, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.07, gt=0, description="temperature of that loss at the start")


class SpectrumEncoder(nn.Module):
    """Convolutions over flux and the mask of good pixels: (B, P) -> (B, T, D) tokens."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        sizes = (2, 32, 64, 96, width)
        self.layers = nn.Sequential(
            *(
                layer
                for size_in, size_out, kernel, stride in zip(
                    sizes, sizes[1:], (9, 7, 5, 5), (4, 2, 2, 2), strict=False
                )
                for layer in (
                    nn.Conv1d(size_in, size_out, kernel, stride, kernel // 2),
                    norm(size_out),
                    nn.GELU(),
                )
            )
        )
        self.tokens = tokens

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """The tokens of a spectrum."""
        out_BDT = self.layers(torch.stack((flux_BP - 1, (ivar_BP > 0).to(flux_BP.dtype)), 1))
        return functional.adaptive_avg_pool1d(out_BDT, self.tokens).mT


class AttentionBlock(nn.Module):
    """Attention and two dense layers, each after a norm and with a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, token_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Tokens that have looked at each other; `mask_BT` is added to the attention that a token gets."""
        seen_BTD = self.norms[0](token_BTD)
        found_BTD, _ = self.attention(
            seen_BTD, seen_BTD, seen_BTD, key_padding_mask=mask_BT, need_weights=False
        )
        token_BTD = token_BTD + found_BTD
        out_BTD: Tensor = token_BTD + self.dense(self.norms[1](token_BTD))
        return out_BTD


class Net(Network):
    """[CLS], tokens of the spectrum and of the image, and a transformer over all of them."""

    extra_inputs: tuple[str, ...] = ("image",)
    terms: tuple[str, ...] = TERMS
    learning_rate = 5e-4
    options: Options

    def __init__(self, pixels: int, task: Task, options: Options, image: tuple[int, int, int]) -> None:
        super().__init__(pixels, task, options, image)
        self._check(options, pixels)
        self.answers_from = ("spectrum", "image") if options.use == "both" else (options.use,)
        width = options.width
        self.spectrum = SpectrumEncoder(width, options.spectrum_tokens) if options.use != "image" else None
        self.encoder = make_encoder(options.encoder, image[0], options.channels)
        self.project = nn.Linear(self.encoder.features, width)
        count = 1 + options.spectrum_tokens + options.image_tokens
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, count, width))
        self.kind = nn.Parameter(0.02 * torch.randn(3, width))
        self.transformer = nn.ModuleList(AttentionBlock(width, options.heads) for _ in range(options.layers))
        self.last_norm = nn.LayerNorm(width)
        self.dropout = FeatureDropout(options.dropout)
        self.matching = None
        if options.use == "both":
            self.matching = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
            self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))
        self.heads = Heads(width, width, task)

    @staticmethod
    def _check(options: Options, pixels: int) -> None:
        if options.width % options.heads:
            raise SettingsError(f"options: width={options.width} is no multiple of heads={options.heads}")
        if math.isqrt(options.image_tokens) ** 2 != options.image_tokens:
            raise SettingsError(f"options: image_tokens={options.image_tokens} is no square, such as 4 or 9")
        if options.use != "image" and not pixels:
            raise SettingsError("options: the store has no spectra; give options.use=image")
        if options.weights and options.encoder == "small":
            raise SettingsError("options: weights are of a ResNet; give options.encoder, such as resnet18")

    def compute_with_image(
        self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None, image_BCHW: Tensor
    ) -> Outputs:
        """The outputs from what there is of each object."""
        has_image_B = image_BCHW.flatten(1).amax(1) > 0
        has_spectrum_B = (ivar_BP > 0).sum(1) > 0
        image_BTD = self._image_tokens(image_BCHW)
        blank = image_BTD.new_zeros(len(image_BTD), self.options.spectrum_tokens, self.options.width)
        spectrum_BTD = blank if self.spectrum is None else self.spectrum(flux_BP, ivar_BP)
        contrastive_B = self._contrastive(spectrum_BTD, image_BTD, has_spectrum_B & has_image_B)
        seen_B2 = self._seen(has_spectrum_B, has_image_B)
        first_B1D = self.start.expand(len(image_BTD), -1, -1)
        token_BTD = torch.cat((first_B1D, self.dropout(spectrum_BTD), self.dropout(image_BTD)), 1)
        counts = (1, spectrum_BTD.shape[1], image_BTD.shape[1])
        kind_TD = torch.cat([self.kind[number].expand(count, -1) for number, count in enumerate(counts)])
        hidden_B3 = torch.cat((torch.zeros_like(seen_B2[:, :1]), ~seen_B2), 1)
        hidden_BT = torch.cat([hidden_B3[:, [n]].expand(-1, count) for n, count in enumerate(counts)], 1)
        mask_BT = torch.zeros_like(hidden_BT, dtype=token_BTD.dtype).masked_fill(hidden_BT, NEVER)
        token_BTD = token_BTD + self.place + kind_TD
        for block in self.transformer:
            token_BTD = block(token_BTD, mask_BT)
        latent_BD = self.last_norm(token_BTD[:, 0])
        outputs: Outputs = self.heads(latent_BD, latent_BD)
        own_B1 = self.options.contrastive * contrastive_B[:, None]
        return outputs | {"latent": latent_BD, "own_loss": own_B1, "terms": contrastive_B[:, None]}

    def _image_tokens(self, image_BCHW: Tensor) -> Tensor:
        side = math.isqrt(self.options.image_tokens)
        map_BDHW = functional.adaptive_avg_pool2d(self.encoder(image_BCHW), side)
        tokens: Tensor = self.project(map_BDHW.flatten(2).mT)
        return tokens

    def _seen(self, has_spectrum_B: Tensor, has_image_B: Tensor) -> Tensor:
        """Which inputs of each object are looked at, (B, 2): spectrum, image. In training some are left out,
        never both."""
        options = self.options
        seen_B2 = torch.stack((has_spectrum_B & (options.use != "image"), has_image_B), 1)
        if options.use == "spectrum":
            seen_B2 = seen_B2 & seen_B2.new_tensor([True, False])
        if not self.training or options.use != "both":
            return seen_B2
        chance_B = self.draw(torch.rand, seen_B2.shape[:1], seen_B2.device)
        both_B = seen_B2.all(1)
        no_spectrum_B = both_B & (chance_B < options.drop_spectrum)
        no_image_B = both_B & (chance_B > 1 - options.drop_image) & ~no_spectrum_B
        return seen_B2 & ~torch.stack((no_spectrum_B, no_image_B), 1)

    def _contrastive(self, spectrum_BTD: Tensor, image_BTD: Tensor, both_B: Tensor) -> Tensor:
        """The loss of finding the image of a spectrum in the batch, and the spectrum of an image; 0 for
        objects that lack one of them."""
        exact = torch.promote_types(spectrum_BTD.dtype, torch.float32)
        loss_B = spectrum_BTD.new_zeros(len(both_B), dtype=exact)
        if self.matching is None:
            return loss_B
        row_N = both_B.nonzero()[:, 0]
        own_N = torch.arange(len(row_N), device=row_N.device)
        with torch.autocast(row_N.device.type, enabled=False):  # bf16 hardly tells large logits apart
            pooled = (tokens_BTD[row_N].to(exact).mean(1) for tokens_BTD in (spectrum_BTD, image_BTD))
            one_ND, other_ND = (
                functional.normalize(layer(values), dim=1)
                for layer, values in zip(self.matching, pooled, strict=True)
            )
            logits_NN = one_ND @ other_ND.T * self.log_scale.clamp(max=math.log(100.0)).exp()
            loss_N = (
                functional.cross_entropy(logits_NN, own_N, reduction="none")
                + functional.cross_entropy(logits_NN.T, own_N, reduction="none")
            ) / 2
        return loss_B.index_copy(0, row_N, loss_N.to(exact))

    def take_weights(self) -> None:
        """Take the weights of the image encoder from the file that the options name."""
        if not self.options.weights:
            return
        path = self.options.weights
        if Path(path).suffix != ".safetensors":
            raise SettingsError(
                f"options.weights: {path}: is no .safetensors file; other files of weights can run programs; "
                "convert it with safetensors.torch.save_file(torch.load(..., weights_only=True), ...)"
            )
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SettingsError(f"options.weights: {path}: cannot be read ({error})") from error
        own = self.encoder.state_dict()
        missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
        wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
        if missing or wrong:
            name = (missing or wrong)[0]
            raise SettingsError(
                f"options.weights: {path}: does not fit {self.options.encoder}: {name} is "
                f"{'not there' if missing else f'of shape {tuple(tensors[name].shape)}'}"
            )
        self.encoder.load_state_dict(own | {name: tensors[name] for name in own if name in tensors})

    def unscaled_layers(self) -> list[nn.Module]:
        """Layers whose weights were taken from a file, and those of attention."""
        taken = list(self.encoder.modules()) if self.options.weights else []
        return [*taken, *self.transformer.modules()]
