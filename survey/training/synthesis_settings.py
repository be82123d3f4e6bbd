"""Settings of synthesis: training stars get other labels, and their spectra change with them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from survey.labels import CARBON_LABELS, label
from survey.models.settings import Task
from survey.settings import Settings

Ranges = dict[str, Annotated[tuple[float, float], Field(strict=False)]]
MAX_TERMS = 128
"""Largest number of terms of a polynomial; the fit takes the square of it in memory for each pixel."""


def _by_label_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by the names of `survey.labels`; aliases are accepted."""
    return {label(name).name: value for name, value in values.items()}


def checked_ranges(values: Ranges) -> Ranges:
    """Ranges by the names of `survey.labels`; an error if one is empty."""
    for name, (low, high) in values.items():
        if not low < high:
            raise ValueError(f"{name}: the range [{low:g}, {high:g}] is empty; give [low, high]")
    return _by_label_name(values)


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
        checked_ranges(self.ranges | self.where)
        if self.probability > 0 and not self.ranges:
            raise ValueError("probability without ranges changes nothing; give ranges, or probability=0")
        return self

    def only(self, names: Sequence[str]) -> "Redraw":
        """These ranges for some labels only; nothing is drawn where `where` names another label."""
        ranges = {name: limits for name, limits in self.ranges.items() if name in names}
        if not ranges or not set(self.where) <= set(names):
            return Redraw()
        return self.model_copy(update={"ranges": ranges})


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

    def usable(self, task: Task, spectra: int) -> tuple["Synthesis", tuple[str, ...]]:
        """These settings without what the task or the number of spectra do not allow, and what is left out.

        `spectra` have all input labels.
        """
        if not self.is_used:
            return self, ()
        inputs = input_labels(task.labels)
        if task.classifies and not {"FeH", "CFe"} <= set(inputs):
            return Synthesis(), ("all: the class of a changed star needs FeH and CFe among the targets",)
        order = usable_order(self.order, inputs, spectra)
        if order == 0:
            return Synthesis(), (f"all: {spectra} training spectra with {', '.join(inputs)} are too few",)
        sd = {name: width for name, width in self.sd.items() if name in inputs}
        redraw = self.redraw.only(inputs)
        probability = self.probability if sd else 0.0
        changes = {"sd": sd, "redraw": redraw, "order": order, "probability": probability}
        return self.model_copy(update=changes), tuple(self._left_out(inputs, redraw, order, spectra))

    def _left_out(self, inputs: Sequence[str], redraw: Redraw, order: int, spectra: int) -> Iterator[str]:
        """What is left out of these settings, in words."""
        wanted = [*self.sd] if self.probability else []
        wanted += [*self.redraw.ranges] if self.redraw.probability else []
        for name in dict.fromkeys(wanted):
            if name not in inputs:
                follows = " (it follows from FeH and CFe)" if name == "CH" else ""
                yield f"{name}: not among the labels that are varied: {', '.join(inputs)}{follows}"
        if self.redraw.probability and not redraw.probability and set(self.redraw.ranges) & set(inputs):
            yield f"redraw: it needs {', '.join(self.redraw.where)} among the targets"
        if order < self.order:
            yield f"polynomials of order {self.order}: {order} is used, for {spectra} spectra"


def usable_order(wanted: int, inputs: Sequence[str], spectra: int) -> int:
    """The largest order of polynomials, up to the wanted one, for so many spectra; 0 = they are too few."""
    terms = {order: count_terms(len(inputs), order) for order in range(1, wanted + 1)}
    return max((order for order, count in terms.items() if count <= min(MAX_TERMS, spectra // 2)), default=0)


def input_labels(names: Sequence[str]) -> tuple[str, ...]:
    """The labels that determine a spectrum: all but CH where FeH and CFe are there, which give it."""
    redundant = {"CH"} if set(CARBON_LABELS) <= set(names) else set()
    return tuple(name for name in names if name not in redundant)


def count_terms(labels: int, order: int) -> int:
    """The number of terms of a polynomial of this order in so many labels."""
    return math.comb(labels + order, order)
