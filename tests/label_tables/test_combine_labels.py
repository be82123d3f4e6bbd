"""One value for each star from several catalogues: priority, means, contradictions, carbon."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.label_tables.catalogues_by_hand import make, write_csv

COLUMNS = {
    "Teff": {"column": "teff", "error": "e_teff"},
    "FeH": {"column": "feh", "error": "e_feh"},
    "CFe": {"column": "cfe", "error": "e_cfe"},
}
NAMES = "id ra dec teff e_teff feh e_feh cfe e_cfe snr"


def catalogue(path: Path, rows: list[tuple[Any, ...]], **more: Any) -> dict[str, Any]:
    """A source of stars by number: number, Teff, [Fe/H], [C/Fe], S/N."""
    cells = [(f"s{n}", 10 + n, 5, teff, 100, feh, 0.1, cfe, 0.2, snr) for n, teff, feh, cfe, snr in rows]
    file = write_csv(path, NAMES, cells)
    return {"file": file, "labels": COLUMNS, "ids": {"name": "id"}, "snr": "snr"} | more


def table_of(folder: Path, sources: dict[str, Any], **settings: Any) -> Any:
    result = make(folder, sources, **settings)
    table = result.table("labels.parquet")
    assert table is not None
    return table.to_pandas().set_index("star"), result


def test_each_label_comes_from_the_preferred_source_that_has_it(tmp_path: Path) -> None:
    one = catalogue(tmp_path / "1.csv", [(1, 5000, -2.0, "", 50), (2, "", -1.0, 0.1, 50)], priority=1)
    two = catalogue(tmp_path / "2.csv", [(1, 5100, -2.1, 0.9, 50), (3, 6000, -0.2, "", 50)], priority=2)
    frame, _ = table_of(tmp_path, {"two": two, "one": one})
    star = frame.loc["s1"]
    assert (star["Teff"], star["FeH"], star["CFe"]) == (5000, -2.0, 0.9)
    assert (star["source_Teff"], star["source_CFe"]) == ("one", "two")
    assert (star["e_Teff"], star["e_CFe"], star["n_sources"]) == (100, 0.2, 2)
    assert frame.loc["s1", "class"] == "CEMP"
    assert frame.loc["s3", "class"] == "NMP"
    assert frame["weight"].tolist() == [1.0] * 3


def test_carbon_over_hydrogen_and_a_c_follow_from_the_identity(tmp_path: Path) -> None:
    one = catalogue(tmp_path / "1.csv", [(1, 5000, -2.0, 0.9, 50)])
    frame, _ = table_of(tmp_path, {"one": one})
    assert frame.loc["s1", "CH"] == pytest.approx(-1.1)
    assert frame.loc["s1", "source_CH"] == "identity"
    assert frame.loc["s1", "e_CH"] == pytest.approx(np.hypot(0.1, 0.2))
    assert frame.loc["s1", "A_C"] == pytest.approx(8.43 - 1.1)


def test_carbon_over_hydrogen_of_one_source_and_iron_of_another_give_carbon_over_iron(tmp_path: Path) -> None:
    iron = write_csv(tmp_path / "1.csv", "ra dec feh", [(10, 5, -2.5)])
    carbon = write_csv(tmp_path / "2.csv", "ra dec ch", [(10, 5, -1.0)])
    sources = {
        "one": {"file": iron, "labels": {"FeH": {"column": "feh"}}},
        "two": {"file": carbon, "labels": {"CH": {"column": "ch"}}},
    }
    result = make(tmp_path, sources)
    table = result.table("labels.parquet")
    assert table is not None
    row = table.to_pylist()[0]
    assert (row["CFe"], row["class"]) == (1.5, "CEMP")
    assert row["source_CFe"] == "two"


def measured_carbon(folder: Path, how: str, *iron: tuple[float, float]) -> dict[str, Any]:
    """The labels of a star with a [C/H] of one source, and [Fe/H] with its error of others."""
    carbon = write_csv(folder / "carbon.csv", "ra dec ch e_ch", [(10, 5, -1.5, 0.1)])
    labels = {"CH": {"column": "ch", "error": "e_ch"}}
    sources: dict[str, dict[str, Any]] = {"carbon": {"file": carbon, "labels": labels}}
    for number, (value, error) in enumerate(iron):
        path = write_csv(folder / f"{number}.csv", "ra dec feh e_feh", [(10, 5, value, error)])
        sources[f"iron{number}"] = {"file": path}
    table = make(folder, sources, combine={"contradicting": how}).table("labels.parquet")
    assert table is not None
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def test_a_measured_carbon_over_hydrogen_keeps_its_error_and_source(tmp_path: Path) -> None:
    row = measured_carbon(tmp_path, "keep", (-2.0, 0.1))
    assert (row["CH"], row["e_CH"], row["source_CH"]) == (-1.5, 0.1, "carbon")
    assert (row["CFe"], row["e_CFe"]) == (pytest.approx(0.5), pytest.approx(np.hypot(0.1, 0.1)))


def test_what_was_computed_from_a_dropped_label_is_dropped_and_what_was_measured_stays(
    tmp_path: Path,
) -> None:
    row = measured_carbon(tmp_path, "drop_label", (-2.0, 0.1), (-1.0, 0.1))
    assert row["contradicts"] == "FeH"
    assert (row["FeH"], row["CFe"], row["source_CFe"]) == (None, None, None)
    assert (row["CH"], row["source_CH"]) == (-1.5, "carbon")
    one = catalogue(tmp_path / "1.csv", [(1, 5000, -2.0, 0.5, 50)])
    two = catalogue(tmp_path / "2.csv", [(1, 5000, -1.0, "", 50)])
    frame, _ = table_of(tmp_path / "b", {"one": one, "two": two}, combine={"contradicting": "drop_label"})
    assert frame.loc["s1", "CFe"] == 0.5
    assert frame.loc["s1", ["FeH", "CH"]].isna().all()


def test_a_weighted_mean_and_its_error_are_those_of_textbooks(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.csv" for number in range(3)]
    values = [(-2.00, 0.1), (-2.10, 0.2), (-2.06, 0.1)]
    sources: dict[str, Any] = {}
    for number, (path, (value, error)) in enumerate(zip(paths, values, strict=True)):
        write_csv(path, "ra dec feh e_feh", [(10, 5, value, error)])
        sources[f"s{number}"] = {"file": str(path), "weight": 2.0 if number == 2 else 1.0}
    result = make(tmp_path, sources, combine={"method": "mean"})
    table = result.table("labels.parquet")
    assert table is not None
    row = table.to_pylist()[0]
    weights = np.array([1 / 0.1**2, 1 / 0.2**2, 2 / 0.1**2])
    assert row["FeH"] == pytest.approx(np.average([-2.0, -2.1, -2.06], weights=weights))
    variance = (weights**2 * np.array([0.1, 0.2, 0.1]) ** 2).sum() / weights.sum() ** 2
    assert row["e_FeH"] == pytest.approx(np.sqrt(variance))
    assert row["source_FeH"] == "s0+s1+s2"


def test_the_error_of_a_mean_grows_where_the_sources_scatter(tmp_path: Path) -> None:
    for number, value in enumerate((-2.0, -2.3)):
        write_csv(tmp_path / f"{number}.csv", "ra dec feh e_feh", [(10, 5, value, 0.1)])
    sources = {f"s{number}": {"file": str(tmp_path / f"{number}.csv")} for number in range(2)}
    result = make(tmp_path, sources, combine={"method": "mean"})
    table = result.table("labels.parquet")
    assert table is not None
    # chi squared 4.5 of one degree of freedom: 0.1 / sqrt(2) * sqrt(4.5)
    assert table["e_FeH"].to_pylist() == [pytest.approx(0.15)]


def test_of_several_rows_the_one_with_the_best_signal_counts(tmp_path: Path) -> None:
    rows = [(1, 5000, -2.0, 0.1, 30), (1, 5010, -2.05, "", 90), (1, 5020, -2.02, 0.3, 60)]
    frame, result = table_of(tmp_path, {"one": catalogue(tmp_path / "1.csv", rows)})
    # [C/Fe] is missing in the best row
    assert (frame.loc["s1", "FeH"], frame.loc["s1", "CFe"]) == (-2.05, 0.3)
    assert result.document.sources[0].refused == {"another row of the same star was used": 1}
    frame, _ = table_of(
        tmp_path / "mean", {"one": catalogue(tmp_path / "1.csv", rows, duplicates="mean")}
    )  # fmt: skip
    assert frame.loc["s1", "FeH"] == pytest.approx(np.mean([-2.0, -2.05, -2.02]))


def test_stars_with_several_rows_can_be_refused(tmp_path: Path) -> None:
    rows = [(1, 5000, -2.0, 0.1, 30), (1, 5010, -2.05, 0.1, 90), (2, 5020, -2.02, 0.3, 60)]
    frame, result = table_of(
        tmp_path, {"one": catalogue(tmp_path / "1.csv", rows, duplicates="refuse")}
    )  # fmt: skip
    assert list(frame.index) == ["s2"]
    assert result.document.sources[0].refused == {"several rows of one star": 2}


@pytest.mark.parametrize(
    ("how", "kept"), [("keep", {"s1", "s2"}), ("drop_label", {"s1", "s2"}), ("drop_star", {"s2"})]
)
def test_contradictions_are_found_and_treated_as_wanted(how: str, kept: set[str], tmp_path: Path) -> None:
    one = catalogue(tmp_path / "1.csv", [(1, 5000, -2.0, 0.1, 50), (2, 5000, -2.0, 0.1, 50)])
    two = catalogue(tmp_path / "2.csv", [(1, 5050, -1.2, 0.2, 50), (2, 5100, -2.2, 0.3, 50)], priority=20)
    frame, result = table_of(tmp_path, {"one": one, "two": two}, combine={"contradicting": how})
    assert set(frame.index) == kept
    assert result.document.contradictions == {"FeH: one and two": 1}
    found = result.table("contradictions.parquet")
    assert found is not None
    row = found.to_pylist()[0]
    assert (row["star"], row["label"], row["value_1"], row["value_2"]) == ("s1", "FeH", -2.0, -1.2)
    assert row["sigmas"] == pytest.approx(0.8 / np.hypot(0.1, 0.1))
    if how == "keep":
        assert frame.loc["s1", "contradicts"] == "FeH"
    if how == "drop_label":
        assert np.isnan(frame.loc["s1", "FeH"])
        assert frame.loc["s1", "Teff"] == 5000
        assert not isinstance(frame.loc["s1", "class"], str)


def test_a_difference_within_errors_is_no_contradiction(tmp_path: Path) -> None:
    one = catalogue(tmp_path / "1.csv", [(1, 5000, -2.0, 0.1, 50)])
    two = catalogue(tmp_path / "2.csv", [(1, 5000, -1.4, 0.1, 50)])
    _, result = table_of(tmp_path, {"one": one, "two": two})
    assert result.document.contradictions == {"FeH: one and two": 1}  # 0.6, errors 0.1
    _, result = table_of(tmp_path / "b", {"one": one, "two": two}, combine={"sigma": 5})
    assert result.document.contradictions == {}


def test_rows_of_one_source_can_contradict_each_other(tmp_path: Path) -> None:
    rows = [(1, 5000, -2.0, 0.1, 30), (1, 6000, -2.05, 0.1, 90)]
    frame, result = table_of(tmp_path, {"one": catalogue(tmp_path / "1.csv", rows)})
    assert result.document.contradictions == {"Teff: one and one": 1}
    assert frame.loc["s1", "contradicts"] == "Teff"


def test_an_offset_of_all_stars_is_no_contradiction_of_each(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    true = draw.uniform(-3, -1, 60)
    one = [(n, 5000, round(value, 3), 0.1, 50) for n, value in enumerate(true)]
    two = [(n, 5000, round(value + 0.5, 3), 0.1, 50) for n, value in enumerate(true)]
    two[7] = (7, 5000, round(true[7] - 0.8, 3), 0.1, 50)
    sources = {
        "one": catalogue(tmp_path / "1.csv", one, priority=1),
        "two": catalogue(tmp_path / "2.csv", two, priority=2),
    }
    frame, result = table_of(tmp_path, sources)
    assert result.document.contradicting_stars == 1
    assert frame.loc["s7", "contradicts"] == "FeH"


def test_the_evolutionary_correction_comes_from_a_column_and_decides_classes_only_if_wanted(
    tmp_path: Path,
) -> None:
    path = write_csv(
        tmp_path / "1.csv", "ra dec feh cfe corr", [(10, 5, -2.5, 0.4, 0.5), (20, 5, -2.5, 0.4, "")]
    )
    one = {
        "file": path,
        "labels": {"FeH": {"column": "feh"}, "CFe": {"column": "cfe"}},
        "carbon_correction": "corr",
    }
    plain = make(tmp_path, {"one": one}).table("labels.parquet")
    assert plain is not None
    assert plain["class"].to_pylist() == ["MP", "MP"]
    assert plain["CFe_natal"].to_pylist() == [pytest.approx(0.9), None]
    natal = make(tmp_path / "natal", {"one": one}, natal=True).table("labels.parquet")
    assert natal is not None
    assert natal["class"].to_pylist() == ["CEMP", "MP"]
    assert natal["CFe"].to_pylist() == [0.4, 0.4]


def test_a_table_of_corrections_alone_is_a_source(tmp_path: Path) -> None:
    values = write_csv(tmp_path / "1.csv", "ra dec feh cfe", [(10, 5, -2.5, 0.4), (30, 5, -2.5, 0.4)])
    corrections = write_csv(tmp_path / "2.csv", "ra dec corr", [(10, 5, 0.5), (70, 5, 0.3)])
    sources = {
        "one": {"file": values, "labels": {"FeH": {"column": "feh"}, "CFe": {"column": "cfe"}}},
        "two": {"file": corrections, "labels": {}, "carbon_correction": "corr"},
    }
    table = make(tmp_path, sources, natal=True).table("labels.parquet")
    assert table is not None
    assert table["class"].to_pylist() == ["CEMP", "MP"]
    assert table["CFe_correction"].to_pylist() == [0.5, None]


def test_the_criterion_of_luminosity_is_that_of_labels(tmp_path: Path) -> None:
    """A giant of log L 3.0 needs [C/Fe] of 0.0 only."""
    path = write_csv(tmp_path / "1.csv", "ra dec teff logg feh cfe", [(10, 5, 4300, 0.5, -2.5, 0.3)])
    columns = {name: {"column": name.lower()} for name in ("Teff", "logg", "FeH", "CFe")}
    sources = {"one": {"file": path, "labels": columns}}
    for criterion, expected in (("carbon_0.7", "MP"), ("aoki2007", "CEMP")):
        table = make(tmp_path / criterion, sources, criterion=criterion).table("labels.parquet")
        assert table is not None
        assert table["class"].to_pylist() == [expected]
