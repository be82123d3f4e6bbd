"""Defective files, a closed list: what real archives hold besides sound spectra, each with the reasons for which a reader may refuse it."""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from survey.mock.layouts import Facts, Pixels

Draw = np.random.Generator
BOMB = 65 << 20
"""Bytes of zeros: 1 MiB more than any survey file may have; 65 kB when packed."""


class Defect(NamedTuple):
    """`stage` says what `damage` works on: the cards, the pixels, the unpacked file or the file as it is written; the first two in place."""

    stage: Literal["cards", "pixels", "file", "packed", "folder"]
    reasons: str
    damage: Callable[[Any, Draw], Any]
    packed: bool = False

    def applied(self, stage: str, subject: Any, draw: Draw) -> Any:
        """The subject after the damage, where this is the stage for it."""
        if self.stage != stage:
            return subject
        after = self.damage(subject, draw)
        return subject if after is None else after


def truncated(data: bytes, draw: Draw) -> bytes:
    """The file ends somewhere in its headers or in the pixels that every reader wants."""
    return data[: int(draw.integers(1, min(len(data) - 2880, 70_000)))]


def no_end(data: bytes, draw: Draw) -> bytes:
    """No header has an END card."""
    return data.replace(b"END".ljust(80), b" " * 80)


def no_data(data: bytes, draw: Draw) -> bytes:
    """The headers before the first data, and nothing after."""
    here = 0
    while True:
        header = data[here : data.index(b"END".ljust(80), here)]
        here += -(-(len(header) + 80) // 2880) * 2880
        if b"NAXIS   =                    0" not in header:
            return data[:here]


def with_card(key: bytes, value: bytes) -> Callable[[bytes, Draw], bytes]:
    """All cards of this keyword say something else."""
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
    """A gzip stream that stops early."""
    return data[: int(draw.integers(20, len(data) - 8))]


def flipped(data: bytes, draw: Draw) -> bytes:
    """A gzip stream with one wrong bit in its second half, where only the checksum tells."""
    while True:
        place = int(draw.integers(len(data) // 2, len(data) - 8))
        wrong = data[:place] + bytes([data[place] ^ (1 << int(draw.integers(8)))]) + data[place + 1 :]
        if not _unpacks(wrong):  # one flip in 200 copies the same bytes from another place
            return wrong


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
    """What a server sends instead of a file."""
    return b"<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head><body><h1>Try again later</h1></body></html>\n"


@cache
def bomb() -> bytes:
    """Few bytes that unpack to more than any survey file."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)), packer.flush()])


def blown_up(data: bytes, draw: Draw) -> bytes:
    """A gzip bomb."""
    return bomb()


def nan_flux(pixels: Pixels, draw: Draw) -> None:
    """No flux is a number."""
    pixels["flux"][:] = np.nan


def zero_flux(pixels: Pixels, draw: Draw) -> None:
    """No flux at all, yet inverse variances."""
    pixels["flux"][:] = 0.0


def zero_ivar(pixels: Pixels, draw: Draw) -> None:
    """No pixel is worth anything."""
    pixels["ivar"][:] = 0.0


def constant_wave(pixels: Pixels, draw: Draw) -> None:
    """All wavelengths are one."""
    pixels["wave"][:] = pixels["wave"][0]


def reversed_wave(pixels: Pixels, draw: Draw) -> None:
    """Wavelengths fall from the second pixel on; falling ones throughout are in order in some layouts."""
    pixels["wave"][1:] = pixels["wave"][:0:-1].copy()


def nan_wave(pixels: Pixels, draw: Draw) -> None:
    """Some wavelengths are no numbers."""
    pixels["wave"][draw.integers(0, len(pixels["wave"]), 7)] = np.nan


def sky_fibre(facts: Facts, draw: Draw) -> None:
    """A fibre on the empty sky."""
    facts |= {"objtype": "Sky", "fibertype": "Sky"}


def folder(data: bytes, draw: Draw) -> bytes:
    """A folder in the place of the file: made by the writer."""
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
    "gzip_bomb": Defect("packed", "too_large", blown_up, packed=True),
    "folder": Defect("folder", "not_a_file|missing", folder),
}
"""By name; `folder` is made on disks only, a bucket has none."""

STEPS = {"constant_wave": "0.000000000", "reversed_wave": "-0.000100000", "nan_wave": "NaN"}
"""What COEFF1 says for damaged wavelengths where no row of wavelengths could be damaged."""


def names(local: bool) -> list[str]:
    """The defects that can be made."""
    return [name for name in DEFECTS if local or name != "folder"]
