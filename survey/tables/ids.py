"""Ids of stars in a column of a table.

A floating-point number that is too large for all its digits is no id: it would be that of several stars.
Spreadsheets write such numbers, and pandas where a column of whole numbers has gaps.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.settings import SettingsError
from survey.tables import cells

EXACT = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
"""Below this a floating-point number of so many bits holds each whole number; above it neighbours are one."""

SCIENTIFIC = (
    r"^[-+]?(?:\d+(?:\.(?P<decimals>\d*)[eE]\+?|[eE]\+)(?P<power>\d{1,3})|(?P<too_long>\d{17,})\.0+)$"
)
"""A floating-point number as text; one with a decimal point that is `too_long` was rounded before."""


@dataclass(frozen=True)
class Rounded:
    """How many ids of a column are floating-point numbers without all their digits, and the first of them."""

    count: int = 0
    example: str = ""

    def __add__(self, other: "Rounded") -> "Rounded":
        return Rounded(self.count + other.count, self.example or other.example)

    def message(self, column: str = "") -> str:
        """What is wrong and what to do; empty if nothing is."""
        if not self.count:
            return ""
        where = f"column {column}: " if column else ""
        return (
            f"{where}{self.count:,} ids, such as {self.example}, are floating-point "
            "numbers that do not hold all their digits, so that one is the id of several stars; they are not "
            "used. Write this column as text or as whole numbers"
        )


def id_texts(column: pa.Array) -> tuple[pa.Array, Rounded]:
    """Ids as trimmed text, null where there is none or one without all its digits, and how many of these."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        exact, rounded = _exact(column)
        return cells.text(exact), rounded
    return _with_all_digits(cells.text(column))


def rounded_ids(columns: Iterable[tuple[str, pa.Array]]) -> str:
    """What is wrong with the ids in columns of these names; empty if nothing is."""
    return "; ".join(filter(None, (id_texts(column)[1].message(name) for name, column in columns)))


def exact_ids(column: pa.Array, name: str, where: str) -> list[str | None]:
    """Ids as trimmed text, or an error if some of them lost digits: they would be those of other stars."""
    texts, rounded = id_texts(column)
    if rounded.count:
        raise SettingsError(f"{where}: {rounded.message(name)}")
    return list(texts.to_pylist())


def has_all_digits(text: str) -> bool:
    """Whether a text is not a number such as 3.21099E+18, of which digits are lost."""
    found = re.match(SCIENTIFIC, text)
    if not found:
        return True
    return not found["too_long"] and int(found["power"]) <= len(found["decimals"] or "")


def _exact(column: pa.Array) -> tuple[pa.Array, Rounded]:
    """The floating-point numbers that are small enough for each whole number; null where they are not."""
    value_N = column.to_numpy(zero_copy_only=False)
    inexact_N = np.isfinite(value_N) & (np.abs(value_N) >= EXACT[column.type.bit_width])
    if not inexact_N.any():
        return column, Rounded()
    rounded = Rounded(int(inexact_N.sum()), f"{value_N[inexact_N][0]:.0f}")
    return pc.if_else(pa.array(inexact_N), None, column), rounded


def _with_all_digits(texts: pa.Array) -> tuple[pa.Array, Rounded]:
    """The texts; null for numbers such as 3.21099E+18, as which spreadsheets write ids: digits are lost."""
    parts = pc.extract_regex(texts, SCIENTIFIC)
    if parts.null_count == len(parts):
        return texts, Rounded()
    decimals = pc.utf8_length(pc.struct_field(parts, "decimals"))
    power = pc.replace_substring_regex(pc.struct_field(parts, "power"), "^$", "999")  # too long
    lost = pc.greater(pc.cast(power, pa.int32()), decimals)
    count = pc.sum(lost).as_py() or 0
    rounded = Rounded(count, texts.filter(lost)[0].as_py()) if count else Rounded()
    return pc.if_else(pc.fill_null(lost, False), None, texts), rounded
