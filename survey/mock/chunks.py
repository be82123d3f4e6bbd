"""How a mock survey is divided into chunks of files, and how files are written."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from survey import files
from survey.mock.settings import BATCH, Mock

Done = dict[str, Any]


def part_name(chunk: int) -> str:
    """The name of a chunk's part of the label table."""
    return f"part-{chunk:05d}.parquet"


def part_path(settings: Mock, chunk: int) -> str:
    """Where a chunk's part of the label table is."""
    return files.join(settings.out, "labels", part_name(chunk))


def chunk_size(settings: Mock, chunk: int) -> int:
    """The files of a chunk: the last one may have fewer."""
    return min(settings.n - chunk * settings.chunk, settings.chunk)


def batches(settings: Mock, chunk: int) -> Iterable[tuple[int, int]]:
    """The number of each batch of a chunk, and how many of its files belong to the survey."""
    first = chunk * settings.chunk
    stop = first + chunk_size(settings, chunk)
    for batch in range(first // BATCH, -(-stop // BATCH)):
        yield batch, min(stop - batch * BATCH, BATCH)


def write_all(out: str, contents: Iterable[tuple[str, bytes | None]]) -> None:
    """Write files by path; None means a folder. Objects go to a bucket 32 at a time."""
    targets = ((files.join(out, path), content) for path, content in contents)
    if files.is_remote(out):
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda item: files.write(item[0], item[1] or b""), targets))
        return
    for path, content in targets:
        if content is None:
            Path(path).mkdir(parents=True, exist_ok=True)
        else:
            files.write(path, content)
