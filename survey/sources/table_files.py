"""Files with many spectra as rows: a ``.npy`` array with an optional CSV of labels, or a Parquet of lists.

Both give the number of rows and of pixels from headers alone, and the spectra of some rows, one by one. Only
these rows of an array, or the row groups of a Parquet that hold them, are read, on this machine or from a
bucket. Pickled objects are never loaded.
"""

import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from survey import files
from survey.sources import row_groups
from survey.sources.ascii import NAMES
from survey.sources.column_names import visit_columns
from survey.tables import cells
from survey.tables.access import is_lost

T = TypeVar("T")

ERRORS = NAMES["error"]
"""The names of a column of errors, which is read where there are no inverse variances."""

NO_COLUMN = object()
"""The value of a row if the table lacks the column. None means that the row lacks the value."""


class SpectrumRow(NamedTuple):
    """What a table holds of one spectrum, unchecked."""

    flux: Any
    ivar: Any
    wave: Any
    bad: Any
    suspect: Any
    visit: dict[str, Any]


def in_order(rows: list[int], found: Iterator[tuple[int, T]], gone: T) -> Iterator[T]:
    """What was found for these rows, in their order; `gone` for a row that was not found.

    `found` comes in the order of the numbers. Nothing is kept of it if `rows` rise.
    """
    times, waiting = Counter(rows), dict[int, T]()
    for row in rows:
        while row not in waiting and (pair := next(found, None)):
            waiting[pair[0]] = pair[1]
        yield waiting.get(row, gone)
        times[row] -= 1
        if not times[row]:
            waiting.pop(row, None)


def label_path(path: str) -> str:
    """The CSV that belongs to an array X*.npy; empty for another name."""
    name = path.rpartition("/")[2]
    is_array = name.startswith("X") and name.lower().endswith(".npy")
    return f"{path.removesuffix(name)}y{name[1:-4]}.csv" if is_array else ""


@contextmanager
def open_spectra(path: str) -> Iterator["ArrayFile | ParquetFile"]:
    """The table in a file."""
    with files.open_file(path) as file:
        yield ArrayFile(file, path) if path.lower().endswith(".npy") else ParquetFile(file, path)


class ArrayFile:
    """An array [spectra, pixels], and the CSV that belongs to it: y.csv for X.npy, y_train.csv for
    X_train.npy."""

    layout = "npy"
    has_wave = False

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path
        self.names: list[str] = []
        """The columns of the CSV."""
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
        except (ValueError, SyntaxError, tokenize.TokenError) as error:
            raise ValueError(
                f"{path}: no header of a .npy file ({error}); save the array with numpy.save"
            ) from error
        shape, fortran, self._kind = header
        if self._kind.kind != "f" or len(shape) != 2 or fortran or min(shape) < 0:
            order = "column by column" if fortran else "row by row"
            raise ValueError(
                f"{path}: an array {shape} of {self._kind}, {order}; "
                "give floating-point numbers [spectra, pixels], row by row"
            )
        self.count, self.pixels = shape
        self._start = file.tell()
        self._size = file.seek(0, io.SEEK_END)
        row_size = self.pixels * self._kind.itemsize
        self.complete = min(self.count, (self._size - self._start) // row_size if row_size else 0)
        """The rows that the file holds completely: fewer than `count`, if it was cut short."""
        self._labels = self._read_labels()

    def check_complete(self) -> None:
        """An error if the file is shorter than its header says."""
        if self.complete < self.count:
            needed = self._start + self.count * self.pixels * self._kind.itemsize
            raise ValueError(
                f"{self._path}: {self._size} bytes, but {self.count} spectra of {self.pixels} pixels "
                f"take {needed}; copy the file again"
            )

    def _read_labels(self) -> pa.Table | None:
        path = label_path(self._path)
        entry = files.stat_of(path) if path else None
        if entry is None:
            return None
        self.names, labels = _read_label_csv(*entry)
        if labels.num_rows != self.count:
            raise ValueError(
                f"{path}: {labels.num_rows} rows, but {self._path} has {self.count} spectra; "
                "give one row for each spectrum"
            )
        return labels

    def ids(self, name: str) -> pa.Array:
        """A column of the CSV."""
        assert self._labels is not None
        return self._labels[name].combine_chunks()

    def rows(self, numbers: list[int], columns: tuple[str, ...]) -> Iterator[tuple[int, SpectrumRow]]:
        """These rows with their numbers, and these columns of the CSV."""
        size = self.pixels * self._kind.itemsize
        for number, visit in zip(numbers, _visits(self._labels, columns, numbers), strict=True):
            self._file.seek(self._start + number * size)
            flux = np.frombuffer(self._file.read(size), self._kind)
            yield number, SpectrumRow(flux, NO_COLUMN, NO_COLUMN, NO_COLUMN, NO_COLUMN, visit)


@lru_cache(maxsize=1)
def _read_label_csv(path: str, size: int, stamp: float) -> tuple[list[str], pa.Table]:
    """The names of all columns of a CSV, and those of a visit as text: numbers would lose zeros of ids.

    The last one is kept as long as its size and time stay the same: each shard needs it.
    """
    data = pa.BufferReader(files.read(path))
    try:
        names = pyarrow.csv.open_csv(data).schema.names
        data.seek(0)
        columns = visit_columns(names)
        wanted = list(dict.fromkeys(name for _, name in columns)) or names[:1]
        as_text = pyarrow.csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            null_values=[*pyarrow.csv.ConvertOptions().null_values, *cells.MISSING],
            strings_can_be_null=True,
        )
        labels = pyarrow.csv.read_csv(data, convert_options=as_text)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: no readable CSV ({error}); give a first line of names and one line per spectrum"
        ) from error
    for name in dict.fromkeys(name for column, name in columns if column in ("visit", "star", "planid")):
        # pandas writes whole numbers so, where a column has gaps
        text = pc.replace_substring_regex(labels[name], r"^(\d{1,16})\.0+$", r"\1")
        labels = labels.set_column(wanted.index(name), name, text)
    return names, labels


