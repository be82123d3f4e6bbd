"""Patterns of paths in Python's format style: the path of a row from the cells of its columns.

``{planid}`` is the text of a column, ``{lmjd:05d}`` a whole number with leading zeros, ``{obsdate:%Y%m%d}`` a
date.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

import pyarrow as pa
import pyarrow.compute as pc

from survey.settings import SettingsError
from survey.tables import cells

EXAMPLE = "{planid}/spec-{lmjd:05d}-{fiberid:03d}.fits"


@dataclass(frozen=True)
class PatternPiece:
    """A piece of a pattern: fixed text, or a column and its format."""

    text: str = ""
    column: str = ""
    format: str = ""

    def write(self, column: pa.Array) -> pa.Array:
        """The cells of its column as text, null where they do not fit the format."""
        if not self.format.strip("s"):
            return cells.text(column)
        values = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        # a day or a fibre occurs thousands of times
        return self._formatted(values.dictionary).take(values.indices)

    def _formatted(self, values: pa.Array) -> pa.Array:
        if self.format.startswith("%"):
            return pc.strftime(cells.dates(values), format=self.format)
        number = cells.integers(values)
        digits = int(self.format[:-1] or 0)
        not_negative = pc.if_else(pc.greater_equal(number, 0), number, None)
        return pc.utf8_lpad(pc.cast(not_negative, pa.string()), digits, "0")


def parse_pattern(pattern: str) -> tuple[PatternPiece, ...]:
    """The pieces of a pattern. A wrong pattern is an error that explains patterns."""
    where = f"ingest: pattern: {pattern!r}"
    try:
        parsed = list(Formatter().parse(pattern))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}; write it like {EXAMPLE}") from None
    pieces = []
    for text, column, form, conversion in parsed:
        if text:
            pieces.append(PatternPiece(text=text))
        if column is None:
            continue
        if not column or conversion or not re.fullmatch(r"s?|(0\d+)?d|%.+", form or ""):
            raise SettingsError(
                f"{where}: {{{column}:{form}}} is no field; "
                "give {column}, {column:05d} or {column:%Y%m%d}"
            )
        pieces.append(PatternPiece(column=column, format=form or ""))
    if not any(piece.column for piece in pieces):
        raise SettingsError(
            f"{where}: names no column, so all rows would have the same path; write it like {EXAMPLE}"
        )
    return tuple(pieces)


def write_paths(pieces: Sequence[PatternPiece], columns: dict[str, pa.Array]) -> pa.Array:
    """The path of every row, null where a column of the pattern is null."""
    texts = [piece.write(columns[piece.column]) if piece.column else piece.text for piece in pieces]
    return pc.binary_join_element_wise(*texts, "")
