"""What `survey status` prints: the state of a folder, as text or as a line of JSON."""

import json
import sys
import time

from survey.progress import duration_text
from survey.status.look import look, watch
from survey.status.settings import Status
from survey.status.state import FolderState

LEFT = 13
"""Columns of the names at the left."""


def show(settings: Status) -> None:
    """Print the state of a folder; with `watch`, again and again until no process works in it."""
    if settings.watch is None:
        _write(settings, look(settings.path, settings.exact))
        return
    try:
        for number, state in enumerate(watch(settings.path, settings.watch, settings.exact)):
            heading = "" if settings.json_lines else f"\n{time.strftime('%H:%M:%S')}\n"
            sys.stdout.write(heading[number == 0 :])
            _write(settings, state)
    except KeyboardInterrupt:
        return  # the usual end of a watch


def _write(settings: Status, state: FolderState) -> None:
    text = json.dumps(state.to_dict()) if settings.json_lines else summary(state)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def summary(state: FolderState) -> str:
    """The state in some lines."""
    rows = [(state.kind, state.path), ("state", _state_text(state))]
    if state.unit:
        rows.append(("done", _done_text(state)))
    if state.missing and state.state != "finished":
        rows.append(("missing", _missing_text(state)))
    if state.rows:
        rows.append(("rows", ", ".join(f"{count:,} {name}" for name, count in state.rows.items())))
    if state.refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in state.refused.items())
        text = f"{sum(state.refused.values()):,}: {reasons}"
        rows.append(("refused", f"{text} ({state.estimated})" if state.estimated else text))
    if state.rate:
        rows.append(("rate", _rate_text(state)))
    if state.seconds_left is not None:
        rows.append(("left", f"about {duration_text(state.seconds_left)}"))
    if state.last is not None and state.state in ("running", "stopped"):
        rows.append(("last", f"{duration_text(state.last)} ago"))
    rows += [("member", _part_text(part)) for part in state.parts]
    rows += [("note", note) for note in state.notes]
    if state.state in ("stopped", "damaged"):
        again = f"survey {state.job} with the settings that began it (they are in settings.json)"
        rows.append(("continue", state.command or again))
    return "\n".join(f"{name:<{LEFT}}{text}" for name, text in rows)


def _state_text(state: FolderState) -> str:
    if state.by:
        return f"{state.state} by {state.by}" + (f", since {state.since}" if state.since else "")
    return "stopped, nobody works in it" if state.state == "stopped" else state.state


def _done_text(state: FolderState) -> str:
    if state.total is None:
        return f"{state.done:,} {state.unit}"
    share = f" ({state.done / state.total:.1%})" if state.total else ""
    return f"{state.done:,} of {state.total:,} {state.unit}{share}"


def _missing_text(state: FolderState) -> str:
    count = max((state.total or 0) - state.done, len(state.missing))
    shown = ", ".join(map(str, state.missing))
    return f"{count:,}: {shown}" + (", ..." if count > len(state.missing) else "")


def _rate_text(state: FolderState) -> str:
    rate = state.rate or 0.0
    text = f"{rate:,.1f} {state.unit}/s" if rate >= 1 else f"{60 * rate:,.1f} {state.unit}/min"
    if state.unit == "epochs":
        text = f"{1 / rate:,.1f} s per epoch"
    if state.rows_each:
        text += f", {rate * state.rows_each:,.0f} rows/s"
    return text if state.state == "running" else f"{text} while it was made"


def _part_text(part: FolderState) -> str:
    name = part.path.rpartition("/")[2]
    text = f"{name}: {part.state}, {_done_text(part)}"
    return ", ".join([text, *part.notes])
