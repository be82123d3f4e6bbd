"""A Wiener filter in front of a network: every pixel weighed by what it is worth.

A pixel is freed of the training set's mean spectrum, divided by the spread between stars, and shrunk by signal / (signal + noise), its own noise
from `ivar`; a bad pixel says nothing.
"""

import torch
from torch import Tensor, nn

FLAT = 1e-3
"""No pixel's spread between stars counts as less."""


class Wiener(nn.Module):
    """Mean of every pixel and its spread between stars, learned from the data once; nothing here is trained."""

    mean_P: Tensor
    spread_P: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean_P", torch.ones(pixels))
        self.register_buffer("spread_P", torch.full((pixels,), 0.1))

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor) -> None:
        """Take mean and spread from the good pixels of some training spectra."""
        good_BP = ivar_BP > 0
        count_P = good_BP.sum(0).clamp_min(1)
        self.mean_P.copy_(torch.where(good_BP.any(0), torch.where(good_BP, flux_BP, 0.0).sum(0) / count_P, 1.0))
        self.spread_P.copy_((torch.where(good_BP, flux_BP - self.mean_P, 0.0).square().sum(0) / count_P).sqrt().clamp_min(FLAT))

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """What each pixel says in units of the spread between stars, and how much that is worth, 0 to 1; both 0 where it is bad."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # differences of a few thousandths
            worth_BP = self.spread_P**2 * ivar_BP
            worth_BP = worth_BP / (1 + worth_BP)
            return (flux_BP - self.mean_P) / self.spread_P * worth_BP, worth_BP
