"""The folder of a run: what is in it, and how a finished run is opened from its folder alone.

samples.parquet      the labelled spectra: where they are, in which part, with which labels
labels.txt           how many rows of the label table were joined, and why others were not
plan.json            what is fixed before the first step (`Plan`)
settings.json        the settings of the run
checkpoints/         the last epoch and the best one
store/               only with several sources: their stores as one
model.safetensors    the best weights
history.parquet      one row of numbers for each epoch
run.json             what the run is (`RunDocument`): written last, so a folder with it is finished
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator
from torch import Tensor

from survey import checked, files, plugins
from survey.folder import Document, Folder, Kind
from survey.labelling import samples
from survey.labelling.settings import Split
from survey.models.network import Network, ViewLayer
from survey.models.settings import Task, View
from survey.settings import SettingsError
from survey.spectrum import Grid
from survey.store.settings import Prepare
from survey.store.store import STORE
from survey.stored_paths import find_folder
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.made_from import MadeFrom
from survey.training.scaling import Scaling
from survey.training.validation import in_units, network_outputs

MODEL, HISTORY, PLAN, CHECKPOINTS = "model.safetensors", "history.parquet", "plan.json", "checkpoints"
JOINED = "store"
"""The folder of a run with the store that joins the stores of several sources."""


class _Fixed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class StoreSource(_Fixed):
    """The store that a run was trained on."""

    path: str
    id: str
    prepare: Prepare


class StartRun(_Fixed):
    """The run that a run was fine-tuned from."""

    path: str
    id: str


class PartCounts(_Fixed):
    """How many spectra and stars a part has, and how many spectra of each class."""

    spectra: int
    stars: int
    classes: dict[str, int]

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, values: Any) -> Any:
        """Runs of earlier versions hold the counts of the classes beside the other two."""
        if not isinstance(values, dict) or isinstance(values.get("classes"), dict):
            return values
        totals = {name: count for name, count in values.items() if name in ("spectra", "stars")}
        return totals | {"classes": {name: count for name, count in values.items() if name not in totals}}


def _read_scaling(value: Any) -> Any:
    return value if isinstance(value, Scaling) else Scaling.from_dict(value)


ScalingField = Annotated[Scaling, BeforeValidator(_read_scaling), PlainSerializer(Scaling.to_dict)]


class Plan(_Fixed):
    """What is fixed before the first step and stays with the run."""

    model: str
    options: dict[str, Any]
    task: Task
    classes: tuple[str, ...]
    units: dict[str, str]
    view: View
    scaling: ScalingField
    grid: Grid
    image: tuple[int, int, int] | None = None
    store: StoreSource
    parts: dict[str, PartCounts]
    split: Split
    start_from: StartRun | None
    made_from: MadeFrom = MadeFrom()

    def write(self, run: str) -> None:
        """Write the plan into the folder of a run."""
        checked.write_json(files.join(run, PLAN), self.model_dump(mode="json"))


def read_plan(run: str) -> Plan:
    """The plan of a run that was begun."""
    advice = "put a copy back, or remove the folder and train the run again"
    return Plan.model_validate(checked.read_json(files.join(run, PLAN), advice))


class RunResult(_Fixed):
    """What is known at the end of a training. `settings` are those that decide the result."""

    settings: dict[str, Any]
    fingerprint: str
    parameters: int
    learning_rate: float
    best_epoch: int
    epochs: int
    skipped_steps: int
    monitor: str
    validation: dict[str, float]
    training_seconds: float
    device: str
    workers: int
    unused: tuple[str, ...] = ()
    """Settings that were given but that a baseline does not use."""


class RunDocument(Plan, RunResult, Document):
    """run.json: what a finished run is."""

    weights_sha256: str


RUN = Kind("run", RunDocument, version=3, job="train")


@dataclass(frozen=True)
class Run:
    """A finished run, ready to predict."""

    path: str
    document: RunDocument
    net: Network
    device: torch.device

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it predicts, in order."""
        return self.document.task.labels

    @property
    def store_path(self) -> str:
        """The store that it was trained on."""
        return trained_store(self.path, self.document)

    @property
    def grid(self) -> Grid:
        """The wavelengths that it was trained on."""
        return self.document.grid

    @property
    def scaling(self) -> Scaling:
        """The scaling of its labels."""
        return self.document.scaling

    def check_grid(self, grid: Grid, where: str) -> None:
        """An error if spectra of this grid cannot be given to the run."""
        if grid != self.grid:
            raise ValueError(
                f"{where}: its grid has {grid}, the run {self.path} was trained on {self.grid}; "
                "give a store of that grid, or another run"
            )

    def predict(self, spectra: Spectra, precision: str = "auto") -> dict[str, NDArray[np.float64]]:
        """Predictions for some spectra.

        `p` holds class probabilities, `mu` and `sigma` labels and their errors in units of the labels,
        `latent` the last features.
        """
        outputs = network_outputs(self.net, [spectra], self.device, precision)
        return in_units(outputs, self.scaling) | {"latent": outputs["latent"].numpy()}


