"""One training of a search, wherever it runs: made or gone on with in its folder, each epoch told, its end told in a few words."""

import gc
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from survey import files, machine
from survey.settings import JobError
from survey.training import checkpoint
from survey.training import run as bundle
from survey.training.loop import StoppedError
from survey.training.train import Train, begin
from survey.training.worker import learn

Row = Mapping[str, float]
Told = dict[str, Any]
"""How a training ended: `about`, some of its run.json; or `failed`, why it did not."""
KEPT = ("validation", "parameters", "training_seconds", "best_epoch", "epochs")


def work(settings: Train, tell: Callable[[Row], None]) -> Told:
    """Train to the end, or until the listener stops it; what goes wrong with the training is an answer, no error."""
    try:
        settings = same_labels(settings)
        left = begin(settings)
        for row in known(settings):
            tell(row)
        if left:
            learn(settings, progress=_unseen, watch=tell)
        about = bundle.about_run(settings.run)
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - a network or a setting that does not do is what a search is there to find
        return {"failed": _reason(error)}
    finally:
        _tidy()
    return {"about": {name: about[name] for name in KEPT}}


def _reason(error: Exception) -> str:
    """What went wrong, in a line; the kind of error where it is none of ours."""
    told = " ".join(str(error).split()) or "no word"
    return told if isinstance(error, JobError | ValueError) else f"{type(error).__name__}: {told}"


def _unseen(title: str, total: int, unit: str) -> AbstractContextManager[Any]:
    """No bar: many trainings run side by side."""
    del title, total, unit
    return nullcontext()


def _tidy() -> None:
    """Give back what the training held, for the next one in this process. Modules are looked through once: with torch among them it takes 0.2 s."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
    machine.release()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def same_labels(settings: Train) -> Train:
    """A training that was begun goes on with the path of its table as it was: the table was read then, and may lie elsewhere now."""
    noted = files.join(settings.run, bundle.SETTINGS)
    return (
        settings.model_copy(update={"labels": files.read_json(noted)["settings"]["labels"]})
        if files.exists(noted)
        else settings
    )


def known(settings: Train) -> list[dict[str, float]]:
    """The epochs that a training has behind it: who listened then may not have lived to note them."""
    if files.exists(files.join(settings.run, bundle.HISTORY)):
        return bundle.history(settings.run)
    last = checkpoint.last(files.join(settings.run, bundle.CHECKPOINTS))
    rows: list[dict[str, float]] = (
        checkpoint.read_tensors(last)[1]["state"]["history"] if files.exists(last) else []
    )
    return [
        {name: float(value) if value is not None else math.nan for name, value in row.items()} for row in rows
    ]


def forget(run: str, weights: bool) -> None:
    """Remove the checkpoints of a training that is over and, if wanted, its weights; what it was and how it went stays."""
    folder = files.join(run, bundle.CHECKPOINTS)
    for name in files.names(folder):
        files.remove(files.join(folder, name))
    if weights:
        files.remove(files.join(run, bundle.MODEL))
