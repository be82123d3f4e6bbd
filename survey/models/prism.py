"""Our own network: a spectrum is split into its components first; then a small network reads them.

The mean spectrum is taken off, and a bad pixel says nothing. One linear layer that starts as the principal components reduces all
pixels to some hundred numbers (its reach is the whole spectrum), and a few dense layers make answers of them. Where the store keeps continua,
`broad` adds their shape, which carbon bands and temperature change too. 1 to 4 MFLOP a spectrum at 4,900 pixels, a thousandth of MPBDNet's.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from survey.models.difference import Difference
from survey.models.network import Answers, Dropout, Heads, Network, Task
from survey.settings import Settings


class Options(Settings):
    """The network's architecture."""

    components: int = Field(128, ge=4, le=2048, description="numbers that a spectrum is reduced to")
    hidden: int = Field(256, ge=4, le=8192, description="width of the layers after that")
    depth: int = Field(2, ge=1, le=16, description="number of these layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features left out in training")
    broad: int = Field(
        0,
        ge=0,
        le=256,
        description="bins of the continuum's shape that are looked at too; 0 = none; needs prepare.continuum=dual",
    )


class Net(Network):
    """Difference from the mean, components, layers, heads."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        if pixels < options.components or pixels < options.broad:
            raise ValueError(
                f"prism: {pixels} pixels are fewer than options.components={options.components} or broad={options.broad}; give fewer"
            )
        self.inputs = ("continuum",) if options.broad else ()
        self.difference = Difference(pixels)
        self.components = nn.Linear(pixels, options.components)
        width = options.components
        if options.broad:
            self.broad = nn.Linear(options.broad, options.components // 4)
            width += options.components // 4
        self.first = nn.Linear(width, options.hidden)
        self.layers = nn.ModuleList(
            nn.Linear(options.hidden, options.hidden) for _ in range(options.depth - 1)
        )
        self.dropout = Dropout(options.dropout)
        self.heads = Heads(options.hidden, options.hidden, task)

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """Mean of every pixel, the spread between stars, and the directions in which they differ most."""
        del continuum_BP
        self.difference.behold(flux_BP, ivar_BP)
        light_BP, _ = self.difference(torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP)
        count = min(self.components.out_features, *light_BP.shape)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            _, strength_K, axes_PK = torch.pca_lowrank(light_BP, count, center=True, niter=4)
            scale_K = len(light_BP) ** 0.5 / strength_K.clamp_min(1e-6)
            self.components.weight[:count] = (axes_PK * scale_K).T

    def small_layers(self) -> list[nn.Module]:
        """The dense ones: scaled like the rest, they were 8 % worse in every label."""
        return [self.first, *self.layers]

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Components, then layers, then heads."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # differences of a few thousandths
            z_BD: Tensor = self.components(self.difference(flux_BP, ivar_BP)[0])
        if continuum_BP is not None and hasattr(self, "broad"):
            shape_BK = functional.adaptive_avg_pool1d(
                continuum_BP.clamp_min(1e-3).log()[:, None], self.broad.in_features
            )[:, 0]
            z_BD = torch.cat([z_BD, self.broad(shape_BK)], 1)
        z_BD = self.dropout(functional.silu(self.first(z_BD)))
        for layer in self.layers:
            z_BD = self.dropout(functional.silu(layer(z_BD)))
        answers: Answers = self.heads(z_BD, z_BD)
        return answers | {"latent": z_BD}
