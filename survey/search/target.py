"""A target: what one search of a study looks for. There is one for each element, or one for the recipe's
own task.

Reading the targets checks everything that needs no data: the elements, the space, and the settings of a
training.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from survey import labels, plugins
from survey.metrics.settings import epoch_metric_names
from survey.recipes import merge_recipes
from survey.search.space import SearchSpace, Values, read_space, with_values
from survey.settings import SettingsError, similar
from survey.training.settings import Train, is_better

if TYPE_CHECKING:
    from survey.search.settings import Tune

RETRAINING = {"learn_from": "train+validation", "keep": "last", "patience": 0}
"""The settings of a training on training and validation part together."""
TASK = "task"
"""The name of the target that is not for one element."""
MEASURED = ("parameters", "training_seconds")
"""Metrics that a training has in addition to those of validation; both are better when they are smaller."""
PER_LABEL = ("mae", "rmse", "bias", "r2")
"""Metrics whose name the element completes: mae is mae_MgFe for MgFe."""


@dataclass(frozen=True)
class Target:
    """What a search looks for: a name, the settings that its trainings share, metrics, and a space."""

    name: str
    train: Values
    metrics: tuple[str, ...]
    space: SearchSpace

    @property
    def signs(self) -> tuple[int, ...]:
        """1 for each metric that is better when it is smaller, else -1; a bias counts by its size."""
        return tuple(
            1 if metric in MEASURED or is_better(metric, 0.0, 1.0) else -1 for metric in self.metrics
        )

    @property
    def monitor(self) -> str:
        """The metric of validation that chooses the best epoch."""
        return next(name for name in self.metrics if name not in MEASURED)

    @property
    def max_epochs(self) -> int:
        """The number of epochs of the longest training."""
        varied = next((each.ends() for each in self.space.dimensions if each.key == "epochs"), None)
        return int(max(varied)) if varied else Train.from_dict("tune: train", self.train).epochs

    def training(self, run: str, chosen: Values, **changes: Any) -> Train:
        """The settings of a training in a folder, with values for some keys and with other changes."""
        values = with_values(self.train, chosen) | {"run": run} | changes
        return Train.from_dict(f"tune: {self.name}: train", values)


def measured(metric: str, value: float) -> float:
    """A metric as it is compared: a bias by its size."""
    return abs(float(value)) if metric.startswith("bias") else float(value)


def read_targets(settings: "Tune") -> list[Target]:
    """The targets of a search, checked as far as this is possible without data."""
    given = {name: value for name in ("store", "labels") if (value := getattr(settings, name)) is not None}
    base = settings.train | given
    if missing := [name for name in ("store", "labels") if name not in base]:
        raise SettingsError(f"{missing[0]}: not given, but trainings need it; give {missing[0]}=...")
    if settings.space is None:
        raise SettingsError(
            "space: not given; give space=FILE with the settings to vary, such as space=prism"
        )
    base |= {"run": f"{settings.study}/trials", "workers": 1}
    names = [labels.label(element).name for element in settings.elements]
    if same := [each for each, name in zip(settings.elements, names, strict=True) if names.count(name) > 1]:
        raise SettingsError(f"elements: {', '.join(same)} are the same label; give it once")
    elements = settings.elements or (None,)
    return [_read_target(settings, element, base, settings.space) for element in elements]


def _read_target(settings: "Tune", element: str | None, base: Values, path: str) -> Target:
    """The target for an element, or for the task of the recipe."""
    label = labels.label(element).name if element else None
    task: Values = {"task": "reg", "targets": [label]} if label else {}
    monitor = {"monitor": "loss"} if label else {}  # the search sets its own
    space = read_space(path, base | task | monitor)
    if {"monitor", *task} & space.fixed.keys():
        raise SettingsError(
            f"{path}: train: sets task, targets or monitor, which the search sets itself; leave them out"
        )
    train = merge_recipes(base, dict(space.fixed)) | task
    recipe = Train.from_dict("train", train | monitor)
    wanted = settings.metrics or (("mae",) if label else (recipe.monitor,))
    metrics = tuple(f"{metric}_{label}" if label and metric in PER_LABEL else metric for metric in wanted)
    target = Target(_folder_name(element) if element else TASK, train, metrics, space)
    _check_metrics(target)
    target = replace(target, train=train | {"monitor": target.monitor})
    if settings.retrain:
        target.training(f"{settings.study}/winners", dict(RETRAINING))
    return target


def _check_metrics(target: Target) -> None:
    """The metrics are different, one of them judges the answers, and losses compare."""
    where = f"metrics: {', '.join(target.metrics)}"
    if len(set(target.metrics)) < len(target.metrics):
        raise SettingsError(f"{where}: a metric is there twice; give each once")
    if not set(target.metrics) - set(MEASURED):
        raise SettingsError(
            f"{where}: do not measure how good the answers of a network are; "
            "give a metric of validation too, such as mae"
        )
    varied = [each.key for each in target.space.dimensions if each.key.startswith("loss")]
    if "loss" in target.metrics and varied:
        raise SettingsError(
            f"metrics: loss: the space varies {varied[0]}, so losses do not compare; "
            "give another metric, such as mae or r2_mean"
        )
    _check_names(target)


def _check_names(target: Target) -> None:
    """The metrics of the target are computed in a validation; an error suggests another name."""
    settings = Train.from_dict("train", target.train | {"monitor": "loss"})
    task = settings.network_task()
    terms = plugins.constants("models", "TERMS").get(settings.model, ())
    names = epoch_metric_names(task.labels, settings.classes if task.classifies else ())
    known = [*names, *terms, *MEASURED]
    if unknown := [name for name in target.metrics if name not in known]:
        raise SettingsError(
            f"metrics: {unknown[0]}: there is no such metric of {target.name}; {similar(unknown[0], known)}"
        )


def _folder_name(element: str) -> str:
    """An element as the name of a folder: as it was given, if that is possible."""
    return element if re.fullmatch(r"[\w+-]+", element) else labels.label(element).name
