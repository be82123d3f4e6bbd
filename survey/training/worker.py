"""What one worker does: from the run's folder to a trained network in it.

`learn` needs nothing but the settings and what `begin` has written; it runs in this process, or in each worker of a crew.
"""

import json
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
from survey.models.baseline import Fitted
from survey.models.network import Network
from survey.progress import Progress
from survey.settings import SettingsError
from survey.store.store import open_store
from survey.training import checkpoint, run
from survey.training.batches import Feed, Places, Read, Reader, Spectra, together, windows
from survey.training.distributed import Crew
from survey.training.fit import Fitting, Part, unused
from survey.training.initialise import rescaled
from survey.training.loop import Loop, State, Watch
from survey.training.losses import Criterion, Truth, class_weights
from survey.training.scaling import Scaling
from survey.training.spectral_model import Likeness
from survey.training.synthesis import LIKENESS, Variation, columns, sampled, told_by
from survey.training.tracking import Tracker
from survey.training.train import PLAN, Train
from survey.training.validation import Exam, lists

BEHELD = 4096
"""Training spectra that a network may see before the first step."""
STARTED = 256
"""Those of them that layers are scaled by."""


@dataclass(frozen=True)
class Lesson:
    """All that a worker needs, from the run's folder."""

    settings: Train
    plan: dict[str, Any]
    train: Samples
    validation: Samples
    net: Network
    criterion: Criterion
    scaling: Scaling
    read: Read


def learn(
    settings: Train,
    crew: Crew | None = None,
    device: torch.device | None = None,
    reader: Callable[[str, bool], Read] = Reader,
    progress: Callable[[str, int, str], AbstractContextManager[Any]] = Progress,
    watch: Watch | None = None,
) -> State:
    """Train as the run's folder says; the crew's leader writes checkpoints and, at the end, the run. `reader` reads what is not held in memory;
    `watch` gets the numbers of each epoch when its checkpoint is written, and may end the training by an error of its own.
    """
    crew = crew or Crew()
    device = device or (machine.device() if settings.gpu == "auto" else torch.device("cpu"))
    machine.settle(settings.threads or machine.cpus())
    machine.steady(exact=settings.precision == "float32")
    lesson = prepare(settings)
    if isinstance(lesson.net, Fitted):
        return _fitted(lesson, lesson.net, crew, progress, watch)
    held = _held(lesson, device)
    feed = _feed(lesson, crew, reader, held[0] if held else None)
    folder = files.join(settings.run, run.CHECKPOINTS)
    if not files.exists(checkpoint.last(folder)) and not settings.before:
        _started(lesson, device)
    lesson.net.to(device)
    variation = _variation(lesson, crew, folder, device)
    loop = Loop(
        settings,
        lesson.net,
        lesson.criterion,
        feed,
        _truth(lesson.train, lesson.scaling),
        folder,
        crew,
        device,
        variation,
    )
    validation = _truth(lesson.validation, lesson.scaling)
    exam = Exam(
        lesson.validation,
        validation,
        lesson.criterion,
        lesson.scaling,
        lesson.read,
        held[1] if held else None,
        crew,
        device,
        settings.precision,
    )
    with (
        Tracker(settings.tracking, settings.run, settings.lasting(), crew.leads) as tracker,
        _bar(loop, crew, progress) as bar,
    ):
        teller = Teller(bar, tracker, settings.monitor, watch)
        state = loop.run(exam, teller.epoch, teller.step)
        if crew.leads:
            _finish(lesson, loop)
    crew.wait()
    return state


def _fitted(
    lesson: Lesson,
    net: Fitted,
    crew: Crew,
    progress: Callable[[str, int, str], AbstractContextManager[Any]],
    watch: Watch | None,
) -> State:
    """The same where the model is fitted: on the CPU, every worker with its share of the training spectra."""
    settings, cpu = lesson.settings, torch.device("cpu")
    truth, check = (_truth(part, lesson.scaling) for part in (lesson.train, lesson.validation))
    weight_N = _weights(lesson)
    if weight_N is not None:
        truth = replace(truth, weight_B=torch.from_numpy(weight_N).float())
    exam = Exam(
        lesson.validation, check, lesson.criterion, lesson.scaling, lesson.read, None, Crew(), cpu, "float32"
    )
    fitting = Fitting(settings, net, lesson.criterion, exam, files.join(settings.run, run.CHECKPOINTS), crew)
    train, validation = (
        Part(lesson.train.place_N2, truth, lesson.read),
        Part(lesson.validation.place_N2, check, lesson.read),
    )
    room = (
        settings.resident_gb * 1e9
        if settings.resident_gb
        else 0.5 * psutil.virtual_memory().available / settings.workers
    )
    count = len(lesson.train) // crew.size + len(lesson.validation)
    with (
        Tracker(settings.tracking, settings.run, settings.lasting(), crew.leads) as tracker,
        progress("train", count, "spectra") if crew.leads else nullcontext() as bar,
    ):
        teller = Teller(bar, tracker, settings.monitor, watch)
        state = fitting.run(
            lambda: together(list(lesson.read([_seen(lesson)]))),
            train,
            validation,
            room,
            teller.epoch,
            teller.step,
        )
        if crew.leads:
            _finish(lesson, fitting)
    return state


