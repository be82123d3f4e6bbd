"""Searches on toy stars: settings, spaces, and trainings that only pretend."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from survey.search.settings import Tune, aims
from survey.search.study import Study
from survey.search.trial import Row, Told
from survey.training.train import Train

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


def space(
    folder: Path,
    lines: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    name: str = "space",
) -> Path:
    """A file with a space."""
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump(
            {"train": dict(train or {}), "space": dict(SPACE if lines is None else lines)}, sort_keys=False
        )
    )
    return path


def wanted(toys: Path, folder: Path, **changes: Any) -> Tune:
    """Settings of a short search on the toys' store into `folder/study`."""
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
    values |= {"space": str(space(folder))} if "space" not in changes else {}
    return Tune.checked("tune", values | changes)


def study_of(settings: Tune, storage: Any) -> Study:
    """The study of the first aim, in a storage of one's own."""
    aim = aims(settings)[0]
    return Study.opened(settings, aim, f"x-{aim.name}", storage)


def pretended(
    score: Callable[[Train], float], epochs: int = 3
) -> Callable[[Train, Callable[[Row], None]], Told]:
    """A training that reaches at once what a function of its settings says; NaN: it fails."""

    def work(settings: Train, tell: Callable[[Row], None]) -> Told:
        value, metric = score(settings), settings.monitor
        if value != value:
            return {"failed": "the gradients are not finite"}
        for epoch in range(1, epochs + 1):
            tell({"epoch": float(epoch), f"validation_{metric}": value * (1 + 1 / epoch)})
        parameters = 1000 * settings.batch
        told = {"parameters": parameters, "training_seconds": 1.5, "best_epoch": epochs, "epochs": epochs}
        return {"about": told | {"validation": {metric: value * (1 + 1 / epochs)}}}

    return work
