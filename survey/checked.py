"""Files that are checked when they are read: size and CRC-32 of a file, and JSON that carries its own.

A flipped bit, a part of another folder and an edit by hand are errors that name the file, not other numbers.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from isal import isal_zlib
from pydantic import BaseModel, ConfigDict

from survey import files

CHECKSUM = "checksum"
"""The key of a JSON file that holds the CRC-32 of all its other values."""
CHUNK = 8 << 20


class WrittenFile(BaseModel):
    """The size and the CRC-32 of a file, as it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    crc: int

    @classmethod
    def of(cls, data: Any) -> "WrittenFile":
        """Of a file with these bytes."""
        return cls(size=memoryview(data).nbytes, crc=isal_zlib.crc32(data))

    @classmethod
    def at(cls, path: str) -> "WrittenFile":
        """Of the file that is there now."""
        size = crc = 0
        with files.open_file(path) as stream:
            while chunk := stream.read(CHUNK):
                size, crc = size + len(chunk), isal_zlib.crc32(chunk, crc)
        return cls(size=size, crc=crc)

    def matches(self, path: str) -> bool:
        """Whether the file at a path is still the one that was written."""
        entry = files.stat_of(path)
        return entry is not None and entry.size == self.size and WrittenFile.at(path) == self

    def read(self, path: str, advice: str) -> bytes:
        """The bytes of the file at a path, which must be the one that was written."""
        try:
            data = files.read(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: is missing; {advice}") from None
        if WrittenFile.of(data) != self:
            raise ValueError(
                f"{path}: is damaged ({len(data):,} bytes, {self.size:,} were written; its checksum "
                f"differs); {advice}"
            )
        return data


def checksums(paths: Iterable[str]) -> list[int | None]:
    """The CRC-32 of each file, which tells a job that one has changed; None where there is no file."""
    return [WrittenFile.at(path).crc if files.stat_of(path) else None for path in paths]


def write(path: str, data: Any) -> WrittenFile:
    """Write a file that survives a loss of power; its size and checksum, for the file that lists it."""
    files.write(path, memoryview(data), durable=True)
    return WrittenFile.of(data)


def write_json(path: str, values: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum; it survives a loss of power."""
    files.write_json(path, {**values, CHECKSUM: _checksum(values)}, durable=True)


def read_json(path: str, advice: str) -> dict[str, Any]:
    """The object that `write_json` wrote, without its checksum. A damaged or edited one is an error."""
    return verify(path, files.read_json(path), advice)


def verify(path: str, values: Any, advice: str) -> dict[str, Any]:
    """The values of a JSON file without their checksum, which must be right."""
    if not isinstance(values, dict) or CHECKSUM not in values:
        raise ValueError(f"{path}: damaged (it has no checksum); {advice}")
    others = {key: value for key, value in values.items() if key != CHECKSUM}
    if _checksum(others) != values[CHECKSUM]:
        raise ValueError(f"{path}: damaged, or edited by hand (its checksum differs); {advice}")
    return others


def _checksum(values: Mapping[str, Any]) -> int:
    """The same for equal values, whatever the spaces and the order of keys."""
    as_read = json.loads(json.dumps(values, default=str))
    return int(isal_zlib.crc32(json.dumps(as_read, sort_keys=True).encode()))