def trained_store(run: str, document: RunDocument) -> str:
    """The store that a run was trained on. That of several sources lies in its folder, and moves with it."""
    joined = files.join(run, JOINED)
    if Folder(joined, STORE).is_finished():
        return joined
    return find_folder(document.store.path, run, STORE, document.store.id)


def build(
    model: str, options: dict[str, Any], task: Task, pixels: int, image: tuple[int, int, int] | None = None
) -> Network:
    """A new network of this name, for spectra of so many pixels and images of this shape."""
    checked = plugins.options("models", model).from_dict(f"train: options of {model}", options)
    kind: type[Network] = plugins.load("models", model).Net
    if "image" in kind.extra_inputs:
        if image is None:
            raise SettingsError(
                f"train: model={model}: needs images, the store has none; "
                "ingest with prepare.image.size, such as 64"
            )
        return kind(pixels, task, checked, image)
    if not pixels:
        raise SettingsError(f"train: model={model}: needs spectra, the store has images only")
    return kind(pixels, task, checked)


def network(plan: Plan) -> Network:
    """A new network according to a plan, or to the document of a run."""
    net = build(plan.model, plan.options, plan.task, len(plan.grid), plan.image)
    if plan.view != View():
        net.view = ViewLayer(plan.view, plan.grid.wave)
    return net


def freeze(net: Network, names: tuple[str, ...]) -> None:
    """Switch off the training of parts of a network: body, or beginnings of parameter names."""
    for name in names:
        chosen = [parameter for path, parameter in net.named_parameters() if _is_part(path, name)]
        if not chosen:
            parts = ", ".join(part for part, _ in net.named_children())
            raise SettingsError(f"train: freeze: the network has no part {name!r}; give body, {parts}")
        for parameter in chosen:
            parameter.requires_grad_(False)


def _is_part(path: str, name: str) -> bool:
    if name == "body":
        return not path.startswith("heads.")
    return path == name or path.startswith(f"{name}.")


def finish(
    run: str, weights: dict[str, Tensor], rows: list[dict[str, float]], plan: Plan, result: RunResult
) -> None:
    """Write what a run keeps: weights, the numbers of all epochs, and the document last."""
    path = files.join(run, MODEL)
    checkpoint.write_tensors(path, weights, {"version": RUN.version})
    files.write_table(files.join(run, HISTORY), pa.Table.from_pylist(rows))
    sha256 = hashlib.sha256(files.read(path)).hexdigest()
    values = dict(plan) | dict(result) | {"version": RUN.version, "id": sha256[:16], "weights_sha256": sha256}
    content = (MODEL, HISTORY, PLAN, samples.SAMPLES)
    existing = [name for name in content if files.exists(files.join(run, name))]
    Folder(run, RUN).finish(RunDocument(**values), existing)


def history(run: str) -> list[dict[str, float]]:
    """The numbers of all epochs of a finished run."""
    rows: list[dict[str, float]] = Folder(run, RUN).table(HISTORY).to_pylist()
    return rows


def is_finished(path: str) -> bool:
    """Whether there is a finished run at a path."""
    return Folder(path, RUN).is_finished()


def run_document(path: str) -> RunDocument:
    """The document of a finished run."""
    return Folder(path, RUN).document()


def open_run(path: str, device: torch.device | None = None) -> Run:
    """A finished run; all weights must be there, fit the network, and be those that the run wrote."""
    folder, device = Folder(path, RUN), device or torch.device("cpu")
    document = folder.document()
    tensors, _ = checkpoint.parse_tensors(folder.read(MODEL, document), folder.file(MODEL))
    try:
        with torch.device("meta"):  # takes no memory: an edited document may describe a network of any size
            checkpoint.check_weights(network(document), tensors, folder.file(MODEL))
    except SettingsError as error:
        raise ValueError(
            f"{folder.file(RUN.file)}: describes no network ({error}); put a copy back"
        ) from None
    net = network(document)
    checkpoint.load_weights(net, tensors, folder.file(MODEL))
    return Run(path, document, net.to(device).eval(), device)
