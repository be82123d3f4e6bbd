"""Small trained runs on one store of toy stars, as members of ensembles."""

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from survey.checked import WrittenFile
from survey.training.train import plan
from survey.training.worker import learn
from tests.finished import change_document
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
"""Runs with different networks, tasks, labels and seeds; `bands` has batch norm and dropout."""


def place(folder: Path, *kinds: str, **changes: Any) -> Path:
    """A folder with a store, its labels, and a finished run of each kind."""
    lessons.store(folder / "store", count=COUNT)
    for kind in kinds:
        if changes:
            train(folder, kind, **KINDS[kind] | changes)
        else:
            _copy(_trained(kind), folder)
    return folder


@functools.cache
def _kept() -> Path:
    """A folder with the store, in which each kind is trained once."""
    return place(Path(tempfile.mkdtemp(dir=lessons.kept_folder())))


@functools.cache
def _trained(kind: str) -> Path:
    return Path(train(_kept(), kind, **KINDS[kind]))


def _copy(run: Path, folder: Path) -> None:
    """Copy a run and what it was trained on: the copy is as if it had been trained in this folder."""
    copy = Path(shutil.copytree(run, folder / run.name))

    def moved(text: str) -> str:
        return text.replace(str(run.parent), str(folder))

    for name in ("settings.json", "labels.txt"):
        (copy / name).write_text(moved((copy / name).read_text()))
    change_document(copy / "plan.json", lambda values: values.update(json.loads(moved(json.dumps(values)))))
    content = {"plan.json": WrittenFile.at(str(copy / "plan.json")).model_dump()}

    def change(document: dict[str, Any]) -> None:
        document.update(json.loads(moved(json.dumps(document))))
        document["content"].update(content)

    change_document(copy / "run.json", change)


def train(folder: Path, name: str, **changes: Any) -> str:
    """A finished run of this name in a folder with a store; its path."""
    settings = lessons.training(folder, **{"run": str(folder / name), "epochs": 3, "split": SPLIT} | changes)
    plan(settings)
    learn(settings)
    return settings.run


def change_preparation(file: Path, **changes: Any) -> None:
    """Change the preparation of spectra in the document of a run or of a store."""

    def change(document: dict[str, Any]) -> None:
        values = document["store"] if file.name == "run.json" else document["settings"]
        values["prepare"] |= changes

    change_document(file, change)
