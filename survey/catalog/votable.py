"""A table as a VOTable document (1.4, BINARY2), and its header alone, which the VOParquet convention keeps
in the metadata of a Parquet file.

The document names and describes its table, and gives the frame of its positions (COOSYS), the scale of its
times (TIMESYS) and numbers about the whole table (PARAM). Its rows are made column by column: the usual
writers go through the cells one at a time, minutes for a million stars.
"""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey.tables.columns import Column, read_columns

NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
"""The namespace of versions 1.3 to 1.5."""

NUMBERS = {
    pa.uint8(): ("unsignedByte", "u1"),
    pa.int8(): ("short", ">i2"),
    pa.int16(): ("short", ">i2"),
    pa.int32(): ("int", ">i4"),
    pa.int64(): ("long", ">i8"),
    pa.float32(): ("float", ">f4"),
    pa.float64(): ("double", ">f8"),
    pa.bool_(): ("boolean", "S1"),
}
"""The name of each type in a VOTable, and its form in BINARY2."""

EMPTY_STREAM = '<DATA><BINARY2><STREAM encoding="base64">\n</STREAM></BINARY2></DATA>'
PORTION = 57 * 500
"""Rows that are encoded together: a multiple of 57, the bytes of a line of base64, which stays unbroken."""

PARQUET_VERSION, PARQUET_CONTENT = "IVOA.VOTable-Parquet.version", "IVOA.VOTable-Parquet.content"


SYSTEMS = {
    "pos.eq": ("ICRS", '<COOSYS ID="ICRS" system="ICRS"/>'),
    "time.epoch": (
        "MJD",
        '<TIMESYS ID="MJD" timeorigin="MJD-origin" timescale="UNKNOWN" refposition="TOPOCENTER"/>',
    ),
}
"""The system of columns whose UCD begins like this: its ID, and the element that defines it.

Surveys count days by their own clocks: LAMOST by local time (Beijing), SDSS by atomic time.
"""


@dataclass(frozen=True)
class Parameter:
    """A number or a text about a whole table; NaN = unknown."""

    name: str
    value: float | str
    description: str
    ucd: str = ""


@dataclass(frozen=True)
class TableInfo:
    """What a table says about itself: the name (of its file too), a description, numbers, and notes."""

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    notes: tuple[str, ...] = ()


def votable_document(table: pa.Table, about: TableInfo, origin: Mapping[str, str]) -> memoryview:
    """The whole document: descriptions of the table and its columns, origin, rows.

    The rows are encoded in portions, so that no more than the document itself is in memory.
    """
    columns = [
        _ColumnData(column, table[column.name].combine_chunks()) for column in read_columns(table.schema)
    ]
    page = _page([column.field() for column in columns], about, origin, EMPTY_STREAM, table.num_rows)
    head, end, tail = page.partition("</STREAM>")
    document = io.BytesIO()
    document.write(head.encode())
    for start in range(0, table.num_rows, PORTION):
        rows = _binary2(columns, start, min(start + PORTION, table.num_rows))
        document.write(base64.encodebytes(rows.tobytes()))
    document.write((end + tail).encode())
    return document.getbuffer()


