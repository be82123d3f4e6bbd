"""What is known of each file of a download: one line per event, in a file that only grows.

A line says that a file is complete, with its path, size and CRC-32, or why it did not arrive. The line of
a complete file is written before its partial file gets its final name. So a job that was killed between the
two finds the line, and finishes the renaming; it asks for nothing twice. A line that a kill has cut is
ignored.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from isal import isal_zlib

from survey.archives.failures import PERMANENT
from survey.archives.partial import partial_path, remove_partial, safe_key

JOURNAL, COUNT = "journal.jsonl", "plan.json"
"""The journal; and how many files are wanted."""
CHUNK = 8 << 20
ENOUGH = 20
"""Files whose mean size is typical."""


@dataclass(frozen=True)
class Event:
    """A file that is complete (it has a path), or the reason why it is not there.

    `time` is when it was written, in seconds since 1970; 0 in journals of older versions.
    """

    key: str
    path: str = ""
    size: int = 0
    crc: int = 0
    reason: str = ""
    detail: str = ""
    requests: int = 0
    time: float = field(default=0.0, compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether the file is complete."""
        return bool(self.path)


class Journal:
    """The events of a folder. Threads add to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        self._lock = threading.Lock()
        self._handle = -1
        self.events: dict[str, Event] = {}
        self.paths: dict[str, str] = {}

    def read(self, finish: bool = True) -> None:
        """The last event of each file; renamings that a kill has interrupted are finished.

        With `finish=False` nothing is written: a look at a folder in which another process may work.
        """
        for event in read_events(self.path).values():
            self._keep(event)
        for event in [event for event in self.events.values() if event.is_complete]:
            if not self._is_there(event, finish):
                self._forget(event)

    def is_settled(self, key: str, again: bool) -> bool:
        """Whether a file is complete, or need not be asked for once more."""
        event = self.events.get(key)
        return event is not None and (event.is_complete or (event.reason in PERMANENT and not again))

    def typical_size(self, expected: int) -> float:
        """Bytes of a file: the mean of those that are here if they are enough, else what is expected."""
        sizes = [event.size for event in self.events.values() if event.is_complete]
        return sum(sizes) / len(sizes) if len(sizes) >= ENOUGH else float(expected)

    def free_path(self, path: str, key: str) -> str:
        """The path, or another one if it is that of another file."""
        with self._lock:
            if self.paths.setdefault(path, key) == key:
                return path
            folder, _, name = path.rpartition("/")
            own = f"{folder}/{safe_key(key)}-{name}" if folder else f"{safe_key(key)}-{name}"
            self.paths.setdefault(own, key)
            return own

    def has_same(self, path: str, size: int, crc: int) -> bool:
        """Whether the complete file of this path, whatever its key, has the same bytes."""
        with self._lock:
            event = self.events.get(self.paths.get(path, ""))
            return event is not None and (event.path, event.size, event.crc) == (path, size, crc)

    def complete(self, event: Event, partial: Path) -> None:
        """Write that a file is complete, then give it its name. Its bytes are on the disk before."""
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        self.add(event)
        final = self.folder / event.path
        final.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(final)
        remove_partial(partial)

    def add(self, event: Event) -> None:
        """Write an event."""
        values = asdict(event) | {"time": round(time.time(), 3)}
        line = json.dumps({name: value for name, value in values.items() if value}) + "\n"
        with self._lock:
            if self._handle < 0:
                self._handle = _open(self.path)
            os.write(self._handle, line.encode())
            self._keep(event)

    def close(self) -> None:
        """Bring all to the disk."""
        with self._lock:
            if self._handle >= 0:
                os.fsync(self._handle)
                os.close(self._handle)
            self._handle = -1

    def _keep(self, event: Event) -> None:
        before = self.events.get(event.key)
        if before is not None and self.paths.get(before.path) == event.key:
            del self.paths[before.path]
        self.events[event.key] = event
        if event.path:
            self.paths[event.path] = event.key

    def _forget(self, event: Event) -> None:
        del self.events[event.key]
        self.paths.pop(event.path, None)

    def _is_there(self, event: Event, finish: bool) -> bool:
        """Whether the file is complete, by its size; a complete partial file gets its name if `finish`."""
        final, partial = self.folder / event.path, partial_path(self.folder, event.key)
        if final.is_file():
            return final.stat().st_size == event.size
        try:
            is_complete = partial.stat().st_size == event.size and crc_of(partial) == event.crc
        except FileNotFoundError:  # maybe renamed just now by the process that works here
            return not finish and final.is_file()
        if is_complete and finish:
            final.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(final)
            remove_partial(partial)
        return is_complete


def crc_of(path: Path) -> int:
    """The CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            crc = isal_zlib.crc32(piece, crc)
    return int(crc)


def read_events(path: Path) -> dict[str, Event]:
    """The last event of each file."""
    return {event.key: event for event in _lines(path)}


def _lines(path: Path) -> Iterator[Event]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield Event(**json.loads(line))
            except (ValueError, TypeError):
                continue  # the line that a kill has cut


def _open(path: Path) -> int:
    """The journal, to add lines to. A line that was cut is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        os.write(handle, b"\n")
    return handle
