"""Principal components of spectra: few numbers that hold most of what tells stars apart. Fixed once by `behold`, trained by nobody."""

import torch
from torch import Tensor, nn

FAINT = 1e-6
"""Components that scatter by less, relative to the first, are rounding and say 0."""


class Components(nn.Module):
    """Mean spectrum and the directions of greatest variance, scaled so that each component scatters by 1 among the spectra beheld."""

    mean_P: Tensor
    axes_PK: Tensor

    def __init__(self, pixels: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean_P", torch.ones(pixels))
        self.register_buffer("axes_PK", torch.zeros(pixels, count))

    def behold(self, flux_NP: Tensor) -> None:
        """Take mean and directions from some spectra; where these are too few for so many directions, the last ones stay 0."""
        mean_P = flux_NP.mean(0)
        away_NP = flux_NP - mean_P
        count = min(self.axes_PK.shape[1], *away_NP.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, strength_K, axes_PK = torch.pca_lowrank(away_NP, count, center=False, niter=4)
        scatter_K = strength_K / max(len(flux_NP) - 1, 1) ** 0.5
        heard_K = scatter_K > FAINT * scatter_K.max()
        self.mean_P.copy_(mean_P)
        self.axes_PK.zero_()
        self.axes_PK[:, :count] = torch.where(
            heard_K, axes_PK / scatter_K.clamp_min(torch.finfo(torch.float32).tiny), 0.0
        )

    def forward(self, flux_BP: Tensor) -> Tensor:
        """The components of spectra."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # differences of a few thousandths
            return (flux_BP.to(self.mean_P.dtype) - self.mean_P) @ self.axes_PK
