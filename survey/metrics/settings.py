"""Settings of the metrics: the groups of spectra, the limits, and the names of what an epoch measures.

This file imports nothing heavy, so that a job reports a wrong setting at once.
"""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field, field_validator

from survey.labels import Criterion
from survey.settings import Settings

MAPE_FLOOR = 0.1
"""A true value nearer to 0 says nothing about relative errors; the MAPE leaves it out."""


SEARCHES = {"MP_search": ("MP", "CEMP"), "CEMP_search": ("CEMP",)}
"""Searches for some classes (the positives) among all others."""


def epoch_metric_names(labels: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The names of all metrics that are computed after an epoch, `loss` included."""
    names = ["loss"]
    if classes:
        names += ["accuracy", "log_loss", "f1_weighted", "f1_macro"]
        possible = [search for search, positives in SEARCHES.items() if set(positives) < set(classes)]
        for name in (*classes, *possible):
            names += [f"{rate}_{name}" for rate in ("precision", "recall", "f1")]
            names += [f"average_precision_{name}"] if name in SEARCHES else []
    if labels:
        names += [f"{metric}_{label}" for label in labels for metric in ("mae", "rmse", "bias", "r2")]
        names += ["r2_mean"]
    return names


class ScoreSettings(Settings):
    """How answers are compared with true classes and labels."""

    snr: tuple[float, ...] = Field(
        (0.0, 10.0, 20.0, 30.0, 50.0, 100.0),
        strict=False,
        description="edges of the bins of signal to noise; the last bin is open",
    )
    gravity: float = Field(4.0, description="logg from which a star counts as a dwarf")
    few: int = Field(5, ge=1, description="numbers from fewer stars are marked")
    floor: float = Field(
        MAPE_FLOOR, ge=0, description="a true value nearer to 0 is left out of the relative error (mape)"
    )
    criterion: Criterion = Field(
        "carbon_0.7",
        description="[C/Fe] limit of carbon-enhanced stars, for classes by predicted labels; not "
        "given = that of join, or else of the trainings, where they agree",
    )

    @field_validator("snr")
    @classmethod
    def _check_edges(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(low < high for low, high in pairwise(value))
        if not value or not rising:
            edges = ", ".join(f"{edge:g}" for edge in value) or "(none)"
            raise ValueError(f"the edges {edges} do not rise; give at least one, each above the one before")
        return value
