"""Rows of a plan that want one file: two rows of one key, of cut-outs only if the position is the same too.

Objects may share a name. The first one in the plan keeps it; the position is added to the names of the
others, so that each has its own cut-out, and that of the first is not fetched again.
"""

import json
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey.archives.plan_table import KEY, NEEDED, rows_of
from survey.archives.targets import SAME_NAME, Row, position_text


def without_copies(
    table: pa.Table, before: pa.Table | None, archive: ModuleType, options: Any
) -> tuple[pa.Table, int]:
    """The first row of each file, and how many rows were left out; objects of `before` keep their keys."""
    if archive.is_image(options):
        table = _with_own_keys(table, before, archive, options)
    numbered = pa.table({KEY: table[KEY], "row": pa.array(range(table.num_rows), pa.int64())})
    first = numbered.group_by(KEY).aggregate([("row", "min")])["row_min"].combine_chunks()
    copies = table.num_rows - len(first)
    return table.take(first.take(pc.sort_indices(first))) if copies else table, copies


def _with_own_keys(table: pa.Table, before: pa.Table | None, archive: ModuleType, options: Any) -> pa.Table:
    """The table with another key for each object whose name belongs to an object at another position."""
    position_by_key: dict[str, str] = {}
    for key, row, bad in rows_of(before) if before is not None else ():
        if _is_object(row, bad) and SAME_NAME not in row:
            position_by_key[key] = position_text(row)
    keys, needed = [], []
    for key, row, bad in rows_of(table):
        if _is_object(row, bad) and position_by_key.setdefault(key, position_text(row)) != position_text(row):
            row = row | {SAME_NAME: "true"}
            key = archive.target(row, options).key
        keys.append(key)
        needed.append(json.dumps(row))
    for name, values in ((KEY, keys), (NEEDED, needed)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def _is_object(row: Row, bad: str | None) -> bool:
    """Whether a row names an object, and no catalogue."""
    return not bad and "ra" in row
