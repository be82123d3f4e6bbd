"""Cells of a catalogue that should be numbers and cannot be read: `-250,5`, `-250.5 km/s`."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from survey.messages import counted
from survey.tables import cells


@dataclass(frozen=True)
class Unreadable:
    """How many cells of a column cannot be read, and the first of them."""

    count: int = 0
    example: str = ""

    def __add__(self, other: "Unreadable") -> "Unreadable":
        return Unreadable(self.count + other.count, self.example or other.example)

    def message(self, column: str) -> str:
        """What was found and what to do."""
        return (
            f"column {column}: {counted(self.count, 'cell')} not used, such as {self.example!r}, "
            "which is no number. Write numbers with a decimal point and without a unit"
        )


def unreadable_cells(column: pa.Array, values: pa.Array) -> Unreadable:
    """The cells with digits that are no number, of a column and the values that were read of it."""
    column = cells.as_read(column)
    if not pa.types.is_string(column.type) or values.null_count == column.null_count:
        return Unreadable()
    texts = cells.text(column.filter(pc.and_(pc.is_null(values), pc.is_valid(column))))
    texts = texts.filter(pc.and_(pc.is_null(cells.numbers(texts)), pc.match_substring_regex(texts, r"\d")))
    texts = texts.drop_null()
    return Unreadable(len(texts), texts[0].as_py()) if len(texts) else Unreadable()
