"""What is to be searched for: the settings of a search, and for each element, or for the recipe's own task, what its trainings have in common."""

import difflib
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from survey import files, labels, metrics
from survey.search import space
from survey.search.space import Space, laid_over
from survey.settings import Settings, SettingsError, over
from survey.training.loop import better
from survey.training.tracking import Tracking
from survey.training.train import Train

TASK = "task"
"""What a search is called that is for no element."""
MEASURED = ("parameters", "training_seconds")
"""What may be made small beside the metrics of validation: both are known when a training is over."""
PER_LABEL = ("mae", "rmse", "bias", "r2")
"""Metrics that are named for an element without it: mae is mae_MgFe for MgFe."""


class Prune(Settings):
    """When a training is stopped because others did better by the same epoch."""

    name: Literal["auto", "halving", "hyperband", "median", "none"] = Field(
        "auto",
        description="asynchronous successive halving (ASHA), hyperband, worse than the median, or never; auto = halving, never for several metrics",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="epochs before the first look; null = a third of the recipe's epochs, hyperband: a ninth",
    )
    factor: int = Field(
        3, ge=2, description="halving, hyperband: one in so many goes on, for so many times as long"
    )
    startup: int = Field(5, ge=0, description="median: trainings that are finished before one is stopped")


class Tune(Settings):
    """Settings of a search."""

    SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    INERT: ClassVar[frozenset[str]] = frozenset(
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

    study: str = Field(description="folder or s3:// prefix of the study to make, or to go on with")
    store: str | None = Field(None, description="store of the spectra; null = that of the recipe's train")
    labels: str | None = Field(None, description="table of labels; null = that of the recipe's train")
    train: dict[str, Any] = Field(
        {},
        description="what every training has: the recipe's section train; python jobs/train.py --help lists it",
    )
    space: str | None = Field(
        None,
        description="file that says what is tried, such as tune/rescnn.yaml; its own train: lies over the recipe's",
    )
    elements: tuple[str, ...] = Field(
        (),
        strict=False,
        description="labels to search for one by one, by any of their names; none = the recipe's own task and targets, together",
    )
    trials: int = Field(
        30,
        ge=1,
        description="trainings that are to be finished in all, for each element; a larger number later goes on from there",
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="what is tried next: what looks best (tree-structured Parzen estimator), anything, or every combination",
    )
    points: int = Field(3, ge=2, description="grid: values of each range")
    stages: int = Field(
        1,
        ge=1,
        le=2,
        description="2: after a share of the trials, numbers only from half to twice the best so far, choices as there",
    )
    wide: float = Field(
        0.6, gt=0, lt=1, description="two stages: share of the trials that is spent on the whole space first"
    )
    metrics: tuple[str, ...] = Field(
        (),
        strict=False,
        description="what is made best on the validation part: metrics such as mae (of each element), r2_mean, parameters, training_seconds; "
        "none = mae, or the recipe's monitor where there are no elements; of several, what cannot be had together (a Pareto front)",
    )
    prune: Prune = Field(Prune(), description="stopping what does badly")
    storage: str = Field(
        "journal",
        description="where trials are noted: journal or sqlite (a file in the study), or the URL of a database server; passwords as it knows them",
    )
    seed: int = Field(0, ge=0, description="of what is tried; trainings have their own, train.seed")
    seeds: int = Field(
        3,
        ge=0,
        description="the best two, and the recipe as it is, are trained again with so many other seeds; 0 = not",
    )
    keep: Literal["best", "all"] = Field(
        "best", description="whose weights are kept: the best two trials', or all"
    )
    retrain: bool = Field(
        False,
        description="train the winner on training and validation part together, into winners/ in the study",
    )
    winners: str = Field(
        "tune",
        description="folder for the files of the best two, NAME-ELEMENT.yaml, which with= lays over a recipe",
    )
    name: str = Field("", description="what these files begin with; empty = the name of the study's folder")
    workers: int | None = Field(
        None,
        ge=1,
        description="trainings at a time; null = as many as there are CPUs, or shares of GPUs; 1 = one after the other, without Ray",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="threads of a training; null = 1, or all CPUs where one is done after the other",
    )
    gpu: float | None = Field(
        None,
        ge=0,
        le=8,
        description="GPUs for each training, such as 0.5; null = 1 where there are some; 0 = none",
    )
    failures: int = Field(2, ge=0, description="how often a training whose process died goes on in a new one")
    tracking: Tracking = Field(
        Tracking(),
        description="where numbers go, beside the study's folder: a run for each element, trials below it",
    )
    show: bool = Field(
        False, description="only tell how far the study is, also while it runs elsewhere; nothing is changed"
    )

    @field_validator("storage")
    @classmethod
    def _without_secrets(cls, value: str) -> str:
        if value in ("journal", "sqlite"):
            return value
        if not re.match(r"[a-z0-9_+]+://", value):
            raise ValueError("neither journal nor sqlite nor a URL such as postgresql://user@host/database")
        if re.match(r"[a-z0-9_+]+://[^/@]*:[^/@]*@", value) or "password=" in value:
            raise ValueError(
                "holds a password; give it as the database's client knows it, such as PGPASSWORD or ~/.pgpass"
            )
        return value

    @model_validator(mode="after")
    def _sound_together(self) -> Self:
        if self.stages == 2 and self.sampler == "grid":
            raise ValueError("stages: 2: a grid is not narrowed; give stages=1, or sampler=tpe")
        if len(self.metrics) > 1 and self.prune.name not in ("auto", "none"):
            raise ValueError(
                f"prune.name: {self.prune.name}: trainings with several metrics cannot be compared half-way; give prune.name=none"
            )
        if files.is_remote(self.study) and self.storage in ("journal", "sqlite"):
            raise ValueError(
                f"storage: {self.storage}: {self.study} is in a bucket, where no file can be written bit by bit; give the URL of a database server"
            )
        return self


@dataclass(frozen=True)
class Aim:
    """What one search is for: its name, what its trainings have in common, what is made best, and how (1 small, -1 large)."""

    name: str
    train: dict[str, Any]
    metrics: tuple[str, ...]
    space: Space

    @property
    def signs(self) -> tuple[int, ...]:
        """1 where a metric is better the smaller it is, else -1."""
        return tuple(sign(name) for name in self.metrics)

    @property
    def monitor(self) -> str:
        """The metric of validation that the best epoch is chosen by."""
        return next(name for name in self.metrics if name not in MEASURED)

    def training(self, run: str, chosen: dict[str, Any], **other: Any) -> Train:
        """The settings of a training with values for some keys."""
        return space.checked(
            f"tune: {self.name}: train", laid_over(self.train, chosen) | {"run": run} | other
        )


def sign(metric: str) -> int:
    """1 for a metric that is better the smaller it is, else -1; a bias by its size."""
    return 1 if metric in MEASURED or better(metric, 0.0, 1.0) else -1


def folder_name(element: str) -> str:
    """An element as a folder's name: as it was written, where that is one."""
    return element if re.fullmatch(r"[\w+-]+", element) else labels.label(element).name


def aims(settings: Tune) -> list[Aim]:
    """What is searched for, checked as far as settings go."""
    given = {name: value for name in ("store", "labels") if (value := getattr(settings, name)) is not None}
    base = settings.train | given
    if missing := [name for name in ("store", "labels") if name not in base]:
        raise SettingsError(f"tune: {missing[0]}: not given, but needed to train; give {missing[0]}=...")
    base |= {"run": files.join(settings.study, "trials"), "workers": 1}
    if settings.space is None:
        raise SettingsError(
            "tune: space: not given; give space=FILE with what is to be tried, such as one of tune/*.yaml"
        )
    found = [_aim(settings, element, base, settings.space) for element in settings.elements] or [
        _aim(settings, None, base, settings.space)
    ]
    names = [labels.label(element).name for element in settings.elements]
    if twice := [
        element for element, name in zip(settings.elements, names, strict=True) if names.count(name) > 1
    ]:
        raise SettingsError(f"tune: elements: {', '.join(twice)} are one; give it once")
    return found


def _aim(settings: Tune, element: str | None, base: dict[str, Any], path: str) -> Aim:
    """The search for one element, or for the recipe's own task."""
    own: dict[str, Any] = {}
    name = None
    if element is not None:
        name = labels.label(element).name
        own = {"task": "reg", "targets": [name]}
    tried = space.read(path, base | own)
    train = over(base, dict(tried.fixed)) | own
    if "monitor" in tried.fixed or (element is not None and {"task", "targets"} & tried.fixed.keys()):
        raise SettingsError(
            f"{path}: train: says task, targets or monitor, which the search sets; leave them out"
        )
    made = space.checked("tune: train", train)
    wanted = settings.metrics or (("mae",) if name else (made.monitor,))
    found = tuple(f"{metric}_{name}" if name and metric in PER_LABEL else metric for metric in wanted)
    aim = Aim(folder_name(element) if element is not None else TASK, train, found, tried)
    _check_metrics(aim, made)
    return Aim(aim.name, train | {"monitor": aim.monitor}, found, tried)


def _check_metrics(aim: Aim, made: Train) -> None:
    """Every metric is one that a validation tells, and the losses that are tried do not change what a loss means."""
    task = made.asked()
    blank = np.zeros((1, len(task.labels))) if task.regresses else None
    some = (np.zeros(1, int), np.eye(1, task.classes)) if task.classifies else (None, None)
    there = [
        *metrics.quick(
            class_N=some[0], p_NC=some[1], label_NL=blank, mu_NL=blank, labels=task.labels, loss=0.0
        ),
        *MEASURED,
    ]
    for name in aim.metrics:
        if name not in there:
            near = difflib.get_close_matches(name, there, 1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
            raise SettingsError(f"tune: metrics: {name}: there is no such metric of {aim.name}; {advice}")
    if len(set(aim.metrics)) < len(aim.metrics):
        raise SettingsError(f"tune: metrics: {', '.join(aim.metrics)}: one is there twice; give each once")
    if not set(aim.metrics) - set(MEASURED):
        raise SettingsError(
            f"tune: metrics: {', '.join(aim.metrics)}: say nothing of how right a network is; give one of validation too, such as mae"
        )
    if "loss" in aim.metrics and (
        tried := [one.key for one in aim.space.knobs if one.key.startswith("loss")]
    ):
        raise SettingsError(
            f"tune: metrics: loss: {tried[0]} is tried, so losses do not compare; give another metric, such as mae or r2_mean"
        )
