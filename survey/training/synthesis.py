"""Training stars with other labels: their spectra are changed as a spectral model predicts.

Rare kinds of stars become less rare in training. The spectral model gives each pixel as a polynomial of the
labels, fitted to the training part (cf. The Cannon, Ness et al. 2015). It needs fewer stars than a network,
because lines change smoothly with labels. Only the ratio of two predicted spectra is applied, so noise,
calibration, continuum and all that labels do not determine stay those of the star. For training only. What is
drawn depends on the seed and on the row in the batch, not on the number of workers.

Shapes: N spectra of the fit, B spectra of a batch of all workers, V of them that are changed, I input labels
of the model, K terms of the polynomial, L labels of the task, P pixels, S pairs of terms.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations_with_replacement
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey.labelling.samples import Samples
from survey.labels import MISSING, Criterion, carbon_label, classes
from survey.models.settings import Task
from survey.training.batches import Spectra
from survey.training.losses import Targets
from survey.training.scaling import Scaling
from survey.training.synthesis_settings import Synthesis, input_labels

SPECTRAL_MODEL = "spectral_model.safetensors"
"""The file of the spectral model among a run's checkpoints."""
MAX_DEVIATIONS = 8.0
"""Labels are limited to this many standard deviations from their mean."""
MODEL_ERROR = 0.01
"""The error of the polynomials, of the continuum; it is added to the noise of each pixel."""
RIDGE = 0.007
"""Strength of the penalty on the weights of terms, as a share of the data's own weight."""
CHUNK = 512
"""Pixels whose equations are solved together."""
MIN_FLUX = 0.05
"""The flux of black lines: the spectral model predicts no less."""
FACTORS = (0.05, 3.0)
"""The limits of the factors by which a flux is changed."""

Rows = NDArray[np.int64]
ReadSamples = Callable[[Samples], Iterable[Spectra]]
"""Reads the spectra of samples in portions, in their order."""


@dataclass(frozen=True)
class SpectralModel:
    """Polynomials of all pixels in standardised labels, and the range of each label in the fitted spectra."""

    powers: tuple[tuple[int, ...], ...]
    center_I: Tensor
    scale_I: Tensor
    low_I: Tensor
    high_I: Tensor
    weight_KP: Tensor

    @classmethod
    def fit(cls, label_NI: NDArray[np.float64], spectra: Iterable[tuple[Tensor, Tensor]], order: int) -> Self:
        """A least-squares fit, weighted by the noise of each pixel.

        `spectra` yields flux and ivar in the order of the labels, in portions of any size.
        """
        powers = polynomial_terms(label_NI.shape[1], order)
        label = torch.from_numpy(label_NI)
        center_I, scale_I = label.mean(0), label.std(0).clamp_min(1e-9)
        row, column = torch.triu_indices(len(powers), len(powers))
        count, squares_PS, sums_PK, total = 0, torch.zeros(()), torch.zeros(()), 0.0
        for flux_BP, ivar_BP in spectra:
            label_BI = label[count : count + len(flux_BP)]
            term_BK = _term_values(label_BI, center_I, scale_I, powers).float()
            weight_BP = torch.where(ivar_BP > 0, 1 / (1 / ivar_BP.clamp_min(1e-12) + MODEL_ERROR**2), 0.0)
            weighted_BP = weight_BP * torch.where(ivar_BP > 0, flux_BP, 0.0)
            squares_PS = squares_PS + (weight_BP.T @ (term_BK[:, row] * term_BK[:, column])).double()
            sums_PK = sums_PK + (weighted_BP.T @ term_BK).double()
            total, count = total + float(weight_BP.double().sum()), count + len(flux_BP)
        mean_weight = total / (count * len(squares_PS))
        relative_K = torch.tensor([1e-6 if not power else 1.0 for power in powers], dtype=torch.float64)
        penalty_KK = torch.diag(relative_K * RIDGE * mean_weight * count)
        chunks = zip(torch.split(squares_PS, CHUNK), torch.split(sums_PK, CHUNK), strict=True)
        weight_PK = torch.cat([_solve(*chunk, penalty_KK) for chunk in chunks])
        return cls(powers, center_I, scale_I, label.amin(0), label.amax(0), weight_PK.T.float().contiguous())

    @classmethod
    def of_samples(cls, samples: Samples, labels: Sequence[str], order: int, read: ReadSamples) -> Self:
        """The fit to the spectra of some samples, all of whose labels are known."""
        spectra = ((part.flux, part.ivar) for part in read(samples))
        return cls.fit(label_columns(samples, labels), spectra, order)

    def tensors(self) -> dict[str, Tensor]:
        """All that it is made of, except its order."""
        return {name: getattr(self, name) for name in ("center_I", "scale_I", "low_I", "high_I", "weight_KP")}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], order: int) -> Self:
        """The model from its `tensors`."""
        return cls(polynomial_terms(len(tensors["center_I"]), order), **tensors)

    def to(self, device: torch.device) -> Self:
        """The same, with spectra on a device; labels stay where they are."""
        return replace(self, weight_KP=self.weight_KP.to(device))

    def __call__(self, label_NI: Tensor) -> Tensor:
        """The flux (N, P) of stars of these labels."""
        term_NK = _term_values(label_NI, self.center_I, self.scale_I, self.powers)
        return term_NK.to(self.weight_KP) @ self.weight_KP

    def factors(self, before_NI: Tensor, after_NI: Tensor) -> Tensor:
        """The factors of the flux (N, P) of stars whose labels change."""
        ratio_NP = self(after_NI).clamp_min(MIN_FLUX) / self(before_NI).clamp_min(MIN_FLUX)
        return ratio_NP.clamp(*FACTORS)

    def change(self, spectra: Spectra, before_NI: Tensor, after_NI: Tensor) -> Spectra:
        """Spectra of stars whose labels change. Errors change by the same factors as the flux."""
        factor_NP = self.factors(before_NI, after_NI)
        flux_NP = torch.where(spectra.ivar > 0, spectra.flux * factor_NP, spectra.flux)
        return replace(spectra, flux=flux_NP, ivar=spectra.ivar / factor_NP**2)


