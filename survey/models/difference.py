"""How a spectrum differs from the mean one, and what each pixel is worth: what networks begin with that read pixels at their place.

All pixels are in units of one spread, so those in which stars differ much have the most to say. To divide each by its own spread, and to shrink
it by its own noise, was measured to cost a tenth in every label (benchmarks/RESULTS.md): what is faint and noisy is made as loud as the rest.
"""

import torch
from torch import Tensor, nn

FLAT = 1e-3
"""The spread between stars counts as no less."""


class Difference(nn.Module):
    """Mean of every pixel and one spread for all, learned from the data once; nothing here is trained."""

    mean_P: Tensor
    spread: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean_P", torch.ones(pixels))
        self.register_buffer("spread", torch.tensor(0.1))

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor) -> None:
        """Take mean and spread from the good pixels of some training spectra."""
        good_BP = ivar_BP > 0
        count_P = good_BP.sum(0).clamp_min(1)
        self.mean_P.copy_(
            torch.where(good_BP.any(0), torch.where(good_BP, flux_BP, 0.0).sum(0) / count_P, 1.0)
        )
        spread_P = (torch.where(good_BP, flux_BP - self.mean_P, 0.0).square().sum(0) / count_P).sqrt()
        self.spread.copy_(spread_P.mean().clamp_min(FLAT))

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """What each pixel says in units of the spread, and what that is worth beside its noise, 0 to 1; both 0 where it is bad."""
        with torch.autocast(flux_BP.device.type, enabled=False):  # differences of a few thousandths
            worth_BP = self.spread**2 * ivar_BP
            light_BP = torch.where(ivar_BP > 0, (flux_BP - self.mean_P) / self.spread, 0.0)
            return light_BP, worth_BP / (1 + worth_BP)
