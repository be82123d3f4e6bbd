"""Settings of the loss, of the optimiser, of the learning rate, and of how many spectra an epoch uses."""

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey.settings import Settings

WARM_UP_START = 0.1
"""The share of the learning rate at the start of a warm-up."""


class Rates(Settings):
    """How much each part counts in the loss."""

    cls: float = Field(1.0, ge=0, description="factor of the mean loss of the classes")
    reg: float = Field(1.0, ge=0, description="factor of the mean loss of the labels")
    own: float = Field(
        1.0, ge=0, description="factor of the mean loss of the network's own, such as that of a vae"
    )


class Loss(Settings):
    """The loss. Errors and deltas are in scaled labels."""

    cls: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy",
        description="loss of the classes; focal gives confident and right outputs less weight",
    )
    gamma: float = Field(
        2.0, ge=0, le=10, description="exponent of the focal losses of classes and labels; 0 = not focal"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target probability that is spread over all classes"
    )
    class_weights: Literal["none", "balanced", "sqrt_balanced"] | tuple[float, ...] = Field(
        "none",
        description="weights of the classes: by their rarity, by the root of it, "
        "or one number for each class",
    )
    reg: Literal["mse", "mae", "smooth_l1", "huber", "log_cosh", "weighted_mse", "gaussian_nll", "focal"] = (
        Field("mse", description="loss of the labels; only gaussian_nll trains uncertainties too")
    )
    delta: float = Field(
        1.0,
        gt=0,
        description="the error where smooth_l1 and huber turn from quadratic to linear; "
        "focal counts half of its square",
    )
    threshold: float = Field(0.2, ge=0, description="weighted_mse: errors above this count more")
    extra: float = Field(2.0, gt=0, description="weighted_mse: the factor by which these errors count more")
    beta: float = Field(
        0.5,
        ge=0,
        le=1,
        description="gaussian_nll is multiplied by variance**beta: 0 = the likelihood, 1 = errors as in mse",
    )
    warm_up: float = Field(
        0.0,
        ge=0,
        description="gaussian_nll: first epochs, in which mse fits the means, and variances follow",
    )
    label_errors: bool = Field(
        False,
        description="use the errors of the labels: gaussian_nll adds them to the variance, "
        "other losses weight labels by them",
    )
    error_scale: float = Field(
        0.2,
        gt=0,
        description="the label error at which a label counts half, in losses other than gaussian_nll",
    )
    rates: Rates = Field(Rates(), description="how much each part counts")

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        """Converts lists to tuples first, because pydantic reports one error per member of a union."""
        if isinstance(value, str) and value in ("none", "balanced", "sqrt_balanced"):
            return value
        if not isinstance(value, list | tuple) or not all(
            type(weight) in (int, float) and 0 < weight < math.inf for weight in value
        ):
            raise ValueError("is neither a name nor a list of numbers above 0")
        return tuple(map(float, value))


class Optimiser(Settings):
    """How weights follow their gradients."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = Field("adamw", description="the algorithm")
    lr: float | None = Field(
        None, gt=0, le=100, description="learning rate before the schedule; null = the network's default"
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="strength of the decay of weights: decoupled in adamw, else added to the gradient",
    )
    decay_all: bool = Field(False, description="decay biases and the parameters of norms too")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd, rmsprop: momentum")
    betas: tuple[float, float] = Field(
        (0.9, 0.999),
        strict=False,
        description="adamw, adam: decay of the means of gradients and of their squares",
    )

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("both have to be at least 0 and below 1")
        return value


class Schedule(Settings):
    """The learning rate over time. Times are epochs or fractions of them, from the end of the warm-up."""

    name: Literal["none", "step", "multi_step", "plateau", "cosine", "cosine_restarts"] = Field(
        "step", description="shape of the schedule"
    )
    warm_up: float = Field(
        0.0, ge=0, description=f"first epochs, in which the rate rises from {WARM_UP_START:g} of itself"
    )
    step_size: float = Field(30.0, gt=0, description="step: epochs between two cuts")
    gamma: float = Field(0.75, gt=0, le=1, description="step, multi_step: factor of the rate at a cut")
    milestones: tuple[float, ...] = Field((), strict=False, description="multi_step: epochs of the cuts")
    patience: int = Field(10, ge=0, description="plateau: epochs without a better loss before a cut")
    factor: float = Field(0.5, gt=0, lt=1, description="plateau: factor of the rate at a cut")
    threshold: float = Field(
        1e-4, ge=0, lt=1, description="plateau: share by which a loss has to be lower to be better"
    )
    min_lr: float = Field(
        1e-6, ge=0, description="lowest rate, where the cosines end; a lower lr is left as it is"
    )
    t0: float = Field(10.0, gt=0.01, description="cosine_restarts: length of the first cycle")
    t_mult: float = Field(
        1.0, ge=1, description="cosine_restarts: each cycle is this many times as long as the one before"
    )

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(earlier >= later for earlier, later in zip((0.0, *value), value, strict=False)):
            raise ValueError("are not rising epochs above 0; give each later than the one before")
        return value


class Curriculum(Settings):
    """The share of the training part that an epoch uses. Spectra of an epoch are in all later epochs too.

    The first epochs are then cheap, so a search can stop a poor training early.
    """

    first: float = Field(1.0, gt=0, le=1, description="share of the training spectra in the first epoch")
    epochs: int = Field(
        0,
        ge=0,
        description="epochs until all spectra are used; the share grows by the same factor in each epoch",
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.first < 1) != (self.epochs > 0):
            raise ValueError(
                f"first={self.first:g} and epochs={self.epochs} do not fit together; "
                "give both, such as first=0.25 epochs=6, or neither"
            )
        return self

    def share(self, epoch: int) -> float:
        """The share of the training spectra in an epoch; the first epoch is 0."""
        return 1.0 if epoch >= self.epochs else float(self.first ** (1 - epoch / self.epochs))
