"""Store + labels -> the plan of a run: everything is checked and written down before the first step.

`plan` writes the labelled spectra with their parts, the scaling and the settings into the folder of the
run. Workers train as it is written there. So a training that was killed continues with the same values, and
a finished run is left alone.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey import files, plugins
from survey.folder import Folder
from survey.labelling import join as labelling
from survey.labelling import samples, split
from survey.labelling.samples import Samples
from survey.labelling.settings import PARTS
from survey.labelling.unlabelled import NONE
from survey.labels import label
from survey.models.baseline import Baseline
from survey.models.options import is_baseline
from survey.recipes import merge
from survey.scratch import scratch_folder
from survey.settings import SettingsError, differences
from survey.store.store import Store
from survey.training import run as runs
from survey.training import training_history
from survey.training.losses import TaskLoss
from survey.training.made_from import MadeFrom, paths_of
from survey.training.real_effects import RealEffects
from survey.training.run import PLAN, RUN, PartCounts, Plan, RunDocument, StoreSource, run_document
from survey.training.scaling import fit_scaling
from survey.training.settings import Train, check_monitor
from survey.training.sources import (
    JoinedSource,
    concatenate,
    join_sources,
    learned_labels,
    open_training_store,
    with_common_stars,
    with_input,
)
from survey.training.synthesis import usable_synthesis

LABEL_COUNTS = "labels.txt"
"""The file of a run that says how many rows of the label table were joined."""
PATHS = ("store", "labels", "start_from")
"""Settings of a training, or of one of its sources, that are paths of what it is made from."""


def plan(settings: Train) -> bool:
    """Plan a run, if it is not planned yet; returns whether it is still to be trained."""
    folder, before = Folder(settings.run, RUN), _sound_plan(settings.run)
    content = _content(settings, before)
    result_settings = _result_settings(settings, folder, before, content)
    planned = (samples.SAMPLES, LABEL_COUNTS, PLAN)  # these may be there without the settings, after a kill
    if folder.agree(result_settings, allowed=planned, compare=run_differences):
        if before:
            advice = "give another folder, to train from these"
            before.made_from.check(f"train: run: {settings.run}", content, advice)
        if folder.sound_document() is not None:
            return False
        folder.withdraw()
        if before:
            open_training_store(settings, settings.run)  # that of several sources names where these lie
            return True
    new_plan, labelled, counts = _prepare(settings, settings.run)
    new_plan = new_plan.model_copy(update={"made_from": content})
    samples.write(settings.run, labelled)
    files.write(files.join(settings.run, LABEL_COUNTS), counts.encode())
    new_plan.write(settings.run)
    folder.begin(result_settings, fingerprint=settings.fingerprint())
    return True


def needs_one_worker(settings: Train) -> bool:
    """Whether the model is a baseline that is fitted in seconds, by one worker."""
    net = plugins.load("models", settings.model).Net
    return issubclass(net, Baseline) and not net.distributed_library


def _sound_plan(run: str) -> Plan | None:
    """The plan of a run, if its files are sound; else the run is planned again, with the same result."""
    try:
        samples.read(run)
        return runs.read_plan(run)
    except (OSError, ValueError):
        return None


def _content(settings: Train, before: Plan | None) -> MadeFrom:
    """What the tables, the stores and the run of the settings hold now."""
    start, kept = settings.start_from, before.made_from if before else None
    ids = {"start_from": run_document(start).id} if start and runs.is_finished(start) else {}
    return MadeFrom.of(paths_of(settings, "labels"), paths_of(settings, "store"), ids, kept)


def describe(settings: Train) -> str:
    """What a training would do: labels that it would join, its parts, its network. Nothing is written."""
    with scratch_folder("train") as folder:
        new_plan, _, counts = _prepare(settings, folder)
    size = runs.network(new_plan).size()
    parts = ", ".join(f"{count.spectra:,} {name}" for name, count in new_plan.parts.items())
    return (
        f"{counts}network  {new_plan.model}, {size:,} parameters, task {new_plan.task.kind}\nspectra  {parts}"
    )


def _prepare(settings: Train, folder: str) -> tuple[Plan, Samples, str]:
    """The plan, the labelled spectra, and a text about them.

    The store of several sources is made in `folder`.
    """
    settings, labelled, text = _label(settings)
    store = open_training_store(settings, folder)
    if store.image_shape is not None:  # else every row has a spectrum
        net = runs.network(_plan(settings, store, labelled))
        labelled, left_out_rows = with_input(labelled, net.answers_from, f"train: model={settings.model}")
        text += f"objects  {left_out_rows}\n" if left_out_rows else ""
    train = labelled.part("train")
    new_plan = _check_plan(settings, _plan(settings, store, labelled), train)
    if not is_baseline(new_plan.model):
        _, left_out = usable_synthesis(settings.synthesis, new_plan.task, train)
        text += "".join(f"synthesis without {reason}\n" for reason in left_out)
    return new_plan, labelled, text + _forgotten_classes(new_plan)


def _forgotten_classes(planned: Plan) -> str:
    """A warning, if fine-tuning sees some of the classes only: the network unlearns the others."""
    counts = planned.parts["train"].classes
    absent = [name for name, count in counts.items() if not count]
    if not planned.start_from or not planned.task.classifies or len(absent) in (0, len(counts)):
        return ""
    return (
        f"classes  no spectrum of {', '.join(absent)} to train on: fine-tuning makes the network forget "
        "this; join.classes=none learns labels alone\n"
    )


def _result_settings(
    settings: Train, folder: Folder[RunDocument], planned: Plan | None, content: MadeFrom
) -> dict[str, Any]:
    """The settings that decide the result. The same table, store or run counts as the same, wherever it lies
    now.
    """
    values, before = settings.plain(), folder.settings()
    if before is None or planned is None:
        return values
    same = planned.made_from.same(content)
    if planned.store.id == content.stores.get("store"):  # older runs have kept this id alone
        same.add("store")
    return with_paths(values, before, same)


def with_paths(
    values: dict[str, Any], other: dict[str, Any], names: Container[str] | None = None
) -> dict[str, Any]:
    """Settings of a training with the paths of other settings: all of them, or those of these names."""

    def paths(values: dict[str, Any], other: dict[str, Any], section: str) -> dict[str, Any]:
        both = [name for name in PATHS if values.get(name) and other.get(name)]
        return {name: other[name] for name in both if names is None or f"{section}{name}" in names}

    sources, others = values.get("sources", {}), other.get("sources", {})
    inner = {
        name: paths(sources[name], others[name], f"sources.{name}.") for name in sources if name in others
    }
    return merge(values, paths(values, other, "") | ({"sources": inner} if inner else {}))


def run_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences of two settings of a run. A setting that did not exist when the run was
    begun has its default there.
    """
    defaults = Train(store="", labels="", run="").plain()
    return list(differences(merge(defaults, before), now))


