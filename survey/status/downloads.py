"""How far a download is, from its plan and its journal alone."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from survey import files
from survey.archives.failures import PERMANENT
from survey.archives.journal import COUNT, JOURNAL, Event, read_events
from survey.status.state import FolderState, seconds_of


def look_into_download(
    state: FolderState, written: dict[str, Any], document: dict[str, Any], exact: bool
) -> None:
    """Which of the wanted files are here, why others are not, and how fast they come.

    A finished download is described by its document. Journals of older versions hold no times.
    """
    del written, exact
    state.unit = "files"
    if document:
        state.total, state.done, state.refused = document["wanted"], document["complete"], document["missing"]
        return
    count = files.join(state.path, COUNT)
    if files.exists(count):
        state.total = files.read_json(count)["wanted"]
    events = _wanted_events(state)
    state.done = sum(event.is_complete for event in events)
    state.refused = dict(Counter(event.reason for event in events if not event.is_complete))
    # rows that name no file take no time
    fetched = [event.time for event in events if event.time and event.reason != "bad_row"]
    state.measure(fetched, time.time())
    if state.seconds_left is not None and state.rate and state.total is not None:
        started = seconds_of(state.since)
        settled = sum(
            event.is_complete or event.reason in PERMANENT or event.time >= started for event in events
        )
        state.seconds_left = max(state.total - settled, 0) / state.rate


def _wanted_events(state: FolderState) -> list[Event]:
    """The last event of each file of the plan: the journal keeps those of other selections too."""
    from survey.archives.plan_table import KEY, PLAN  # loads pyarrow, which no other look needs

    events = read_events(Path(files.join(state.path, JOURNAL)))
    plan = files.join(state.path, PLAN)
    if not files.exists(plan):
        return list(events.values())
    try:
        keys = files.parse_table(files.read(plan), plan, [KEY])[KEY].to_pylist()
    except ValueError as error:
        state.damage(str(error))
        return list(events.values())
    return [events[key] for key in dict.fromkeys(keys) if key in events]
