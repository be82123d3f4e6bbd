"""The kinds of defective files that real archives contain, each with the reasons for which a reader may
refuse it."""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from survey.mock.layouts import CardValues, Pixels

Draw = np.random.Generator
BOMB = 65 << 20
"""Number of zero bytes: 1 MiB more than a survey file may have; 65 kB when gzipped."""


class Defect(NamedTuple):
    """One kind of defect.

    `stage` is what `damage` changes: the cards, the pixels, the unpacked file, or the file as it is written.
    Cards and pixels are changed in place. `packed` means that the file is always gzipped.
    """

    stage: Literal["cards", "pixels", "file", "packed", "folder"]
    reasons: str
    damage: Callable[[Any, Draw], Any]
    packed: bool = False

    def apply(self, stage: str, content: Any, draw: Draw) -> Any:
        """The content after the damage, if the defect belongs to this stage."""
        if self.stage != stage:
            return content
        damaged = self.damage(content, draw)
        return content if damaged is None else damaged


def truncated(data: bytes, draw: Draw) -> bytes:
    """The file ends somewhere in its headers or in the pixels that every reader needs."""
    return data[: int(draw.integers(1, min(len(data) - 2880, 70_000)))]


def no_end(data: bytes, draw: Draw) -> bytes:
    """No header has an END card."""
    return data.replace(b"END".ljust(80), b" " * 80)


def no_data(data: bytes, draw: Draw) -> bytes:
    """The headers before the first data, and nothing after."""
    stop = 0
    while True:
        header = data[stop : data.index(b"END".ljust(80), stop)]
        stop += -(-(len(header) + 80) // 2880) * 2880
        if b"NAXIS   =                    0" not in header:
            return data[:stop]


def with_card(key: bytes, value: bytes) -> Callable[[bytes, Draw], bytes]:
    """All cards of this keyword get another value."""
    card = key.ljust(8) + b"= " + value.rjust(20)

    def damage(data: bytes, draw: Draw) -> bytes:
        start = data.find(key.ljust(8) + b"= ")
        while start >= 0:
            if start % 80 == 0:
                data = data[:start] + card + data[start + len(card) :]
            start = data.find(key.ljust(8) + b"= ", start + 80)
        return data

    return damage


def cut(data: bytes, draw: Draw) -> bytes:
    """The gzip stream ends early."""
    return data[: int(draw.integers(20, len(data) - 8))]


def flipped(data: bytes, draw: Draw) -> bytes:
    """One bit in the second half of the gzip stream is wrong, which only the checksum shows."""
    while True:
        index = int(draw.integers(len(data) // 2, len(data) - 8))
        flipped_byte = bytes([data[index] ^ (1 << int(draw.integers(8)))])
        damaged = data[:index] + flipped_byte + data[index + 1 :]
        if not _unpacks(damaged):  # one flip in 200 copies the same bytes from another position
            return damaged


def _unpacks(data: bytes) -> bool:
    try:
        gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def empty(data: bytes, draw: Draw) -> bytes:
    """No bytes."""
    return b""


def noise(data: bytes, draw: Draw) -> bytes:
    """Random bytes that do not even look like gzip."""
    return b"\x00" + draw.bytes(int(draw.integers(100, 20_000)))


def web_page(data: bytes, draw: Draw) -> bytes:
    """The page that a server sends instead of a file."""
    return (
        b"<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head>"
        b"<body><h1>Try again later</h1></body></html>\n"
    )


@cache
def bomb() -> bytes:
    """A few bytes that unpack to more than any survey file."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)), packer.flush()])


def gzip_bomb(data: bytes, draw: Draw) -> bytes:
    """A gzip bomb."""
    return bomb()


def nan_flux(pixels: Pixels, draw: Draw) -> None:
    """All flux is NaN."""
    pixels["flux"][:] = np.nan


def zero_flux(pixels: Pixels, draw: Draw) -> None:
    """All flux is 0, with positive inverse variances."""
    pixels["flux"][:] = 0.0


def zero_ivar(pixels: Pixels, draw: Draw) -> None:
    """All inverse variances are 0."""
    pixels["ivar"][:] = 0.0


def constant_wave(pixels: Pixels, draw: Draw) -> None:
    """All wavelengths are equal."""
    pixels["wave"][:] = pixels["wave"][0]


def reversed_wave(pixels: Pixels, draw: Draw) -> None:
    """Wavelengths fall from the second pixel on. (In some layouts, wavelengths may fall throughout.)"""
    pixels["wave"][1:] = pixels["wave"][:0:-1].copy()


def nan_wave(pixels: Pixels, draw: Draw) -> None:
    """Some wavelengths are NaN."""
    pixels["wave"][draw.integers(0, len(pixels["wave"]), 7)] = np.nan


def sky_fibre(values: CardValues, draw: Draw) -> None:
    """The fibre points to empty sky."""
    values |= {"objtype": "Sky", "fibertype": "Sky"}


def folder(data: bytes, draw: Draw) -> bytes:
    """A folder stands in the place of the file; the writer creates it."""
    return b""


_HEADER = "bad_header|not_fits|truncated|unknown_layout|too_large"

DEFECTS: dict[str, Defect] = {
    "truncated": Defect("file", "truncated|bad_header|not_fits|unknown_layout", truncated),
    "empty": Defect("packed", "empty", empty),
    "gzip_cut": Defect("packed", "bad_gzip|truncated", cut, packed=True),
    "gzip_bit_flip": Defect("packed", "bad_gzip", flipped, packed=True),
    "no_end_card": Defect("file", _HEADER, no_end),
    "naxis1_huge": Defect("file", _HEADER, with_card(b"NAXIS1", b"1000000000000")),
    "naxis1_negative": Defect("file", _HEADER, with_card(b"NAXIS1", b"-3909")),
    "naxis1_text": Defect("file", _HEADER, with_card(b"NAXIS1", b"'many    '")),
    "wrong_axes": Defect("file", _HEADER, with_card(b"NAXIS", b"1")),
    "no_data": Defect("file", "truncated|bad_header", no_data),
    "random_bytes": Defect("packed", "not_fits|bad_gzip", noise),
    "web_page": Defect("packed", "not_fits|bad_gzip", web_page),
    "nan_flux": Defect("pixels", "no_good_pixel", nan_flux),
    "zero_ivar": Defect("pixels", "no_good_pixel", zero_ivar),
    "zero_flux": Defect("pixels", "low_snr|no_good_pixel|bad_pixels|few_pixels", zero_flux),
    "constant_wave": Defect("pixels", "bad_wavelength", constant_wave),
    "reversed_wave": Defect("pixels", "bad_wavelength", reversed_wave),
    "nan_wave": Defect("pixels", "bad_wavelength", nan_wave),
    "sky_fibre": Defect("cards", "no_object", sky_fibre),
    "gzip_bomb": Defect("packed", "too_large", gzip_bomb, packed=True),
    "folder": Defect("folder", "not_a_file|missing", folder),
}
"""All defects by name. `folder` exists on disks only, because a bucket has no folders."""

STEPS = {"constant_wave": "0.000000000", "reversed_wave": "-0.000100000", "nan_wave": "NaN"}
"""The value of COEFF1 for damaged wavelengths, in the layout without a row of wavelengths."""


def names(local: bool) -> list[str]:
    """The defects that can be written, to a local disk or to a bucket."""
    return [name for name in DEFECTS if local or name != "folder"]