@dataclass
class Teller:
    """Says how a training goes: on the screen and to the tracker."""

    bar: Any
    tracker: Tracker
    monitor: str
    watch: Watch | None = None
    note: str = ""

    def step(self, count: int, where: str) -> None:
        """So many spectra more."""
        if self.bar:
            self.bar.add(count, f"{where}{self.note}")

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is over."""
        names = dict.fromkeys(
            (
                "train_loss",
                "validation_loss",
                f"validation_{self.monitor}",
                "validation_accuracy",
                "validation_f1_CEMP",
            )
        )
        self.note = "".join(
            f", {name.removeprefix('validation_')} {row[name]:.4g}" for name in names if name in row
        )
        self.tracker.epoch(row)
        if self.watch:
            self.watch(row)


def _bar(
    loop: Loop, crew: Crew, progress: Callable[[str, int, str], AbstractContextManager[Any]]
) -> AbstractContextManager[Any]:
    left = sum(map(loop.feed.steps, range(loop.state.epoch, loop.course.epochs))) * loop.feed.batch
    return progress("train", left, "spectra") if crew.leads else nullcontext()


def prepare(settings: Train) -> Lesson:
    """What the run's folder says, as objects."""
    plan = files.read_json(files.join(settings.run, PLAN))
    store = open_store(settings.store)
    if store.about["id"] != plan["store"]["id"]:
        raise SettingsError(
            f"train: store: {settings.store}: has changed since the run was begun ({plan['store']['id']}, now {store.about['id']}); give a new run="
        )
    everything = samples.read(settings.run)
    train, validation = everything.part("train"), everything.part("validation")
    task = run.task_of(plan)
    torch.manual_seed(settings.seed)
    net = run.network(plan)
    if settings.before:
        checkpoint.load_strictly(
            net, checkpoint.read_tensors(files.join(settings.before, run.MODEL))[0], settings.before
        )
        run.freeze(net, settings.freeze)
    counts = [int((train.class_N == number).sum()) for number in range(task.classes)]
    criterion = Criterion(settings.loss, task, counts)
    reading = Reader(store.path, "continuum" in net.inputs)
    return Lesson(settings, plan, train, validation, net, criterion, Scaling.of(plan["scaling"]), reading)


def _truth(part: Samples, scaling: Scaling) -> Truth:
    """What is known of some samples, as the losses want it."""
    label_NL = torch.from_numpy(scaling.scaled(part.label_NL)).float()
    error_NL = torch.from_numpy(scaling.errors_scaled(part.error_NL)).float()
    return Truth(torch.from_numpy(part.class_N.astype(np.int64)), label_NL, error_NL, torch.ones(len(part)))


def _held(lesson: Lesson, device: torch.device) -> tuple[Spectra, Spectra] | None:
    """Training and validation spectra, loaded once, where that is wanted and they fit; on the GPU where they fit there."""
    settings, points = lesson.settings, lesson.net.pixels
    arrays = 3 if "continuum" in lesson.net.inputs else 2
    size = (len(lesson.train) + len(lesson.validation)) * points * 4 * arrays
    room = (
        settings.resident_gb * 1e9
        if settings.resident_gb
        else 0.5 * psutil.virtual_memory().available / settings.workers
    )
    if settings.data == "streaming" or (settings.data == "auto" and size > room):
        return None
    loaded = [_loaded(lesson, part.place_N2, arrays) for part in (lesson.train, lesson.validation)]
    if device.type == "cuda" and size < 0.5 * torch.cuda.mem_get_info(device)[0]:
        loaded = [part.to(device) for part in loaded]
    return loaded[0], loaded[1]


