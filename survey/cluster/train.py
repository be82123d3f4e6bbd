"""Ray Train around the training: `learn` runs in workers that share each batch.

Ray starts the workers, connects them (by gloo or nccl, or by the library that grows trees) and replaces
those that are lost. They then continue after the last epoch in the folder of the run, which all workers
must be able to read. Progress travels back through a queue.
"""

import importlib
import math
import os
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
from survey.cluster import connection, stream
from survey.progress import Progress
from survey.scratch import scratch_folder
from survey.settings import JobError, SettingsError
from survey.store.store import open_store
from survey.training.batches import ExtraInputs, Places, Spectra, read_spectra
from survey.training.distributed import Ranks
from survey.training.settings import Train
from survey.training.worker import learn

STOPPED = "stopped.json"
"""The file of a run with the error that ended it, if another try would end in the same way."""
TIMEOUT_S = 600
"""A worker that others have waited for so long is lost."""
MESSAGE_S = 0.5
"""Seconds between two messages of progress; one takes as long as a step of a small network."""


def fit_on_ray(settings: Train) -> None:
    """Train in several workers; the run has been planned."""
    connection.connect()
    scaling = _scaling_config(settings)
    files.remove(files.join(settings.run, STOPPED))
    queue = Queue(actor_options={"num_cpus": 0})
    with scratch_folder("train") as folder:
        failures = FailureConfig(max_failures=settings.failures)
        trainer = _trainer(settings)(
            _work,
            train_loop_config={"settings": settings, "queue": queue, "home": str(Path.cwd())},
            scaling_config=scaling,
            run_config=RunConfig(storage_path=folder, failure_config=failures),
        )
        listener = threading.Thread(target=_show_progress, args=(queue,), daemon=True)
        listener.start()
        try:
            trainer.fit()
        except TrainingFailedError as error:
            _raise_if_stopped(settings.run)
            raise JobError(
                f"train: {settings.run}: the workers failed: {error}; "
                "run the same command again to continue after the last epoch"
            ) from error
        finally:
            queue.put(None)
            listener.join(timeout=10)
            queue.shutdown()
    _raise_if_stopped(settings.run)


def _scaling_config(settings: Train) -> ScalingConfig:
    """The workers and what each of them reserves."""
    cpus = connection.await_cpus(math.ceil(settings.workers / 2)) or 1
    gpus = ray.cluster_resources().get("GPU", 0)
    if settings.workers > 2 * cpus:
        raise SettingsError(
            f"train: workers={settings.workers}: Ray has {cpus:g} CPUs, enough for {int(2 * cpus)} workers; "
            "give fewer"
        )
    use_gpu = settings.gpu == "auto" and not _library(settings) and gpus >= settings.workers
    # Where CPUs are few, two workers share one; other jobs find room beside them.
    cpus_per_worker = 1.0 if cpus > settings.workers else 0.5
    return ScalingConfig(
        num_workers=settings.workers,
        use_gpu=use_gpu,
        resources_per_worker={"CPU": cpus_per_worker},
        # Two workers shall not share a CPU while another machine's is free.
        placement_strategy="PACK" if cpus > settings.workers else "SPREAD",
    )


def _library(settings: Train) -> str:
    """The library by which workers fit the model together; empty for networks."""
    return str(getattr(plugins.load("models", settings.model).Net, "distributed_library", ""))


def _trainer(settings: Train) -> Callable[..., Any]:
    """The trainer of Ray that connects the workers."""
    if _library(settings) == "xgboost":
        return importlib.import_module("ray.train.xgboost").XGBoostTrainer  # type: ignore[no-any-return]
    if _library(settings) == "lightgbm":
        return importlib.import_module("ray.train.lightgbm").LightGBMTrainer  # type: ignore[no-any-return]
    return partial(TorchTrainer, torch_config=TorchConfig(timeout_s=TIMEOUT_S))


