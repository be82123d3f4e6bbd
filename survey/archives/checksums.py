"""A list of checksums, as md5sum, sha1sum or sha256sum write it, compared with files by their paths.

Files in several folders may share a name, as those of two reductions of SDSS do. So of the lines with the
name of a file, those count whose path has most of the file's folders.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from survey.archives.failures import FetchError
from survey.archives.journal import Event
from survey.settings import SettingsError

CHUNK = 8 << 20
HASHES = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""Kinds of checksums by their number of hexadecimal digits."""


@dataclass(frozen=True)
class Checksums:
    """Folders and checksum of each line of a list, by the name of the file."""

    lines: dict[str, list[tuple[tuple[str, ...], str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Checksums":
        """The checksums of a list; lines that are none are left out."""
        lines: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for line in text.splitlines():
            parts = re.fullmatch(r"\\?([0-9a-fA-F]{32,128}) [ *](.+)", line.strip())
            if parts and len(parts[1]) in HASHES:
                *folders, name = parts[2].split("/")
                lines.setdefault(name, []).append((tuple(folders), parts[1].lower()))
        return cls(lines)

    def of(self, path: str) -> list[str]:
        """What the list gives for a file; several checksums if the paths do not tell which one is meant."""
        *folders, name = path.split("/")
        scores = [(_shared(folders, listed), stated) for listed, stated in self.lines.get(name, [])]
        best = max(scores, default=(0, ""))[0]
        return [stated for score, stated in scores if score == best]

    def check(self, file: Path, path: str) -> None:
        """An error if the list has another checksum for the file that is called `path` in the folder."""
        allowed = self.of(path)
        for kind in dict.fromkeys(HASHES[len(stated)] for stated in allowed):
            if _digest(file, kind) in allowed:
                return
        if allowed:
            raise FetchError("damaged", f"its {HASHES[len(allowed[0])]} is not that of the list")

    def differing(self, folder: Path, events: Iterable[Event]) -> list[tuple[Event, FetchError]]:
        """The complete files of a folder that differ from the list. An error if all of several files do."""
        listed = [event for event in events if event.is_complete and self.of(event.path)]
        errors: dict[str, FetchError] = {}
        paths = {event.path for event in listed}  # a file may be wanted under two keys
        for path in paths:
            try:
                self.check(folder / path, path)
            except FetchError as error:
                errors[path] = error
        if len(errors) == len(paths) > 1:
            raise SettingsError(
                f"download: checksums: {folder}: all {len(paths):,} files that the list names differ from "
                "it; is it the list of another release? nothing was changed; give the right list"
            )
        return [(event, errors[event.path]) for event in listed if event.path in errors]


def _shared(folders: list[str], listed: tuple[str, ...]) -> int:
    """How many of the folders the listed path has, in this order, seen from the file."""
    count, rest = 0, list(listed)
    for folder in reversed(folders):
        if folder in rest:
            count += 1
            rest = rest[: len(rest) - 1 - rest[::-1].index(folder)]
    return count


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