def _loaded(lesson: Lesson, place_N2: Places, arrays: int) -> Spectra:
    """All spectra of these places, read into arrays of their size: parts put together at the end would take the memory twice."""
    whole, at = [torch.empty(len(place_N2), lesson.net.pixels) for _ in range(arrays)], 0
    for part in lesson.read(lists(place_N2)):
        for target, source in zip(whole, (part.flux, part.ivar, part.continuum), strict=False):
            if source is not None:
                target[at : at + len(part)] = source
        at += len(part)
    return Spectra(whole[0], whole[1], whole[2] if arrays == 3 else None)


def _feed(lesson: Lesson, crew: Crew, reader: Callable[[str, bool], Read], held: Spectra | None) -> Feed:
    settings, train, weight_N = lesson.settings, lesson.train, _weights(lesson)
    most = len(train) if weight_N is None else int(weight_N.sum() * 0.9)  # so many come in any epoch
    batch = min(settings.batch, most - most % crew.size)
    if not batch:
        raise SettingsError(
            f"train: {len(train)} spectra to train on are too few for workers={crew.size}; give fewer workers or more labels"
        )
    read = reader(settings.store, "continuum" in lesson.net.inputs)
    return Feed(
        train.place_N2,
        batch,
        settings.seed,
        settings.window,
        read,
        held,
        weight_N,
        crew.rank,
        crew.size,
        settings.growth,
    )


def _weights(lesson: Lesson) -> NDArray[np.float64] | None:
    """How often each training spectrum comes in an epoch, where rare classes are to come more often."""
    settings, train = lesson.settings, lesson.train
    if settings.balance == "none":
        return None
    counts = [max(int((train.class_N == number).sum()), 1) for number in range(len(CLASSES))]
    weight_C = class_weights(settings.balance, len(CLASSES), counts)
    return np.where(train.class_N >= 0, np.asarray(weight_C, np.float64)[train.class_N], 1.0)


def _seen(lesson: Lesson) -> Places:
    """Some training spectra from few shards, the same ones however the spectra are read."""
    order = next(windows(lesson.train.place_N2[:, 0], None, lesson.settings.seed, 2**31, BEHELD))
    return lesson.train.place_N2[order[:BEHELD]]


def _started(lesson: Lesson, device: torch.device) -> None:
    """The network has seen some data and is ready for the first step."""
    if lesson.settings.start == "plain":
        return
    spectra = together(list(lesson.read([_seen(lesson)])))
    rescaled(lesson.net.to(device), spectra.to(device), STARTED)


def _variation(lesson: Lesson, crew: Crew, folder: str, device: torch.device) -> Variation | None:
    """What changes training stars, if that is wanted: learned once, by the leader, and kept with the checkpoints for all who go on."""
    vary, path = lesson.settings.vary, files.join(folder, LIKENESS)
    if not vary.wanted:
        return None
    told = told_by(lesson.train.labels)
    if crew.leads and not files.exists(path):
        some = lesson.train.at(sampled(vary, lesson.train, told))
        likeness = Likeness.fit(
            columns(some, told),
            ((part.flux, part.ivar) for part in lesson.read(lists(some.place_N2))),
            vary.order,
        )
        checkpoint.write_tensors(
            path, likeness.tensors(), {"labels": told, "order": vary.order, "spectra": len(some)}
        )
    crew.wait()
    likeness = Likeness.of(checkpoint.read_tensors(path)[0], vary.order).to(device)
    return Variation(
        vary, lesson.criterion.task, lesson.train, lesson.scaling, lesson.settings.join.criterion, likeness
    )


def _finish(lesson: Lesson, loop: Loop | Fitting) -> None:
    """The best epoch's weights and what the run is, from the folder of checkpoints."""
    weights, about = checkpoint.read_tensors(loop.best)
    best = next(row for row in loop.state.history if int(row["epoch"]) == about["epoch"])
    told = lesson.plan | {
        "settings": json.loads(json.dumps(lesson.settings.lasting(), default=str)),
        "fingerprint": lesson.settings.fingerprint(),
        "parameters": lesson.net.size(),
        "learning_rate": loop.lr,
        "best_epoch": about["epoch"],
        "epochs": loop.state.epoch,
        "skipped_steps": loop.state.skipped,
        "monitor": lesson.settings.monitor,
        "validation": {
            name.removeprefix("validation_"): value
            for name, value in best.items()
            if name.startswith("validation_") and math.isfinite(value)
        },
        "training_seconds": round(sum(row["seconds"] for row in loop.state.history), 2),
        "device": str(loop.device),
        "workers": lesson.settings.workers,
        "unused": unused(lesson.settings, lesson.settings.loss) if isinstance(loop, Fitting) else [],
    }
    run.finish(lesson.settings.run, weights, loop.state.history, told)
