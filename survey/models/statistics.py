"""Statistics of spectra that are fitted once, before the first step: mean spectrum, principal components.

Shapes: N spectra of the fit, B spectra of a batch, P pixels, K components.
"""

import torch
from torch import Tensor, nn

NOISE_FLOOR = 1e-6
"""Components with less scatter than this, relative to the strongest, are rounding errors and set to 0."""
MIN_SPREAD = 1e-3
"""The spread between stars is taken to be at least this."""


class Components(nn.Module):
    """Principal components of spectra, each scaled to scatter 1 among the spectra of the fit."""

    mean_P: Tensor
    axes_PK: Tensor

    def __init__(self, pixels: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean_P", torch.ones(pixels))
        self.register_buffer("axes_PK", torch.zeros(pixels, count))

    def fit(self, flux_NP: Tensor) -> None:
        """Compute mean and directions from some spectra. N spectra differ from their mean in N - 1 directions
        at most: further ones stay 0, because they would hold the roundings of the mean alone.
        """
        mean_P = flux_NP.mean(0)
        residual_NP = flux_NP - mean_P
        spectra, pixels = residual_NP.shape
        count = max(min(self.axes_PK.shape[1], spectra - 1, pixels), 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, strength_K, axes_PK = torch.pca_lowrank(residual_NP, count, center=False, niter=4)
        scatter_K = strength_K / max(len(flux_NP) - 1, 1) ** 0.5
        real_K = scatter_K > NOISE_FLOOR * scatter_K.max()
        self.mean_P.copy_(mean_P)
        self.axes_PK.zero_()
        self.axes_PK[:, :count] = torch.where(
            real_K, axes_PK / scatter_K.clamp_min(torch.finfo(torch.float32).tiny), 0.0
        )

    def forward(self, flux_BP: Tensor) -> Tensor:
        """The components of spectra."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # stars differ by a few thousandths only
            return (flux_BP.to(self.mean_P.dtype) - self.mean_P) @ self.axes_PK


class Difference(nn.Module):
    """The difference of a spectrum from the mean spectrum, and a weight of each pixel by its noise.

    All pixels are divided by the same spread, so those in which stars differ most stay the largest. Dividing
    each pixel by its own spread, or shrinking it by its own noise, raised the error of every label by a tenth
    (benchmarks/RESULTS.md): it makes faint and noisy pixels as large as the others.
    """

    mean_P: Tensor
    spread: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean_P", torch.ones(pixels))
        self.register_buffer("spread", torch.tensor(0.1))

    def fit(self, flux_NP: Tensor, ivar_NP: Tensor) -> None:
        """Compute mean and spread from the good pixels of some training spectra."""
        good_NP = ivar_NP > 0
        count_P = good_NP.sum(0).clamp_min(1)
        sum_P = torch.where(good_NP, flux_NP, 0.0).sum(0)
        self.mean_P.copy_(torch.where(good_NP.any(0), sum_P / count_P, 1.0))
        squares_P = torch.where(good_NP, flux_NP - self.mean_P, 0.0).square().sum(0)
        self.spread.copy_((squares_P / count_P).sqrt().mean().clamp_min(MIN_SPREAD))

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """The difference in units of the spread, and the weight (0 to 1); both are 0 in bad pixels."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # stars differ by a few thousandths only
            signal_to_noise_BP = self.spread**2 * ivar_BP
            return self.of(flux_BP, ivar_BP), signal_to_noise_BP / (1 + signal_to_noise_BP)

    def of(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """The difference alone."""
        return torch.where(ivar_BP > 0, (flux_BP - self.mean_P) / self.spread, 0.0)
