"""Folders that are made by training: a run, and an ensemble with the runs of its members.

How far a training is stands in the header of its last checkpoint: one short read, without any weights.
"""

import json
import struct
import time
from typing import Any

from survey import files
from survey.folder import SETTINGS
from survey.models.options import is_baseline
from survey.status.soundness import read_document
from survey.status.state import FolderState

LAST = "checkpoints/last.safetensors"
LONGEST_HEADER = 64 << 20
RECENT_EPOCHS = 10
"""The last epochs, whose mean time is that of the epochs to come."""

Values = dict[str, Any]


def look_into_run(state: FolderState, written: Values, document: Values, exact: bool) -> None:
    """A run: its epochs."""
    del exact
    state.unit = "epochs"
    settings = written["settings"]
    if document:
        state.done = state.total = int(document["epochs"])
        state.notes.append(
            f"best epoch {document['best_epoch']} by {document['monitor']}, "
            f"{document['training_seconds']:,.0f} s of training on {document['device']}"
        )
        return
    state.total = int(settings["epochs"])
    progress = _progress(state)
    if not progress:
        return
    state.done = int(progress["epoch"])
    history = progress["history"]
    seconds = [row["seconds"] for row in history[-RECENT_EPOCHS:] if "seconds" in row]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    entry = files.stat_of(files.join(state.path, LAST))
    state.last = max(time.time() - entry.stamp, 0.0) if entry else None
    if is_baseline(str(settings["model"])):
        state.total = None
        state.notes.append("a baseline stops by itself, so its end is not known")
    elif mean > 0:
        state.rate = 1 / mean
        if state.state == "running" and state.total is not None:
            state.seconds_left = max((state.total - state.done) * mean - (state.last or 0.0), 0.0)
    _describe(state, settings, progress)


def _describe(state: FolderState, settings: Values, progress: Values) -> None:
    """The best epoch so far, and when the training would stop without a better one."""
    best, monitor = progress["best_epoch"], settings["monitor"]
    if best:
        rows = [row for row in progress["history"] if int(row["epoch"]) == best]
        value = rows[0].get(f"validation_{monitor}") if rows else None
        state.notes.append(f"best epoch {best}" + (f", {monitor} {value:.4g}" if value is not None else ""))
    patience = int(settings.get("patience") or 0)
    if patience and best:
        state.notes.append(f"it stops at epoch {best + patience} if none is better (patience={patience})")


def _progress(state: FolderState) -> Values:
    """What the last checkpoint says of the training; empty if there is none."""
    path = files.join(state.path, LAST)
    try:
        with files.open_file(path) as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(size, LONGEST_HEADER)))
        progress: Values = json.loads(header["__metadata__"]["document"])["state"]
    except FileNotFoundError:
        state.notes.append("no epoch is finished yet")
        return {}
    except (ValueError, KeyError, TypeError, struct.error) as error:
        state.damage(f"{path}: is damaged ({error!r}); remove it and run the job again, from the first epoch")
        return {}
    return progress


def look_into_ensemble(state: FolderState, written: Values, document: Values, exact: bool) -> None:
    """An ensemble: its members, those that are trained for it with their epochs."""
    del exact
    state.unit = "members"
    members = written["settings"].get("runs") or {}
    state.total = len(members)
    if document:
        state.done = len(document["members"])
        return
    if not isinstance(members, dict):
        state.done = sum(files.exists(files.join(str(path), "run.json")) for path in members)
        return
    for name in members:
        state.parts.append(_member(state, str(name)))
    state.done = sum(part.state == "finished" for part in state.parts)
    state.missing = [part.path for part in state.parts if part.state != "finished"]
    left = [_seconds_of(part, state.parts) for part in state.parts if part.state != "finished"]
    if state.state == "running" and all(seconds is not None for seconds in left):
        state.seconds_left = sum(seconds or 0.0 for seconds in left)


def _member(state: FolderState, name: str) -> FolderState:
    """A member's run; it is as alive as the ensemble, whose process trains one member after the other."""
    path = files.join(state.path, "runs", name)
    part = FolderState(path, "run", "train", state="stopped", unit="epochs")
    names = files.names(path)
    if SETTINGS not in names:
        part.notes.append("not begun")
        return part
    document = read_document(part, names)
    if document and part.state != "damaged":
        part.state = "finished"
    elif state.state == "running":
        part.state = "running"
    look_into_run(part, files.read_json(files.join(path, SETTINGS)), document, False)
    return part


def _seconds_of(part: FolderState, parts: list[FolderState]) -> float | None:
    """The seconds that a member still needs: by its own epochs, or by those of the others."""
    if part.rate and part.total is not None:
        return (part.total - part.done) / part.rate
    rates = [other.rate for other in parts if other.rate]
    totals = [other.total for other in parts if other.total]
    return max(totals) / min(rates) if rates and totals else None
