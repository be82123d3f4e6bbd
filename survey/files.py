"""Bytes by path, on this machine's disks or in an ``s3://`` bucket; the rest of the code does not know
which.

A file is written completely or not at all: a local file is written under a temporary name and renamed, an
object is one PUT. Credentials and the endpoint come from the usual places of AWS only: environment, ~/.aws,
instance role; AWS_ENDPOINT_URL names another server than Amazon's.
"""

import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from survey.spectrum import Refused

if TYPE_CHECKING:  # pyarrow takes 0.3 s to import: only those who read a table pay for it
    import pyarrow as pa

LARGEST = 64 << 20
"""Bytes. A survey file of one spectrum is far smaller than 64 MiB; a larger one is refused and not read."""


class Entry(NamedTuple):
    """A file as a listing shows it. `stamp` is the modification time in seconds."""

    path: str
    size: int
    stamp: float


def is_remote(path: str) -> bool:
    """Whether the path is in a bucket."""
    return path.startswith("s3://")


@cache
def bucket_system() -> Any:
    """The s3fs of this process. Listings are never cached, and a complete object is one request."""
    from survey.buckets import Buckets  # 0.4 s to import, only where there is a bucket

    return Buckets(
        use_listings_cache=False,
        default_block_size=8 << 20,
        max_concurrency=1,
        config_kwargs={
            "retries": {"total_max_attempts": 1},
            "connect_timeout": 10,
            "read_timeout": 30,
            "max_pool_connections": 64,
        },
    )


def join(folder: str, *names: str) -> str:
    """A path inside a folder or prefix."""
    return "/".join((folder.rstrip("/") or "/", *names)) if is_remote(folder) else str(Path(folder, *names))


def absolute(path: str) -> str:
    """A path that means the same wherever a job runs. Links stay as they are."""
    if is_remote(path):
        return path.rstrip("/")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - Path is slow


def relative(path: str) -> str:
    """A path from the current folder, if it is inside; it says more than the absolute path of a machine."""
    return path.removeprefix(f"{Path.cwd()}/")


def exists(path: str) -> bool:
    """Whether there is a file or folder of that path."""
    return stat_of(path) is not None or is_folder(path) if is_remote(path) else Path(path).exists()


def is_folder(path: str) -> bool:
    """Whether the path is a folder, or a prefix with something below it."""
    return _is_prefix(path) if is_remote(path) else Path(path).is_dir()


def read(path: str) -> bytes:
    """The bytes of a file of any size: for files that this software wrote."""
    return bytes(bucket_system().fetch(path, 1 << 62)) if is_remote(path) else Path(path).read_bytes()


def open_file(path: str) -> BinaryIO:
    """A file to read from, as a stream of bytes."""
    if is_remote(path):
        stream: BinaryIO = bucket_system().open(path, "rb")
        return stream
    return Path(path).open("rb")


def write(path: str, data: bytes | memoryview) -> None:
    """Write a file with these bytes, completely or not at all."""
    if is_remote(path):
        bucket_system().pipe_file(path, bytes(data))
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)  # there only if something went wrong


def write_json(path: str, value: Any) -> None:
    """Write a JSON file, completely or not at all."""
    write(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def read_json(path: str) -> Any:
    """The value in a JSON file that this software wrote."""
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise ValueError(
            f"{path}: damaged ({error}); put a copy back, or remove it and run the job again"
        ) from error


def read_table(path: str, columns: list[str] | None = None) -> "pa.Table":
    """A Parquet table, or some of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(read(path)), columns=columns)


def write_table(path: str, table: "pa.Table") -> None:
    """Write a Parquet table, completely or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write(path, memoryview(sink.getvalue()))


def read_all(paths: list[str]) -> list[bytes]:
    """The bytes of many files that this software wrote, 32 at a time."""
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(read, paths))


def remove(path: str) -> None:
    """Remove a file; it may be missing already."""
    if is_remote(path):
        bucket_system().rm_file(path)
    else:
        Path(path).unlink(missing_ok=True)


