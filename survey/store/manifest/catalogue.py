"""A survey's catalogue as manifest rows: which of its columns means what, and the file of each row.

Names are compared without case and without the prefix of the survey (`combined_` in LAMOST's catalogues). If
a catalogue has a column both with and without the prefix, the one without counts and the other fills its
gaps.

The file of a row is in a column, or follows from other columns by a pattern. A row that names no file gets a
path that does not exist, so that the ingest refuses and counts it.

Files are expected in the folders that the catalogue or the pattern names. If none is there, but the folder of
the files holds them directly, the folders in the names are left out.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from survey import files
from survey.fetch import other_name
from survey.messages import KEY_IN_ADDRESS, has_bucket_secret
from survey.settings import SettingsError
from survey.sources.naming import namings
from survey.store.manifest.manifest import ITEM, manifest_rows
from survey.store.manifest.pattern import PatternPiece, parse_pattern, write_paths
from survey.store.manifest.unreadable import Unreadable, unreadable_cells
from survey.tables import cells
from survey.tables.access import is_lost
from survey.tables.angles import declinations, right_ascensions
from survey.tables.columns import (
    CATALOGUE_COLUMNS,
    FILE_COLUMNS,
    IMAGE_COLUMNS,
    magnitude_note,
    name_without_prefix,
    numbers_by_name,
    z_is_magnitude,
)
from survey.tables.ids import Rounded, id_texts
from survey.tables.read import DAMAGE, IN_UTF8, NO_UTF8, Columns, TableFile, open_table

LIMITS = {"rv": (-299792.458, 299792.458), "z": (-1.0, 20.0)}
MEASURED = ("ra", "dec", *LIMITS)

MANIFEST_COLUMNS = ("row", "size", "stamp")
"""More columns of a catalogue that is itself a manifest: it has `path` and all of these."""

TRIED = 200
"""Rows whose files are looked for, to see in which folders they are."""


@dataclass
class Catalogue:
    """A catalogue and the meaning of its columns; `nameless` counts the rows that name no file, `rounded` the
    ids in each column of stars that lack digits, `unread` the cells of other columns that are no numbers.

    `image_pieces` are the path of an object's image, besides its spectrum or alone.
    `path_columns` are the columns of the pattern, `value_columns` those of the manifest, best first. `flat`
    means that all files lie directly in `root`; it is decided by the first rows.
    """

    table: TableFile
    root: str
    pieces: tuple[PatternPiece, ...] = ()
    path_columns: dict[str, int] = field(default_factory=dict)
    image_pieces: tuple[PatternPiece, ...] = ()
    image_columns: dict[str, int] = field(default_factory=dict)
    value_columns: dict[str, list[int]] = field(default_factory=dict)
    nameless: int = 0
    rounded: dict[int, Rounded] = field(default_factory=dict)
    unread: dict[tuple[str, int], Unreadable] = field(default_factory=dict)
    flat: bool | None = None

    def rows(self) -> Iterator[pa.Table]:
        """Manifest rows, in the order of the catalogue."""
        values = (number for numbers in self.value_columns.values() for number in numbers)
        wanted = sorted({*self.path_columns.values(), *self.image_columns.values(), *values})
        first = 1
        try:
            for columns in self.table.blocks(wanted):
                count = len(columns[wanted[0]])
                yield self._rows(columns, first, count)
                first += count
        except DAMAGE as error:
            if is_lost(self.table.path, error):
                raise
            text = str(error).strip()
            advice = IN_UTF8 if text.endswith(NO_UTF8) else "; correct or remove the line"
            raise ValueError(
                f"ingest: {self.table.path}: {text}, after {first - 1} good rows{advice}"
            ) from None

    def _rows(self, columns: Columns, first: int, count: int) -> pa.Table:
        path = self._paths(columns)
        image = pa.nulls(count, pa.string())
        if self.image_pieces:
            cells_of = {column: columns[number] for column, number in self.image_columns.items()}
            image = self._in_root(write_paths(self.image_pieces, cells_of))
            is_alone = pc.is_null(path)
            path, image = pc.coalesce(path, image), pc.if_else(is_alone, None, image)
        if path.null_count:
            self.nameless += path.null_count
            number = pc.cast(pa.array(range(first, first + count)), pa.string())
            path = pc.coalesce(path, pc.binary_join_element_wise(f"{self.table.path}#row-", number, ""))
        values: dict[str, Any] = {"path": path, "row": ITEM, "image": image}
        for name, numbers in self.value_columns.items():
            readings = [self._read_values(name, columns[number], number) for number in numbers]
            values[name] = pc.coalesce(*readings) if len(readings) > 1 else readings[0]
        if "row" in self.value_columns:
            values["row"] = pc.fill_null(values["row"], ITEM)
        return manifest_rows(count, values)

    def _read_values(self, name: str, column: pa.Array, number: int) -> pa.Array:
        if name != "star":
            values = _read_values(name, column)
            if name in MEASURED and (found := unreadable_cells(column, values)).count:
                self.unread[name, number] = self.unread.get((name, number), Unreadable()) + found
            return values
        texts, rounded = id_texts(column)
        self.rounded[number] = self.rounded.get(number, Rounded()) + rounded
        return _star_names(texts)

    @property
    def rounded_ids(self) -> str:
        """What is wrong with ids of stars that are not used; empty if nothing is."""
        messages = (ids.message(self.table.names[number]) for number, ids in self.rounded.items())
        return ". ".join(filter(None, messages))

    @property
    def unreadable(self) -> dict[str, str]:
        """For each column of the manifest whose cells cannot all be read, what is wrong."""
        names = self.table.names
        return {name: found.message(names[number]) for (name, number), found in self.unread.items()}

    def _paths(self, columns: Columns) -> pa.Array:
        name = write_paths(
            self.pieces, {column: columns[number] for column, number in self.path_columns.items()}
        )
        path = self._in_root(name)
        if self.flat is None:
            self.flat = self._is_flat(path)
        if self.flat:
            start = f"{self.root.rstrip('/')}/"
            inside = pc.fill_null(pc.starts_with(path, start), False)
            bare = pc.replace_substring_regex(path, r"^.*/", start.replace("\\", r"\\"))
            path = pc.if_else(inside, bare, path)
        return path

    def _in_root(self, name: pa.Array) -> pa.Array:
        """Names of files as paths: those that are not absolute lie in the folder of the files."""
        is_absolute = pc.or_(pc.starts_with(name, "/"), pc.match_substring(name, "://"))
        path = pc.binary_join_element_wise(self.root.rstrip("/") + "/", name, "")
        if pc.any(is_absolute).as_py():
            path = pc.if_else(is_absolute, name, path)
        path = _normalised(path)
        self._check_secrets(path)
        return path

    def _check_secrets(self, paths: pa.Array) -> None:
        """An error if the path of a row holds a key, before it is written into a manifest."""
        remote = pc.drop_null(pc.filter(paths, pc.starts_with(paths, "s3://")))
        if any(map(has_bucket_secret, remote.to_pylist())):
            raise ValueError(f"ingest: {self.table.path}: a row names a file of which {KEY_IN_ADDRESS}")

    def _is_flat(self, paths: pa.Array) -> bool:
        """Whether the files of these rows lie directly in `root`, though their names have folders.

        Folders on this machine only: a bucket would be asked for each file.
        """
        start = f"{self.root.rstrip('/')}/"
        if files.is_remote(self.root):
            return False
        inside = [path for path in paths.drop_null().to_pylist() if path.startswith(start)]
        nested = [path for path in inside if "/" in path[len(start) :]]
        tried = nested[:: max(1, len(nested) // TRIED)]
        if not nested or any(files.stat_of(path) or files.stat_of(other_name(path)) for path in tried):
            return False
        names = {name.removesuffix(".gz") for name in files.names(self.root)}
        return any(path.rpartition("/")[2].removesuffix(".gz") in names for path in nested)


def open_catalogue(
    path: str, root: str, pattern: str, image_pattern: str = "", *, has_spectra: bool = True
) -> Catalogue:
    """The catalogue of that path. Its files are below `root`; the patterns are those of the settings, or
    empty. Without `has_spectra`, images are not taken for additions to spectra that only the survey's rule
    names."""
    table = open_table(path, "ingest")
    numbers = numbers_by_name(table.names)
    file = next((table.names[numbers[name][0]] for name in FILE_COLUMNS if name in numbers), "")
    image = next((table.names[numbers[name][0]] for name in IMAGE_COLUMNS if name in numbers), "")
    if not pattern and not file and (has_spectra or not (image or image_pattern)):
        pattern = _survey_pattern(numbers)
    if not pattern and not file:
        pattern, image_pattern, file, image = image_pattern, "", image, ""
    if image_pattern or image:
        image_pieces = parse_pattern(image_pattern) if image_pattern else (PatternPiece(column=image),)
    else:
        image_pieces = ()
    if not pattern and not file:
        raise SettingsError(_no_path_message(table))
    pieces = parse_pattern(pattern) if pattern else (PatternPiece(column=file),)
    path_columns, image_columns = (
        {piece.column: _pattern_column(table, numbers, piece.column) for piece in each if piece.column}
        for each in (pieces, image_pieces)
    )
    if z_is_magnitude(table.names):
        numbers["z"] = numbers["z"][1:]  # columns without a prefix come first
        logging.getLogger(__name__).warning("ingest: %s: %s", path, magnitude_note(table.names))
    value_columns = {
        name: found[:2]
        for name, aliases in CATALOGUE_COLUMNS.items()
        if (found := [number for alias in aliases for number in numbers.get(alias, [])])
    }
    if file.lower() == "path" and not pattern and all(name in numbers for name in MANIFEST_COLUMNS):
        value_columns |= {name: numbers[name][:1] for name in MANIFEST_COLUMNS}
    return Catalogue(table, root, pieces, path_columns, image_pieces, image_columns, value_columns)


def _pattern_columns(pattern: str) -> list[str]:
    return list(dict.fromkeys(piece.column for piece in parse_pattern(pattern) if piece.column))


def _survey_pattern(numbers: dict[str, list[int]]) -> str:
    """The pattern of the first survey whose columns are all there."""
    patterns = (naming.path for naming in namings())
    return next(
        (pattern for pattern in patterns if all(name in numbers for name in _pattern_columns(pattern))), ""
    )


def _no_path_message(table: TableFile) -> str:
    surveys = " or ".join(", ".join(_pattern_columns(naming.path)) for naming in namings())
    return (
        f"ingest: {table.path}: no column names the files, found {', '.join(table.names)[:300]}; "
        f"needed is a column {', '.join(FILE_COLUMNS[:4])} ..., or the columns {surveys}; "
        "or give pattern= with other columns"
    )


def _pattern_column(table: TableFile, numbers: dict[str, list[int]], column: str) -> int:
    """The number of a column of the pattern."""
    if column in table.names:
        return table.names.index(column)
    found = numbers.get(name_without_prefix(column))
    if not found:
        raise SettingsError(
            f"ingest: {table.path}: the pattern needs the column {column}, "
            f"found {', '.join(table.names)[:300]}; give another pattern="
        )
    return found[0]


def _read_values(name: str, column: pa.Array) -> pa.Array:
    """The cells of a column as values of the manifest."""
    if name in ("ra", "dec"):
        return (right_ascensions if name == "ra" else declinations)(cells.as_read(column))
    if name in LIMITS:
        return cells.measured(column, *LIMITS[name])
    if name == "stamp":
        return cells.numbers(column)
    number = cells.integers(column)
    return pc.if_else(pc.greater(number, 0), number, None) if name == "obsid" else number


def _star_names(names: pa.Array) -> pa.Array:
    """Names of stars without the prefix of the survey. Numbers that pandas read as floats lose their .0."""
    replacements = [(f"{prefix} ", rf"^{re.escape(prefix)}\s+", "") for prefix in _star_prefixes()]
    for marker, pattern, replacement in (*replacements, (".0", r"^(\d+)\.0+$", r"\1")):
        if pc.any(pc.match_substring(names, marker)).as_py():
            names = pc.replace_substring_regex(names, pattern, replacement)
    return pc.if_else(pc.is_in(names, pa.array(["0", "-1"])), None, names)


def _star_prefixes() -> list[str]:
    return [naming.star_prefix for naming in namings() if naming.star_prefix]


def _normalised(paths: pa.Array) -> pa.Array:
    """The same paths without ``//``, ``/./`` and ``/../``. Few have them, so these are treated one by one."""
    is_local = pc.invert(pc.match_substring(paths, "://"))
    has_dots = pc.or_(pc.match_substring(paths, "//"), pc.match_substring(paths, "/."))
    mask = pc.fill_null(pc.and_(is_local, has_dots), False)
    if not pc.any(mask).as_py():
        return paths
    normalised = [files.absolute(path) for path in paths.filter(mask).to_pylist()]
    return pc.replace_with_mask(paths, mask, pa.array(normalised, pa.string()))
