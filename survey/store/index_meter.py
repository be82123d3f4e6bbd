"""Measures the indices of lines and bands of spectra on a grid, before normalisation.

Shapes: B spectra, G grid points, K windows, S grid points of a window.
"""

import numpy as np
import torch
from torch import Tensor

from survey.sources.wavelengths import air_to_vacuum
from survey.spectrum import Grid
from survey.store.indices import INDICES, Index

COVERED = 0.8
"""Share of the points of a window that must be good; else the index is not known."""


class IndexMeter:
    """Measures all indices of spectra on one grid."""

    def __init__(self, grid: Grid, device: torch.device) -> None:
        self.windows = sorted(
            {window for index in INDICES.values() for window in index.feature + index.sides}
        )
        self.number = {window: number for number, window in enumerate(self.windows)}
        edges_K2 = air_to_vacuum(np.array(self.windows))
        self.centre_K = torch.from_numpy(edges_K2.mean(1)).float().to(device)
        self.width_K = torch.from_numpy(edges_K2[:, 1] - edges_K2[:, 0]).float().to(device)
        self.bands = [slice(*np.searchsorted(grid.wave, edges)) for edges in edges_K2]
        covered = (edges_K2[:, 0] >= grid.wave[0]) & (edges_K2[:, 1] <= grid.wave[-1])
        self.is_covered = [
            inside and band.stop - band.start > 1 for inside, band in zip(covered, self.bands, strict=True)
        ]
        self.step_G = torch.from_numpy(np.gradient(grid.wave).astype(np.float32)).to(device)

    def __call__(self, flux_BG: Tensor, ivar_BG: Tensor) -> dict[str, np.ndarray]:
        """The indices of these spectra, NaN where a window is not covered."""
        good_BG = ivar_BG.sign()
        mean_BK = torch.stack([self._mean(flux_BG, good_BG, number) for number in range(len(self.bands))], 1)
        return {name: self._measure(index, mean_BK).cpu().numpy() for name, index in INDICES.items()}

    def _mean(self, flux_BG: Tensor, good_BG: Tensor, number: int) -> Tensor:
        """The mean flux of a window; NaN where too little of it is good.

        Row by row, so that the number of a spectrum does not depend on its batch.
        """
        if not self.is_covered[number]:
            return torch.full_like(flux_BG[:, 0], torch.nan)
        band = self.bands[number]
        weight_BS = good_BG[:, band] * self.step_G[band]
        good_B = weight_BS.sum(1)
        mean_B = torch.linalg.vecdot(flux_BG[:, band], weight_BS) / good_B
        return torch.where(good_B > COVERED * self.step_G[band].sum(), mean_B, torch.nan)

    def _measure(self, index: Index, mean_BK: Tensor) -> Tensor:
        features, sides = ([self.number[window] for window in part] for part in (index.feature, index.sides))
        side_BK = mean_BK[:, sides]
        if index.is_ratio:
            ratio_B = mean_BK[:, features[0]] / side_BK[:, 0]
            return torch.where((side_BK[:, 0] > 0) & (ratio_B > 0), ratio_B, torch.nan)
        centre_K = self.centre_K[sides] - self.centre_K[sides].mean()
        slope_B = (side_BK * centre_K).sum(1) / (centre_K**2).sum()
        width_B = torch.zeros_like(slope_B)
        for number in features:
            continuum_B = side_BK.mean(1) + slope_B * (self.centre_K[number] - self.centre_K[sides].mean())
            depth_B = 1 - mean_BK[:, number] / continuum_B
            width_B = width_B + torch.where(continuum_B > 0, depth_B, torch.nan) * self.width_K[number]
        return width_B