def _solve(squares_PS: Tensor, sums_PK: Tensor, penalty_KK: Tensor) -> Tensor:
    """The weights of some pixels, from the sums of products of their terms, each pair once."""
    row, column = torch.triu_indices(*penalty_KK.shape)
    square_PKK = squares_PS.new_zeros((len(squares_PS), *penalty_KK.shape))
    square_PKK[:, row, column] = squares_PS
    square_PKK[:, column, row] = squares_PS
    weight_PK: Tensor = torch.linalg.solve(square_PKK + penalty_KK, sums_PK)
    return weight_PK


def polynomial_terms(labels: int, order: int) -> tuple[tuple[int, ...], ...]:
    """The terms of a polynomial: the labels that are multiplied in each, none in the constant."""
    terms = chain.from_iterable(
        combinations_with_replacement(range(labels), power) for power in range(order + 1)
    )
    return tuple(terms)


def _term_values(
    label_NI: Tensor, center_I: Tensor, scale_I: Tensor, powers: tuple[tuple[int, ...], ...]
) -> Tensor:
    scaled_NI = ((label_NI - center_I) / scale_I).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    by_power: dict[tuple[int, ...], Tensor] = {(): scaled_NI.new_ones(len(scaled_NI))}
    for power in powers[1:]:
        by_power[power] = by_power[power[:-1]] * scaled_NI[:, power[-1]]
    return torch.stack([by_power[power] for power in powers], 1)


def usable_synthesis(settings: Synthesis, task: Task, train: Samples) -> tuple[Synthesis, tuple[str, ...]]:
    """What can be used of the settings with these training spectra, and what is left out, in words."""
    inputs = input_labels(task.labels)
    known = int(np.isfinite(label_columns(train, inputs)).all(1).sum()) if inputs else 0
    return settings.usable(task, known)


def select_rows(settings: Synthesis, train: Samples, inputs: Sequence[str]) -> Rows:
    """The training spectra of the fit: all input labels are known, rare classes come before others."""
    known = np.flatnonzero(np.isfinite(label_columns(train, inputs)).all(1))
    if len(known) <= settings.max_spectra:
        return known
    class_N = train.class_N[known]
    count_N = np.array([np.sum(class_N == number) for number in range(-1, class_N.max() + 1)])[class_N + 1]
    chance_N = np.random.default_rng([6, len(known)]).random(len(known)) * count_N
    return np.sort(known[np.argsort(chance_N, kind="stable")[: settings.max_spectra]])


def label_columns(train: Samples, names: Sequence[str]) -> NDArray[np.float64]:
    """These labels of some samples, in this order."""
    return train.label_NL[:, [train.labels.index(name) for name in names]]


@dataclass(frozen=True)
class LabelChanges:
    """The rows of a batch that are changed, and their labels before and after."""

    index_V: Rows
    before_VI: Tensor
    after_VI: Tensor


