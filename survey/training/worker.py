"""What one worker does: from the folder of a planned run to the trained model in it.

`learn` needs the settings and what `survey.training.train.plan` has written. It runs in this process, or in
each of several workers.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from survey import files, machine
from survey.labelling import samples
from survey.labelling.samples import Samples
from survey.labels import CLASSES
from survey.machine import ThreadChooser
from survey.models.baseline import Baseline
from survey.models.network import Network
from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import checkpoint, run
from survey.training.batches import Batches, Places, Read, Reader, Spectra, concatenate, windows
from survey.training.distributed import Ranks
from survey.training.epochs import Epochs, State
from survey.training.fit import Fit, Part, unused_settings
from survey.training.initialise import rescale_layers
from survey.training.loop import Loop
from survey.training.losses import Targets, TaskLoss, class_weights
from survey.training.run import Plan, RunResult
from survey.training.settings import Train
from survey.training.sources import compared_sources, draw_weights, loss_weights, other_classes
from survey.training.synthesis import (
    SPECTRAL_MODEL,
    SpectralModel,
    Synthesizer,
    label_columns,
    select_rows,
    usable_synthesis,
)
from survey.training.synthesis_settings import input_labels
from survey.training.tracking import Reporter, Tracker, Watch
from survey.training.validation import Validation, portions

FIRST_SPECTRA = 4096
"""Training spectra that a model may take statistics from before the first step."""
RESCALE_SPECTRA = 256
"""Those of them by which layers are scaled."""

NewProgress = Callable[[str, int, str], AbstractContextManager[Any]]
"""Makes a progress bar from title, total and unit."""


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
        label_NL = torch.from_numpy(self.plan.scaling.scale(part.label_NL)).float()
        error_NL = torch.from_numpy(self.plan.scaling.scale_errors(part.error_NL)).float()
        class_N = torch.from_numpy(part.class_N.astype(np.int64))
        weight_N = torch.from_numpy(loss_weights(part, self.settings.sources)).float()
        other_N = torch.from_numpy(other_classes(part, self.settings.sources))
        source_N = torch.from_numpy(compared_sources(part, self.settings.align))
        return Targets(class_N, label_NL, error_NL, weight_N, other_N, source_N)

    def first_spectra(self) -> Spectra:
        """Some training spectra from few shards; the same ones, however the spectra are read."""
        place_N2 = self.train.shard_row_N2
        order = next(windows(place_N2[:, 0], None, self.settings.seed, 2**31, FIRST_SPECTRA))
        return concatenate(list(self.read([place_N2[order[:FIRST_SPECTRA]]])))

    def max_bytes(self) -> float:
        """The memory that spectra or features may take."""
        if self.settings.resident_gb:
            return self.settings.resident_gb * 1e9
        return float(0.5 * psutil.virtual_memory().available / self.settings.workers)


def learn(
    settings: Train,
    ranks: Ranks | None = None,
    device: torch.device | None = None,
    reader: Callable[[str, bool], Read] = Reader,
    progress: NewProgress = Progress,
    watch: Watch | None = None,
    cpus: int | None = None,
) -> State:
    """Train as planned in the folder of the run.

    The leader of several workers writes the checkpoints and the run. `reader` reads what is not resident,
    `watch` gets the numbers of each epoch, and `cpus` is this worker's share of the CPUs.
    """
    ranks = ranks or Ranks()
    device = device or (machine.device() if settings.gpu == "auto" else torch.device("cpu"))
    threads = machine.settle(settings.threads, cpus)
    machine.make_deterministic(settings.precision == "float32")
    inputs = prepare(settings)
    epochs = Epochs(settings, inputs.folder, ranks.is_leader)
    if isinstance(inputs.net, Baseline):
        _fit_baseline(inputs, inputs.net, epochs, ranks, progress, watch)
        return epochs.state
    if device.type != "cpu":
        threads = ThreadChooser([torch.get_num_threads()])
    resident = _load_resident(inputs, device)
    batches = _batches(inputs, ranks, reader, resident[0] if resident else None)
    _initialise(inputs, epochs, device)
    synthesizer = _synthesizer(inputs, ranks, device)
    targets, net = inputs.targets(inputs.train), inputs.net
    loop = Loop(settings, net, inputs.loss, batches, targets, epochs, ranks, device, synthesizer, threads)
    validation = _validation(inputs, resident[1] if resident else None, ranks, device)
    count = batches.batch * sum(map(batches.steps, range(epochs.state.epoch, settings.epochs)))
    bar = progress("train", count, "spectra") if ranks.is_leader else nullcontext()
    with _tracker(inputs, ranks, epochs) as tracker, bar as shown:
        loop.run(validation, Reporter(shown, tracker, settings.monitor, watch))
        if ranks.is_leader:
            _finish(inputs, epochs, loop.lr, device)
    ranks.wait()
    return epochs.state


def _fit_baseline(
    inputs: Inputs, net: Baseline, epochs: Epochs, ranks: Ranks, progress: NewProgress, watch: Watch | None
) -> None:
    """The training of a baseline: on the CPU, every worker with its share of the training spectra."""
    settings, cpu = inputs.settings, torch.device("cpu")
    targets = inputs.targets(inputs.train)
    weight_N = _sample_weights(inputs)
    if weight_N is not None:
        targets = replace(targets, weight_B=torch.from_numpy(weight_N).float())
    validation = _validation(inputs, None, Ranks(), cpu)
    fit = Fit(settings, net, inputs.loss, validation, epochs, ranks)
    train_part = Part(inputs.train.shard_row_N2, targets, inputs.read)
    validation_part = Part(inputs.validation.shard_row_N2, validation.targets, inputs.read)
    count = len(inputs.train) // ranks.size + len(inputs.validation)
    bar = progress("train", count, "spectra") if ranks.is_leader else nullcontext()
    with _tracker(inputs, ranks, epochs) as tracker, bar as shown:
        reporter = Reporter(shown, tracker, settings.monitor, watch)
        fit.run(inputs.first_spectra, train_part, validation_part, inputs.max_bytes(), reporter)
        if ranks.is_leader:
            _finish(inputs, epochs, fit.lr, cpu, unused_settings(settings))


def _initialise(inputs: Inputs, epochs: Epochs, device: torch.device) -> None:
    """Move the network to its device; scale its layers if the training starts now, from the beginning."""
    net, settings = inputs.net.to(device), inputs.settings
    if not files.exists(epochs.last) and not settings.start_from and settings.initialise == "rescaled":
        rescale_layers(net, inputs.first_spectra().to(device), RESCALE_SPECTRA)


def _tracker(inputs: Inputs, ranks: Ranks, epochs: Epochs) -> Tracker:
    settings, tags = inputs.settings, {"survey.store": inputs.plan.store.id}
    values = settings.result_settings()
    return Tracker(
        settings.tracking, settings.run, values, ranks.is_leader, tags, lambda: epochs.state.history
    )


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
    reader = Reader(store.path, "continuum" in net.extra_inputs)
    return Inputs(settings, plan, train, validation, net, loss, reader)


def _validation(inputs: Inputs, resident: Spectra | None, ranks: Ranks, device: torch.device) -> Validation:
    part, precision = inputs.validation, inputs.settings.precision
    if isinstance(inputs.net, Baseline):
        precision = "float32"
    targets, scaling = inputs.targets(part), inputs.plan.scaling
    return Validation(part, targets, inputs.loss, scaling, inputs.read, resident, ranks, device, precision)


def _load_resident(inputs: Inputs, device: torch.device) -> tuple[Spectra, Spectra] | None:
    """Training and validation spectra, if they are to be loaded once and fit; on
    the GPU if they fit there.
    """
    settings, points = inputs.settings, inputs.net.pixels
    arrays = 3 if "continuum" in inputs.net.extra_inputs else 2
    size = (len(inputs.train) + len(inputs.validation)) * points * 4 * arrays
    if settings.data == "streaming" or (settings.data == "auto" and size > inputs.max_bytes()):
        return None
    train = _load(inputs, inputs.train.shard_row_N2, arrays)
    validation = _load(inputs, inputs.validation.shard_row_N2, arrays)
    if device.type == "cuda" and size < 0.5 * torch.cuda.mem_get_info(device)[0]:
        return train.to(device), validation.to(device)
    return train, validation


def _load(inputs: Inputs, shard_row_N2: Places, arrays: int) -> Spectra:
    """Read spectra into arrays of their final size; joining portions at the end
    would take twice the memory.
    """
    loaded, first = [torch.empty(len(shard_row_N2), inputs.net.pixels) for _ in range(arrays)], 0
    for portion in inputs.read(portions(shard_row_N2)):
        for target, source in zip(loaded, (portion.flux, portion.ivar, portion.continuum), strict=False):
            if source is not None:
                target[first : first + len(portion)] = source
        first += len(portion)
    return Spectra(loaded[0], loaded[1], loaded[2] if arrays == 3 else None)


def _batches(
    inputs: Inputs, ranks: Ranks, reader: Callable[[str, bool], Read], resident: Spectra | None
) -> Batches:
    settings, train, weight_N = inputs.settings, inputs.train, _sample_weights(inputs)
    # The number of spectra that every epoch has at least.
    count = len(train) if weight_N is None else int(weight_N.sum() * 0.9)
    batch = min(settings.batch, count - count % ranks.size)
    if not batch:
        raise SettingsError(
            f"train: {len(train)} training spectra are too few for workers={ranks.size}; "
            "give fewer workers or more labels"
        )
    return Batches(
        train.shard_row_N2,
        batch,
        settings.seed,
        settings.window,
        reader(inputs.read.path, "continuum" in inputs.net.extra_inputs),
        resident,
        weight_N,
        ranks.rank,
        ranks.size,
        settings.curriculum,
    )


def _sample_weights(inputs: Inputs) -> NDArray[np.float64] | None:
    """How often each training spectrum comes in an epoch; None = once."""
    settings, train = inputs.settings, inputs.train
    source_weight_N = draw_weights(train, settings.sources)
    if settings.balance == "none":
        return source_weight_N
    counts = [max(int((train.class_N == number).sum()), 1) for number in range(len(CLASSES))]
    weight_C = class_weights(settings.balance, len(CLASSES), counts)
    weight_N = np.where(train.class_N >= 0, np.asarray(weight_C, np.float64)[train.class_N], 1.0)
    return weight_N if source_weight_N is None else weight_N * source_weight_N


def _synthesizer(inputs: Inputs, ranks: Ranks, device: torch.device) -> Synthesizer | None:
    """The synthesis of training stars, if it is used.

    The leader fits its spectral model once, and keeps it with the checkpoints.
    """
    settings, _ = usable_synthesis(inputs.settings.synthesis, inputs.plan.task, inputs.train)
    path = files.join(inputs.folder, SPECTRAL_MODEL)
    if not settings.is_used:
        return None
    labels = input_labels(inputs.train.labels)
    if ranks.is_leader and not files.exists(path):
        chosen = inputs.train.at(select_rows(settings, inputs.train, labels))
        spectra = ((part.flux, part.ivar) for part in inputs.read(portions(chosen.shard_row_N2)))
        model = SpectralModel.fit(label_columns(chosen, labels), spectra, settings.order)
        document = {"labels": labels, "order": settings.order, "spectra": len(chosen)}
        checkpoint.write_tensors(path, model.tensors(), document)
    ranks.wait()
    tensors, _ = checkpoint.read_tensors(path)
    model = SpectralModel.from_tensors(tensors, settings.order).to(device)
    criterion, scaling = inputs.settings.join.criterion, inputs.plan.scaling
    return Synthesizer(settings, inputs.plan.task, inputs.train, scaling, criterion, model)


def _finish(
    inputs: Inputs, epochs: Epochs, lr: float, device: torch.device, unused: list[str] | None = None
) -> None:
    """Write the run: the weights of the best epoch, the numbers of all epochs, and the document."""
    settings, state = inputs.settings, epochs.state
    weights, document = checkpoint.read_tensors(epochs.best)
    best = next(row for row in state.history if int(row["epoch"]) == document["epoch"])
    metrics = {
        name.removeprefix("validation_"): value
        for name, value in best.items()
        if name.startswith("validation_") and math.isfinite(value)
    }
    result = RunResult(
        settings=settings.plain(),
        fingerprint=settings.fingerprint(),
        parameters=inputs.net.size(),
        learning_rate=lr,
        best_epoch=document["epoch"],
        epochs=state.epoch,
        skipped_steps=state.skipped,
        monitor=settings.monitor,
        validation=metrics,
        training_seconds=round(sum(row["seconds"] for row in state.history), 2),
        device=str(device),
        workers=settings.workers,
        unused=tuple(unused or ()),
    )
    run.finish(settings.run, weights, state.history, inputs.plan, result)
