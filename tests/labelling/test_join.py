"""Labels joined to a store: every row and every spectrum is counted, and nothing is filled in."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey import labels
from survey.labelling.counts import Counts
from survey.labelling.join import STORE_COLUMNS, Labelled, check_task, join
from survey.labelling.settings import NO_CLASS, Join
from survey.settings import SettingsError
from survey.tables.cells import MISSING as MISSING_CELLS
from tests.labelling.small_stores import store, visit

VISITS = [visit(number) for number in range(10)]


def joined(
    folder: Path,
    frame: pd.DataFrame,
    wanted: list[str],
    rows: list[dict[str, Any]] | None = None,
    **given: Any,
) -> Labelled:
    """The labels of a frame, written as CSV, joined to a store of these rows."""
    folder.mkdir(exist_ok=True)
    path = folder / "labels.csv"
    frame.to_csv(path, index=False)
    part_column = given.pop("part_column", None)
    return join(
        Join.from_dict("join", {"table": str(path)} | given),
        store(folder / "store", VISITS if rows is None else rows),
        wanted,
        part_column,
    )


def assert_all_are_counted(counts: Counts) -> None:
    rows = (
        counts.used
        + counts.merged
        + counts.unused
        + sum(counts.refused.values())
        + sum(counts.left_out_rows.values())
    )
    assert rows == counts.rows
    assert counts.matched + counts.unmatched + sum(counts.left_out_spectra.values()) == counts.spectra
    assert counts.text()


def test_spectra_keep_the_order_of_the_store_and_their_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1009, 1001, 1004, 5],
            "FeH": [-0.9, -0.1, -0.4, -3.0],
            "feh_err": [0.09, 0.01, np.nan, 0.3],
        }
    )
    found = joined(tmp_path, frame, ["FeH"])
    assert (found.shard_N.tolist(), found.row_in_shard_N.tolist()) == ([0, 1, 2], [1, 0, 1])
    assert found.label_NL[:, 0].tolist() == [-0.1, -0.4, -0.9]
    assert found.error_NL[:, 0].tolist() == pytest.approx([0.01, np.nan, 0.09], nan_ok=True)
    assert found.extra["obsid"].to_pylist() == [1001, 1004, 1009]
    assert found.extra.column_names == list(STORE_COLUMNS)
    assert found.star_N.tolist() == [VISITS[number]["star"] for number in (1, 4, 9)]
    assert (found.counts.rows, found.counts.used, found.counts.unused, found.counts.unmatched) == (4, 3, 1, 7)
    assert found.counts.key == "obsid"
    assert_all_are_counted(found.counts)


def test_temperature_and_gravity_are_kept_besides_the_labels_and_decide_nothing(tmp_path: Path) -> None:
    """Rows that contradict each other only in these are merged; a row with nothing else has no label."""
    frame = pd.DataFrame(
        {"spec": [row["path"].rpartition("/")[2] for row in (VISITS[1], VISITS[1], VISITS[4], VISITS[6])]}
    )
    frame["teff"], frame["logg"], frame["C_FE"] = (
        [5000.0, 5100.0, -9999.0, 4800.0],
        [2.5, 2.5, 4.5, 1.0],
        [0.1, 0.1, 0.4, np.nan],
    )
    found = joined(tmp_path, frame, ["CFe"], classes="none")
    assert found.counts.key == "file"
    assert found.extra["obsid"].to_pylist() == [1001, 1004]
    assert found.extra["true_Teff"].to_pylist() == [5000.0, None]
    assert found.extra["true_logg"].to_pylist() == [2.5, 4.5]
    assert found.counts.refused["no label"] == 1
    assert found.counts.refused["contradicting"] == 0
    assert "Teff" not in found.counts.text()
    assert_all_are_counted(found.counts)
    with_teff = joined(tmp_path, frame, ["CFe", "Teff"], classes="none")
    assert with_teff.extra.column_names == [*STORE_COLUMNS, "true_logg"]
    assert with_teff.counts.refused["contradicting"] == 2


ROWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "obsid": lambda row: {"combined_obsid": row["obsid"]},
    "file": lambda row: {"file": "some/folder/" + row["path"].rpartition("/")[2].removesuffix(".gz").upper()},
    "file with gz": lambda row: {"filename": row["path"].rpartition("/")[2].removesuffix(".gz") + ".gz"},
    "visit": lambda row: {"visit": row["visit"]},
    "visit by plan": lambda row: dict(zip(("lmjd", "planid", "spid", "fiberid"), _plan(row), strict=True)),
    "visit by file": lambda row: {"file": row["path"].rpartition("/")[2].removesuffix(".gz")},
    "star": lambda row: {"designation": "LAMOST " + row["star"]},
    "position": lambda row: {"RA": row["ra"] + 2 / 3600, "DEC": row["dec"]},
    "position in hours": lambda row: {"ra": _sexagesimal(row["ra"] / 15), "dec": _sexagesimal(row["dec"])},
}


def _plan(row: dict[str, Any]) -> tuple[float, str, float, float]:
    lmjd, planid, spid, fiberid = row["visit"].split("-")
    return float(lmjd), planid, float(spid), float(fiberid)


def _sexagesimal(angle: float) -> str:
    seconds = round(abs(angle) * 3600, 3)
    return f"{'-' if angle < 0 else ''}{int(seconds // 3600)} {int(seconds % 3600 // 60)} {seconds % 60:.3f}"


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("key", ["auto", "named"])
def test_rows_are_matched_by_every_key_that_both_sides_have(name: str, key: str, tmp_path: Path) -> None:
    rows = [ROWS[name](row) | {"logg": number / 2} for number, row in enumerate(VISITS)]
    wanted = name.split()[0]
    found = joined(tmp_path, pd.DataFrame(rows[::-1]), ["logg"], key="auto" if key == "auto" else wanted)
    assert found.label_NL[:, 0].tolist() == [number / 2 for number in range(10)]
    if name != "visit by file":  # a known file is preferred as the key
        assert found.counts.key == wanted


def test_a_spectrum_in_a_table_of_many_is_matched_by_its_visit_if_the_labels_name_files(
    tmp_path: Path,
) -> None:
    rows = [visit(number, path="/data/X.npy", row=number, visit=f"spec-{number}") for number in range(4)]
    found = joined(
        tmp_path, pd.DataFrame({"file": ["spec-2.fits", "X.npy"], "logg": [2.0, 4.0]}), ["logg"], rows
    )
    assert found.extra["visit"].to_pylist() == ["spec-2"]


def rows_of_array(folder: Path, name: str, count: int) -> list[dict[str, Any]]:
    """The store's rows of an array of so many spectra, of which the second was refused."""
    path = folder / f"{name}.npy"
    np.save(path, np.ones((count, 3)))
    return [
        visit(number, path=str(path), row=number, visit=f"{name}-{number}", ra=None, dec=None)
        for number in range(count)
        if number != 1
    ]


