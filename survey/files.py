"""Bytes by path, on this machine's disks or in an ``s3://`` bucket; no other code knows which.

A file is written completely or not at all: a local file is written under a temporary name and renamed, an
object is one PUT. Credentials and the endpoint come from the usual places of AWS only: environment, ~/.aws,
instance role; AWS_ENDPOINT_URL names another server than Amazon's.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:  # pyarrow takes 0.3 s to import: only those who read a table pay for it
    import pyarrow as pa

LARGEST = 64 << 20
"""Bytes. A survey file of one spectrum is far smaller than 64 MiB; a larger one is refused and not read."""


class DiskFullError(OSError):
    """There is no room for a file."""


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
    if is_remote(path):
        return bytes(bucket_system().fetch(path, 1 << 62))
    with open_file(path) as stream:
        return stream.read()


def open_file(path: str) -> BinaryIO:
    """A file to read from, as a stream of bytes. A named pipe is an error, because it could wait for ever."""
    if is_remote(path):
        stream: BinaryIO = bucket_system().open(path, "rb")
        return stream
    path = on_disk(path)
    if stat.S_ISFIFO(Path(path).stat().st_mode):
        raise ValueError(f"{path}: a named pipe, no file; write its content to a file, and give that")
    return Path(path).open("rb")


def write(path: str, data: bytes | memoryview, durable: bool = False) -> None:
    """Write a file with these bytes, completely or not at all.

    A `durable` file is on the disk when this returns: it survives a loss of power.
    """
    if is_remote(path):
        bucket_system().pipe_file(path, bytes(data))
        return
    with written_beside(path, data, durable) as partial:
        partial.replace(path)
    if durable:
        _sync(Path(path).parent)


@contextmanager
def written_beside(path: str, data: bytes | memoryview, durable: bool = False) -> Iterator[Path]:
    """A temporary file with these bytes in the folder of a path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        partial.write_bytes(data)
        if durable:
            _sync(partial)
        yield partial
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial.unlink(missing_ok=True)
        free = shutil.disk_usage(target.parent).free
        limit = "a quota, or the number of files, is used up" if free > len(data) else "the disk is full"
        raise DiskFullError(
            f"{path}: {limit}: {len(data):,} bytes are to be written, {free:,} are free; "
            "make room, then run the same command again to continue"
        ) from error
    finally:
        partial.unlink(missing_ok=True)  # there only if something went wrong


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str, value: Any, durable: bool = False) -> None:
    """Write a JSON file, completely or not at all."""
    write(path, (json.dumps(value, indent=1, default=str) + "\n").encode(), durable)


def read_json(path: str, advice: str = "put a copy back, or remove it and run the job again") -> Any:
    """The value in a JSON file that this software wrote. If it is damaged, the error gives the advice."""
    try:
        return json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); {advice}") from error


def read_table(path: str) -> "pa.Table":
    """A Parquet table. A damaged file is an error that names it."""
    return parse_table(read(path), path)


def parse_table(data: bytes, path: str, columns: list[str] | None = None) -> "pa.Table":
    """The table in the bytes of a Parquet file, or some of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(columns, use_threads=False)
        return table if columns is None else table.select(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); put a copy back, or run its job again") from error


def write_table(path: str, table: "pa.Table", durable: bool = False) -> None:
    """Write a Parquet table, completely or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write(path, memoryview(sink.getvalue()), durable)


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


def walk(folder: str, everything: bool = False) -> Iterator[Entry]:
    """All files below a folder or prefix, folder by folder, in the order of their names.

    A link to a file counts as a file; a link to a folder is not followed. With `everything`, also pipes,
    broken links, links to folders (a / at the end), and empty folders named like files.
    """
    if is_remote(folder):
        yield from _walk_bucket(folder)
        return
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with os.scandir(here) as entries:
            listing = sorted(entries, key=lambda entry: entry.name)
        if everything and not listing and here != folder and Path(here).suffix:
            yield Entry(_as_text(here), 0, Path(here).stat().st_mtime)
        below = []
        for entry in listing:
            is_file = _follows(entry.is_file)
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif is_file or everything:
                with suppress(FileNotFoundError):  # another process renamed or removed it meanwhile
                    facts = entry.stat(follow_symlinks=is_file)
                    end = "" if is_file or not _follows(entry.is_dir) else "/"
                    yield Entry(_as_text(entry.path) + end, facts.st_size, facts.st_mtime)
        waiting.extend(reversed(below))


def _follows(check: Callable[[], bool]) -> bool:
    """Whether an entry of a folder, or what it links to, is of some kind. A link to itself is none."""
    try:
        return check()
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        return False


def _as_text(path: str) -> str:
    """A path as text of UTF-8, its other bytes as ``\\udcff``, which this module understands."""
    return path if path.isascii() else path.encode(errors="backslashreplace").decode()


def on_disk(path: str) -> str:
    """The path of a file as the disk has it: bytes that are no UTF-8 were escaped by `walk`."""
    if "\\udc" not in path or os.path.lexists(path):
        return path
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), path)


def _walk_bucket(folder: str) -> Iterator[Entry]:
    """Lists 1,000 keys at a time, so that millions of keys need little memory."""
    bucket, _ = _bucket_and_key(folder)
    for page in _pages(folder):
        for facts in page.get("Contents", ()):
            if not facts["Key"].endswith("/"):
                stamp = facts["LastModified"].timestamp()
                yield Entry(f"s3://{bucket}/{facts['Key']}", int(facts["Size"]), stamp)


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
        status = Path(on_disk(path)).stat()
    except (OSError, ValueError):
        return None
    return Entry(path, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None
