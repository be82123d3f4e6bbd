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
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from survey import files
from survey.sources import row_groups

T = TypeVar("T")

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
        if not path or not files.exists(path):
            return None
        try:
            labels = pyarrow.csv.read_csv(io.BytesIO(files.read(path)))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{path}: no readable CSV ({error}); give a first line of names and one line per spectrum"
            ) from error
        if labels.num_rows != self.count:
            raise ValueError(
                f"{path}: {labels.num_rows} rows, but {self._path} has {self.count} spectra; "
                "give one row for each spectrum"
            )
        return labels

    @property
    def names(self) -> list[str]:
        """The columns of the CSV."""
        return [] if self._labels is None else list(self._labels.column_names)

    def floats(self, name: str) -> pa.Array | None:
        """A column of the CSV that holds floating-point numbers; None if it holds others."""
        assert self._labels is not None
        is_float = pa.types.is_floating(self._labels.schema.field(name).type)
        return self._labels[name].combine_chunks() if is_float else None

    def rows(self, numbers: list[int], columns: tuple[str, ...]) -> Iterator[tuple[int, SpectrumRow]]:
        """These rows with their numbers, and these columns of the CSV."""
        size = self.pixels * self._kind.itemsize
        for number, visit in zip(numbers, _visits(self._labels, columns, numbers), strict=True):
            self._file.seek(self._start + number * size)
            flux = np.frombuffer(self._file.read(size), self._kind)
            yield number, SpectrumRow(flux, NO_COLUMN, NO_COLUMN, NO_COLUMN, NO_COLUMN, visit)


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
            raise ValueError(f"{path}: no readable Parquet ({error}); give .npy or Parquet files") from error
        schema = self._parquet.schema_arrow
        self.names: list[str] = list(schema.names)
        by_lower = {name.lower(): name for name in self.names}
        self._lists = [
            next((by_lower[name] for name in names if name in by_lower), None) for names in self.LISTS
        ]
        flux, _, wave, *_ = self._lists
        if flux is None:
            raise ValueError(
                f"{path}: the columns are {', '.join(self.names[:20])}; "
                "a Parquet of spectra needs a column of lists named flux"
            )
        kind = schema.field(flux).type
        fixed = pa.types.is_fixed_size_list(kind)
        if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise ValueError(f"{path}: the column {flux} holds {kind}; give a list of numbers in each row")
        self.pixels: int | None = kind.list_size if fixed else None
        self.has_wave = wave is not None
        self.count: int = self._parquet.metadata.num_rows
        self.complete = self.count

    def check_complete(self) -> None:
        """Nothing: a Parquet file that was cut short cannot be opened."""

    def floats(self, name: str) -> pa.Array | None:
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
        needed = [name for name in (*self._lists, *columns) if name is not None]
        try:
            pieces = row_groups.pieces(self._parquet, self._file, self._path, group, needed, numbers)
            for inside, first, table in pieces:
                yield from self._rows_of_table(table, [number - first for number in inside], columns)
        except ConnectionError:
            raise  # a bucket that does not answer: the file may be sound
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{self._path}: row group {group} is damaged ({error}); copy the file again"
            ) from error

    def _rows_of_table(
        self, table: pa.Table, numbers: list[int], columns: tuple[str, ...]
    ) -> Iterator[SpectrumRow]:
        lists = [None if name is None else table.column(name) for name in self._lists]
        is_log10 = (self._lists[2] or "").lower() == "loglam"
        for number, visit in zip(numbers, _visits(table, columns, numbers), strict=True):
            flux, ivar, wave, bad, suspect = (
                NO_COLUMN if column is None else _cell(column[number]) for column in lists
            )
            if is_log10 and isinstance(wave, np.ndarray):
                wave = 10.0 ** np.clip(wave.astype(float), 0, 9)
            yield SpectrumRow(flux, ivar, wave, bad, suspect, visit)


def _visits(table: pa.Table | None, columns: tuple[str, ...], numbers: list[int]) -> list[dict[str, Any]]:
    """These columns of these rows. (pyarrow would give no rows for no columns.)"""
    if table is None or not columns:
        return [{}] * len(numbers)
    rows: list[dict[str, Any]] = table.select(list(columns)).take(numbers).to_pylist()
    return rows


def _cell(value: pa.Scalar) -> Any:
    """A list as an array, another value as a type of Python."""
    list_types = (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)
    if not value.is_valid or not isinstance(value, list_types):
        return value.as_py()
    return value.values.to_numpy(zero_copy_only=False)
