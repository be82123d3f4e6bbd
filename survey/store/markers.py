"""Markers: one small file per shard that says what the shard's other files hold. Written last, so that its presence says "made"."""

import json
from collections.abc import Iterator
from typing import Any

from survey import files
from survey.store.store import part


def whole(folder: str, kinds: dict[str, str]) -> dict[int, dict[str, Any]]:
    """The markers by shard whose files are all there in full; `kinds` maps a folder of such files to what a marker calls them."""
    sizes = {
        kind: {entry.path.rpartition("/")[2]: entry.size for entry in _files_of(folder, kind)}
        for kind in (*kinds, "markers")
    }
    found = {}
    for text in files.read_all([files.join(folder, "markers", name) for name in sizes["markers"]]):
        try:
            marker = json.loads(text)
        except ValueError:
            continue  # a damaged marker proves nothing: the shard is made again
        shard = marker["shard"]
        names = {kind: part(folder, kind, shard).rpartition("/")[2] for kind in kinds}
        if all(sizes[kind].get(names[kind]) == marker[entry]["bytes"] for kind, entry in kinds.items()):
            found[shard] = marker
    return found


def _files_of(folder: str, kind: str) -> Iterator[files.Entry]:
    within = files.join(folder, kind)
    return (
        (entry for entry in files.walk(within) if not entry.path.endswith(".tmp"))
        if files.exists(within)
        else iter(())
    )
