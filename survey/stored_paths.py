"""Where another folder lies now, from the path that a folder has written down: the store of a run, its
members, the run that it was fine-tuned from.

A relative path is meant from the folder in which the command was given, and a command may be given anywhere.
"""

from pathlib import Path
from typing import Any

from survey import files
from survey.folder import Kind, settings_of

PRESENT = "put it back, or give store= with its present path"


class LostFolderError(FileNotFoundError):
    """A folder that another one has written down is nowhere."""


def find_folder(path: str, owner: str, kind: Kind[Any], identity: str, advice: str = PRESENT) -> str:
    """The finished folder of this kind whose path stands in the folder `owner`.

    Of several places, the one with the right `identity` counts, because another folder may have the same
    name. If there is none, the first one counts: its reader says what differs.
    """
    tried = places(path, owner)
    finished = [place for place in tried if files.exists(files.join(place, kind.file))]
    if not finished:
        raise LostFolderError(
            f"{owner}: the {kind.name} {path}, which it was made with, is not found: "
            f"there is none in {' or '.join(tried)}; {advice}"
        )
    if len(finished) > 1:
        finished.sort(key=lambda place: _identity(place, kind) != identity)
    return finished[0]


def places(path: str, owner: str) -> list[str]:
    """Where a path that the folder `owner` has written down may be, the likeliest place first.

    From the current folder, from that in which the owner's command was given, and beside the owner.
    """
    if files.is_remote(path) or Path(path).is_absolute():
        return [path]
    beside = files.absolute(owner).rpartition("/")[0]
    origin = _command_folder(owner) or beside
    names = ((origin, path), (beside, path), (beside, Path(path).name))
    found = dict.fromkeys(files.absolute(files.join(*name)) for name in names)
    return [path, *(place for place in found if place != files.absolute(path))]


def _command_folder(owner: str) -> str:
    """The folder in which the command was given that made a folder; empty if it is not known."""
    return str(settings_of(owner).get("command_folder", ""))


def _identity(place: str, kind: Kind[Any]) -> str:
    """The id of a finished folder; empty if its document cannot be read."""
    try:
        document = files.read_json(files.join(place, kind.file))
    except ValueError:
        return ""
    return str(document.get("id", "")) if isinstance(document, dict) else ""