def _raise_if_stopped(run: str) -> None:
    stopped = files.join(run, STOPPED)
    if files.exists(stopped):
        raise JobError(files.read_json(stopped)["message"])


def _work(config: dict[str, Any]) -> None:
    """One worker. It writes down an error that another try would repeat, so that
    the next try does nothing.
    """
    settings: Train = config["settings"]
    if Path(config["home"]).is_dir():
        # Ray Train has changed the working directory, where relative paths are wrong.
        os.chdir(config["home"])
    stopped = files.join(settings.run, STOPPED)
    if files.exists(stopped):
        return
    context, library = ray.train.get_context(), _library(settings)
    network = ()
    if library == "lightgbm":
        network = tuple(importlib.import_module("ray.train.lightgbm").get_network_params().items())
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), network)
    device = get_device() if settings.gpu == "auto" and not library else torch.device("cpu")
    cpus = max(machine.cpus() // context.get_local_world_size(), 1)
    try:
        learn(settings, ranks, device, RayReader, RemoteProgress.maker(config["queue"]), cpus=cpus)
    except (JobError, ValueError) as error:
        files.write_json(stopped, {"message": str(error)})
        raise


@dataclass(frozen=True)
class RayReader:
    """Reads lists of spectra by tasks of Ray Data, anywhere on the cluster, ahead
    of the training, in order.
    """

    path: str
    extra: ExtraInputs = ()

    def __call__(self, lists: Iterable[Places]) -> Iterator[Spectra]:
        waiting = list(lists)
        if not waiting:
            return
        stream.prepare_context(ordered=True)
        path = self.path if files.is_remote(self.path) else str(Path(self.path).absolute())
        shared, extra = ray.put(waiting), self.extra

        def read(batch: dict[str, Any]) -> dict[str, Any]:
            store, shared_lists = open_store(path), ray.get(shared)
            parts = [read_spectra(store, shared_lists[number], extra) for number in batch["id"].tolist()]
            names = ("flux", "ivar", *extra)
            return {name: np.concatenate([getattr(part, name).numpy() for part in parts]) for name in names}

        # Blocks that are there already: those of ray.data.range would be made by tasks that want a CPU each.
        numbers = [{"id": number} for number in range(len(waiting))]
        blocks = ray.data.from_items(numbers, override_num_blocks=len(waiting))
        # Without a CPU of Ray: the workers may have reserved all, and wait for the reading.
        spectra = blocks.map_batches(read, batch_size=None, num_cpus=0)
        for block in spectra.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            tensors = {name: torch.tensor(np.asarray(values)) for name, values in block.items()}
            yield Spectra(**tensors)


class RemoteProgress:
    """The leader's side of a progress bar that is shown where the job was started."""

    def __init__(self, queue: Queue, title: str, total: int | None, unit: str) -> None:
        self.queue, self.bar = queue, (title, total, unit)
        self.count, self.note, self.last_message = 0, "", 0.0

    @classmethod
    def maker(cls, queue: Queue) -> Any:
        """A function that makes progress bars whose messages go into this queue."""
        return lambda title, total, unit: cls(queue, title, total, unit)

    def __enter__(self) -> Self:
        self.queue.put(self.bar)
        return self

    def add(self, count: int, note: str = "") -> None:
        """Count more finished work."""
        self.count, self.note = self.count + count, note
        if time.monotonic() - self.last_message > MESSAGE_S:
            self._send()

    def _send(self) -> None:
        self.queue.put((self.count, self.note))
        self.count, self.last_message = 0, time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._send()
        self.queue.put(())


def _show_progress(queue: Queue) -> None:
    """Show the progress bars of the leader, also of one that replaces it, until None comes."""
    bar: Progress | None = None
    while (message := queue.get()) is not None:
        if len(message) != 2 and bar:
            bar.__exit__(None, None, None)
            bar = None
        if len(message) == 3:
            bar = Progress(*message).__enter__()
        elif len(message) == 2 and bar:
            bar.add(*message)
