"""LAMOST's names of columns: in the exported lists on request, and beside ours in `columns.csv`."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse, parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

from survey.catalog.names import LAMOST_NAMES, exported_names
from tests.catalog.test_catalog import ALL_FORMATS, run, write_survey

SCRIPT = ("designation", "obsid", "ra", "dec", "snrg", "teff", "teff_err", "feh", "rv", "class", "subclass")
"""Columns that a script for a LAMOST catalogue asks for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    write_survey(folder)
    return Path(run(folder, names="lamost", exports=ALL_FORMATS).folder)


def test_exported_lists_have_lamosts_names_and_parquet_has_ours(folder: Path) -> None:
    csv = pd.read_csv(folder / "cemp_candidates.csv")
    votable = parse_single_table(folder / "cemp_candidates.vot").to_table()
    binary = Table.read(folder / "cemp_candidates.fits")
    parquet = pq.read_table(folder / "cemp_candidates.parquet")
    for names in (csv.columns, votable.colnames, binary.colnames):
        assert set(SCRIPT) <= set(names)
        assert "snr_g" not in names
    assert {"snr_g", "Teff", "star"} <= set(parquet.column_names)
    assert csv["teff"].tolist() == pytest.approx(parquet["Teff"].to_pylist())
    assert csv["designation"].tolist() == parquet["star"].to_pylist()


def test_the_table_of_columns_gives_both_names(folder: Path) -> None:
    described = pd.read_csv(folder / "columns.csv", keep_default_na=False).set_index("name")
    assert described.loc["snr_g", "lamost_name"] == "snrg"
    assert described.loc["score_cemp", "lamost_name"] == ""


@pytest.mark.parametrize("name", ["mp_candidates", "cemp_candidates", "next_mp", "next_cemp"])
def test_strict_readers_find_nothing_wrong_with_any_list(folder: Path, name: str) -> None:
    """Warnings are errors in all tests: units, UCDs and headers are as the standards want them."""
    document = parse(folder / f"{name}.vot", verify="exception")
    [table] = document.resources[0].tables
    for field in table.fields:
        assert check_ucd(field.ucd, check_controlled_vocabulary=True), field.name
    with fits.open(folder / f"{name}.fits") as hdus:
        hdus.verify("exception")
        assert hdus[1].header["EXTNAME"] == name
    assert len(Table.read(folder / f"{name}.fits")) == table.nrows


def test_no_two_columns_get_one_name() -> None:
    names = exported_names(["star", "velocity", "rv", "rv_err", "snr_g", "score_mp"], "lamost")
    assert names == ["designation", "velocity", "rv", "rv_err", "snrg", "score_mp"]
    assert exported_names(["star", "velocity"], "lamost") == ["designation", "rv"]
    assert exported_names(["star", "velocity"], "survey") == ["star", "velocity"]


def test_lamosts_names_are_those_of_its_catalogues(shared: Path) -> None:
    header = (shared / "labels" / "lamost_dr1_plan_catalog.csv").read_text().partition("\n")[0].split(",")
    later = {"z", "z_err", "fibermask", "data_v"}  # columns of later releases
    assert set(LAMOST_NAMES.values()) - later <= set(header)
