"""What a download says about itself: its document and its two tables."""

from typing import Any

import pyarrow as pa

from survey.archives.failures import REASONS
from survey.archives.journal import Event
from survey.archives.plan_table import BAD, KEY, NEEDED
from survey.archives.targets import CATALOGUES
from survey.folder import Document, Kind
from survey.tables.columns import described_field

CATALOGUE, MISSING = "catalogue.parquet", "missing.parquet"


class DownloadDocument(Document):
    """The document of a download: `complete` of `wanted` files are here; `missing` counts the others."""

    archive: str
    wanted: int
    complete: int
    bytes: int
    missing: dict[str, int]
    settings: dict[str, Any]


DOWNLOAD = Kind("download", DownloadDocument, 1, "download", setting="out")


def catalogue_table(plan: pa.Table, events: list[Event], is_image: bool) -> pa.Table:
    """One row for each file that is here, the first that wants it: an ingest takes it as input."""
    row_by_path: dict[str, int] = {}
    for number, event in enumerate(events):
        if event.is_complete and not event.path.startswith(f"{CATALOGUES}/"):
            row_by_path.setdefault(event.path, number)
    rows = list(row_by_path.values())
    kept = plan.take(pa.array(rows, pa.int64())).replace_schema_metadata()
    here = [events[number] for number in rows]
    fields = [
        described_field("image" if is_image else "path", "string", "path of the file in this folder"),
        described_field("bytes", "int64", "size of the file", "byte"),
        described_field("crc32", "int64", "CRC-32 of the file"),
    ]
    own = [
        pa.array([event.path for event in here], pa.string()),
        pa.array([event.size for event in here], pa.int64()),
        pa.array([event.crc for event in here], pa.int64()),
    ]
    for name in kept.column_names:
        if name not in (KEY, BAD, NEEDED):
            fields.append(kept.schema.field(name))
            own.append(kept[name].combine_chunks())
    return pa.table(own, schema=pa.schema(fields))


def missing_table(events: list[Event]) -> pa.Table:
    """One row for each file that is not here, with the reason."""
    missing = [event for event in events if not event.is_complete]
    reasons = "; ".join(f"{reason}: {text}" for reason, text in REASONS.items())
    schema = pa.schema(
        [
            described_field("key", "string", "id of the file, as ids= takes it"),
            described_field("reason", "string", reasons),
            described_field("detail", "string", "what was found"),
            described_field("requests", "int64", "requests that were made for it"),
        ]
    )
    columns = {name: [getattr(event, name) for event in missing] for name in schema.names}
    return pa.table(columns, schema=schema)