def test_a_table_beside_an_array_with_one_line_per_spectrum_is_matched_by_row(tmp_path: Path) -> None:
    rows = [*rows_of_array(tmp_path, "X", 4), *rows_of_array(tmp_path, "X_test", 5), *VISITS]
    frame = pd.DataFrame({"Teff": [4000.0, 4100.0, np.nan, 4300.0]})
    found = joined(tmp_path, frame, ["Teff"], rows)
    assert found.extra["visit"].to_pylist() == ["X-0", "X-3"]
    assert found.label_NL[:, 0].tolist() == [4000.0, 4300.0]
    assert "2 spectra of 2 stars, by row" in found.counts.text()
    assert_all_are_counted(found.counts)


def test_of_arrays_of_one_length_the_table_of_the_same_name_is_matched_by_row(tmp_path: Path) -> None:
    rows = [*rows_of_array(tmp_path, "X_test", 4), *rows_of_array(tmp_path, "X_train", 4)]
    frame = pd.DataFrame({"Teff": [4000.0, 4100.0, 4200.0, 4300.0], "gaia_source_id": [1, 2, 3, 3]})
    frame.to_csv(tmp_path / "y_train.csv", index=False)
    of_train = Join.from_dict("join", {"table": str(tmp_path / "y_train.csv")})
    found = join(of_train, store(tmp_path / "other", rows), ["Teff"])
    assert found.extra["visit"].to_pylist() == ["X_train-0", "X_train-2", "X_train-3"]
    assert found.star_N[1] == found.star_N[2] != found.star_N[0]
    message = (
        "no column of a key; .*; add a column obsid, visit or star .visit: x_test-0, x_test-2, x_test-3 in"
    )
    with pytest.raises(ValueError, match=message):
        joined(tmp_path, frame[["Teff"]], ["Teff"], rows)


@pytest.mark.parametrize("count", [3, 5])
def test_a_table_with_another_number_of_lines_is_not_matched_by_row(tmp_path: Path, count: int) -> None:
    rows = rows_of_array(tmp_path, "X", 4)
    with pytest.raises(ValueError, match=f"none of {count} rows matches"):
        joined(tmp_path, pd.DataFrame({"Teff": [4000.0] * count}), ["Teff"], rows)


