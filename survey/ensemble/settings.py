"""Settings of an ensemble: finished runs, or runs that are trained for it (several seeds of several changes
to a recipe).

This file imports nothing heavy, so that a job reports a wrong setting at once.
"""

import math
import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import files
from survey.labelling.settings import Join
from survey.labels import label
from survey.recipes import merge
from survey.settings import Settings, SettingsError, Threads
from survey.training.augment_settings import Augment
from survey.training.settings import Precision, Train

RUNS = "runs"
"""The folder inside an ensemble that holds the members that were trained for it."""

Combination = Literal["mean", "vote"]
"""How classes are combined: the weighted mean of probabilities, or the weighted shares of the members' votes.
"""

Metric = Literal["log_loss", "accuracy", "f1_cemp", "f1_mp", "f1_macro"]
"""The metric that weights for classes make best."""


CHANGES = {"Teff": 120.0, "logg": 0.3, "FeH": 0.15, "CFe": 0.2}
"""Standard deviations of the changes of labels, where none are given."""


class Population(Settings):
    """A test population: validation spectra drawn many times, with other labels and other errors."""

    spectra: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="number of draws; 0 = none, lists are tested on validation spectra",
    )
    feh_mean: float = Field(-0.2, description="mean [Fe/H] of the survey's stars that are not metal-poor")
    feh_sd: float = Field(0.35, gt=0, description="standard deviation of their [Fe/H]")
    sd: dict[str, float] = Field(
        CHANGES, description="standard deviation of the changes of labels; 0 = a label stays"
    )
    augment: Augment = Field(
        Augment(preset="survey"), description="how drawn spectra are distorted: as in training"
    )

    @field_validator("sd")
    @classmethod
    def _check_changes(cls, value: dict[str, float]) -> dict[str, float]:
        for name, sd in value.items():
            if not 0 <= sd < math.inf:
                raise ValueError(f"{name}={sd:g}: a standard deviation is 0 or more")
        return CHANGES | {label(name).name: sd for name, sd in value.items()}


class Recalibrate(Settings):
    """Labels are put on the scale of the survey that will be predicted, by labelled stars of it."""

    store: str = Field("", description="store of the survey with labelled stars; empty = labels stay")
    labels: str = Field("", description="table of their labels")
    join: Join = Field(Join(), description="how the rows of that table match the spectra")
    form: Literal["offset", "line"] = Field(
        "offset", description="what is added to a label: a constant, or a line in the label"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.store) != bool(self.labels):
            given, missing = ("store", "labels") if self.store else ("labels", "store")
            raise ValueError(f"{given} is given without {missing}; give both, or neither")
        return self