def _check_plan(settings: Train, planned: Plan, train: Samples) -> Plan:
    """Find now, before anything is written, what would fail later: network, its weights, frozen parts, loss,
    monitored metric, effects of the real sky.
    """
    net = runs.network(planned)
    if "continuum" in net.extra_inputs and planned.store.prepare.continuum != "dual":
        raise SettingsError(
            f"train: model={planned.model}: needs continua, the store {planned.store.path} has none; "
            "ingest with prepare.continuum=dual"
        )
    if settings.start_from and isinstance(net, Baseline):
        raise SettingsError(
            f"train: start_from: a {planned.model} is fitted at once and cannot continue another run; "
            "leave start_from out"
        )
    runs.freeze(net, settings.freeze)
    if not settings.start_from:
        net.take_weights()
    if not isinstance(net, Baseline):
        RealEffects.check(settings, train, planned.grid.wave)
    counts = planned.parts["train"].classes
    if planned.task.classifies and not settings.start_from and min(counts.values()) < 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        advice = "label more stars of it, or give task=reg"
        if not settings.split.stratify and settings.split.column is None:
            advice = "give split.stratify=true, or more labels"
        raise SettingsError(f"train: split: a class has no spectrum in the training part ({found}); {advice}")
    TaskLoss(settings.loss, planned.task, list(counts.values()))
    if planned.task.kind == "none" and not net.terms:
        raise SettingsError(
            f"train: task=none: {planned.model} learns nothing by itself; give a model such as vae, or a task"
        )
    check_monitor(settings.monitor, planned.task, planned.classes, net.terms, "train: ")
    return planned.model_copy(update={"options": net.options.model_dump(mode="json")})