def test_auto_prefers_a_key_of_the_visit_unless_it_matches_few_rows(tmp_path: Path) -> None:
    """Each star has two visits: by star, every row would match both."""
    rows = [visit(number, star=f"S{number // 2}", ra=float(number // 2), dec=0.5) for number in range(8)]
    frame = pd.DataFrame(
        {
            "obsid": [row["obsid"] for row in rows],
            "star": [row["star"] for row in rows],
            "logg": np.arange(8) / 2,
        }
    )
    found = joined(tmp_path, frame, ["logg"], rows)
    assert (found.counts.key, len(found)) == ("obsid", 8)
    frame["obsid"] = [1000, 1, 2, 3, 4, 5, 6, 7]
    frame["logg"] = np.arange(8) // 2
    found = joined(tmp_path, frame, ["logg"], rows)
    assert (found.counts.key, len(found), found.counts.merged) == ("star", 8, 4)


def test_values_out_of_range_are_missing_and_counted(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1000, 1001, 1002, 1003],
            "FeH": ["-9999", "999", "*", "-1.5"],
            "logg": [2.0, 2.5, 3.0, 3.5],
        }
    )
    found = joined(tmp_path, frame, ["FeH", "logg"])
    assert found.label_NL[:, 0].tolist() == pytest.approx([np.nan, np.nan, np.nan, -1.5], nan_ok=True)
    assert found.counts.out_of_range == {"FeH": 2, "logg": 0}
    assert found.counts.missing == {"FeH": 3, "logg": 0}
    assert "2 cells of the table hold no value inside its range" in found.counts.text()


def test_rows_without_a_label_and_a_class_are_refused_and_counted(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"obsid": [1000, 1001, 1002], "FeH": [-9999, -1.0, -9999], "f_CEMP": [None, None, 1]}
    )
    found = joined(tmp_path, frame, ["FeH"])
    assert found.extra["obsid"].to_pylist() == [1001, 1002]
    assert found.counts.refused["no label"] == 1
    assert_all_are_counted(found.counts)


def test_equal_rows_are_merged_and_contradicting_rows_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1000, 1000, 1001, 1001, 1002, 1002, 1003, 1003],
            "Teff": [5000.0, 5000.0001, 5000.0, 5000.1, 4000.0, None, 4500.0, 4500.0],
            "logg": [1.0, 1.0, 2.0, 2.0, None, 3.0, 4.0, 4.0],
            "class": ["MP", "MP", "MP", "MP", "NMP", None, "MP", "NMP"],
        }
    )
    found = joined(tmp_path, frame, ["Teff", "logg"])
    assert found.extra["obsid"].to_pylist() == [1000, 1002]
    assert found.label_NL.tolist() == [[5000.0, 1.0], [4000.0, 3.0]]
    assert found.class_N.tolist() == [0, 2]
    assert (found.counts.used, found.counts.merged, found.counts.refused["contradicting"]) == (2, 2, 4)
    assert_all_are_counted(found.counts)


def test_errors_are_read_under_their_usual_names(tmp_path: Path) -> None:
    for name in ("e_FeH", "FeH_err", "FEH_ERR", "feh_err", "sigma_FeH", "fe_h_err"):
        found = joined(
            tmp_path, pd.DataFrame({"obsid": [1000, 1001], "FeH": [-1.0, -2.0], name: [0.1, -9999]}), ["FeH"]
        )
        assert found.error_NL[:, 0].tolist() == pytest.approx([0.1, np.nan], nan_ok=True)


def test_a_missing_label_of_carbon_and_iron_is_computed_from_the_other_two(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1000, 1001, 1002],
            "FeH": [-2.0, -2.0, None],
            "CH": [-1.0, None, -1.0],
            "e_FeH": 0.3,
            "e_CH": 0.4,
        }
    )
    found = joined(tmp_path, frame, ["CFe"])
    assert found.label_NL[:, 0].tolist() == [1.0]
    assert found.error_NL[:, 0].tolist() == [0.5]
    assert found.counts.computed["CFe"] == 1
    with pytest.raises(ValueError, match="there is no column for CFe"):
        joined(tmp_path, frame, ["CFe"], identity=False)
    frame["CFe"] = [1.2, 0.5, 0.25]
    found = joined(tmp_path, frame, ["FeH", "CH", "CFe"])
    assert found.label_NL.tolist() == [[-2.0, -1.0, 1.2], [-2.0, -1.5, 0.5], [-1.25, -1.0, 0.25]]
    assert found.counts.identity_broken == 1


