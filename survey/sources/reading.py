"""The bytes of a survey file become spectra: they are unpacked, parsed, and read by the first source that
can.

Most gzip files have one member that states its size. libdeflate unpacks it at once, 20 % faster than isal. A
file that is different, damaged or larger goes through a stream of isal piece by piece, which shows what is
wrong with it.
"""

from collections.abc import Mapping

import deflate
import numpy as np
from isal import isal_zlib

from survey import plugins
from survey.files import LARGEST
from survey.settings import Settings
from survey.sources import fits
from survey.spectrum import Refused, Spectrum

MOST_MEMBERS = 4096
"""Gzip members of a file. bgzip writes 1,024 members for 64 MiB; each costs some microseconds, however small
it is."""

_PIECE = 1 << 16
_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment] # isal's stub calls it an instance


def spectra(data: fits.Bytes, name: str, sources: Mapping[str, Settings]) -> list[Spectrum]:
    """The spectra of a file; `Refused` if there are none. `sources` are the plugins to try, with their
    options."""
    hdus = fits.parse(unpack(data))
    with np.errstate(all="ignore"):  # the result shows damaged numbers; warnings of numpy add nothing
        for source, settings in sources.items():
            read = getattr(plugins.load("sources", source), "read", None)
            found: list[Spectrum] | None = read(hdus, name, settings) if read else None
            if found is not None:
                return found
    raise Refused("unknown_layout", f"not readable by {', '.join(sources)}; the file has {hdus.summary()}")


def unpack(data: fits.Bytes) -> fits.Bytes:
    """The bytes in a gzip file of one or many members, with checksums compared; other bytes are returned as
    they are."""
    if not data:
        raise Refused("empty", "no bytes")
    if len(data) > LARGEST:
        raise Refused("too_large", f"{len(data)} bytes")
    if data[:2] != b"\x1f\x8b":
        return data
    unpacked = _unpack_single_member(data)
    if unpacked is not None:
        return unpacked
    member, following = _first_member(data, LARGEST)
    if following and following.strip(b"\0"):
        member += _further_members(following, LARGEST - len(member))
    if not member:
        raise Refused("empty", "a gzip file of no bytes")
    return member


def _unpack_single_member(data: fits.Bytes) -> bytearray | None:
    """The bytes of a file with one member; None if the file may be another.

    libdeflate stops after the first member. The last bytes of a file are the checksum and the size of its
    last member. If they fit the first member, there is no other member, or only copies of the first, which
    add no HDU.
    """
    checksum, size = int.from_bytes(data[-8:-4], "little"), int.from_bytes(data[-4:], "little")
    if not 0 < size <= LARGEST:
        return None
    try:
        unpacked: bytearray = deflate.gzip_decompress(data, size)
    except deflate.DeflateError:
        return None
    return unpacked if len(unpacked) == size and isal_zlib.crc32(unpacked) == checksum else None


def _first_member(data: fits.Bytes, most: int) -> tuple[bytes, bytes]:
    """The first member, of at most so many bytes, and the bytes that follow it."""
    stream = isal_zlib.decompressobj(31)
    try:
        member = bytes(stream.decompress(data, most + 1))
    except _DAMAGED as error:
        raise Refused("bad_gzip", str(error)) from error
    if len(member) > most:
        raise Refused("too_large", f"unpacks to more than {LARGEST} bytes")
    if not stream.eof:
        raise Refused("bad_gzip", "the stream ends early")
    return member, bytes(stream.unused_data)


def _further_members(data: bytes, most: int) -> bytes:
    """The members after the first. They are fed in pieces, because a stream copies the bytes that it does
    not use."""
    members: list[bytes] = []
    start = count = 0
    while start < len(data) and (data[start] or data[start:].strip(b"\0")):
        if (count := count + 1) > MOST_MEMBERS:
            raise Refused("bad_gzip", f"more than {MOST_MEMBERS} gzip members")
        stream, size = isal_zlib.decompressobj(31), 0
        while not stream.eof:
            piece = data[start : start + _PIECE]
            if not piece:
                raise Refused("bad_gzip", "the last member ends early")
            try:
                unpacked = bytes(stream.decompress(piece, most - size + 1))
            except _DAMAGED as error:
                raise Refused("bad_gzip", str(error)) from error
            size += len(unpacked)
            if size > most:
                raise Refused("too_large", f"unpacks to more than {LARGEST} bytes")
            start += len(piece) - len(stream.unused_data)
            members.append(unpacked)
        most -= size
    return b"".join(members)
