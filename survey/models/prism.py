"""Our own small network: it reduces a spectrum to components first, then reads them with dense layers.

The mean spectrum is subtracted, and bad pixels are set to 0. One linear layer, which starts as the principal
components, reduces all pixels to about a hundred numbers (it sees the whole spectrum at once), and a few
dense layers compute the outputs. Where the store has continua, `broad` adds their shape, which carbon bands
and temperature change too. 1 to 4 MFLOP for a spectrum of 4,900 pixels, a thousandth of MPBDNet's.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from survey.models.network import FeatureDropout, Heads, Network, Outputs
from survey.models.options import Share
from survey.models.settings import Task
from survey.models.statistics import Difference
from survey.settings import Settings


class Options(Settings):
    """The network's architecture."""

    components: int = Field(128, ge=4, le=2048, description="numbers that a spectrum is reduced to")
    hidden: int = Field(256, ge=4, le=8192, description="width of the dense layers")
    depth: int = Field(2, ge=1, le=16, description="number of the dense layers")
    dropout: Share = Field(0.1, description="share of the dense features that are dropped in training")
    broad: int = Field(
        0,
        ge=0,
        le=256,
        description="bins of the continuum's shape as extra input; 0 = none; needs prepare.continuum=dual",
    )


class Net(Network):
    """Difference from the mean, components, dense layers, heads."""

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        if pixels < options.components or pixels < options.broad:
            raise ValueError(
                f"prism: spectra have {pixels} pixels, fewer than options.components={options.components} "
                f"or options.broad={options.broad}; give smaller numbers"
            )
        self.extra_inputs = ("continuum",) if options.broad else ()
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
        self.dropout = FeatureDropout(options.dropout)
        self.heads = Heads(options.hidden, options.hidden, task)

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The mean of every pixel, the spread between stars, and the principal components."""
        del continuum_BP
        self.difference.fit(flux_BP, ivar_BP)
        difference_BP = self.difference.of(torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP)
        count = min(self.components.out_features, *difference_BP.shape)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            _, strength_K, axes_PK = torch.pca_lowrank(difference_BP, count, center=True, niter=4)
            scale_K = len(difference_BP) ** 0.5 / strength_K.clamp_min(1e-6)
            self.components.weight[:count] = (axes_PK * scale_K).T

    def unscaled_layers(self) -> list[nn.Module]:
        """The dense layers: with rescaled weights, the errors of all labels were 8 % larger."""
        return [self.first, *self.layers]

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Components, then dense layers, then heads."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # stars differ by a few thousandths only
            z_BD: Tensor = self.components(self.difference.of(flux_BP, ivar_BP))
        if continuum_BP is not None and hasattr(self, "broad"):
            log_B1P = continuum_BP.clamp_min(1e-3).log()[:, None]
            shape_BK = functional.adaptive_avg_pool1d(log_B1P, self.broad.in_features)[:, 0]
            z_BD = torch.cat([z_BD, self.broad(shape_BK)], 1)
        z_BD = self.dropout(functional.silu(self.first(z_BD)))
        for layer in self.layers:
            z_BD = self.dropout(functional.silu(layer(z_BD)))
        outputs: Outputs = self.heads(z_BD, z_BD)
        return outputs | {"latent": z_BD}
