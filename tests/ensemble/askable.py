"""Runs and ensembles that were never trained: random weights, right folders. What they say means nothing, and is the same every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from survey.ensemble import calibration as calibrate
from survey.ensemble import ensemble
from survey.ensemble.calibration import Errors
from survey.ensemble.combine import Weights
from survey.ensemble.domain import Domain
from survey.ensemble.ensemble import DOMAIN, ENSEMBLE, described, told_path
from survey.ensemble.errors import Law, Scale
from survey.ensemble.members import open_members
from survey.labels import CLASSES, label
from survey.models.network import Task
from survey.store.ingest import Ingest, ingest
from survey.store.store import Store, open_store
from survey.training import checkpoint, scaling
from survey.training import run as bundle
from survey.training.batches import Spectra
from tests import survey_files

COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
"""A grid of 451 points: the tests are about rows, not about pixels."""
SMALL = {"components": 8, "hidden": 16, "dropout": 0.2}


def store(folder: Path, numbers: range = range(10), broken: bool = False, **given: Any) -> Store:
    """A finished store of small LAMOST files, in `folder/store`, made from or lengthened by `folder/files`."""
    survey_files.write(folder / "files", numbers, broken)
    values = {
        "input": str(folder / "files"),
        "store": str(folder / "store"),
        "shard": 4,
        "refuse_above": 1.0,
        "prepare": COARSE,
    }
    ingest(Ingest.checked("ingest", values | given))
    return open_store(str(folder / "store"))


def run(
    folder: Path,
    of: Store,
    kind: str = "cls_reg",
    labels: tuple[str, ...] = ("Teff", "FeH"),
    seed: int = 0,
    **given: Any,
) -> Path:
    """A run of a small network with random weights."""
    task = Task(kind, () if kind == "cls" else labels, len(CLASSES), given.pop("sigma", False))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = bundle.build("prism", SMALL, task, of.about["grid"]["points"])
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    truth = np.array([[5000.0, -2.0], [6000.0, 0.0]])[:, : len(task.labels)]
    about = {
        "model": "prism",
        "options": SMALL,
        "task": {
            "kind": task.kind,
            "labels": list(task.labels),
            "classes": task.classes,
            "sigma": task.sigma,
        },
        "classes": list(CLASSES),
        "units": {name: label(name).unit for name in task.labels},
        "scaling": scaling.fit("standard", truth, task.labels).as_dict() if task.labels else {},
        "grid": of.about["grid"],
        "store": {"path": of.path, "id": of.about["id"], "prepare": of.about["settings"]["prepare"]},
        "before": None,
    }
    bundle.finish(str(folder), dict(net.state_dict()), [{"epoch": 1.0}], about | given)
    return folder


def three(folder: Path, of: Store, passes: int = 0) -> Path:
    """An ensemble of three members of different tasks, with a calibration, a domain and a validation table."""
    paths = [
        run(folder / "runs" / "both", of),
        run(folder / "runs" / "labels", of, "reg", ("Teff",), seed=1, sigma=True),
        run(folder / "runs" / "classes", of, "cls", seed=2),
    ]
    members = open_members([str(path) for path in paths])
    weights = Weights(np.array([0.25, 0.0, 0.75]), np.array([[0.5, 1.0], [0.5, 0.0], [0.0, 0.0]]))
    errors = (Errors(Law(50.0, 900.0), Scale(), 2.0), Errors(Law(0.1, 2.0), Scale(), 2.1))
    calibration = calibrate.Calibration(members.labels, 1.3, errors, 0.95, 40.0)
    dice = np.random.default_rng(0)
    _, latents = members.ask(Spectra(torch.ones(2, len(members.grid)), torch.ones(2, len(members.grid))))
    domain = Domain.fit([dice.normal(size=(50, latent.shape[1])) for latent in latents])
    about = {
        "version": ensemble.VERSION,
        "id": "three-members",
        "code": "0",
        "passes": passes,
        "calibrated": True,
        "domain": True,
    }
    checkpoint.write_tensors(
        str(folder / DOMAIN),
        {name: torch.from_numpy(array) for name, array in domain.tensors().items()},
        {"version": 1},
    )
    pq.write_table(pa.table({"true_class": [0, 1], "p_mp": [0.9, 0.2]}), folder / "validation.parquet")
    told = described(members, weights)
    told["members"] = [
        member | {"path": told_path(str(folder), member["path"])} for member in told["members"]
    ]
    (folder / ENSEMBLE).write_text(json.dumps(about | told | {"calibration": calibration.told()}))
    return folder
