"""How sure a score is: the same settings trained with different seeds, and what is gained over others trained likewise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from survey import files
from survey.search.study import measured
from survey.training import run as bundle

LEVEL = 0.95


@dataclass(frozen=True)
class Repeated:
    """The mean of a metric over trainings with different seeds and, of two or more, its 95 % t interval."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Sequence[float]) -> "Repeated":
        """From the single values; NaN without any."""
        if len(values) < 2:
            return cls(values[0] if values else math.nan, values=tuple(values))
        mean, half = (
            sum(values) / len(values),
            stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * stats.sem(values),
        )
        return cls(mean, mean - float(half), mean + float(half), tuple(values))

    def told(self) -> dict[str, Any]:
        """As JSON and YAML have it."""
        interval = [short(self.low), short(self.high)] if math.isfinite(self.low) else None
        return {
            "mean": short(self.mean),
            "interval": interval,
            "values": [short(value) for value in self.values],
        }


def short(value: float) -> float | None:
    """A number with five digits, None where it is none."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def gain(usual: Repeated, best: Repeated, sign: int) -> dict[str, Any] | None:
    """By how much the best is better than the recipe as it is, with Welch's 95 % interval; None where one of both is not known."""
    difference = sign * (usual.mean - best.mean)
    if not math.isfinite(difference):
        return None
    told: dict[str, Any] = {
        "by": short(difference),
        "share": short(difference / abs(usual.mean)) if usual.mean else None,
        "interval": None,
    }
    parts = [stats.sem(one.values) ** 2 if len(one.values) > 1 else math.nan for one in (usual, best)]
    if all(math.isfinite(part) for part in parts) and sum(parts) > 0:
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(one.values) - 1) for part, one in zip(parts, (usual, best), strict=True)
        )
        half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * math.sqrt(sum(parts))
        told["interval"] = [short(difference - half), short(difference + half)]
    return told


def read(runs: Sequence[str], metric: str) -> Repeated:
    """What finished runs among these have reached."""
    found = []
    for run in runs:
        if files.exists(files.join(run, bundle.RUN)):
            about = bundle.about_run(run)
            found.append(measured(metric, about["validation"].get(metric, about.get(metric, math.nan))))
    return Repeated.of([value for value in found if math.isfinite(value)])
