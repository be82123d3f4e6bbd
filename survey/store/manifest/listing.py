"""The input of an ingest as manifest rows.

An input is a folder of survey files, a catalogue, a table of spectra, or one file. It is recognised by its
content, not by its name. Rows come in a fixed order, some ten thousand at a time; no more are held in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from survey import files
from survey.settings import SettingsError
from survey.store.manifest.catalogue import open_catalogue
from survey.store.manifest.manifest import ITEM, manifest_rows
from survey.store.settings import Input
from survey.tables.read import array_rows, first_bytes, parquet_header

SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz", ".fts")
"""The endings of survey files, in lower or upper case."""

BATCH = 1 << 16


@dataclass
class Listing:
    """The rows of an input. `ignored` files and `nameless` rows of a catalogue are counted on the way."""

    settings: Input
    store: str
    ignored: int = 0
    nameless: int = 0

    @property
    def root(self) -> str:
        """The absolute path of the input."""
        return files.absolute(self.settings.input)

    def __iter__(self) -> Iterator[pa.Table]:
        """Manifest rows in their order. An input without rows is an error."""
        count = 0
        for table in self._rows():
            count += table.num_rows
            yield table
        if not count:
            others = f"({self.ignored} other files)" if self.ignored else "at all"
            raise SettingsError(
                f"ingest: input: {self.root}: holds no spectrum {others}; "
                f"give a folder with files {', '.join(SUFFIXES)}, or a catalogue"
            )

    def _rows(self) -> Iterator[pa.Table]:
        root = self.root
        if not files.exists(root):
            raise SettingsError(
                f"ingest: input: {root}: no such file or folder; "
                "give a folder, an s3:// prefix, a catalogue or a file of spectra"
            )
        if files.is_folder(root):
            yield from self._rows_of_folder(root)
        elif root.lower().endswith(SUFFIXES):
            yield from _single_file(root)
        else:
            yield from self._rows_of_file(root)

    def _rows_of_file(self, path: str) -> Iterator[pa.Table]:
        start = first_bytes(path)
        count = _spectra_in_table(path)
        if count is not None:
            yield from _table_rows(files.stat_of(path) or files.Entry(path, 0, 0.0), count)
        elif start.startswith(b"SIMPLE"):
            yield from _single_file(path)
        elif start.startswith(b"PAR1") or (start and b"\0" not in start):
            folder = files.absolute(self.settings.files) if self.settings.files else path.rpartition("/")[0]
            catalogue = open_catalogue(path, folder, self.settings.pattern)
            yield from catalogue.rows()
            self.nameless = catalogue.nameless
        else:
            content = (
                f"is no text, FITS, Parquet or .npy (it begins with {start[:8]!r})" if start else "is empty"
            )
            raise SettingsError(
                f"ingest: input: {path}: {content}; give a folder, a catalogue or a file of spectra"
            )

    def _rows_of_folder(self, root: str) -> Iterator[pa.Table]:
        """Survey files and tables of spectra, in the order of the listing."""
        waiting: list[files.Entry] = []
        for entry in self._entries(root):
            if entry.path.lower().endswith(SUFFIXES):
                waiting.append(entry)
            elif _may_be_table(entry.path):
                yield from _item_rows(waiting)
                waiting = []
                yield from self._rows_of_table(entry)
            else:
                self.ignored += 1
            if len(waiting) == BATCH:
                yield from _item_rows(waiting)
                waiting = []
        yield from _item_rows(waiting)

    def _entries(self, root: str) -> Iterator[files.Entry]:
        """The files below a folder, except hidden ones, which are counted, and those of the store itself."""
        start, store = len(root), f"{self.store}/"
        try:
            for entry in files.walk(root, SUFFIXES):
                if "/." in entry.path[start:]:
                    self.ignored += 1
                elif not entry.path.startswith(store):
                    yield entry
        except ConnectionError:
            raise
        except OSError as error:
            raise ValueError(
                f"ingest: input: {error.filename or root}: {error.strerror or error}; "
                "make it readable, or give another folder"
            ) from error

    def _rows_of_table(self, entry: files.Entry) -> Iterator[pa.Table]:
        try:
            count = _spectra_in_table(entry.path)
        except ValueError:
            yield from _item_rows([entry])  # a damaged table is one item, which the ingest refuses and counts
            return
        if count is None:
            self.ignored += 1
        else:
            yield from _table_rows(entry, count)


def _may_be_table(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".parquet") or (name.startswith("X") and name.endswith(".npy"))


def _spectra_in_table(path: str) -> int | None:
    """The number of spectra in a table file; None if it is no table of spectra."""
    start = first_bytes(path)
    if start.startswith(b"\x93NUMPY"):
        return array_rows(path)
    if start.startswith(b"PAR1"):
        names, rows = parquet_header(path)
        return rows if "flux" in names else None
    if path.endswith((".npy", ".parquet")):
        raise ValueError(
            f"ingest: {path}: begins with {start[:8]!r}, so it is no {path.rpartition('.')[2]} file; "
            "write it again"
        )
    return None


def _table_rows(entry: files.Entry, count: int) -> Iterator[pa.Table]:
    """The rows of a table of spectra. Each has the size and time of the file, so that a change is found."""
    for first in range(0, count, BATCH):
        last = min(first + BATCH, count)
        values = {"path": entry.path, "row": range(first, last), "size": entry.size, "stamp": entry.stamp}
        yield manifest_rows(last - first, values)


def _single_file(path: str) -> Iterator[pa.Table]:
    entry = files.stat_of(path)
    if entry and entry.size > files.LARGEST:
        raise SettingsError(
            f"ingest: input: {path}: {entry.size:,} bytes is no spectrum; "
            "if it is a catalogue, give it as CSV or Parquet"
        )
    yield from _item_rows([entry or files.Entry(path, 0, 0.0)])


def _item_rows(entries: list[files.Entry]) -> Iterator[pa.Table]:
    """Files that are one item each. A name that is no UTF-8 is escaped, and will be refused as missing."""
    if not entries:
        return
    paths, sizes, stamps = zip(*entries, strict=True)
    try:
        path_column = pa.array(paths, pa.string())
    except UnicodeEncodeError:
        escaped = [path.encode(errors="backslashreplace").decode() for path in paths]
        path_column = pa.array(escaped, pa.string())
    values = {
        "path": path_column,
        "row": ITEM,
        "size": pa.array(sizes, pa.int64()),
        "stamp": pa.array(stamps, pa.float64()),
    }
    yield manifest_rows(len(paths), values)