def names(folder: str) -> list[str]:
    """The names directly in a folder, in order; none if there is no such folder. Unfinished writes are
    omitted."""
    if is_remote(folder):
        listing = [name for page in _pages(folder, Delimiter="/") for name in _names_of(page)]
    else:
        listing = [entry.name for entry in os.scandir(folder)] if Path(folder).is_dir() else []
    return sorted(name for name in listing if name and not name.startswith("."))


def walk(folder: str, always: tuple[str, ...] = ()) -> Iterator[Entry]:
    """All files below a folder or prefix, folder by folder, in the order of their names.

    A link to a file counts as a file; a link to a folder is not followed. An entry whose name ends in one of
    `always` (lower case) is listed in any case, even if it is a folder, a pipe or a broken link.
    """

    if is_remote(folder):
        yield from _walk_bucket(folder)
        return
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with os.scandir(here) as entries:
            listing = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in listing:
            is_file = entry.is_file()
            if is_file or (always and entry.name.lower().endswith(always)):
                with suppress(FileNotFoundError):  # another process renamed or removed it meanwhile
                    facts = entry.stat(follow_symlinks=is_file)
                    yield Entry(entry.path, facts.st_size, facts.st_mtime)
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
        waiting.extend(reversed(below))


def _walk_bucket(folder: str) -> Iterator[Entry]:
    """Lists 1,000 keys at a time, so that millions of keys need little memory."""
    bucket, _ = _bucket_and_key(folder)
    for page in _pages(folder):
        for facts in page.get("Contents", ()):
            if not facts["Key"].endswith("/"):
                yield Entry(
                    f"s3://{bucket}/{facts['Key']}", int(facts["Size"]), facts["LastModified"].timestamp()
                )


def _pages(folder: str, **more: Any) -> Iterator[dict[str, Any]]:
    bucket, key = _bucket_and_key(folder)
    more["Prefix"] = f"{key.rstrip('/')}/" if key.strip("/") else ""
    while True:
        page = bucket_system().call_s3("list_objects_v2", Bucket=bucket, **more)
        yield page
        if not page.get("IsTruncated"):
            return
        more["ContinuationToken"] = page["NextContinuationToken"]


def _names_of(page: dict[str, Any]) -> Iterator[str]:
    """The names directly below a listed prefix."""
    keys = [facts["Key"] for facts in page.get("Contents", ())] + [
        facts["Prefix"] for facts in page.get("CommonPrefixes", ())
    ]
    return (key.removeprefix(page.get("Prefix", "")).rstrip("/") for key in keys)


def _is_prefix(path: str) -> bool:
    """Whether there is an object below a prefix. A bucket itself may be empty."""
    page = next(_pages(path, MaxKeys=1))
    return bool(page.get("Contents")) or not page.get("Prefix")


def _bucket_and_key(path: str) -> tuple[str, str]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return bucket, key


def stat_of(path: str) -> Entry | None:
    """Size and time of one file, or None where there is none."""
    if is_remote(path):
        bucket, key = _bucket_and_key(path)
        try:
            facts = bucket_system().call_s3("head_object", Bucket=bucket, Key=key) if key.strip("/") else None
        except FileNotFoundError:
            return None
        return Entry(path, int(facts["ContentLength"]), facts["LastModified"].timestamp()) if facts else None
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return Entry(path, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None


def fetch(paths: Iterable[str]) -> Iterator[bytes | Refused]:
    """The bytes of survey files, or why they are refused, in the order of the paths.

    Objects of a bucket are read 32 at a time.
    """
    waiting = list(paths)
    if waiting and is_remote(waiting[0]):
        with ThreadPoolExecutor(32) as pool:
            yield from pool.map(_fetch_object, waiting)
    else:
        yield from map(_fetch_file, waiting)


def _fetch_file(path: str) -> bytes | Refused:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe must not hang the shard
    except FileNotFoundError:
        other = other_name(path)
        return _fetch_file(other) if stat_of(other) else Refused("missing", "no such file")
    except OSError as error:
        return Refused("missing", error.strerror or str(error))
    except ValueError as error:  # a zero byte in the path
        return Refused("missing", str(error))
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            return Refused("not_a_file", "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
        if facts.st_size > LARGEST:
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
            data_or_size: bytes | int = bucket_system().fetch(candidate, LARGEST)
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
