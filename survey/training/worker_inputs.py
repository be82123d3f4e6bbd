"""All that a worker needs for its training, read from the folder of a planned run."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from survey import files
from survey.labelling import samples
from survey.labelling.samples import Samples
from survey.models.network import Network
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import checkpoint, run
from survey.training.batches import Reader, Spectra, concatenate, windows
from survey.training.distributed import Ranks
from survey.training.losses import Targets, TaskLoss
from survey.training.real_effects import RealEffects
from survey.training.run import Plan
from survey.training.settings import Train
from survey.training.sources import (
    compared_sources,
    learned_labels,
    loss_weights,
    other_classes,
    pair_numbers,
)
from survey.training.validation import portions

FIRST_SPECTRA = 4096
"""Training spectra that a model may take statistics from before the first step."""


@dataclass(frozen=True)
class Inputs:
    """All that a worker needs, from the folder of the run."""

    settings: Train
    plan: Plan
    train: Samples
    validation: Samples
    net: Network
    loss: TaskLoss
    read: Reader

    @property
    def folder(self) -> str:
        """The folder of the checkpoints."""
        return files.join(self.settings.run, run.CHECKPOINTS)

    def targets(self, part: Samples) -> Targets:
        """Classes and scaled labels of some samples, for the loss."""
        learned_NL = learned_labels(part, self.settings.label_ranges)
        label_NL = torch.from_numpy(self.plan.scaling.scale(learned_NL)).float()
        error_NL = torch.from_numpy(self.plan.scaling.scale_errors(part.error_NL)).float()
        class_N = torch.from_numpy(part.class_N.astype(np.int64))
        weight_N = torch.from_numpy(loss_weights(part, self.settings.sources)).float()
        other_N = torch.from_numpy(other_classes(part, self.settings.sources, self.plan.classes))
        source_N = torch.from_numpy(compared_sources(part, self.settings.align))
        pair_N = torch.from_numpy(pair_numbers(part))
        return Targets(class_N, label_NL, error_NL, weight_N, other_N, source_N, pair_N)

    def first_spectra(self) -> Spectra:
        """Some training spectra from few shards; the same ones, however the spectra are read."""
        place_N2 = self.train.shard_row_N2
        order = next(windows(place_N2[:, 0], None, self.settings.seed, 2**31, FIRST_SPECTRA))
        return concatenate(list(self.read([place_N2[order[:FIRST_SPECTRA]]])))

    def read_samples(self, chosen: Samples) -> Iterator[Spectra]:
        """The spectra of some samples, in portions."""
        return self.read(portions(chosen.shard_row_N2))

    def effects(self, ranks: Ranks) -> RealEffects:
        """What training spectra get of the real sky."""
        wave_P = self.plan.grid.wave
        return RealEffects.make(self.settings, self.train, wave_P, self.folder, self.read_samples, ranks)

    def max_bytes(self) -> float:
        """The memory that spectra or features may take."""
        if self.settings.resident_gb:
            return self.settings.resident_gb * 1e9
        return float(0.5 * psutil.virtual_memory().available / self.settings.workers)


def prepare(settings: Train) -> Inputs:
    """Read the folder of a planned run, and build its network."""
    plan = run.read_plan(settings.run)
    store = open_store(
        files.join(settings.run, run.JOINED) if settings.has_several_sources else settings.store
    )
    if store.id != plan.store.id:
        raise SettingsError(
            f"train: store: {settings.store}: has changed since the run was begun "
            f"(it was {plan.store.id}, now it is {store.id}); give a new run="
        )
    labelled = samples.read(settings.run)
    train, validation = labelled.part("train"), labelled.part("validation")
    torch.manual_seed(settings.seed)
    net = run.network(plan)
    if settings.start_from:
        tensors, _ = checkpoint.read_tensors(files.join(settings.start_from, run.MODEL))
        checkpoint.load_weights(net, tensors, settings.start_from)
        run.freeze(net, settings.freeze)
    counts = [int((train.class_N == number).sum()) for number in range(plan.task.classes)]
    loss = TaskLoss(settings.loss, plan.task, counts)
    reader = Reader(store.path, net.extra_inputs)
    return Inputs(settings, plan, train, validation, net, loss, reader)
