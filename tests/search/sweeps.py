"""Searches on toy stars: settings, spaces, and trainings that are over at once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.storages import BaseStorage

from survey.search.seeds import Scores
from survey.search.settings import Tune
from survey.search.study import Study
from survey.search.target import read_targets
from survey.search.trial import Row, TrainingEnd
from survey.training.settings import Train

TRAIN: dict[str, Any] = {
    "model": "prism",
    "options": {"components": 16, "hidden": 32},
    "epochs": 2,
    "threads": 1,
}
SPACE: dict[str, Any] = {
    "optimiser.lr": {"log": [1e-4, 1e-1]},
    "batch": {"choices": [16, 32]},
    "options.dropout": {"range": [0.0, 0.5]},
}


def write_space(
    folder: Path, lines: Mapping[str, Any] | None = None, train: Mapping[str, Any] | None = None
) -> Path:
    """A file with a space."""
    path = folder / "space.yaml"
    content = {"train": dict(train or {}), "space": dict(SPACE if lines is None else lines)}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def search_settings(toys: Path, folder: Path, **changes: Any) -> Tune:
    """Settings of a short search on the store of toy stars, into `folder/study`."""
    values: dict[str, Any] = {
        "study": str(folder / "study"),
        "store": str(toys / "store"),
        "labels": str(toys / "labels.csv"),
        "train": TRAIN,
        "elements": ["FE"],
        "trials": 4,
        "seeds": 0,
        "winners": str(folder / "winners"),
        "tracking": {"use": "never"},
        "gpu": 0.0,
        "workers": 1,
    }
    if "space" not in changes:
        values["space"] = str(write_space(folder))
    return Tune.from_dict("tune", values | changes)


def open_study(settings: Tune, storage: BaseStorage) -> Study:
    """The study of the first target, in this storage."""
    target = read_targets(settings)[0]
    return Study.open(settings, target, f"x-{target.name}", storage)


def scores(value: float, metric: str = "mae_FeH", parameters: int = 10, epochs: int = 2) -> Scores:
    """The scores of a training that reached this value."""
    return Scores(
        validation={metric: value},
        parameters=parameters,
        training_seconds=1.5,
        best_epoch=epochs,
        epochs=epochs,
    )


def simulated(
    score: Callable[[Train], float], epochs: int = 3
) -> Callable[[Train, Callable[[Row], None]], TrainingEnd]:
    """A training that reaches a function of its settings at once; with NaN it fails."""

    def run_training(settings: Train, report: Callable[[Row], None]) -> TrainingEnd:
        value, metric = score(settings), settings.monitor
        if value != value:
            return TrainingEnd(failed="the gradients are not finite")
        for epoch in range(1, epochs + 1):
            report({"epoch": float(epoch), f"validation_{metric}": value * (1 + 1 / epoch)})
        reached = scores(value * (1 + 1 / epochs), metric, 1000 * settings.batch, epochs)
        return TrainingEnd(scores=reached)

    return run_training
