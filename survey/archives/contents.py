"""Whether what arrived is what was asked for: no page of text, no damage.

Small files are looked at as a whole: unpacked, parsed to their last HDU, compared with their own CHECKSUM
and DATASUM, and read by the survey's reader. A catalogue, which may be larger than the memory, is unpacked
piece by piece, and its columns are read.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from isal import igzip

from survey import files
from survey.archives.failures import FetchError
from survey.archives.targets import WantedFile
from survey.sources import fits
from survey.sources.reading import unpack
from survey.spectrum import Refused
from survey.tables.read import DAMAGE, open_table

GZIP = b"\x1f\x8b"
BLANK = b"\xef\xbb\xbf \t\r\n"
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"{", b"<script")
LOGIN = re.compile(rb"log ?in|sign ?in|password|passwd|token|oauth|captcha|unauthori[sz]ed|register", re.I)
ONES = 0xFFFFFFFF
CHUNK = 8 << 20


def check_page(start: bytes, kind: str, is_catalogue: bool, hide: Callable[[str], str]) -> None:
    """An error if the bytes are a page of text: a login, a message of an error, a notice of maintenance.

    The error quotes the page, which may repeat the token of the request: `hide` takes it out.
    """
    text = start.lstrip(BLANK)[:4096].lower()
    if is_catalogue:
        is_page = text.startswith(PAGES) and (not text.startswith(b"<?xml") or b"<html" in text)
    else:
        is_words = start.isascii() and b"\0" not in start and not text.startswith(b"simple")
        is_page = bool(text) and (is_words or text.startswith(PAGES))
    if not is_page and not (is_catalogue and "html" in kind.lower()):
        return
    quotable = hide(start.lstrip(BLANK).decode("utf-8", "replace"))
    title = re.search(r"<title[^>]*>([^<]+)<", quotable, re.I)
    shown = " ".join((title[1][:80] if title else quotable[:60]).split())
    if LOGIN.search(start):
        raise FetchError("needs_login", f"a page in place of the file: {shown}")
    raise FetchError("page", f"a page in place of the file: {shown}")


def check_file(archive: ModuleType, target: WantedFile, name: str, data: bytes, options: Any) -> None:
    """An error if a file is damaged, or not the one that was asked for."""
    if not data:
        raise FetchError("truncated", "no bytes")
    try:
        if name.endswith((".jpg", ".jpeg", ".png")):
            _check_picture(data)
        else:
            _check_fits(unpack(data))
        if found := archive.problem(target, name, data, options):
            raise FetchError("other_file", found)
    except Refused as refused:
        if refused.reason == "too_large":
            raise FetchError("too_large", refused.detail) from None
        raise FetchError("damaged", f"{refused.reason}: {refused.detail}") from None


def _check_picture(data: bytes) -> None:
    """JPEG and PNG have marks at both ends; the ingest decodes what lies between them."""
    is_jpeg = data[:3] == b"\xff\xd8\xff" and data.rstrip(b"\0")[-2:] == b"\xff\xd9"
    is_png = data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in data[-16:]
    if not is_jpeg and not is_png:
        raise FetchError("damaged", f"no complete JPEG or PNG: {data[:8]!r} ... {data[-4:]!r}")


def _check_fits(data: fits.Bytes) -> None:
    """Every HDU is complete and has the checksum that it states."""
    start = 0
    for number, hdu in enumerate(fits.parse(data)):
        part = data[start : min(hdu.stop, len(data))]
        sums = {card: str(hdu.cards.get(card) or "").strip() for card in ("CHECKSUM", "DATASUM")}
        if sums["CHECKSUM"] and checksum(part) not in (ONES, 0):
            raise FetchError("damaged", f"HDU {number}: its CHECKSUM differs")
        has_sum = re.fullmatch(r"\d{1,10}", sums["DATASUM"])
        if has_sum and checksum(part[_data_start(part) :]) != int(sums["DATASUM"]):
            raise FetchError("damaged", f"HDU {number}: its DATASUM differs")
        start = hdu.stop


def _data_start(hdu: fits.Bytes) -> int:
    """Where the data of an HDU begin: behind the block with its END card."""
    card = 0
    while hdu[card : card + 80].rstrip() != b"END":
        card += 80
    return -(-(card + 80) // fits.BLOCK) * fits.BLOCK


def checksum(data: fits.Bytes) -> int:
    """The sum of the FITS standard: 32-bit words in ones' complement, the carry added at the end."""
    padded = bytes(data) + b"\0" * (-len(data) % 4)
    total = int(np.frombuffer(padded, ">u4").sum(dtype=np.uint64))
    while total > ONES:
        total = (total & ONES) + (total >> 32)
    return total


def check_catalogue(path: Path) -> None:
    """An error if a catalogue cannot be unpacked to its end, or has no columns."""
    try:
        with path.open("rb") as file:
            if file.read(2) == GZIP:
                with igzip.open(path, "rb") as unpacked:
                    while unpacked.read(CHUNK):
                        pass
        open_table(str(path), "download")  # the partial file has the ending of the catalogue
    except DAMAGE as error:
        if isinstance(error, files.DiskFullError):
            raise
        text = str(error).replace(str(path.parent), "").split("; give ")[0]
        raise FetchError("damaged", text) from None


def named_by_content(name: str, start: bytes) -> str:
    """The name with or without .gz, as the content is: some servers pack, others unpack."""
    if name.endswith((".fits", ".csv")) and start.startswith(GZIP):
        return f"{name}.gz"
    if name.endswith((".fits.gz", ".csv.gz")) and not start.startswith(GZIP):
        return name.removesuffix(".gz")
    return name
