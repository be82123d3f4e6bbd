"""What one worker does: from the folder of a planned run to the trained model in it.

`learn` needs the settings and what `survey.training.train.plan` has written. It runs in this process, or in
each of several workers.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from survey import files, machine
from survey.labelling.samples import Samples
from survey.machine import ThreadChooser
from survey.models.baseline import Baseline
from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import checkpoint, run
from survey.training.alignment import PAIRS
from survey.training.batches import Batches, ExtraInputs, Places, Read, Reader, Spectra, empty_arrays
from survey.training.distributed import Ranks
from survey.training.epochs import Epochs, State
from survey.training.fit import Fit, Part, unused_settings
from survey.training.initialise import rescale_layers
from survey.training.loop import Loop
from survey.training.losses import class_weights
from survey.training.run import RunResult
from survey.training.settings import Train
from survey.training.sources import SOURCE, draw_weights, learned_labels, pair_numbers
from survey.training.synthesis import (
    SPECTRAL_MODEL,
    SpectralModel,
    Synthesizer,
    select_rows,
    usable_synthesis,
)
from survey.training.synthesis_settings import input_labels
from survey.training.tracking import Reporter, Tracker, Watch
from survey.training.validation import Validation, portions
from survey.training.worker_inputs import Inputs, prepare

RESCALE_SPECTRA = 256
"""First training spectra by which layers are scaled."""

NewProgress = Callable[[str, int, str], AbstractContextManager[Any]]
"""Makes a progress bar from title, total and unit."""


def learn(
    settings: Train,
    ranks: Ranks | None = None,
    device: torch.device | None = None,
    reader: Callable[[str, ExtraInputs], Read] = Reader,
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
    effects = inputs.effects(ranks)
    loop = Loop(
        settings, net, inputs.loss, batches, targets, epochs, ranks, device, synthesizer, threads, effects
    )
    # A loss that compares the rows of a batch compares as many as in a step.
    piece = -(-(batches.batch // ranks.size) // settings.accumulate) if net.terms else 0
    validation = _validation(inputs, resident[1] if resident else None, ranks, device, piece)
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
        targets = replace(targets, weight_B=targets.weight_B * torch.from_numpy(weight_N).float())
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
    if epochs.can_resume or settings.start_from:
        return
    net.take_weights()
    if settings.initialise == "rescaled":
        rescale_layers(net, inputs.first_spectra().to(device), RESCALE_SPECTRA)


def _tracker(inputs: Inputs, ranks: Ranks, epochs: Epochs) -> Tracker:
    settings, tags = inputs.settings, {"survey.store": inputs.plan.store.id}
    values = settings.result_settings()
    return Tracker(
        settings.tracking, settings.run, values, ranks.is_leader, tags, lambda: epochs.state.history
    )


def _validation(
    inputs: Inputs, resident: Spectra | None, ranks: Ranks, device: torch.device, piece: int = 0
) -> Validation:
    part, precision = inputs.validation, inputs.settings.precision
    learned_NL = learned_labels(part, inputs.settings.label_ranges)
    if isinstance(inputs.net, Baseline):
        precision = "float32"
    targets, scaling = inputs.targets(part), inputs.plan.scaling
    part = replace(part, label_NL=learned_NL)
    return Validation(
        part,
        targets,
        inputs.loss,
        scaling,
        inputs.read,
        resident,
        ranks,
        device,
        precision,
        inputs.plan.classes,
        inputs.net.terms,
        piece,
    )


def _load_resident(inputs: Inputs, device: torch.device) -> tuple[Spectra, Spectra] | None:
    """Training and validation spectra, if they are to be loaded once and fit; on
    the GPU if they fit there.
    """
    settings, extra = inputs.settings, inputs.net.extra_inputs
    store = open_store(inputs.read.path)
    one = empty_arrays(store, 1, extra).values()
    size = (len(inputs.train) + len(inputs.validation)) * sum(array.nbytes for array in one)
    if settings.data == "streaming" or (settings.data == "auto" and size > inputs.max_bytes()):
        return None
    train, validation = (
        _load(inputs, empty_arrays(store, len(part), extra), part.shard_row_N2)
        for part in (inputs.train, inputs.validation)
    )
    if device.type == "cuda" and size < 0.5 * torch.cuda.mem_get_info(device)[0]:
        return train.to(device), validation.to(device)
    return train, validation


def _load(inputs: Inputs, room: dict[str, NDArray[Any]], shard_row_N2: Places) -> Spectra:
    """Read spectra into arrays of their final size; joining portions at the end
    would take twice the memory.
    """
    loaded, first = Spectra(**{name: torch.from_numpy(array) for name, array in room.items()}), 0
    for portion in inputs.read(portions(shard_row_N2)):
        for target, source in zip(loaded.arrays(), portion.arrays(), strict=True):
            if target is not None and source is not None:
                target[first : first + len(portion)] = source
        first += len(portion)
    return loaded


def _batches(
    inputs: Inputs, ranks: Ranks, reader: Callable[[str, ExtraInputs], Read], resident: Spectra | None
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
        reader(inputs.read.path, inputs.net.extra_inputs),
        resident,
        weight_N,
        ranks.rank,
        ranks.size,
        settings.curriculum,
        pair_numbers(train) if settings.align.method == PAIRS else None,
        _source_numbers(train),
    )


def _source_numbers(train: Samples) -> Places | None:
    """The number of the source of each training spectrum; None if there is one source."""
    if SOURCE not in train.extra.column_names:
        return None
    names = train.extra[SOURCE].combine_chunks().dictionary_encode()
    return np.asarray(names.indices.to_numpy(), np.int64)


def _sample_weights(inputs: Inputs) -> NDArray[np.float64] | None:
    """How often each training spectrum comes in an epoch; None = once."""
    settings, train = inputs.settings, inputs.train
    if settings.balance == "none":
        return draw_weights(train, settings.sources)
    classes = inputs.plan.task.classes
    counts = [max(int((train.class_N == number).sum()), 1) for number in range(classes)]
    weight_C = class_weights(settings.balance, classes, counts)
    weight_N = np.where(train.class_N >= 0, np.asarray(weight_C, np.float64)[train.class_N], 1.0)
    return draw_weights(train, settings.sources, weight_N)


def _synthesizer(inputs: Inputs, ranks: Ranks, device: torch.device) -> Synthesizer | None:
    """The synthesis of training stars, if it is used.

    The leader fits its spectral model once, and keeps it with the checkpoints.
    """
    settings, _ = usable_synthesis(inputs.settings.synthesis, inputs.plan.task, inputs.train)
    if not settings.is_used:
        return None
    labels, path = input_labels(inputs.train.labels), files.join(inputs.folder, SPECTRAL_MODEL)
    if ranks.is_leader and not files.exists(path):
        chosen = inputs.train.at(select_rows(settings, inputs.train, labels))
        model = SpectralModel.of_samples(chosen, labels, settings.order, inputs.read_samples)
        document = {"labels": labels, "order": settings.order, "spectra": len(chosen)}
        checkpoint.write_tensors(path, model.tensors(), document)
    ranks.wait()
    tensors, _ = checkpoint.read_tensors(path)
    model = SpectralModel.from_tensors(tensors, settings.order).to(device)
    criterion, scaling = inputs.settings.join.criterion, inputs.plan.scaling
    ranges = inputs.settings.label_ranges
    return Synthesizer(settings, inputs.plan.task, inputs.train, scaling, criterion, model, ranges)


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
