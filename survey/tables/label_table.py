"""A table of labels as somebody made it: CSV, Parquet, a FITS binary table or a VOTable, gzipped or not, on this machine or in a bucket.

Only the columns that are asked for are read, so a Parquet file that holds the spectra as well costs no more than its labels. Cells come
as they are written (CSV: text); what they mean is said elsewhere.
"""

import csv
import difflib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.parsers.expat import ExpatError

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.exceptions import VOWarning
from isal import igzip, igzip_lib

from survey import files
from survey.tables import cells
from survey.tables import read as streams

UNSAID = [word for word in cells.MISSING if not word.startswith("-9999")]
"""Cells of a CSV that say nothing; -9999 says something wrong, which is counted."""

BLANK = b"\xef\xbb\xbf \t\r\n"
"""What may stand before the first tag of XML."""

ADVICE = "give a CSV with a first line of names, a Parquet file, a FITS binary table or a VOTable"


@dataclass(frozen=True)
class LabelTable:
    """A table of labels: where it is, what its columns are called, how it is written."""

    path: str
    names: tuple[str, ...]
    kind: Literal["csv", "parquet", "fits", "votable"]
    delimiter: str = ","

    def read(self, wanted: Sequence[str]) -> pa.Table:
        """These columns, each once, in this order; of columns with one name the first."""
        wanted = list(dict.fromkeys(wanted))
        try:
            with streams.opened(self.path) as stream:
                return _READERS[self.kind](self, stream, wanted)
        except ConnectionError:
            raise
        except (*_DAMAGE, KeyError) as error:
            raise ValueError(
                f"labels: {self.path}: damaged or no such kind of file ({str(error).strip()}); {ADVICE}"
            ) from error

    def near(self, name: str) -> str:
        """The columns of names like this one, and all of them: the end of a message about a column that is not there."""
        lower = {known.lower(): known for known in self.names}
        alike = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
        there = ", ".join(self.names[:60]) + (
            f" and {len(self.names) - 60} more" if len(self.names) > 60 else ""
        )
        return f"{'like it: ' + ', '.join(alike) + '; ' if alike else ''}the columns are {there}"

    def has(self, *names: str) -> str | None:
        """The first column of one of these names in any case, with or without the ``combined_`` of LAMOST's tables."""
        lower = {known.lower(): known for known in reversed(self.names)}
        return next(
            (
                lower[prefix + name.lower()]
                for name in names
                for prefix in ("", "combined_")
                if prefix + name.lower() in lower
            ),
            None,
        )


_DAMAGE: Any = (*streams.DAMAGE, TypeError, IndexError, ExpatError, igzip_lib.IsalError)


def open_table(path: str) -> LabelTable:
    """The table in a file, of which only the names of its columns have been read."""
    if not path or not files.exists(path):
        raise FileNotFoundError(
            f"labels: {path or 'no path'}: no such file; give labels=, {ADVICE.removeprefix('give ')}"
        )
    try:
        with streams.opened(path) as stream:
            start = _unpacked(stream).read(16)
            if start.startswith(b"PAR1"):
                return LabelTable(path, tuple(pq.ParquetFile(stream).schema_arrow.names), "parquet")
            if start.startswith(b"SIMPLE  ="):
                return LabelTable(path, tuple(_scalars(_binary_table(stream))), "fits")
            if start.lstrip(BLANK).startswith((b"<?xml", b"<VOTABLE")):
                return LabelTable(path, tuple(_votable(stream)), "votable")
            delimiter, names = _header(stream)
    except ConnectionError:
        raise
    except _DAMAGE as error:
        raise ValueError(
            f"labels: {path}: damaged or no such kind of file ({str(error).strip()}); {ADVICE}"
        ) from error
    if not any(names):
        raise ValueError(f"labels: {path}: empty, or without a first line of names; {ADVICE}")
    return LabelTable(path, tuple(names), "csv", delimiter)


def _unpacked(stream: Any) -> Any:
    """The stream from its beginning, through gzip where it is gzipped."""
    stream.seek(0)
    packed = stream.read(2) == streams.GZIP
    stream.seek(0)
    return igzip.IGzipFile(fileobj=stream) if packed else stream


