"""What of a spectrum a network gets to see: some wavelengths, within limits, smoothed. A preparation that needs no store of its own.

It belongs to the network: whoever asks a run about a spectrum shows it what it has learned from. Shapes: B spectra, P pixels.
"""

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy.signal import savgol_coeffs
from torch import Tensor, nn
from torch.nn import functional

from survey.settings import Settings

Window = Annotated[tuple[float, float], Field(strict=False)]


class View(Settings):
    """What is seen of a spectrum."""

    windows: tuple[Window, ...] = Field(
        (),
        strict=False,
        description="wavelengths that are seen, from and to in vacuum angstrom, such as [[5160, 5190], [8490, 8670]]; none = all",
    )
    clip: tuple[float, float] | None = Field(
        None, strict=False, description="flux below and above is set to these, such as [0, 2]"
    )
    smooth: int = Field(
        0,
        ge=0,
        le=99,
        description="pixels of a Savitzky-Golay filter of order 2, an odd number from 5; 0 = none",
    )

    @field_validator("windows")
    @classmethod
    def _rising(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in value:
            if not 0 < low < high:
                raise ValueError(f"{low:g} to {high:g} is no window; give from and to, such as [5160, 5190]")
        return value

    @field_validator("clip")
    @classmethod
    def _apart(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and not value[0] < 1 < value[1]:
            raise ValueError("the continuum, 1, lies between the limits; give such as [0, 2]")
        return value

    @field_validator("smooth")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value and (value % 2 == 0 or value < 5):
            raise ValueError("an odd number from 5, or 0 for none")
        return value


class Seeing(nn.Module):
    """Shows spectra as a view has them; nothing here is learned or saved."""

    seen_P: Tensor
    kernel_K: Tensor

    def __init__(self, view: View, wave_P: NDArray[Any]) -> None:
        super().__init__()
        self.view = view
        seen_P = np.zeros(len(wave_P), bool) if view.windows else np.ones(len(wave_P), bool)
        for low, high in view.windows:
            inside_P = (wave_P >= low) & (wave_P <= high)
            if not inside_P.any():
                raise ValueError(
                    f"view.windows: {low:g} to {high:g}: no pixel of the grid, which goes from {wave_P[0]:.0f} to {wave_P[-1]:.0f}"
                )
            seen_P |= inside_P
        self.register_buffer("seen_P", torch.from_numpy(seen_P), persistent=False)
        self.register_buffer(
            "kernel_K",
            torch.from_numpy(savgol_coeffs(view.smooth, 2).copy()).float() if view.smooth else None,
            persistent=False,
        )

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and ivar as they are seen; what is not seen is bad: flux 1, ivar 0."""
        ivar_BP = torch.where(self.seen_P, ivar_BP, 0.0)
        good_BP = ivar_BP > 0
        if self.view.clip:
            flux_BP = flux_BP.clamp(*self.view.clip)
        flux_BP = torch.where(good_BP, flux_BP, 1.0)
        if self.view.smooth:
            with torch.autocast(flux_BP.device.type, enabled=False):  # differences of a few thousandths
                kernel_K = self.kernel_K.to(flux_BP)
                around_BP = functional.conv1d(
                    flux_BP[:, None] - 1, kernel_K[None, None], padding=self.view.smooth // 2
                )[:, 0]
                flux_BP = torch.where(good_BP, 1 + around_BP, 1.0)
                ivar_BP = ivar_BP / kernel_K.square().sum()
        return flux_BP, ivar_BP
