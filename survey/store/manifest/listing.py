"""The input of an ingest as manifest rows.

An input is a folder of survey files, a catalogue, a table of spectra, or one file. It is recognised by its
content; only the files of sources that read no FITS are recognised by their names. Rows come in a fixed
order, some ten thousand at a time; no more are held in memory.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from survey import files, plugins
from survey.fetch import fetch
from survey.folder import kind_of
from survey.messages import counted
from survey.settings import SettingsError
from survey.sources import reading
from survey.sources.reading import FITS_ENDINGS, Sources, is_named
from survey.spectrum import Refused
from survey.store.manifest.catalogue import open_catalogue
from survey.store.manifest.file_rows import BATCH, item_rows, single_file, table_rows
from survey.store.manifest.table_sizes import check_count, is_array_name, spectra_in_table
from survey.store.settings import Input
from survey.tables.read import first_bytes

RESULTS = ("store", "run", "ensemble", "predictions", "catalog", "study")
"""The folders that jobs make: their Parquet files are no tables of spectra."""


@dataclass
class Listing:
    """The rows of an input. `ignored` files, `links` to folders and `nameless` rows of a catalogue are
    counted on the way.

    `folder` holds the listed files, directly or in folders of its own; `rounded_ids` says which ids of a
    catalogue are not used, `unreadable` which of its columns have cells that are no numbers. `tables` counts
    the spectra of each listed table.
    """

    settings: Input
    store: str
    ignored: int = 0
    nameless: int = 0
    first_ignored: str = ""
    links: int = 0
    first_link: str = ""
    rounded_ids: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    tables: dict[str, int] = field(default_factory=dict, repr=False)
    _in_result: dict[str, bool] = field(default_factory=dict, repr=False)

    @cached_property
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
            raise SettingsError(f"ingest: input: {self.root}: {self._advice()}")

    def _advice(self) -> str:
        """What is in an input without spectra, and what to give instead."""
        if not files.is_folder(self.root):
            return "has no rows; give a table of spectra, or a catalogue with a row for each file"
        names = [*FITS_ENDINGS, *(pattern for patterns in self._own_files.values() for pattern in patterns)]
        advice = f"give a folder with files {', '.join(names)}, or a catalogue"
        found = []
        if self.ignored:
            example = f", such as {self.first_ignored}" if self.first_ignored else ""
            found.append(f"{counted(self.ignored, 'other file')}{example}")
        if self.links:
            found.append(f"links to folders not followed: {self.links:,}, such as {self.first_link}")
        if not found:
            return f"holds no spectrum at all; {advice}"
        return f"holds no spectrum ({'; '.join(found)}); {advice}{self._other_source(self.first_ignored)}"

    def _other_source(self, path: str) -> str:
        """The advice to name the source that reads such a file, if it is not named."""
        for source, patterns in plugins.constants("sources", "FILES").items():
            if is_named(path, patterns) and source not in self.settings.sources:
                return f"; if such a file is a spectrum, give sources=[{source}]"
        return ""

    @cached_property
    def _sources(self) -> Sources:
        return reading.with_options(self.settings.sources, self.settings.options)

    @cached_property
    def _own_files(self) -> dict[str, tuple[str, ...]]:
        """The names of files that belong to sources which read bytes."""
        return reading.own_files(self._sources, "read_bytes")

    @cached_property
    def _own_tables(self) -> dict[str, tuple[str, ...]]:
        """The names of tables of spectra that belong to sources other than `arrays`."""
        return reading.own_files(self._sources, "read_rows")

    def _is_own_file(self, path: str) -> bool:
        return any(is_named(path, patterns) for patterns in self._own_files.values())

    def _rows(self) -> Iterator[pa.Table]:
        root = self.root
        if not files.exists(root):
            raise SettingsError(
                f"ingest: input: {root}: no such file or folder; "
                "give a folder, an s3:// prefix, a catalogue or a file of spectra"
            )
        self.folder = root if files.is_folder(root) else root.rpartition("/")[0]
        if kind := _kind_of_folder(root):
            advice = "; for survey predict, give it as store=" if kind == "store" else ""
            raise SettingsError(
                f"ingest: input: {root}: holds a {kind}, not survey files; "
                f"give input= with the folder of the survey files{advice}"
            )
        if files.is_folder(root):
            self._check_no_catalogue("a folder")
            yield from self._rows_of_folder(root)
        elif root.lower().endswith(FITS_ENDINGS):
            yield from self._single_file(root)
        else:
            yield from self._rows_of_file(root)

    def _rows_of_file(self, path: str) -> Iterator[pa.Table]:
        entry = files.stat_of(path)
        if entry is None:
            raise SettingsError(
                f"ingest: input: {path}: no regular file, but a pipe or a device; write its content to a file"
            )
        own_count = self._spectra_in_own_table(path)
        check_count(entry, own_count)
        if own_count is not None:
            yield from self._spectra_of_table(entry, own_count)
            return
        if self._is_own_spectrum(path):
            yield from self._single_file(path)
            return
        start = first_bytes(path)
        count = spectra_in_table(path)
        check_count(entry, count)
        if count is not None:
            yield from self._spectra_of_table(entry, count)
        elif start.startswith(b"SIMPLE"):
            yield from self._single_file(path)
        elif start.startswith(b"PAR1") or (start and b"\0" not in start):
            if self.settings.files:
                self.folder = files.absolute(self.settings.files)
            try:
                settings = self.settings
                patterns = settings.pattern, settings.image_pattern
                catalogue = open_catalogue(path, self.folder, *patterns, has_spectra=settings.has_spectra)
            except SettingsError as error:
                raise SettingsError(f"{error}{self._other_source(path)}") from None
            yield from catalogue.rows()
            self.nameless, self.rounded_ids = catalogue.nameless, catalogue.rounded_ids
            self.unreadable = catalogue.unreadable
        else:
            content = (
                f"is no text, FITS, Parquet or .npy (it begins with {start[:8]!r})" if start else "is empty"
            )
            raise SettingsError(
                f"ingest: input: {path}: {content}; give a folder, a catalogue or a file of spectra"
            )

    def _check_no_catalogue(self, found: str) -> None:
        """An error if a setting is given that counts for a catalogue only."""
        for key in ("files", "pattern", "image_pattern"):
            if value := getattr(self.settings, key):
                raise SettingsError(
                    f"ingest: {key}: {value}, but only a catalogue uses it, and {self.root} is {found}; "
                    f"leave {key} out, or give input= with a catalogue"
                )

    def _single_file(self, path: str) -> Iterator[pa.Table]:
        self._check_no_catalogue("one file")
        yield from single_file(path)

    def _spectra_of_table(self, entry: files.Entry, count: int) -> Iterator[pa.Table]:
        self._check_no_catalogue("a table of spectra")
        self.tables[entry.path] = count
        yield from table_rows(entry, count)

    def _spectra_in_own_table(self, path: str) -> int | None:
        """The number of spectra in a table of a source other than `arrays`; None if it is no such table."""
        for source, patterns in self._own_tables.items():
            if is_named(path, patterns):
                number = reading.table_count(source, path, self._sources[source])
                if number is not None:
                    return number
        return None

    def _is_own_spectrum(self, path: str) -> bool:
        """Whether one file is a spectrum of a source that reads bytes. A CSV may be a catalogue as well."""
        if not self._is_own_file(path):
            return False
        data = next(iter(fetch([path])))
        if isinstance(data, Refused):
            return False
        own = {source: self._sources[source] for source in self._own_files}
        try:
            reading.observations(data, path, own)
        except Refused:
            return False
        return True

    def _rows_of_folder(self, root: str) -> Iterator[pa.Table]:
        """Survey files and tables of spectra, in the order of the listing."""
        waiting: list[files.Entry] = []
        for entry in self._entries(root):
            if entry.path.endswith("/"):
                self.links += 1
                self.first_link = self.first_link or entry.path[len(root) :].strip("/")
            elif entry.path.lower().endswith(FITS_ENDINGS) or self._is_own_file(entry.path):
                waiting.append(entry)
            elif self._may_be_table(entry.path):
                yield from item_rows(waiting)
                waiting = []
                yield from self._rows_of_table(entry)
            else:
                self._ignore(entry.path)
            if len(waiting) == BATCH:
                yield from item_rows(waiting)
                waiting = []
        yield from item_rows(waiting)

    def _entries(self, root: str) -> Iterator[files.Entry]:
        """The files below a folder, except hidden ones, which are counted, and those of the store itself."""
        start, store, is_remote = len(root), f"{self.store}/", files.is_remote(root)
        try:
            for entry in files.walk(root, everything=True):
                if "/." in entry.path[start:]:
                    self.ignored += 1
                elif entry.path.startswith(store):
                    continue
                elif is_remote and not self._may_be_table(entry.path):
                    yield entry  # in a bucket, to look into each folder would take a request for each
                elif self._is_in_result(entry.path.rpartition("/")[0]):
                    self._ignore(entry.path)
                else:
                    yield entry
        except ConnectionError:
            raise
        except OSError as error:
            raise ValueError(
                f"ingest: input: {error.filename or root}: {error.strerror or error}; "
                "make it readable, or give another folder"
            ) from error

    def _is_in_result(self, folder: str) -> bool:
        """Whether a folder below the input was made by a job, such as another store, or is inside one."""
        is_result = self._in_result.get(folder)
        if is_result is None:
            is_below = len(folder) > len(self.root)
            is_result = is_below and (
                bool(_kind_in_settings(folder)) or self._is_in_result(folder.rpartition("/")[0])
            )
            self._in_result[folder] = is_result
        return is_result

    def _rows_of_table(self, entry: files.Entry) -> Iterator[pa.Table]:
        if not files.is_remote(entry.path) and files.stat_of(entry.path) is None:
            yield from item_rows([entry])  # a broken link
            return
        try:
            count = self._spectra_in_own_table(entry.path)
            if count is None and is_array_name(entry.path):
                count = spectra_in_table(entry.path)
            check_count(entry, count)
        except ValueError:
            yield from item_rows([entry])  # a damaged table is one item, which the ingest refuses and counts
            return
        except PermissionError:  # so is one that is not readable, as a file of one spectrum is
            if files.is_remote(entry.path):
                raise
            yield from item_rows([entry])
            return
        if count is None:
            self._ignore(entry.path)
        else:
            yield from self._spectra_of_table(entry, count)

    def _may_be_table(self, path: str) -> bool:
        own = any(is_named(path, patterns) for patterns in self._own_tables.values())
        return own or is_array_name(path)

    def _ignore(self, path: str) -> None:
        self.ignored += 1
        self.first_ignored = self.first_ignored or path[len(self.root) :].lstrip("/")


def _kind_of_folder(root: str) -> str:
    """Which result of a job a folder is, finished or not; empty if it is none."""
    for kind in RESULTS:
        if files.exists(files.join(root, f"{kind}.json")):
            return kind
    return _kind_in_settings(root)


def _kind_in_settings(root: str) -> str:
    """Which result of a job a folder is by its settings; empty if it is none."""
    with suppress(ValueError):  # a file of the user's own
        if (kind := kind_of(root)) in RESULTS:
            return kind
    return ""
