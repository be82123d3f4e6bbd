"""Files that hold many spectra as rows: a ``.npy`` array with an optional CSV of labels beside it, or a Parquet of lists.

Both offer how many rows there are and of how many pixels, from headers alone, and the rows that are asked for. Only those rows of an array
and only the row groups of a Parquet that hold them are read, on this machine or from a bucket. Pickled objects are never loaded.
"""

import io
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from survey import files

NO_COLUMN = object()
"""What a row holds where the table lacks a column; None is a row that lacks the value."""


class Row(NamedTuple):
    """What a table says of one spectrum, unchecked."""

    flux: Any
    ivar: Any
    wave: Any
    bad: Any
    suspect: Any
    facts: dict[str, Any]


@contextmanager
def opened(path: str) -> Iterator["Npy | Parquet"]:
    """The table in a file."""
    with files.bucket_system().open(path, "rb") if files.is_remote(path) else Path(path).open("rb") as file:
        yield Npy(file, path) if path.lower().endswith(".npy") else Parquet(file, path)


class Npy:
    """An array [spectra, pixels], with the rows of a CSV to go with its rows: y.csv for X.npy, y_train.csv for X_train.npy."""

    layout = "npy"
    has_wave = False

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path
        try:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, self._kind = header(file)
        except (ValueError, SyntaxError, tokenize.TokenError) as error:
            raise ValueError(
                f"{path}: no header of a .npy file ({error}); save the array with numpy.save"
            ) from error
        if self._kind.kind != "f" or len(shape) != 2 or fortran or min(shape) < 0:
            order = "column by column" if fortran else "row by row"
            raise ValueError(
                f"{path}: an array {shape} of {self._kind}, {order}; give floating-point numbers [spectra, pixels], row by row"
            )
        self.count, self.pixels = shape
        self._start = file.tell()
        size, needed = file.seek(0, io.SEEK_END), self._start + self.count * self.pixels * self._kind.itemsize
        if size < needed:
            raise ValueError(
                f"{path}: {size} bytes, but {self.count} spectra of {self.pixels} pixels take {needed}; copy the file again"
            )
        self._labels = self._read_labels()

    def _read_labels(self) -> pa.Table | None:
        name = self._path.rpartition("/")[2]
        beside = f"{self._path.removesuffix(name)}y{name[1:-4]}.csv"
        if not name.startswith("X") or not files.exists(beside):
            return None
        try:
            labels = pyarrow.csv.read_csv(io.BytesIO(files.read(beside)))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{beside}: no readable CSV ({error}); give a first line of names and one line for each spectrum"
            ) from error
        if labels.num_rows != self.count:
            raise ValueError(
                f"{beside}: {labels.num_rows} rows, but {self._path} has {self.count} spectra; give one row for each spectrum"
            )
        return labels

    @property
    def names(self) -> list[str]:
        """The columns of the CSV."""
        return [] if self._labels is None else list(self._labels.column_names)

    def rows(self, wanted: list[int], facts: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
        """The wanted rows with their numbers."""
        size = self.pixels * self._kind.itemsize
        for number, said in zip(wanted, _facts(self._labels, facts, wanted), strict=True):
            self._file.seek(self._start + number * size)
            flux = np.frombuffer(self._file.read(size), self._kind)
            yield number, Row(flux, NO_COLUMN, NO_COLUMN, NO_COLUMN, NO_COLUMN, said)


class Parquet:
    """A table with a list of fluxes in each row and, where there are such columns, of inverse variances, wavelengths and masks."""

    layout = "parquet"
    LISTS = (
        ("flux",),
        ("ivar",),
        ("wave", "wavelength", "loglam"),
        ("andmask", "and_mask", "mask"),
        ("ormask", "or_mask"),
    )

    def __init__(self, file: Any, path: str) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: no readable Parquet ({error}); give .npy or Parquet files") from error
        schema = self._file.schema_arrow
        self.names: list[str] = list(schema.names)
        there = {name.lower(): name for name in self.names}
        self._lists = [next((there[name] for name in names if name in there), None) for names in self.LISTS]
        flux, _, wave, *_ = self._lists
        if flux is None:
            raise ValueError(
                f"{path}: the columns are {', '.join(self.names[:20])}; a Parquet of spectra needs a column of lists named flux"
            )
        kind = schema.field(flux).type
        fixed = pa.types.is_fixed_size_list(kind)
        if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise ValueError(f"{path}: the column {flux} holds {kind}; give a list of numbers in each row")
        self.pixels: int | None = kind.list_size if fixed else None
        self.has_wave = wave is not None
        self.count: int = self._file.metadata.num_rows

    def rows(self, wanted: list[int], facts: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
        """The wanted rows with their numbers, row group by row group."""
        start = 0
        for group in range(self._file.num_row_groups):
            stop = start + self._file.metadata.row_group(group).num_rows
            inside = [number for number in wanted if start <= number < stop]
            if inside:
                yield from zip(
                    inside, self._group(group, [number - start for number in inside], facts), strict=True
                )
            start = stop

    def _group(self, group: int, places: list[int], facts: tuple[str, ...]) -> Iterator[Row]:
        columns = [name for name in (*self._lists, *facts) if name is not None]
        try:
            table = self._file.read_row_group(group, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{self._path}: row group {group} is damaged ({error}); copy the file again"
            ) from error
        said = _facts(table, facts, places)
        lists = [None if name is None else table.column(name) for name in self._lists]
        log = (self._lists[2] or "").lower() == "loglam"
        for place, values in zip(places, said, strict=True):
            flux, ivar, wave, bad, suspect = (
                NO_COLUMN if column is None else _cell(column[place]) for column in lists
            )
            if log and isinstance(wave, np.ndarray):
                wave = 10.0 ** np.clip(wave.astype(float), 0, 9)
            yield Row(flux, ivar, wave, bad, suspect, values)


def _facts(table: pa.Table | None, columns: tuple[str, ...], places: list[int]) -> list[dict[str, Any]]:
    """These columns of these rows; a table of no columns would have no rows either."""
    return (
        table.select(list(columns)).take(places).to_pylist()
        if table is not None and columns
        else [{}] * len(places)
    )


def _cell(value: pa.Scalar) -> Any:
    """A list as an array, anything else as Python's own."""
    if not value.is_valid or not isinstance(
        value, (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)
    ):
        return value.as_py()
    return value.values.to_numpy(zero_copy_only=False)
