"""Runs and ensembles with random weights in complete folders. Their answers mean nothing and are always the
same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from survey.ensemble.calibration import Calibration, LabelCalibration
from survey.ensemble.combine import Weights
from survey.ensemble.domain import Domain
from survey.ensemble.ensemble import DOMAIN, ENSEMBLE, VALIDATION, EnsembleDocument, member_fields
from survey.ensemble.label_errors import ErrorScale, NoiseLaw
from survey.ensemble.member_names import path_from
from survey.ensemble.members import open_members
from survey.folder import Folder
from survey.labelling.settings import Split
from survey.labels import CLASSES, label
from survey.models.settings import Task, View
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import Store, open_store
from survey.training import checkpoint
from survey.training import run as training_run
from survey.training.batches import Spectra
from survey.training.run import Plan, RunResult, StoreSource
from survey.training.scaling import fit_scaling
from tests import survey_files

COARSE = {"grid": {"start": 4000.0, "stop": 8500.0, "step": 10.0, "scale": "linear"}, "continuum": "segment"}
"""A grid of 451 points: the tests are about rows, not about pixels."""
SMALL = {"components": 8, "hidden": 16, "dropout": 0.2}


def store(folder: Path, numbers: range = range(10), broken: bool = False, **settings: Any) -> Store:
    """A finished store of small LAMOST files in `folder/store`, from
    `folder/files` with these files added.
    """
    survey_files.write(folder / "files", numbers, broken)
    values = {
        "input": str(folder / "files"),
        "store": str(folder / "store"),
        "shard": 4,
        "refuse_above": 1.0,
        "prepare": COARSE,
    }
    ingest(Ingest.from_dict("ingest", values | settings))
    return open_store(str(folder / "store"))


def run(
    folder: Path,
    store: Store,
    kind: Any = "cls_reg",
    labels: tuple[str, ...] = ("Teff", "FeH"),
    seed: int = 0,
    sigma: bool = False,
) -> Path:
    """A run of a small network with random weights."""
    task = Task(kind, () if kind == "cls" else labels, len(CLASSES), sigma)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = training_run.build("prism", SMALL, task, len(store.grid))
        for parameter in net.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    truth = np.array([[5000.0, -2.0], [6000.0, 0.0]])[:, : len(task.labels)]
    plan = Plan(
        model="prism",
        options=SMALL,
        task=task,
        classes=CLASSES,
        units={name: label(name).unit for name in task.labels},
        view=View(),
        scaling=fit_scaling("standard", truth, task.labels),
        grid=store.grid,
        store=StoreSource(path=store.path, id=store.id, prepare=store.prepare),
        parts={},
        split=Split(),
        start_from=None,
    )
    result = RunResult(
        settings={},
        fingerprint="0",
        parameters=net.size(),
        learning_rate=1e-3,
        best_epoch=1,
        epochs=1,
        skipped_steps=0,
        monitor="loss",
        validation={},
        training_seconds=0.0,
        device="cpu",
        workers=1,
    )
    training_run.finish(str(folder), dict(net.state_dict()), [{"epoch": 1.0}], plan, result)
    return folder


def three(folder: Path, store: Store, passes: int = 0) -> Path:
    """An ensemble of three members with different tasks, with a calibration, a
    domain and a validation table.
    """
    paths = [
        run(folder / "runs" / "both", store),
        run(folder / "runs" / "labels", store, "reg", ("Teff",), seed=1, sigma=True),
        run(folder / "runs" / "classes", store, "cls", seed=2),
    ]
    members = open_members([str(path) for path in paths])
    weights = Weights(np.array([0.25, 0.0, 0.75]), np.array([[0.5, 1.0], [0.5, 0.0], [0.0, 0.0]]))
    errors = (
        LabelCalibration(NoiseLaw(50.0, 900.0), ErrorScale(), 2.0),
        LabelCalibration(NoiseLaw(0.1, 2.0), ErrorScale(), 2.1),
    )
    rng = np.random.default_rng(0)
    flat = torch.ones(2, len(members.grid))
    _, latents = members.predict(Spectra(flat, flat))
    domain = Domain.fit([rng.normal(size=(50, latent.shape[1])) for latent in latents])
    tensors = {name: torch.from_numpy(array) for name, array in domain.to_tensors().items()}
    checkpoint.write_tensors(str(folder / DOMAIN), tensors, {"version": ENSEMBLE.version})
    pq.write_table(pa.table({"true_class": [0, 1], "p_mp": [0.9, 0.2]}), folder / VALIDATION)
    fields = member_fields(members, weights)
    fields["members"] = tuple(
        member.model_copy(update={"path": path_from(str(folder), member.path)})
        for member in fields["members"]
    )
    document = EnsembleDocument(
        version=ENSEMBLE.version,
        id="three-members",
        passes=passes,
        calibrated=True,
        calibration=Calibration(members.labels, 1.3, errors, 0.95, 40.0),
        domain=True,
        store=members.runs[0].document.store,
        **fields,
    )
    Folder(str(folder), ENSEMBLE).finish(document, [DOMAIN])
    return folder
