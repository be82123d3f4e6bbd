"""Residuals of real spectra, added to computed ones in training: calibration errors, remains of the sky, and
lines that the computation has wrong.

The spectrum that the main source has for some labels is the spectral model of `survey.training.synthesis`,
fitted to its training spectra in Teff, logg and [Fe/H]. A residual is a labelled training spectrum of another
source minus this spectrum for its labels, smoothed, because noise is added elsewhere. A spectrum of the main
source gets the residual of a star with similar labels, times a random factor. So a network sees, at labels
that are known exactly, what only real spectra have. Stars of validation and test give no residuals. What is
drawn depends on the seed and on the row in the batch, not on the number of workers.

Shapes: N training spectra, B spectra of a batch of all workers, R residuals, I labels, P pixels, W pixels of
a window.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import conv1d

from survey.labelling.samples import Samples
from survey.settings import SettingsError
from survey.training.batches import Spectra
from survey.training.residual_settings import Residuals
from survey.training.source_settings import MAIN
from survey.training.sources import source_names
from survey.training.synthesis import ReadSamples, SpectralModel, label_columns, select_rows
from survey.training.synthesis_settings import Synthesis, usable_order

RESIDUALS = "residuals.safetensors"
"""The file of the residuals among a run's checkpoints."""
INPUTS = ("Teff", "logg", "FeH")
"""The labels that residuals are compared by. Carbon is not known of most real stars."""
LEAST = 20
"""With fewer residuals a network would learn them by heart."""
LARGEST = 0.5
"""Larger residuals are errors of a spectrum or of the model; they are limited to this (of the continuum)."""

Rows = NDArray[np.int64]


def main_rows(train: Samples) -> Rows:
    """The training spectra of the main source with all labels of `INPUTS`."""
    return _known_rows(train, source_names(train) == MAIN)


def other_rows(train: Samples, least_snr: float) -> Rows:
    """The training spectra of other sources with all labels of `INPUTS`, and enough signal to noise."""
    is_other_N = source_names(train) != MAIN
    if "snr" in train.extra.column_names:
        snr_N = train.extra["snr"].to_numpy(zero_copy_only=False).astype(np.float64)
        is_other_N = is_other_N & (snr_N >= least_snr)
    return _known_rows(train, is_other_N)


def _known_rows(train: Samples, chosen_N: NDArray[np.bool_]) -> Rows:
    if not set(INPUTS) <= set(train.labels):
        return np.empty(0, np.int64)
    return np.flatnonzero(chosen_N & np.isfinite(label_columns(train, INPUTS)).all(1))


def choose_samples(settings: Residuals, train: Samples) -> tuple[Samples, Samples]:
    """Training spectra of the spectral model, and those that give residuals; an error if they are too few."""
    main = train.at(main_rows(train))
    if not usable_order(Synthesis().order, INPUTS, len(main)):
        raise SettingsError(
            f"train: residuals: {len(main)} training spectra of the main source have {', '.join(INPUTS)}, "
            "too few for a spectral model; give residuals.probability=0"
        )
    main = main.at(select_rows(Synthesis(), main, INPUTS))
    main_NI, other = label_columns(main, INPUTS), train.at(other_rows(train, settings.snr))
    label_NI = label_columns(other, INPUTS)
    inside = np.flatnonzero(((label_NI >= main_NI.min(0)) & (label_NI <= main_NI.max(0))).all(1))
    if len(inside) < LEAST:
        raise SettingsError(
            f"train: residuals: {len(inside)} training spectra of other sources have "
            f"{', '.join(INPUTS)} inside the range of the main source, and a signal to noise of "
            f"{settings.snr:g}; {LEAST} are needed: give another source in sources, or "
            "residuals.probability=0"
        )
    return main, other.at(inside)


