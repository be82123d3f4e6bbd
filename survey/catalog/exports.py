"""A list of stars in the formats that astronomers' tools open: Parquet, VOTable, FITS and CSV, each with
units, UCDs, descriptions and origin.

An unknown value is null in each: NaN for floats, a mask in VOTable, TNULL in FITS, an empty cell in CSV.
Unknown text is empty in FITS and Parquet, because their readers know no other way. On request the columns of
VOTable, FITS and CSV have LAMOST's names (`survey.catalog.names`); Parquet always has ours.
"""

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from survey import files
from survey.catalog import votable
from survey.catalog.fits_table import fits_document
from survey.catalog.names import exported_names, with_lamost_names
from survey.catalog.settings import ColumnNames
from survey.catalog.votable import TableInfo
from survey.tables.columns import column_table, described_schema

FileFormat = Literal["parquet", "votable", "fits", "csv"]
ENDINGS: dict[FileFormat, str] = {"parquet": "parquet", "votable": "vot", "fits": "fits", "csv": "csv"}
COLUMNS_FILE = "columns.csv"


def export_table(
    table: pa.Table,
    folder: str,
    about: TableInfo,
    origin: Mapping[str, str],
    formats: tuple[FileFormat, ...] = tuple(ENDINGS),
    names: ColumnNames = "survey",
    describe: bool = True,
) -> list[str]:
    """Write the table in these formats to a folder or prefix, with `columns.csv`; returns all paths.

    `columns.csv` is left out where the caller describes the columns of several tables together.
    """
    table = table.cast(described_schema(table.schema, origin))
    renamed = table.rename_columns(exported_names(table.column_names, names))
    paths = []
    for format_ in formats:  # one after the other: a long list takes gigabytes in each
        paths.append(files.join(folder, f"{about.name}.{ENDINGS[format_]}"))
        files.write(paths[-1], _ENCODERS[format_](table if format_ == "parquet" else renamed, about, origin))
    if describe:
        paths.append(files.join(folder, COLUMNS_FILE))
        files.write(paths[-1], csv_bytes(with_lamost_names(column_table(table.schema))))
    return paths


def csv_bytes(table: pa.Table) -> memoryview:
    """A table as CSV, NaN as an empty cell."""
    sink = pa.BufferOutputStream()
    for number, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):  # NaN would be written as a word
            without_nan = pc.if_else(pc.is_nan(column), None, column)
            table = table.set_column(number, table.schema.field(number), without_nan)
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return memoryview(sink.getvalue())


def _parquet(table: pa.Table, about: TableInfo, origin: Mapping[str, str]) -> bytes | memoryview:
    metadata = {**origin, **votable.parquet_metadata(table, about, origin)}
    for number, field in enumerate(table.schema):
        if pa.types.is_string(
            field.type
        ):  # astropy fails on null text, and needs the length of the longest text
            table = table.set_column(number, field, table[field.name].fill_null(""))
            longest = pc.max(pc.utf8_length(table[field.name])).as_py() or 0
            metadata[f"table::len::{field.name}"] = str(max(longest, 1))
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return memoryview(sink.getvalue())


def _csv(table: pa.Table, about: TableInfo, origin: Mapping[str, str]) -> bytes | memoryview:
    del about, origin  # a CSV has no place for them
    return csv_bytes(table)


_ENCODERS = {"parquet": _parquet, "votable": votable.votable_document, "fits": fits_document, "csv": _csv}
