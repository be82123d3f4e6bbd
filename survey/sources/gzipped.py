"""Gzip streams become the bytes they hold, fast, and never more of them than a survey file may have.

The ordinary file is one member that tells its size: libdeflate unpacks it at once, in a fifth less time than isal. Whatever is different,
cut, damaged or larger goes through isal's stream, piece by piece, which finds out what it is.
"""

import deflate
from isal import isal_zlib

from survey.files import LARGEST
from survey.spectrum import Refused

MOST_MEMBERS = 4096
"""64 MiB in the blocks of 64 KiB that bgzip writes are 1,024 members; every member costs some microseconds, however small it is."""

_PIECE = 1 << 16
_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment] # isal's stub calls it an instance


def unpack(data: bytes) -> bytes | bytearray:
    """The bytes inside a gzip file of one or many members, checksums compared; bytes that are not gzip as they are."""
    if not data:
        raise Refused("empty", "no bytes")
    if len(data) > LARGEST:
        raise Refused("too_large", f"{len(data)} bytes")
    if data[:2] != b"\x1f\x8b":
        return data
    whole = _at_once(data)
    if whole is not None:
        return whole
    member, rest = _member(data, LARGEST)
    if rest and rest.strip(b"\0"):
        member += _further_members(rest, LARGEST - len(member))
    if not member:
        raise Refused("empty", "a gzip file of no bytes")
    return member


def _at_once(data: bytes) -> bytearray | None:
    """The bytes of an ordinary file; None where it may be another.

    libdeflate stops after the first member. The file's last bytes are checksum and size of the last one: where they fit what was found,
    there was no other member, or only copies of the first, after which no HDU can follow.
    """
    checksum, size = int.from_bytes(data[-8:-4], "little"), int.from_bytes(data[-4:], "little")
    if not 0 < size <= LARGEST:
        return None
    try:
        found: bytearray = deflate.gzip_decompress(data, size)
    except deflate.DeflateError:
        return None
    return found if len(found) == size and isal_zlib.crc32(found) == checksum else None


def _member(data: bytes, room: int) -> tuple[bytes, bytes]:
    """The first member and what follows it."""
    stream = isal_zlib.decompressobj(31)
    try:
        member = bytes(stream.decompress(data, room + 1))
    except _DAMAGED as error:
        raise Refused("bad_gzip", str(error)) from error
    if len(member) > room:
        raise Refused("too_large", f"unpacks to more than {LARGEST} bytes")
    if not stream.eof:
        raise Refused("bad_gzip", "the stream is cut short")
    return member, bytes(stream.unused_data)


def _further_members(data: bytes, room: int) -> bytes:
    """The members after the first, fed piece by piece: what a stream leaves over is copied, and must not be the whole rest each time."""
    parts: list[bytes] = []
    start = count = 0
    while start < len(data) and (data[start] or data[start:].strip(b"\0")):
        if (count := count + 1) > MOST_MEMBERS:
            raise Refused("bad_gzip", f"more than {MOST_MEMBERS} gzip members")
        stream, size = isal_zlib.decompressobj(31), 0
        while not stream.eof:
            piece = data[start : start + _PIECE]
            if not piece:
                raise Refused("bad_gzip", "the last member is cut short")
            try:
                part = bytes(stream.decompress(piece, room - size + 1))
            except _DAMAGED as error:
                raise Refused("bad_gzip", str(error)) from error
            size += len(part)
            if size > room:
                raise Refused("too_large", f"unpacks to more than {LARGEST} bytes")
            start += len(piece) - len(stream.unused_data)
            parts.append(part)
        room -= size
    return b"".join(parts)
