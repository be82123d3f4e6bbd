"""What a user looks at after a training: curves, the layers of the network, what augmentation and synthesis
do.

The tracker gets these files too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey import files
from survey.labelling import samples
from survey.models.settings import Task
from survey.models.summary import cost_table
from survey.reports import augmentations, curves, style
from survey.store.store import open_store
from survey.training import checkpoint
from survey.training import run as runs
from survey.training.batches import read_spectra
from survey.training.run import Run
from survey.training.settings import Train
from survey.training.synthesis import SPECTRAL_MODEL, SpectralModel
from survey.training.tracking import Tracker, tracking_uri
from survey.training.train import LABEL_COUNTS

CURVES, AUGMENTATION, LABELS, NETWORK = "curves.png", "augmentation.png", "labels.png", "model.txt"
AUGMENTATION_SPECTRA = 200
"""The augmentation is shown on the best of so many training spectra."""


def pictures(settings: Train) -> list[str]:
    """Draw what is not there yet into the folder of the run; returns the paths of all files."""
    paths = {name: files.join(settings.run, name) for name in (CURVES, AUGMENTATION, LABELS, NETWORK)}
    spectral_model = files.join(settings.run, runs.CHECKPOINTS, SPECTRAL_MODEL)
    if not files.exists(spectral_model):
        del paths[LABELS]
    if settings.augment.preset == "none" and settings.augment == type(settings.augment)():
        del paths[AUGMENTATION]
    if not all(map(files.exists, paths.values())):
        _draw(settings, paths, spectral_model)
    return list(paths.values())


def _draw(settings: Train, paths: Mapping[str, str], spectral_model: str) -> None:
    run = runs.open_run(settings.run)
    files.write(paths[CURVES], curves.picture(runs.history(settings.run)))
    files.write(paths[NETWORK], (cost_table(run.net) + "\n").encode())
    if AUGMENTATION in paths:
        files.write(paths[AUGMENTATION], _augmentation(settings, run))
    if LABELS in paths:
        tensors, document = checkpoint.read_tensors(spectral_model)
        model = SpectralModel.from_tensors(tensors, document["order"])
        files.write(paths[LABELS], spectral_model_picture(model, document["labels"], run.grid.wave))
    kept = (runs.RUN.file, runs.MODEL, runs.HISTORY, samples.SAMPLES)
    with Tracker(settings.tracking, settings.run, settings.result_settings()) as tracker:
        tracker.keep([*paths.values(), *(files.join(settings.run, name) for name in kept)])


def _augmentation(settings: Train, run: Run) -> bytes:
    """The methods on the training spectrum with the best signal to noise among the first ones."""
    train = samples.read(settings.run).part("train")
    first = train.at(np.arange(min(len(train), AUGMENTATION_SPECTRA)))
    snr = first.extra["snr"].to_numpy(zero_copy_only=False).astype(float)
    best = int(np.nanargmax(np.nan_to_num(snr)))
    spectrum = read_spectra(open_store(settings.store), first.shard_row_N2[[best]], False)
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
        f"best epoch {run.best_epoch}",
        f"validation {_metrics_text(run.validation, run.task)}",
    ]
    if run.skipped_steps:
        lines.append(f"skipped    {run.skipped_steps} steps without finite gradients")
    if run.unused:
        lines.append(
            f"not used   {', '.join(run.unused)}: settings of networks that a {run.model} does not use"
        )
    if settings.tracking.is_on:
        uri = tracking_uri(settings.tracking, settings.run)
        lines.append(f"tracked    mlflow ui --backend-store-uri {uri}")
    lines += [f"look at    {', '.join(pictures)}", f"next       python jobs/evaluate.py of={settings.run}"]
    return "\n".join(lines)


def _metrics_text(metrics: Mapping[str, float], task: Task) -> str:
    names = ["loss", "accuracy", "f1_MP_search", "f1_CEMP", *(f"mae_{name}" for name in task.labels)]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics)


STEPS = 5
"""Spectra of a panel."""
DEVIATIONS = 4
"""Values go so many standard deviations to either side of the mean, within the range of the training part."""


def spectral_model_picture(model: SpectralModel, names: Sequence[str], wave: NDArray[Any]) -> bytes:
    """How labels change a spectrum, as PNG: a panel per label, all other labels at their mean."""

    def draw(figure: Figure) -> None:
        panels = cast(Sequence[Sequence[Axes]], figure.subplots(len(names), 1, sharex=True, squeeze=False))
        for number, name in enumerate(names):
            _draw_panel(panels[number][0], model, number, name, wave)
        panels[-1][0].set_xlabel("wavelength (Å)")

    return style.png(draw, 11, 0.6 + 1.7 * len(names))


def _draw_panel(axis: Axes, model: SpectralModel, number: int, name: str, wave: NDArray[Any]) -> None:
    """Spectra from a low to a high value of one label."""
    mean, reach = float(model.center_I[number]), DEVIATIONS * float(model.scale_I[number])
    low = max(mean - reach, float(model.low_I[number]))
    high = min(mean + reach, float(model.high_I[number]))
    values = torch.linspace(low, high, STEPS, dtype=torch.float64)
    label_NI = model.center_I.double().repeat(STEPS, 1)
    label_NI[:, number] = values
    for step, flux in enumerate(model(label_NI).numpy()):
        color = style.SIGNED(step / (STEPS - 1))
        axis.plot(wave, flux, color=color, lw=0.6, label=f"{float(values[step]):.4g}")
    axis.set_xlim(wave[0], wave[-1])
    axis.set_ylim(0, 1.35)
    axis.set_ylabel("flux")
    axis.set_title(f"{style.symbol(name)} ({style.unit(name)}), the other labels at their mean")
    axis.legend(ncols=STEPS, loc="lower right")
