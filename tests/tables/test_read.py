"""Tables in every format that people keep them in."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from survey.tables.read import open_table

FRAME = pd.DataFrame({"obsid": [11, 22, 33], "FeH": [-1.5, -9999.0, 0.25], "name": ["a", "b", "c"]})


def csv_writer(delimiter: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(FRAME.to_csv(sep=delimiter, index=False).encode())

    return write


def write_gzipped_csv(path: Path) -> None:
    """Two gzip members, as in a file that was appended to."""
    lines = FRAME.to_csv(index=False).encode().splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:2])) + gzip.compress(b"".join(lines[2:])))


def write_parquet(path: Path) -> None:
    table = pa.Table.from_pandas(FRAME)
    pq.write_table(table.append_column("flux", pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))), path)


def write_fits(path: Path) -> None:
    columns = [
        fits.Column("obsid", "K", array=FRAME["obsid"].to_numpy()),
        fits.Column("FeH", "D", array=FRAME["FeH"].to_numpy()),
        fits.Column("name", "4A", array=FRAME["name"].to_numpy().astype("S4")),
        fits.Column("flux", "3E", array=np.zeros((3, 3), np.float32)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)


def write_votable(path: Path) -> None:
    table = Table.from_pandas(FRAME)
    table["flux"] = np.zeros((3, 3), np.float32)
    table.write(path, format="votable", overwrite=True)


def write_binary_votable(path: Path) -> None:
    Table.from_pandas(FRAME).write(path, format="votable", tabledata_format="binary2")


def gzipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_gzipped(path: Path) -> None:
        plain = path.with_suffix(".plain")
        write(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))

    return write_gzipped


FORMATS = {
    "comma": csv_writer(","),
    "pipe": csv_writer("|"),
    "semicolon": csv_writer(";"),
    "tab": csv_writer("\t"),
    "csv_gz": write_gzipped_csv,
    "parquet": write_parquet,
    "parquet_gz": gzipped(write_parquet),
    "fits": write_fits,
    "fits_gz": gzipped(write_fits),
    "votable": write_votable,
    "votable_gz": gzipped(write_binary_votable),
}


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_gives_the_same_columns(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    FORMATS[format_name](path)
    table = open_table(str(path))
    assert set(table.names) >= {"obsid", "FeH", "name"}
    read = table.read(["FeH", "obsid", "name", "FeH"])
    assert read.column_names == ["FeH", "obsid", "name"]
    assert [float(value) for value in read["FeH"].to_pylist()] == [-1.5, -9999.0, 0.25]
    assert [int(value) for value in read["obsid"].to_pylist()] == [11, 22, 33]
    assert read["name"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_is_read_block_by_block_too(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    FORMATS[format_name](path)
    table = open_table(str(path))
    number = table.names.index("obsid")
    blocks = [block[number].to_pylist() for block in table.blocks([number])]
    assert [int(value) for block in blocks for value in block] == [11, 22, 33]


@pytest.mark.parametrize("format_name", ["fits", "fits_gz", "votable", "parquet"])
def test_columns_of_arrays_are_not_listed(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    FORMATS[format_name](path)
    assert "flux" not in open_table(str(path)).names


def test_an_integer_that_a_fits_table_defines_as_null_is_null(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    fits.BinTableHDU.from_columns([fits.Column("obsid", "K", array=np.array([5, -1]), null=-1)]).writeto(path)
    assert open_table(str(path)).read(["obsid"])["obsid"].to_pylist() == [5, None]


def test_a_cell_of_a_fits_table_that_is_no_text_is_null_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    names = np.array([b"HD 1 ", b"\xb1 2", "Bärenhüter".encode()], "S20")
    fits.BinTableHDU.from_columns([fits.Column("name", "20A", array=names)]).writeto(path)
    assert open_table(str(path)).read(["name"])["name"].to_pylist() == ["HD 1", None, "Bärenhüter"]


def test_a_votable_has_nulls_and_the_names_of_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.vot"
    fields = '<FIELD ID="c1" name="obsid" datatype="long"><VALUES null="-1"/></FIELD>'
    fields += '<FIELD ID="c2" name="[Fe/H]" datatype="float"/>'
    fields += '<FIELD ID="c3" name="main id" datatype="char" arraysize="*"/>'
    rows = "<TR><TD>7</TD><TD>-2.5</TD><TD>BD+1</TD></TR><TR><TD>-1</TD><TD/><TD>HE 0107</TD></TR>"
    data = f"<TABLE>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>"
    path.write_text(f'\n<VOTABLE version="1.3"><RESOURCE>{data}</RESOURCE></VOTABLE>')
    table = open_table(str(path))
    assert (table.kind, table.names) == ("votable", ("obsid", "[Fe/H]", "main id"))
    read = table.read(["obsid", "[Fe/H]", "main id"])
    assert read["obsid"].to_pylist() == [7, None]
    assert read["[Fe/H]"].to_pylist() == [-2.5, None]
    assert read["main id"].to_pylist() == ["BD+1", "HE 0107"]


def test_names_may_have_blanks_a_comment_sign_or_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeff# obsid , "FeH",FeH\n1,2,3\n'.encode())
    table = open_table(str(path))
    assert table.names == ("obsid", "FeH", "FeH")
    assert table.read(["FeH"])["FeH"].to_pylist() == ["2"], "the first of two columns with one name"


def test_columns_are_found_in_any_case_and_with_the_prefix_of_a_survey(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("combined_obsid,RA,dec\n1,2,3\n")
    table = open_table(str(path))
    assert table.find("obs_id", "obsid") == "combined_obsid"
    assert (table.find("ra"), table.find("file")) == ("RA", None)


def test_a_message_about_a_missing_column_lists_similar_ones_and_all(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("obsid,Fe_H,dec\n1,2,3\n")
    assert open_table(str(path)).similar("FeH") == "similar: Fe_H; the columns are obsid, Fe_H, dec"


def test_a_missing_file_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "no.csv")):
        with pytest.raises(
            FileNotFoundError, match=r"labels: .*no .*; give a CSV with a first line of names"
        ):
            open_table(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1 and nothing more",
        b"SIMPLE  =" + b" " * 500,
        b"\x1f\x8b\x08 cut",
        b"\x80\x81\xff,\0\xfe\n",
        b"a\0b,c\n",
        b"<?xml cut",
        b"<VOTABLE/>",
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"labels: .*bad: damaged.*; give a CSV with a first line of names"):
        open_table(str(path))


def test_a_line_with_too_few_cells_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"t\.csv: damaged.*Expected 2 columns, got 1"):
        open_table(str(path)).read(["b"])


def test_a_text_that_is_called_fits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.fits").write_text("hello world\n")
    with pytest.raises(ValueError, match=r"labels.fits: .*does not begin as a FITS file"):
        open_table(str(tmp_path / "labels.fits"))


@pytest.mark.parametrize("name", ["head.csv", "head.parquet"])
def test_a_table_without_rows_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    empty = FRAME.iloc[:0]
    if name.endswith("csv"):
        empty.to_csv(path, index=False)
    else:
        empty.to_parquet(path)
    message = f"labels: {path}: has no rows, only the columns obsid, FeH, name; give a table with a row for"
    with pytest.raises(ValueError, match=message):
        open_table(str(path)).read(["obsid"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "cp1252"])
@pytest.mark.parametrize("header", ["obsid,Größe", "obsid,size"])
def test_text_in_another_encoding_is_advised_to_be_saved_in_utf_8(
    tmp_path: Path, encoding: str, header: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(f"{header}\n1,große\n".encode(encoding))
    with pytest.raises(ValueError, match=r"labels\.csv: .*save the table as text in UTF-8"):
        open_table(str(path)).read(["obsid", header.partition(",")[2]])
