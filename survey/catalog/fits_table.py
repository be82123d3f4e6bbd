"""A list of stars as a FITS table.

Astropy makes the cards of its header. Their order and the rows are made here, because astropy's own writer
looks at each card many times: half a second for the hundred columns of a list with a handful of stars. All
lists have nearly the same columns, so what a card says is made once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from numpy.typing import NDArray

from survey.catalog.votable import TableInfo
from survey.tables.columns import DEX, Column, read_columns

FORMATS = {
    pa.uint8(): ("B", "u1"),
    pa.int8(): ("I", ">i2"),
    pa.int16(): ("I", ">i2"),
    pa.int32(): ("J", ">i4"),
    pa.int64(): ("K", ">i8"),
    pa.float32(): ("E", ">f4"),
    pa.float64(): ("D", ">f8"),
    pa.bool_(): ("L", "u1"),
}
"""The format of each type in a FITS table, and its form in a row."""

LONGEST_NAME = 68
"""Letters of the name of a column, which one card must hold."""
BLOCK = 2880
"""A FITS file consists of blocks of so many bytes."""


def fits_document(table: pa.Table, about: TableInfo, origin: Mapping[str, str]) -> memoryview:
    """The table as a FITS file: an empty image, as FITS wants it, and the table."""
    columns: list[NDArray[Any]] = []
    cards: list[tuple[str, str | int]] = []
    described = read_columns(table.schema)
    names = _names([column.name for column in described])
    for number, (name, column) in enumerate(zip(names, described, strict=True), 1):
        form, values, null = _cells(column, table[column.name].combine_chunks())
        columns.append(values)
        cards += [(f"TTYPE{number}", name), (f"TFORM{number}", form)]
        cards += [(f"TNULL{number}", null)] if null is not None else []
        cards += _description(number, column)
    rows = np.empty(table.num_rows, [(f"f{number}", values.dtype) for number, values in enumerate(columns)])
    for name, values in zip(rows.dtype.names or (), columns, strict=True):
        rows[name] = values
    structure: list[tuple[str, str | int]] = [
        ("XTENSION", "BINTABLE"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", rows.dtype.itemsize),
        ("NAXIS2", len(rows)),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
        ("TFIELDS", len(columns)),
    ]
    about_cards = fits.Header([fits.Card(*card) for card in _about(about)])
    for text in (about.description, *about.notes):
        about_cards.add_comment(_ascii(text))
    document = bytearray()
    before = "".join(_card(key, value) for key, value in (*structure, *cards))
    for first, header in (("", fits.PrimaryHDU().header), (before, about_cards)):
        for key, value in origin.items():
            header.add_history(_ascii(f"{key}: {value}"))
        document += (first + header.tostring(padding=False)).encode("ascii")
        document += b" " * (-len(document) % BLOCK)
    document += rows.data
    document += bytes(-len(document) % BLOCK)
    return memoryview(document)


def _card(key: str, value: str | int) -> str:
    """A card of the header, with more of them behind it if its text is long."""
    return f"{key:8}{_card_text(value)}"


@lru_cache(maxsize=4096)
def _card_text(value: str | int) -> str:
    """All of a card but the eight letters of its key."""
    return str(fits.Card("KEY", value))[8:]


def _about(about: TableInfo) -> Iterator[tuple[str, Any]]:
    """The cards of the whole table: its name, and numbers and texts about it."""
    yield "EXTNAME", _ascii(about.name)
    for parameter in about.parameters:
        value = _ascii(parameter.value) if isinstance(parameter.value, str) else parameter.value
        yield f"HIERARCH {parameter.name}", value if isinstance(value, str) or np.isfinite(value) else None


def _description(number: int, column: Column) -> list[tuple[str, str]]:
    """The cards of a column, except its name and format. FITS has no dex: it is in the description."""
    unit, text = column.unit, column.description
    if unit == DEX:
        unit, text = "", f"{text}, in dex"
    cards = {"TUNIT": unit, "TUCD": column.ucd, "TCOMM": text}
    return [(f"{key}{number}", _ascii(value)) for key, value in cards.items() if value]


def _names(names: Sequence[str]) -> list[str]:
    """The names of columns as one card can hold them: ASCII, not too long, no two alike."""
    fitting: list[str] = []
    for name in names:
        short = start = re.sub(r"[^ -&(-~]", "_", name)[:LONGEST_NAME].strip()
        number = 1
        while short in fitting or (short != name and short in names):
            number += 1
            short = f"{start[: LONGEST_NAME - 4]}_{number}"
        fitting.append(short)
    return fitting


def _ascii(text: str) -> str:
    """A text as a FITS header can hold it: other letters become question marks, line ends blanks."""
    return re.sub(r"[^ -~]", "?", text.replace("\n", " "))


def _cells(column: Column, array: pa.Array) -> tuple[str, NDArray[Any], int | None]:
    """The format of a column, its cells, and the number that stands for null where whole numbers need one."""
    if pa.types.is_string(array.type):
        text = np.array([word.encode("ascii", "replace") for word in array.fill_null("").to_pylist()], bytes)
        return f"{max(text.itemsize, 1)}A", text, None
    if array.type not in FORMATS:
        raise ValueError(
            f"catalog: column {column.name} is {array.type}; "
            "exports hold numbers, text and true/false only: leave it out"
        )
    form, dtype = FORMATS[array.type]
    null = None
    if pa.types.is_boolean(array.type):
        array = pc.if_else(array, pa.scalar(ord("T"), pa.uint8()), pa.scalar(ord("F"), pa.uint8())).fill_null(
            0
        )
    elif pa.types.is_floating(array.type):
        array = array.fill_null(np.nan)
    elif array.null_count:
        array = pc.cast(array, pa.int64())
        used = set(pc.unique(array).to_pylist())
        null = next(number for number in _numbers(dtype) if number not in used)
        array = array.fill_null(null)
    return form, array.to_numpy(zero_copy_only=False).astype(dtype), null


def _numbers(dtype: str) -> range:
    """The whole numbers that a column can hold."""
    limits = np.iinfo(dtype)
    return range(int(limits.min), int(limits.max) + 1)
