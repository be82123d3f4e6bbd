"""Tables as columns: CSV, Parquet, FITS or VOTable, gzipped or not, on a disk or in a bucket.

Only the columns that are needed are read: a Parquet file that holds spectra too costs no more than its
labels. A catalogue of a survey is read block by block. Cells come as they are written (CSV: text); the
functions of `survey.tables.cells` turn them into values.
"""

import codecs
import csv
import difflib
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from xml.parsers.expat import ExpatError

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from isal import igzip, igzip_lib

from survey import files
from survey.tables import cells
from survey.tables.access import is_lost
from survey.tables.columns import column_prefixes

BLOCK = 8 << 20
GZIP = b"\x1f\x8b"
DELIMITERS = ",|\t;"

BLANK = b"\xef\xbb\xbf \t\r\n"
"""What may stand before the first tag of XML."""

DAMAGE: Any = (
    pa.ArrowException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    csv.Error,
    ExpatError,
    igzip_lib.IsalError,
)
"""What reading a damaged file may raise."""

ADVICE = "give a CSV with a first line of names, a Parquet file, a FITS binary table or a VOTable"

NO_UTF8 = "invalid UTF8 data"
"""How the messages of pyarrow end about text in another encoding."""
IN_UTF8 = "; save the table as text in UTF-8 (in a spreadsheet: CSV UTF-8)"

Columns = dict[int, pa.Array]
"""Cells by the number of their column."""


@dataclass(frozen=True)
class TableFile:
    """A table in a file: the names of its columns and its format. `job` is the first word of its errors."""

    path: str
    names: tuple[str, ...]
    kind: Literal["csv", "parquet", "fits", "votable"]
    delimiter: str = ","
    job: str = "labels"

    def read(self, wanted: Sequence[str]) -> pa.Table:
        """These columns, each once, in this order. Of columns with the same name, the first is read."""
        wanted = list(dict.fromkeys(wanted))
        with files.open_file(self.path) as stream, report_damage(self.path, self.job):
            table = _READERS[self.kind](self, stream, wanted)
        if wanted and not table.num_rows:
            raise ValueError(
                f"{self.job}: {self.path}: has no rows, only the columns {', '.join(self.names[:10])}; "
                "give a table with a row for each spectrum or star"
            )
        return table

    def blocks(self, wanted: Sequence[int]) -> Iterator[Columns]:
        """The columns of these numbers, block by block. In a CSV file all of `cells.MISSING` is null.

        A bad line is an error of `DAMAGE`, which the caller completes.
        """
        with files.open_file(self.path) as stream:
            if self.kind == "csv":
                options = _csv_options(self, [str(number) for number in wanted], cells.MISSING, threads=False)
                for block in pyarrow.csv.open_csv(pa.PythonFile(unpacked(stream), mode="r"), *options):
                    yield dict(zip(wanted, block.columns, strict=True))
            elif self.kind == "parquet":
                names = [self.names[number] for number in wanted]
                file = pq.ParquetFile(_seekable(stream))
                for block in file.iter_batches(1 << 16, columns=names, use_threads=False):
                    yield {number: _parquet_column(block, self.names[number]) for number in wanted}
            else:
                table = _READERS[self.kind](self, stream, [self.names[number] for number in wanted])
                for block in table.to_batches():
                    yield {number: block.column(self.names[number]) for number in wanted}

    def similar(self, name: str) -> str:
        """The columns with similar names, and all columns: the end of a message about a missing column."""
        lower = {column.lower(): column for column in self.names}
        similar = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
        listed = ", ".join(self.names[:60])
        if len(self.names) > 60:
            listed += f" and {len(self.names) - 60} more"
        return f"{'similar: ' + ', '.join(similar) + '; ' if similar else ''}the columns are {listed}"

    def find(self, *names: str) -> str | None:
        """The first column with one of these names, in any case, with or without the prefix of a survey."""
        lower = {column.lower(): column for column in reversed(self.names)}
        candidates = (prefix + name.lower() for name in names for prefix in column_prefixes())
        return next((lower[candidate] for candidate in candidates if candidate in lower), None)