def _binary2(columns: list["_ColumnData"], start: int, stop: int) -> NDArray[np.void]:
    """Some rows in the form BINARY2: a bit for each null, then the cells."""
    null_bytes, count = -(-len(columns) // 8), stop - start
    types = [(f"f{number}", column.dtype) for number, column in enumerate(columns)]
    rows = np.zeros(count, [("nulls", "u1", (null_bytes,)), *types])
    nulls = np.zeros((count, null_bytes * 8), bool)
    for number, column in enumerate(columns):
        cells = column.array.slice(start, count)
        nulls[:, number] = cells.is_null().to_numpy(zero_copy_only=False)
        rows[f"f{number}"] = column.values(cells)
    rows["nulls"] = np.packbits(nulls, axis=1)
    return rows


def parquet_metadata(of: pa.Schema | pa.Table, about: TableInfo, origin: Mapping[str, str]) -> dict[str, str]:
    """File metadata that gives TOPCAT and astropy the units, UCDs and descriptions of a Parquet file.

    The format is the IVOA note VOParquet 1.0. For a whole table it includes the sizes of texts; astropy
    cannot read the file without them.
    """
    if isinstance(of, pa.Table):
        columns = [
            _ColumnData(column, of[column.name].combine_chunks()) for column in read_columns(of.schema)
        ]
        fields = [column.field() for column in columns]
    else:
        fields = [_field(column, *_datatype(column)) for column in read_columns(of)]
    return {PARQUET_VERSION: "1.0", PARQUET_CONTENT: _page(fields, about, origin, "")}


class _ColumnData:
    """A column on its way into BINARY2. Text has as many bytes as the longest text needs."""

    def __init__(self, column: Column, array: pa.Array) -> None:
        self.column, self.array, self.encoding = column, array, ""
        self.datatype, self.size = _datatype(column)
        self.dtype = NUMBERS.get(column.type, ("", ""))[1]
        if self.size:
            is_ascii = pc.all(pc.string_is_ascii(array)).as_py() is not False
            self.datatype, self.encoding, unit = (
                ("char", "ascii", 1) if is_ascii else ("unicodeChar", "utf-16-be", 2)
            )
            # a size of 1 would be a single letter, which is another type
            longest = max([2 * unit, *(len(text) for part in _portions(array) for text in self.values(part))])
            self.size, self.dtype = str(longest // unit), f"S{longest}"

    def field(self) -> str:
        return _field(self.column, self.datatype, self.size)

    def values(self, cells: pa.Array) -> Any:
        """Some cells of it; nulls hold any value, because separate flags mark them."""
        if self.encoding:
            return [text.encode(self.encoding) for text in cells.fill_null("").to_pylist()]
        if pa.types.is_boolean(cells.type):
            return np.where(cells.fill_null(False).to_numpy(zero_copy_only=False), b"T", b"F")
        filled = cells.fill_null(np.nan if pa.types.is_floating(cells.type) else 0)
        return filled.to_numpy(zero_copy_only=False)


def _portions(array: pa.Array) -> Iterator[pa.Array]:
    return (array.slice(start, PORTION) for start in range(0, len(array), PORTION))


def _datatype(column: Column) -> tuple[str, str]:
    """The type and size of a column, whatever its cells hold."""
    if pa.types.is_string(column.type):
        return "char", "*"
    if column.type not in NUMBERS:
        raise ValueError(
            f"catalog: column {column.name} is {column.type}; "
            "exports hold numbers, text and true/false only: leave it out"
        )
    return NUMBERS[column.type][0], ""


def _field(column: Column, datatype: str, size: str) -> str:
    values = {
        "name": column.name,
        "datatype": datatype,
        "arraysize": size,
        "unit": column.unit,
        "ucd": column.ucd,
        "ref": next((name for start, (name, _) in SYSTEMS.items() if column.ucd.startswith(start)), ""),
    }
    return _element("FIELD", values, column.description)


def _parameter(parameter: Parameter) -> str:
    is_text = isinstance(parameter.value, str)
    values = {
        "name": parameter.name,
        "datatype": "char" if is_text else "double",
        "arraysize": "*" if is_text else "",
        "value": parameter.value if isinstance(parameter.value, str) else _number(parameter.value),
        "ucd": parameter.ucd,
    }
    return _element("PARAM", values, parameter.description)


def _number(value: float) -> str:
    return f"{value:.9g}" if np.isfinite(value) else "NaN"


def _element(kind: str, values: Mapping[str, str], description: str) -> str:
    """An element with these attributes, as far as they are not empty, and its description."""
    attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in values.items() if value)
    return f"<{kind} {attributes}><DESCRIPTION>{escape(description)}</DESCRIPTION></{kind}>"


def _page(
    fields: list[str], about: TableInfo, origin: Mapping[str, str], data: str, rows: int | None = None
) -> str:
    return "\n".join(_lines(fields, about, origin, data, rows)) + "\n"


def _lines(
    fields: list[str], about: TableInfo, origin: Mapping[str, str], data: str, rows: int | None
) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<VOTABLE version="1.4" xmlns="{NAMESPACE}">'
    yield '<RESOURCE type="results">'
    for key, value in (*origin.items(), *(("note", note) for note in about.notes)):
        yield f"<INFO name={quoteattr(key)} value={quoteattr(value)}/>"
    yield from (
        element for name, element in SYSTEMS.values() if any(f'ref="{name}"' in field for field in fields)
    )
    size = "" if rows is None else f' nrows="{rows}"'
    yield f"<TABLE name={quoteattr(about.name)}{size}>"
    if about.description:
        yield f"<DESCRIPTION>{escape(about.description)}</DESCRIPTION>"
    yield from map(_parameter, about.parameters)
    yield from fields
    if data:
        yield data
    yield "</TABLE></RESOURCE></VOTABLE>"
