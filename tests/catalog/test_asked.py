"""Who is asked: kinds of stars, the column `asked` with its reason, and the tables of those who are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from survey.catalog.asked import COLUMNS, NOT_ASKED, NotAsked
from survey.catalog.catalog import CatalogResult
from survey.catalog.flag_settings import CatalogFlag
from survey.catalog.flags import FlagRules
from survey.catalog.kinds import kinds
from survey.catalog.sorting import STAR_FIELD
from survey.labelling.survey_types import survey_kinds
from survey.reports import catalog as report
from survey.settings import SettingsError
from survey.tables.columns import described_field
from tests.catalog.test_catalog import all_stars, list_of, run, write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_short_lists import next_of, with_column

SUBCLASSES = {
    "FGK": ("F0", "F5", "G2", "G7", "K5", "K7", "F9", "G0", "K1"),
    "hot": ("O", "OB", "B6", "B9", "sdB", "sdO"),
    "M": ("M0", "gM3", "dM4", "sdM1", "L5.5", "T2", "M"),
    "white_dwarf": ("WD", "DA", "DB", "DZ6", "WDmagnetic", "WDhotter", "CalciumWD", "CarbonWD", "CV"),
    "carbon": ("Carbon", "Carbon_lines"),
    "": ("A0", "A1V", "A7III", "EM", "DoubleStar", "Binary", "", "Non"),
}
"""Subclasses of the pipelines of LAMOST and SDSS. Of A stars and of binaries, lines decide."""


@pytest.mark.parametrize(
    ("subclass", "kind"), [(text, kind) for kind, texts in SUBCLASSES.items() for text in texts]
)
def test_the_type_of_the_survey_names_the_kind(subclass: str, kind: str) -> None:
    table = pa.table({"class": ["STAR"], "subclass": [subclass]})
    assert survey_kinds(table).tolist() == [kind]


def test_a_kind_needs_a_measured_band_or_a_type_and_the_type_outweighs_bands() -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        ({}, "unknown"),
        ({"tio5": 1.0}, "FGK"),
        ({"subclass": "G2"}, "FGK"),
        ({"tio5": 0.5, "cah2": 0.5}, "M"),
        ({"tio5": 0.5, "cah2": 0.5, "subclass": "K7"}, "M"),
        ({"tio5": 0.5, "cah2": 0.5, "subclass": "Carbon"}, "carbon"),
        ({"h_delta": 11.0}, "hot"),
        ({"h_delta": 11.0, "subclass": "DA"}, "white_dwarf"),
        ({"h_delta": 11.0, "class": "QSO"}, "quasar"),
        ({"tio5": 1.0, "class": "Galaxy"}, "galaxy"),
        ({"tio5": 1.0, "class": "UNKNOWN"}, "unknown"),
        ({"h_delta": 11.0, "snr": 2.0}, "unknown"),
    ]
    for columns, kind in rows:
        table = pa.Table.from_pylist([{"snr": 50.0} | columns])
        bits_N = np.bitwise_or.reduce(FlagRules().flags(table))
        assert kinds(table, bits_N).tolist() == [kind], columns


TYPES = ("G2", "M3", "DA", "K5", "Carbon")


def of_all_kinds(table: pa.Table) -> pa.Table:
    """A fifth of the stars each: G, M, white dwarf, K of low signal to noise, carbon."""
    number_N = np.arange(table.num_rows) % 5
    table = with_column("subclass", [TYPES[number] for number in number_N])(table)
    return with_column("snr", np.where(number_N == 3, 2.0, 50.0))(table)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder = tmp_path_factory.mktemp("mixed")
    write_survey(folder)
    change(folder, of_all_kinds)
    return run(folder)


def read(result: CatalogResult, name: str) -> pa.Table:
    table = result.table(f"{name}.parquet")
    assert table is not None
    return table


def test_only_stars_that_are_asked_are_in_the_lists_or_next_to_them(mixed: CatalogResult) -> None:
    stars = all_stars(mixed)
    expected = {"M": "not_fgk", "white_dwarf": "not_fgk", "carbon": "not_fgk"}
    for kind, asked, snr in zip(*(stars[name].to_pylist() for name in ("kind", "asked", "snr")), strict=True):
        assert asked == expected.get(kind, "yes" if snr > 3 else "unsure")
    for name in ("MP", "CEMP"):
        assert set(list_of(mixed, name)["asked"].to_pylist()) == {"yes"}
        assert list_of(mixed, name).num_rows > 0
        assert "not_fgk" not in next_of(mixed, name)["asked"].to_pylist()


def test_every_star_that_is_not_asked_is_in_a_table_with_its_reason(mixed: CatalogResult) -> None:
    stars = all_stars(mixed)
    for name in NOT_ASKED:
        table = read(mixed, name)
        there = stars.filter(pc.equal(stars["asked"], name))
        assert sorted(table["star"].to_pylist()) == sorted(there["star"].to_pylist())
        assert table.num_rows > 50
        assert {"ra", "kind", "snr_total", "FeH", "FeH_err", "score_mp", "tio5", "flag_bad"} <= set(
            table.column_names
        )
        assert table.num_columns < stars.num_columns - 25
    assert set(read(mixed, "not_fgk")["asked_why"].to_pylist()) == {"survey type"}
    assert set(read(mixed, "unsure")["asked_why"].to_pylist()) == {"very low snr"}
    assert set(stars.filter(pc.equal(stars["asked"], "yes"))["asked_why"].to_pylist()) == {""}


def test_counts_of_kinds_and_reasons_are_in_the_document_and_the_summary(mixed: CatalogResult) -> None:
    counts, stars = mixed.document.counts, all_stars(mixed)
    for column in ("asked", "kind"):
        values = stars[column].to_pylist()
        assert counts[column] == {value: values.count(value) for value in set(values)}
    assert counts["not_fgk"] == {"survey type": counts["asked"]["not_fgk"]}
    assert counts["unsure"] == {"very low snr": counts["asked"]["unsure"]}
    text = report.summary(mixed, [])
    assert f"asked      {counts['asked']['yes']:,} of {stars.num_rows:,} stars" in text
    assert f"{counts['asked']['not_fgk']:,} of other kinds (" in text
    assert f"{counts['kind']['white_dwarf']:,} white dwarf" in text
    assert f"{counts['asked']['unsure']:,} unsure ({counts['unsure']['very low snr']:,} very low snr)" in text


def test_a_kind_that_the_user_asks_too_is_in_the_lists(tmp_path: Path) -> None:
    write_survey(tmp_path)
    change(tmp_path, of_all_kinds)
    result = run(tmp_path, ask=["FGK", "carbon"])
    assert set(list_of(result, "MP")["kind"].to_pylist()) == {"FGK", "carbon"}
    [reason] = result.document.thresholds["MP"].withheld
    assert reason == "stars of kind carbon are asked (ask=), for which no list is tested"
    with pytest.raises(SettingsError, match=r"ask"):
        run(tmp_path, ask=["giants"])


def test_a_kind_that_is_not_asked_needs_no_flag() -> None:
    table = pa.table({"snr": [50.0], "subclass": [""]})
    rules = FlagRules(ask=("FGK",))
    assert rules.may_be_asked(table).tolist() == [False]
    assert FlagRules().may_be_asked(table).tolist() == [True]


def test_the_tables_are_written_as_the_stars_come(tmp_path: Path) -> None:
    """No table of all stars is ever in memory: each part is a row group of its own."""
    columns = {
        "star": STAR_FIELD,
        **{name: described_field(name, *column) for name, column in COLUMNS.items()},
    }
    schema = pa.schema(list(columns.values()))
    tables = NotAsked(tmp_path / "scratch", {"ensemble": "e1"})
    for part in range(3):
        rows = [
            {"star": f"{part}-{row}", "kind": "hot", "asked": "not_fgk", "asked_why": "hot star"}
            for row in range(4)
        ]
        tables.add(pa.Table.from_pylist(rows, schema))
    (tmp_path / "catalog").mkdir()
    tables.publish(str(tmp_path / "catalog"))
    file = pq.ParquetFile(tmp_path / "catalog" / "not_fgk.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (12, 3)
    assert file.schema_arrow.metadata[b"ensemble"] == b"e1"
    assert pq.read_table(tmp_path / "catalog" / "unsure.parquet").num_rows == 0


def test_every_bit_of_a_kind_is_bad() -> None:
    """A table of flags without a kind keeps such stars out too."""
    flags = CatalogFlag.HOT_STAR | CatalogFlag.MOLECULAR_BANDS | CatalogFlag.SURVEY_TYPE
    rules = FlagRules(ask=("FGK", "unknown", "M", "hot", "white_dwarf"))
    table = pa.table({"subclass": ["DA"], "tio5": [0.5], "cah2": [0.5], "h_delta": [9.0], "snr": [50.0]})
    bits = rules.flags(table)
    assert CatalogFlag(int(bits[1][0])) == flags
    assert rules.excluding(table, *bits).tolist() == [0]
    assert FlagRules().excluding(table, *bits).tolist() == [int(flags)]
