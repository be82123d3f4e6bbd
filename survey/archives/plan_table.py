"""The plan of a download: a table with a row for each file that is wanted.

A row has the key of its file, what names it in the archive, and all columns of the catalogue that have one
value in each row. The plan is written once for a selection, so that a job that is stopped continues with the
same files. It grows when another selection is given for the same folder.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.archives.journal import COUNT
from survey.archives.settings import Download, Selection
from survey.archives.targets import CATALOGUES, Row, WantedFile

PLAN = "plan.parquet"
KEY, BAD, NEEDED = "key", "bad_row", "needed"
"""Columns of a plan: what identifies a file, why a row names none, and what names it, as JSON."""

SELECTION = b"selection"


def digest_of(settings: Download) -> str:
    """What a selection is: its settings, and size and time of its catalogue."""
    entry = files.stat_of(files.absolute(settings.input)) if settings.input else None
    values = {name: getattr(settings, name) for name in Selection.model_fields}
    text = json.dumps([values, settings.plain(), entry and entry[1:]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_plan(folder: str, settings: Download) -> tuple[pa.Table | None, bool]:
    """The plan of a folder, if there is one, and whether it has this selection already."""
    path = files.join(folder, PLAN)
    if not files.exists(path):
        return None, False
    table = files.read_table(path)
    known = json.loads((table.schema.metadata or {}).get(SELECTION, b"[]"))
    return table, digest_of(settings) in known


def count_selections(folder: str) -> int:
    """How many selections the plan of a folder has."""
    table = files.read_table(files.join(folder, PLAN))
    return len(json.loads((table.schema.metadata or {}).get(SELECTION, b"[]")))


def faults_of(plan: pa.Table | None) -> frozenset[str]:
    """The keys of the rows of a plan that name no file."""
    if plan is None or BAD not in plan.column_names:
        return frozenset()
    return frozenset(plan[KEY].filter(pc.is_valid(plan[BAD])).to_pylist())


def grow(before: pa.Table | None, table: pa.Table, corrected: Collection[str]) -> pa.Table:
    """A plan with another selection; files that are in it already stay as they are.

    Rows that named no file are left out if they are `corrected`: this selection has them.
    """
    if before is None:
        return table
    if corrected:
        is_corrected = pc.is_in(before[KEY], pa.array(sorted(corrected), pa.string()))
        before = before.filter(pc.invert(is_corrected))
    is_new = pc.invert(pc.is_in(table[KEY], before[KEY].combine_chunks()))
    parts = [before.replace_schema_metadata(), table.filter(is_new)]
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):  # numbers in one catalogue, text in the other
        return pa.concat_tables([_as_text(part) for part in parts], promote_options="default")


def write_plan(folder: str, settings: Download, before: pa.Table | None, table: pa.Table) -> pa.Table:
    """Write a plan that has grown by this selection."""
    known: list[str] = []
    if before is not None:
        known = json.loads((before.schema.metadata or {}).get(SELECTION, b"[]"))
    metadata = {SELECTION: json.dumps([*known, digest_of(settings)]).encode()}
    table = table.replace_schema_metadata(metadata)
    files.write_table(files.join(folder, PLAN), table, durable=True)
    files.write_json(files.join(folder, COUNT), {"wanted": table.num_rows})
    return table


def _as_text(table: pa.Table) -> pa.Table:
    return pa.table({name: pc.cast(table[name], pa.string()) for name in table.column_names})


def rows_of(plan: pa.Table) -> Iterator[tuple[str, Row, str | None]]:
    """Key, needed values and fault of each row of a plan."""
    has_bad = BAD in plan.column_names
    for batch in plan.select([KEY, NEEDED, *([BAD] if has_bad else [])]).to_batches(max_chunksize=4096):
        keys, needed = batch.column(KEY).to_pylist(), batch.column(NEEDED).to_pylist()
        bad = batch.column(BAD).to_pylist() if has_bad else [None] * len(keys)
        for key, row, fault in zip(keys, needed, bad, strict=True):
            yield key, json.loads(row), fault


def target_of(key: str, row: Row, archive: ModuleType, options: Any) -> WantedFile:
    """The file of a row of the plan."""
    is_catalogue = key.startswith(f"{CATALOGUES}/")
    target: WantedFile = (
        archive.catalogue(Path(key).name, options) if is_catalogue else archive.target(row, options)
    )
    return target
