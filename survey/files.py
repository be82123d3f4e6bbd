"""Bytes by path, on this machine's disks or in an ``s3://`` bucket; the rest of the code does not know which.

A write is whole or not at all: a local file is written under a temporary name and renamed, an object is one PUT. Credentials and the
endpoint come from the usual AWS places only (environment, ~/.aws, instance role; AWS_ENDPOINT_URL for another server than Amazon's).
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
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from survey.spectrum import Refused

LARGEST = 64 << 20
"""No survey file of one spectrum comes near 64 MiB; a larger one is refused, not read into memory."""


class Entry(NamedTuple):
    """A file as a listing shows it; `stamp` is the modification time in seconds."""

    path: str
    size: int
    stamp: float


def is_remote(path: str) -> bool:
    """Whether the path is in a bucket."""
    return path.startswith("s3://")


@cache
def bucket_system() -> Any:
    """The one s3fs of this process; listings are never cached, and a whole object is one request."""
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


def exists(path: str) -> bool:
    """Whether there is a file or folder of that path."""
    return stat_of(path) is not None or is_folder(path) if is_remote(path) else Path(path).exists()


def is_folder(path: str) -> bool:
    """Whether the path is a folder, or a prefix with something below it."""
    return _is_prefix(path) if is_remote(path) else Path(path).is_dir()


def read(path: str) -> bytes:
    """The bytes of a file, without limit: for files that this software wrote."""
    return bytes(bucket_system().fetch(path, 1 << 62)) if is_remote(path) else Path(path).read_bytes()


def write(path: str, data: bytes | memoryview) -> None:
    """A file with these bytes, whole or not at all."""
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
    """A JSON file, whole or not at all."""
    write(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def read_json(path: str) -> Any:
    """What a JSON file of ours says."""
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise ValueError(
            f"{path}: damaged ({error}); put a copy back, or remove it and run the job again"
        ) from error


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet table, or some of its columns."""
    return pq.read_table(pa.BufferReader(read(path)), columns=columns)


def write_table(path: str, table: pa.Table) -> None:
    """A Parquet table, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write(path, memoryview(sink.getvalue()))


def read_all(paths: list[str]) -> list[bytes]:
    """The bytes of many files that this software wrote, 32 at a time."""
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(read, paths))


def remove(path: str) -> None:
    """No file of that path any more; none there before is fine."""
    if is_remote(path):
        bucket_system().rm_file(path)
    else:
        Path(path).unlink(missing_ok=True)


def names(folder: str) -> list[str]:
    """The names directly in a folder, in order; none if there is no such folder. Unfinished writes are not shown."""
    if is_remote(folder):
        found = [name for page in _pages(folder, Delimiter="/") for name in _names_of(page)]
    else:
        found = [entry.name for entry in os.scandir(folder)] if Path(folder).is_dir() else []
    return sorted(name for name in found if name and not name.startswith("."))


def walk(folder: str, whole: tuple[str, ...] = ()) -> Iterator[Entry]:
    """All files below a folder or prefix, folder by folder in the order of their names; a link is followed to a file, not to a folder.

    What has a name that ends in one of `whole` (lower case) is given whatever it is: a folder, a pipe, a link to nothing.
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
            if is_file or (whole and entry.name.lower().endswith(whole)):
                with suppress(FileNotFoundError):  # another process has renamed or removed it since
                    facts = entry.stat(follow_symlinks=is_file)
                    yield Entry(entry.path, facts.st_size, facts.st_mtime)
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
        waiting.extend(reversed(below))


def _walk_bucket(folder: str) -> Iterator[Entry]:
    """A page of 1,000 keys at a time: millions of keys need no memory."""
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
    """Whether something is below a prefix; a bucket itself may be empty."""
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
        found = Path(path).stat()
    except OSError:
        return None
    return Entry(path, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None


def fetch(paths: Iterable[str]) -> Iterator[bytes | Refused]:
    """The bytes of survey files in the order of their paths, or why not; buckets are read 32 files at a time."""
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
        other = path.removesuffix(".gz") if path.endswith(".gz") else f"{path}.gz"
        return _fetch_file(other) if _is_file(other) else Refused("missing", "no such file")
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
            data += more  # a network disk may give less than asked for
    except OSError as error:
        return Refused("missing", error.strerror or str(error))
    finally:
        os.close(handle)
    return data


def _is_file(path: str) -> bool:
    found = stat_of(path)
    return found is not None


def _fetch_object(path: str) -> bytes | Refused:
    """One request per object; what the credentials may not read counts as not there, as it does on a disk."""
    from survey.buckets import DeniedError, NoBucketError

    for candidate in (path, path.removesuffix(".gz") if path.endswith(".gz") else f"{path}.gz"):
        try:
            found = bucket_system().fetch(candidate, LARGEST)
        except NoBucketError:
            raise
        except FileNotFoundError:
            continue
        except DeniedError as error:
            return Refused("missing", str(error))
        return Refused("too_large", f"{found} bytes") if isinstance(found, int) else found
    return Refused("missing", "no such object")
