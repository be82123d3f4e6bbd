"""Small trained runs on one store of toy stars, for what is asked of several together."""

from pathlib import Path
from typing import Any

from survey.training.train import begin
from survey.training.worker import learn
from tests.training import lessons

COUNT = 300
SPLIT = {"parts": [0.5, 0.3, 0.2]}
KINDS: dict[str, dict[str, Any]] = {
    "both": {},
    "sure": {"loss": {"reg": "gaussian_nll"}, "seed": 1, "targets": ["CFe", "FeH"]},
    "classes": {"task": "cls", "seed": 2, "options": {"components": 8, "hidden": 16}},
    "warm": {"task": "reg", "targets": ["Teff"], "seed": 3},
    "bands": {"model": "bganet", "options": {"wide": 8, "narrow": 4}, "seed": 4},
}
"""Runs of other networks, tasks, labels and seeds; `bands` has batch norm beside dropout."""


def place(folder: Path, *kinds: str, **changes: Any) -> Path:
    """A folder with a store, its labels, and a finished run of each kind."""
    lessons.store(folder / "store", count=COUNT)
    for kind in kinds:
        train(folder, kind, **KINDS[kind] | changes)
    return folder


def train(folder: Path, name: str, **changes: Any) -> str:
    """A finished run of that name in a folder that has a store."""
    settings = lessons.training(folder, **{"run": str(folder / name), "epochs": 3, "split": SPLIT} | changes)
    begin(settings)
    learn(settings)
    return settings.run
