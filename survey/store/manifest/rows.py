"""What a row of a manifest is: where one spectrum lies, and what a listing or a catalogue knows of it. Rows travel as Arrow tables."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

COLUMNS = {
    "path": (
        "string",
        "the file, absolute or s3://; `<catalogue>#row-<n>` where a catalogue does not say which (n counts from 1)",
    ),
    "row": ("int64", "the row of a table of spectra; -1 = the file is one item"),
    "size": ("int64", "bytes of the file, null where the listing does not say"),
    "stamp": ("float64", "time of the file's last change in seconds, null where the listing does not say"),
    "obsid": ("int64", "the survey's number of the observation"),
    "star": ("string", "the catalogue's name of the source"),
    "ra": ("float64", "right ascension, degrees"),
    "dec": ("float64", "declination, degrees"),
    "rv": ("float64", "radial velocity, km/s"),
    "z": ("float64", "redshift"),
}
"""The columns of a manifest: Arrow type, meaning. What is not known is null, never -9999."""

SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])

ITEM = -1
"""`row` of a file that is one item."""


def table(count: int, values: Mapping[str, Any]) -> pa.Table:
    """So many manifest rows with these values, null in the other columns; a single value holds for all rows."""
    columns = []
    for field in SCHEMA:
        value = values.get(field.name)
        if value is None or isinstance(value, (str, int, float)):
            columns.append(pa.repeat(pa.scalar(value, field.type), count))
        else:
            columns.append(value if isinstance(value, pa.Array) else pa.array(value, field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)
