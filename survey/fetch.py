"""The bytes of survey files, of which any may be missing or something else: then there is a reason instead.

Nothing is waited for on a disk, and no large file is read by mistake.
"""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from survey import files
from survey.spectrum import Refused

AHEAD = 96
"""Files on a disk that are open already while one is read: the system reads them meanwhile."""
ANNOUNCED = 1 << 20
"""Bytes of each of them that the system is asked to read; spectra have fewer."""
THREADS = 32
"""Objects of a bucket that are read at the same time."""
MOST_HELD = 4 * THREADS
"""Objects that are in memory before they are taken, or on their way: a slow one does not stop the others."""


def fetch(paths: Iterable[str]) -> Iterator[bytes | Refused]:
    """The bytes of survey files, or why they are refused, in the order of the paths.

    Objects of a bucket are read 32 at a time, and few are held; files on a disk may be among them.
    """
    waiting = list(paths)
    if any(map(files.is_remote, waiting)):
        yield from _fetch_side_by_side(waiting)
    else:
        yield from _fetch_files(waiting)


def _fetch_side_by_side(paths: list[str]) -> Iterator[bytes | Refused]:
    """The same by threads, in order: a further file is asked for when one is taken."""
    asked: deque[Future[bytes | Refused]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for path in paths:
                asked.append(pool.submit(_fetch_any, path))
                if len(asked) == MOST_HELD:
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()
        finally:
            for future in asked:
                future.cancel()


def _fetch_files(paths: list[str]) -> Iterator[bytes | Refused]:
    """Files on a disk, in order."""
    opened: deque[int | Refused] = deque()
    try:
        for path in paths:
            opened.append(_open(path))
            if len(opened) > AHEAD:
                yield _read(opened.popleft())
        while opened:
            yield _read(opened.popleft())
    finally:
        for handle in opened:
            if isinstance(handle, int):
                os.close(handle)


def _fetch_any(path: str) -> bytes | Refused:
    return _fetch_object(path) if files.is_remote(path) else _read(_open(path))


def _open(path: str) -> int | Refused:
    """A file that is open for reading. The system is asked to read it from the disk: many files at once, and
    nobody waits."""
    try:
        # a named pipe must not hang the shard
        handle = os.open(files.on_disk(path), os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        other = other_name(path)
        return _open(other) if files.stat_of(other) else Refused("missing", "no such file")
    except OSError as error:
        return Refused("missing", error.strerror or str(error))
    except ValueError as error:  # a zero byte in the path
        return Refused("missing", str(error))
    if hasattr(os, "posix_fadvise"):  # not on macOS
        with suppress(OSError):  # whoever reads it says why it cannot be read
            os.posix_fadvise(handle, 0, ANNOUNCED, os.POSIX_FADV_WILLNEED)
    return handle


def _read(handle: int | Refused) -> bytes | Refused:
    """The bytes of an open file, which is closed."""
    if isinstance(handle, Refused):
        return handle
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            return Refused("not_a_file", "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
        if facts.st_size > files.LARGEST:
            return Refused("too_large", f"{facts.st_size} bytes")
        data = os.read(handle, facts.st_size)
        while len(data) < facts.st_size and (more := os.read(handle, facts.st_size - len(data))):
            data += more  # a network disk may return fewer bytes than requested
    except OSError as error:
        return Refused("missing", error.strerror or str(error))
    finally:
        os.close(handle)
    return data


def other_name(path: str) -> str:
    """The name of the same file gzipped, or not gzipped."""
    return path.removesuffix(".gz") if path.endswith(".gz") else f"{path}.gz"


def _fetch_object(path: str) -> bytes | Refused:
    """One request per object. An object that the credentials may not read counts as missing, as on a disk."""
    from survey.buckets import DeniedError, NoBucketError

    for candidate in (path, other_name(path)):
        try:
            data_or_size: bytes | int = files.bucket_system().fetch(candidate, files.LARGEST)
        except NoBucketError:
            raise
        except FileNotFoundError:
            continue
        except DeniedError as error:
            return Refused("missing", str(error))
        if isinstance(data_or_size, int):
            return Refused("too_large", f"{data_or_size} bytes")
        return data_or_size
    return Refused("missing", "no such object")
