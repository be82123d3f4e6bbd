"""Markers: one small file per shard that says what the shard's other files hold.

A marker is written last, so its presence means that the shard is finished.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from survey import checked, files
from survey.checked import WrittenFile
from survey.progress import Progress
from survey.spectrum import REMEDIES
from survey.store.side_by_side import side_by_side

READERS = 8
"""Files that are checked at a time."""
LONG = 1 << 30
"""Bytes. To check more than that takes a while, so the progress is shown."""
SHARDS = "shards.parquet"
"""The markers of all shards as one table, which the document of the folder lists with its checksum."""


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

    `flagged` counts the spectra with each flag. `home` and `home_shard` say in which other store, and in
    which shard there, the files are; empty = in this store.
    """

    files: int
    written: int
    flagged: dict[str, int] = Field(default_factory=dict)
    spectra: WrittenFile
    refused_files: WrittenFile
    home: str = ""
    home_shard: int = 0


M = TypeVar("M", bound=Marker)

EXAMPLES = 3
"""Reasons of refusals that a message shows an example of."""
BY_CODE = ("plugin_error", "damaged")
"""Reasons that depend on the code of a source: a source that was corrected may read these files."""


def shard_file(folder: str, kind: str, shard: int) -> str:
    """The path of a shard's file. A kind is a folder, such as spectra, refused or markers."""
    return files.join(folder, kind, f"part-{shard:05d}.{'json' if kind == 'markers' else 'parquet'}")


def write_marker(folder: str, marker: Marker) -> None:
    """Write the marker of a shard: the shard is finished."""
    checked.write_json(shard_file(folder, "markers", marker.shard), marker.model_dump(mode="json"))


def complete_markers(
    folder: str, marker_type: type[M], kinds: Mapping[str, str], verify: bool = False
) -> dict[int, M]:
    """The markers by shard, of those shards whose files exist in full size.

    `kinds` maps a folder of such files to the field of the marker that describes them. With `verify`, the
    checksums of the files must be right too; damaged files are logged.
    """
    sizes = {kind: _sizes(folder, kind) for kind in (*kinds, "markers")}
    markers: dict[int, M] = {}
    paths = [files.join(folder, "markers", name) for name in sizes["markers"]]
    for path, text in zip(paths, files.read_all(paths), strict=True):
        try:
            marker = marker_type.model_validate(checked.verify(path, json.loads(text), ""))
        except ValueError:
            continue  # a damaged marker proves nothing: the shard is made again
        if all(
            sizes[kind].get(_name(folder, kind, marker.shard)) == getattr(marker, field).size
            for kind, field in kinds.items()
        ):
            markers[marker.shard] = marker
    return _undamaged(folder, markers, kinds) if verify else markers


def _undamaged(folder: str, markers: dict[int, M], kinds: Mapping[str, str]) -> dict[int, M]:
    """The markers whose files have the right checksums. It reads all of them, a few at a time."""

    def damaged(shard: int) -> list[str]:
        written = {shard_file(folder, kind, shard): getattr(markers[shard], kinds[kind]) for kind in kinds}
        return [path for path, file in written.items() if not file.matches(path)]

    total = sum(getattr(marker, field).size for marker in markers.values() for field in kinds.values())
    sound = {}
    with ThreadPoolExecutor(READERS) as pool, ExitStack() as stack:
        progress = stack.enter_context(Progress("check", len(markers), "shards")) if total > LONG else None
        for shard, paths in zip(markers, pool.map(damaged, markers), strict=True):
            if progress:
                progress.add(1)
            if paths:
                logging.getLogger(__name__).warning("%s: damaged, made anew", ", ".join(paths))
            else:
                sound[shard] = markers[shard]
    return sound


def marker_table(markers: Sequence[Marker]) -> pa.Table:
    """Markers as a table, in the order of the shards; counts by name are JSON."""
    rows = [marker.model_dump(mode="json") for marker in sorted(markers, key=lambda marker: marker.shard)]
    counts = {name for row in rows for name, value in row.items() if isinstance(value, dict)}
    counts -= {name for row in rows for name in row if isinstance(row[name], dict) and "crc" in row[name]}
    return pa.Table.from_pylist([row | {name: json.dumps(row[name]) for name in counts} for row in rows])