def test_classes_are_read_from_numbers_or_words_or_computed(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1000, 1001, 1002, 1003],
            "FeH": [-2.0, -2.0, -0.5, -2.0],
            "CFe": [0.1, 0.9, 0.9, None],
            "class": "STAR",
        }
    )
    found = joined(tmp_path, frame, ["FeH"])
    assert found.class_N.tolist() == [0, 1, 2, -1]
    assert found.counts.classes_from == "FeH and CFe by carbon_0.7"
    assert joined(tmp_path, frame, ["FeH"], criterion="carbon_1.0").class_N.tolist() == [0, 0, 2, -1]
    assert joined(tmp_path, frame, ["FeH"], classes="none").class_N.tolist() == [-1] * 4
    forms: tuple[Any, ...] = ([2, 1, 0, -1], ["nmp", "CEMP", "MP ", ""], [2.0, 1.0, 0.0, None])
    for cells in forms:
        usual = joined(tmp_path, frame.assign(**{"class": cells}), ["FeH"])
        assert usual.class_N.tolist() == [2, 1, 0, -1]
        named = joined(tmp_path, frame.assign(kind=cells), ["FeH"], classes="kind")
        assert named.class_N.tolist() == [2, 1, 0, -1]
    with pytest.raises(
        ValueError,
        match=r"the column class holds 'STAR'; "
        r"classes are 0 MP, 1 CEMP, 2 NMP or MP, CEMP, NMP; give join\.classes=",
    ):
        joined(tmp_path, frame, ["FeH"], classes="class")


def test_a_class_may_be_called_none_or_unknown(tmp_path: Path) -> None:
    frame = pd.DataFrame({"obsid": [1000, 1001, 1002, 1003], "kind": ["None", "Unknown", "none", "star"]})
    how: dict[str, Any] = {"classes": "kind", "class_names": ["star", "unknown", "none"]}
    assert joined(tmp_path, frame, [], **how).class_N.tolist() == [1, 2, 0]
    how["class_names"] = ["star", "none"]
    assert joined(tmp_path, frame, [], **how).class_N.tolist() == [1, 0]
    numbers = frame.assign(kind=[0.0, 1.0, np.nan, -1.0])
    assert joined(tmp_path, numbers, [], **how).class_N.tolist() == [0, 1]


def test_a_word_that_means_no_value_in_a_table_names_no_class() -> None:
    assert {*NO_CLASS, ""} == set(MISSING_CELLS)
    with pytest.raises(SettingsError, match="has 'null', which in a table means that there is no value"):
        Join.from_dict("join", {"class_names": ["M0", "null"]})


def test_the_criterion_by_luminosity_needs_temperature_and_gravity(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "obsid": [1000, 1001, 1002],
            "FeH": -2.5,
            "CFe": 0.5,
            "Teff": [4500.0, 6000.0, np.nan],
            "logg": [1.0, 4.0, 4.0],
        }
    )
    assert joined(tmp_path, frame, ["FeH"], criterion="aoki2007").class_N.tolist() == [1, 0, labels.MISSING]
    with pytest.raises(ValueError, match="classes by aoki2007 need Teff and logg besides FeH and CFe"):
        joined(tmp_path, frame.drop(columns="Teff"), ["FeH"], criterion="aoki2007")


def test_limits_apply_to_labels_and_to_columns_of_the_table_and_the_store(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"obsid": np.arange(1000, 1010), "FeH": -np.arange(10) / 2, "ruwe": np.arange(10) % 2, "logg": 1.0}
    )
    found = joined(tmp_path, frame, ["logg"], where={"FeH": [-4, -1], "ruwe": [0.5, 2], "snr_g": [0, 15.5]})
    assert found.extra["obsid"].to_pylist() == [1003, 1005]
    assert found.counts.left_out_rows == {"FeH -4 to -1": 3, "ruwe 0.5 to 2": 4}
    assert found.counts.left_out_spectra == {"snr_g 0 to 15.5": 4}
    assert_all_are_counted(found.counts)
    with pytest.raises(
        ValueError, match=r"where: no label and no column 'rue' in the table or the store; similar: ruwe"
    ):
        joined(tmp_path, frame, ["logg"], where={"rue": [0, 1]})
    with pytest.raises(SettingsError, match=r"where.*FeH: the range \[1, 0\] is empty; give \[low, high\]"):
        Join.from_dict("join", {"where": {"FeH": [1, 0]}})


def test_rows_whose_file_is_of_another_visit_than_their_plan_are_refused(tmp_path: Path) -> None:
    rows = [
        ROWS["file"](row)
        | ROWS["visit by plan"](row)
        | {"file": row["path"], "obsid": row["obsid"], "logg": 1.0}
        for row in VISITS
    ]
    rows[3]["file"] = VISITS[4]["path"]
    found = joined(tmp_path, pd.DataFrame(rows), ["logg"])
    assert found.extra["obsid"].to_pylist() == [1000, 1001, 1002, *range(1004, 1010)]
    assert found.counts.refused["plan"] == 1


