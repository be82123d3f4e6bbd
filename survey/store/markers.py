"""Markers: one small file per shard that says what the shard's other files hold.

A marker is written last, so its presence means that the shard is finished.
"""

from collections.abc import Mapping
from typing import TypeVar

import pyarrow as pa
from isal import isal_zlib
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from survey import files
from survey.store.store import shard_file


class WrittenFile(BaseModel):
    """A file of a shard: its size and its CRC-32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    crc: int


class Marker(BaseModel):
    """What a shard was made from and what became of its rows.

    `settings` is the fingerprint of the settings, `version` that of the input; a shard made from others is
    out of date.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    rows_in: int
    refused: dict[str, int]
    settings: str
    version: int


class IngestMarker(Marker):
    """A shard of a store: `files` rows of the manifest gave `rows_in` spectra, `written` of them are kept.

    `flagged` counts the spectra with each flag.
    """

    files: int
    written: int
    flagged: dict[str, int] = Field(default_factory=dict)
    spectra: WrittenFile
    refused_files: WrittenFile


M = TypeVar("M", bound=Marker)


def write_checked(path: str, data: pa.Buffer) -> WrittenFile:
    """Write a file of a shard. Its size and checksum go into the marker."""
    files.write(path, memoryview(data))
    return WrittenFile(bytes=data.size, crc=isal_zlib.crc32(data))


def write_marker(folder: str, marker: Marker) -> None:
    """Write the marker of a shard: the shard is finished."""
    files.write_json(shard_file(folder, "markers", marker.shard), marker.model_dump(mode="json"))


def complete_markers(folder: str, marker_type: type[M], kinds: Mapping[str, str]) -> dict[int, M]:
    """The markers by shard, of those shards whose files exist in full size.

    `kinds` maps a folder of such files to the field of the marker that describes them.
    """
    sizes = {kind: _sizes(folder, kind) for kind in (*kinds, "markers")}
    markers = {}
    for text in files.read_all([files.join(folder, "markers", name) for name in sizes["markers"]]):
        try:
            marker = marker_type.model_validate_json(text)
        except ValidationError:
            continue  # a damaged marker proves nothing: the shard is made again
        if all(
            sizes[kind].get(_name(folder, kind, marker.shard)) == getattr(marker, field).bytes
            for kind, field in kinds.items()
        ):
            markers[marker.shard] = marker
    return markers


def missing_files_returned(folder: str, marker: Marker) -> bool:
    """Whether a shard has files that were missing and exist now."""
    if not marker.refused.get("missing"):
        return False
    table = files.read_table(shard_file(folder, "refused", marker.shard), ["path", "reason"])
    return any(row["reason"] == "missing" and files.stat_of(row["path"]) for row in table.to_pylist())


def _name(folder: str, kind: str, shard: int) -> str:
    return shard_file(folder, kind, shard).rpartition("/")[2]


def _sizes(folder: str, kind: str) -> dict[str, int]:
    """The sizes of a kind of files by name. Unfinished writes are omitted."""
    within = files.join(folder, kind)
    entries = files.walk(within) if files.exists(within) else iter(())
    return {entry.path.rpartition("/")[2]: entry.size for entry in entries if not entry.path.endswith(".tmp")}