def markers_from(table: pa.Table, marker_type: type[M]) -> tuple[M, ...]:
    """The markers in such a table."""
    return tuple(
        marker_type.model_validate(
            {
                name: json.loads(value) if isinstance(value, str) and value.startswith("{") else value
                for name, value in row.items()
            }
        )
        for row in table.to_pylist()
    )


def read_part(folder: str, kind: str, field: str, shard: int, columns: list[str]) -> pa.Table | None:
    """Columns of a shard's file; None if it is missing or damaged. `field` of the marker describes it."""
    path, marker = (shard_file(folder, name, shard) for name in (kind, "markers"))
    try:
        written = WrittenFile.model_validate(checked.read_json(marker, "")[field])
        return files.parse_table(written.read(path, ""), path, columns)
    except (FileNotFoundError, ValueError, KeyError):
        return None


def refused_files(folder: str, shard: int) -> list[dict[str, Any]]:
    """Path, row and reason of what a shard refused."""
    table = read_part(folder, "refused", "refused_files", shard, ["path", "row", "reason"])
    return table.to_pylist() if table else []


def missing_files(folder: str, shard: int) -> list[dict[str, Any]]:
    """Path and row of what a shard refused as missing."""
    return [row for row in refused_files(folder, shard) if row["reason"] == "missing"]


def refused_examples(folder: str, refused: Mapping[str, int], shards: int) -> str:
    """For a message: a refused file of each of the most frequent reasons, with what was found and what may
    help.
    """
    wanted = sorted(refused, key=lambda reason: -refused[reason])[:EXAMPLES]
    found: dict[str, str] = {}
    for shard in range(shards):
        table = read_part(folder, "refused", "refused_files", shard, ["path", "row", "reason", "detail"])
        for row in table.to_pylist() if table else []:
            found.setdefault(row["reason"], _example(row))
        if all(reason in found for reason in wanted):
            break
    lines = [
        f"{reason} {refused[reason]:,}, such as {found.get(reason, 'a file that cannot be shown')}"
        + (f" ({REMEDIES[reason]})" if reason in REMEDIES else "")
        for reason in wanted
    ]
    others = [f"{reason} {count:,}" for reason, count in refused.items() if reason not in wanted]
    return "; ".join([*lines, *others])


def _example(row: dict[str, Any]) -> str:
    place = f" row {row['row']}" if row["row"] >= 0 else ""
    return f"{row['path']}{place}: {row['detail']}"


def readable_now(folder: str, markers: Iterable[Marker]) -> set[int]:
    """The shards that refused files which may be read by now: missing ones that exist, or those over which
    the code of a source failed.
    """
    found, missing = set[int](), dict[int, int]()
    for marker in markers:
        if any(marker.refused.get(reason) for reason in BY_CODE):
            found.add(marker.shard)
        elif count := marker.refused.get("missing"):
            missing[marker.shard] = count

    def look(place: tuple[int, str]) -> None:
        shard, path = place
        if shard not in found and files.stat_of(path):
            found.add(shard)

    lists = side_by_side(partial(missing_files, folder), missing, lambda _: files.is_remote(folder))
    places = ((shard, row["path"]) for shard, rows in zip(missing, lists, strict=True) for row in rows)
    looks = side_by_side(
        look, places, lambda place: files.is_remote(place[1]), "missing", sum(missing.values())
    )
    for _ in looks:
        pass
    return found


def _name(folder: str, kind: str, shard: int) -> str:
    return shard_file(folder, kind, shard).rpartition("/")[2]


def _sizes(folder: str, kind: str) -> dict[str, int]:
    """The sizes of a kind of files by name. Unfinished writes are omitted."""
    within = files.join(folder, kind)
    entries = files.walk(within) if files.exists(within) else iter(())
    return {entry.path.rpartition("/")[2]: entry.size for entry in entries if not entry.path.endswith(".tmp")}
