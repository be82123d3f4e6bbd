"""Settings of an evaluation.

This file imports nothing heavy, so that a job reports a wrong setting at once.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey.labelling.settings import Join
from survey.metrics.settings import ScoreSettings
from survey.settings import Threads
from survey.training.settings import Precision

NEED_LABELS = ("table", "where", "criterion")
"""Settings of `join` that would do nothing without `labels`, though they seem to change the result."""


class Evaluate(ScoreSettings):
    """Settings of an evaluation."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {"of", "to", "threads", "against", "labels_name", "csv", "odd", "isochrones", "ages"}
    )

    COMMON: ClassVar[tuple[str, ...]] = (
        "against",
        "split",
        "store",
        "labels",
        "labels_name",
        "passes",
        "to",
        "csv",
        "isochrones",
        "threads",
    )

    of: str = Field(
        description="the run, ensemble or predictions to evaluate; predictions, finished or not, without "
        "labels: their course from shard to shard"
    )
    against: tuple[str, ...] = Field(
        (),
        strict=False,
        description="runs and ensembles to compare it with, on the same spectra, which none of them was "
        "trained on",
    )
    split: Literal["test", "validation", "train", "all"] = Field(
        "test", description="part of its own samples (of all members together); not used with labels="
    )
    store: str | None = Field(
        None, description="another store than its own, on the same grid; together with labels="
    )
    labels: str | None = Field(
        None,
        description="another label table; evaluates all its spectra that no member was trained on",
    )
    join: Join = Field(Join(), description="how the rows of that table match the spectra")
    labels_name: str = Field(
        "true", min_length=1, description="name of those labels in texts and plots, such as GALAH"
    )
    to: str | None = Field(
        None, description="folder of the results; null = a folder in evaluations/ of the run or ensemble"
    )
    passes: int | None = Field(
        None,
        ge=0,
        description="Monte Carlo dropout passes for the model's part of the errors; null = the number of "
        "the ensemble, or 0",
    )
    precision: Precision = Field("float32", description="precision of the networks' arithmetic")
    threads: Threads = Field("auto", description="number of threads; auto = the fastest number, measured")
    csv: bool = Field(False, description="write the answers as predictions.csv too")
    odd: float = Field(
        5.0,
        gt=0,
        description="a shard of predictions is marked if it is this many robust sigmas from the other "
        "shards; sigma is larger among few shards",
    )
    isochrones: tuple[str, ...] = Field(
        (), strict=False, description="files of MIST isochrones (.iso, .iso.cmd) to draw in Kiel diagrams"
    )
    ages: tuple[float, ...] = Field(
        (1.0, 3.0, 5.0, 10.0), strict=False, description="ages to draw, in Gyr; a file's nearest age is drawn"
    )

    @field_validator("ages")
    @classmethod
    def _check_ages(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) <= 0:
            raise ValueError("an age is 0 or less, or none is given; give numbers of Gyr above 0")
        return value

    @model_validator(mode="after")
    def _check_join(self) -> Self:
        """What selects spectra or names a table needs a table; a recipe may say how any table is read."""
        usual = Join()
        ignored = [name for name in NEED_LABELS if getattr(self.join, name) != getattr(usual, name)]
        if ignored and not self.labels:
            instead = "criterion=, " if ignored == ["criterion"] else ""
            raise ValueError(
                f"join.{', join.'.join(ignored)}: works on another label table, and none is given; give "
                f"{instead}labels= too, or leave it out"
            )
        return self
