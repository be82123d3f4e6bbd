"""What a person looks at after a training: curves, the network's parts, what augmentation and other labels did; the tracker gets it too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from survey import files
from survey.labelling import samples
from survey.models.summary import text
from survey.reports import augmentations, curves, synthesis_plots
from survey.store.store import open_store
from survey.training import checkpoint
from survey.training import run as bundle
from survey.training.batches import read_places
from survey.training.spectral_model import Likeness
from survey.training.synthesis import LIKENESS
from survey.training.tracking import Tracker
from survey.training.train import JOINED, Train

CURVES, AUGMENTATION, LABELS, NETWORK = "curves.png", "augmentation.png", "labels.png", "model.txt"


def pictures(settings: Train) -> list[str]:
    """Draw what is not there yet, into the run's folder; the paths of all of it."""
    made = {name: files.join(settings.run, name) for name in (CURVES, AUGMENTATION, LABELS, NETWORK)}
    learned = files.join(settings.run, bundle.CHECKPOINTS, LIKENESS)
    if not files.exists(learned):
        del made[LABELS]
    if settings.augment.preset == "none" and settings.augment == type(settings.augment)():
        del made[AUGMENTATION]
    missing = [name for name, path in made.items() if not files.exists(path)]
    if missing:
        run = bundle.open_run(settings.run)
        files.write(made[CURVES], curves.picture(bundle.history(settings.run)))
        files.write(made[NETWORK], (text(run.net) + "\n").encode())
        if AUGMENTATION in made:
            files.write(made[AUGMENTATION], _augmentation(settings, run))
        if LABELS in made:
            tensors, about = checkpoint.read_tensors(learned)
            files.write(
                made[LABELS],
                synthesis_plots.picture(Likeness.of(tensors, about["order"]), about["labels"], run.grid.wave),
            )
        with Tracker(settings.tracking, settings.run, settings.lasting()) as tracker:
            tracker.keep(
                [
                    *made.values(),
                    *(
                        files.join(settings.run, name)
                        for name in (bundle.RUN, bundle.MODEL, bundle.HISTORY, samples.SAMPLES)
                    ),
                ]
            )
    return list(made.values())


def _augmentation(settings: Train, run: bundle.Run) -> bytes:
    """The methods on the training spectrum of the best signal to noise among some."""
    train = samples.read(settings.run).part("train")
    some = train.at(np.arange(min(len(train), 200)))
    best = int(np.nanargmax(np.nan_to_num(some.about["snr"].to_numpy(zero_copy_only=False).astype(float))))
    spectrum = read_places(open_store(settings.store), some.place_N2[[best]], False)
    return augmentations.picture(
        settings.augment, run.grid.wave, spectrum.flux[0].numpy(), spectrum.ivar[0].numpy(), settings.seed
    )


def summary(settings: Train, made: bool, pictures: Sequence[str]) -> str:
    """What was trained on what, how good it is on the validation part, and where to look."""
    about = bundle.about_run(settings.run)
    parts = ", ".join(
        f"{count['spectra']:,} {name} ({count['stars']:,} stars)" for name, count in about["parts"].items()
    )
    lines = [
        files.read(files.join(settings.run, JOINED)).decode().rstrip(),
        "",
        f"run        {settings.run}{'' if made else ', finished before: nothing to do'}",
        f"network    {about['model']}, {about['parameters']:,} parameters, task {about['task']['kind']}",
        f"spectra    {parts}",
        f"trained    {about['epochs']} epochs in {about['training_seconds']:.0f} s on {about['device']}, best in epoch {about['best_epoch']}",
        f"validation {_shown(about['validation'], about['task'])}",
    ]
    if about["skipped_steps"]:
        lines.append(f"skipped    {about['skipped_steps']} steps without finite gradients")
    if about.get("unused"):
        lines.append(
            f"not used   {', '.join(about['unused'])}: settings of networks that mean nothing to a {about['model']}"
        )
    if settings.tracking.wanted():
        lines.append(f"tracked    mlflow ui --backend-store-uri {settings.tracking.address(settings.run)}")
    lines += [f"look at    {', '.join(pictures)}", f"next       python jobs/evaluate.py of={settings.run}"]
    return "\n".join(lines)


def _shown(metrics: Mapping[str, float], task: Mapping[str, Any]) -> str:
    names = ["loss", "accuracy", "f1_MP_search", "f1_CEMP", *(f"mae_{name}" for name in task["labels"])]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics)
