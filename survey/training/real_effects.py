"""What training spectra get of the real sky and of real telescopes: residuals, and gaps in ranges of
wavelength.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from survey import files
from survey.labelling.samples import Samples
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.distributed import Ranks
from survey.training.regions import RegionGaps
from survey.training.residuals import RESIDUALS, ResidualBank, Transplant, choose_samples
from survey.training.settings import Train
from survey.training.synthesis import ReadSamples

RESIDUAL_SEED, REGION_SEED = 7, 8
"""Purposes of random numbers, after the seed of the training."""


@dataclass(frozen=True)
class RealEffects:
    """The effects that a training uses."""

    transplant: Transplant | None
    gaps: RegionGaps | None

    @staticmethod
    def check(settings: Train, train: Samples, wave_P: NDArray[np.float64]) -> None:
        """An error if these effects cannot be made; no spectrum is read."""
        if settings.regions.probability > 0:
            RegionGaps(settings.regions, wave_P)
        if settings.residuals.probability > 0:
            choose_samples(settings.residuals, train)

    @classmethod
    def make(
        cls,
        settings: Train,
        train: Samples,
        wave_P: NDArray[np.float64],
        folder: str,
        read: ReadSamples,
        ranks: Ranks,
    ) -> Self:
        """The effects of a training. The leader makes the residuals once, and keeps them in `folder`."""
        gaps = RegionGaps(settings.regions, wave_P) if settings.regions.probability > 0 else None
        if not settings.residuals.probability:
            return cls(None, gaps)
        path = files.join(folder, RESIDUALS)
        if ranks.is_leader and not files.exists(path):
            bank = ResidualBank.make(settings.residuals, train, read)
            checkpoint.write_tensors(path, bank.tensors(), {"spectra": len(bank)})
        ranks.wait()
        bank = ResidualBank(**checkpoint.read_tensors(path)[0])
        return cls(Transplant(settings.residuals, train, bank), gaps)

    def __call__(
        self,
        spectra: Spectra,
        batch_index: NDArray[np.int64],
        seed: Callable[[int], Sequence[int]],
        start: int,
    ) -> Spectra:
        """This worker's spectra of a batch; `seed` gives the seed of each purpose."""
        if self.transplant is not None:
            spectra = self.transplant(spectra, batch_index, seed(RESIDUAL_SEED), start)
        if self.gaps is not None:
            spectra = self.gaps(spectra, len(batch_index), seed(REGION_SEED), start)
        return spectra