@dataclass(frozen=True)
class ResidualBank:
    """Residuals (R, P) in half precision, 0 where a pixel is bad, and the labels of their stars (R, I)."""

    residual_RP: Tensor
    label_RI: Tensor

    def __len__(self) -> int:
        return len(self.residual_RP)

    @classmethod
    def make(cls, settings: Residuals, train: Samples, read: ReadSamples) -> Self:
        """From the training spectra."""
        main, other = choose_samples(settings, train)
        order = usable_order(Synthesis().order, INPUTS, len(main))
        model = SpectralModel.of_samples(main, INPUTS, order, read)
        label_NI = torch.from_numpy(label_columns(other, INPUTS))
        parts, first = [], 0
        for spectra in read(other):
            expected_BP = model(label_NI[first : first + len(spectra)])
            parts.append(_residuals(spectra, expected_BP, settings.smooth).half())
            first += len(spectra)
        return cls(torch.cat(parts), label_NI)

    def tensors(self) -> dict[str, Tensor]:
        """All that it is made of."""
        return {"residual_RP": self.residual_RP, "label_RI": self.label_RI}


def _residuals(spectra: Spectra, expected_BP: Tensor, smooth: float) -> Tensor:
    """What is left of spectra without what is expected, smoothed; 0 where a pixel is bad."""
    weight_BP = spectra.ivar
    left_BP = torch.where(weight_BP > 0, spectra.flux - expected_BP, 0.0).clamp(-LARGEST, LARGEST)
    if smooth > 0:
        reach = math.ceil(4 * smooth)
        offset_W = torch.arange(-reach, reach + 1, dtype=left_BP.dtype)
        kernel_W = torch.exp(-0.5 * (offset_W / smooth) ** 2)
        sum_BP, weights_BP = (
            conv1d(values_BP[:, None], kernel_W[None, None], padding=reach)[:, 0]
            for values_BP in (left_BP * weight_BP, weight_BP)
        )
        left_BP = sum_BP / weights_BP.clamp_min(torch.finfo(weights_BP.dtype).tiny)
    return torch.where(weight_BP > 0, left_BP, 0.0)


class Transplant:
    """Adds residuals to the spectra of the main source, batch by batch."""

    def __init__(self, settings: Residuals, train: Samples, bank: ResidualBank) -> None:
        self.settings, self.bank = settings, bank
        self.row_N = np.full(len(train), -1, np.int64)
        main = main_rows(train)
        self.row_N[main] = np.arange(len(main))
        self.near_NK = _nearest(label_columns(train.at(main), INPUTS), bank.label_RI, settings.nearest)

    def __call__(self, spectra: Spectra, batch_index: Rows, seed: Sequence[int], start: int) -> Spectra:
        """This worker's spectra of the batch, whose first row is `start`, some of them with residuals."""
        rng = np.random.default_rng(list(seed))
        chance_B, place_B, factor_B = rng.random((3, len(batch_index)))
        row_B = self.row_N[batch_index]
        local = slice(start, start + len(spectra))
        chosen = np.flatnonzero((row_B >= 0) & (chance_B < self.settings.probability))
        chosen = chosen[(chosen >= local.start) & (chosen < local.stop)]
        if not len(chosen):
            return spectra
        place_V = (place_B[chosen] * self.near_NK.shape[1]).astype(np.int64)
        bank_V = torch.from_numpy(self.near_NK[row_B[chosen], place_V])
        device = spectra.flux.device
        factor_V1 = torch.from_numpy(self.settings.strength * factor_B[chosen]).float()[:, None].to(device)
        index_V = torch.from_numpy(chosen - start).to(device)
        added_VP = factor_V1 * self.bank.residual_RP[bank_V].float().to(device)
        added_VP = torch.where(spectra.ivar[index_V] > 0, added_VP, 0.0)
        return replace(spectra, flux=spectra.flux.index_add(0, index_V, added_VP))


def _nearest(label_NI: NDArray[np.float64], label_RI: Tensor, count: int) -> Rows:
    """The residuals (N, K) of the stars whose labels, in units of their scatter, are the most similar."""
    known_RI = label_RI.numpy()
    scale_I = np.maximum(known_RI.std(0), 1e-9)
    tree = cKDTree(known_RI / scale_I)
    near = tree.query(label_NI / scale_I, k=np.arange(1, min(count, len(known_RI)) + 1))[1]
    return np.asarray(near, np.int64)
