"""The pictures in the folder of a result: drawn once, and again when the result was made anew."""

from collections.abc import Iterable, Mapping
from typing import Any

from survey import files
from survey.folder import Document

ENDING = ".png"
PICTURES = "pictures.json"
"""The names of the pictures and the result that they are of; written last."""


def keep_pictures(
    folder: str,
    document: Document,
    drawn: Iterable[tuple[str, bytes]],
    left_out: Mapping[str, str] | None = None,
) -> list[str]:
    """Write pictures (name without ending, bytes) unless all of this result are there; their paths.

    They are drawn only then, if `drawn` is a generator. Pictures of another result are removed. `left_out`
    says, when all are drawn, why others are not.
    """
    kept = kept_names(folder, document)
    if kept is not None:
        return [files.join(folder, name) for name in kept]
    before = {name for name in files.names(folder) if name.endswith(ENDING)}
    names = []
    for name, data in drawn:
        names.append(name + ENDING)
        files.write(files.join(folder, names[-1]), data)
    names.sort()
    for name in before - set(names):
        files.remove(files.join(folder, name))
    record = {"names": names, "of": of_result(document)} | ({"left_out": dict(left_out)} if left_out else {})
    files.write_json(files.join(folder, PICTURES), record)
    return [files.join(folder, name) for name in names]


def kept_names(folder: str, document: Document) -> list[str] | None:
    """The names of the pictures of this result; None if they are not drawn, or not all of them."""
    path = files.join(folder, PICTURES)
    drawn = files.read_json(path) if files.exists(path) else {}
    if not isinstance(drawn, dict) or drawn.get("of") != of_result(document):
        return None
    names = list(drawn["names"])
    return names if set(names) <= set(files.names(folder)) else None


def left_out_of(folder: str) -> dict[str, str]:
    """Why pictures are not drawn, by their names."""
    path = files.join(folder, PICTURES)
    written = files.read_json(path) if files.exists(path) else {}
    return dict(written.get("left_out", {})) if isinstance(written, dict) else {}


def of_result(document: Document) -> list[Any]:
    """What pictures follow from: the result, and the program that made it."""
    return [document.id, document.code]