def test_of_a_published_catalogue_only_the_last_rows_with_wrong_files_are_refused(
    shared: Path, tmp_path: Path
) -> None:
    path = shared / "labels" / "lamost_dr1_plan_catalog.csv"
    frame = pd.read_csv(path)
    rows = [
        visit(number, obsid=obsid, path=name)
        for number, (obsid, name) in enumerate(zip(frame["obsid"], frame["filename"], strict=True))
    ]
    found = join(Join(table=str(path)), store(tmp_path, rows, 500), ["Teff", "logg", "FeH"])
    assert (found.counts.rows, found.counts.refused["plan"], len(found)) == (2125, 156, 1969)
    assert found.label_NL == pytest.approx(frame[["teff", "logg", "feh"]].to_numpy()[:1969])
    assert found.error_NL == pytest.approx(frame[["teff_err", "logg_err", "feh_err"]].to_numpy()[:1969])


def test_labels_are_read_from_a_table_that_also_holds_spectra(shared: Path, tmp_path: Path) -> None:
    path = shared / "physics" / "wide.parquet"
    truth = pq.read_table(path, columns=["obsid", "FeH", "CFe", "CH", "f_CEMP"]).to_pandas()
    rows = [visit(number, obsid=obsid) for number, obsid in enumerate(truth["obsid"])]
    found = join(Join(table=str(path)), store(tmp_path, rows, 500), ["FeH", "CFe", "CH"])
    assert (found.label_NL == truth[["FeH", "CFe", "CH"]].to_numpy()).all()
    assert (found.class_N == truth["f_CEMP"]).all()
    assert found.counts.classes_from == "column f_CEMP"
    assert found.counts.per_class == {"MP": 450, "CEMP": 450, "NMP": 450, "no class": 0}
    derived = join(Join(table=str(path), classes="none"), store(tmp_path, rows, 500), ["FeH", "CFe", "CH"])
    assert (labels.classes(derived.label_NL[:, 0], derived.label_NL[:, 1]) == found.class_N).all()


def test_the_user_may_name_the_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "ID": ["1001.fits", "1003.fits"],
            "feh_x": [-1.0, -2.0],
            "s": [0.1, 0.2],
            "group": ["g", "g"],
            "t": ["train", None],
        }
    )
    columns = {"obsid": "ID", "fe_h": "feh_x", "e_FeH": "s"}
    found = joined(tmp_path, frame, ["FeH"], columns=columns, star="group", part_column="t")
    assert found.extra["obsid"].to_pylist() == [1001, 1003]
    assert found.error_NL[:, 0].tolist() == [0.1, 0.2]
    assert found.star_N.tolist() == ["g", "g"]
    assert found.user_part_N.tolist() == ["train", None]


def test_an_error_about_a_missing_column_lists_similar_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"obsid": [1000], "fehin": [-1.0], "gaia": [5]})
    wrong: list[tuple[dict[str, Any], list[str], str]] = [
        (
            {},
            ["FeH"],
            r"labels: .*labels\.csv: there is no column for FeH; similar: fehin; "
            r"the columns are obsid, fehin, gaia; give join\.columns=\{FeH: ",
        ),
        ({"columns": {"FeH": "feh"}}, ["FeH"], r"there is no column 'feh' \(for FeH\); similar: fehin"),
        (
            {"columns": {"FeH": "fehin"}, "star": "gaya"},
            ["FeH"],
            r"no column 'gaya' of stars; similar: gaia.*give join\.star=",
        ),
        (
            {"columns": {"FeH": "fehin"}, "classes": "kind"},
            ["FeH"],
            r"no column 'kind' of classes.*give join\.classes=",
        ),
        (
            {"columns": {"FeH": "fehin"}, "key": "file"},
            ["FeH"],
            r"there is no column for join\.key=file.*another key: obsid",
        ),
        (
            {"columns": {"FeH": "fehin"}, "part_column": "set"},
            ["FeH"],
            r"split: .*no column 'set' of parts.*give split\.column=",
        ),
        ({"columns": {"wrong": "fehin"}}, ["FeH"], "join: columns: .*there is no label 'wrong'"),
    ]
    for settings_, wanted, message in wrong:
        with pytest.raises(ValueError, match=message):
            joined(tmp_path, frame, wanted, **settings_)


def test_iron_on_another_scale_is_not_taken_for_a_label(tmp_path: Path) -> None:
    """A column Fe holds log eps(Fe); some of its values lie inside the range of [Fe/H]."""
    with pytest.raises(ValueError, match="there is no column for FeH"):
        joined(tmp_path, pd.DataFrame({"obsid": [1000], "Fe": [0.5]}), ["FeH"])


