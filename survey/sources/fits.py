"""Bytes of a FITS file become headers, images and table columns, at the speed that millions of small files ask for.

Only what surveys write every day is read here: plain images and binary tables with fields of fixed width. Anything else goes to astropy.
Nothing is parsed before it is asked for, arrays are views of the file's bytes, and no size that a header states is believed before it is
compared with the bytes that are there: what cannot be read is `Refused`.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

from survey.sources import rare_fits
from survey.spectrum import Refused

BLOCK = 2880
LONGEST_HEADER = 1 << 20
LONGEST_SHARED = 1 << 17
MOST_HDUS = 1000
Value: TypeAlias = str | int | float | bool | None
Bytes: TypeAlias = bytes | bytearray
Wanted: TypeAlias = tuple[tuple[str, ...], ...]

_CARDS = np.dtype([("key", "V10"), ("text", "V70")])
_END = b"END" + b" " * 77
_PIXELS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_CELLS = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "A": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_UNSIGNED = {"I": 1 << 15, "J": 1 << 31, "K": 1 << 63}
_FORM = re.compile(r"\s*(\d{0,9})([LXABIJKEDCMPQ])")


@cache
def _key(name: str) -> str:
    return f"{name:<8}= "


class _Places(dict[str, int]):
    """Where the value of each keyword starts in a header; `asked` keeps what sets of cards came to, for the next file of these keywords."""

    def __init__(self, places: dict[str, int]) -> None:
        super().__init__(places)
        self.asked: dict[Wanted, list[tuple[int, ...]]] = {}


def _places(keys: bytes) -> _Places:
    """The places in a header whose keywords are these; of cards given twice the first counts."""
    text = keys.decode("ascii")
    return _Places({text[start : start + 10]: start * 8 + 10 for start in range(len(text) - 10, -1, -10)})


_shared_places = lru_cache(maxsize=256)(_places)
"""The keywords of a header are the same, in the same order, in all files of a release: this halves the cost of a header."""


def _value(text: str) -> Value:
    """The value on a card: `text` is what follows the equals sign; None where there is none or it makes no sense."""
    if text[:1] == "'":
        stop = text.find("'", 1)
        return text[1:stop].rstrip() if stop > 0 and text[stop + 1 : stop + 2] != "'" else _quoted(text)
    field, beyond = text[:20], text[20:21]
    if beyond in (" ", "/") and "_" not in field:  # the fixed format that nearly all numbers are in
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
    """A text in quotes with quotes inside, each written twice."""
    stop = text.find("'", 1)
    while stop >= 0 and text[stop + 1 : stop + 2] == "'":
        stop = text.find("'", stop + 2)
    return None if stop < 0 else text[1:stop].replace("''", "'").rstrip()


class Field(NamedTuple):
    """One column of a binary table: where its cells are in a row and what they hold; `zero` is added to whole numbers to make them unsigned."""

    offset: int
    repeat: int
    code: str
    plain: bool
    zero: int


class Cards:
    """A header by keyword; values are parsed when they are asked for."""

    def __init__(self, header: bytes) -> None:
        try:
            self._text = header.decode("ascii")
        except UnicodeDecodeError as error:
            raise Refused(
                "bad_header",
                f"a header with bytes that are no ASCII text: {error.object[error.start : error.end]!r}",
            ) from error
        keys = np.frombuffer(header, _CARDS)["key"].tobytes()
        self._places = _shared_places(keys) if len(keys) < LONGEST_SHARED else _places(keys)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._places

    def __iter__(self) -> Iterator[str]:
        return (key[:8].rstrip() for key in reversed(self._places) if key[8:] == "= ")

    def __getitem__(self, name: str) -> Value:
        start = self._places[_key(name)]
        return _value(self._text[start : start + 70])

    def get(self, name: str, default: Value = None) -> Value:
        """The value of a card, or `default` where there is no such card."""
        start = self._places.get(_key(name))
        return default if start is None else _value(self._text[start : start + 70])

    def first(self, names: tuple[str, ...]) -> Value:
        """The value of the first of these cards that has one."""
        return self._first([start for name in names if (start := self._places.get(_key(name))) is not None])

    def each(self, wanted: Wanted) -> list[Value]:
        """For each set of names the value of the first that has one."""
        starts = self._places.asked.get(wanted)
        if starts is None:
            starts = [
                tuple(start for name in names if (start := self._places.get(_key(name))) is not None)
                for names in wanted
            ]
            self._places.asked[wanted] = starts
        return [self._first(some) for some in starts]

    def _first(self, starts: Sequence[int]) -> Value:
        for start in starts:
            if (value := _value(self._text[start : start + 70])) is not None:
                return value
        return None

    def count(self, name: str, default: int | None = None, highest: int = 1 << 40) -> int:
        """A whole number from 0 to `highest` that the structure of the file hangs on; a missing card is an error unless there is a default."""
        value = self.get(name, default)
        if type(value) is not int or not 0 <= value <= highest:
            raise Refused("bad_header", f"{name} = {value!r}; needs a whole number from 0 to {highest}")
        return value

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The columns of a binary table by upper-case name; cached with the header, which thousands of files share word for word."""
        width, offset, found = self.count("NAXIS1"), 0, dict[str, Field]()
        for number in range(1, self.count("TFIELDS", highest=999) + 1):
            form, name = self.get(f"TFORM{number}"), self.get(f"TTYPE{number}")
            match = _FORM.match(form) if isinstance(form, str) else None
            if match is None:
                raise Refused("bad_header", f"TFORM{number} = {form!r}")
            repeat, code = int(match[1] or 1), match[2]
            zero = self.get(f"TZERO{number}", 0)
            scaled = self.get(f"TSCAL{number}", 1) != 1 or (zero != 0 and zero != _UNSIGNED.get(code))
            plain = (code in _CELLS or code == "A") and not scaled and f"TDIM{number}" not in self
            if isinstance(name, str):
                found.setdefault(
                    name.strip().upper(),
                    Field(offset, repeat, code, plain, _UNSIGNED[code] if zero and plain else 0),
                )
            offset += (repeat + 7) // 8 if code == "X" else repeat * _WIDTHS[code]
        if offset > width:
            raise Refused("bad_header", f"NAXIS1 = {width}, but the columns take {offset} bytes")
        return found


