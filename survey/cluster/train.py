"""Ray Train around the training loop: the same `learn` in this process, or in workers that share each batch.

Ray starts the workers, joins them (by gloo or nccl; those that grow trees by their library) and replaces those that are lost; the crew then goes on
after the last epoch in the run's folder, which all workers must reach. What the leader says travels back through a queue.
"""

import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Queue

from survey import files, machine, plugins
from survey.cluster import stream
from survey.models.baseline import Fitted
from survey.progress import Progress
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training.batches import Places, Spectra, read_places
from survey.training.distributed import Crew
from survey.training.train import Train, begin
from survey.training.worker import learn

STOPPED = "stopped.json"
SILENCE_S = 600
"""A worker that others have waited for so long is lost."""


def fit(settings: Train) -> bool:
    """Train, alone or as a crew of Ray workers; whether there was something to do."""
    if not begin(settings):
        return False
    if settings.workers == 1 or _is_done_by_one(settings):
        learn(settings)
    else:
        _crewed(settings)
    return True


def _is_done_by_one(settings: Train) -> bool:
    """Whether the model is of those that take seconds to fit, which no workers share."""
    kind = plugins.load("models", settings.model).Net
    return issubclass(kind, Fitted) and not kind.shared


def _crewed(settings: Train) -> None:
    stream.connect()
    cpus = ray.cluster_resources().get("CPU", 1)
    if settings.workers > 2 * cpus:
        raise SettingsError(
            f"train: workers={settings.workers}: Ray has {cpus:g} CPUs, enough for {int(2 * cpus)} workers; give fewer"
        )
    gpu = (
        settings.gpu == "auto"
        and not _library(settings)
        and ray.cluster_resources().get("GPU", 0) >= settings.workers
    )
    share = {
        "CPU": 1.0 if cpus > settings.workers else 0.5
    }  # Ray Data needs a CPU for itself, or all wait for ever
    files.remove(files.join(settings.run, STOPPED))
    queue = Queue(actor_options={"num_cpus": 0})
    with tempfile.TemporaryDirectory(prefix="survey-train-") as folder:
        trainer = _trainer(settings)(
            _work,
            train_loop_config={"settings": settings, "queue": queue, "home": str(Path.cwd())},
            scaling_config=ScalingConfig(
                num_workers=settings.workers, use_gpu=gpu, resources_per_worker=share
            ),
            run_config=RunConfig(
                storage_path=folder, failure_config=FailureConfig(max_failures=settings.failures)
            ),
        )
        listener = threading.Thread(target=_listen, args=(queue,), daemon=True)
        listener.start()
        try:
            trainer.fit()
        except TrainingFailedError as error:
            _raise_if_stopped(settings.run)
            raise JobError(
                f"train: {settings.run}: the workers failed: {error}; the same command goes on after the last epoch"
            ) from error
        finally:
            queue.put(None)
            listener.join(timeout=10)
            queue.shutdown()
    _raise_if_stopped(settings.run)


def _library(settings: Train) -> str:
    """The library whose own workers fit the model; empty for networks, which torch's do."""
    return str(getattr(plugins.load("models", settings.model).Net, "shared", ""))


def _trainer(settings: Train) -> Callable[..., Any]:
    """Ray's trainer of whatever makes workers a crew: they find each other before the work begins."""
    if _library(settings) == "xgboost":
        return importlib.import_module("ray.train.xgboost").XGBoostTrainer  # type: ignore[no-any-return]
    if _library(settings) == "lightgbm":
        return importlib.import_module("ray.train.lightgbm").LightGBMTrainer  # type: ignore[no-any-return]
    return partial(TorchTrainer, torch_config=TorchConfig(timeout_s=SILENCE_S))


def _raise_if_stopped(run: str) -> None:
    stopped = files.join(run, STOPPED)
    if files.exists(stopped):
        raise JobError(files.read_json(stopped)["message"])


