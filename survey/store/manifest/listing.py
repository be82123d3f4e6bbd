"""What is in the input of an ingest, as manifest rows: a folder or prefix of survey files, a catalogue, a table of spectra or one file.

The input is recognised by what it is, not by its name. Rows come in a fixed order, some ten thousand at a time; nothing is held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from survey import files
from survey.settings import Settings, SettingsError
from survey.store.manifest import catalogue, rows
from survey.tables import read

SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz", ".fts")
"""The names of survey files end so, in lower or upper case."""

BATCH = 1 << 16


class Input(Settings):
    """What a store is made from."""

    INERT: ClassVar[frozenset[str]] = frozenset({"input", "files", "pattern", "compare", "reread"})

    input: str = Field(
        description="a folder or s3:// prefix of survey files, a catalogue (CSV or Parquet), a table (X.npy, Parquet with flux) or one file"
    )
    files: str = Field(
        "",
        description="folder or s3:// prefix that a catalogue's files are in; empty = the catalogue's own folder",
    )
    pattern: str = Field(
        "",
        description="path of a catalogue row's file, such as {planid}/spec-{lmjd:05d}.fits; empty = from the file column, or the survey's rule",
    )
    shard: int = Field(
        1000, ge=1, le=20000, description="spectra per shard; cannot change once a store is begun"
    )
    compare: Literal["size", "time", "hash", "none"] = Field(
        "time", description="how a changed file is known: size, size or time, content, not at all"
    )
    reread: bool = Field(
        False,
        description="read changed files again, and missing ones that are there now, with the rest of their shards",
    )


@dataclass
class Listing:
    """The rows of an input; what was passed over is counted while they are taken."""

    settings: Input
    store: str
    ignored: int = 0
    nameless: int = 0

    @property
    def root(self) -> str:
        """The input's full path."""
        return read.absolute(self.settings.input)

    def __iter__(self) -> Iterator[pa.Table]:
        """Manifest rows in their order; at least one, or an error."""
        count = 0
        for table in self._rows():
            count += table.num_rows
            yield table
        if not count:
            passed = f"({self.ignored} other files)" if self.ignored else "at all"
            raise SettingsError(
                f"ingest: input: {self.root}: holds no spectrum {passed}; give a folder with files {', '.join(SUFFIXES)}, or a catalogue"
            )

    def _rows(self) -> Iterator[pa.Table]:
        root = self.root
        if not files.exists(root):
            raise SettingsError(
                f"ingest: input: {root}: no such file or folder; give a folder, an s3:// prefix, a catalogue or a file of spectra"
            )
        if files.is_folder(root):
            yield from self._folder(root)
        elif root.lower().endswith(SUFFIXES):
            yield from _one(root)
        else:
            yield from self._file(root)

    def _file(self, path: str) -> Iterator[pa.Table]:
        start = read.head(path)
        count = _spectra(path)
        if count is not None:
            yield from _table(files.stat_of(path) or files.Entry(path, 0, 0.0), count)
        elif start.startswith(b"SIMPLE"):
            yield from _one(path)
        elif start.startswith(b"PAR1") or (start and b"\0" not in start):
            folder = read.absolute(self.settings.files) if self.settings.files else path.rpartition("/")[0]
            found = catalogue.understood(path, folder, self.settings.pattern)
            yield from found.rows()
            self.nameless = found.nameless
        else:
            what = (
                "empty"
                if not start
                else f"neither text nor FITS, Parquet or .npy (it begins with {start[:8]!r})"
            )
            raise SettingsError(
                f"ingest: input: {path}: {what}; give a folder, a catalogue (CSV or Parquet) or a file of spectra"
            )

    def _folder(self, root: str) -> Iterator[pa.Table]:
        """Survey files as they come, tables of spectra in between."""
        single: list[files.Entry] = []
        for entry in self._found(root):
            if entry.path.lower().endswith(SUFFIXES):
                single.append(entry)
            elif _is_table(entry.path):
                yield from _items(single)
                single = []
                yield from self._table_of_folder(entry)
            else:
                self.ignored += 1
            if len(single) == BATCH:
                yield from _items(single)
                single = []
        yield from _items(single)

    def _found(self, root: str) -> Iterator[files.Entry]:
        """The files below a folder but for hidden ones, which are counted, and those of the store itself."""
        begin, own = len(root), f"{self.store}/"
        try:
            for entry in files.walk(root, SUFFIXES):
                if "/." in entry.path[begin:]:
                    self.ignored += 1
                elif not entry.path.startswith(own):
                    yield entry
        except ConnectionError:
            raise
        except OSError as error:
            raise ValueError(
                f"ingest: input: {error.filename or root}: {error.strerror or error}; make it readable or give another folder"
            ) from error

    def _table_of_folder(self, entry: files.Entry) -> Iterator[pa.Table]:
        try:
            count = _spectra(entry.path)
        except ValueError:
            yield from _items([entry])  # a damaged table is one item, which ingest refuses and counts
            return
        if count is None:
            self.ignored += 1
        else:
            yield from _table(entry, count)


def _is_table(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".parquet") or (name.startswith("X") and name.endswith(".npy"))


def _spectra(path: str) -> int | None:
    """How many spectra a table file holds; None if it is no table of spectra."""
    start = read.head(path)
    if start.startswith(b"\x93NUMPY"):
        return read.array_rows(path)
    if start.startswith(b"PAR1") and "flux" in read.parquet_names(path):
        return read.parquet_rows(path)
    if path.endswith(".npy") or (path.endswith(".parquet") and not start.startswith(b"PAR1")):
        raise ValueError(
            f"ingest: {path}: begins with {start[:8]!r}, which its kind of file does not; write it again"
        )
    return None


def _table(entry: files.Entry, count: int) -> Iterator[pa.Table]:
    """The rows of a table of spectra, each with the size and time of the whole file, so that a change shows."""
    for first in range(0, count, BATCH):
        last = min(first + BATCH, count)
        yield rows.table(
            last - first,
            {"path": entry.path, "row": range(first, last), "size": entry.size, "stamp": entry.stamp},
        )


def _one(path: str) -> Iterator[pa.Table]:
    entry = files.stat_of(path)
    if entry and entry.size > files.LARGEST:
        raise SettingsError(
            f"ingest: input: {path}: {entry.size:,} bytes is no spectrum; if it is a catalogue, give it as CSV or Parquet"
        )
    yield from _items([entry or files.Entry(path, 0, 0.0)])


def _items(entries: list[files.Entry]) -> Iterator[pa.Table]:
    """Files that are one item each; a name that is no UTF-8 is written out and will be refused as missing."""
    if not entries:
        return
    paths, sizes, stamps = zip(*entries, strict=True)
    try:
        column = pa.array(paths, pa.string())
    except UnicodeEncodeError:
        column = pa.array([path.encode(errors="backslashreplace").decode() for path in paths], pa.string())
    yield rows.table(
        len(paths),
        {
            "path": column,
            "row": rows.ITEM,
            "size": pa.array(sizes, pa.int64()),
            "stamp": pa.array(stamps, pa.float64()),
        },
    )
