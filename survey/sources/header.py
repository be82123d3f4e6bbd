"""The header of a FITS HDU: its cards by keyword, and the columns of a binary table.

Nothing is parsed before it is needed. The keywords of a header are the same in thousands of files, so their
positions are computed once and shared.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from survey.spectrum import Refused

LONGEST_SHARED = 1 << 17
"""Bytes of a header up to which it is kept for the next files."""

Value: TypeAlias = str | int | float | bool | None
Names: TypeAlias = tuple[tuple[str, ...], ...]
"""Sets of keywords: of each set, the first card that has a value counts."""

CELL_TYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
"""The numpy type of a table's cell by the letter of its TFORM."""

_CARDS = np.dtype([("key", "V10"), ("text", "V70")])
_WIDTHS = {"L": 1, "A": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_UNSIGNED = {"I": 1 << 15, "J": 1 << 31, "K": 1 << 63}
_FORM = re.compile(r"\s*(\d{0,9})([LXABIJKEDCMPQ])")


@cache
def _key(name: str) -> str:
    return f"{name:<8}= "


class _Positions(dict[str, int]):
    """Where the value of each keyword starts in a header.

    `lookups` keeps the positions of sets of cards, for the next file with the same keywords.
    """

    def __init__(self, positions: dict[str, int]) -> None:
        super().__init__(positions)
        self.lookups: dict[Names, list[tuple[int, ...]]] = {}


def _positions(keys: bytes) -> _Positions:
    """The positions in a header with these keywords. If a card is given twice, the first counts."""
    text = keys.decode("ascii")
    starts = range(len(text) - 10, -1, -10)
    return _Positions({text[start : start + 10]: start * 8 + 10 for start in starts})


_shared_positions = lru_cache(maxsize=256)(_positions)
"""All files of a release have the same keywords in the same order: this halves the cost of a header."""


def _value(text: str) -> Value:
    """The value on a card, from the text after the equals sign; None if there is no valid value."""
    if text[:1] == "'":
        stop = text.find("'", 1)
        simple = stop > 0 and text[stop + 1 : stop + 2] != "'"
        return text[1:stop].rstrip() if simple else _quoted(text)
    field, next_character = text[:20], text[20:21]
    if next_character in (" ", "/") and "_" not in field:  # the fixed format of nearly all numbers
        try:
            return float(field) if "." in field else int(field)
        except ValueError:
            pass
    body = text.partition("/")[0].strip()
    if body in ("T", "F"):
        return body == "T"
    try:
        if "_" not in body:  # Python would read 1_000 as a number
            return float(body) if "." in body else int(body)
    except ValueError:
        pass
    if body[:1] == "'":
        return _quoted(text.lstrip())
    try:
        return float(body.upper().replace("D", "E").replace("_", "?"))
    except ValueError:
        return None


def _quoted(text: str) -> str | None:
    """A text in quotes. Quotes inside are written twice."""
    stop = text.find("'", 1)
    while stop >= 0 and text[stop + 1 : stop + 2] == "'":
        stop = text.find("'", stop + 2)
    return None if stop < 0 else text[1:stop].replace("''", "'").rstrip()


class TableColumn(NamedTuple):
    """One column of a binary table: where its cells are in a row, and what they hold.

    `plain` means that numpy can view the cells as they are. `zero` is added to integers to make them
    unsigned.
    """

    offset: int
    repeat: int
    code: str
    plain: bool
    zero: int


class Cards:
    """A header by keyword. A value is parsed when it is looked up."""

    def __init__(self, header: bytes) -> None:
        try:
            self._text = header.decode("ascii")
        except UnicodeDecodeError as error:
            raise Refused(
                "bad_header",
                f"a header with bytes that are not ASCII: {error.object[error.start : error.end]!r}",
            ) from error
        keys = np.frombuffer(header, _CARDS)["key"].tobytes()
        self._positions = (_shared_positions if len(keys) < LONGEST_SHARED else _positions)(keys)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._positions

    def __iter__(self) -> Iterator[str]:
        return (key[:8].rstrip() for key in reversed(self._positions) if key[8:] == "= ")

    def __getitem__(self, name: str) -> Value:
        start = self._positions[_key(name)]
        return _value(self._text[start : start + 70])

    def get(self, name: str, default: Value = None) -> Value:
        """The value of a card, or `default` if there is no such card."""
        start = self._positions.get(_key(name))
        return default if start is None else _value(self._text[start : start + 70])

    def first(self, names: tuple[str, ...]) -> Value:
        """The value of the first of these cards that has one."""
        return self._first(self._starts(names))

    def each(self, names: Names) -> list[Value]:
        """For each set of names, the value of the first card that has one."""
        starts = self._positions.lookups.get(names)
        if starts is None:
            starts = self._positions.lookups[names] = [self._starts(name_set) for name_set in names]
        return [self._first(start) for start in starts]

    def _starts(self, names: tuple[str, ...]) -> tuple[int, ...]:
        starts = (self._positions.get(_key(name)) for name in names)
        return tuple(start for start in starts if start is not None)

    def _first(self, starts: Sequence[int]) -> Value:
        for start in starts:
            if (value := _value(self._text[start : start + 70])) is not None:
                return value
        return None

    def count(self, name: str, default: int | None = None, highest: int = 1 << 40) -> int:
        """A whole number from 0 to `highest` that the structure of the file depends on.

        A missing card is refused unless there is a default.
        """
        value = self.get(name, default)
        if type(value) is not int or not 0 <= value <= highest:
            raise Refused("bad_header", f"{name} = {value!r}; needs a whole number from 0 to {highest}")
        return value

    @cached_property
    def columns(self) -> dict[str, TableColumn]:
        """The columns of a binary table by upper-case name. They are cached with the header."""
        width, offset, columns = self.count("NAXIS1"), 0, dict[str, TableColumn]()
        for number in range(1, self.count("TFIELDS", highest=999) + 1):
            form, name = self.get(f"TFORM{number}"), self.get(f"TTYPE{number}")
            match = _FORM.match(form) if isinstance(form, str) else None
            if match is None:
                raise Refused("bad_header", f"TFORM{number} = {form!r}")
            repeat, code = int(match[1] or 1), match[2]
            if isinstance(name, str):
                column = self._column(number, offset, repeat, code)
                columns.setdefault(name.strip().upper(), column)
            offset += (repeat + 7) // 8 if code == "X" else repeat * _WIDTHS[code]
        if offset > width:
            raise Refused("bad_header", f"NAXIS1 = {width}, but the columns take {offset} bytes")
        return columns

    def _column(self, number: int, offset: int, repeat: int, code: str) -> TableColumn:
        zero = self.get(f"TZERO{number}", 0)
        scaled = self.get(f"TSCAL{number}", 1) != 1 or (zero != 0 and zero != _UNSIGNED.get(code))
        plain = (code in CELL_TYPES or code == "A") and not scaled and f"TDIM{number}" not in self
        return TableColumn(offset, repeat, code, plain, _UNSIGNED[code] if zero and plain else 0)


shared_cards = lru_cache(maxsize=64)(Cards)
"""`Cards` of an extension. Unlike primary headers, these are the same in many files."""