@contextmanager
def report_damage(path: str, job: str) -> Iterator[None]:
    """Errors of reading a damaged file name the file and say what to do."""
    try:
        yield
    except DAMAGE as error:
        if is_lost(path, error):
            raise
        text = str(error).strip()
        text += IN_UTF8 if text.endswith(NO_UTF8) else ""
        if text.endswith(IN_UTF8):
            raise ValueError(f"{job}: {path}: {text}") from error
        raise ValueError(f"{job}: {path}: damaged, or another kind of file ({text}); {ADVICE}") from error


def open_table(path: str, job: str = "labels") -> TableFile:
    """The table in a file. Only the names of its columns are read."""
    if not path or not files.exists(path):
        raise FileNotFoundError(f"{job}: {path or 'no path'}: no such file; {ADVICE}")
    with files.open_file(path) as stream, report_damage(path, job):
        start = unpacked(stream).read(16)
        if start.startswith(b"PAR1"):
            schema = pq.ParquetFile(_seekable(stream)).schema_arrow
            names = [field.name for field in schema if cells.is_single(field.type)]
            return TableFile(path, tuple(names), "parquet", job=job)
        if start.startswith(b"SIMPLE  ="):
            with _binary_table(stream) as table:
                return TableFile(path, tuple(_scalar_columns(table)), "fits", job=job)
        if start.lstrip(BLANK).startswith((b"<?xml", b"<VOTABLE")):
            return TableFile(path, tuple(_votable_columns(stream)), "votable", job=job)
        if re.search(r"\.fits?(\.gz)?$", path.lower()):
            raise ValueError("it does not begin as a FITS file does")
        delimiter, names = _csv_header(stream)
        if not any(names):
            raise ValueError("empty, or without a first line of names")
    return TableFile(path, tuple(names), "csv", delimiter, job)


def first_bytes(path: str) -> bytes:
    """The first bytes of a file, unpacked if it is gzipped."""
    with files.open_file(path) as stream, report_damage(path, "ingest"):
        return bytes(unpacked(stream).read(4096))


def parquet_header(path: str) -> tuple[list[str], int]:
    """The names of the columns of a Parquet file, and its number of rows."""
    with files.open_file(path) as stream, report_damage(path, "ingest"):
        file = pq.ParquetFile(stream)
        return list(file.schema_arrow.names), int(file.metadata.num_rows)


def array_rows(path: str) -> int:
    """The number of spectra in a .npy file, from its header."""
    with files.open_file(path) as stream, report_damage(path, "ingest"):
        is_first_version = np.lib.format.read_magic(stream) == (1, 0)
        read_header = (
            np.lib.format.read_array_header_1_0 if is_first_version else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read_header(stream)
        needed = stream.tell() + math.prod(shape) * kind.itemsize
        size = stream.seek(0, io.SEEK_END)
    if size < needed or min(shape, default=0) < 0:
        raise ValueError(
            f"ingest: {path}: {size:,} bytes, but an array of shape {shape} takes {needed:,}; "
            "copy the file again"
        )
    if len(shape) != 2:
        raise ValueError(
            f"ingest: {path}: an array of shape {shape}; a table of spectra has the shape (spectra, pixels)"
        )
    return int(shape[0])


def unpacked(stream: Any) -> Any:
    """The stream from its beginning, through gzip if it is gzipped."""
    stream.seek(0)
    is_gzipped = stream.read(2) == GZIP
    stream.seek(0)
    return igzip.IGzipFile(fileobj=stream) if is_gzipped else stream


def _csv_header(stream: Any) -> tuple[str, list[str]]:
    """The delimiter and the names in the first line."""
    # files in a bucket have no readline(limit)
    start = unpacked(stream).read(1 << 20)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"text in UTF-16 or UTF-32{IN_UTF8}")
    try:
        line = start.partition(b"\n")[0].decode("utf-8-sig").strip("\r").lstrip("# ")
    except UnicodeDecodeError as error:
        content = "bytes that are no text" if b"\0" in start else f"byte {error.start} is no UTF-8{IN_UTF8}"
        raise ValueError(content) from None
    if "\0" in line:
        raise ValueError("bytes that are no text")
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return delimiter, [name.strip() for name in names]


def _csv_options(
    table: TableFile, numbers: list[str], missing: Sequence[str], *, threads: bool
) -> tuple[Any, Any, Any]:
    """Columns are read as text and by number: names may occur twice or have blanks around them."""
    names = [str(number) for number in range(len(table.names))]
    return (
        pyarrow.csv.ReadOptions(column_names=names, skip_rows=1, block_size=BLOCK, use_threads=threads),
        pyarrow.csv.ParseOptions(delimiter=table.delimiter),
        pyarrow.csv.ConvertOptions(
            include_columns=numbers,
            column_types=dict.fromkeys(numbers, pa.string()),
            null_values=list(missing),
            strings_can_be_null=True,
        ),
    )


