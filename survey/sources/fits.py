"""Bytes of a FITS file become images and table columns, fast enough for millions of small files.

Only what surveys write every day is read here: plain images, and binary tables with columns of fixed width.
The rest (scaled numbers, columns of several axes, rows of variable length) goes to astropy, which is a
thousand times slower. Nothing is parsed before it is needed, and arrays are views of the file's bytes. A
size in a header is compared with the bytes that are there before it is used. What cannot be read is
`Refused`.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, TypeAlias

import numpy as np

from survey.sources.header import CELL_TYPES, LONGEST_SHARED, Cards, shared_cards
from survey.spectrum import Refused

BLOCK = 2880
LONGEST_HEADER = 1 << 20
MOST_HDUS = 1000
Bytes: TypeAlias = bytes | bytearray

_END = b"END" + b" " * 77
_PIXELS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class Hdu:
    """One header with its data."""

    __slots__ = ("_data", "_index", "_kind", "_start", "cards", "shape", "stop")

    def __init__(self, data: Bytes, index: int, header_start: int) -> None:
        header, self._start = _header(data, header_start)
        is_shared = index and len(header) < LONGEST_SHARED
        self.cards = cards = shared_cards(header) if is_shared else Cards(header)
        axes = tuple(cards.count(f"NAXIS{axis}") for axis in range(cards.count("NAXIS", highest=9), 0, -1))
        bits = cards.get("BITPIX")
        if type(bits) is not int or bits not in _PIXELS:
            raise Refused("bad_header", f"BITPIX = {bits!r}")
        self.shape: tuple[int, ...] = axes
        size = abs(bits) // 8 * (prod(axes) if axes else 0)
        if index:
            size = max(cards.count("GCOUNT", 1), 1) * (size + abs(bits) // 8 * cards.count("PCOUNT", 0))
        if self._start + size > len(data):
            raise Refused(
                "truncated",
                f"HDU {index} announces {size} bytes of data, {max(len(data) - self._start, 0)} are there",
            )
        self.stop: int = self._start + -(-size // BLOCK) * BLOCK
        self._data, self._index, self._kind = data, index, _PIXELS[bits]

    @property
    def name(self) -> str:
        """EXTNAME as the file states it, or empty."""
        value = self.cards.get("EXTNAME")
        return value if isinstance(value, str) else ""

    @property
    def is_table(self) -> bool:
        """Whether this is a binary table."""
        return self._index > 0 and len(self.shape) == 2 and self.cards.get("XTENSION") == "BINTABLE"

    @property
    def columns(self) -> tuple[str, ...]:
        """Upper-case names of the columns; none if this is no binary table."""
        return tuple(self.cards.columns) if self.is_table else ()

    def image(self) -> np.ndarray:
        """The pixels; a view of the file if they are stored plainly."""
        cards = self.cards
        if cards.get("ZIMAGE") is True:
            raise Refused(
                "unknown_layout",
                f"HDU {self._index} is an image in compressed tiles; unpack it with funpack",
            )
        if cards.get("XTENSION", "IMAGE") != "IMAGE" or not self.shape or 0 in self.shape:
            raise Refused("bad_header", f"HDU {self._index} is no image with pixels")
        if cards.get("BSCALE", 1) != 1 or cards.get("BZERO", 0) != 0 or "BLANK" in cards:
            return _by_astropy(self._data, lambda hdus: hdus[self._index].data)
        pixels = np.frombuffer(self._data, self._kind, prod(self.shape), self._start)
        return pixels.reshape(self.shape)

    def column(self, name: str) -> np.ndarray:
        """A column with one row per row of the table; a view of the file if it is stored plainly."""
        column = self.cards.columns.get(name.upper()) if self.is_table else None
        if column is None or self._kind != "u1":
            raise Refused("bad_header", f"HDU {self._index} has no column {name}")
        rows, width = self.shape
        if not column.plain:
            if column.code in "PQ" and column.repeat and rows:
                self._check_heap(column.code, self._start + column.offset)
            return _by_astropy(self._data, lambda hdus: hdus[self._index].data.field(name))
        cell = np.dtype(f"S{column.repeat or 1}" if column.code == "A" else CELL_TYPES[column.code])
        single = column.repeat == 1 or column.code == "A"
        if not rows * column.repeat:
            return np.empty((rows, column.repeat), cell)
        shape: tuple[int, ...] = (rows,) if single else (rows, column.repeat)
        strides: tuple[int, ...] = (width,) if single else (width, cell.itemsize)
        cells: np.ndarray = np.ndarray(shape, cell, self._data, self._start + column.offset, strides)
        if column.zero:
            unsigned = cell.str.replace("i", "u")
            return np.asarray(np.ascontiguousarray(cells).view(unsigned) ^ np.array(column.zero, unsigned))
        return np.asarray(cells == b"T") if column.code == "L" else cells

    def _check_heap(self, code: str, start: int) -> None:
        """Refuse rows of variable length that together claim more bytes than the heap has."""
        rows, width = self.shape
        kind, heap = ">i4" if code == "P" else ">i8", self.cards.count("PCOUNT")
        lengths: np.ndarray = np.ndarray((rows,), kind, self._data, start, (width,))
        if (lengths < 0).any() or float(lengths.sum(dtype=float)) > heap:
            raise Refused("bad_header", f"rows of variable length claim more than the heap of {heap} bytes")


def _header(data: Bytes, start: int) -> tuple[bytes, int]:
    """The cards of the header that starts here, and where its data start."""
    limit = start + LONGEST_HEADER
    stop = data.find(_END, start, limit)
    while stop >= 0 and (stop - start) % 80:
        stop = data.find(_END, stop + 1, limit)
    if stop < 0:
        if len(data) > limit:
            raise Refused("bad_header", f"no END card in {LONGEST_HEADER} bytes of header")
        raise Refused("truncated", "the header has no END card")
    return bytes(memoryview(data)[start:stop]), start + -(-(stop + 80 - start) // BLOCK) * BLOCK


class Hdus:
    """The HDUs of a file in order. A header is parsed when it is first needed."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._parsed = [Hdu(data, 0, 0)]

    def _parse_next(self) -> bool:
        """Parse one more HDU; false if there is none."""
        start = self._parsed[-1].stop
        if self._data[start : start + 9] != b"XTENSION=":
            return False
        if len(self._parsed) == MOST_HDUS:
            raise Refused("bad_header", f"more than {MOST_HDUS} HDUs")
        self._parsed.append(Hdu(self._data, len(self._parsed), start))
        return True

    def __iter__(self) -> Iterator[Hdu]:
        index = 0
        while index < len(self._parsed) or self._parse_next():
            yield self._parsed[index]
            index += 1

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: str) -> bool:
        return self.by_name(name) is not None

    def __getitem__(self, key: int | str) -> Hdu:
        hdu = self.by_index(key) if isinstance(key, int) else self.by_name(key)
        if hdu is None:
            raise Refused("unknown_layout", f"no HDU {key!r}; there are {self.summary()}")
        return hdu

    def by_index(self, index: int) -> Hdu | None:
        """The HDU with this number, counted from 0; None beyond the last."""
        while len(self._parsed) <= index and self._parse_next():
            pass
        return self._parsed[index] if index < len(self._parsed) else None

    def by_name(self, name: str) -> Hdu | None:
        """The first HDU with this EXTNAME in any case; None if there is none."""
        upper = name.upper()
        return next((hdu for hdu in self if hdu.name.upper() == upper), None)

    def summary(self) -> str:
        """Names and shapes of the first HDUs, for messages."""
        first = [hdu for hdu, _ in zip(self, range(8), strict=False)]
        return ", ".join(f"{hdu.name or 'unnamed'} {hdu.shape}" for hdu in first)


def parse(data: Bytes) -> Hdus:
    """The HDUs of an unpacked FITS file."""
    if not data:
        raise Refused("empty", "no bytes")
    if data[:9] != b"SIMPLE  =":
        raise Refused("not_fits", f"starts with {data[:16]!r}")
    return Hdus(data)


def _by_astropy(data: Bytes, take: Callable[[Any], Any]) -> np.ndarray:
    """What astropy reads. Whatever it raises or warns of becomes `Refused`.

    Compressed images are not decompressed: on damaged tiles, astropy's decoders in C write beyond their
    buffers and end the whole process (astropy 8.0, within two minutes of random damage).
    """
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as hdus:
                values = np.asarray(take(hdus))
        return np.stack([np.asarray(row) for row in values]) if values.dtype.hasobject else values
    except Exception as error:  # a parser of others over damaged bytes may raise anything
        raise Refused("bad_header", f"astropy: {type(error).__name__}: {str(error)[:200]}") from error
