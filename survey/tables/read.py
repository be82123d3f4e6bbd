"""The bytes of catalogues and tables, local or in a bucket, plain or gzipped, as columns of cells: only the columns asked for, a block at a time."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from isal import igzip, igzip_lib

from survey import files
from survey.tables import cells

BLOCK = 8 << 20
GZIP = b"\x1f\x8b"
DELIMITERS = ",|\t;"
DAMAGE: Any = (pa.ArrowException, OSError, EOFError, ValueError, csv.Error, igzip_lib.IsalError)
"""What reading a damaged file may raise."""

Columns = dict[int, pa.Array]
"""Cells by the number of their column."""


def absolute(path: str) -> str:
    """A path that means the same wherever a job runs; links stay as they are."""
    return path.rstrip("/") if files.is_remote(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - no Path: it is slow


def opened(path: str) -> BinaryIO:
    """A file to read from, local or in a bucket."""
    stream: BinaryIO = (
        files.bucket_system().open(path, "rb") if files.is_remote(path) else Path(path).open("rb")
    )  # noqa: SIM115 - the caller closes it
    return stream


@contextmanager
def named(path: str) -> Iterator[None]:
    """Damage that shows while a file is read, as an error that names the file."""
    try:
        yield
    except ConnectionError:
        raise  # the bucket is away: the file may be sound
    except DAMAGE as error:
        raise ValueError(
            f"ingest: {path}: damaged or no such kind of file ({str(error).strip()}); write or fetch it again"
        ) from error


def head(path: str) -> bytes:
    """The first bytes of a file, unpacked where it is gzipped."""
    with opened(path) as stream, named(path):
        start = stream.read(4096)
        if not start.startswith(GZIP):
            return start
        stream.seek(0)
        return bytes(igzip.IGzipFile(fileobj=stream).read(4096))


def csv_header(path: str) -> tuple[str, list[str]]:
    """The delimiter and the column names of a CSV file, from its first line."""
    with opened(path) as raw, named(path):
        packed = raw.read(2) == GZIP
        raw.seek(0)
        line: str = (
            (igzip.IGzipFile(fileobj=raw) if packed else raw)
            .readline(1 << 20)
            .decode("utf-8-sig", "replace")
            .strip("\r\n")
        )
        delimiter = max(DELIMITERS, key=line.count)
        names = next(csv.reader([line.lstrip("# ")], delimiter=delimiter), [])
    return delimiter, [name.strip() for name in names]


def csv_cells(path: str, delimiter: str, columns: int, wanted: Sequence[int]) -> Iterator[Columns]:
    """The wanted columns of a CSV file as text; a bad cell is left to the caller, a bad line is an error that names it."""
    kept = [str(number) for number in wanted]
    with opened(path) as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        reader = pyarrow.csv.open_csv(
            pa.PythonFile(igzip.IGzipFile(fileobj=raw) if packed else raw, mode="r"),
            pyarrow.csv.ReadOptions(
                column_names=[str(number) for number in range(columns)],
                skip_rows=1,
                block_size=BLOCK,
                use_threads=False,
            ),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(
                include_columns=kept,
                column_types=dict.fromkeys(kept, pa.string()),
                null_values=list(cells.MISSING),
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield dict(zip(wanted, batch.columns, strict=True))


def parquet_names(path: str) -> list[str]:
    """The column names of a Parquet file."""
    with opened(path) as stream, named(path):
        return list(pq.ParquetFile(stream).schema_arrow.names)


def parquet_rows(path: str) -> int:
    """How many rows a Parquet file has."""
    with opened(path) as stream, named(path):
        return int(pq.ParquetFile(stream).metadata.num_rows)


def parquet_cells(path: str, names: Sequence[str], wanted: Sequence[int]) -> Iterator[Columns]:
    """The wanted columns of a Parquet file."""
    with opened(path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(
            1 << 16, columns=[names[number] for number in wanted], use_threads=False
        ):
            yield {number: batch.column(names[number]) for number in wanted}


def array_rows(path: str) -> int:
    """How many rows a .npy file of spectra has."""
    with opened(path) as stream, named(path):
        version = np.lib.format.read_magic(stream)
        shape = (
            np.lib.format.read_array_header_1_0(stream)[0]
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0(stream)[0]
        )
    if len(shape) != 2:
        raise ValueError(
            f"ingest: {path}: an array of shape {shape}; a table of spectra has the shape (spectra, pixels)"
        )
    return int(shape[0])