def _read_csv(table: TableFile, stream: Any, wanted: list[str]) -> pa.Table:
    numbers = [str(table.names.index(name)) for name in wanted]
    options = _csv_options(table, numbers or ["0"], cells.EMPTY, threads=True)
    read = pyarrow.csv.read_csv(pa.PythonFile(unpacked(stream), mode="r"), *options)
    return read.select(numbers).rename_columns(wanted) if numbers else read.select([])


def _read_parquet(table: TableFile, stream: Any, wanted: list[str]) -> pa.Table:
    read = pq.ParquetFile(_seekable(stream)).read(columns=wanted, use_threads=False)
    return pa.table({name: _parquet_column(read, name) for name in wanted})


def _parquet_column(table: Any, name: str) -> pa.Array:
    """The first column of this name in a table or a batch."""
    column = table.column(table.schema.names.index(name))
    return cells.as_read(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)


def _seekable(stream: Any) -> Any:
    """The stream; a gzipped Parquet file has to be unpacked completely."""
    plain = unpacked(stream)
    return stream if plain is stream else io.BytesIO(plain.read())


@contextmanager
def _binary_table(stream: Any) -> Iterator[Any]:
    """The first table of a FITS file. Of a file on a disk only the pages of columns in use are read.

    The table of APOGEE has 4 GB, most of it in columns of arrays.
    """
    from astropy.io import fits  # 0.3 s to import, only where there is such a table

    plain = unpacked(stream)
    is_on_disk = plain is stream and isinstance(getattr(stream, "name", None), str)
    with fits.open(stream.name if is_on_disk else io.BytesIO(plain.read()), memmap=is_on_disk) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        if table is None:
            raise ValueError(f"{len(hdus)} HDUs, none is a binary table")
        yield table
        for column in table.columns:
            del column.array  # else astropy copies all columns when the file is closed


def _scalar_columns(hdu: Any) -> list[str]:
    """The columns with a single value in each row."""
    return [
        column.name
        for column in hdu.columns
        if column.name and hdu.data.dtype[column.name].shape == () and not re.search("[PQX]", column.format)
    ]


def _read_fits(table: TableFile, stream: Any, wanted: list[str]) -> pa.Table:
    with _binary_table(stream) as hdu:
        return pa.table({name: _fits_column(hdu, name) for name in wanted})


def _fits_column(hdu: Any, name: str) -> pa.Array:
    raw = hdu.data.view(np.ndarray)[name]
    if raw.dtype.kind == "S":  # astropy decodes only ASCII, and all cells or none
        return cells.as_read(pa.array([text.strip() for text in raw.tolist()], pa.binary()))
    values, null = np.asarray(hdu.data[name]), hdu.columns[name].null
    is_null = values == null if null is not None and values.dtype.kind in "iu" else None
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=is_null)


def _votable_columns(stream: Any) -> dict[str, pa.Array]:
    """The columns with a single value in each row, of the first table. A VOTable is parsed completely."""
    from astropy.io.votable import parse_single_table
    from astropy.io.votable.exceptions import VOWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VOWarning)  # many services break details of the standard
        parsed = parse_single_table(io.BytesIO(unpacked(stream).read()), verify="ignore")
        table = parsed.to_table(use_names_over_ids=True)
    names = [name for name in table.colnames if table[name].ndim == 1 and table[name].dtype.kind in "biufUSO"]
    return {name: _votable_column(table[name]) for name in names}


def _votable_column(column: Any) -> pa.Array:
    is_null = np.ma.getmaskarray(np.ma.asarray(column))
    values = np.ma.getdata(column)
    if values.dtype.kind in "USO":
        pairs = zip(values.tolist(), is_null.tolist(), strict=True)
        return pa.array([None if null else str(text) for text, null in pairs], pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=is_null)


def _read_votable(table: TableFile, stream: Any, wanted: list[str]) -> pa.Table:
    columns = _votable_columns(stream)
    return pa.table({name: columns[name] for name in wanted})


_READERS = {"csv": _read_csv, "parquet": _read_parquet, "fits": _read_fits, "votable": _read_votable}
