"""The scores of trainings: of one, of the same settings with several seeds, and the gain of one choice over
another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from survey.search.target import MEASURED, measured
from survey.training import run as runs

LEVEL = 0.95


class Scores(BaseModel):
    """What a finished training has reached: the metrics of its best epoch on the validation part, and its
    size.
    """

    model_config = ConfigDict(frozen=True)

    validation: dict[str, float]
    parameters: int
    training_seconds: float
    best_epoch: int
    epochs: int

    def metric(self, name: str) -> float:
        """A metric as it is compared; NaN if the training has none of that name."""
        value = getattr(self, name) if name in MEASURED else self.validation.get(name, math.nan)
        return measured(name, value)


class SeedSummary(BaseModel):
    """The scores over seeds as a study keeps them, with five digits."""

    model_config = ConfigDict(frozen=True)

    mean: float | None
    interval: tuple[float, float] | None
    values: tuple[float, ...]


class Gain(BaseModel):
    """By how much a metric is better than the recipe's, also as a share, with a 95 % interval."""

    model_config = ConfigDict(frozen=True)

    by: float | None
    share: float | None
    interval: tuple[float, float] | None


NO_GAIN = Gain(by=0.0, share=0.0, interval=None)
"""The gain if nothing that was tried is better than the recipe itself."""


@dataclass(frozen=True)
class SeedScores:
    """The mean of a metric over trainings with different seeds and, for two or more, its 95 % t interval."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    values: tuple[float, ...] = ()

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Self:
        """From the scores of single trainings; NaN without any."""
        if len(values) < 2:
            return cls(values[0] if values else math.nan, values=tuple(values))
        mean = sum(values) / len(values)
        half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * _standard_error(values)
        return cls(mean, mean - half, mean + half, tuple(values))

    @property
    def variance(self) -> float:
        """The squared standard error of the mean; NaN for one training."""
        return _standard_error(self.values) ** 2 if len(self.values) > 1 else math.nan

    def summary(self) -> SeedSummary:
        """The same for a document."""
        return SeedSummary(
            mean=rounded(self.mean),
            interval=_rounded(self.low, self.high) if math.isfinite(self.low) else None,
            values=_rounded(*self.values),
        )


def _standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean of two or more values."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def rounded(value: float) -> float | None:
    """A number with five digits; None if it is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _rounded(*values: float) -> Any:
    """Finite numbers with five digits."""
    return tuple(rounded(value) for value in values)


def gain(recipe: SeedScores, best: SeedScores, sign: int, choices: int = 1) -> Gain | None:
    """By how much the best is better, with Welch's interval; None if one of the two has no score.

    If these scores chose the best of several, its gain is one of several: the interval is as wide as it has
    to be to hold for all of them (Bonferroni).
    """
    difference = sign * (recipe.mean - best.mean)
    if not math.isfinite(difference):
        return None
    interval = None
    variances = [recipe.variance, best.variance]
    if math.isfinite(sum(variances)) and sum(variances) > 0:
        counts = [len(recipe.values), len(best.values)]
        terms = [variance**2 / (count - 1) for variance, count in zip(variances, counts, strict=True)]
        freedom = sum(variances) ** 2 / sum(terms)
        outside = (1 - LEVEL) / choices
        half = float(stdtrit(freedom, 1 - outside / 2)) * math.sqrt(sum(variances))
        interval = _rounded(difference - half, difference + half)
    share = rounded(difference / abs(recipe.mean)) if recipe.mean else None
    return Gain(by=rounded(difference), share=share, interval=interval)


def read_scores(folder: str) -> Scores | None:
    """The scores of the run in a folder; None if it is not finished."""
    if not runs.is_finished(folder):
        return None
    document = runs.run_document(folder)
    return Scores(
        validation=document.validation,
        parameters=document.parameters,
        training_seconds=document.training_seconds,
        best_epoch=document.best_epoch,
        epochs=document.epochs,
    )


def read_seed_scores(folders: Sequence[str], metric: str) -> SeedScores:
    """A metric over those of these runs that are finished."""
    scores = [read_scores(folder) for folder in folders]
    values = [each.metric(metric) for each in scores if each]
    return SeedScores.from_values([value for value in values if math.isfinite(value)])