def _header(stream: Any) -> tuple[str, list[str]]:
    line = _unpacked(stream).read(1 << 20).partition(b"\n")[0].decode("utf-8-sig").strip("\r").lstrip("# ")
    if "\0" in line:
        raise ValueError("bytes that are no text")
    delimiter = max(streams.DELIMITERS, key=line.count)
    return delimiter, [
        name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    ]


def _read_csv(table: LabelTable, stream: Any, wanted: list[str]) -> pa.Table:
    """Columns as text. They are read by number, for names may be there twice or have blanks around them."""
    numbers = [str(table.names.index(name)) for name in wanted]
    read = pyarrow.csv.read_csv(
        pa.PythonFile(_unpacked(stream), mode="r"),
        pyarrow.csv.ReadOptions(
            column_names=[str(number) for number in range(len(table.names))],
            skip_rows=1,
            block_size=streams.BLOCK,
        ),
        pyarrow.csv.ParseOptions(delimiter=table.delimiter),
        pyarrow.csv.ConvertOptions(
            include_columns=numbers or ["0"],
            column_types=dict.fromkeys(numbers, pa.string()),
            null_values=UNSAID,
            strings_can_be_null=True,
        ),
    )
    return read.select(numbers).rename_columns(wanted) if numbers else read.select([])


def _read_parquet(table: LabelTable, stream: Any, wanted: list[str]) -> pa.Table:
    return pq.ParquetFile(_in_memory(stream)).read(columns=wanted).select(wanted)


def _in_memory(stream: Any) -> Any:
    """A gzipped Parquet file has to be unpacked as a whole."""
    unpacked = _unpacked(stream)
    return io.BytesIO(unpacked.read()) if unpacked is not stream else stream


def _binary_table(stream: Any) -> Any:
    """The first table of a FITS file."""
    with fits.open(io.BytesIO(_unpacked(stream).read()), memmap=False) as hdus:
        found = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        if found is None:
            raise ValueError(f"{len(hdus)} HDUs, none a binary table")
        _ = found.data  # while the file is open
        return found


def _scalars(hdu: Any) -> list[str]:
    """The columns of one value in each row."""
    return [
        column.name
        for column in hdu.columns
        if column.name and hdu.data[column.name].ndim == 1 and column.format[0] not in "PQ"
    ]


def _read_fits(table: LabelTable, stream: Any, wanted: list[str]) -> pa.Table:
    hdu = _binary_table(stream)
    return pa.table({name: _fits_column(hdu, name) for name in wanted})


def _fits_column(hdu: Any, name: str) -> pa.Array:
    values, null = np.asarray(hdu.data[name]), hdu.columns[name].null
    if values.dtype.kind in "US":
        return pa.array([text.strip() for text in values.astype(str).tolist()], pa.string())
    empty = values == null if null is not None and values.dtype.kind in "iu" else None
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=empty)


def _votable(stream: Any) -> dict[str, pa.Array]:
    """The columns of one value in each row of the first table of a VOTable; it is read as a whole, for it has to be parsed as a whole."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", VOWarning
        )  # about the letter of the standard, which many services break
        found = parse_single_table(io.BytesIO(_unpacked(stream).read()), verify="ignore").to_table(
            use_names_over_ids=True
        )
    return {
        name: _votable_column(found[name])
        for name in found.colnames
        if found[name].ndim == 1 and found[name].dtype.kind in "biufUSO"
    }


def _votable_column(column: Any) -> pa.Array:
    missing = np.ma.getmaskarray(np.ma.asarray(column))
    values = np.ma.getdata(column)
    if values.dtype.kind in "USO":
        return pa.array(
            [
                None if gone else str(text)
                for text, gone in zip(values.tolist(), missing.tolist(), strict=True)
            ],
            pa.string(),
        )
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=missing)


def _read_votable(table: LabelTable, stream: Any, wanted: list[str]) -> pa.Table:
    there = _votable(stream)
    return pa.table({name: there[name] for name in wanted})


_READERS = {"csv": _read_csv, "parquet": _read_parquet, "fits": _read_fits, "votable": _read_votable}