class Build(Settings):
    """Settings of an ensemble."""

    EXTRA_SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"ensemble", "threads", "gpu"})

    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    OUTPUT: ClassVar[str] = "ensemble"
    UNUSED_BESIDE: ClassVar[dict[str, tuple[str, ...]]] = {"runs": ("members", "seeds", "train")}
    COMMON: ClassVar[tuple[str, ...]] = (
        "runs",
        "members",
        "seeds",
        "store",
        "labels",
        "weights",
        "combine",
        "passes",
        "coverage",
        "seed",
        "threads",
        "gpu",
    )

    ensemble: str = Field(description="folder or s3:// prefix of the new ensemble")
    runs: tuple[str, ...] = Field(
        (), strict=False, description="finished runs on one grid; none = the members below are trained first"
    )
    members: tuple[dict[str, Any], ...] = Field(
        ({},),
        strict=False,
        description="runs to train: for each the changes to train, such as {model: prism}; name: tells "
        "equal models apart",
    )
    seeds: int = Field(
        1, ge=1, le=1000, description="number of runs per member, with the seeds seed, seed + 1, ..."
    )
    train: dict[str, Any] = Field(
        {},
        description="training settings of all members: the recipe's section train; "
        "survey train --help all lists them",
    )
    store: str | None = Field(
        None,
        description="store of the spectra for training and validation; null = the store of the first run",
    )
    labels: str | None = Field(
        None,
        description="label table for training or, with runs, for validation; null = the labels that the "
        "runs know",
    )
    join: Join = Field(Join(), description="how the rows of that table match the spectra, with runs")
    weights: Literal["validation", "equal"] | tuple[float, ...] = Field(
        "validation",
        description="weights of the members: best on validation spectra, equal, or one number per member "
        "in their order",
    )
    metric: Metric = Field(
        "log_loss",
        description="metric of the classes that weights from validation make best; for labels it is the "
        "mean squared error",
    )
    combine: Combination = Field(
        "mean", description="combine classes by the weighted mean of probabilities, or by the members' votes"
    )
    passes: int = Field(
        0,
        ge=0,
        description="Monte Carlo dropout passes per member, for the model's part of the errors; 0 = none",
    )
    calibrate: bool = Field(True, description="calibrate probabilities and errors on the validation spectra")
    errors_from: Literal["other_sources", "all"] = Field(
        "other_sources",
        description="other_sources = errors of a label are calibrated on the stars of further sources of "
        "training (real stars, from 4,000 to 7,000 K) if 50 validation stars of them have it; all = on "
        "all validation spectra",
    )
    coverage: float = Field(
        0.95, gt=0, lt=1, description="share of true values that the interval of a label shall contain"
    )
    domain: bool = Field(True, description="measure how far a spectrum is from the training spectra")
    other_kinds: bool = Field(
        True,
        description="learn which stars are of another kind (hot, M, white dwarf, carbon) from the training "
        "stars of all sources, and take their probability from the classes of metal-poor stars",
    )
    recalibrate: Recalibrate = Field(
        Recalibrate(), description="correct labels by labelled stars of the survey that will be predicted"
    )
    population: Population = Field(Population(), description="test population of the lists")
    seed: int = Field(0, ge=0, description="seed of the dropout passes and of the sample of training spectra")
    precision: Precision = Field("float32", description="precision of the networks' arithmetic")
    threads: Threads = Field("auto", description="number of threads; auto = the fastest number, measured")
    gpu: Literal["auto", "never"] = Field("auto", description="auto = use a GPU if there is one")

    @field_validator("weights", mode="before")
    @classmethod
    def _check_weights(cls, value: Any) -> Any:
        """Converts lists to tuples first, because pydantic reports one error per member of a union."""
        if isinstance(value, str) and value in ("validation", "equal"):
            return value
        if not isinstance(value, list | tuple) or not all(
            type(weight) in (int, float) and weight >= 0 for weight in value
        ):
            raise ValueError("is not validation, not equal and no list of numbers of 0 or more")
        if not any(value):
            raise ValueError("no weight is above 0")
        return tuple(map(float, value))

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        count = len(self.runs) or len(self.members) * self.seeds
        if not count:
            raise ValueError(
                "runs, members: both are empty; give runs=[...] of finished runs, or members=[{model: "
                "prism}, ...] to train"
            )
        # a recipe has a section train, and its members stay there when finished runs are given
        if self.runs and "train" not in self.model_fields_set:
            self._check_unused("members", self.members)
            self._check_unused("seeds", self.seeds)
        if not isinstance(self.weights, str) and len(self.weights) != count:
            raise ValueError(
                f"weights: {len(self.weights)} numbers for {count} members; give one per member, in their "
                "order"
            )
        return self

    def _check_unused(self, name: str, value: Any) -> None:
        """An error if a setting for members that are trained is given beside finished runs."""
        if value and value != type(self).model_fields[name].default:
            raise ValueError(
                f"{name}: is for members that are trained, but runs= gives finished ones; leave out {name}=, "
                "or runs="
            )

    def result_settings(self) -> dict[str, Any]:
        """The values that decide the result; of members that are trained for the ensemble, their training
        settings.
        """
        values = super().result_settings()
        for name in ("train", "members", "seeds"):
            del values[name]
        if not self.runs:
            values[RUNS] = {one.run.rpartition("/")[2]: one.result_settings() for one in trainings(self)}
        return values

    def needs_validation(self) -> bool:
        """Whether anything is fitted to validation spectra."""
        return self.weights == "validation" or self.calibrate


def trainings(settings: Build) -> list[Train]:
    """The settings of the runs that are trained for an ensemble; none where finished runs are given."""
    if settings.runs:
        return []
    trained: dict[str, Train] = {}
    for change in settings.members:
        first = _training(settings, dict(change))
        for seed in range(first.seed, first.seed + settings.seeds):
            name = f"{_member_name(change, first)}-{seed}"
            if name in trained:
                raise SettingsError(
                    f"ensemble: members: two have the name {name}; give each a name, such as "
                    f"{{model: {first.model}, name: wide}}"
                )
            run = files.join(settings.ensemble, RUNS, name)
            trained[name] = first.model_copy(update={"run": run, "seed": seed})
    return list(trained.values())


def _member_name(change: dict[str, Any], training: Train) -> str:
    """The name of a member's runs without the seed; it becomes the name of a folder."""
    name = change.get("name", training.model)
    if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", str(name)):
        raise SettingsError(
            f"ensemble: members: name: {name!r} cannot be the name of a folder; give letters and digits, "
            f"such as {{name: wide}}"
        )
    return str(name)


def _training(settings: Build, change: dict[str, Any]) -> Train:
    """The recipe's training with a member's changes; a member with another network does not get the
    recipe's options.
    """
    change.pop("name", None)
    values = dict(settings.train)
    recipe_model = values.get("model", Train.model_fields["model"].default)
    if change.get("model", recipe_model) != recipe_model:
        values.pop("options", None)
    shared: dict[str, Any] = {}
    for name in ("store", "labels"):
        if (path := getattr(settings, name)) is not None:
            shared[name] = path
    if settings.threads != "auto":
        shared["threads"] = settings.threads
    if settings.gpu == "never":
        shared["gpu"] = "never"
    values = merge(values, change) | shared
    for name in ("store", "labels"):
        if name not in values:
            raise SettingsError(
                f"ensemble: {name}: not given, but needed to train members; give {name}=..., or runs=[...] "
                "of finished runs"
            )
    return Train.from_dict("ensemble: train", values | {"run": files.join(settings.ensemble, RUNS)})
