"""Survey files -> a store; every spectrum is in it exactly once.

The manifest fixes which file belongs to which shard. A shard is finished if it has a marker with the present
settings and the present version of its manifest rows. All other shards are made by the given function: `map`
in this process, or Ray on a cluster. `store.json` is written last.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.folder import Folder
from survey.progress import Progress
from survey.scratch import scratch_folder
from survey.settings import JobError
from survey.sources import reading
from survey.sources.row_groups import large_row_groups
from survey.store import manifest
from survey.store.make import ShardSpec, make_shard
from survey.store.manifest import IngestPlan
from survey.store.markers import (
    SHARDS,
    IngestMarker,
    complete_markers,
    marker_table,
    missing_files,
    read_part,
    readable_now,
    refused_examples,
)
from survey.store.settings import Ingest, Input
from survey.store.store import STORE, StoreDocument, StoreSettings

PARTS = {"spectra": "spectra", "refused": "refused_files"}
"""The folders of a shard's files, and the fields of its marker that describe them."""

Markers = dict[int, IngestMarker]
"""The markers of finished shards by shard."""

ShardMap = Callable[[Callable[[int], dict[str, Any]], Iterable[int]], Iterator[dict[str, Any]]]
"""Applies a function to shards and gives the results in any order, as they are ready. `map` is one."""


class RefusalsError(JobError):
    """The result is complete, but more was refused than the settings allow."""


@dataclass(frozen=True)
class IngestResult:
    """A finished store, and what this run did: the `plan` of its input, and how many shards it `created`.

    `not_found` are some of the paths that were refused as missing; `note` says what was assumed of tables,
    `slow` which table is slow to read, and the remedy.
    """

    path: str
    document: StoreDocument
    created: int
    plan: IngestPlan
    not_found: tuple[str, ...] = ()
    note: str = ""
    slow: str = ""

    @property
    def refused_share(self) -> float:
        """Share of the rows that were refused."""
        return sum(self.document.refused.values()) / max(self.document.rows_in, 1)


def ingest(settings: Ingest, run: ShardMap = map) -> IngestResult:
    """Make, extend or complete the store. A finished store with nothing new in its input stays as it is."""
    folder = Folder(files.absolute(settings.store), STORE)
    of_the_plan = settings.model_dump(mode="json", include=set(Input.NOT_IN_RESULT))
    with folder.claim(settings.plain() | of_the_plan):
        result = _ingest(settings, folder, run)
    if result.refused_share > settings.refuse_above:
        raise RefusalsError(_refusals_message(settings, result))
    return result


def _ingest(settings: Ingest, folder: Folder[StoreDocument], run: ShardMap) -> IngestResult:
    plan, spec = plan_shards(settings)
    before = folder.sound_document()
    markers = _finished_shards(spec, settings)
    missing = [shard for shard in range(spec.manifest.shards) if shard not in markers]
    note, slow = check_tables(settings, spec.manifest.shard(missing[0])) if missing else ("", "")
    if before is None or (missing and missing[0] < before.shards):
        folder.withdraw()  # a store is not finished while some of its shards are made again
        before = None
    for marker in _make_missing(run, spec, missing, markers):
        markers[marker.shard] = marker
    if len(markers) != spec.manifest.shards:
        raise RuntimeError(
            f"ingest: {spec.store}: {len(markers)} of {spec.manifest.shards} shards were made; "
            "please report this"
        )
    document = _document(spec, settings, markers)
    if before is None or before.id != document.id:
        folder.withdraw()
        files.write_table(folder.file(SHARDS), marker_table(list(markers.values())), durable=True)
        before = folder.finish(document, [SHARDS])
    return IngestResult(spec.store, before, len(missing), plan, _not_found(spec.store, markers), note, slow)


def describe(settings: Ingest) -> str:
    """What an ingest would read: its input is listed, nothing is written."""
    with scratch_folder("ingest") as folder:
        plan = manifest.plan(settings.model_copy(update={"store": folder}), folder)
    return f"input: {plan}"


def plan_shards(settings: Ingest) -> tuple[IngestPlan, ShardSpec]:
    """Check the settings against the folder, write them and list the input: all before the first shard."""
    store = files.absolute(settings.store)
    settings = settings.model_copy(update={"store": store})
    folder, plain = Folder(store, STORE), settings.plain()
    is_started = bool(files.names(files.join(store, "markers")))
    with folder.undone_on_error():
        if not folder.agree(plain, started=is_started):
            folder.begin(plain, fingerprint=settings.fingerprint())
        plan = manifest.plan(settings, store, partial(_checksums, store))
    return plan, ShardSpec.from_settings(settings)


def check_tables(settings: Ingest, rows: pa.Table, section: str = "") -> tuple[str, str]:
    """Check the tables of spectra among manifest rows. One that cannot be read at all ends the job.

    What is assumed of the first, and which is slow to read, is logged and returned; `section` is written
    before the keys of settings.
    """
    sources = reading.with_options(settings.sources, settings.options)
    note = ""
    for path in _tables(rows):
        with suppress(FileNotFoundError):  # its rows will be refused as missing
            source = reading.table_source(path, sources)
            reading.table_count(source, path, sources[source])
            note = note or reading.table_note(source, path, sources[source], section)
    slow = slow_table(rows)
    for text in filter(None, (note, slow)):
        logging.getLogger(__name__).warning("%s", text)
    return note, slow