def test_no_match_is_an_error_with_examples_of_both_sides(tmp_path: Path) -> None:
    frame = pd.DataFrame({"obsid": [7, 8], "ra": [200.0, 201.0], "dec": [1.0, 2.0], "FeH": [-1.0, -2.0]})
    with pytest.raises(
        ValueError,
        match=r"none of 2 rows matches any of 10 spectra of .*; "
        r"obsid: 7, 8 in the table, 1000, 1001, 1002 in the store",
    ) as error:
        joined(tmp_path, frame, ["FeH"])
    assert "none of 2 rows matches any of 10 spectra of" in str(error.value)
    assert "position: (200.0 1.0)" in str(error.value)
    assert "give join.key= and join.columns=" in str(error.value)
    with pytest.raises(ValueError, match=r"left out before: 2 FeH -9 to -8"):
        joined(tmp_path, frame.assign(obsid=[1000, 1001]), ["FeH"], where={"FeH": [-9, -8]})
    with pytest.raises(ValueError, match="the store has no spectra"):
        joined(tmp_path, frame, ["FeH"], [])


def test_rows_that_match_and_have_no_readable_label_are_said_with_a_cell(tmp_path: Path) -> None:
    frame = pd.DataFrame({"obsid": [1000, 1001, 1], "FeH": ["-1,5", "-2,25", "0,1"], "logg": ["2,5"] * 3})
    with pytest.raises(
        ValueError,
        match=r"none of 3 rows can be used: 2 match spectra of .* by obsid, but left out before: 3 no label; "
        r"a cell of FeH is '-1,5', a decimal comma in column FeH: write -1.5 \(and others of logg\)",
    ):
        joined(tmp_path, frame, ["FeH", "logg"])
    own = frame.rename(columns={"FeH": "iron", "logg": "gravity"})
    with pytest.raises(
        ValueError,
        match=r"no column is that of a wanted label .*obsid, iron, gravity; give join.columns=\{FeH",
    ):
        joined(tmp_path, own, [])


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([5.772, 4.5], "5.772 in column Teff; Teff is 2500 to 60000 K: is it in 1000 K? Give K"),
        ([3.7614, 3.65], "3.7614 in column Teff; .*: is it the logarithm, or in 1000 K? Give K"),
        (["hot", "cool"], "'hot' in column Teff, which is no number"),
    ],
)
def test_a_temperature_in_another_unit_is_said_with_its_range(
    tmp_path: Path, cells: list[Any], text: str
) -> None:
    found = joined(
        tmp_path, pd.DataFrame({"obsid": [1000, 1001], "Teff": cells, "logg": 2.0}), ["Teff", "logg"]
    )
    message = rf"none of 2 spectra has a value for Teff \(2 cells out of its range, such as {text}"
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        check_task(found, "reg")
    assert re.search(text.replace("?", r"\?"), found.counts.text())


def test_linear_abundances_are_refused_where_the_identity_shows_them_and_else_asked_about(
    tmp_path: Path,
) -> None:
    feh = np.linspace(-2.5, -0.1, 10)
    frame = pd.DataFrame({"obsid": range(1000, 1010), "FeH": 10**feh, "CH": feh + 0.2, "CFe": 0.2})
    with pytest.raises(
        ValueError,
        match=r"column FeH: all 10 values of FeH are above 0 \(0.00316 to 0.794\) and 10 of 10 rows",
    ):
        joined(tmp_path, frame, ["FeH"])
    rich = frame.assign(FeH=np.linspace(0.01, 0.4, 10), CH=np.linspace(0.21, 0.6, 10))
    assert len(joined(tmp_path, rich, ["FeH"])) == 10  # metal-rich stars: the identity holds
    assert "all values of FeH are above 0" in joined(tmp_path, frame[["obsid", "FeH"]], ["FeH"]).counts.text()


def test_positions_that_match_with_ra_and_dec_swapped_are_said(tmp_path: Path) -> None:
    rows = [visit(number, ra=10.0 + number, dec=40.0 + number) for number in range(10)]
    frame = pd.DataFrame(
        {"ra": [row["dec"] for row in rows], "dec": [row["ra"] for row in rows], "FeH": -1.0}
    )
    message = r"10 rows match with ra and dec swapped: give join.columns=\{ra: dec, dec: ra\}"
    with pytest.raises(ValueError, match=message):
        joined(tmp_path, frame, ["FeH"], rows)
    assert len(joined(tmp_path, frame, ["FeH"], rows, columns={"ra": "dec", "dec": "ra"})) == 10


