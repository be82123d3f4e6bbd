"""Networks in all but the loop: models that are fitted to the training part at once, or round by round, instead of by gradients.

Such a model reduces a spectrum to features, which the whole training part is held as; `fit` learns from these and may be left after any report
and taken up again. All that it knows lies in buffers, so it is saved, opened and asked as every network is.
Shapes: N spectra of a part, B of a batch, P pixels, F features, K components, L labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from survey.models.network import Answers, Network, Task
from survey.settings import Settings

BRIGHT = 2.0
"""Flux above this, in units of the continuum, is a cosmic ray or a bad continuum; flux below 0 is noise."""


@dataclass(frozen=True)
class Known:
    """Spectra as features, and what is known of them: classes, scaled labels, and how much each counts (0: not known)."""

    feature_NF: Tensor
    class_N: Tensor
    class_weight_N: Tensor
    label_NL: Tensor
    label_weight_NL: Tensor

    def __len__(self) -> int:
        return len(self.class_N)

    def at(self, rows_N: Tensor) -> Self:
        """Some of them."""
        return replace(self, **{name: getattr(self, name)[rows_N] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Aim:
    """How to fit: by squared or absolute errors of labels; whether the validation part may choose, or everything asked for is kept."""

    seed: int = 0
    errors: Literal["squared", "absolute"] = "squared"
    choose: bool = True
    reports: int | None = None
    """After so many reports it is enough, where nobody can choose; None = when the model says so."""
    network: tuple[tuple[str, str | int], ...] = ()
    """How the library's workers find each other, where it has to be told."""


class FitError(RuntimeError):
    """A library could not fit; another try may."""


class Fitted(Network):
    """Base of models that are fitted."""

    constant = frozenset({"log_var"})
    shared: ClassVar[str] = ""
    """The library by which workers fit it together; empty: one worker does it alone."""
    log_var_L: Tensor

    def __init__(self, pixels: int, task: Task, options: Settings) -> None:
        super().__init__(pixels, task, options)
        self.register_buffer("log_var_L", torch.zeros(len(task.labels)))

    @property
    def rounds(self) -> int:
        """How many rounds it takes to fit, at most."""
        return 1

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """What the model looks at of spectra whose bad pixels lie on the continuum: (B, F)."""
        raise TypeError(f"{type(self).__module__} defines no features()")

    def told(self, feature_BF: Tensor) -> Answers:
        """Answers from the features, without variances."""
        raise TypeError(f"{type(self).__module__} defines no told()")

    def fit(self, train: Known, validation: Known, aim: Aim) -> Iterator[dict[str, float]]:
        """Fit to the training part, from wherever the buffers are; a report whenever the model has become better than before or may be left."""
        raise TypeError(f"{type(self).__module__} defines no fit()")

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        """Features, then answers; the variance is the same for all spectra."""
        answers = self.told(self.features(flux_BP, ivar_BP))
        if self.task.sigma:
            answers["log_var"] = self.log_var_L.expand(len(flux_BP), -1)
        return {name: value.to(flux_BP.dtype) for name, value in answers.items()}