class Synthesizer:
    """Changes batches of training stars as the settings say."""

    def __init__(
        self,
        settings: Synthesis,
        task: Task,
        train: Samples,
        scaling: Scaling,
        criterion: Criterion,
        model: SpectralModel,
        label_ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.settings, self.task, self.scaling = settings, task, scaling
        self.criterion, self.model, self.label_ranges = criterion, model, label_ranges or {}
        self.labels, self.inputs = train.labels, input_labels(train.labels)
        self.label_NI = label_columns(train, self.inputs)
        usable_N = np.asarray(np.isfinite(self.label_NI).all(1))
        if task.classifies:
            # A class that does not follow from the labels comes from elsewhere; its change is unknown.
            usable_N = usable_N & (self._classes(self.label_NI) == train.class_N)
        redraw_N = usable_N.copy()
        for name, (low, high) in settings.redraw.where.items():
            column = self.label_NI[:, self.inputs.index(name)]
            redraw_N &= (column >= low) & (column <= high)
        self.usable_N, self.redraw_N = usable_N, redraw_N

    def _classes(self, label_NI: NDArray[np.float64]) -> NDArray[np.int8]:
        columns = dict(zip(self.inputs, label_NI.T, strict=True))
        return classes(
            columns["FeH"], columns["CFe"], self.criterion, columns.get("Teff"), columns.get("logg")
        )

    def draw(self, batch_index: Rows, seed: Sequence[int]) -> LabelChanges:
        """Draw the rows of a batch that are changed, and their new labels."""
        rng, settings = np.random.default_rng(list(seed)), self.settings
        before_BI = self.label_NI[batch_index]
        after_BI = before_BI.copy()
        change_chance, redraw_chance = rng.random((2, len(batch_index)))
        change_B = self.usable_N[batch_index] & (change_chance < settings.probability)
        redraw_B = self.redraw_N[batch_index] & (redraw_chance < settings.redraw.probability)
        for name, sd in settings.sd.items():
            change = sd * rng.standard_normal(len(batch_index))
            after_BI[:, self.inputs.index(name)] += np.where(change_B, change, 0.0)
        for name, (low, high) in settings.redraw.ranges.items():
            column = self.inputs.index(name)
            value = rng.uniform(low, high, len(batch_index))
            after_BI[:, column] = np.where(redraw_B, value, after_BI[:, column])
        index_V = np.flatnonzero(change_B | redraw_B)
        after_VI = np.clip(after_BI[index_V], self.model.low_I.numpy(), self.model.high_I.numpy())
        return LabelChanges(index_V, torch.from_numpy(before_BI[index_V]), torch.from_numpy(after_VI))

    def targets(self, targets: Targets, changes: LabelChanges) -> Targets:
        """The targets of a batch with these changes."""
        index_V = torch.from_numpy(changes.index_V).to(targets.label_BL.device)
        step_VL = self._learned(changes.after_VI.numpy()) - self._learned(changes.before_VI.numpy())
        scaled_VL = torch.from_numpy(self.scaling.scale_errors(step_VL)).to(targets.label_BL)
        changed = replace(targets, label_BL=targets.label_BL.index_add(0, index_V, scaled_VL))
        if not self.task.classifies:
            return changed
        class_V = torch.from_numpy(self._classes(changes.after_VI.numpy()).astype(np.int64))
        class_B = targets.class_B.index_copy(0, index_V, class_V.to(targets.class_B))
        other_B = targets.other_B
        if other_B is not None:  # the carbon of a changed star is known, so its class is
            other_B = other_B.index_fill(0, index_V, MISSING)
        return replace(changed, class_B=class_B, other_B=other_B)

    def _learned(self, label_VI: NDArray[np.float64]) -> NDArray[np.float64]:
        """All labels (V, L) of stars as they are learned: those beyond a range as its end."""
        columns = dict(zip(self.inputs, label_VI.T, strict=True))
        if "CH" in self.labels and "CH" not in self.inputs:
            columns["CH"] = carbon_label("CH", columns)
        everything = (-np.inf, np.inf)
        return np.stack(
            [np.clip(columns[name], *self.label_ranges.get(name, everything)) for name in self.labels], 1
        )

    def spectra(self, spectra: Spectra, changes: LabelChanges, start: int) -> Spectra:
        """This worker's spectra of the batch, whose first row is `start`, with these changes."""
        local = (changes.index_V >= start) & (changes.index_V < start + len(spectra))
        if not local.any():
            return spectra
        index_V = torch.from_numpy(changes.index_V[local] - start).to(spectra.flux.device)
        changed = self.model.change(spectra[index_V], changes.before_VI[local], changes.after_VI[local])
        flux_BP = spectra.flux.index_copy(0, index_V, changed.flux)
        return replace(spectra, flux=flux_BP, ivar=spectra.ivar.index_copy(0, index_V, changed.ivar))
