"""M subdwarfs and carbon stars: templates of known type, from SDSS and the Kast spectrograph, by indices."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from survey.catalog.bands import is_cool_carbon_star, is_m_subdwarf, is_rich_in_carbon, subdwarf_class, zeta
from survey.catalog.catalog import CatalogResult
from survey.catalog.exports import ENDINGS
from survey.catalog.flag_settings import FlagLimits
from survey.catalog.kind_lists import KIND_LISTS
from survey.reports import catalog as report
from tests.catalog.test_catalog import ALL_FORMATS, list_of, plain, run, write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_short_lists import with_column

NAMES = ("tio5", "cah2", "cah3", "na_d", "c2_4668", "c2_5165", "g_band")
TEMPLATES = {
    "sdM3": (0.64, 0.48, 0.68, 14.80, 2.09, 6.68, 3.36),
    "esdM3": (0.87, 0.47, 0.67, 15.25, 0.41, 11.22, 3.97),
    "esdM5": (0.71, 0.37, 0.50, 20.77, -3.38, 9.84, 10.38),
    "usdM2": (1.03, 0.55, 0.70, 17.24, -4.20, 4.75, -0.89),
    "usdM6": (0.85, 0.23, 0.40, 24.48, -4.95, 11.29, 9.30),
    "sdM6": (0.31, 0.27, 0.46, 20.85, 4.44, 0.05, 0.28),
    "M2": (0.53, 0.53, 0.77, 7.52, 6.45, -0.38, 0.84),
    "M5": (0.32, 0.36, 0.65, 5.89, 11.82, -6.88, 2.50),
    "L0": (0.68, 0.53, 0.62, 5.02, 56.01, 9.69, 34.25),
    "K5": (0.93, 0.97, 0.98, 1.10, 1.51, 2.47, 7.08),
    "K5III": (0.99, 1.01, 1.00, 0.60, 0.12, -0.52, 3.22),
    "G2": (0.97, 1.03, 1.01, 1.23, 0.81, -0.30, 4.54),
    "F5": (0.97, 1.03, 1.00, 0.90, 0.07, -0.86, 4.38),
    "Carbon": (0.90, 1.07, 0.94, 3.89, 38.84, 31.85, 6.81),
    "Carbon_lines": (0.88, 1.04, 0.92, 4.79, 47.10, 39.04, 6.55),
    "CarbonWD": (0.91, 1.07, 1.04, -0.09, 22.34, 20.97, 0.49),
    "Carbon_DQ": (0.94, 1.03, 0.98, -1.70, 24.98, 28.24, -0.07),
    "WDcooler": (0.96, 1.08, 1.02, 0.46, -0.69, -0.05, -2.19),
}
"""Indices that the ingest measures on these templates."""
CARBON = ("Carbon", "Carbon_lines")
CEMP_GIANT = (0.96, 1.02, 0.98, 0.87, 35.8, 20.1, 7.6)
"""A computed giant of [Fe/H] -1.97 and [C/Fe] +1.93."""


def table(rows: Mapping[str, tuple[float, ...]]) -> pa.Table:
    return pa.table({name: [row[number] for row in rows.values()] for number, name in enumerate(NAMES)})


def test_templates_of_m_subdwarfs_are_recognised_with_their_class_and_no_others_are() -> None:
    is_subdwarf_N = is_m_subdwarf(table(TEMPLATES), FlagLimits())
    found = [name for name, is_subdwarf in zip(TEMPLATES, is_subdwarf_N, strict=True) if is_subdwarf]
    assert found == ["sdM3", "esdM3", "esdM5", "usdM2", "usdM6", "sdM6"]
    classes = subdwarf_class(zeta(table(TEMPLATES)), FlagLimits())
    by_name = dict(zip(TEMPLATES, classes, strict=True))
    assert {name: by_name[name] for name in found} == {name: name.rstrip("0123456789") for name in found}
    assert by_name["M2"] == by_name["M5"] == "dM"


def test_an_m_dwarf_like_the_sun_has_a_zeta_of_one() -> None:
    """Lepine et al. 2007 define it so: M dwarfs of the disc."""
    rows = {name: TEMPLATES[name] for name in ("M2", "M5")}
    assert zeta(table(rows)) == pytest.approx(1.0, abs=0.12)


def test_cool_carbon_stars_are_recognised_and_white_dwarfs_with_carbon_are_not() -> None:
    rows = table(TEMPLATES)
    for test in (is_rich_in_carbon, is_cool_carbon_star):
        found = np.array(list(TEMPLATES))[test(rows, FlagLimits())].tolist()
        assert found == list(CARBON)


def test_a_cemp_giant_is_rich_in_carbon_and_is_still_asked() -> None:
    row = table({"CEMP": CEMP_GIANT})
    assert is_rich_in_carbon(row, FlagLimits()).tolist() == [True]
    assert is_cool_carbon_star(row, FlagLimits()).tolist() == [False]


def with_templates(predictions: pa.Table) -> pa.Table:
    """The first stars have the indices of templates, and one more those of a CEMP giant; two have a type."""
    rows = [*TEMPLATES.values(), CEMP_GIANT]
    for number, name in enumerate(NAMES):
        values = predictions[name].to_numpy().copy()
        values[: len(rows)] = [row[number] for row in rows]
        predictions = with_column(name, values)(predictions)
    subclass = ["", *[""] * (predictions.num_rows - 1)]
    subclass[list(TEMPLATES).index("CarbonWD")] = "CarbonWD"
    subclass[list(TEMPLATES).index("K5")] = "Carbon"
    predictions = with_column("subclass", subclass)(predictions)
    names = predictions["star"].to_pylist()
    names[: len(rows)] = [*TEMPLATES, "CEMP giant"]
    alone = with_column("ra", np.arange(predictions.num_rows) * 0.1)(with_column("star", names)(predictions))
    return with_column("snr", 50.0)(alone)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    folder = tmp_path_factory.mktemp("kinds")
    write_survey(folder)
    change(folder, with_templates)
    return run(folder, exports=ALL_FORMATS)


def read(result: CatalogResult, name: str) -> pa.Table:
    found = result.table(f"{name}.parquet")
    assert found is not None
    return found


def test_both_lists_are_ranked_and_say_why(result: CatalogResult) -> None:
    subdwarfs, carbon = (read(result, name) for name in KIND_LISTS)
    assert subdwarfs["star"].to_pylist() == ["usdM2", "usdM6", "esdM3", "esdM5", "sdM3", "sdM6"]
    assert subdwarfs["m_class"].to_pylist() == ["usdM", "usdM", "esdM", "esdM", "sdM", "sdM"]
    assert set(subdwarfs["kind"].to_pylist()) == {"M"}
    assert set(subdwarfs["asked"].to_pylist()) == {"not_fgk"}
    rows = {row["star"]: row for row in carbon.to_pylist()}
    why = {"Carbon_lines": "bands", "Carbon": "bands", "CEMP giant": "bands", "K5": "survey"}
    assert {name: row["carbon_by"] for name, row in rows.items()} == why
    assert list(rows) == ["Carbon_lines", "Carbon", "CEMP giant", "K5"]
    assert {name: row["kind"] for name, row in rows.items()} == {
        "Carbon_lines": "carbon",
        "Carbon": "carbon",
        "K5": "carbon",
        "CEMP giant": "FGK",
    }
    assert carbon["rank"].to_pylist() == [1, 2, 3, 4]


def test_the_lists_have_all_formats_and_their_columns_are_described(result: CatalogResult) -> None:
    folder = Path(result.folder)
    for name in KIND_LISTS:
        assert {path.suffix[1:] for path in folder.glob(f"{name}.*")} == set(ENDINGS.values())
        assert len(Table.read(folder / f"{name}.fits")) == read(result, name).num_rows
    described = (folder / "columns.csv").read_text()
    tables = [*(read(result, name) for name in KIND_LISTS), list_of(result, "MP"), read(result, "next_mp")]
    for column in {name for table in tables for name in table.column_names}:
        assert f'"{column}",' in described or f"{column}," in described
    assert described.count("purity_to_here,") + described.count('"purity_to_here",') == 1


def test_counts_a_picture_and_the_summary_show_the_lists(result: CatalogResult) -> None:
    assert result.document.counts["m_subdwarfs"] == {"usdM": 2, "esdM": 2, "sdM": 2}
    assert result.document.counts["carbon_stars"] == {"bands": 3, "survey": 1}
    pictures = report.pictures(result)
    assert "kinds.png" in {Path(path).name for path in pictures}
    text = report.summary(result, pictures)
    assert "subdwarfs  6 stars (2 usdM, 2 esdM, 2 sdM) by their bands or type, in m_subdwarfs.*" in text
    assert "carbon     4 stars (3 bands, 1 survey) by their bands or type, in carbon_stars.*" in text


def test_a_survey_without_such_stars_has_empty_lists() -> None:
    _, empty = plain()
    assert [read(empty, name).num_rows for name in KIND_LISTS] == [0, 0]
    assert "kinds.png" not in {Path(path).name for path in report.pictures(empty)}
