"""The manifest rows of one file: of a table of spectra, or of a file that is one item."""

from collections.abc import Iterator

import pyarrow as pa

from survey import files
from survey.settings import SettingsError
from survey.sources.table_files import label_path
from survey.store.manifest.manifest import ITEM, manifest_rows

BATCH = 1 << 16


def table_rows(entry: files.Entry, count: int) -> Iterator[pa.Table]:
    """The rows of a table of spectra. Each has the size and time of the file, so that a change is found.

    The y.csv beside an X.npy counts with it.
    """
    labels = label_path(entry.path)
    if beside := files.stat_of(labels) if labels else None:
        entry = files.Entry(entry.path, entry.size + beside.size, max(entry.stamp, beside.stamp))
    for first in range(0, count, BATCH):
        last = min(first + BATCH, count)
        values = {"path": entry.path, "row": range(first, last), "size": entry.size, "stamp": entry.stamp}
        yield manifest_rows(last - first, values)


def single_file(path: str) -> Iterator[pa.Table]:
    """The row of an input that is one file."""
    entry = files.stat_of(path)
    if entry and entry.size > files.LARGEST:
        raise SettingsError(
            f"ingest: input: {path}: {entry.size:,} bytes is no spectrum; "
            "if it is a catalogue, give it as CSV or Parquet"
        )
    yield from item_rows([entry or files.Entry(path, 0, 0.0)])


def item_rows(entries: list[files.Entry]) -> Iterator[pa.Table]:
    """Files that are one item each."""
    if not entries:
        return
    paths, sizes, stamps = zip(*entries, strict=True)
    values = {
        "path": pa.array(paths, pa.string()),
        "row": ITEM,
        "size": pa.array(sizes, pa.int64()),
        "stamp": pa.array(stamps, pa.float64()),
    }
    yield manifest_rows(len(paths), values)
