"""What a user looks at after a training: curves, the layers of the network, what augmentation and synthesis
do.

The tracker gets these files too.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from survey import files, plugins
from survey.labelling import samples
from survey.models.settings import Task
from survey.models.summary import cost_table
from survey.models.vae import Net as VaeNet
from survey.reports import augmentations, curves, label_effects, rebuilt
from survey.store.store import open_store
from survey.training import checkpoint
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.run import Run
from survey.training.settings import Train
from survey.training.synthesis import SPECTRAL_MODEL, SpectralModel, label_columns
from survey.training.tracking import Tracker, is_unsent, tracking_uri
from survey.training.train import LABEL_COUNTS

CURVES, AUGMENTATION, LABELS, NETWORK = "curves.png", "augmentation.png", "labels.png", "model.txt"
REBUILT = "rebuilt.png"
AUGMENTATION_SPECTRA = 200
"""The augmentation is shown on the best of so many training spectra."""


def pictures(settings: Train) -> list[str]:
    """Draw what is not there yet into the folder of the run; returns the paths of all files."""
    names = (CURVES, AUGMENTATION, LABELS, REBUILT, NETWORK)
    paths = {name: files.join(settings.run, name) for name in names}
    spectral_model = files.join(settings.run, runs.CHECKPOINTS, SPECTRAL_MODEL)
    if not files.exists(spectral_model):
        del paths[LABELS]
    if runs.run_document(settings.run).model != "vae":
        del paths[REBUILT]
    if not augmentations.is_used(settings.augment) or not len(runs.run_document(settings.run).grid):
        del paths[AUGMENTATION]
    is_drawn = all(map(files.exists, paths.values()))
    if not is_drawn:
        _draw(settings, paths, spectral_model)
    if not is_drawn or (settings.tracking.is_on and is_unsent(settings.run)):
        _track(settings, list(paths.values()))
    return list(paths.values())


def _track(settings: Train, pictures: Sequence[str]) -> None:
    """Give the tracker the files of the run, and the numbers of epochs that it did not get."""
    kept = (runs.RUN.file, runs.MODEL, runs.HISTORY, samples.SAMPLES)
    values, history = settings.result_settings(), partial(runs.history, settings.run)
    with Tracker(settings.tracking, settings.run, values, history=history) as tracker:
        tracker.keep([*pictures, *(files.join(settings.run, name) for name in kept)])


def _draw(settings: Train, paths: Mapping[str, str], spectral_model: str) -> None:
    run = runs.open_run(settings.run)
    files.write(paths[CURVES], curves.picture(runs.history(settings.run)))
    files.write(paths[NETWORK], (cost_table(run.net) + "\n").encode())
    if AUGMENTATION in paths:
        files.write(paths[AUGMENTATION], _augmentation(settings, run))
    if REBUILT in paths:
        files.write(paths[REBUILT], _rebuilt(run))
    if LABELS in paths:
        tensors, document = checkpoint.read_tensors(spectral_model)
        model, names = SpectralModel.from_tensors(tensors, document["order"]), document["labels"]
        label_NI = label_columns(samples.read(settings.run).part("train"), names)
        stars_NI = label_NI[np.isfinite(label_NI).all(1)]
        files.write(paths[LABELS], label_effects.picture(model, names, run.grid.wave, stars_NI))


def _rebuilt(run: Run) -> bytes:
    """Images of the validation part, rebuilt."""
    part = samples.read(run.path).part("validation")
    some = part.at(np.arange(min(len(part), AUGMENTATION_SPECTRA)))
    image_BCHW = read_spectra(open_store(run.store_path), some.shard_row_N2, ("image",)).image
    assert image_BCHW is not None
    assert isinstance(run.net, VaeNet)
    return rebuilt.picture(run.net, image_BCHW)


def _augmentation(settings: Train, run: Run) -> bytes:
    """The methods on the training spectrum with the best signal to noise among the first ones."""
    train = samples.read(settings.run).part("train")
    first = train.at(np.arange(min(len(train), AUGMENTATION_SPECTRA)))
    snr = first.extra["snr"].to_numpy(zero_copy_only=False).astype(float)
    best = int(np.nanargmax(np.nan_to_num(snr)))
    spectrum = read_spectra(open_store(run.store_path), first.shard_row_N2[[best]])
    flux, ivar = spectrum.flux[0].numpy(), spectrum.ivar[0].numpy()
    return augmentations.picture(settings.augment, run.grid.wave, flux, ivar, settings.seed)


def summary(settings: Train, was_trained: bool, pictures: Sequence[str]) -> str:
    """What was trained on what, how good it is on the validation part, and where to look."""
    run = runs.run_document(settings.run)
    parts = [f"{count.spectra:,} {name} ({count.stars:,} stars)" for name, count in run.parts.items()]
    lines = [
        files.read(files.join(settings.run, LABEL_COUNTS)).decode().rstrip(),
        "",
        f"run        {settings.run}{'' if was_trained else ', finished before: nothing to do'}",
        f"network    {run.model}, {run.parameters:,} parameters, task {run.task.kind}",
        f"spectra    {', '.join(parts)}",
        f"trained    {run.epochs} epochs in {run.training_seconds:.0f} s on {run.device}, "
        f"best epoch {run.best_epoch} (by {settings.monitor})",
        f"validation {_metrics_text(run.validation, run.task, run.model)}",
    ]
    if run.skipped_steps:
        lines.append(f"skipped    {run.skipped_steps} steps without finite gradients")
    if run.unused:
        lines.append(
            f"not used   {', '.join(run.unused)}: settings of networks that a {run.model} does not use"
        )
    if settings.tracking.is_on:
        uri = tracking_uri(settings.tracking, settings.run)
        view = f"mlflow ui --backend-store-uri {uri}  (tracking.use=never: without MLflow)"
        unsent = f"not all was sent to {uri}; run the same command again to send it"
        lines.append(f"tracked    {unsent if is_unsent(settings.run) else view}")
    next_job = f"evaluate of={settings.run}"
    if run.task.kind == "none":  # there is nothing to compare with a truth
        next_job = f"predict RECIPE ensemble={settings.run} store={settings.store} predictions=PREDICTIONS"
    lines += [f"look at    {', '.join(pictures)}", f"next       survey {next_job}"]
    return "\n".join(lines)


def _metrics_text(metrics: Mapping[str, float], task: Task, model: str) -> str:
    of_classes = ["f1_MP_search", "f1_CEMP"] if "f1_CEMP" in metrics else ["f1_macro"]
    terms = plugins.constants("models", "TERMS").get(model, ())
    names = ["loss", "accuracy", *of_classes, *(f"mae_{name}" for name in task.labels), *terms]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics)