def slow_table(rows: pa.Table) -> str:
    """A sentence about the first table among manifest rows that is slow to read; empty if none is."""
    with suppress(FileNotFoundError, ValueError):  # a damaged one is refused where its rows are read
        return next(filter(None, map(large_row_groups, _tables(rows))), "")
    return ""


def _tables(rows: pa.Table) -> list[str]:
    """The tables of spectra among manifest rows."""
    rows = rows.filter(pc.greater_equal(rows["row"], 0))
    return sorted(set(rows["path"].to_pylist()))


def _checksums(store: str, shard: int) -> pa.Table:
    """Path, row and checksum of what a store holds of a shard; empty if the shard is not made yet."""
    columns = {"path": pa.array([], "string"), "row": pa.array([], "int64"), "crc": pa.array([], "int64")}
    tables = [pa.table(columns)]
    for kind, field in PARTS.items():
        table = read_part(store, kind, field, shard, list(columns))
        if table is not None:
            tables.append(table.replace_schema_metadata().cast(tables[0].schema))
    return pa.concat_tables(tables)


def _finished_shards(spec: ShardSpec, settings: Ingest) -> Markers:
    """The shards with these settings and this version of their rows, if all their files are there and sound.

    With `reread`, shards are not finished if some of their refused files may be read by now.
    """
    markers = complete_markers(spec.store, IngestMarker, PARTS, settings.verify)
    finished = {
        shard: marker
        for shard, marker in markers.items()
        if marker.settings == spec.fingerprint
        and marker.version == spec.manifest.versions.get(shard, 0)
        and shard < spec.manifest.shards
    }
    again = readable_now(spec.store, finished.values()) if settings.reread else set()
    return {shard: marker for shard, marker in finished.items() if shard not in again}


def _make_missing(
    run: ShardMap, spec: ShardSpec, missing: list[int], markers: Markers
) -> Iterator[IngestMarker]:
    """Make the missing shards and show the progress."""
    if not missing:
        return
    refused = sum(sum(marker.refused.values()) for marker in markers.values())
    total = sum(spec.manifest.rows_in(shard) for shard in missing)
    results = run(partial(make_shard, spec), missing)
    with Progress("ingest", total, "files") as progress:
        for values in results:
            marker = IngestMarker.model_validate(values)
            refused += sum(marker.refused.values())
            progress.add(marker.files, f"{refused:,} refused")
            yield marker


def _document(spec: ShardSpec, settings: Ingest, markers: Markers) -> StoreDocument:
    """The document of the store. Each row must be written or refused."""
    refused, flagged = Counter[str](), Counter[str]()
    digest = hashlib.sha256(spec.fingerprint.encode())
    for shard in sorted(markers):
        marker = markers[shard]
        refused.update(marker.refused)
        flagged.update(marker.flagged)
        digest.update(f"{shard} {marker.spectra.crc} {marker.refused_files.crc}\n".encode())
    rows_in, written = (
        sum(getattr(marker, name) for marker in markers.values()) for name in ("rows_in", "written")
    )
    if rows_in != written + refused.total():
        raise RuntimeError(
            f"ingest: {spec.store}: {rows_in} rows in, but {written} written and {refused.total()} refused; "
            "please report this"
        )
    return StoreDocument(
        version=STORE.version,
        id=digest.hexdigest()[:16],
        shards=len(markers),
        files=sum(marker.files for marker in markers.values()),
        rows_in=rows_in,
        written=written,
        refused=dict(sorted(refused.items(), key=lambda item: -item[1])),
        flagged=dict(sorted(flagged.items(), key=lambda item: -item[1])),
        grid=settings.prepare.wavelengths(),
        fingerprint=spec.fingerprint,
        settings=StoreSettings.model_validate(settings.plain()),
    )


def _not_found(store: str, markers: Markers, most: int = 2) -> tuple[str, ...]:
    """The first paths that were refused as missing."""
    for shard in sorted(markers):
        if markers[shard].refused.get("missing"):
            return tuple(row["path"] for row in missing_files(store, shard))[:most]
    return ()


def _refusals_message(settings: Ingest, result: IngestResult) -> str:
    refused, rows_in = result.document.refused, result.document.rows_in
    share, examples = result.refused_share, refused_examples(result.path, refused, result.document.shards)
    tried = ""
    if result.not_found:
        advice = "give files= with their folder, and with it forget=missing, which takes out these rows"
        if result.plan.vanished:
            advice = "the input does not name them any more: give forget=missing, which takes out these rows"
        tried = f"; not found are {' and '.join(result.not_found)}: {advice}"
    return (
        f"ingest: {result.path}: the store is complete, but {sum(refused.values()):,} of {rows_in:,} rows "
        f"({share:.1%}) were refused, more than refuse_above={settings.refuse_above:g} allows "
        f"({examples}){tried}; read {files.join(result.path, 'refused')}, "
        f"then correct the input or give refuse_above={min(1.0, share * 1.1):.2g}; "
        "rows of a wrong input stay in the store: forget=missing takes out those whose files are gone and "
        "that the input does not name, and another store= begins without them"
    )
