"""Settings of synthesis: training stars get other labels, and their spectra change with them."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from survey.labels import CARBON_LABELS, label
from survey.models.settings import Task
from survey.settings import Settings

Ranges = dict[str, Annotated[tuple[float, float], Field(strict=False)]]
MAX_TERMS = 128
"""Largest number of terms of a polynomial; the fit takes the square of it in memory for each pixel."""
OFF = "synthesis.probability=0 synthesis.redraw.probability=0 turns synthesis off"


def _by_label_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by the names of `survey.labels`; aliases are accepted."""
    return {label(name).name: value for name, value in values.items()}


class Redraw(Settings):
    """New labels from a range, such as the range of rare stars."""

    probability: float = Field(
        0.0, ge=0, le=1, description="share of the spectra in `where` that get new labels; 0 = none"
    )
    ranges: Ranges = Field({}, description="range of the new values by label, such as {CFe: [-0.3, 2.3]}")
    where: Ranges = Field(
        {}, description="only stars with labels in these ranges, such as {FeH: [-9, -0.7]}; none = all stars"
    )

    @field_validator("ranges", "where")
    @classmethod
    def _label_names(cls, values: Ranges) -> Ranges:
        return _by_label_name(values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, (low, high) in (self.ranges | self.where).items():
            if not low < high:
                raise ValueError(f"{name}: the range [{low:g}, {high:g}] is empty; give [low, high]")
        if self.probability > 0 and not self.ranges:
            raise ValueError("probability without ranges changes nothing; give ranges, or probability=0")
        return self


class Synthesis(Settings):
    """How the labels of training stars are changed, and their spectra with them."""

    probability: float = Field(
        0.0, ge=0, le=1, description="share of the spectra whose labels get small random changes; 0 = none"
    )
    sd: dict[str, float] = Field(
        {},
        description="standard deviation of these changes by label, such as "
        "{Teff: 120, logg: 0.3, FeH: 0.25, CFe: 0.25}",
    )
    redraw: Redraw = Field(Redraw(), description="new labels from a range")
    order: int = Field(
        3, ge=1, le=5, description="order of the polynomials that give the flux of a pixel from the labels"
    )
    max_spectra: int = Field(
        20000,
        ge=100,
        description="largest number of training spectra that the fit uses; rare classes come first",
    )

    @field_validator("sd")
    @classmethod
    def _label_names(cls, values: dict[str, float]) -> dict[str, float]:
        return _by_label_name(values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(width <= 0 for width in self.sd.values()):
            raise ValueError("sd: a standard deviation is not above 0; give numbers above 0")
        if self.probability > 0 and not self.sd:
            raise ValueError("probability without sd changes nothing; give sd, or probability=0")
        return self

    @property
    def is_used(self) -> bool:
        """Whether anything is changed at all."""
        return self.probability > 0 or self.redraw.probability > 0

    def check(self, task: Task) -> None:
        """An error if these settings do not fit the task."""
        if not self.is_used:
            return
        inputs, named = input_labels(task.labels), {*self.sd} if self.probability else set()
        named |= {*self.redraw.ranges, *self.redraw.where} if self.redraw.probability else set()
        if unknown := sorted(named - set(inputs)):
            raise ValueError(f"synthesis: {', '.join(unknown)}: {_why_unknown(unknown, inputs, task)}; {OFF}")
        if task.classifies and not {"FeH", "CFe"} <= set(inputs):
            raise ValueError(
                f"synthesis: the targets are {', '.join(task.labels)}; the class of a changed star needs "
                "FeH and CFe; add them to the targets, or give task=reg"
            )
        if (terms := count_terms(len(inputs), self.order)) > MAX_TERMS:
            raise ValueError(
                f"synthesis: order={self.order} with {len(inputs)} labels makes {terms} terms, "
                f"the limit is {MAX_TERMS} terms; give a lower order"
            )


def _why_unknown(unknown: Sequence[str], inputs: Sequence[str], task: Task) -> str:
    reason = f"not among the input labels of the spectral model ({', '.join(inputs) or 'none'})"
    if "CH" in unknown and "CH" in task.labels:
        reason += "; CH follows from FeH and CFe, name these instead"
    return reason


def input_labels(names: Sequence[str]) -> tuple[str, ...]:
    """The labels that determine a spectrum: all but CH where FeH and CFe are there, which give it."""
    redundant = {"CH"} if set(CARBON_LABELS) <= set(names) else set()
    return tuple(name for name in names if name not in redundant)


def count_terms(labels: int, order: int) -> int:
    """The number of terms of a polynomial of this order in so many labels."""
    return math.comb(labels + order, order)
