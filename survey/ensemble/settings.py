"""What an ensemble is to be made of: finished runs, or runs that are trained for it, several seeds of several changes to one recipe."""

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import files
from survey.ensemble.combine import How
from survey.ensemble.weights import Metric
from survey.labelling.join import Labels
from survey.settings import Settings, SettingsError, laid
from survey.training.precision import Precision
from survey.training.train import Train

RUNS = "runs"
"""The folder of an ensemble in which its own members are."""


class Build(Settings):
    """Settings of an ensemble."""

    SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    INERT: ClassVar[frozenset[str]] = frozenset({"ensemble", "threads", "gpu"})

    ensemble: str = Field(description="folder or s3:// prefix of the ensemble to make")
    runs: tuple[str, ...] = Field(
        (), strict=False, description="finished runs on one grid; none = the members below are trained first"
    )
    members: tuple[dict[str, Any], ...] = Field(
        ({},),
        strict=False,
        description="runs to train: changes to train, one for each, such as {model: prism}; name: tells equal models apart",
    )
    seeds: int = Field(1, ge=1, description="so many of each of them, with seed, seed + 1, ...")
    train: dict[str, Any] = Field(
        {},
        description="how they are trained: the recipe's section train; python jobs/train.py --help lists what it may say",
    )
    store: str | None = Field(
        None, description="store of the spectra to train on and to validate by; null = that of the first run"
    )
    labels: str | None = Field(
        None,
        description="table of labels to train on or, with runs, to validate by; null = as the runs know them",
    )
    join: Labels = Field(Labels(), description="how that table and the spectra find each other, with runs")
    weights: Literal["validation", "equal"] | tuple[float, ...] = Field(
        "validation",
        description="how much members count: best on validation spectra, alike, or one number for each in their order",
    )
    metric: Metric = Field(
        "log_loss",
        description="what weights from validation make best, for classes; labels go by their mean squared error",
    )
    how: How = Field(
        "mean", description="classes by the weighted mean of probabilities, or by the members' votes"
    )
    passes: int = Field(
        0,
        ge=0,
        description="passes with dropout (Monte Carlo) by each member, for the model's part of errors; 0 = none",
    )
    calibrate: bool = Field(True, description="make probabilities and errors hold on validation spectra")
    coverage: float = Field(
        0.95, gt=0, lt=1, description="share of truths that the interval of a label is to hold"
    )
    domain: bool = Field(
        True, description="know what the training spectra look like, and how far from them a spectrum is"
    )
    seed: int = Field(
        0, ge=0, description="of passes with dropout, and of the training spectra that are looked at"
    )
    precision: Precision = Field("float32", description="of the networks' arithmetic")
    threads: int | None = Field(None, ge=1, description="threads; null = all CPUs")
    gpu: Literal["auto", "never"] = Field("auto", description="use a GPU where there is one")

    @field_validator("weights", mode="before")
    @classmethod
    def _sound_weights(cls, value: Any) -> Any:
        """Lists as tuples; told apart here, for of a union each kind would complain by itself."""
        if isinstance(value, str) and value in ("validation", "equal"):
            return value
        if not isinstance(value, list | tuple) or not all(
            type(weight) in (int, float) and weight >= 0 for weight in value
        ):
            raise ValueError("neither validation nor equal nor numbers of 0 or more")
        if not any(value):
            raise ValueError("no weight is above 0")
        return tuple(map(float, value))

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        count = len(self.runs) or len(self.members) * self.seeds
        if not count:
            raise ValueError(
                "runs, members: there are none; give runs=[...] of finished runs, or members=[{model: prism}, ...] to train"
            )
        if not isinstance(self.weights, str) and len(self.weights) != count:
            raise ValueError(
                f"weights: {len(self.weights)} numbers for {count} members; give one for each, in their order"
            )
        return self

    def lasting(self) -> dict[str, Any]:
        """The values that decide what comes out; members count by how they are trained, where they are trained at all."""
        kept = {
            name: value
            for name, value in super().lasting().items()
            if name not in ("train", "members", "seeds")
        }
        return (
            kept | {RUNS: {one.run.rpartition("/")[2]: one.lasting() for one in trainings(self)}}
            if not self.runs
            else kept
        )

    def chooses(self) -> bool:
        """Whether anything is decided by validation spectra."""
        return self.weights == "validation" or self.calibrate


def trainings(settings: Build) -> list[Train]:
    """The settings of the runs that are trained for an ensemble; none where finished runs are given."""
    if settings.runs:
        return []
    found: dict[str, Train] = {}
    for change in settings.members:
        first = _training(settings, dict(change))
        for seed in range(first.seed, first.seed + settings.seeds):
            name = f"{_called(change, first)}-{seed}"
            if name in found:
                raise SettingsError(
                    f"ensemble: members: two are called {name}; give each of them a name, such as {{model: {first.model}, name: wide}}"
                )
            found[name] = first.model_copy(
                update={"run": files.join(settings.ensemble, RUNS, name), "seed": seed}
            )
    return list(found.values())


def _called(change: dict[str, Any], training: Train) -> str:
    """What the runs of a member are called before their seed; it becomes a folder in the ensemble's own."""
    name = change.get("name", training.model)
    if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", str(name)):
        raise SettingsError(
            f"ensemble: members: name: {name!r}: is no name of a folder; give letters and digits, such as {{name: wide}}"
        )
    return str(name)


def _training(settings: Build, change: dict[str, Any]) -> Train:
    """The recipe's training with a member's changes; another network starts from its own options, not from those of the recipe's."""
    change.pop("name", None)
    values = dict(settings.train)
    usual = values.get("model", Train.model_fields["model"].default)
    if change.get("model", usual) != usual:
        values.pop("options", None)
    given = {
        name: value
        for name in ("store", "labels", "threads")
        if (value := getattr(settings, name)) is not None
    }
    given |= {"gpu": "never"} if settings.gpu == "never" else {}
    values = laid(values, change) | given
    if missing := [name for name in ("store", "labels") if name not in values]:
        raise SettingsError(
            f"ensemble: {missing[0]}: not given, but needed to train members; give {missing[0]}=..., or runs=[...] of finished runs"
        )
    return Train.checked("ensemble: train", values | {"run": files.join(settings.ensemble, RUNS)})
