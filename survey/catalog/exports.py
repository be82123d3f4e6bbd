"""A list of stars in the formats that astronomers' tools open: Parquet, VOTable, FITS and CSV, each with
units, UCDs, descriptions and origin.

An unknown value is null in each: NaN for floats, a mask in VOTable, TNULL in FITS, an empty cell in CSV.
Unknown text is empty in FITS and Parquet, because their readers know no other way. On request the columns of
VOTable, FITS and CSV have LAMOST's names (`survey.catalog.names`); Parquet always has ours.
"""

import io
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.io import fits

from survey import files
from survey.catalog import votable
from survey.catalog.names import exported_names, with_lamost_names
from survey.catalog.settings import ColumnNames
from survey.catalog.votable import TableInfo
from survey.tables.columns import DEX, Column, column_table, described_schema, read_columns

FileFormat = Literal["parquet", "votable", "fits", "csv"]
ENDINGS: dict[FileFormat, str] = {"parquet": "parquet", "votable": "vot", "fits": "fits", "csv": "csv"}
COLUMNS_FILE = "columns.csv"

FITS_FORMATS = {
    pa.uint8(): "B",
    pa.int8(): "I",
    pa.int16(): "I",
    pa.int32(): "J",
    pa.int64(): "K",
    pa.float32(): "E",
    pa.float64(): "D",
    pa.bool_(): "L",
}
"""The format of each type in a FITS table."""


def export_table(
    table: pa.Table,
    folder: str,
    about: TableInfo,
    origin: Mapping[str, str],
    formats: tuple[FileFormat, ...] = tuple(ENDINGS),
    names: ColumnNames = "survey",
) -> list[str]:
    """Write the table in these formats to a folder or prefix, with `columns.csv`; returns all paths."""
    table = table.cast(described_schema(table.schema, origin))
    renamed = table.rename_columns(exported_names(table.column_names, names))
    paths = []
    for format_ in formats:  # one after the other: a long list takes gigabytes in each
        paths.append(files.join(folder, f"{about.name}.{ENDINGS[format_]}"))
        files.write(paths[-1], _ENCODERS[format_](table if format_ == "parquet" else renamed, about, origin))
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


def _fits(table: pa.Table, about: TableInfo, origin: Mapping[str, str]) -> bytes | memoryview:
    described = read_columns(table.schema)
    columns = [_fits_column(column, table[column.name].combine_chunks()) for column in described]
    primary, body = fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)
    for column in described:
        if pa.types.is_boolean(column.type):  # astropy writes only true and false, no null
            true, false = pa.scalar(ord("T"), pa.int8()), pa.scalar(ord("F"), pa.int8())
            letters = pc.if_else(table[column.name], true, false)
            body.data.view(np.ndarray)[column.name] = letters.fill_null(0).to_numpy()
    for number, column in enumerate(described, 1):
        body.header.update(_fits_cards(number, column))
    body.header["EXTNAME"] = _ascii(about.name)
    for parameter in about.parameters:
        value = _ascii(parameter.value) if isinstance(parameter.value, str) else parameter.value
        known = isinstance(value, str) or np.isfinite(value)
        body.header[f"HIERARCH {parameter.name}"] = value if known else None
    for text in (about.description, *about.notes):
        body.header.add_comment(_ascii(text))
    for hdu in (primary, body):
        for key, value in origin.items():
            hdu.header.add_history(_ascii(f"{key}: {value}"))
    sink = io.BytesIO()
    fits.HDUList([primary, body]).writeto(sink)
    return sink.getbuffer()


def _fits_cards(number: int, column: Column) -> dict[str, str]:
    """The header cards of a column, except its name and format. FITS has no dex: it is in the description."""
    unit, text = column.unit, column.description
    if unit == DEX:
        unit, text = "", f"{text}, in dex"
    cards = {"TUNIT": unit, "TUCD": column.ucd, "TCOMM": text}
    return {f"{key}{number}": _ascii(value) for key, value in cards.items() if value}


def _ascii(text: str) -> str:
    """A text as a FITS header can hold it: other letters become question marks, line ends blanks."""
    return re.sub(r"[^ -~]", "?", text.replace("\n", " "))


def _fits_column(column: Column, array: pa.Array) -> fits.Column:
    """A column of a FITS table; whole numbers have a number that stands for null if they need one."""
    if pa.types.is_string(array.type):
        text = np.array([word.encode("ascii", "replace") for word in array.fill_null("").to_pylist()], bytes)
        return fits.Column(column.name, f"{max(text.itemsize, 1)}A", array=text)
    if array.type not in FITS_FORMATS:
        raise ValueError(
            f"catalog: column {column.name} is {array.type}; "
            "exports hold numbers, text and true/false only: leave it out"
        )
    form = FITS_FORMATS[array.type]
    if pa.types.is_floating(array.type):
        return fits.Column(column.name, form, array=array.fill_null(np.nan).to_numpy(zero_copy_only=False))
    if pa.types.is_boolean(array.type):
        return fits.Column(column.name, form, array=array.fill_null(False).to_numpy(zero_copy_only=False))
    numbers, null = pc.cast(array, pa.int64()), None
    if numbers.null_count:
        used = set(pc.unique(numbers).to_pylist())
        null = next(number for number in _number_range(form) if number not in used)
        numbers = numbers.fill_null(null)
    return fits.Column(column.name, form, array=numbers.to_numpy(), null=null)


def _number_range(form: str) -> range:
    """The whole numbers that a column of this format can hold."""
    bits = {"I": 16, "J": 32, "K": 64}
    return range(-(1 << bits[form] - 1), 1 << bits[form] - 1) if form in bits else range(256)


_ENCODERS = {"parquet": _parquet, "votable": votable.votable_document, "fits": _fits, "csv": _csv}