def test_spectra_without_the_best_key_are_matched_by_the_next_one(tmp_path: Path) -> None:
    """Rows of spectra that have an obsid are not taken for another spectrum."""
    rows = [visit(number, obsid=None if number < 3 else 1000 + number, star=None) for number in range(10)]
    rows.append(visit(3, obsid=None, visit="x", path="/data/x.fits", star=None))  # again the star of 1003
    frame = pd.DataFrame(
        [
            {"obsid": row["obsid"] or 7 + n, "ra": row["ra"], "dec": row["dec"]}
            for n, row in enumerate(rows[:10])
        ]
    )
    found = joined(tmp_path, frame.assign(FeH=-np.arange(10) / 4), ["FeH"], rows)
    assert found.label_NL[:, 0].tolist() == [-number / 4 for number in range(10)]
    assert found.counts.text().splitlines()[2].endswith("by obsid, 3 without obsid by position")
    assert "1 without labels, 1 of them without obsid" in found.counts.text()
    assert_all_are_counted(found.counts)
    named = joined(tmp_path, frame.assign(FeH=-1.0), ["FeH"], rows, key="obsid")
    assert len(named) == 7
    assert (
        "4 without labels, 4 of them without obsid (join.key=auto matches them by position)"
        in named.counts.text()
    )


def images(*paths: str) -> list[dict[str, Any]]:
    """Rows of a store of images, which have neither ids nor positions."""
    nothing = dict.fromkeys(("star", "obsid", "ra", "dec"))
    return [visit(0, path=path, visit=path.split("/")[-1].split(".")[0], **nothing) for path in paths]


@pytest.mark.parametrize("column", ["image", "visit"])
def test_files_of_one_name_in_several_folders_get_the_labels_of_their_own_rows(
    tmp_path: Path, column: str
) -> None:
    """Without a row of its own, an elliptical galaxy got the class of the spiral one of the same name."""
    rows = images(
        "/d/spiral/0001.jpg", "/d/elliptical/0001.jpg", "/d/elliptical/0002.jpg", "/d/ring/0001.jpg"
    )
    cases: dict[str, list[int]] = {"spiral/0001.jpg": [0], "./elliptical/0001": [1], "/d/ring/0001.JPG": [3]}
    cases |= {"d\\ring\\0001.jpg": [3], "other/0002.jpg": [2], "../d/spiral/0001.jpg.gz": [0]}
    cases |= {"/home/me/d/spiral/0001.jpg": [0], "/e/ring/0001.jpg": [3]}
    frame = pd.DataFrame({column: list(cases), "FeH": -np.arange(len(cases)) / 4})
    for number, (path, expected) in enumerate(cases.items()):
        found = joined(tmp_path / str(number), frame[frame[column] == path], ["FeH"], rows)
        assert (4 * found.shard_N + found.row_in_shard_N).tolist() == expected, path
        assert found.label_NL[:, 0].tolist() == [-number / 4]
        assert_all_are_counted(found.counts)


@pytest.mark.parametrize("column", ["image", "visit"])
@pytest.mark.parametrize("path", ["0001.jpg", "/d/0001.jpg", "/e/irregular/0001.jpg"])
def test_a_row_that_names_one_of_several_files_unclearly_is_refused_and_counted(
    tmp_path: Path, path: str, column: str
) -> None:
    rows = images("/d/spiral/0001.jpg", "/d/elliptical/0001.jpg", "/d/elliptical/0002.jpg")
    frame = pd.DataFrame({column: ["0002.jpg", path], "FeH": [-1.0, -2.0]})
    found = joined(tmp_path, frame, ["FeH"], rows)
    assert found.row_in_shard_N.tolist() == [2]
    assert found.counts.refused["same name"] == 1
    assert found.counts.refused["no key"] == 0
    assert "1 refused: several files of the store have the name of its file" in found.counts.text()
    assert_all_are_counted(found.counts)
    with pytest.raises(ValueError, match="several files of the store have the name of 1 rows"):
        joined(tmp_path, frame[1:], ["FeH"], rows)


def test_of_paths_that_could_mean_one_file_the_one_that_agrees_longest_is_right(tmp_path: Path) -> None:
    """The store has the training part only; both parts have a spiral galaxy of this name."""
    rows = images("/d/train/spiral/0001.jpg", "/d/train/ring/0001.jpg", "/d/train/ring/0002.jpg")
    for root in ("", "/d/", "/home/me/gz/"):
        paths = [f"{root}val/spiral/0001.jpg", f"{root}train/spiral/0001.jpg"]
        frame = pd.DataFrame({"image": paths, "FeH": [-1.0, -2.0]})
        found = joined(tmp_path, frame, ["FeH"], rows)
        assert found.label_NL[:, 0].tolist() == [-2.0]
        assert found.counts.refused["same name"] == 1
    frame = pd.DataFrame({"image": ["a/spiral/0001.jpg", "b/spiral/0001.jpg", "0002.jpg"], "FeH": -1.0})
    found = joined(tmp_path, frame, ["FeH"], rows)
    assert found.row_in_shard_N.tolist() == [2]
    assert found.counts.refused["same name"] == 2
    frame = pd.DataFrame({"image": ["/e/a/spiral/0001.jpg", "a/spiral/0001.jpg"], "FeH": -1.0})
    assert joined(tmp_path, frame, ["FeH"], rows).row_in_shard_N.tolist() == [0]


