"""Training stars with other labels: a spectrum changed as a star of those labels would look, so that rare kinds of stars become less rare.

How spectra change is learned from the training part (`survey.training.spectral_model`); noise, calibration and all that labels do not tell stay the
star's own; so does its continuum, where a network sees that. For training only. What is drawn depends on the seed and the place in the batch,
not on the number of workers.

Shapes: B spectra of a whole batch, V of them that are changed, I labels that spectra are told by, L labels of the task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from survey import labels
from survey.labelling.samples import Samples
from survey.labels import Criterion, label
from survey.models.network import Task
from survey.settings import Settings
from survey.training.batches import Places, Spectra
from survey.training.losses import Truth
from survey.training.scaling import Scaling
from survey.training.spectral_model import MOST, Likeness, terms

LIKENESS = "likeness.safetensors"
"""What spectra of other labels look like, among a run's checkpoints."""
SUM = ("CH", ("FeH", "CFe"))
"""A label that follows from others."""
Ranges = dict[str, Annotated[tuple[float, float], Field(strict=False)]]


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """By the names of `survey.labels`, whatever names they were given by."""
    return {label(name).name: value for name, value in values.items()}


class Anew(Settings):
    """Labels that are drawn anew from a range, such as that of rare stars."""

    probability: float = Field(
        0.0, ge=0, le=1, description="share of the spectra in `where` whose labels are drawn anew"
    )
    between: Ranges = Field({}, description="from where to where, by label, such as {CFe: [-0.3, 2.3]}")
    where: Ranges = Field(
        {}, description="of which stars, by their own labels, such as {FeH: [-9, -0.7]}; none = of all"
    )

    @field_validator("between", "where")
    @classmethod
    def _rows(cls, values: Ranges) -> Ranges:
        return _named(values)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, (low, high) in (self.between | self.where).items():
            if not low < high:
                raise ValueError(f"{name}: from {low:g} to {high:g} is no range; give [lower, higher]")
        if self.probability > 0 and not self.between:
            raise ValueError(
                "probability without between changes nothing; say which labels, or give probability=0"
            )
        return self


class Vary(Settings):
    """How the labels of training stars are changed, and their spectra with them."""

    probability: float = Field(
        0.0, ge=0, le=1, description="share of the spectra whose labels are changed a little; 0 = none"
    )
    by: dict[str, float] = Field(
        {},
        description="standard deviation of these changes by label, such as {Teff: 120, logg: 0.3, FeH: 0.25, CFe: 0.25}",
    )
    anew: Anew = Field(Anew(), description="labels drawn anew")
    order: int = Field(
        3, ge=1, le=5, description="of the polynomials that tell how a spectrum follows its labels"
    )
    spectra: int = Field(
        20000,
        ge=100,
        description="most training spectra that they are fitted to; rare classes are all among them",
    )

    @field_validator("by")
    @classmethod
    def _rows(cls, values: dict[str, float]) -> dict[str, float]:
        return _named(values)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if any(width <= 0 for width in self.by.values()):
            raise ValueError("by: changes need widths above 0")
        if self.probability > 0 and not self.by:
            raise ValueError(
                "probability without by changes nothing; say which labels, or give probability=0"
            )
        return self

    @property
    def wanted(self) -> bool:
        """Whether anything is changed at all."""
        return self.probability > 0 or self.anew.probability > 0

    def check(self, task: Task, train: Samples) -> None:
        """Whether this can be done for a task and with these training spectra; an error says what is in the way."""
        if not self.wanted:
            return
        told, named = told_by(task.labels), {*self.by} if self.probability else set()
        named |= {*self.anew.between, *self.anew.where} if self.anew.probability else set()
        if strange := sorted(named - set(told)):
            follows = (
                f"; {SUM[0]} follows from {' and '.join(SUM[1])}: name these"
                if SUM[0] in strange and SUM[0] in task.labels
                else ""
            )
            there = f"not among the labels that spectra are told by ({', '.join(told) or 'none'})"
            raise ValueError(
                f"vary: {', '.join(strange)}: {there}{follows}; vary.probability=0 vary.anew.probability=0 varies nothing"
            )
        if task.classifies and not {"FeH", "CFe"} <= set(told):
            raise ValueError(
                "vary: what class a changed star is of needs FeH and CFe among the targets; add them, or give task=reg"
            )
        if (count := len(terms(len(told), self.order))) > MOST:
            raise ValueError(
                f"vary: order={self.order} in {len(told)} labels is {count} terms, {MOST} are the most; give a lower order"
            )
        if (known := int(np.isfinite(columns(train, told)).all(1).sum())) < 2 * count:
            there = f"{known} training spectra with {', '.join(told)} known are too few to learn {count} terms from"
            raise ValueError(
                f"vary: {there}; give a lower vary.order, or vary.probability=0 vary.anew.probability=0"
            )


def told_by(names: Sequence[str]) -> tuple[str, ...]:
    """The labels that tell a spectrum: all but one that follows from others."""
    return tuple(name for name in names if not (name == SUM[0] and set(SUM[1]) <= set(names)))


