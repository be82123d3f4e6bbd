"""A look at a folder: what it is, how far it is, and who works in it. Nothing is written.

Only markers, documents and listings are read, with a work that grows with the number of shards. So a look
takes seconds for a full survey, also while the job runs, and from another machine.
"""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from survey import claim, files
from survey.folder import SETTINGS
from survey.settings import SettingsError
from survey.status import downloads, shards, trainings, trials
from survey.status.soundness import check_content, read_document
from survey.status.state import FolderState

JOB_OF = {
    "download": "download",
    "store": "ingest",
    "predictions": "predict",
    "run": "train",
    "study": "tune",
    "ensemble": "ensemble",
    "evaluation": "evaluate",
    "catalog": "catalog",
    "latent": "latent",
    "explanation": "explain",
    "followup": "followup",
    "observed": "followup",
    "labels": "labels",
}
"""The kinds of folders, and the jobs that make them."""

LOOK_INTO: dict[str, Callable[[FolderState, dict[str, Any], dict[str, Any], bool], None]] = {
    "download": downloads.look_into_download,
    "store": shards.look_into_store,
    "predictions": shards.look_into_predictions,
    "run": trainings.look_into_run,
    "ensemble": trainings.look_into_ensemble,
    "study": trials.look_into_study,
}
"""What is read of a kind of folder, besides its settings, its claim and its document."""

MOST_SHOWN = 5
"""Folders of a job that the message about their parent names."""


def look(path: str, exact: bool = False) -> FolderState:
    """The state of the folder at a path. `exact`: in a bucket, all markers are read, not some of them."""
    path = files.absolute(path)
    names = _names(path)
    if {"mock.json", "mock-begun.json"} & set(names):
        return shards.look_at_mock(path, names)
    written = _settings(path, names)
    state = FolderState(path, written["kind"], JOB_OF[written["kind"]])
    state.command = _command(written)
    holder = claim.look(path)
    if holder and holder.is_alive:
        state.state, state.by, state.since = "running", str(holder), holder.since
    document = read_document(state, names)
    if document and state.state == "stopped":
        state.state = "finished"
    if inside := LOOK_INTO.get(state.kind):
        inside(state, written, document, exact)
    if document:
        check_content(state, document)
    if holder and not holder.is_alive:
        state.notes.append(f"{holder} worked in it from {holder.since} on and has ended without a word")
    if state.state == "finished":
        state.seconds_left, state.missing = None, ()
    return state


def _names(path: str) -> list[str]:
    """The names in a folder. No folder, or an empty one, is an error."""
    if not files.is_remote(path) and Path(path).is_file():
        raise ValueError(f"status: {path}: is a file; give the folder that a job makes")
    names = files.names(path)
    if names:
        return names
    if claim.look(path):
        raise ValueError(f"status: {path}: a job has just begun in it, nothing is written yet; look again")
    if files.is_remote(path) or not Path(path).exists():
        raise FileNotFoundError(f"status: {path}: no such folder; give the folder that a job makes")
    raise ValueError(f"status: {path}: is empty, no job has begun in it; give the folder of a job")


def _settings(path: str, names: list[str]) -> dict[str, Any]:
    """The content of settings.json, with the kind. A folder of something else is an error."""
    if SETTINGS not in names:
        raise ValueError(f"status: {path}: {_what_it_holds(path, names)}")
    written = files.read_json(files.join(path, SETTINGS))
    if not isinstance(written, dict) or not isinstance(written.get("settings"), dict):
        raise SettingsError(f"status: {path}: its {SETTINGS} is not that of a job; give the folder of a job")
    kind = written.get("kind") or next((name for name in JOB_OF if f"{name}.json" in names), "")
    if kind not in JOB_OF:
        raise SettingsError(
            f"status: {path}: its {SETTINGS} names the kind {kind!r}, which no job makes; give another folder"
        )
    return written | {"kind": kind}


def _what_it_holds(path: str, names: list[str]) -> str:
    """About a folder that no job has made: folders of jobs in it, or what else is there."""
    folders = names if len(names) <= 200 else []
    found = [name for name in folders if files.exists(files.join(path, name, SETTINGS))]
    if found:
        more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        return f"holds folders of jobs; give one of {', '.join(found[:MOST_SHOWN])}{more}"
    documents = [name for name in JOB_OF if f"{name}.json" in names]
    if documents:
        return (
            f"holds {documents[0]}.json, but no {SETTINGS}: it is damaged, or a part of a copy; "
            f"put a copy back, or run survey {JOB_OF[documents[0]]} into a new folder"
        )
    return f"holds {', '.join(names[:3])} but no {SETTINGS}, so no job has made it; give the folder of a job"


def _command(written: dict[str, Any]) -> str:
    """The command that began a folder; empty if it is not known."""
    command, folder = str(written.get("command", "")), str(written.get("command_folder", ""))
    if not command or not folder or folder == str(Path.cwd()):
        return command
    return f"cd {shlex.quote(folder)} && {command}"


def watch(path: str, seconds: float, exact: bool) -> Any:
    """The state again and again, until no process works in the folder."""
    while True:
        state = look(path, exact)
        yield state
        if state.state != "running":
            return
        time.sleep(seconds)
