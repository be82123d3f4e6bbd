"""A list of stars in the formats that astronomers' tools open: Parquet, VOTable, FITS and CSV, each with units, UCDs, descriptions and where it
comes from.

What is not known is null in every one: NaN for numbers with a fraction, a mask in VOTable, TNULL in FITS, an empty cell in CSV. Text that is not
known is empty in FITS and Parquet, whose readers know no other way.
"""

import io
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
from survey.tables import columns as describe
from survey.tables.columns import Meaning, described, meanings, spelled

Kind = Literal["parquet", "votable", "fits", "csv"]
ENDINGS: dict[Kind, str] = {"parquet": "parquet", "votable": "vot", "fits": "fits", "csv": "csv"}
COLUMNS = "columns.csv"

FORMS = {
    pa.uint8(): "B",
    pa.int8(): "I",
    pa.int16(): "I",
    pa.int32(): "J",
    pa.int64(): "K",
    pa.float32(): "E",
    pa.float64(): "D",
    pa.bool_(): "L",
}
"""What a type is called in a FITS table."""


def export(
    table: pa.Table,
    folder: str,
    name: str,
    about: Mapping[str, str],
    kinds: tuple[Kind, ...] = tuple(ENDINGS),
) -> list[str]:
    """The table as files of these kinds in a folder or prefix, beside `columns.csv`, its dictionary; the paths of all."""
    table = table.cast(described(table.schema, about))
    made = {files.join(folder, f"{name}.{ENDINGS[kind]}"): _MAKERS[kind](table, about) for kind in kinds}
    made[files.join(folder, COLUMNS)] = _csv(describe.dictionary(table.schema), about)
    for path, data in made.items():
        files.write(path, data)
    return list(made)


def _parquet(table: pa.Table, about: Mapping[str, str]) -> bytes | memoryview:
    said = {**about, **votable.in_parquet(table, about)}
    for number, field in enumerate(table.schema):
        if pa.types.is_string(
            field.type
        ):  # astropy stumbles over null text, and wants to know how long the longest is
            table = table.set_column(number, field, table[field.name].fill_null(""))
            said[f"table::len::{field.name}"] = str(
                max(pc.max(pc.utf8_length(table[field.name])).as_py() or 0, 1)
            )
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(said), sink, compression="zstd")
    return memoryview(sink.getvalue())


def _csv(table: pa.Table, about: Mapping[str, str]) -> bytes | memoryview:
    sink = pa.BufferOutputStream()
    for number, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):  # NaN would be written as a word
            table = table.set_column(
                number, table.schema.field(number), pc.if_else(pc.is_nan(column), None, column)
            )
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return memoryview(sink.getvalue())


def _fits(table: pa.Table, about: Mapping[str, str]) -> bytes | memoryview:
    said = meanings(table.schema)
    columns = [_column(meaning, table[meaning.name].combine_chunks()) for meaning in said]
    primary, body = fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)
    for meaning in said:
        if pa.types.is_boolean(meaning.type):  # astropy writes no third value beside true and false
            letters = pc.if_else(
                table[meaning.name], pa.scalar(ord("T"), pa.int8()), pa.scalar(ord("F"), pa.int8())
            )
            body.data.view(np.ndarray)[meaning.name] = letters.fill_null(0).to_numpy()
    for number, meaning in enumerate(said, 1):
        body.header.update(_cards(number, meaning))
    for hdu in (primary, body):
        for key, value in about.items():
            hdu.header.add_history(f"{key}: {value}".replace("\n", " "))
    sink = io.BytesIO()
    fits.HDUList([primary, body]).writeto(sink)
    return sink.getbuffer()


def _cards(number: int, meaning: Meaning) -> dict[str, str]:
    """The header cards of a column beside its name and form."""
    said = {"TUNIT": spelled(meaning.unit, "fits"), "TUCD": meaning.ucd, "TCOMM": meaning.description}
    return {f"{key}{number}": value for key, value in said.items() if value}


def _column(meaning: Meaning, array: pa.Array) -> fits.Column:
    """A column of a FITS table, with the number that stands for null where whole numbers need one."""
    if pa.types.is_string(array.type):
        text = np.array([word.encode("ascii", "replace") for word in array.fill_null("").to_pylist()], bytes)
        return fits.Column(meaning.name, f"{max(text.itemsize, 1)}A", array=text)
    if array.type not in FORMS:
        raise ValueError(
            f"catalog: column {meaning.name} is {array.type}; exports have numbers, text and true/false only: leave it out"
        )
    form = FORMS[array.type]
    if pa.types.is_floating(array.type):
        return fits.Column(meaning.name, form, array=array.fill_null(np.nan).to_numpy(zero_copy_only=False))
    if pa.types.is_boolean(array.type):
        return fits.Column(meaning.name, form, array=array.fill_null(False).to_numpy(zero_copy_only=False))
    numbers, null = pc.cast(array, pa.int64()), None
    if numbers.null_count:
        there = set(pc.unique(numbers).to_pylist())
        null = next(number for number in _numbers(form) if number not in there)
        numbers = numbers.fill_null(null)
    return fits.Column(meaning.name, form, array=numbers.to_numpy(), null=null)


def _numbers(form: str) -> range:
    """The whole numbers that a column can hold."""
    bits = {"I": 16, "J": 32, "K": 64}
    return range(-(1 << bits[form] - 1), 1 << bits[form] - 1) if form in bits else range(256)


_MAKERS = {"parquet": _parquet, "votable": votable.document, "fits": _fits, "csv": _csv}
