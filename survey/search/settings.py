"""Settings of a search, checked together with its space and its recipe before any work.

A mistake in the space or in the recipe's section train is reported here too, without torch, Ray or Optuna.
"""

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey.labels import label
from survey.messages import without_secrets
from survey.search.target import read_targets
from survey.settings import Settings, Threads, check_section
from survey.training.settings import Train
from survey.training.tracking_settings import Tracking


class Prune(Settings):
    """When a training is stopped early because others were better at the same epoch."""

    name: Literal["auto", "halving", "hyperband", "median", "none"] = Field(
        "auto",
        description="asynchronous successive halving (ASHA), hyperband, worse than the median, or never; "
        "auto = halving for one metric, none for several",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="epochs before the first comparison; null = a third of the longest training's epochs, "
        "for hyperband a ninth",
    )
    factor: int = Field(
        3,
        ge=2,
        description="halving, hyperband: one training in this many goes on, for this many times as long",
    )
    startup: int = Field(
        5, ge=0, description="median: number of trainings that are finished before one is stopped"
    )


class Tune(Settings):
    """Settings of a search."""

    EXTRA_SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {
            "study",
            "elements",
            "trials",
            "seeds",
            "keep",
            "retrain",
            "winners",
            "name",
            "tracking",
            "threads",
            "gpu",
            "workers",
            "failures",
            "show",
        }
    )

    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    OUTPUT: ClassVar[str] = "study"
    COMMON: ClassVar[tuple[str, ...]] = (
        "store",
        "labels",
        "space",
        "elements",
        "trials",
        "metrics",
        "seeds",
        "stages",
        "workers",
        "threads",
        "gpu",
        "show",
    )

    study: str = Field(description="folder or s3:// prefix of the study to make, or to continue")
    store: str | None = Field(
        None, description="store of the spectra; null = the store in the recipe's section train"
    )
    labels: str | None = Field(
        None, description="table of labels; null = the table in the recipe's section train"
    )
    train: dict[str, Any] = Field(
        {},
        description="settings of every training: the recipe's section train; "
        "survey train --help all lists them",
    )
    space: str | None = Field(
        None,
        description="file with the settings to vary, such as tune/rescnn.yaml; "
        "its section train replaces settings of the recipe",
    )
    elements: tuple[str, ...] = Field(
        (),
        strict=False,
        description="labels to search for one after the other, by any of their names; "
        "none = one search for the task and the targets of the recipe",
    )
    trials: int = Field(
        30,
        ge=1,
        description="number of trainings to finish for each element; "
        "a larger number later continues the study; of a grid with more combinations a random part is tried",
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="how the next values are chosen: by a tree-structured Parzen estimator, at random, "
        "or all combinations (grid), as far as trials= allows",
    )
    points: int = Field(3, ge=2, description="grid: number of values of each range")
    stages: int = Field(
        1,
        ge=1,
        le=2,
        description="2 = after a share of the trials, try numbers only from half to twice the best so far, "
        "and only the choices of the best",
    )
    wide: float = Field(
        0.6,
        gt=0,
        lt=1,
        description="two stages: share of the trials in the first stage, which tries the whole space",
    )
    metrics: tuple[str, ...] = Field(
        (),
        strict=False,
        description="metrics of the validation part to improve, such as mae (of each element), r2_mean, "
        "parameters, training_seconds; none = mae, or the recipe's monitor where there are no elements; "
        "several = the trials that no other trial beats in all of them (a Pareto front)",
    )
    prune: Prune = Field(Prune(), description="how poor trainings are stopped early")
    storage: str = Field(
        "journal",
        description="where trials are recorded: journal or sqlite (a file in the study), or the URL of a "
        "database server; its client gives the password",
    )
    seed: int = Field(0, ge=0, description="seed of the sampler; trainings have their own, train.seed")
    seeds: int = Field(
        3,
        ge=0,
        le=1000,
        description="the best two trials, and the recipe itself, are trained with this many other seeds",
    )
    keep: Literal["best", "all"] = Field(
        "best", description="which weights are kept: those of the best two trials, or all"
    )
    retrain: bool = Field(
        False,
        description="train the winner again on the training and validation parts together, "
        "into winners/ in the study",
    )
    winners: str = Field(
        "",
        description="folder for the recipes of the best two trials, NAME-ELEMENT.yaml, which survey train "
        "takes as with=; empty = recipes/ in the study",
    )
    name: str = Field(
        "", description="first part of the names of these files; empty = the name of the study's folder"
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="number of trainings at a time; null = as many as the CPUs or GPUs allow; "
        "1 = one after the other, without Ray",
    )
    threads: Threads = Field(
        "auto",
        description="threads of a training; auto = 1 where several run at a time, else as train.threads says",
    )
    gpu: float | None = Field(
        None,
        ge=0,
        le=8,
        description="GPUs for each training, such as 0.5; null = 1 where there are GPUs, none with "
        "train.gpu=never; 0 = none",
    )
    failures: int = Field(
        2, ge=0, description="how often a training whose process has died continues in a new process"
    )
    tracking: Tracking = Field(
        Tracking(),
        description="where numbers go in addition to the study's folder: one MLflow run for each element, "
        "with a run below it for each trial",
    )
    show: bool = Field(
        False,
        description="only print the progress of the study, also while it runs, or what a new one would do; "
        "nothing is changed",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_place(cls, values: Any) -> Any:
        """A setting of the trainings is given as `train.NAME`."""
        check_section(cls, values, "train", Train)
        return values

    @field_validator("elements")
    @classmethod
    def _labels_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            label(name)
        return value

    @field_validator("storage")
    @classmethod
    def _no_secrets(cls, value: str) -> str:
        if value in ("journal", "sqlite"):
            return value
        if not re.match(r"[a-z0-9_+]+://", value):
            raise ValueError(
                "is neither journal nor sqlite nor a URL such as postgresql://user@host/database"
            )
        if without_secrets(value) != value:
            raise ValueError(
                "holds a password; give it to the database's client instead, by PGPASSWORD or ~/.pgpass"
            )
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.stages == 2 and self.sampler == "grid":
            raise ValueError("stages: 2: a grid has one stage; give stages=1, or sampler=tpe")
        if len(self.metrics) > 1 and self.prune.name not in ("auto", "none"):
            raise ValueError(
                f"prune.name: {self.prune.name}: trainings with several metrics cannot be compared "
                "before their end; give prune.name=none"
            )
        if self.study.startswith("s3://") and self.storage in ("journal", "sqlite"):
            raise ValueError(
                f"storage: {self.storage}: needs a file that grows, and {self.study} is in a bucket; "
                "give the URL of a database server"
            )
        if not self.show:
            read_targets(self)
        return self
