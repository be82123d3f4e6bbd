"""Where a file grows until it is complete: a hidden folder, which no job reads."""

from pathlib import Path

PARTIAL = ".partial"


def partial_path(folder: Path, key: str) -> Path:
    """Where the file of a key grows."""
    return folder / PARTIAL / safe_key(key)


def safe_key(key: str) -> str:
    """A key as a part of the name of a file."""
    return "".join(letter if letter.isalnum() or letter in "+.-" else "_" for letter in key)


def notes_of(path: Path) -> Path:
    """The note about a partial file: which version of the file it is of."""
    return path.with_name(f"{path.name}.json")


def remove_partial(path: Path) -> None:
    """Remove a partial file and the note about it."""
    path.unlink(missing_ok=True)
    notes_of(path).unlink(missing_ok=True)
