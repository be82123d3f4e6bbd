"""A table as a VOTable document (1.4, BINARY2), and its head alone, which the VOParquet convention keeps in a Parquet file's metadata.

Written column by column: the usual writers go through the cells one at a time, minutes for a list of a million stars.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.tables.columns import Meaning, meanings, spelled

NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
"""That of versions 1.3 to 1.5."""

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
"""What a type is called in a VOTable, and how it lies in BINARY2."""

PARQUET_VERSION, PARQUET_CONTENT = "IVOA.VOTable-Parquet.version", "IVOA.VOTable-Parquet.content"


def document(table: pa.Table, about: Mapping[str, str]) -> bytes:
    """The whole document: what the columns mean, where they come from, the rows."""
    columns = [_Column(meaning, table[meaning.name].combine_chunks()) for meaning in meanings(table.schema)]
    flags = -(-len(columns) // 8)
    rows = np.zeros(
        table.num_rows,
        [("nulls", "u1", (flags,)), *((f"f{number}", column.dtype) for number, column in enumerate(columns))],
    )
    nulls = np.zeros((table.num_rows, flags * 8), bool)
    for number, column in enumerate(columns):
        nulls[:, number] = column.array.is_null().to_numpy(zero_copy_only=False)
        rows[f"f{number}"] = column.values()
    rows["nulls"] = np.packbits(nulls, axis=1)
    stream = base64.encodebytes(rows.tobytes()).decode()
    fields = [column.field() for column in columns]
    return _page(
        fields, about, f'<DATA><BINARY2><STREAM encoding="base64">\n{stream}</STREAM></BINARY2></DATA>'
    ).encode()


def in_parquet(of: pa.Schema | pa.Table, about: Mapping[str, str]) -> dict[str, str]:
    """File metadata from which TOPCAT and astropy know units, UCDs and descriptions of a Parquet file (IVOA's note VOParquet 1.0).

    Of a whole table the sizes of texts are told too; astropy does not read it without.
    """
    if isinstance(of, pa.Table):
        fields = [
            _Column(meaning, of[meaning.name].combine_chunks()).field() for meaning in meanings(of.schema)
        ]
    else:
        fields = [_field(meaning, *_plain(meaning)) for meaning in meanings(of)]
    return {PARQUET_VERSION: "1.0", PARQUET_CONTENT: _page(fields, about, "")}


class _Column:
    """A column on its way into BINARY2: text in as many bytes as the longest one needs."""

    def __init__(self, meaning: Meaning, array: pa.Array) -> None:
        self.meaning, self.array = meaning, array
        self.kind, self.size = _plain(meaning)
        self.dtype = NUMBERS.get(meaning.type, ("", ""))[1]
        if self.size:
            plain = pc.all(pc.string_is_ascii(array)).as_py() is not False
            self.kind, encoding, unit = ("char", "ascii", 1) if plain else ("unicodeChar", "utf-16-be", 2)
            self.text = [text.encode(encoding) for text in array.fill_null("").to_pylist()]
            longest = max(
                [2 * unit, *map(len, self.text)]
            )  # a size of 1 would be a single letter, another type
            self.size, self.dtype = str(longest // unit), f"S{longest}"

    def field(self) -> str:
        return _field(self.meaning, self.kind, self.size)

    def values(self) -> Any:
        """The cells; nulls as anything, for flags of their own mark them."""
        if self.size:
            return self.text
        if pa.types.is_boolean(self.array.type):
            return np.where(self.array.fill_null(False).to_numpy(zero_copy_only=False), b"T", b"F")
        return self.array.fill_null(np.nan if pa.types.is_floating(self.array.type) else 0).to_numpy(
            zero_copy_only=False
        )


def _plain(meaning: Meaning) -> tuple[str, str]:
    """The type and size that a column has whatever is in it."""
    if pa.types.is_string(meaning.type):
        return "char", "*"
    if meaning.type not in NUMBERS:
        raise ValueError(
            f"catalog: column {meaning.name} is {meaning.type}; exports have numbers, text and true/false only: leave it out"
        )
    return NUMBERS[meaning.type][0], ""


def _field(meaning: Meaning, kind: str, size: str) -> str:
    said = {
        "name": meaning.name,
        "datatype": kind,
        "arraysize": size,
        "unit": spelled(meaning.unit, "vounit"),
        "ucd": meaning.ucd,
    }
    attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in said.items() if value)
    return f"<FIELD {attributes}><DESCRIPTION>{escape(meaning.description)}</DESCRIPTION></FIELD>"


def _page(fields: list[str], about: Mapping[str, str], data: str) -> str:
    return "\n".join(_lines(fields, about, data)) + "\n"


def _lines(fields: list[str], about: Mapping[str, str], data: str) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<VOTABLE version="1.4" xmlns="{NAMESPACE}">'
    yield '<RESOURCE type="results">'
    for key, value in about.items():
        yield f"<INFO name={quoteattr(key)} value={quoteattr(value)}/>"
    yield "<TABLE>"
    yield from fields
    if data:
        yield data
    yield "</TABLE></RESOURCE></VOTABLE>"