@pytest.mark.parametrize("reason", ["no label", "where", "plan"])
def test_a_refused_row_is_not_matched_again_by_the_next_key(tmp_path: Path, reason: str) -> None:
    """Spectra 0 and 5 lack the best key; the row of spectrum 0 is refused, and that of 5 is matched."""
    rows = [visit(number, obsid=1000 + number if number % 5 else None) for number in range(6)]
    frame = pd.DataFrame({"obsid": range(1000, 1006), "star": [row["star"] for row in rows], "FeH": -1.0})
    named = pd.DataFrame([ROWS["visit by plan"](row) | {"file": row["path"]} for row in rows])
    rows = [row | {"path": f"/data/{row['star']}.fits", "visit": row["star"]} for row in rows]
    given: dict[str, Any] = {}
    if reason == "no label":
        frame.loc[0, "FeH"] = np.nan
    elif reason == "where":
        frame.loc[0, "FeH"] = 0.5
        given["where"] = {"FeH": [-4, 0]}
    else:
        frame = pd.concat([frame, named], axis=1)
        frame.loc[0, "file"] = visit(8)["path"]
    found = joined(tmp_path, frame, ["FeH"], rows, **given)
    assert found.counts.key == "obsid"
    assert found.row_in_shard_N.tolist() == [1, 2, 3, 0, 1]
    assert sum(found.counts.refused.values()) + sum(found.counts.left_out_rows.values()) == 1
    assert (found.counts.used, found.counts.unmatched) == (5, 1)
    assert_all_are_counted(found.counts)


def test_labels_that_cannot_train_a_task_are_an_error(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"obsid": [1000, 1001, 1002], "FeH": [-2.0, -0.5, -2.0], "CFe": [0.1, 0.1, 0.2], "Teff": -9999}
    )
    found = joined(tmp_path, frame, ["FeH", "Teff"])
    with pytest.raises(
        ValueError,
        match=r"no spectrum of class CEMP "
        r"\(from FeH and CFe by carbon_0\.7: MP 2 \(2 stars\), NMP 1 \(1 star\)\); add such stars",
    ):
        check_task(found, "cls")
    with pytest.raises(
        ValueError,
        match=r"none of 3 spectra has a value for Teff \(3 cells out of its range\); check join\.columns",
    ):
        check_task(found, "reg")
    check_task(joined(tmp_path, frame, ["FeH"]), "reg")
    check_task(joined(tmp_path, frame.assign(CFe=[0.1, 0.1, 0.9]), []), "cls")


def test_the_counts_are_written_as_aligned_lines(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"obsid": [1000, 1001, 1001, 7], "FeH": [-2.0, -0.5, -0.5, -1.0], "CFe": [0.9, 0.1, 0.1, 0.2]}
    )
    lines = joined(tmp_path, frame, ["FeH"]).counts.text().splitlines()
    assert lines[0].endswith("labels.csv: 4 rows")
    assert lines[2:] == [
        "matched  2 spectra of 2 stars, by obsid",
        "rows     2 used; 1 duplicates; 1 without a spectrum in the store",
        "spectra  8 without labels",
        "classes  CEMP 1 (1 star), NMP 1 (1 star) (from FeH and CFe by carbon_0.7)",
        "labels   FeH: 2 spectra",
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_join_equals_that_of_a_plain_loop(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "obsid": random.integers(995, 1012, 15),
            "FeH": random.choice([-1.0, -2.0, -9999.0], 15, p=[0.6, 0.2, 0.2]),
            "logg": 2.0,
        }
    )
    frame.loc[random.random(15) < 0.3, "logg"] = np.nan
    try:
        found = joined(tmp_path, frame, ["FeH", "logg"])
    except ValueError as error:
        assert "none of 15 rows" in str(error)  # noqa: PT017 - rare: every row contradicts another
        return
    expected = {}
    known = frame.replace(-9999.0, np.nan)
    for obsid in range(1000, 1010):
        rows = known[known["obsid"] == obsid]
        has_label = rows[["FeH", "logg"]].notna().to_numpy().any()
        if has_label and rows["FeH"].nunique() <= 1:
            expected[obsid] = [rows["FeH"].max(), rows["logg"].max()]
    assert found.extra["obsid"].to_pylist() == sorted(expected)
    assert found.label_NL == pytest.approx(
        np.array([expected[obsid] for obsid in sorted(expected)]), nan_ok=True
    )
    assert_all_are_counted(found.counts)
