"""The document of a folder, and whether the files that it lists are there in full size."""

from typing import Any

from survey import checked, files
from survey.status.state import FolderState

FEW = 20
"""Files that are asked for one by one; more are listed."""


def read_document(state: FolderState, names: list[str]) -> dict[str, Any]:
    """The content of a folder's document; empty if there is none, or if it is damaged."""
    name = f"{state.kind}.json"
    if name not in names:
        return {}
    path = files.join(state.path, name)
    try:
        return checked.verify(
            path, files.read_json(path), f"run survey {state.job} again, which makes it anew"
        )
    except FileNotFoundError:
        return {}  # a job has just withdrawn it
    except ValueError as error:
        state.damage(str(error))
        return {}


def check_content(state: FolderState, document: dict[str, Any]) -> None:
    """Note files of a finished folder that are missing or have another size. Checksums are not compared."""
    content = document.get("content") or {}
    if len(content) <= FEW:
        entries = {name: files.stat_of(files.join(state.path, name)) for name in content}
        sizes = {name: entry.size for name, entry in entries.items() if entry}
    else:
        start = files.join(state.path, "x").removesuffix("x")
        sizes = {entry.path.removeprefix(start): entry.size for entry in files.walk(state.path)}
    wrong = [name for name, written in content.items() if sizes.get(name) != written.get("size")]
    if wrong:
        more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        state.damage(
            f"{files.join(state.path, wrong[0])}{more}: missing, or of another size than it was written; "
            f"run survey {state.job} again, which makes it anew"
        )
