"""How a network's numbers are moved, and how fast: the optimiser, and the learning rate as a function of the epoch.

Rates are computed from the epoch, which may be fractional, and not carried along: a run that goes on needs no state of a schedule, except of
`plateau`, which depends on what was seen; its state is a few numbers.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from survey.settings import Settings

FIRST = 0.1
"""The share of the learning rate that a warm-up starts from."""
CLOSE = 1e-9
"""Epochs are sums of fractions; what is this close to a step has reached it."""


class Optimiser(Settings):
    """How weights follow their gradients."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = Field("adamw", description="the rule")
    lr: float | None = Field(
        None,
        gt=0,
        le=100,
        description="learning rate that the schedule starts from; null = the network's own",
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="how strongly weights are drawn to 0: by themselves (adamw) or through the gradient",
    )
    decay_all: bool = Field(False, description="draw biases and the numbers of normalisations to 0 too")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd and rmsprop")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), strict=False, description="memory of adamw and adam, for gradients and their squares"
    )

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("both lie from 0 to below 1")
        return value


class Schedule(Settings):
    """How the learning rate goes. All times are epochs, fractions allowed, counted from the end of the warm-up."""

    name: Literal["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"] = Field(
        "step", description="the course of the rate"
    )
    warm_up: float = Field(
        0.0, ge=0, description=f"epochs before all else in which the rate rises from {FIRST:g} of itself"
    )
    step_size: float = Field(30.0, gt=0, description="step: epochs between cuts")
    gamma: float = Field(
        0.75, gt=0, le=1, description="step, multi_step: what is left of the rate after a cut"
    )
    milestones: tuple[float, ...] = Field((), strict=False, description="multi_step: when the rate is cut")
    patience: int = Field(
        10, ge=0, description="plateau: epochs without a better loss that are borne before a cut"
    )
    factor: float = Field(0.5, gt=0, lt=1, description="plateau: what is left of the rate after a cut")
    threshold: float = Field(
        1e-4, ge=0, lt=1, description="plateau: share by which a loss must be lower to be better"
    )
    min_lr: float = Field(
        1e-6,
        ge=0,
        description="the rate falls no lower, and the cosines end here; where the rate itself is lower it stays",
    )
    t0: float = Field(10.0, gt=0.01, description="cosine_restarts: length of the first course")
    t_mult: float = Field(
        1.0, ge=1, description="cosine_restarts: each course is so many times as long as the one before"
    )

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(one >= two for one, two in zip((0.0, *value), value, strict=False)):
            raise ValueError("epochs above 0, each later than the one before")
        return value


def rate(schedule: Schedule, base_lr: float, epoch: float, epochs: int, cut: float = 1.0) -> float:
    """The learning rate at an epoch of so many; `cut` is what a `Plateau` has left of it."""
    if epoch < schedule.warm_up:
        return base_lr * (FIRST + (1 - FIRST) * epoch / schedule.warm_up)
    at, lowest = epoch - schedule.warm_up, min(schedule.min_lr, base_lr)
    if schedule.name == "cosine":
        whole = epochs - schedule.warm_up
        return _cosine(base_lr, lowest, at / whole if whole > 0 else 0.0)
    if schedule.name == "cosine_restarts":
        return _cosine(base_lr, lowest, _course(at, schedule.t0, schedule.t_mult))
    if schedule.name == "step":
        cut = schedule.gamma ** math.floor(at / schedule.step_size + CLOSE)
    elif schedule.name == "multi_step":
        cut = schedule.gamma ** sum(milestone <= at + CLOSE for milestone in schedule.milestones)
    return max(base_lr * cut, lowest)


def _cosine(highest: float, lowest: float, way: float) -> float:
    """Half a wave from the highest to the lowest; `way` is how much of it is done, 0 to 1."""
    return lowest + 0.5 * (highest - lowest) * (1 + math.cos(math.pi * min(way, 1.0)))


def _course(at: float, length: float, times: float) -> float:
    """How much is done of the course that an epoch lies in, courses growing by `times`."""
    at += CLOSE
    if times == 1:
        return at % length / length
    number = math.floor(math.log(at / length * (times - 1) + 1, times))
    begun = length * (times**number - 1) / (times - 1)
    return max(at - begun, 0.0) / (length * times**number)


@dataclass
class Plateau:
    """What is left of the learning rate, cut whenever the loss has not become better for longer than the patience."""

    cut: float = 1.0
    best: float | None = None
    waited: int = 0

    def saw(self, schedule: Schedule, loss: float, epoch: float) -> float:
        """What is left after an epoch that ended at `epoch` with this loss (NaN is not better); a warm-up is not judged."""
        if schedule.name != "plateau" or epoch <= schedule.warm_up + CLOSE:
            return self.cut
        if math.isfinite(loss) and (
            self.best is None or loss < self.best - abs(self.best) * schedule.threshold
        ):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited > schedule.patience:
            self.waited = 0
            self.cut *= schedule.factor  # `rate` sees to the lowest rate
        return self.cut

    def state(self) -> dict[str, Any]:
        """The numbers that make it go on later, for JSON."""
        return asdict(self)


def make(settings: Optimiser, net: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    """The optimiser of all parameters that learn; `lr` where the settings name no rate.

    Fused steps take a sixth of the time of the plain ones on a CPU (AdamW, 2.4 million numbers: 2.7 ms against 16).
    """
    groups = _groups(settings, net)
    rest: dict[str, Any] = {"lr": settings.lr or lr}
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=settings.momentum, **rest)
    rest["fused"] = all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
        for parameter in net.parameters()
    )
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **rest)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=settings.betas, **rest)


def _groups(settings: Optimiser, net: nn.Module) -> list[dict[str, Any]]:
    """Parameters that learn, those drawn to 0 and those not, each once and in the network's own order."""
    drawn: dict[nn.Parameter, bool] = {}
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                free = "bias" in name or parameter.ndim < 2 or "Norm" in type(module).__name__
                drawn.setdefault(parameter, settings.decay_all or not free)
    if not drawn:
        raise ValueError(
            f"optimise: {type(net).__name__} has no parameter that learns; free some of its layers (requires_grad)"
        )
    groups = [
        {
            "params": [parameter for parameter, decays in drawn.items() if decays],
            "weight_decay": settings.weight_decay,
        },
        {"params": [parameter for parameter, decays in drawn.items() if not decays], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """All parameters learn at this rate from now on."""
    for group in optimiser.param_groups:
        group["lr"] = lr
