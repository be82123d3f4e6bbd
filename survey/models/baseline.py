"""Baselines: models that are fitted to the training part at once, or round by round, instead of by gradients.

A baseline reduces a spectrum to features; the features of the whole training part are held in memory. `fit`
learns from them; it may be left after any report and taken up again. All that a baseline learns is in
buffers, so it is saved, read and used like a network. Shapes: N spectra of a part, B of a batch, P pixels, F
features, K components, L labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from survey.models.network import Network, Outputs
from survey.models.options import BaselineOptions
from survey.models.settings import Task

MAX_FLUX = 2.0
"""Flux above this, in units of the continuum, is a cosmic ray or a bad continuum; flux below 0 is noise."""


@dataclass(frozen=True)
class TrainingSet:
    """Features of some spectra, their classes and scaled labels, and weights of both (0 = not known)."""

    feature_NF: Tensor
    class_N: Tensor
    class_weight_N: Tensor
    label_NL: Tensor
    label_weight_NL: Tensor

    def __len__(self) -> int:
        return len(self.class_N)

    def select(self, rows_N: Tensor) -> Self:
        """These rows of it."""
        return replace(self, **{name: getattr(self, name)[rows_N] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class FitSettings:
    """How to fit: which errors of labels are made small, and when to stop."""

    seed: int = 0
    errors: Literal["squared", "absolute"] = "squared"
    keep_best: bool = True
    """Whether the validation part chooses the best model; if not, everything that was fitted is kept."""
    max_reports: int | None = None
    """Stop after so many reports, where validation cannot choose; None = when the model is done."""
    connection: tuple[tuple[str, str | int], ...] = ()
    """The addresses of the workers of the library, for libraries that need them."""


class FitError(RuntimeError):
    """A library could not fit; another try may work."""


class Baseline(Network):
    """Base of models that are fitted."""

    constant_outputs = frozenset({"log_var"})
    distributed_library: ClassVar[str] = ""
    """The library with which several workers fit together; empty: one worker fits alone."""
    log_var_L: Tensor

    def __init__(self, pixels: int, task: Task, options: BaselineOptions) -> None:
        super().__init__(pixels, task, options)
        self.register_buffer("log_var_L", torch.zeros(len(task.labels)))

    @property
    def rounds(self) -> int:
        """The largest number of rounds of a fit."""
        return 1

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """The features (B, F) of spectra whose bad pixels are at the continuum."""
        raise TypeError(f"{type(self).__module__} defines no features()")

    def predict(self, feature_BF: Tensor) -> Outputs:
        """Outputs from the features, without variances."""
        raise TypeError(f"{type(self).__module__} defines no predict()")

    def fit(
        self, train: TrainingSet, validation: TrainingSet, settings: FitSettings
    ) -> Iterator[dict[str, float]]:
        """Fit to the training part, from whatever the buffers hold; yields a report where it may be left."""
        raise TypeError(f"{type(self).__module__} defines no fit()")

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """Features, then outputs; the variance is the same for all spectra."""
        outputs = self.predict(self.features(flux_BP, ivar_BP))
        if self.task.sigma:
            outputs["log_var"] = self.log_var_L.expand(len(flux_BP), -1)
        return {name: value.to(flux_BP.dtype) for name, value in outputs.items()}
