"""Tables of labels in every form that people keep them in."""

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

from survey.tables.label_table import open_table

FRAME = pd.DataFrame({"obsid": [11, 22, 33], "FeH": [-1.5, -9999.0, 0.25], "name": ["a", "b", "c"]})


def _text(delimiter: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(FRAME.to_csv(sep=delimiter, index=False).encode()) and None


def _gzipped(path: Path) -> None:
    """Two members, as a file that was appended to has."""
    lines = FRAME.to_csv(index=False).encode().splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:2])) + gzip.compress(b"".join(lines[2:])))


def _parquet(path: Path) -> None:
    table = pa.Table.from_pandas(FRAME)
    pq.write_table(table.append_column("flux", pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))), path)


def _fits(path: Path) -> None:
    columns = [
        fits.Column("obsid", "K", array=FRAME["obsid"].to_numpy()),
        fits.Column("FeH", "D", array=FRAME["FeH"].to_numpy()),
        fits.Column("name", "4A", array=FRAME["name"].to_numpy().astype("S4")),
        fits.Column("flux", "3E", array=np.zeros((3, 3), np.float32)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)


def _fits_gzipped(path: Path) -> None:
    plain = path.with_suffix(".plain")
    _fits(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def _votable(path: Path) -> None:
    table = Table.from_pandas(FRAME)
    table["flux"] = np.zeros((3, 3), np.float32)
    table.write(path, format="votable", overwrite=True)


def _votable_gzipped(path: Path) -> None:
    """In the binary serialisation."""
    plain = path.with_suffix(".plain")
    Table.from_pandas(FRAME).write(plain, format="votable", tabledata_format="binary2")
    path.write_bytes(gzip.compress(plain.read_bytes()))


FORMS = {"comma": _text(","), "pipe": _text("|"), "semicolon": _text(";"), "tab": _text("\t")} | {
    "gzip": _gzipped,
    "parquet": _parquet,
    "fits": _fits,
    "fits_gz": _fits_gzipped,
    "votable": _votable,
    "votable_gz": _votable_gzipped,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_columns(form: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    FORMS[form](path)
    table = open_table(str(path))
    assert set(table.names) >= {"obsid", "FeH", "name"}
    assert (form in ("fits", "fits_gz", "votable") and "flux" in table.names) is False, (
        "columns of arrays are no labels"
    )
    read = table.read(["FeH", "obsid", "name", "FeH"])
    assert read.column_names == ["FeH", "obsid", "name"]
    assert [float(value) for value in read["FeH"].to_pylist()] == [-1.5, -9999.0, 0.25]
    assert [int(value) for value in read["obsid"].to_pylist()] == [11, 22, 33]
    assert read["name"].to_pylist() == ["a", "b", "c"]


def test_a_whole_number_that_a_fits_table_says_is_null_is_null(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    fits.BinTableHDU.from_columns([fits.Column("obsid", "K", array=np.array([5, -1]), null=-1)]).writeto(path)
    assert open_table(str(path)).read(["obsid"])["obsid"].to_pylist() == [5, None]


def test_what_a_votable_leaves_out_is_null_and_its_names_are_those_of_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "t.vot"
    fields = '<FIELD ID="c1" name="obsid" datatype="long"><VALUES null="-1"/></FIELD><FIELD ID="c2" name="[Fe/H]" datatype="float"/>'
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


def test_names_with_blanks_a_comment_sign_or_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeff# obsid , "FeH",FeH\n1,2,3\n'.encode())
    table = open_table(str(path))
    assert table.names == ("obsid", "FeH", "FeH")
    assert table.read(["FeH"])["FeH"].to_pylist() == ["2"], "of two columns of one name the first"


def test_columns_are_found_in_any_case_and_behind_the_prefix_of_lamost(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("combined_obsid,RA,dec\n1,2,3\n")
    table = open_table(str(path))
    assert table.has("obs_id", "obsid") == "combined_obsid"
    assert (table.has("ra"), table.has("file")) == ("RA", None)


def test_a_path_without_a_file_is_an_error_that_says_what_would_do(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "no.csv")):
        with pytest.raises(FileNotFoundError, match=r"labels: .*no .*; give labels=, a CSV"):
            open_table(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1 and nothing more",
        b"SIMPLE  =" + b" " * 500,
        b"\x1f\x8b\x08 cut",
        b"\x80\x81\xff,\xfe\n",
        b"a\0b,c\n",
        b"<?xml cut",
        b"<VOTABLE/>",
    ],
)
def test_damaged_files_are_errors_that_name_them(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"labels: .*bad: .*give a CSV with a first line of names"):
        open_table(str(path))


def test_a_line_of_too_few_cells_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"t\.csv: damaged.*Expected 2 columns, got 1"):
        open_table(str(path)).read(["b"])
