"""What a run keeps, and how it is opened again, from its folder alone.

settings.json        what was asked for, written before any work
samples.parquet      the labelled spectra: which, in which part, with which labels
checkpoints/         the last epoch and the best one, while the run is under way and after
model.safetensors    the best weights
history.parquet      a row of numbers per epoch
run.json             what the run is: written last, so that its presence says "finished"
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey import __version__, files, plugins
from survey.models.network import Network, Task
from survey.models.view import Seeing, View
from survey.settings import SettingsError
from survey.spectrum import Grid
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.scaling import Scaling
from survey.training.validation import asked, units

RUN, MODEL, HISTORY, SETTINGS, CHECKPOINTS = (
    "run.json",
    "model.safetensors",
    "history.parquet",
    "settings.json",
    "checkpoints",
)
VERSION = 1


@dataclass(frozen=True)
class Run:
    """A finished run: its network, and what is to be known of it (`about` is run.json)."""

    path: str
    about: dict[str, Any]
    net: Network
    scaling: Scaling
    device: torch.device

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it gives, in order."""
        return self.net.task.labels

    @property
    def grid(self) -> Grid:
        """The wavelengths it was trained on."""
        return Grid(*(self.about["grid"][name] for name in ("start", "stop", "step", "scale")))

    def fits(self, grid: dict[str, Any], where: str) -> None:
        """Spectra of this grid can be asked about, or an error says why not."""
        own = self.about["grid"]
        if any(own[name] != grid[name] for name in ("start", "stop", "step", "scale", "points")):
            told = [
                f"{about['points']} {about['scale']} points from {about['start']:g} to {about['stop']:g}"
                for about in (own, grid)
            ]
            raise ValueError(
                f"{where}: its grid has {told[1]}, the run {self.path} was trained on {told[0]}; give a store of that grid, or another run"
            )

    def said(self, spectra: Spectra, precision: str = "auto") -> dict[str, NDArray[np.float64]]:
        """What it says of spectra: `p` class probabilities, `mu` and `sigma` in the labels' units, `latent` its last features."""
        answers = asked(self.net, [spectra], self.device, precision)
        return units(answers, self.scaling) | {"latent": answers["latent"].numpy()}


def build(model: str, options: dict[str, Any], task: Task, pixels: int) -> Network:
    """A new network of that name."""
    plugin = plugins.load("models", model)
    net: Network = plugin.Net(
        pixels, task, plugins.options("models", model).checked(f"train: options of {model}", options)
    )
    return net


def network(about: dict[str, Any]) -> Network:
    """A new network as a plan, or the description of a run, has it."""
    grid = about["grid"]
    net = build(about["model"], about["options"], task_of(about), grid["points"])
    view = View.checked("train: view", about.get("view", {}))
    if view != View():
        net.seeing = Seeing(view, Grid(grid["start"], grid["stop"], grid["step"], grid["scale"]).wave)
    return net


def freeze(net: Network, what: tuple[str, ...]) -> None:
    """Parts of a network that learn no more."""
    for name in what:
        chosen = [
            parameter
            for path, parameter in net.named_parameters()
            if (name == "body" and not path.startswith("heads."))
            or path == name
            or path.startswith(f"{name}.")
        ]
        if not chosen:
            parts = ", ".join(part for part, _ in net.named_children())
            raise SettingsError(f"train: freeze: the network has no part {name!r}; there are body, {parts}")
        for parameter in chosen:
            parameter.requires_grad_(False)


def finish(
    folder: str, weights: dict[str, Tensor], history: list[dict[str, float]], about: dict[str, Any]
) -> None:
    """Write what a run keeps, its description last."""
    checkpoint.write_tensors(files.join(folder, MODEL), weights, {"version": VERSION})
    files.write_table(files.join(folder, HISTORY), pa.Table.from_pylist(history))
    digest = hashlib.sha256(files.read(files.join(folder, MODEL))).hexdigest()
    files.write_json(
        files.join(folder, RUN),
        {"version": VERSION, "id": digest[:16], "code": __version__, "weights_sha256": digest} | about,
    )


def about_run(path: str) -> dict[str, Any]:
    """The description of a finished run."""
    manifest = files.join(path, RUN)
    if not files.exists(manifest):
        raise FileNotFoundError(
            f"{path}: no {RUN} in it, so no finished run; run jobs/train.py with run={path} to the end"
        )
    about: dict[str, Any] = files.read_json(manifest)
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path}: the run is of version {about.get('version')}, this code reads {VERSION}; train it anew"
        )
    return about


def task_of(about: dict[str, Any]) -> Task:
    """What a run was trained for."""
    told = about["task"]
    return Task(told["kind"], tuple(told["labels"]), told["classes"], told["sigma"])


def open_run(path: str, device: torch.device | None = None) -> Run:
    """A finished run, ready to be asked; every weight is checked to be there, to fit, and to be the one that was saved."""
    about, where = about_run(path), device or torch.device("cpu")
    raw = files.join(path, MODEL)
    if hashlib.sha256(files.read(raw)).hexdigest() != about["weights_sha256"]:
        raise ValueError(
            f"{raw}: is not the file that the run wrote (its checksum differs); put a copy back, or train the run anew"
        )
    net = network(about)
    tensors, _ = checkpoint.read_tensors(raw)
    checkpoint.load_strictly(net, tensors, raw)
    return Run(path, about, net.to(where).eval(), Scaling.of(about["scaling"]), where)


def history(path: str) -> list[dict[str, float]]:
    """The rows of numbers that a run wrote, an epoch each."""
    rows: list[dict[str, float]] = files.read_table(files.join(path, HISTORY)).to_pylist()
    return rows
