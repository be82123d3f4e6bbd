"""How far a download is, from its plan and its journal alone."""

from collections import Counter
from pathlib import Path
from typing import Any

from survey import files
from survey.archives.journal import COUNT, JOURNAL, read_events
from survey.status.state import FolderState


def look_into_download(
    state: FolderState, written: dict[str, Any], document: dict[str, Any], exact: bool
) -> None:
    """Which files are here, and why others are not. A finished download is described by its document."""
    del written, exact
    state.unit = "files"
    if document:
        state.total, state.done, state.refused = document["wanted"], document["complete"], document["missing"]
        return
    count = files.join(state.path, COUNT)
    if files.exists(count):
        state.total = files.read_json(count)["wanted"]
    events = read_events(Path(files.join(state.path, JOURNAL)))
    state.done = sum(event.is_complete for event in events.values())
    state.refused = dict(Counter(event.reason for event in events.values() if not event.is_complete))
