"""Rows that a manifest should not have: their files were never found, or their table became shorter.

After a first attempt with a wrong folder, a manifest has rows whose files do not exist. The numbers of shards
stay, so that no other shard changes: those of such rows become smaller, possibly empty, and are made again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.fetch import other_name
from survey.store.manifest.manifest import Manifest, ManifestPart
from survey.store.markers import missing_files
from survey.store.side_by_side import side_by_side


def never_found(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """Those of the rows that the store refused as missing, and whose files do not exist now either."""
    shards = manifest.shards_of(rows)

    def missing(shard: int) -> list[tuple[int, str]]:
        return _missing_rows(manifest, shard, rows[shards == shard])

    lists = side_by_side(missing, np.unique(shards).tolist(), lambda _: files.is_remote(manifest.store))
    row_path = list(chain.from_iterable(lists))
    paths = [path for _, path in row_path]
    exist = side_by_side(_exists, paths, files.is_remote, "missing", len(paths))
    gone = [row for (row, _), exists in zip(row_path, exist, strict=True) if not exists]
    return np.array(gone, np.int64)


def _missing_rows(manifest: Manifest, shard: int, rows: np.ndarray) -> list[tuple[int, str]]:
    """Those of the rows of a shard that it refused as missing, with their paths."""
    missing = {(row["path"], row["row"]) for row in missing_files(manifest.store, shard)}
    if not missing:
        return []
    table = manifest.shard(shard)
    places = list(zip(table["path"].to_pylist(), table["row"].to_pylist(), strict=True))
    first = manifest.first_row(shard)
    return [(row, places[row - first][0]) for row in rows.tolist() if places[row - first] in missing]


def _exists(path: str) -> bool:
    return bool(files.stat_of(path) or files.stat_of(other_name(path)))


def beyond_end(manifest: Manifest, rows: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Those of the rows that are beyond the last row of their table; `counts` are the rows of tables."""
    found = [np.empty(0, np.int64)]
    if not rows.size or not counts:
        return found[0]
    paths, sizes = pa.array(counts.keys(), pa.string()), np.array(list(counts.values()))
    shards = manifest.shards_of(rows)
    for part in manifest.parts:
        inside = rows[(shards >= part.first_shard) & (shards < part.first_shard + part.shards)]
        if inside.size:
            offsets = inside - manifest.first_row(part.first_shard)
            table = manifest.read(part, ["path", "row"]).take(pa.array(offsets))
            number = pc.fill_null(pc.index_in(table["path"], paths), -1).to_numpy()
            found.append(inside[(number >= 0) & (table["row"].to_numpy() >= sizes[number])])
    return np.concatenate(found)


def without_rows(manifest: Manifest, rows: np.ndarray) -> Manifest:
    """The manifest without these rows, not saved yet. Shards keep their numbers; changed ones are new."""
    if not rows.size:
        return manifest
    shards = manifest.shards_of(rows)
    versions = Counter(manifest.versions)
    versions.update(np.unique(shards).tolist())
    parts = tuple(_part_without(manifest, part, rows, shards) for part in manifest.parts)
    inputs = tuple(
        replace(record, rows=record.rows - int(((rows >= numbers.start) & (rows < numbers.stop)).sum()))
        for record, numbers in manifest.input_rows()
    )
    return replace(manifest, parts=parts, inputs=inputs, versions=dict(versions))


def _part_without(
    manifest: Manifest, part: ManifestPart, rows: np.ndarray, shards: np.ndarray
) -> ManifestPart:
    """A part without these rows, written as a new file."""
    inside = (shards >= part.first_shard) & (shards < part.first_shard + part.shards)
    if not inside.any():
        return part
    kept = np.ones(part.rows, bool)
    kept[rows[inside] - manifest.first_row(part.first_shard)] = False
    removed = np.bincount(shards[inside] - part.first_shard, minlength=part.shards)
    sizes = tuple((np.array(manifest.sizes(part)) - removed).tolist())
    table = manifest.read(part).filter(pa.array(kept))
    smaller = replace(part, rows=table.num_rows, sizes=sizes)
    return manifest.write(smaller, table)
