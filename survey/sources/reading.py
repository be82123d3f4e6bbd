"""The bytes of a survey file become spectra or images: they are unpacked, and read by the first source that
can.

A FITS file is parsed once for all sources that read FITS. Other files belong to the sources that know their
names (`FILES`): those that read bytes, and those that read rows of tables of spectra.

Most gzip files have one member that states its size. libdeflate unpacks it at once, 20 % faster than isal. A
file that is different, damaged or larger goes through a stream of isal piece by piece, which shows what is
wrong with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import deflate
import numpy as np
from isal import isal_zlib

from survey import plugins
from survey.files import LARGEST
from survey.settings import Settings
from survey.sources import fits
from survey.sources.checking import Found, check_keys, checked, damage_refused
from survey.spectrum import ImageOfObject, Refused, Spectrum
from survey.tables.access import is_lost

FITS_ENDINGS = (".fits", ".fits.gz", ".fit", ".fit.gz", ".fts")
"""The endings of FITS files, in lower case."""
MOST_MEMBERS = 4096
"""Gzip members of a file. bgzip writes 1,024 members for 64 MiB; each costs some microseconds, however small
it is."""

MOST_EXPANSION = 1032
"""Bytes that a byte of gzip can unpack to at most. A file that says more is damaged, and no bomb."""

_PIECE = 1 << 16
_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment] # isal's stub calls it an instance
_FITS_START = b"SIMPLE  ="

Sources = Mapping[str, Settings]
"""The sources that may read a file, in their order, with their options. `arrays` is one of them."""


def with_options(names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Settings]:
    """These sources with their options, and `arrays`, which reads tables of spectra if no other does."""
    known = {name: plugins.options("sources", name) for name in dict.fromkeys((*names, "arrays"))}
    return {
        name: kind.from_dict(f"ingest: options.{name}", dict(options.get(name, {})))
        for name, kind in known.items()
    }


def is_named(path: str, patterns: Sequence[str]) -> bool:
    """Whether the name of a file, without .gz, is like one of these patterns, in lower or upper case."""
    name = path.rpartition("/")[2].lower().removesuffix(".gz")
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)


def own_files(sources: Sources, function: str) -> dict[str, tuple[str, ...]]:
    """The names of the files that belong to each source with this function."""
    modules = {name: plugins.load("sources", name) for name in sources if name != "arrays"}
    return {name: _patterns(module) for name, module in modules.items() if hasattr(module, function)}


def _patterns(module: ModuleType) -> tuple[str, ...]:
    if not getattr(module, "FILES", ()):
        raise plugins.BrokenPluginError(
            f"{module.__name__.replace('.', '/')}.py has no FILES; "
            'add the names of its files, such as FILES = ("*.txt",)'
        )
    patterns: tuple[str, ...] = module.FILES
    return patterns


def spectra(data: fits.Bytes, name: str, sources: Sources) -> list[Spectrum]:
    """The spectra of a file; images are left out."""
    return [each for each in observations(data, name, sources) if isinstance(each, Spectrum)]


def observations(data: fits.Bytes, name: str, sources: Sources) -> list[Found]:
    """The spectra or images of a file; `Refused` if there are none. `sources` are the plugins to try, with
    their options."""
    data = unpack(data)
    hdus: fits.Hdus | None = None
    known = False
    with np.errstate(all="ignore"):  # the result shows damaged numbers; warnings of numpy add nothing
        for source, settings in sources.items():
            module = plugins.load("sources", source)
            found: list[Found] | None = None
            if hasattr(module, "read_bytes") and is_named(name, _patterns(module)):
                known, found = True, _read_bytes(module, data, name, settings)
            elif data[:9] == _FITS_START and hasattr(module, "read"):
                hdus = fits.parse(data) if hdus is None else hdus
                with damage_refused(source):
                    found = module.read(hdus, name, settings)
                    check_keys(found or [], source)
            if found is not None and not found:
                raise Refused("unknown_layout", f"{source} finds no spectrum in it")
            if found is not None:
                return found
    hdus = hdus if hdus is not None or known else fits.parse(data)
    content = f"the file has {hdus.summary()}" if hdus is not None else f"it begins with {bytes(data[:16])!r}"
    raise Refused("unknown_layout", f"not readable by {', '.join(sources)}; {content}")


def _read_bytes(module: ModuleType, data: fits.Bytes, name: str, settings: Settings) -> list[Found] | None:
    """What a source gives for a file that is like its own."""
    source = module.__name__.rpartition(".")[2]
    with damage_refused(source):
        found: list[Found] | None = module.read_bytes(bytes(data), name, settings)
        return None if found is None else [checked(spectrum, source, _stem(name)) for spectrum in found]


def _stem(path: str) -> str:
    """The name of a file without folders and ending."""
    name = path.rpartition("/")[2].removesuffix(".gz")
    return name.rpartition(".")[0] or name


def image(data: fits.Bytes, name: str, sources: Sources) -> ImageOfObject:
    """The image in a file that belongs to an object; `Refused` if there is none."""
    settings = sources["images"] if "images" in sources else plugins.options("sources", "images")()
    found = observations(data, name, {"images": settings})[0]
    if not isinstance(found, ImageOfObject):
        raise Refused("bad_image", "no image")
    return found


def table_source(path: str, sources: Sources) -> str:
    """The source that reads a table of spectra: the first that knows it, or `arrays`."""
    for name, patterns in own_files(sources, "read_rows").items():
        if is_named(path, patterns) and table_count(name, path, sources[name]) is not None:
            return name
    return "arrays"


def table_count(source: str, path: str, settings: Settings) -> int | None:
    """The number of spectra in a table; None if it is of another source. A `ValueError` if it is damaged."""
    with _damage_of(path, source):
        number: int | None = plugins.load("sources", source).count(path, settings)
    return number


def table_note(source: str, path: str, settings: Settings, section: str = "") -> str:
    """What a source assumes of a table, in words; empty if it assumes nothing.

    `section` is written before the key of the option that says otherwise, if there is one.
    """
    module = plugins.load("sources", source)
    if not hasattr(module, "note") or not (found := module.note(path, settings)):
        return ""
    text, option = found
    advice = f"; give {section}options.{source}.{option}= if that is wrong" if option else ""
    return f"{path}: {text}{advice}"


@contextmanager
def _damage_of(path: str, source: str) -> Iterator[None]:
    """Whatever a source raises over a damaged table is a `ValueError`; `arrays` raises no other."""
    try:
        yield
    except (ConnectionError, FileNotFoundError, ValueError):
        raise
    except Exception as error:  # any error of a plugin over a damaged table: it becomes one that names both
        if source == "arrays" or is_lost(path, error):
            raise
        raise ValueError(f"{path}: {source} cannot read it ({type(error).__name__}: {error})") from error


def table_rows(path: str, rows: list[int], sources: Sources) -> Iterator[Found | Refused]:
    """The spectra or images of these rows of a table, in this order; a `ValueError` if it is damaged.

    A source with `iterate_rows` gives them one by one, so that few are in memory at a time.
    """
    source = table_source(path, sources)
    with _damage_of(path, source):
        module = plugins.load("sources", source)
        read = getattr(module, "iterate_rows", module.read_rows)
        results: Iterable[Found | Refused] = read(path, rows, sources[source])
        if source == "arrays":
            yield from results
            return
        if isinstance(results, list) and len(results) != len(rows):
            raise ValueError(
                f"{path}: {source} gives {len(results)} spectra for {len(rows)} rows; correct its read_rows"
            )
        for row, result in zip(rows, results, strict=True):
            yield _checked_row(result, source, f"{_stem(path)}-{row}")


def _checked_row(result: Found | Refused, source: str, visit: str) -> Found | Refused:
    try:
        with damage_refused(source):
            return result if isinstance(result, Refused) else checked(result, source, visit)
    except Refused as refused:
        return refused


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
    if LARGEST < size <= MOST_EXPANSION * len(data):
        raise Refused("too_large", f"says that it unpacks to {size} bytes")  # a bomb that does not lie
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
