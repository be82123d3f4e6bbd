"""A run alone goes the whole road: as an ensemble of one member, calibrated on its own validation part."""

import logging
import time

from survey import claim, files
from survey.claim import ClaimedError
from survey.ensemble.build import build
from survey.ensemble.ensemble import ENSEMBLE
from survey.ensemble.fit_data import LEAST
from survey.ensemble.settings import Build
from survey.files import DiskFullError
from survey.folder import Folder
from survey.settings import JobError, Threads
from survey.stored_paths import PRESENT, LostFolderError
from survey.training.run import RUN, run_document, trained_store

WAITED = 1.0
"""Seconds between two looks whether another process has built the ensemble."""
CALIBRATED = "calibrated"
"""The folder inside a run with the ensemble that has this run as its only member."""


def calibrated(path: str, threads: Threads = "auto", gpu: bool = True) -> str:
    """The ensemble to predict with: the given one, or that of a run, which is built on the first use.

    A run whose ensemble cannot be built predicts alone: without calibration and distances. A warning says so.
    A store that is not found is an error: it is somewhere, and without it all later steps say less. While
    another process builds the ensemble, this one waits.
    """
    if Folder(path, ENSEMBLE).is_finished() or not Folder(path, RUN).is_finished():
        return path
    folder = files.join(path, CALIBRATED)
    settings = Build(ensemble=folder, runs=(path,), threads=threads, gpu="auto" if gpu else "never")
    try:
        if not Folder(folder, ENSEMBLE).is_finished():
            _check_run(path)
        _build_or_wait(settings)
    except LostFolderError as error:
        lost = str(error.args[0]).removesuffix(PRESENT)
        raise LostFolderError(
            f"predict: ensemble={path}: cannot be calibrated: {lost}put it back, or run "
            f"survey ensemble runs={path} store=ITS_PRESENT_PATH ensemble=NEW and predict with "
            "ensemble=NEW, or give calibrate=false (no distances, no catalog of candidates)"
        ) from error
    except (ConnectionError, TimeoutError, DiskFullError):
        raise
    except (OSError, ValueError, JobError) as error:
        logging.getLogger(__name__).warning(
            "%s: predicts alone, not calibrated and without distances from the training spectra, so no "
            "catalog of candidates can be made of its predictions: %s",
            path,
            error,
        )
        return path
    return folder


def _build_or_wait(settings: Build) -> None:
    """Build the ensemble; if another process is at it, wait for its end."""
    while True:
        try:
            build(settings)
        except ClaimedError as error:
            logging.getLogger(__name__).info("%s", error)
            while claim.holder(settings.ensemble):
                time.sleep(WAITED)
        else:
            return


def _check_run(path: str) -> None:
    """An error if the store of a run is not found, or its validation part is too small to calibrate it."""
    document = run_document(path)
    trained_store(path, document)
    part = document.parts.get("validation")
    stars = part.stars if part else 0
    if stars < LEAST:
        raise JobError(
            f"its validation part has {stars} stars, {LEAST} are needed; train with a larger one, such "
            "as split.parts=[0.6,0.2,0.2], or with more labels"
        )
