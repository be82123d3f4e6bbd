"""How wrong a network's answers are: one number per part, classes and labels, that a worker can add up with those of others.

A worker gives the weights of its rows (`weights`) and the weighted sums of its losses (`sums`); both are added over the workers, and `total`
makes the loss of the whole batch of them: the mean of either part, times its rate. So a loss does not depend on how rows are shared out.
What is not known (class -1, label NaN) has weight 0 and no gradient; its row counts for what is known of it.

Shapes: B spectra, C classes, L labels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from survey.labels import CLASSES, MISSING
from survey.models.network import Answers, Task
from survey.settings import Settings


class Rates(Settings):
    """What each part counts in the loss."""

    cls: float = Field(1.0, ge=0, description="factor of the mean loss of the classes")
    reg: float = Field(1.0, ge=0, description="factor of the mean loss of the labels")


class Loss(Settings):
    """How wrong answers are counted. Errors and deltas are in scaled labels."""

    cls: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="loss of the classes; focal counts sure and right answers less"
    )
    gamma: float = Field(
        2.0,
        ge=0,
        le=10,
        description="how much less, for focal losses of classes and of labels; 0: not at all",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of certainty that is spread over all classes"
    )
    class_weights: Literal["none", "balanced", "sqrt_balanced"] | tuple[float, ...] = Field(
        "none",
        description=f"weights of the classes: by their rarity, by its root, or one number each for {', '.join(CLASSES)}",
    )
    reg: Literal["mse", "mae", "smooth_l1", "huber", "log_cosh", "weighted_mse", "gaussian_nll", "focal"] = (
        Field(
            "mse",
            description="loss of the labels; gaussian_nll trains their uncertainty too, and nothing else does",
        )
    )
    delta: float = Field(
        1.0,
        gt=0,
        description="the error where smooth_l1 and huber turn from squares to lines; focal counts half of its square",
    )
    threshold: float = Field(0.2, ge=0, description="the error from which weighted_mse counts more")
    extra: float = Field(2.0, gt=0, description="how many times more")
    beta: float = Field(
        0.5,
        ge=0,
        le=1,
        description="gaussian_nll times variance**beta: 0 the likelihood itself, 1 errors as in mse",
    )
    warm_up: float = Field(
        0.0,
        ge=0,
        description="epochs in which gaussian_nll fits means by mse and variances to what errors are left",
    )
    label_errors: bool = Field(
        False,
        description="labels count by their errors: gaussian_nll adds them to the variance, other losses weigh by them",
    )
    error_scale: float = Field(
        0.2,
        gt=0,
        description="the label error at which a label counts half, in losses other than gaussian_nll",
    )
    rates: Rates = Field(Rates(), description="what each part counts")

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        """Lists as tuples; told apart here, for of a union each kind would complain by itself."""
        if isinstance(value, str) and value in ("none", "balanced", "sqrt_balanced"):
            return value
        if not isinstance(value, list | tuple) or not all(
            type(weight) in (int, float) and 0 < weight < math.inf for weight in value
        ):
            raise ValueError("neither a name nor numbers above 0")
        return tuple(map(float, value))


@dataclass(frozen=True)
class Truth:
    """What is known of a batch: class numbers (-1: not known), scaled labels (NaN: not known), their errors (NaN: not known), weights of rows."""

    class_B: Tensor
    label_BL: Tensor
    error_BL: Tensor
    weight_B: Tensor

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return type(self)(
            *(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__)
        )


def _focal(error: Tensor, settings: Loss) -> Tensor:
    """Squares that count less the smaller the error: by tanh(|error| / 2 delta)**gamma, from 0 to 1."""
    share = torch.tanh(error.abs() / (2 * settings.delta)).clamp(min=1e-6)  # at 0 a root has no gradient
    return error**2 * share**settings.gamma


REGRESSIONS: dict[str, Callable[[Tensor, Loss], Tensor]] = {
    "mse": lambda error, settings: error**2,
    "mae": lambda error, settings: error.abs(),
    "smooth_l1": lambda error, settings: functional.smooth_l1_loss(
        error, torch.zeros_like(error), reduction="none", beta=settings.delta
    ),
    "huber": lambda error, settings: functional.huber_loss(
        error, torch.zeros_like(error), reduction="none", delta=settings.delta
    ),
    "log_cosh": lambda error, settings: error.abs() + functional.softplus(-2 * error.abs()) - math.log(2),
    "weighted_mse": lambda error, settings: (
        error**2 * torch.where(error.abs() > settings.threshold, settings.extra, 1.0)
    ),
    "focal": _focal,
}
"""Losses of a label by its error alone; `gaussian_nll` needs the variance too. A new one is a new row, and a name in `Loss.reg`."""


def gaussian_nll(
    error: Tensor, log_var: Tensor, beta: float = 0.0, label_var: Tensor | float = 0.0
) -> Tensor:
    """Minus the log likelihood of errors (less a constant), times variance**beta without gradient (Seitzer et al. 2022, arXiv 2203.09168).

    `label_var` is the variance of the label itself; the network's is what it adds.
    """
    var = log_var.exp() + label_var
    return 0.5 * (var.log() + error**2 / var) * var.detach() ** beta


def class_weights(
    wanted: str | tuple[float, ...], classes: int, counts: Sequence[int] | None
) -> Tensor | None:
    """A weight for each class, or None; those by rarity have a mean of 1 over the rows counted."""
    if wanted == "none":
        return None
    if not isinstance(wanted, str):
        if len(wanted) != classes:
            raise ValueError(
                f"loss: class_weights: {len(wanted)} numbers for {classes} classes; give one for each"
            )
        return torch.tensor(wanted)
    if counts is None or len(counts) != classes or max(counts) < 1:
        raise ValueError(
            f"loss: class_weights={wanted}: rows of each class are {counts}; needs {classes} counts, some above 0, or class_weights=none"
        )
    number = torch.tensor(counts, dtype=torch.float64)
    weight = torch.where(
        number > 0, (number.sum() / number.clamp_min(1)) ** (0.5 if wanted == "sqrt_balanced" else 1.0), 0.0
    )
    return (weight * number.sum() / (weight * number).sum()).float()


class Criterion:
    """The loss of a task, made ready once; `class_counts` are the rows of each class in the training set."""

    def __init__(self, settings: Loss, task: Task, class_counts: Sequence[int] | None = None) -> None:
        if task.regresses and (settings.reg == "gaussian_nll") != task.sigma:
            lack = (
                "trains no variances, which the task asks for"
                if task.sigma
                else "needs variances, which the task does not ask for"
            )
            raise ValueError(
                f"loss: reg={settings.reg} {lack}; set {'reg=gaussian_nll or sigma=false' if task.sigma else 'sigma=true or another reg'}"
            )
        self.settings, self.task = settings, task
        self.class_weight_C = (
            class_weights(settings.class_weights, task.classes, class_counts) if task.classifies else None
        )

    def weights(self, truth: Truth) -> Tensor:
        """The weight of the batch in either part, [classes, labels]; no answer has a say in it."""
        cls = self.class_weights(truth).sum() if self.task.classifies else truth.weight_B.new_zeros(())
        reg = self.label_weights(truth).sum() if self.task.regresses else truth.weight_B.new_zeros(())
        return torch.stack((cls, reg))

    def sums(self, answers: Answers, truth: Truth, epoch: float, scoring: bool = False) -> Tensor:
        """The sum of weight * loss in either part, [classes, labels].

        For `scoring`, gaussian_nll is the likelihood itself in every epoch: with beta or in the warm-up its numbers cannot be compared.
        """
        cls = reg = truth.weight_B.new_zeros(())
        if self.task.classifies:
            known_B = (truth.class_B != MISSING) & (truth.weight_B > 0)
            logits_BC = torch.where(known_B[:, None], answers["logits"].float(), 0.0)
            cls = (self._classes(logits_BC, truth.class_B) * truth.weight_B).sum()
        if self.task.regresses:
            weight_BL = self.label_weights(truth)
            reg = (self._labels(answers, truth, weight_BL > 0, epoch, scoring) * weight_BL).sum()
        return torch.stack((cls, reg))

    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        """The loss: the mean of each part times its rate; a part of which nothing is known counts 0."""
        rates = sums.new_tensor([self.settings.rates.cls, self.settings.rates.reg])
        known = weights > 0
        return (rates * torch.where(known, sums, 0.0) / torch.where(known, weights, 1.0)).sum()

    def class_weights(self, truth: Truth) -> Tensor:
        """What each row counts for its class (B); 0 where that is not known."""
        weight_B = torch.where(truth.class_B != MISSING, truth.weight_B, 0.0)
        if self.class_weight_C is None:
            return weight_B
        return weight_B * self.class_weight_C.to(weight_B)[truth.class_B.clamp(min=0)]

    def label_weights(self, truth: Truth) -> Tensor:
        """What each row counts for each label (B, L); 0 where that is not known."""
        weight_BL = torch.where(truth.label_BL.isnan(), 0.0, truth.weight_B[:, None])
        if not self.settings.label_errors or self.settings.reg == "gaussian_nll":
            return weight_BL
        return weight_BL / (1 + (truth.error_BL.nan_to_num(nan=0.0) / self.settings.error_scale) ** 2)

    def _classes(self, logits_BC: Tensor, class_B: Tensor) -> Tensor:
        """The loss of each row; 0 where the class is not known. Smoothed certainty goes by the weights of the classes that get it."""
        weight_C = None if self.class_weight_C is None else self.class_weight_C.to(logits_BC)
        loss_B = functional.cross_entropy(
            logits_BC,
            class_B,
            weight_C,
            ignore_index=MISSING,
            reduction="none",
            label_smoothing=self.settings.label_smoothing,
        )
        if self.settings.cls == "focal":
            right_B = logits_BC.softmax(1).gather(1, class_B.clamp(min=0)[:, None])[:, 0]
            loss_B = loss_B * (1 - right_B).clamp(min=1e-6) ** self.settings.gamma
        return loss_B

    def _labels(
        self, answers: Answers, truth: Truth, known_BL: Tensor, epoch: float, scoring: bool
    ) -> Tensor:
        """The loss of each label; what is not known is an error of 0 of a network that was not asked."""
        error_BL = torch.where(known_BL, answers["mu"].float() - truth.label_BL.nan_to_num(), 0.0)
        if self.settings.reg != "gaussian_nll":
            return REGRESSIONS[self.settings.reg](error_BL, self.settings)
        log_var_BL = torch.where(known_BL, answers["log_var"].float(), 0.0)
        label_var = truth.error_BL.nan_to_num(nan=0.0) ** 2 if self.settings.label_errors else 0.0
        if scoring:
            return gaussian_nll(error_BL, log_var_BL, 0.0, label_var)
        if epoch < self.settings.warm_up:
            return error_BL**2 + gaussian_nll(error_BL.detach(), log_var_BL, 0.0, label_var)
        return gaussian_nll(error_BL, log_var_BL, self.settings.beta, label_var)
