"""The part of a spectrum that a network sees: some wavelengths, clipped and smoothed.

It belongs to the network: a run applies it to every spectrum that it predicts. Shapes: B spectra, P pixels, K
kernel.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import savgol_coeffs
from torch import Tensor, nn
from torch.nn import functional

from survey.models.settings import View


class ViewLayer(nn.Module):
    """Applies a view to spectra; it has nothing that is learned or saved."""

    seen_P: Tensor
    kernel_K: Tensor

    def __init__(self, view: View, wave_P: NDArray[Any]) -> None:
        super().__init__()
        self.settings = view
        seen_P = np.zeros(len(wave_P), bool) if view.windows else np.ones(len(wave_P), bool)
        for low, high in view.windows:
            inside_P = (wave_P >= low) & (wave_P <= high)
            if not inside_P.any():
                raise ValueError(
                    f"view.windows: {low:g} to {high:g}: no pixel of the grid, which covers "
                    f"{wave_P[0]:.0f} to {wave_P[-1]:.0f}; give a window inside the grid"
                )
            seen_P |= inside_P
        self.register_buffer("seen_P", torch.from_numpy(seen_P), persistent=False)
        kernel_K = torch.from_numpy(savgol_coeffs(view.smooth, 2).copy()).float() if view.smooth else None
        self.register_buffer("kernel_K", kernel_K, persistent=False)

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and ivar of the view; pixels outside it become bad: flux 1, ivar 0."""
        ivar_BP = torch.where(self.seen_P, ivar_BP, 0.0)
        good_BP = ivar_BP > 0
        if self.settings.clip:
            flux_BP = flux_BP.clamp(*self.settings.clip)
        flux_BP = torch.where(good_BP, flux_BP, 1.0)
        if self.settings.smooth:
            flux_BP = torch.where(good_BP, self._smoothed(flux_BP), 1.0)
            ivar_BP = ivar_BP / self.kernel_K.to(flux_BP).square().sum()
        return flux_BP, ivar_BP

    def _smoothed(self, flux_BP: Tensor) -> Tensor:
        kernel_K = self.kernel_K.to(flux_BP)
        with torch.autocast(flux_BP.device.type, enabled=False):  # stars differ by a few thousandths only
            line_B1P = flux_BP[:, None] - 1
            around_B1P = functional.conv1d(line_B1P, kernel_K[None, None], padding=self.settings.smooth // 2)
            return 1 + around_B1P[:, 0]