_shared_cards = lru_cache(maxsize=64)(Cards)
"""Headers of extensions, which unlike primary headers are the same in many files."""


class Hdu:
    """One header with its data."""

    __slots__ = ("_data", "_kind", "_place", "_start", "cards", "shape", "stop")

    def __init__(self, data: Bytes, place: int, header_start: int) -> None:
        header, self._start = _header(data, header_start)
        self.cards = cards = (
            _shared_cards(header) if place and len(header) < LONGEST_SHARED else Cards(header)
        )
        axes = tuple(cards.count(f"NAXIS{axis}") for axis in range(cards.count("NAXIS", highest=9), 0, -1))
        bits = cards.get("BITPIX")
        if type(bits) is not int or bits not in _PIXELS:
            raise Refused("bad_header", f"BITPIX = {bits!r}")
        self.shape: tuple[int, ...] = axes
        size = abs(bits) // 8 * (prod(axes) if axes else 0)
        if place:
            size = max(cards.count("GCOUNT", 1), 1) * (size + abs(bits) // 8 * cards.count("PCOUNT", 0))
        if self._start + size > len(data):
            raise Refused(
                "truncated",
                f"HDU {place} announces {size} bytes of data, {max(len(data) - self._start, 0)} are there",
            )
        self.stop: int = self._start + -(-size // BLOCK) * BLOCK
        self._data, self._place, self._kind = data, place, _PIXELS[bits]

    @property
    def name(self) -> str:
        """EXTNAME as the file states it, or nothing."""
        value = self.cards.get("EXTNAME")
        return value if isinstance(value, str) else ""

    @property
    def is_table(self) -> bool:
        """Whether this is a binary table."""
        return self._place > 0 and len(self.shape) == 2 and self.cards.get("XTENSION") == "BINTABLE"

    @property
    def columns(self) -> tuple[str, ...]:
        """Upper-case names of the columns; none where this is no binary table."""
        return tuple(self.cards.fields) if self.is_table else ()

    def image(self) -> np.ndarray:
        """The pixels, as a view of the file where they are stored plainly."""
        cards = self.cards
        if cards.get("ZIMAGE") is True:
            raise Refused(
                "unknown_layout",
                f"HDU {self._place} is an image in compressed tiles, which are not read; unpack it with funpack",
            )
        if cards.get("XTENSION", "IMAGE") != "IMAGE" or not self.shape or 0 in self.shape:
            raise Refused("bad_header", f"HDU {self._place} is no image with pixels")
        if cards.get("BSCALE", 1) != 1 or cards.get("BZERO", 0) != 0 or "BLANK" in cards:
            return rare_fits.image(self._data, self._place)
        pixels = np.frombuffer(self._data, self._kind, prod(self.shape), self._start)
        return pixels.reshape(self.shape)

    def column(self, name: str) -> np.ndarray:
        """A column, one row per row of the table; as a view of the file where it is stored plainly."""
        field = self.cards.fields.get(name.upper()) if self.is_table else None
        if field is None or self._kind != "u1":
            raise Refused("bad_header", f"HDU {self._place} has no column {name}")
        rows, width = self.shape
        if not field.plain:
            if field.code in "PQ" and field.repeat and rows:
                kind = ">i4" if field.code == "P" else ">i8"
                lengths: np.ndarray = np.ndarray(
                    (rows,), kind, self._data, self._start + field.offset, (width,)
                )
                rare_fits.check_heap(lengths, self.cards.count("PCOUNT"))
            return rare_fits.column(self._data, self._place, name)
        cell = np.dtype(f"S{field.repeat or 1}" if field.code == "A" else _CELLS[field.code])
        single = field.repeat == 1 or field.code == "A"
        if not rows * field.repeat:
            return np.empty((rows, field.repeat), cell)
        shape, strides = ((rows,), (width,)) if single else ((rows, field.repeat), (width, cell.itemsize))
        cells: np.ndarray = np.ndarray(shape, cell, self._data, self._start + field.offset, strides)
        if field.zero:
            unsigned = cell.str.replace("i", "u")
            return np.asarray(np.ascontiguousarray(cells).view(unsigned) ^ np.array(field.zero, unsigned))
        return np.asarray(cells == b"T") if field.code == "L" else cells


def _header(data: Bytes, start: int) -> tuple[bytes, int]:
    """The cards of the header that starts here, and where its data start."""
    limit = start + LONGEST_HEADER
    stop = data.find(_END, start, limit)
    while stop >= 0 and (stop - start) % 80:
        stop = data.find(_END, stop + 1, limit)
    if stop < 0:
        long = len(data) > limit
        raise Refused(
            "bad_header" if long else "truncated",
            f"no END card in {LONGEST_HEADER} bytes of header" if long else "the header has no END card",
        )
    return bytes(data[start:stop]), start + -(-(stop + 80 - start) // BLOCK) * BLOCK


class Hdus:
    """The HDUs of a file in order; each header is parsed when it is first asked for."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._found = [Hdu(data, 0, 0)]

    def _more(self) -> bool:
        """Whether there was one more HDU to find."""
        start = self._found[-1].stop
        if self._data[start : start + 9] != b"XTENSION=":
            return False
        if len(self._found) == MOST_HDUS:
            raise Refused("bad_header", f"more than {MOST_HDUS} HDUs")
        self._found.append(Hdu(self._data, len(self._found), start))
        return True

    def __iter__(self) -> Iterator[Hdu]:
        place = 0
        while place < len(self._found) or self._more():
            yield self._found[place]
            place += 1

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: str) -> bool:
        return self.named(name) is not None

    def __getitem__(self, which: int | str) -> Hdu:
        found = self.at(which) if isinstance(which, int) else self.named(which)
        if found is None:
            raise Refused("unknown_layout", f"no HDU {which!r}; there are {self.outline()}")
        return found

    def at(self, place: int) -> Hdu | None:
        """The HDU at a place counted from 0, or None beyond the last."""
        while len(self._found) <= place and self._more():
            pass
        return self._found[place] if place < len(self._found) else None

    def named(self, name: str) -> Hdu | None:
        """The first HDU of that EXTNAME in any case, or None."""
        wanted = name.upper()
        return next((hdu for hdu in self if hdu.name.upper() == wanted), None)

    def outline(self) -> str:
        """Names and shapes of the first HDUs, for messages."""
        shown = [f"{hdu.name or 'unnamed'} {hdu.shape}" for hdu, _ in zip(self, range(8), strict=False)]
        return ", ".join(shown)


def parse(data: Bytes) -> Hdus:
    """The HDUs of an unpacked FITS file."""
    if not data:
        raise Refused("empty", "no bytes")
    if data[:9] != b"SIMPLE  =":
        raise Refused("not_fits", f"starts with {data[:16]!r}")
    return Hdus(data)