def _work(config: dict[str, Any]) -> None:
    """One worker. An error that another try would not mend is written down by whoever meets it, so that the next try does nothing."""
    settings: Train = config["settings"]
    if Path(config["home"]).is_dir():
        os.chdir(
            config["home"]
        )  # Ray Train has moved us into a folder of its own, where no relative path is right
    stopped = files.join(settings.run, STOPPED)
    if files.exists(stopped):
        return
    context = ray.train.get_context()
    lightgbm = _library(settings) == "lightgbm"
    network = importlib.import_module("ray.train.lightgbm").get_network_params() if lightgbm else {}
    crew = Crew(context.get_world_rank(), context.get_world_size(), tuple(network.items()))
    device = get_device() if settings.gpu == "auto" and not _library(settings) else torch.device("cpu")
    threads = settings.threads or max(machine.cpus() // context.get_local_world_size(), 1)
    try:
        learn(
            settings.model_copy(update={"threads": threads}),
            crew,
            device,
            RayReader,
            RemoteBar.on(config["queue"]),
        )
    except (JobError, ValueError) as error:
        files.write_json(stopped, {"message": str(error)})
        raise


@dataclass(frozen=True)
class RayReader:
    """Reads lists of spectra by tasks of Ray Data, anywhere on the cluster, ahead of the training and in order."""

    path: str
    continuum: bool

    def __call__(self, lists: Iterable[Places]) -> Iterator[Spectra]:
        wanted = list(lists)
        if not wanted:
            return
        stream.prepare_context(ordered=True)
        path = self.path if files.is_remote(self.path) else str(Path(self.path).absolute())
        shared, continuum = ray.put(wanted), self.continuum

        def read(batch: dict[str, Any]) -> dict[str, Any]:
            parts = [
                read_places(open_store(path), ray.get(shared)[number], continuum)
                for number in batch["id"].tolist()
            ]
            names = ("flux", "ivar", "continuum")
            arrays = {
                name: [getattr(part, name).numpy() for part in parts]
                for name in names
                if getattr(parts[0], name) is not None
            }
            return {name: np.concatenate(values) for name, values in arrays.items()}

        blocks = ray.data.range(len(wanted), override_num_blocks=len(wanted))
        data = blocks.map_batches(
            read, batch_size=None, num_cpus=0.01
        )  # never to wait for a CPU that waits for us
        for block in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            tensors = {name: torch.tensor(np.asarray(values)) for name, values in block.items()}
            yield Spectra(tensors["flux"], tensors["ivar"], tensors.get("continuum"))


class RemoteBar:
    """The leader's side of a progress bar that is shown where the job was started."""

    def __init__(self, queue: Queue, title: str, total: int | None, unit: str) -> None:
        self.queue, self.begun = queue, (title, total, unit)
        self.count, self.note, self.spoken = 0, "", 0.0

    @classmethod
    def on(cls, queue: Queue) -> Any:
        """Makes bars that speak into this queue."""
        return lambda title, total, unit: cls(queue, title, total, unit)

    def __enter__(self) -> Self:
        self.queue.put(self.begun)
        return self

    def add(self, count: int, note: str = "") -> None:
        """So much more is done; told twice a second, for each telling takes as long as a step of a small network."""
        self.count, self.note = self.count + count, note
        if time.monotonic() - self.spoken > 0.5:
            self._tell()

    def _tell(self) -> None:
        self.queue.put((self.count, self.note))
        self.count, self.spoken = 0, time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._tell()
        self.queue.put(())


def _listen(queue: Queue) -> None:
    """Show what the leader says, crew after crew, until None comes."""
    bar: Progress | None = None
    while (said := queue.get()) is not None:
        if len(said) != 2 and bar:
            bar.__exit__(None, None, None)
            bar = None
        if len(said) == 3:
            bar = Progress(*said).__enter__()
        elif len(said) == 2 and bar:
            bar.add(*said)
