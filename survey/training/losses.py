"""Losses: one number for the classes, one for the labels, and one of the network's own, which workers can add
up.

A worker computes the weights of its rows (`weights`) and the weighted sums of its losses (`sums`); both are
summed over the workers. `total` computes the loss of the batch from them: the mean of each part, times its
rate. So the loss does not depend on how the rows are shared. What is not known (class -1, label NaN) has
weight 0 and no gradient; a row counts for all that is known of it.

Shapes: B spectra, C classes, L labels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from survey.labels import MISSING
from survey.models.network import Outputs
from survey.models.settings import Task
from survey.training.learning_settings import Loss

NEVER = -30.0
"""The logit of a class whose probability is counted elsewhere; finite, so that label smoothing is finite."""


@dataclass(frozen=True)
class Targets:
    """Classes (-1 = not known), scaled labels and their errors (NaN = not known), weights of rows.

    `other_B` is a class that a row may have as well as its own (-1 = none); either is right. `source_B` is
    the number of its source, 0 = the main one, -1 = not compared with other sources. Rows of the same star
    or object in several sources share a `pair_B`; -1 = it is in one source only.
    """

    class_B: Tensor
    label_BL: Tensor
    error_BL: Tensor
    weight_B: Tensor
    other_B: Tensor | None = None
    source_B: Tensor | None = None
    pair_B: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("other_B", "source_B", "pair_B"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, torch.full_like(self.class_B, MISSING))

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return type(self)(
            *(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__)
        )


def _smooth_l1(error: Tensor, settings: Loss) -> Tensor:
    zero = torch.zeros_like(error)
    return functional.smooth_l1_loss(error, zero, reduction="none", beta=settings.delta)


def _huber(error: Tensor, settings: Loss) -> Tensor:
    zero = torch.zeros_like(error)
    return functional.huber_loss(error, zero, reduction="none", delta=settings.delta)


def _focal(error: Tensor, settings: Loss) -> Tensor:
    """Squared errors times tanh(|error| / 2 delta)**gamma, so that small errors count less."""
    share = torch.tanh(error.abs() / (2 * settings.delta)).clamp(min=1e-6)  # a root has no gradient at 0
    return error**2 * share**settings.gamma


REGRESSIONS: dict[str, Callable[[Tensor, Loss], Tensor]] = {
    "mse": lambda error, settings: error**2,
    "mae": lambda error, settings: error.abs(),
    "smooth_l1": _smooth_l1,
    "huber": _huber,
    "log_cosh": lambda error, settings: error.abs() + functional.softplus(-2 * error.abs()) - math.log(2),
    "weighted_mse": lambda error, settings: (
        error**2 * torch.where(error.abs() > settings.threshold, settings.extra, 1.0)
    ),
    "focal": _focal,
}
"""Losses of a label from its error alone; `gaussian_nll` needs the variance too.

