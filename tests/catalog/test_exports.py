"""Lists in every format as others read them: astropy, STILTS, pandas, duckdb, pyarrow; nothing is lost on the way, least of all what is not known."""

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse, parse_single_table
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey.catalog import exports, visits, votable
from tests.catalog import skies

ABOUT = {"ensemble": "0123abcd", "store": "s3://mine/dr8 & more", "made": "survey 0.1 <test>"}
LONG = "a meaning that is much longer than the 68 characters that one card of a FITS header can hold, with <signs> & 'quotes'"


def column(
    name: str, kind: pa.DataType, values: list[Any], unit: str = "", ucd: str = "", words: str = ""
) -> tuple[pa.Field, pa.Array]:
    """A column that says what it is."""
    return pa.field(
        name, kind, metadata={"description": words or f"what {name} is", "unit": unit, "ucd": ucd}
    ), pa.array(values, kind)


COLUMNS = [
    column("star", pa.string(), ["J0001", None, "a,b \"c\" <d> & 'e'"], ucd="meta.id;src"),
    column("obsid", pa.int64(), [2**63 - 1, 1234567890123456789, None], ucd="meta.id"),
    column("said", pa.int8(), [-1, 1, None], ucd="src.class"),
    column("tiny", pa.uint8(), [0, 255, None]),
    column("flag_warn", pa.int32(), [0, -(2**31), 7], ucd="meta.code.qual"),
    column("short", pa.int16(), [None, -(2**15), 5]),
    column("ra", pa.float64(), [359.99999999999994, 0.0, 12.5], "deg", "pos.eq.ra;meta.main"),
    column("p_cemp", pa.float32(), [0.1, None, float("nan")], words=LONG, ucd="stat.probability"),
    column("logg", pa.float32(), [4.5, float("inf"), None], "log10(cm s-2)", "phys.gravity"),
    column("FeH", pa.float32(), [-3.25, -1.0, 0.5], "dex", "phys.abund.Fe"),
    column("rv", pa.float32(), [1.0, 2.0, 3.0], "km s-1", "spect.dopplerVeloc.opt"),
    column("cemp_07", pa.bool_(), [True, None, False], ucd="meta.code.class"),
    column("sure", pa.bool_(), [True, False, True]),
    column("nothing", pa.string(), [None, None, None]),
]
TABLE = pa.table([array for _, array in COLUMNS], schema=pa.schema([field for field, _ in COLUMNS]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table in all formats."""
    made = tmp_path_factory.mktemp("exports")
    paths = exports.export(TABLE, str(made), "list", ABOUT)
    assert sorted(Path(path).name for path in paths) == [
        "columns.csv",
        "list.csv",
        "list.fits",
        "list.parquet",
        "list.vot",
    ]
    return made


def test_parquet_keeps_values_meanings_and_origin(folder: Path) -> None:
    table = pq.read_table(folder / "list.parquet")
    for name in TABLE.column_names:
        values = TABLE[name].fill_null("") if pa.types.is_string(TABLE[name].type) else TABLE[name]
        assert table[name].combine_chunks().equals(values.combine_chunks()) or name == "p_cemp"
        assert (
            table.schema.field(name).metadata[b"description"]
            == TABLE.schema.field(name).metadata[b"description"]
        )
    assert table["p_cemp"].null_count == 1
    assert table.schema.field("logg").metadata[b"unit"] == b"dex(cm s-2)"
    assert table.schema.metadata[b"store"] == ABOUT["store"].encode()


def test_pandas_duckdb_and_astropy_read_the_parquet(folder: Path) -> None:
    path = folder / "list.parquet"
    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    assert frame["obsid"].tolist()[:2] == [2**63 - 1, 1234567890123456789]
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(f"select obsid, star from '{path}' where cemp_07").fetchall() == [(2**63 - 1, "J0001")]
    assert Table.read(path)["FeH"].tolist() == [-3.25, -1.0, 0.5]
    exports.export(
        TABLE.drop_columns(["cemp_07"]), str(folder / "some"), "list", ABOUT, kinds=("parquet",)
    )  # astropy takes no null for a bool
    table = Table.read(folder / "some" / "list.parquet", format="parquet.votable")
    assert str(table["rv"].unit) == "km / s"
    assert table["p_cemp"].description == LONG
    assert table["FeH"].meta["ucd"] == "phys.abund.Fe"


def test_astropy_reads_the_votable(folder: Path) -> None:
    with pytest.warns(
        Warning, match=r"Invalid unit string 'log\(cm.s\*\*-2\)'"
    ) as warned:  # VOUnits have logarithms, astropy's have not
        document = parse_single_table(folder / "list.vot", verify="warn")
    assert len(warned) == 1
    table = document.to_table()
    assert table["obsid"].tolist() == [2**63 - 1, 1234567890123456789, None]
    assert table["said"].tolist() == [-1, 1, None]
    assert table["tiny"].tolist() == [0, 255, None]
    assert table["flag_warn"].tolist() == [0, -(2**31), 7]
    assert table["star"].tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert table["cemp_07"].tolist() == [True, None, False]
    assert table["ra"].tolist() == TABLE["ra"].to_pylist()
    assert np.isnan(table["p_cemp"].filled(np.nan)).tolist() == [False, True, True]
    assert table["logg"].tolist()[1] == np.inf
    assert {name: str(table[name].unit) for name in ("ra", "FeH", "rv", "logg")} == {
        "ra": "deg",
        "FeH": "dex",
        "rv": "km / s",
        "logg": "log(cm.s**-2)",
    }
    field = document.get_field_by_id_or_name("p_cemp")
    assert (field.ucd, field.description) == ("stat.probability", LONG)
    whole = parse(folder / "list.vot")
    assert {info.name: info.value for info in whole.resources[0].infos} == ABOUT


@pytest.mark.filterwarnings("ignore:Column 'cemp_07' contains NULL")
@pytest.mark.filterwarnings("ignore:.*did not parse as fits unit")
def test_astropy_reads_the_fits_table(folder: Path) -> None:
    table = Table.read(folder / "list.fits")
    assert table["obsid"].tolist() == [2**63 - 1, 1234567890123456789, None]
    assert table["said"].tolist() == [-1, 1, None]
    assert table["tiny"].tolist() == [0, 255, None]
    assert table["short"].tolist() == [None, -(2**15), 5]
    assert table["flag_warn"].tolist() == [0, -(2**31), 7]
    assert table["star"].filled("").tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert table["ra"].tolist() == TABLE["ra"].to_pylist()
    assert table["sure"].tolist() == [True, False, True]
    assert {name: str(table[name].unit) for name in ("ra", "FeH", "rv", "logg")} == {
        "ra": "deg",
        "FeH": "dex",
        "rv": "km / s",
        "logg": "log(cm s-2)",
    }
    with fits.open(folder / "list.fits", logical_as_bytes=True) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert hdus[1].data["cemp_07"].tolist() == [b"T", b"", b"F"]
        assert header["TCOMM8"] == LONG
        assert header["TUCD8"] == "stat.probability"
        told = "".join(hdus[0].header["HISTORY"])
        assert all(f"{key}: {value}" in told for key, value in ABOUT.items())


def test_the_text_table_has_empty_cells_for_what_is_not_known_and_a_dictionary(folder: Path) -> None:
    frame = pd.read_csv(folder / "list.csv", dtype=str, keep_default_na=False)
    assert frame["obsid"].tolist() == ["9223372036854775807", "1234567890123456789", ""]
    assert frame["p_cemp"].tolist() == ["0.1", "", ""]
    assert frame["star"].tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert frame["cemp_07"].tolist() == ["true", "", "false"]
    words = pd.read_csv(folder / "columns.csv", keep_default_na=False).set_index("name")
    assert list(words.index) == TABLE.column_names
    assert words.loc["logg"].tolist() == ["float", "dex(cm s-2)", "phys.gravity", "what logg is"]
    assert words.loc["p_cemp", "description"] == LONG


@pytest.fixture(scope="module")
def stilts() -> Callable[..., str]:
    """STILTS with some arguments -> what it printed."""
    program = shutil.which("stilts")
    if program is None:
        pytest.skip("needs STILTS (Debian: apt-get install stilts)")

    def run(*words: str) -> str:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("kind", ["vot", "fits", "parquet"])
def test_stilts_reads_units_meanings_and_values(folder: Path, stilts: Callable[..., str], kind: str) -> None:
    if kind == "parquet" and "parquet" not in stilts("-help", "tpipe", "ifmt"):
        pytest.skip("this STILTS is without its Parquet libraries (Debian's is)")
    source = f"in={folder / 'list'}.{kind}"
    asked = ("Name", "UCD", "Units", "Description")
    found = stilts("tpipe", source, f"cmd=meta {' '.join(asked)}", "omode=out", "ofmt=csv")
    by_name = (
        pd.read_csv(io.StringIO(found), keep_default_na=False).set_index("Name", drop=False).to_dict("index")
    )
    assert list(by_name) == TABLE.column_names
    assert by_name["p_cemp"]["UCD"] == "stat.probability"
    assert by_name["p_cemp"]["Description"] == LONG
    speed, gravity = ("km s-1", "log(cm s-2)") if kind == "fits" else ("km.s**-1", "log(cm.s**-2)")
    units = {"ra": "deg", "FeH": "dex", "rv": speed, "logg": gravity}
    assert {name: by_name[name]["Units"] for name in units} == units
    cells = pd.read_csv(
        io.StringIO(stilts("tpipe", source, "omode=out", "ofmt=csv")), dtype=str, keep_default_na=False
    )
    assert cells["obsid"].tolist() == ["9223372036854775807", "1234567890123456789", ""]
    assert cells["said"].tolist() == ["-1", "1", ""]
    assert cells["tiny"].tolist() == ["0", "255", ""]
    assert cells["cemp_07"].tolist() == ["true", "", "false"]
    assert cells["star"].tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert cells["p_cemp"].tolist()[1:] == ["", ""]
    assert float(cells["ra"][0]) == 359.99999999999994


def test_stilts_finds_nothing_wrong_with_the_votables(
    folder: Path, stilts: Callable[..., str], tmp_path: Path
) -> None:
    head = pq.read_schema(folder / "list.parquet").metadata[votable.PARQUET_CONTENT.encode()]
    (tmp_path / "head.vot").write_bytes(head)
    for path in (folder / "list.vot", tmp_path / "head.vot"):
        assert stilts("votlint", str(path)).strip() == ""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8),
    words=st.lists(
        st.none() | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=5),
        min_size=1,
        max_size=8,
    ),
)
def test_any_number_and_any_text_come_back(
    tmp_path: Path, numbers: list[int | None], words: list[str | None]
) -> None:
    count = min(len(numbers), len(words))
    columns = [column("number", pa.int64(), numbers[:count]), column("word", pa.string(), words[:count])]
    table = pa.table([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))
    exports.export(table, str(tmp_path), "any", {})
    assert pq.read_table(tmp_path / "any.parquet")["word"].to_pylist() == [
        word or "" for word in words[:count]
    ]
    read = parse_single_table(tmp_path / "any.vot").to_table()
    assert read["number"].tolist() == numbers[:count]
    assert [word or "" for word in read["word"].tolist()] == [word or "" for word in words[:count]]
    with fits.open(tmp_path / "any.fits") as hdus:
        null = hdus[1].header.get("TNULL1")
        assert [None if number == null else number for number in hdus[1].data["number"].tolist()] == numbers[
            :count
        ]


def test_a_list_without_a_star_opens_too(tmp_path: Path) -> None:
    exports.export(TABLE.slice(0, 0), str(tmp_path), "none", ABOUT)
    assert len(parse_single_table(tmp_path / "none.vot").to_table()) == 0
    with fits.open(tmp_path / "none.fits") as hdus:
        assert hdus[1].header["NAXIS2"] == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_columns_of_a_catalog_all_go_out(tmp_path: Path) -> None:
    table = visits.combined(skies.rows(np.arange(30.0), np.arange(30.0), [None] * 30), np.arange(30))
    exports.export(table, str(tmp_path), "stars", ABOUT, kinds=("votable", "fits"))
    assert parse_single_table(tmp_path / "stars.vot").to_table()["Teff"].tolist() == pytest.approx(
        table["Teff"].to_pylist()
    )
    with fits.open(tmp_path / "stars.fits") as hdus:
        assert hdus[1].data["obsid"].tolist() == table["obsid"].to_pylist()
    assert not (tmp_path / "stars.csv").exists()


@pytest.mark.parametrize("kind", ["votable", "fits"])
def test_a_column_that_is_no_cell_is_named(tmp_path: Path, kind: exports.Kind) -> None:
    field, array = column("latent", pa.list_(pa.float32(), 2), [[1.0, 2.0]])
    with pytest.raises(
        ValueError, match=r"column latent is fixed_size_list.*numbers, text and true/false only: leave it out"
    ):
        exports.export(pa.table([array], schema=pa.schema([field])), str(tmp_path), "x", {}, kinds=(kind,))


def test_a_column_without_meaning_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"column x: no description in its field's metadata; give one where the column is made",
    ):
        exports.export(pa.table({"x": [1]}), str(tmp_path), "x", {})


def test_a_million_cells_take_seconds(tmp_path: Path) -> None:
    wide = pa.concat_tables([TABLE] * 25_000).combine_chunks()
    assert pc.count(wide["star"]).as_py() == 50_000
    exports.export(wide, str(tmp_path), "wide", ABOUT)
