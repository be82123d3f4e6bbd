"""Ranges of wavelength that become bad in some training spectra: a network learns to do without what the
computation has wrong there, such as cores of hydrogen lines, Na D or bands of TiO.

What is drawn depends on the seed and on the row in the batch, not on the number of workers.
Shapes: B spectra of a batch of all workers, G ranges, P pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from survey.settings import SettingsError
from survey.training.batches import Spectra
from survey.training.residual_settings import Regions


class RegionGaps:
    """Makes ranges bad in the spectra of batches."""

    def __init__(self, settings: Regions, wave_P: NDArray[np.float64]) -> None:
        self.probability = settings.probability
        inside_GP = [(wave_P >= low) & (wave_P <= high) for low, high in settings.ranges]
        for (low, high), inside_P in zip(settings.ranges, inside_GP, strict=True):
            if not inside_P.any():
                raise SettingsError(
                    f"train: regions.ranges: {low:g} to {high:g}: no pixel of the grid, which covers "
                    f"{wave_P[0]:.0f} to {wave_P[-1]:.0f}; give ranges inside the grid"
                )
        self.inside_GP = torch.from_numpy(np.stack(inside_GP)).float()

    def __call__(self, spectra: Spectra, rows: int, seed: Sequence[int], start: int) -> Spectra:
        """This worker's spectra of a batch of so many `rows`; its first row is `start`."""
        chance_BG = np.random.default_rng(list(seed)).random((rows, len(self.inside_GP)))
        is_bad_BG = torch.from_numpy(chance_BG[start : start + len(spectra)] < self.probability)
        device = spectra.flux.device
        is_bad_BP = (is_bad_BG.float() @ self.inside_GP).to(device) > 0
        return replace(
            spectra,
            flux=torch.where(is_bad_BP, 1.0, spectra.flux),
            ivar=torch.where(is_bad_BP, 0.0, spectra.ivar),
        )