def sampled(settings: Vary, train: Samples, told: Sequence[str]) -> NDArray[np.int64]:
    """The training spectra that polynomials are fitted to, all of whose labels are known: rare classes before others, in the order of the samples."""
    known = np.flatnonzero(np.isfinite(columns(train, told)).all(1))
    if len(known) <= settings.spectra:
        return known
    class_N = train.class_N[known]
    count_N = np.array([np.sum(class_N == number) for number in range(-1, class_N.max() + 1)])[class_N + 1]
    chance_N = np.random.default_rng([6, len(known)]).random(len(known)) * count_N
    return np.sort(known[np.argsort(chance_N, kind="stable")[: settings.spectra]])


def columns(train: Samples, names: Sequence[str]) -> NDArray[np.float64]:
    """These labels of some samples, in this order."""
    return train.label_NL[:, [train.labels.index(name) for name in names]]


@dataclass(frozen=True)
class Drawn:
    """Who of a batch is changed, and from which labels to which."""

    index_V: NDArray[np.int64]
    before_VI: torch.Tensor
    after_VI: torch.Tensor


class Variation:
    """Changes batches of training stars as the settings say."""

    def __init__(
        self,
        settings: Vary,
        task: Task,
        train: Samples,
        scaling: Scaling,
        criterion: Criterion,
        likeness: Likeness,
    ) -> None:
        self.settings, self.task, self.train, self.scaling, self.criterion, self.likeness = (
            settings,
            task,
            train,
            scaling,
            criterion,
            likeness,
        )
        self.told = told_by(train.labels)
        self.label_NI = columns(train, self.told)
        able_N = np.asarray(np.isfinite(self.label_NI).all(1))
        if task.classifies:  # others have their class from elsewhere: nobody knows what becomes of it
            able_N = able_N & (self._classes(self.label_NI) == train.class_N)
        where_N = able_N.copy()
        for name, (low, high) in settings.anew.where.items():
            column = self.label_NI[:, self.told.index(name)]
            where_N &= (column >= low) & (column <= high)
        self.able_N, self.where_N = able_N, where_N

    def _classes(self, label_NI: NDArray[np.float64]) -> NDArray[np.int8]:
        column = {name: label_NI[:, number] for number, name in enumerate(self.told)}
        return labels.classes(
            column["FeH"], column["CFe"], self.criterion, column.get("Teff"), column.get("logg")
        )

    def drawn(self, places: Places, seed: Sequence[int]) -> Drawn:
        """Whose labels of a batch become others, and which."""
        dice, settings = np.random.default_rng(list(seed)), self.settings
        before_BI = self.label_NI[places]
        after_BI = before_BI.copy()
        a_little, anew = dice.random((2, len(places)))
        little_B = self.able_N[places] & (a_little < settings.probability)
        anew_B = self.where_N[places] & (anew < settings.anew.probability)
        for name, width in settings.by.items():
            column = self.told.index(name)
            after_BI[:, column] += np.where(little_B, width * dice.standard_normal(len(places)), 0.0)
        for name, (low, high) in settings.anew.between.items():
            column = self.told.index(name)
            after_BI[:, column] = np.where(anew_B, dice.uniform(low, high, len(places)), after_BI[:, column])
        index_V = np.flatnonzero(little_B | anew_B)
        limits = self.likeness.low_I.numpy(), self.likeness.high_I.numpy()
        return Drawn(
            index_V,
            torch.from_numpy(before_BI[index_V]),
            torch.from_numpy(np.clip(after_BI[index_V], *limits)),
        )

    def truth(self, whole: Truth, drawn: Drawn) -> Truth:
        """What is known of a batch with these changes."""
        index_V = torch.from_numpy(drawn.index_V).to(whole.label_BL.device)
        step_VI = (drawn.after_VI - drawn.before_VI).numpy()
        step_VL = np.zeros((len(step_VI), len(self.train.labels)))
        for number, name in enumerate(self.told):
            step_VL[:, self.train.labels.index(name)] = step_VI[:, number]
        if SUM[0] in self.train.labels and SUM[0] not in self.told:
            step_VL[:, self.train.labels.index(SUM[0])] = sum(
                step_VI[:, self.told.index(name)] for name in SUM[1]
            )
        scaled_VL = torch.from_numpy(self.scaling.errors_scaled(step_VL)).to(whole.label_BL)
        changed = replace(whole, label_BL=whole.label_BL.index_add(0, index_V, scaled_VL))
        if not self.task.classifies:
            return changed
        class_V = torch.from_numpy(self._classes(drawn.after_VI.numpy()).astype(np.int64)).to(whole.class_B)
        return replace(changed, class_B=whole.class_B.index_copy(0, index_V, class_V))

    def spectra(self, lit: Spectra, drawn: Drawn, first: int) -> Spectra:
        """This worker's spectra of the batch, the first of which is `first`, with these changes; errors change with the light."""
        mine = (drawn.index_V >= first) & (drawn.index_V < first + len(lit))
        if not mine.any():
            return lit
        index_V = torch.from_numpy(drawn.index_V[mine] - first).to(lit.flux.device)
        factor_VP = self.likeness.factors(drawn.before_VI[mine], drawn.after_VI[mine])
        flux_VP, ivar_VP = lit.flux[index_V], lit.ivar[index_V]
        flux_BP = lit.flux.index_copy(0, index_V, torch.where(ivar_VP > 0, flux_VP * factor_VP, flux_VP))
        return replace(lit, flux=flux_BP, ivar=lit.ivar.index_copy(0, index_V, ivar_VP / factor_VP**2))
