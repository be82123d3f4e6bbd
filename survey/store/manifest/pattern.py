"""The path of a spectrum from the columns of a catalogue, by a pattern in Python's format style, a batch of rows at a time.

``{planid}`` is the text of a column, ``{lmjd:05d}`` a whole number with leading zeros, ``{obsdate:%Y%m%d}`` a date.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

import pyarrow as pa
import pyarrow.compute as pc

from survey.settings import SettingsError
from survey.tables import cells

LAMOST = "{planid}/spec-{lmjd:05d}-{planid}_sp{spid:02d}-{fiberid:03d}.fits.gz"
SDSS = "spec-{plate:04d}-{mjd:05d}-{fiberid:04d}.fits"


@dataclass(frozen=True)
class Piece:
    """A stretch of a pattern: fixed text, or a column and how it is written."""

    text: str = ""
    column: str = ""
    spec: str = ""

    def written(self, column: pa.Array) -> pa.Array:
        """The cells of its column as text, null where they cannot be written so."""
        if not self.spec.strip("s"):
            return cells.text(column)
        values = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        return self._written(values.dictionary).take(
            values.indices
        )  # a day or a fibre repeats thousands of times

    def _written(self, values: pa.Array) -> pa.Array:
        if self.spec.startswith("%"):
            return pc.strftime(cells.dates(values), format=self.spec)
        number = cells.whole(values)
        wide = int(self.spec[:-1] or 0)
        return pc.utf8_lpad(
            pc.cast(pc.if_else(pc.greater_equal(number, 0), number, None), pa.string()), wide, "0"
        )


def parse(pattern: str) -> tuple[Piece, ...]:
    """The pieces of a pattern, or an error that says what a pattern may hold."""
    pieces = []
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise SettingsError(f"ingest: pattern: {pattern!r}: {error}; write it like {LAMOST}") from None
    for literal, name, spec, conversion in parts:
        if literal:
            pieces.append(Piece(text=literal))
        if name is None:
            continue
        if not name or conversion or not re.fullmatch(r"s?|(0\d+)?d|%.+", spec or ""):
            raise SettingsError(
                f"ingest: pattern: {pattern!r}: cannot write {{{name}:{spec}}}; a field is {{column}}, {{column:05d}} or {{column:%Y%m%d}}"
            )
        pieces.append(Piece(column=name, spec=spec or ""))
    if not any(piece.column for piece in pieces):
        raise SettingsError(
            f"ingest: pattern: {pattern!r}: names no column, every row would have the same path; write it like {LAMOST}"
        )
    return tuple(pieces)


def paths(pieces: Sequence[Piece], columns: dict[str, pa.Array]) -> pa.Array:
    """The path of every row, null where a column that it needs is null."""
    parts = [piece.written(columns[piece.column]) if piece.column else piece.text for piece in pieces]
    return pc.binary_join_element_wise(*parts, "")