def _label(settings: Train) -> tuple[Train, Samples, str]:
    """The labelled spectra with their parts, and a text about the rows of the label tables.

    Without any class in the tables, a training of classes and labels becomes one of labels.
    """
    task = settings.network_task()
    # fine-tuning may have some of the labels, and some of the classes, only
    joined = with_common_stars(join_sources(settings, task.labels, optional=bool(settings.start_from)))
    text = "".join(f"{source.labelled.counts.text()}\n" for source in joined)
    if not settings.start_from:
        if settings.task == "cls_reg" and not any(
            labelling.has_classes(source.labelled) for source in joined
        ):
            settings = settings.model_copy(update={"task": "reg"})
            text += "task     reg: no row of the table decides a class, so labels alone are learned\n"
        if settings.task != "none":
            labelling.check_task(joined[0].labelled, settings.task)
    labelled = concatenate(
        [(source, samples.from_labelled(source.labelled, task.labels)) for source in joined]
    )
    part_N = _parts(settings, joined)
    part_N = training_history.inherit_parts(settings.start_from, labelled.extra, part_N)
    split.check_parts(settings.split, part_N, np.array(labelled.extra["star"].to_pylist(), object))
    if settings.learn_from == "train+validation":
        part_N = np.where(part_N == PARTS.index("validation"), np.int8(PARTS.index("train")), part_N)
    return settings, replace(labelled, part_N=part_N), text


def _parts(settings: Train, joined: Sequence[JoinedSource]) -> NDArray[np.int8]:
    """The part of each labelled spectrum; each source is cut by itself, and a star has one part in all."""
    if len(joined) == 1:
        return split.assign_parts(settings.split, joined[0].labelled)
    parts: list[NDArray[np.int8]] = []
    part_of_star: dict[str, np.int8] = {}
    for source in joined:
        labelled = source.labelled
        part_N = split.parts_of_stars(settings.split, labelled.star_N, labelled.class_N, labelled.user_part_N)
        learns_labels = settings.task != "none"  # then rows without labels can only be learned from
        if source.source.parts == "train" or (source.source.labels == NONE and learns_labels):
            part_N = np.where(part_N >= 0, np.int8(PARTS.index("train")), part_N)
        for star, part in zip(labelled.star_N, part_N, strict=True):
            part_of_star.setdefault(star, part)
        parts.append(np.array([part_of_star[star] for star in labelled.star_N], np.int8))
    return np.concatenate(parts)


def _plan(settings: Train, store: Store, labelled: Samples) -> Plan:
    """What is fixed before the first step and stays with the run."""
    task, train = settings.network_task(), labelled.part("train")
    start = run_document(settings.start_from) if settings.start_from else None
    learned_NL = learned_labels(train, settings.label_ranges)
    scaling = start.scaling if start else fit_scaling(settings.scale, learned_NL, task.labels)
    new_plan = Plan(
        model=settings.model,
        options=settings.options,
        task=task,
        classes=settings.classes,
        units={name: label(name).unit for name in task.labels},
        view=settings.view,
        scaling=scaling,
        grid=store.grid,
        image=store.image_shape,
        store=StoreSource(path=store.path, id=store.id, prepare=store.prepare),
        parts={name: _count(labelled.part(name), settings.classes) for name in PARTS},
        split=settings.split,
        start_from=None,
    )
    if start is None:
        return new_plan
    values = settings.plain()
    given: dict[str, Any] = {
        name: values[name]
        for name in ("model", "options", "scale", "view")
        if name in settings.model_fields_set
    }
    path = str(settings.start_from)
    has_seen_stars = len(training_history.unseen(path, labelled.extra)) < len(labelled)
    return training_history.inherit_plan(new_plan, start, given, path, has_seen_stars)


def _count(part: Samples, names: Sequence[str]) -> PartCounts:
    classes = {name: int((part.class_N == number).sum()) for number, name in enumerate(names)}
    stars = len(set(part.extra["star"].to_pylist()))
    return PartCounts(spectra=len(part), stars=stars, classes=classes)
