"""Tar files of images, JPEG and PNG: a row for each. Nothing is unpacked to a disk."""

import io
import tarfile
from functools import lru_cache
from typing import IO, cast

from survey import files
from survey.images import decode
from survey.images.settings import ImageFiles
from survey.sources import images
from survey.spectrum import ImageOfObject, Refused

FILES = ("*.tar",)

MOST_MEMBERS = 20_000_000

Member = tuple[str, int, int]
"""The name, the first byte and the size of an image in a tar file."""


class Options(ImageFiles):
    """Options of this source: those of images."""


def count(path: str, settings: Options) -> int | None:
    """The number of images in a tar file."""
    return len(_members(path, *_state(path)))


def read_rows(path: str, rows: list[int], settings: Options) -> list[ImageOfObject | Refused]:
    """Some images of a tar file."""
    members = _members(path, *_state(path))
    with files.open_file(path) as stream:
        return [_read(stream, members, row, settings) for row in rows]


def _read(stream: IO[bytes], members: list[Member], row: int, settings: Options) -> ImageOfObject | Refused:
    if row >= len(members):
        return Refused("truncated", f"the tar file has {len(members)} images")
    name, start, size = members[row]
    if size > files.LARGEST:
        return Refused("too_large", f"{name}: {size} bytes")
    stream.seek(start)
    try:
        pixels = decode.decode(stream.read(size), settings.smallest, settings.largest)
    except Refused as refused:
        return refused
    return ImageOfObject(pixels, images.visit_of(name, settings))


def _state(path: str) -> tuple[int, float]:
    """Size and time of a file: the list of its members is kept as long as they stay the same."""
    entry = files.stat_of(path)
    return (entry.size, entry.stamp) if entry else (0, 0.0)


@lru_cache(maxsize=8)
def _members(path: str, size: int, stamp: float) -> list[Member]:
    """The images in a tar file, in their order."""
    members: list[Member] = []
    try:
        with files.open_file(path) as stream, tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as tar:
            for member in tar:
                is_image = member.isfile() and member.name.lower().endswith(decode.ENDINGS)
                if is_image and 0 <= member.size <= size - member.offset_data:
                    members.append((member.name, member.offset_data, member.size))
                if len(members) > MOST_MEMBERS:
                    raise ValueError(f"{path}: more than {MOST_MEMBERS:,} images; unpack it")
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                # after the first member, tarfile takes any damaged header for the end
                raise tarfile.ReadError(f"a damaged header, or no end, at byte {tar.offset:,}")
    except tarfile.TarError as error:
        raise ValueError(f"{path}: no tar file that can be read ({error}); copy it again") from error
    return members


def example() -> tuple[str, bytes]:
    """A small valid file."""
    name, data = images.example()
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}-{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return "galaxies.tar", sink.getvalue()
