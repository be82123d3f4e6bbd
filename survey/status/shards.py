"""Folders that are made shard by shard: a store, predictions, a mock survey.

A shard is finished if its marker and its files are there. On a disk every marker is read. In a bucket the
listings say which shards are finished, and some of the markers stand for all where reasons are counted.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from survey import checked, claim, files
from survey.files import Entry
from survey.status.state import FolderState

SAMPLE = 64
"""Markers that are read in a bucket."""
MOST_MISSING = 10
"""Missing shards that are named."""

Marker = dict[str, Any]


@dataclass
class _Shards:
    """What is known of the shards of a folder before they are looked at.

    `kinds` maps the folders of a shard's files to the fields of its marker, `counts` fields of markers to
    words. `fingerprint` and `versions` are those of sound markers, if they are known.
    """

    kinds: dict[str, str]
    counts: dict[str, str]
    rows: int = 0
    fingerprint: str | None = None
    versions: dict[int, int] | None = None


def look_into_store(state: FolderState, written: Marker, document: Marker, exact: bool) -> None:
    """A store: its shards, of its manifest."""
    kinds = {"spectra": "spectra", "refused": "refused_files"}
    expected = _Shards(
        kinds, {"rows_in": "rows", "written": "spectra"}, fingerprint=written.get("fingerprint")
    )
    _read_manifest(state, expected)
    _look_at_shards(state, expected, document, exact)


def look_into_predictions(state: FolderState, written: Marker, document: Marker, exact: bool) -> None:
    """Predictions: the shards of their store, or of the manifest of survey files."""
    source = written["settings"].get("source") or {}
    counts = {"rows_in": "rows", "rows": "spectra", "no_answer": "no answer", "outside_training": "outside"}
    expected = _Shards({"predictions": "predictions"}, counts)
    if source.get("kind") == "files":
        expected.kinds["refused"] = "refused_files"
        _read_manifest(state, expected)
    else:
        path = files.join(str(source.get("path", "")), "store.json")
        try:
            store = files.read_json(path)
            state.total, expected.rows = int(store["shards"]), int(store["written"])
        except (OSError, ValueError, KeyError, TypeError):
            state.notes.append(f"{path} cannot be read, so the number of all shards is not known")
    _look_at_shards(state, expected, document, exact)


def _read_manifest(state: FolderState, expected: _Shards) -> None:
    """The numbers of shards and rows of a manifest, and the versions of its shards."""
    path = files.join(state.path, "manifest.json")
    try:
        values = checked.verify(path, files.read_json(path), "put a copy back")
        state.total, expected.rows = int(values["shards"]), int(values["rows"])
        expected.versions = {int(shard): count for shard, count in values["versions"].items()}
    except FileNotFoundError:
        state.notes.append("the input is not listed yet, so the number of shards is not known")
    except (ValueError, KeyError, TypeError) as error:
        state.damage(str(error))


def _look_at_shards(state: FolderState, expected: _Shards, document: Marker, exact: bool) -> None:
    """Which shards are finished, what they hold, and how fast they were made."""
    state.unit = "shards"
    listed = _entries(state.path, "markers")
    sizes = {kind: _sizes(state.path, kind) for kind in expected.kinds}
    there = [shard for shard in listed if all(shard in sizes[kind] for kind in sizes)]
    reads_all = exact or not files.is_remote(state.path)
    chosen = there if reads_all else there[:: max(-(-len(there) // SAMPLE), 1)]
    markers = _read(state, {shard: listed[shard] for shard in chosen})
    newest = max(markers, key=lambda shard: listed[shard].stamp, default=0)
    fingerprint = expected.fingerprint or markers.get(newest, {}).get("settings")

    def is_sound(shard: int, marker: Marker) -> bool:
        if not marker or marker["settings"] != fingerprint:
            return False
        if expected.versions is not None and marker["version"] != expected.versions.get(shard, 0):
            return False
        return all(sizes[kind][shard] == marker[field]["size"] for kind, field in expected.kinds.items())

    sound = {shard: marker for shard, marker in markers.items() if is_sound(shard, marker)}
    done = set(there) - (set(markers) - set(sound))
    state.done = len(done)
    state.missing = [shard for shard in range(state.total or 0) if shard not in done][:MOST_MISSING]
    _compare(state, document, len(listed) - len(done))
    if document and state.state == "finished":
        state.rows = {name: int(document[field]) for field, name in expected.counts.items()}
        state.refused = dict(document["refused"])
    else:
        _count(state, list(sound.values()), expected.counts)
    state.rows_each = expected.rows / state.total if state.total else 0.0
    state.measure((listed[shard].stamp for shard in done), time.time())


def _compare(state: FolderState, document: Marker, unsound: int) -> None:
    """Note shards that have to be made again, and those of a document that are not there."""
    lost = int(document["shards"]) - state.done if document else 0
    if unsound and not document:
        text = f"{unsound:,} shards are damaged or of older settings; survey {state.job} makes them again"
        state.notes.append(text)
    elif lost > 0 and state.state != "running":
        state.damage(f"{lost:,} shards are damaged or missing; run survey {state.job} again to make them")
    elif document and state.total is not None and state.done < state.total:
        text = f"the input has grown by {state.total - state.done:,} shards; run survey {state.job} again"
        state.notes.append(text)


def _sizes(folder: str, kind: str) -> dict[int, int]:
    return {shard: entry.size for shard, entry in _entries(folder, kind).items()}


def _entries(folder: str, kind: str) -> dict[int, Entry]:
    """The files of a kind by shard, in their order. Unfinished writes are omitted."""
    within, found = files.join(folder, kind), {}
    try:
        for entry in files.walk(within):
            stem = entry.path.rpartition("/")[2].removeprefix("part-").partition(".")[0]
            if stem.isdigit() and not entry.path.endswith(".tmp"):
                found[int(stem)] = entry
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def _read(state: FolderState, entries: dict[int, Entry]) -> dict[int, Marker]:
    """The sound markers, by shard. A damaged one counts as an empty one."""
    paths = [entry.path for entry in entries.values()]
    texts = files.read_all(paths) if files.is_remote(state.path) else map(_bytes, paths)
    found = {}
    for shard, path, text in zip(entries, paths, texts, strict=True):
        try:
            found[shard] = checked.verify(path, json.loads(text), "")
        except ValueError:
            found[shard] = {}
    return found


def _bytes(path: str) -> bytes:
    """The bytes of a marker; none if it was just replaced."""
    try:
        return files.read(path)
    except FileNotFoundError:
        return b""


def _count(state: FolderState, markers: list[Marker], counts: dict[str, str]) -> None:
    """Rows and reasons of the finished shards, from all markers or from some of them."""
    refused = Counter[str]()
    rows = Counter[str]()
    for marker in markers:
        refused.update(marker["refused"])
        rows.update({name: marker.get(field, 0) for field, name in counts.items()})
    factor = state.done / len(markers) if markers else 1.0
    if factor > 1:
        state.estimated = f"estimated from {len(markers):,} of {state.done:,} shards"
    state.rows = {name: round(factor * count) for name, count in rows.items()}
    state.refused = {reason: round(factor * count) for reason, count in refused.most_common()}


def look_at_mock(path: str, names: list[str]) -> FolderState:
    """A mock survey."""
    state = FolderState(path, "mock survey", "mock", unit="chunks")
    is_finished = "mock.json" in names
    written = files.read_json(files.join(path, "mock.json" if is_finished else "mock-begun.json"))
    try:
        settings = written["settings"]
        state.total = -(-int(settings["n"]) // int(settings["chunk"]))
        state.rows_each = int(settings["n"]) / state.total
        if is_finished:
            state.state, state.done = "finished", state.total
            state.rows = {"files": int(written["files"]), "stars": int(written["stars"])}
            return state
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"status: {path}: its mock.json is damaged ({error!r}); make it again") from error
    parts = _entries(path, "labels")
    state.done = len(parts)
    state.rows = {"files": min(state.done * int(settings["chunk"]), int(settings["n"]))}
    state.missing = [chunk for chunk in range(state.total) if chunk not in parts][:MOST_MISSING]
    holder = claim.look(path)
    if holder and holder.is_alive:
        state.state, state.by, state.since = "running", str(holder), holder.since
    state.measure((entry.stamp for entry in parts.values()), time.time())
    return state
