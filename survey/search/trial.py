"""One training of a search, wherever it runs: it starts or continues in its folder, and reports each epoch
and its end.

An error ends the training and not the search. Its traceback is written to error.txt in the folder of the
training.
"""

import functools
import gc
import logging
import math
import shutil
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from survey import files, machine
from survey.folder import SETTINGS, Folder
from survey.search.seeds import Scores, read_scores
from survey.settings import JobError
from survey.training import checkpoint
from survey.training import run as runs
from survey.training.epochs import StoppedError
from survey.training.settings import Train
from survey.training.train import plan, run_differences, with_paths
from survey.training.worker import learn

ERROR = "error.txt"

Row = Mapping[str, float]
"""The numbers of an epoch."""


class TrainingEnd(BaseModel):
    """How a training ended: with scores, or with the reason why it failed."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    scores: Scores | None = None
    failed: str = ""


def run_training(settings: Train, report: Callable[[Row], None]) -> TrainingEnd:
    """Train to the end, or until `report` raises StoppedError. Every other error is a failed training."""
    error_file = files.join(settings.run, ERROR)
    try:
        files.remove(error_file)
        is_unfinished = plan(settings)
        for row in past_epochs(settings.run):
            report(row)
        if is_unfinished:
            learn(settings, progress=_no_bar, watch=report)
        return TrainingEnd(scores=read_scores(settings.run))
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - a search is there to find settings that fail
        files.write(error_file, traceback.format_exc().encode())
        return TrainingEnd(failed=f"{_message(error)} (traceback: {ERROR} in the folder of the trial)")
    finally:
        _free_memory()


def _message(error: Exception) -> str:
    """The error in one line; an error that our code does not raise on purpose is named by its class too."""
    message = " ".join(str(error).split()) or "no message"
    return message if isinstance(error, JobError | ValueError) else f"{type(error).__name__}: {message}"


def _no_bar(title: str, total: int, unit: str) -> AbstractContextManager[Any]:
    """No progress bar, because several trainings may run at a time."""
    del title, total, unit
    return nullcontext()


def _free_memory() -> None:
    """Give back the memory of a training to the next one in this process.

    The modules are left out of later collections: with torch loaded, they take 0.2 s each time.
    """
    gc.collect()
    _leave_out_modules()
    machine.release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@functools.cache
def _leave_out_modules() -> None:
    """Freeze what a first training has loaded, once; to count frozen objects would take as long as a look."""
    gc.freeze()


def past_epochs(run: str) -> list[dict[str, float]]:
    """The epochs that a run has behind it. The driver that they were reported to may have died before it
    wrote them.
    """
    if files.exists(files.join(run, runs.HISTORY)):
        return runs.history(run)
    last = checkpoint.last(files.join(run, runs.CHECKPOINTS))
    if not files.exists(last):
        return []
    rows: list[dict[str, float | None]] = checkpoint.read_tensors(last)[1]["state"]["history"]
    return [
        {name: math.nan if value is None else float(value) for name, value in row.items()} for row in rows
    ]


def remove_checkpoints(run: str, and_weights: bool) -> None:
    """Remove the checkpoints of a run that is over and, if wanted, its weights; its history stays."""
    folder = files.join(run, runs.CHECKPOINTS)
    for name in files.names(folder):
        files.remove(files.join(folder, name))
    if and_weights:
        files.remove(files.join(run, runs.MODEL))


def differing(settings: Train) -> list[str]:
    """How the settings that a run was begun with differ from these; nothing where no run was begun.

    Paths of stores, tables and runs do not count: a study has the same ones, wherever they are now.
    """
    before, now = Folder(settings.run, runs.RUN).settings(), settings.plain()
    return [] if before is None else run_differences(with_paths(before, now), now)


def remove_other_run(settings: Train) -> None:
    """Remove the run in this folder if it was begun with other settings.

    Its own settings go last, so that a removal that was stopped is completed by the next one.
    """
    if not (changes := differing(settings)):
        return
    logging.getLogger(__name__).warning(
        "tune: %s: the best trial has other settings now (%s); the winner is trained anew",
        settings.run,
        "; ".join(changes),
    )
    folder = Folder(settings.run, runs.RUN)
    folder.withdraw()
    for entry in list(files.walk(settings.run)):
        if entry.path != folder.file(SETTINGS):
            files.remove(entry.path)
    if not files.is_remote(settings.run):
        for inner in Path(settings.run).iterdir():
            if inner.is_dir():
                shutil.rmtree(inner)
    files.remove(folder.file(SETTINGS))