To add a loss, add a row here and its name to `Loss.reg` in `survey.training.learning_settings`.
"""


def gaussian_nll(
    error: Tensor, log_var: Tensor, beta: float = 0.0, label_var: Tensor | float = 0.0
) -> Tensor:
    """Minus the log likelihood of errors (without its constant), times variance**beta without gradient.

    Beta: Seitzer et al. 2022, arXiv 2203.09168. `label_var` is the variance of the label itself; the network
    predicts the variance beyond it.
    """
    var = log_var.exp() + label_var
    return 0.5 * (var.log() + error**2 / var) * var.detach() ** beta


def class_weights(kind: str | tuple[float, ...], classes: int, counts: Sequence[int] | None) -> Tensor | None:
    """A weight for each class, or None for equal weights; weights by rarity have the mean 1 over the rows."""
    if kind == "none":
        return None
    if not isinstance(kind, str):
        if len(kind) != classes:
            raise ValueError(
                f"loss: class_weights: {len(kind)} numbers for {classes} classes; give one for each"
            )
        return torch.tensor(kind)
    if counts is None or len(counts) != classes or max(counts) < 1:
        raise ValueError(
            f"loss: class_weights={kind}: the classes have {counts} rows; "
            f"{classes} counts are needed, some above 0; give class_weights=none"
        )
    count_C = torch.tensor(counts, dtype=torch.float64)
    power = 0.5 if kind == "sqrt_balanced" else 1.0
    weight_C = torch.where(count_C > 0, (count_C.sum() / count_C.clamp_min(1)) ** power, 0.0)
    return (weight_C * count_C.sum() / (weight_C * count_C).sum()).float()


def _merge_classes(logits_BC: Tensor, targets: Targets) -> Tensor:
    """The logits; where a row may have either of two classes, the probability of both is in its own class."""
    other_B = targets.other_B
    if other_B is None or not bool((other_B != MISSING).any()):
        return logits_BC
    row_B = torch.arange(len(other_B), device=other_B.device)
    both_B = (other_B != MISSING) & (targets.class_B != MISSING) & (targets.class_B != other_B)
    own_B, other_B = targets.class_B.clamp(min=0), other_B.clamp(min=0)
    merged_B = torch.logaddexp(logits_BC[row_B, own_B], logits_BC[row_B, other_B])
    merged_BC = logits_BC.clone()
    merged_BC[row_B[both_B], own_B[both_B]] = merged_B[both_B]
    merged_BC[row_B[both_B], other_B[both_B]] = NEVER
    return merged_BC


class TaskLoss:
    """The loss of a task; `class_counts` are the rows of each class in the training set."""

    def __init__(self, settings: Loss, task: Task, class_counts: Sequence[int] | None = None) -> None:
        if task.regresses and (settings.reg == "gaussian_nll") != task.sigma:
            problem, advice = "needs variances, the task has none", "sigma=true or another reg"
            if task.sigma:
                problem, advice = "trains no variances, the task has them", "reg=gaussian_nll or sigma=false"
            raise ValueError(f"loss: reg={settings.reg} {problem}; set {advice}")
        self.settings, self.task = settings, task
        self.class_weight_C = (
            class_weights(settings.class_weights, task.classes, class_counts) if task.classifies else None
        )

    def weights(self, targets: Targets) -> Tensor:
        """The weight of a batch in each part, [classes, labels, own]; it does not depend on outputs."""
        zero = targets.weight_B.new_zeros(())
        cls = self.class_weights(targets).sum() if self.task.classifies else zero
        reg = self.label_weights(targets).sum() if self.task.regresses else zero
        return torch.stack((cls, reg, targets.weight_B.sum()))

    def sums(self, outputs: Outputs, targets: Targets, epoch: float, scoring: bool = False) -> Tensor:
        """The sum of weight * loss in each part, [classes, labels, own].

        For `scoring`, gaussian_nll is the likelihood itself in every epoch: its values with beta or in the
        warm-up cannot be compared.
        """
        cls = reg = own = targets.weight_B.new_zeros(())
        if "own_loss" in outputs:
            own = (outputs["own_loss"][:, 0].float() * targets.weight_B).sum()
        if self.task.classifies:
            known_B = (targets.class_B != MISSING) & (targets.weight_B > 0)
            logits_BC = torch.where(known_B[:, None], outputs["logits"].float(), 0.0)
            logits_BC = _merge_classes(logits_BC, targets)
            cls = (self._class_losses(logits_BC, targets.class_B) * targets.weight_B).sum()
        if self.task.regresses:
            weight_BL = self.label_weights(targets)
            loss_BL = self._label_losses(outputs, targets, weight_BL > 0, epoch, scoring)
            reg = (loss_BL * weight_BL).sum()
        return torch.stack((cls, reg, own))

    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        """The loss: the mean of each part times its rate; a part of which nothing is known is 0."""
        rates = sums.new_tensor([getattr(self.settings.rates, name) for name in ("cls", "reg", "own")])
        known = weights > 0
        return (rates * torch.where(known, sums, 0.0) / torch.where(known, weights, 1.0)).sum()

    def class_weights(self, targets: Targets) -> Tensor:
        """The weight of each row's class (B); 0 where it is not known."""
        weight_B = torch.where(targets.class_B != MISSING, targets.weight_B, 0.0)
        if self.class_weight_C is None:
            return weight_B
        return weight_B * self.class_weight_C.to(weight_B)[targets.class_B.clamp(min=0)]

    def label_weights(self, targets: Targets) -> Tensor:
        """The weight of each label (B, L); 0 where it is not known."""
        weight_BL = torch.where(targets.label_BL.isnan(), 0.0, targets.weight_B[:, None])
        if not self.settings.label_errors or self.settings.reg == "gaussian_nll":
            return weight_BL
        return weight_BL / (1 + (targets.error_BL.nan_to_num(nan=0.0) / self.settings.error_scale) ** 2)

    def _class_losses(self, logits_BC: Tensor, class_B: Tensor) -> Tensor:
        """The loss of each row, with its class weight; 0 where the class is not known.

        Label smoothing weights the probability of each class by the weight of that class.
        """
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

    def _label_losses(
        self, outputs: Outputs, targets: Targets, known_BL: Tensor, epoch: float, scoring: bool
    ) -> Tensor:
        """The loss of each label (B, L); what is not known counts as an error of 0, without gradient."""
        error_BL = torch.where(known_BL, outputs["mu"].float() - targets.label_BL.nan_to_num(), 0.0)
        if self.settings.reg != "gaussian_nll":
            return REGRESSIONS[self.settings.reg](error_BL, self.settings)
        log_var_BL = torch.where(known_BL, outputs["log_var"].float(), 0.0)
        label_var = targets.error_BL.nan_to_num(nan=0.0) ** 2 if self.settings.label_errors else 0.0
        if scoring:
            return gaussian_nll(error_BL, log_var_BL, 0.0, label_var)
        if epoch < self.settings.warm_up:
            return error_BL**2 + gaussian_nll(error_BL.detach(), log_var_BL, 0.0, label_var)
        return gaussian_nll(error_BL, log_var_BL, self.settings.beta, label_var)
