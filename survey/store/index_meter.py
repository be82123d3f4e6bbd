"""Measures the indices of lines and bands of spectra on a grid, before normalisation.

Shapes: B spectra, G grid points, K windows, S grid points or sides of a window, N indices, R indices that are
ratios, F features of the others.
"""

import numpy as np
import torch
from torch import Tensor

from survey.sources.wavelengths import air_to_vacuum
from survey.spectrum import Grid
from survey.store.indices import INDICES

COVERED = 0.8
"""Share of the points of a window that must be good; else the index is not known."""


class IndexMeter:
    """Measures all indices of spectra on one grid."""

    def __init__(self, grid: Grid, device: torch.device, *, compiled: bool = False) -> None:
        self.compiled = compiled
        windows = sorted({window for index in INDICES.values() for window in index.feature + index.sides})
        edges_K2 = air_to_vacuum(np.array(windows))
        self.bands = [slice(*np.searchsorted(grid.wave, edges)) for edges in edges_K2]
        covered = (edges_K2[:, 0] >= grid.wave[0]) & (edges_K2[:, 1] <= grid.wave[-1])
        step_G = np.gradient(grid.wave).astype(np.float32)
        least = [
            COVERED * step_G[band].sum() if inside and band.stop - band.start > 1 else np.inf
            for inside, band in zip(covered, self.bands, strict=True)
        ]
        self.step_G = torch.from_numpy(step_G).to(device)
        self.least_K = torch.tensor(least, dtype=torch.float32, device=device)
        self._set_up_ratios(windows, device)
        self._set_up_widths(windows, edges_K2, device)

    def _set_up_ratios(self, windows: list[tuple[float, float]], device: torch.device) -> None:
        """The numbers of the windows of each ratio."""
        ratios = {number: index for number, index in enumerate(INDICES.values()) if index.is_ratio}
        self.ratio_R = torch.tensor(list(ratios), device=device)
        self.upper_R, self.lower_R = (
            torch.tensor([windows.index(part[0]) for part in parts], device=device)
            for parts in zip(*((index.feature, index.sides) for index in ratios.values()), strict=True)
        )

    def _set_up_widths(
        self, windows: list[tuple[float, float]], edges_K2: np.ndarray, device: torch.device
    ) -> None:
        """For each feature its index, its windows, and what each side counts in the continuum there.

        The continuum is the straight line that fits the means of the sides best. Sides of no weight
        fill up.
        """
        centre_K, width_K = edges_K2.mean(1), edges_K2[:, 1] - edges_K2[:, 0]
        most = max(len(index.sides) for index in INDICES.values())
        rows = []
        for number, index in enumerate(INDICES.values()):
            sides = [windows.index(window) for window in index.sides]
            centre_S = centre_K[sides] - centre_K[sides].mean()
            for feature in () if index.is_ratio else map(windows.index, index.feature):
                distance = centre_K[feature] - centre_K[sides].mean()
                weights = 1 / len(sides) + distance * centre_S / (centre_S**2).sum()
                filled = most - len(sides)
                rows.append((number, feature, sides + sides[:1] * filled, [*weights, *[0.0] * filled]))
        index_F, feature_F, side_FS, weight_FS = zip(*rows, strict=True)
        self.index_F, self.feature_F, self.side_FS = (
            torch.tensor(numbers, device=device) for numbers in (index_F, feature_F, side_FS)
        )
        self.weight_FS = torch.tensor(weight_FS, dtype=torch.float32, device=device)
        self.width_F = torch.from_numpy(width_K).float().to(device)[self.feature_F]

    def __call__(self, flux_BG: Tensor, ivar_BG: Tensor) -> dict[str, np.ndarray]:
        """The indices of these spectra, NaN where a window is not covered."""
        mean_BK = self._means(flux_BG, ivar_BG)
        index_BN = torch.zeros((len(mean_BK), len(INDICES)), device=mean_BK.device)
        continuum_BF = (mean_BK[:, self.side_FS] * self.weight_FS).sum(2)
        depth_BF = torch.where(continuum_BF > 0, 1 - mean_BK[:, self.feature_F] / continuum_BF, torch.nan)
        index_BN.index_add_(1, self.index_F, depth_BF * self.width_F)
        lower_BR = mean_BK[:, self.lower_R]
        ratio_BR = mean_BK[:, self.upper_R] / lower_BR
        index_BN[:, self.ratio_R] = torch.where((lower_BR > 0) & (ratio_BR > 0), ratio_BR, torch.nan)
        return dict(zip(INDICES, index_BN.T.cpu().numpy(), strict=True))

    def _means(self, flux_BG: Tensor, ivar_BG: Tensor) -> Tensor:
        """The mean flux of each window; NaN where too little of it is good.

        Row by row, so that the numbers of a spectrum do not depend on its batch.
        """
        if self.compiled:
            from survey.store.loops.measure import window_means

            return window_means(flux_BG, ivar_BG, self.bands, self.step_G, self.least_K)
        good_BG = ivar_BG.sign()
        means = []
        for band, least in zip(self.bands, self.least_K, strict=True):
            weight_BS = good_BG[:, band] * self.step_G[band]
            good_B = weight_BS.sum(1)
            mean_B = torch.linalg.vecdot(flux_BG[:, band], weight_BS) / good_B
            means.append(torch.where(good_B > least, mean_B, torch.nan))
        return torch.stack(means, 1)
