"""A search: its trials by state, from the journal of Optuna. Optuna is not loaded, and no lock is taken.

Each line of the journal is one change: a new trial, its state, or the number of trials that are wanted.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from survey import files
from survey.status.state import FolderState

NEW_STUDY, STUDY_ATTRIBUTE, NEW_TRIAL, TRIAL_STATE = 0, 2, 4, 6
"""What a line of the journal does; other lines hold values."""
STATES = ("running", "complete", "pruned", "failed", "waiting")
"""The states of a trial by their numbers in the journal; a database has the names in capitals."""
NAMES = {"FAIL": "failed"}
WANTED = "wanted"
UTC_SINCE = 5
"""The first Optuna whose databases hold times in UTC; before it they were local, as in its journals. Journals
have given the offset from UTC since then."""

Values = dict[str, Any]


@dataclass
class _Trial:
    state: str
    started: float | None
    ended: float | None = None


@dataclass
class _Search:
    """The trials of one target."""

    name: str
    wanted: int | None = None
    trials: list[_Trial] = field(default_factory=list)


def look_into_study(state: FolderState, written: Values, document: Values, exact: bool) -> None:
    """A study: the trials of each target, by state, and the time that those left will take."""
    del exact
    state.unit = "trials"
    storage, ident = str(written["settings"].get("storage", "journal")), str(written.get("id", ""))
    searches = _searches(state, storage, ident)
    if searches is None:
        return
    state.total = sum(search.wanted or len(search.trials) for search in searches)
    stamps: list[float] = []
    for search in searches:
        counts = Counter(trial.state for trial in search.trials)
        finished = counts["complete"] + counts["pruned"]
        state.done += finished
        text = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
        state.notes.append(f"{search.name}: {finished} of {search.wanted or '?'} trials finished ({text})")
        stamps += [trial.ended for trial in search.trials if trial.ended is not None]
    if document and state.done < state.total and state.state == "finished":
        state.notes.append("more trials are wanted than its results have; the same command continues")
    state.measure(stamps, time.time())
    state.seconds_left = _seconds_left(state, searches)


def _seconds_left(state: FolderState, searches: list[_Search]) -> float | None:
    """If each trial takes the mean time of the finished ones, and as many run side by side as now."""
    trials = [trial for search in searches for trial in search.trials]
    times = [trial.ended - trial.started for trial in trials if trial.ended and trial.started]
    running = [trial for trial in trials if trial.state == "running"]
    if state.state != "running" or not times or not running or state.total is None:
        return None
    mean, now = sum(times) / len(times), time.time()
    begun = sum(min(now - trial.started, mean) for trial in running if trial.started)
    return max(mean * (state.total - state.done) - begun, 0.0) / len(running)


def _searches(state: FolderState, storage: str, ident: str) -> list[_Search] | None:
    """The searches of a study in its storage; None if they cannot be read from here."""
    path = files.join(state.path, {"journal": "study.log", "sqlite": "study.db"}.get(storage, ""))
    if storage not in ("journal", "sqlite"):
        state.notes.append("its trials are on a server; survey tune with show=true shows them")
        return None
    if not files.exists(path):
        state.notes.append("it has no trials yet")
        return None
    try:
        found = _of_journal(files.read(path)) if storage == "journal" else _of_database(path)
    except (ValueError, KeyError, IndexError, TypeError, sqlite3.Error) as error:
        state.damage(f"{path}: damaged ({error!r}); put a copy back, or begin a new study")
        return None
    kept = [search for search in found if search.name.startswith(f"{ident}-")]
    for search in kept:
        search.name = search.name.removeprefix(f"{ident}-")
    return sorted(kept, key=lambda search: search.name)


def _of_journal(text: bytes) -> list[_Search]:
    """The searches in a journal. A last line without an end is just being written."""
    searches: list[_Search] = []
    trials: list[_Trial] = []
    for change in _changes(text):
        kind = change["op_code"]
        if kind == NEW_STUDY and change["study_name"] not in [search.name for search in searches]:
            searches.append(_Search(change["study_name"]))
        elif kind == STUDY_ATTRIBUTE and WANTED in change["user_attr"]:
            searches[change["study_id"]].wanted = int(change["user_attr"][WANTED])
        elif kind == NEW_TRIAL:
            trial = _Trial(STATES[change.get("state", 0)], _time(change.get("datetime_start")))
            trials.append(trial)
            searches[change["study_id"]].trials.append(trial)
        elif kind == TRIAL_STATE and trials[change["trial_id"]].ended is None:
            trial = trials[change["trial_id"]]
            trial.state = STATES[change["state"]]
            trial.started = _time(change.get("datetime_start")) or trial.started
            trial.ended = _time(change.get("datetime_complete"))
    return searches


def _changes(text: bytes) -> Iterator[Values]:
    lines = text.split(b"\n")[:-1]
    return (json.loads(line) for line in lines if line)


def _of_database(path: str) -> list[_Search]:
    """The searches in a database, which is opened for reading only."""
    address = f"{Path(path).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as database:
        searches = {
            number: _Search(name)
            for number, name in database.execute("SELECT study_id, study_name FROM studies")
        }
        wanted = "SELECT study_id, value_json FROM study_user_attributes WHERE key = ?"
        for number, value in database.execute(wanted, (WANTED,)):
            searches[number].wanted = int(json.loads(value))
        (version,) = database.execute("SELECT library_version FROM version_info").fetchone()
        zone = UTC if int(version.partition(".")[0]) >= UTC_SINCE else None
        columns = "SELECT study_id, state, datetime_start, datetime_complete FROM trials ORDER BY trial_id"
        for number, name, started, ended in database.execute(columns):
            trial = _Trial(NAMES.get(name, name.lower()), _time(started, zone), _time(ended, zone))
            searches[number].trials.append(trial)
    return list(searches.values())


def _time(text: str | None, zone: tzinfo | None = None) -> float | None:
    """Seconds since 1970. A time without an offset from UTC is one of the zone; None = the local one."""
    if not text:
        return None
    time_of = datetime.fromisoformat(text)
    return (time_of if time_of.tzinfo else time_of.replace(tzinfo=zone)).timestamp()
