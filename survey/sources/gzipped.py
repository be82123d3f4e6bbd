"""Gzip streams become the bytes they hold, fast, and never more of them than a survey file may have."""

from isal import isal_zlib

from survey.files import LARGEST
from survey.spectrum import Refused

MOST_MEMBERS = 4096
"""64 MiB in the blocks of 64 KiB that bgzip writes are 1,024 members; every member costs some microseconds, however small it is."""

_PIECE = 1 << 16
_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment] # isal's stub calls it an instance


def unpack(data: bytes) -> bytes:
    """The bytes inside a gzip file of one or many members, checksums compared; bytes that are not gzip as they are."""
    if not data:
        raise Refused("empty", "no bytes")
    if len(data) > LARGEST:
        raise Refused("too_large", f"{len(data)} bytes")
    if data[:2] != b"\x1f\x8b":
        return data
    member, rest = _member(data, LARGEST)
    if rest and rest.strip(b"\0"):
        member += _further_members(rest, LARGEST - len(member))
    if not member:
        raise Refused("empty", "a gzip file of no bytes")
    return member


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
