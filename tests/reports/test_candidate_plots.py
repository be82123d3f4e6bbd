"""The pictures of lists: where the candidates are among all stars, and the limits that decide."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports.candidate_plots import plot_lists
from survey.reports.shown_lists import ShownList, shown_lists
from tests.catalog.test_catalog import all_stars, list_of


def axes_by_labels(figure: Figure) -> dict[tuple[str, str], Axes]:
    """The panels by the names of their axes."""
    return {(axis.get_xlabel(), axis.get_ylabel()): axis for axis in figure.axes if axis.get_visible()}


SKY = ("right ascension (deg)", "declination (deg)")
CARBON = ("[Fe/H] (dex)", "[C/Fe] (dex)")
ABSOLUTE = ("[Fe/H] (dex)", "A(C) (dex)")
DISTANCE = ("CEMP score", "domain")
RANKS = ("rank", "score")


def test_candidates_are_at_their_places_in_each_panel(result: CatalogResult, figures: list[Figure]) -> None:
    assert list(plot_lists(result, shown_lists(result))) == ["MP", "CEMP"]
    cemp = list_of(result, "CEMP")
    panels = axes_by_labels(figures[1])
    assert set(panels) == {SKY, CARBON, ABSOLUTE, DISTANCE, RANKS}
    carbon = np.asarray(cemp["FeH"].to_numpy(), float) + np.asarray(cemp["CFe"].to_numpy(), float) + 8.43
    places = {
        SKY: (cemp["ra"], cemp["dec"]),
        CARBON: (cemp["FeH"], cemp["CFe"]),
        ABSOLUTE: (cemp["FeH"], carbon),
        DISTANCE: (cemp["score_cemp"], cemp["domain"]),
        RANKS: (cemp["rank"], cemp["score_cemp"]),
    }
    for name, columns in places.items():
        points = np.asarray(panels[name].get_lines()[0].get_data(), float)
        assert points == pytest.approx(np.stack([np.asarray(column, float) for column in columns]), abs=1e-5)
    assert panels[SKY].get_xlim()[0] > panels[SKY].get_xlim()[1]


def test_behind_the_candidates_all_stars_are_counted(result: CatalogResult, figures: list[Figure]) -> None:
    plot_lists(result, shown_lists(result))
    stars = all_stars(result)
    for name in (SKY, CARBON, DISTANCE):
        cells: Any = np.ma.asarray(axes_by_labels(figures[1])[name].collections[0].get_array())
        assert 0.98 * stars.num_rows <= cells.sum() <= stars.num_rows


def test_the_limits_are_those_of_the_settings(result: CatalogResult, figures: list[Figure]) -> None:
    plot_lists(result, shown_lists(result))
    panels = axes_by_labels(figures[1])
    assert limits(panels[CARBON]) == {("x", -1.0), ("y", 0.7)}
    threshold = result.document.thresholds["CEMP"].value
    settings = result.document.settings["limits"]
    expected = {("x", threshold), ("y", settings["domain_warn"]), ("y", settings["domain_bad"])}
    assert limits(panels[DISTANCE]) == expected


def limits(axis: Axes) -> set[tuple[str, float]]:
    """The dashed lines, vertical (x) and horizontal (y)."""
    found = set()
    for line in axis.get_lines():
        (x, y) = (np.asarray(values, float).tolist() for values in line.get_data())
        if line.get_linestyle() == "--" and len(x) == 2:
            found.add(("x", x[0]) if x[0] == x[1] else ("y", y[0]))
    return found


@pytest.mark.parametrize(("criterion", "expected"), [("carbon_1.0", {1.0}), ("aoki2007", set())])
def test_a_limit_of_a_criterion_that_is_not_used_is_not_drawn(
    result: CatalogResult, figures: list[Figure], criterion: str, expected: set[float]
) -> None:
    """The limit of Aoki et al. (2007) depends on the luminosity: no line in this plane is right."""
    document = result.document.model_copy(
        update={"settings": result.document.settings | {"criterion": criterion}}
    )
    plot_lists(dataclasses.replace(result, document=document), shown_lists(result))
    drawn = limits(axes_by_labels(figures[1])[CARBON])
    assert {value for direction, value in drawn if direction == "y"} == expected


def without(table: pa.Table, *names: str) -> pa.Table:
    """The table with only nulls in these columns."""
    for name in names:
        column = pa.nulls(table.num_rows, table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def test_panels_without_a_number_are_left_out(result: CatalogResult, figures: list[Figure]) -> None:
    table = without(list_of(result, "CEMP"), "domain", "ra").drop_columns(["score_cemp"])
    plot_lists(result, [ShownList("CEMP", table, is_listed=True)])
    assert set(axes_by_labels(figures[0])) == {CARBON, ABSOLUTE}
    nothing = without(table, "FeH")
    assert plot_lists(result, [ShownList("CEMP", nothing, is_listed=True)]) == {}


def test_an_empty_list_shows_the_next_best_stars(
    result: CatalogResult, tmp_path: Path, figures: list[Figure]
) -> None:
    copy = shutil.copytree(result.folder, tmp_path / "catalog")
    result = dataclasses.replace(result, folder=str(copy))
    candidates = list_of(result, "CEMP")
    pq.write_table(candidates.slice(0, 0), Path(result.folder) / "cemp_candidates.parquet")
    mp, cemp = shown_lists(result)
    assert (mp.file, mp.is_listed, cemp.file, cemp.is_listed) == ("mp_candidates", True, "next_cemp", False)
    assert cemp.table.equals(result.table("next_cemp.parquet"))
    assert cemp.spectra_file == "next_cemp_spectra"
    plot_lists(result, [cemp])
    assert "best stars that are not in the CEMP list, which is empty" in figures[0].get_suptitle()
    pq.write_table(cemp.table.slice(0, 0), Path(result.folder) / "next_cemp.parquet")
    assert [shown.name for shown in shown_lists(result)] == ["MP"]


def test_every_star_is_in_some_cell_of_the_sky(result: CatalogResult, figures: list[Figure]) -> None:
    plot_lists(result, shown_lists(result))
    cells: Any = np.ma.asarray(axes_by_labels(figures[0])[SKY].collections[0].get_array())
    known = pc.sum(all_stars(result)["ra"].is_valid()).as_py()
    assert cells.sum() >= 0.99 * known


def test_the_scores_by_rank_have_no_legend_that_may_lie_on_them(
    result: CatalogResult, figures: list[Figure]
) -> None:
    plot_lists(result, shown_lists(result))
    axis = axes_by_labels(figures[1])[RANKS]
    score, purity = axis.get_lines()
    cemp = list_of(result, "CEMP")
    assert purity.get_linestyle() == "--"
    for line, name in ((score, "score_cemp"), (purity, "purity_to_here")):
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), cemp[name].to_numpy())
    assert axis.get_legend() is None
    assert "dashed: expected purity" in axis.get_title() + axis.get_title("left")


def test_the_title_counts_candidates_and_stars(result: CatalogResult, figures: list[Figure]) -> None:
    plot_lists(result, shown_lists(result))
    title: Any = figures[1].get_suptitle()
    assert f"{list_of(result, 'CEMP').num_rows:,} CEMP candidates" in title
    assert f"{result.document.stars:,} stars" in title