class ParquetFile:
    """A table with a list of fluxes in each row, and optional lists of inverse variances, wavelengths and
    masks."""

    layout = "parquet"
    LISTS = (
        ("flux",),
        ("ivar",),
        ("wave", "wavelength", "loglam"),
        ("andmask", "and_mask", "mask"),
        ("ormask", "or_mask"),
    )

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path
        try:
            self._parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            if is_lost(path, error):
                raise
            raise ValueError(f"{path}: no readable Parquet ({error}); give .npy or Parquet files") from error
        schema = self._parquet.schema_arrow
        self.names: list[str] = list(schema.names)
        by_lower = {name.lower(): name for name in self.names}
        self._lists = [
            next((by_lower[name] for name in names if name in by_lower), None) for names in self.LISTS
        ]
        flux, ivar, wave, *_ = self._lists
        self._error = None if ivar else self._list_of_errors(schema, by_lower)
        if flux is None:
            raise ValueError(
                f"{path}: the columns are {', '.join(self.names[:20])}; "
                "a Parquet of spectra needs a column of lists named flux"
            )
        kind = schema.field(flux).type
        if not _is_list(kind):
            raise ValueError(f"{path}: the column {flux} holds {kind}; give a list of numbers in each row")
        self.pixels: int | None = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        self.has_wave = wave is not None
        self.count: int = self._parquet.metadata.num_rows
        self.complete = self.count

    @staticmethod
    def _list_of_errors(schema: pa.Schema, by_lower: dict[str, str]) -> str | None:
        """The column of errors. A single number in each row is something else, such as a dispersion."""
        named = (by_lower[name] for name in ERRORS if name in by_lower)
        return next((name for name in named if _is_list(schema.field(name).type)), None)

    def check_complete(self) -> None:
        """Nothing: a Parquet file that was cut short cannot be opened."""

    def ids(self, name: str) -> pa.Array | None:
        """A column that holds a floating-point number in each row; None if it holds others."""
        if not pa.types.is_floating(self._parquet.schema_arrow.field(name).type):
            return None
        return self._parquet.read([name], use_threads=False)[name].combine_chunks()

    def rows(self, numbers: list[int], columns: tuple[str, ...]) -> Iterator[tuple[int, SpectrumRow]]:
        """These rows with their numbers and these columns, row group by row group."""
        start = 0
        for group in range(self._parquet.num_row_groups):
            stop = start + self._parquet.metadata.row_group(group).num_rows
            inside = [number for number in numbers if start <= number < stop]
            if inside:
                rows = self._rows_of_group(group, [number - start for number in inside], columns)
                yield from zip(inside, rows, strict=True)
            start = stop

    def _rows_of_group(
        self, group: int, numbers: list[int], columns: tuple[str, ...]
    ) -> Iterator[SpectrumRow]:
        needed = [name for name in (*self._lists, self._error, *columns) if name is not None]
        try:
            pieces = row_groups.pieces(self._parquet, self._file, self._path, group, needed, numbers)
            for inside, first, table in pieces:
                yield from self._rows_of_table(table, [number - first for number in inside], columns)
        except (pa.ArrowException, OSError) as error:
            if is_lost(self._path, error):
                raise
            raise ValueError(
                f"{self._path}: row group {group} is damaged ({error}); copy the file again"
            ) from error

    def _rows_of_table(
        self, table: pa.Table, numbers: list[int], columns: tuple[str, ...]
    ) -> Iterator[SpectrumRow]:
        lists = [None if name is None else table.column(name) for name in self._lists]
        error_column = None if self._error is None else table.column(self._error)
        is_log10 = (self._lists[2] or "").lower() == "loglam"
        for number, visit in zip(numbers, _visits(table, columns, numbers), strict=True):
            flux, ivar, wave, bad, suspect = (
                NO_COLUMN if column is None else _cell(column[number]) for column in lists
            )
            if is_log10 and isinstance(wave, np.ndarray):
                wave = 10.0 ** np.clip(wave.astype(float), 0, 9)
            if error_column is not None:
                ivar = _inverse_variances(_cell(error_column[number]))
            yield SpectrumRow(flux, ivar, wave, bad, suspect, visit)


def _visits(table: pa.Table | None, columns: tuple[str, ...], numbers: list[int]) -> list[dict[str, Any]]:
    """These columns of these rows. (pyarrow would give no rows for no columns.)"""
    if table is None or not columns:
        return [{}] * len(numbers)
    rows: list[dict[str, Any]] = table.select(list(columns)).take(numbers).to_pylist()
    return rows


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _inverse_variances(errors: Any) -> Any:
    """The inverse variances of a list of errors, 0 where there is no error; another value as it is."""
    if not isinstance(errors, np.ndarray) or errors.dtype.kind not in "fiu":
        return errors
    with np.errstate(all="ignore"):
        return 1 / np.where(errors > 0, errors, np.inf).astype(float) ** 2


def _cell(value: pa.Scalar) -> Any:
    """A list as an array, another value as a type of Python."""
    list_types = (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)
    if not value.is_valid or not isinstance(value, list_types):
        return value.as_py()
    return value.values.to_numpy(zero_copy_only=False)
