"""Lists in each format as astropy, STILTS, pandas, duckdb and pyarrow read them: nothing is lost."""

import base64
import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse, parse_single_table
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey.catalog import votable
from survey.catalog.exports import FileFormat, export_table
from survey.catalog.visits import combine_visits
from survey.catalog.votable import Parameter, TableInfo
from tests.catalog import skies

ORIGIN = {"ensemble": "0123abcd", "store": "s3://bucket/dr8 & more", "code": "survey 0.1 <test>"}
LONG = (
    "a description that is much longer than the 68 characters that one card of a FITS header can hold, "
    "with <signs> & 'quotes'"
)


def column(
    name: str, type_: pa.DataType, values: list[Any], unit: str = "", ucd: str = "", text: str = ""
) -> tuple[pa.Field, pa.Array]:
    """A column with its description."""
    metadata = {"description": text or f"what {name} is", "unit": unit, "ucd": ucd}
    return pa.field(name, type_, metadata=metadata), pa.array(values, type_)


def table_of(columns: list[tuple[pa.Field, pa.Array]]) -> pa.Table:
    return pa.table([array for _, array in columns], schema=pa.schema([field for field, _ in columns]))


COLUMNS = [
    column("star", pa.string(), ["J0001", None, "a,b \"c\" <d> & 'e'"], ucd="meta.id;src"),
    column("obsid", pa.int64(), [2**63 - 1, 1234567890123456789, None], ucd="meta.id"),
    column("predicted_class", pa.int8(), [-1, 1, None], ucd="src.class"),
    column("tiny", pa.uint8(), [0, 255, None]),
    column("flag_warn", pa.int32(), [0, -(2**31), 7], ucd="meta.code.qual"),
    column("short", pa.int16(), [None, -(2**15), 5]),
    column("ra", pa.float64(), [359.99999999999994, 0.0, 12.5], "deg", "pos.eq.ra;meta.main"),
    column("p_cemp", pa.float32(), [0.1, None, float("nan")], text=LONG, ucd="stat.probability"),
    column("logg", pa.float32(), [4.5, float("inf"), None], "log10(cm s-2)", "phys.gravity"),
    column("FeH", pa.float32(), [-3.25, -1.0, 0.5], "dex", "phys.abund.Fe"),
    column("rv", pa.float32(), [1.0, 2.0, 3.0], "km s-1", "spect.dopplerVeloc.opt"),
    column("cemp_07", pa.bool_(), [True, None, False], ucd="meta.code.class"),
    column("sure", pa.bool_(), [True, False, True]),
    column("nothing", pa.string(), [None, None, None]),
]
TABLE = table_of(COLUMNS)
WRITTEN_TO = {"logg": " (log10 of cm s-2)"}
"""What is added to a description, because the unit dex does not say it."""
ABOUT = TableInfo(
    "list",
    "stars of <a> list & more",
    (
        Parameter("expected_purity", 0.93, "what to expect", "stat.probability"),
        Parameter("expected_purity_low", float("nan"), "not known"),
        Parameter("goal", "the best F1", "what for", "meta.note"),
    ),
    ("the list is empty: <why>", "cemp.level=0.5 gives more"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table in all formats."""
    folder = tmp_path_factory.mktemp("exports")
    paths = export_table(TABLE, str(folder), ABOUT, ORIGIN)
    assert sorted(Path(path).name for path in paths) == [
        "columns.csv",
        "list.csv",
        "list.fits",
        "list.parquet",
        "list.vot",
    ]
    return folder


def test_parquet_keeps_values_descriptions_and_origin(folder: Path) -> None:
    table = pq.read_table(folder / "list.parquet")
    for name in TABLE.column_names:
        values = TABLE[name].fill_null("") if pa.types.is_string(TABLE[name].type) else TABLE[name]
        assert table[name].combine_chunks().equals(values.combine_chunks()) or name == "p_cemp"
        description = table.schema.field(name).metadata[b"description"].decode()
        assert description == TABLE.schema.field(name).metadata[b"description"].decode() + WRITTEN_TO.get(
            name, ""
        )
    assert table["p_cemp"].null_count == 1
    assert table.schema.field("logg").metadata[b"unit"] == b"dex"
    assert table.schema.field("rv").metadata[b"unit"] == b"km/s"
    assert table.schema.metadata[b"store"] == ORIGIN["store"].encode()


def test_pandas_duckdb_and_astropy_read_the_parquet(folder: Path) -> None:
    path = folder / "list.parquet"
    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    assert frame["obsid"].tolist()[:2] == [2**63 - 1, 1234567890123456789]
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(f"select obsid, star from '{path}' where cemp_07").fetchall() == [(2**63 - 1, "J0001")]
    assert Table.read(path)["FeH"].tolist() == [-3.25, -1.0, 0.5]
    without_bool = TABLE.drop_columns(["cemp_07"])  # astropy takes no null for a bool
    export_table(without_bool, str(folder / "some"), ABOUT, ORIGIN, formats=("parquet",))
    table = Table.read(folder / "some" / "list.parquet", format="parquet.votable")
    assert str(table["rv"].unit) == "km / s"
    assert table["p_cemp"].description == LONG
    assert table["FeH"].meta["ucd"] == "phys.abund.Fe"


def test_astropy_reads_the_votable(folder: Path) -> None:
    document = parse_single_table(folder / "list.vot", verify="exception")
    table = document.to_table()
    assert table["obsid"].tolist() == [2**63 - 1, 1234567890123456789, None]
    assert table["predicted_class"].tolist() == [-1, 1, None]
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
        "logg": "dex",
    }
    field = document.get_field_by_id_or_name("p_cemp")
    assert (field.ucd, field.description) == ("stat.probability", LONG)
    infos = [(info.name, info.value) for info in parse(folder / "list.vot").resources[0].infos]
    assert infos == [*ORIGIN.items(), *(("note", note) for note in ABOUT.notes)]


def test_a_votable_names_its_table_its_frame_its_times_and_what_to_expect(tmp_path: Path) -> None:
    lmjd = column("lmjd", pa.int32(), [55859], "d", "time.epoch")
    ra = column("ra", pa.float64(), [12.5], "deg", "pos.eq.ra;meta.main")
    export_table(table_of([lmjd, ra]), str(tmp_path), ABOUT, ORIGIN, formats=("votable",))
    resource = parse(tmp_path / "list.vot", verify="exception").resources[0]
    [frame], [times], [table] = resource.coordinate_systems, resource.time_systems, resource.tables
    assert (frame.system, times.timeorigin, times.refposition) == ("ICRS", "MJD-origin", "TOPOCENTER")
    assert [field.ref for field in table.fields] == [times.ID, frame.ID]
    assert (table.name, table.description, table.nrows) == ("list", ABOUT.description, 1)
    values = {parameter.name: (parameter.value, parameter.ucd) for parameter in table.params}
    assert values["expected_purity"] == (0.93, "stat.probability")
    assert np.isnan(values["expected_purity_low"][0])
    assert values["goal"] == ("the best F1", "meta.note")


def test_a_table_without_positions_and_times_needs_no_systems(tmp_path: Path) -> None:
    export_table(table_of([column("tiny", pa.uint8(), [1])]), str(tmp_path), ABOUT, {}, formats=("votable",))
    resource = parse(tmp_path / "list.vot", verify="exception").resources[0]
    assert not list(resource.coordinate_systems)
    assert not list(resource.time_systems)


@pytest.mark.filterwarnings("ignore:Column 'cemp_07' contains NULL")
def test_astropy_reads_the_fits_table(folder: Path) -> None:
    table = Table.read(folder / "list.fits")
    assert table["obsid"].tolist() == [2**63 - 1, 1234567890123456789, None]
    assert table["predicted_class"].tolist() == [-1, 1, None]
    assert table["tiny"].tolist() == [0, 255, None]
    assert table["short"].tolist() == [None, -(2**15), 5]
    assert table["flag_warn"].tolist() == [0, -(2**31), 7]
    assert table["star"].filled("").tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert table["ra"].tolist() == TABLE["ra"].to_pylist()
    assert table["sure"].tolist() == [True, False, True]
    assert {name: str(table[name].unit) for name in ("ra", "FeH", "rv", "logg")} == {
        "ra": "deg",
        "FeH": "None",
        "rv": "km / s",
        "logg": "None",
    }
    with fits.open(folder / "list.fits", logical_as_bytes=True) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert hdus[1].data["cemp_07"].tolist() == [b"T", b"", b"F"]
        assert header["TCOMM8"] == LONG
        assert header["TUCD8"] == "stat.probability"
        assert header["TCOMM9"] == "what logg is (log10 of cm s-2), in dex"
        assert (header["EXTNAME"], header["expected_purity"]) == ("list", 0.93)
        assert ABOUT.notes[0] in [str(comment) for comment in header["COMMENT"]]
        history = "".join(hdus[0].header["HISTORY"])
        assert all(f"{key}: {value}" in history for key, value in ORIGIN.items())


def test_the_csv_has_empty_cells_for_nulls_and_a_table_of_its_columns(folder: Path) -> None:
    frame = pd.read_csv(folder / "list.csv", dtype=str, keep_default_na=False)
    assert frame["obsid"].tolist() == ["9223372036854775807", "1234567890123456789", ""]
    assert frame["p_cemp"].tolist() == ["0.1", "", ""]
    assert frame["star"].tolist() == ["J0001", "", "a,b \"c\" <d> & 'e'"]
    assert frame["cemp_07"].tolist() == ["true", "", "false"]
    described = pd.read_csv(folder / "columns.csv", keep_default_na=False).set_index("name")
    assert list(described.index) == TABLE.column_names
    logg = ["float", "dex", "phys.gravity", "what logg is (log10 of cm s-2)", "logg"]
    assert list(described.loc["logg"]) == logg
    assert described["description"].loc["p_cemp"] == LONG


@pytest.fixture(scope="module")
def stilts() -> Callable[..., str]:
    """Runs STILTS with some arguments and returns what it printed."""
    program = shutil.which("stilts")
    if program is None:
        pytest.skip("needs STILTS (Debian: apt-get install stilts)")

    def run(*arguments: str) -> str:
        command = [program, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *arguments]  # for short runs
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("ending", ["vot", "fits", "parquet"])
def test_stilts_reads_units_descriptions_and_values(
    folder: Path, stilts: Callable[..., str], ending: str
) -> None:
    if ending == "parquet" and "parquet" not in stilts("-help", "tpipe", "ifmt"):
        pytest.skip("this STILTS is without its Parquet libraries (Debian's is)")
    source = f"in={folder / 'list'}.{ending}"
    printed = stilts("tpipe", source, "cmd=meta Name UCD Units Description", "omode=out", "ofmt=csv")
    frame = pd.read_csv(io.StringIO(printed), keep_default_na=False)
    by_name = frame.set_index("Name", drop=False).to_dict("index")
    assert list(by_name) == TABLE.column_names
    assert by_name["p_cemp"]["UCD"] == "stat.probability"
    assert by_name["p_cemp"]["Description"] == LONG
    dex = "" if ending == "fits" else "dex"
    units = {"ra": "deg", "FeH": dex, "rv": "km/s", "logg": dex}
    assert {name: by_name[name]["Units"] for name in units} == units
    printed = stilts("tpipe", source, "omode=out", "ofmt=csv")
    cells = pd.read_csv(io.StringIO(printed), dtype=str, keep_default_na=False)
    assert cells["obsid"].tolist() == ["9223372036854775807", "1234567890123456789", ""]
    assert cells["predicted_class"].tolist() == ["-1", "1", ""]
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
    numbers, texts = numbers[:count], [word or "" for word in words[:count]]
    table = table_of([column("number", pa.int64(), numbers), column("word", pa.string(), words[:count])])
    export_table(table, str(tmp_path), TableInfo("any"), {})
    assert pq.read_table(tmp_path / "any.parquet")["word"].to_pylist() == texts
    read = parse_single_table(tmp_path / "any.vot").to_table()
    assert read["number"].tolist() == numbers
    assert [word or "" for word in read["word"].tolist()] == texts
    with fits.open(tmp_path / "any.fits") as hdus:
        null = hdus[1].header.get("TNULL1")
        values = hdus[1].data["number"].tolist()
        assert [None if number == null else number for number in values] == numbers


def test_letters_that_a_fits_header_cannot_hold_become_question_marks(tmp_path: Path) -> None:
    field = column("mag_g", pa.float32(), [1.0, 2.0, 3.0], text="column mag_g of 目录.csv")
    about = replace(ABOUT, notes=("étoile\nrouge",))
    export_table(table_of([field]), str(tmp_path), about, {"members": "网络"}, formats=("fits",))
    with fits.open(tmp_path / "list.fits") as hdus:
        header = hdus[1].header
        assert header["TCOMM1"] == "column mag_g of ??.csv"
        assert "?toile rouge" in header["COMMENT"]
        assert "members: ??" in header["HISTORY"]


def test_names_of_columns_become_ascii_short_and_stay_distinct(tmp_path: Path) -> None:
    long = "n" * 80
    names = ["größe", "gr_ße", "gr__e", "星等", f"{long}a", f"{long}b", "it's " * 12, "sFe", "SFe"]
    columns = [column(name, pa.float64(), [float(number)]) for number, name in enumerate(names)]
    export_table(table_of(columns), str(tmp_path), TableInfo("list"), {}, formats=("fits", "votable"))
    table = Table.read(tmp_path / "list.fits")
    assert [table[name][0] for name in table.colnames] == list(range(len(names)))
    assert table.colnames[:4] == ["gr__e_2", "gr__e_3", "gr__e", "__"]
    assert table.colnames[-2:] == ["sFe", "SFe"]
    assert all(len(name) <= 68 and name.isascii() for name in table.colnames)
    assert [field.name for field in parse_single_table(tmp_path / "list.vot").fields] == names


def test_an_empty_list_can_be_opened(tmp_path: Path) -> None:
    export_table(TABLE.slice(0, 0), str(tmp_path), TableInfo("none"), ORIGIN)
    assert len(parse_single_table(tmp_path / "none.vot").to_table()) == 0
    with fits.open(tmp_path / "none.fits") as hdus:
        assert hdus[1].header["NAXIS2"] == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_all_columns_of_a_catalog_are_exported(tmp_path: Path) -> None:
    rows = skies.rows(np.arange(30.0), np.arange(30.0), [None] * 30)
    table = combine_visits(rows, np.arange(30))
    export_table(table, str(tmp_path), TableInfo("stars"), ORIGIN, formats=("votable", "fits"))
    teff = parse_single_table(tmp_path / "stars.vot").to_table()["Teff"]
    assert teff.tolist() == pytest.approx(table["Teff"].to_pylist())
    with fits.open(tmp_path / "stars.fits") as hdus:
        assert hdus[1].data["obsid"].tolist() == table["obsid"].to_pylist()
    assert not (tmp_path / "stars.csv").exists()


@pytest.mark.parametrize("format_", ["votable", "fits"])
def test_a_column_of_lists_is_refused_by_name(tmp_path: Path, format_: FileFormat) -> None:
    table = table_of([column("latent", pa.list_(pa.float32(), 2), [[1.0, 2.0]])])
    message = r"column latent is fixed_size_list.*numbers, text and true/false only: leave it out"
    with pytest.raises(ValueError, match=message):
        export_table(table, str(tmp_path), TableInfo("x"), {}, formats=(format_,))


def test_a_column_without_a_description_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column x: its field has no description"):
        export_table(pa.table({"x": [1]}), str(tmp_path), TableInfo("x"), {})


def test_a_list_of_a_million_cells_is_exported_completely(tmp_path: Path) -> None:
    """It takes seconds because columns, not cells, are written one at a time."""
    rows = 75_000
    long = pa.concat_tables([TABLE] * (rows // TABLE.num_rows)).combine_chunks()
    export_table(long, str(tmp_path), TableInfo("long"), ORIGIN)
    assert pq.read_table(tmp_path / "long.parquet").num_rows == rows
    assert (tmp_path / "long.csv").read_text().count("\n") == rows + 1
    star, obsid = TABLE["star"].to_pylist(), TABLE["obsid"].to_pylist()
    with fits.open(tmp_path / "long.fits") as hdus:
        assert hdus[1].header["NAXIS2"] == rows
        assert hdus[1].data["star"][-3:].tolist() == [star[0], "", star[2]]
    stream = (tmp_path / "long.vot").read_bytes().partition(b'encoding="base64">')[2].partition(b"<")[0]
    row_bytes = len(base64.decodebytes(stream)) // rows
    last = base64.decodebytes(stream)[-3 * row_bytes :]
    assert last[:row_bytes].count(np.array(obsid[0], ">i8").tobytes()) == 1
