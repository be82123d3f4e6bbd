"""The headers of Parquet's pages and the footer of its files: structures in Thrift's compact form.

A structure is a dictionary of its numbered fields, and a list the kind of its members with the members. So
what is read can be changed and written again, whatever it means.
"""

from typing import Any, NamedTuple, TypeAlias

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)
"""The kinds of a value."""


class Value(NamedTuple):
    """A value with its kind. That of a truth value is `TRUE` or `FALSE`."""

    kind: int
    value: Any


Struct: TypeAlias = dict[int, Value]


class UnknownKindError(ValueError):
    """The bytes hold a kind of value that Parquet does not use."""


def read_struct(data: bytes, at: int) -> tuple[Struct, int]:
    """The structure that begins here, and where it ends."""
    fields, number = Struct(), 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _signed(data, at)
        kind = head & 15
        value, at = (kind == TRUE, at) if kind in (TRUE, FALSE) else _read(data, at, kind)
        fields[number] = Value(kind, value)
    return fields, at + 1


def _read(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (I16, I32, I64):
        return _signed(data, at)
    if kind in (BYTE, TRUE, FALSE):
        return data[at], at + 1
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    if kind == BINARY:
        size, at = _unsigned(data, at)
        return data[at : at + size], at + size
    if kind == STRUCT:
        return read_struct(data, at)
    if kind not in (LIST, SET):
        raise UnknownKindError(f"kind {kind}")
    size, member, at = data[at] >> 4, data[at] & 15, at + 1
    if size == 15:
        size, at = _unsigned(data, at)
    members = []
    for _ in range(size):
        value, at = _read(data, at, member)
        members.append(value)
    return (member, members), at


def struct_bytes(fields: Struct) -> bytes:
    """A structure as bytes."""
    parts, last = bytearray(), 0
    for number in sorted(fields):
        kind, value = fields[number]
        step = number - last
        parts += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _signed_bytes(number)
        if kind not in (TRUE, FALSE):
            parts += _bytes(kind, value)
        last = number
    return bytes(parts) + b"\0"


def _bytes(kind: int, value: Any) -> bytes:
    if kind in (I16, I32, I64):
        return _signed_bytes(value)
    if kind in (BYTE, TRUE, FALSE):
        return bytes([value])
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return bytes(unsigned_bytes(len(value)) + value)
    if kind == STRUCT:
        return struct_bytes(value)
    if kind not in (LIST, SET):
        raise UnknownKindError(f"kind {kind}")
    member, members = value
    size = len(members)
    head = bytes([size << 4 | member]) if size < 15 else bytes([15 << 4 | member]) + unsigned_bytes(size)
    return head + b"".join(_bytes(member, each) for each in members)


def unsigned_bytes(value: int) -> bytes:
    """A number of seven bits a byte, the lowest first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _signed_bytes(value: int) -> bytes:
    """A number with a sign, which becomes the lowest bit."""
    return unsigned_bytes(value << 1 if value >= 0 else (-value << 1) - 1)


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
