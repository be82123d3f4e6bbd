"""The rows of labels, their aliases, and the definitions of the classes."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from survey import labels


def test_every_alias_of_the_users_tables_finds_its_row() -> None:
    pairs = {
        "C_FE": "CFe",
        "MG_FE": "MgFe",
        "CA_FE": "CaFe",
        "SI_FE": "SiFe",
        "TI_FE": "TiFe",
        "FE": "FeH",
        "feh": "FeH",
        "teff": "Teff",
        "ch": "CH",
    }
    assert {alias: labels.label(alias).name for alias in pairs} == pairs


def test_an_unknown_label_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no label 'XX_FE'; give one of Teff, logg, FeH"):
        labels.label("XX_FE")


def test_names_are_unique_and_ranges_make_sense() -> None:
    names = [name for row in labels.LABELS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    assert all(row.low < row.high and row.unit and row.description for row in labels.LABELS)


def test_letter_case_decides_only_between_sulphur_and_s_process() -> None:
    assert labels.label("SFe").name == "SFe"
    assert labels.label("sFe").name == "sFe"
    with pytest.raises(ValueError, match="'SFE' may be the label SFe or sFe"):
        labels.label("SFE")


def test_values_outside_the_range_and_no_numbers_are_missing() -> None:
    found = labels.values(labels.label("FeH"), np.array(["-2.5", "*", None, -9999, 999, "nan", 0.1], object))
    np.testing.assert_array_equal(found, [-2.5, np.nan, np.nan, np.nan, np.nan, np.nan, 0.1])


def test_the_limit_itself_is_not_metal_poor_but_carbon_enhanced() -> None:
    assert labels.metal_poor([-1.0, -1.001, np.nan]).tolist() == [False, True, False]
    assert labels.metal_poor([-2.5, -3.5], "VMP").tolist() == [True, True]
    assert labels.metal_poor([-2.5, -3.5], "EMP").tolist() == [False, True]
    assert labels.carbon_enhanced([0.7, 0.699, np.nan]).tolist() == [True, False, False]
    assert labels.carbon_enhanced([0.7, 1.0], "carbon_1.0").tolist() == [False, True]


def test_aoki_2007_lowers_the_limit_for_luminous_giants() -> None:
    sun, giant = (5772.0, 4.438), (4300.0, 0.8)
    assert labels.luminosity(*sun, mass=1.0) == pytest.approx(0.0, abs=1e-9)
    log_luminosity = float(labels.luminosity(*giant))
    assert log_luminosity > 2.3
    cfe = [3.0 - log_luminosity + 0.01, 3.0 - log_luminosity - 0.01]
    assert labels.carbon_enhanced(cfe, "aoki2007", [giant[0]] * 2, [giant[1]] * 2).tolist() == [True, False]
    assert labels.carbon_enhanced([0.69, 0.71], "aoki2007", [sun[0]] * 2, [sun[1]] * 2).tolist() == [
        False,
        True,
    ]
    with pytest.raises(ValueError, match="aoki2007 needs Teff and logg"):
        labels.carbon_enhanced([1.0], "aoki2007")
    with pytest.raises(ValueError, match=r"no carbon criterion 'x'; there are carbon_0\.7"):
        labels.carbon_enhanced([1.0], "x")  # type: ignore[arg-type]


def test_classes_are_missing_where_the_labels_do_not_decide() -> None:
    assert labels.classes([-2, -2, 0, np.nan, -2, 0], [0, 1, 1, 1, np.nan, np.nan]).tolist() == [
        0,
        1,
        2,
        -1,
        -1,
        2,
    ]


def test_classes_of_the_computed_set_are_those_in_its_table(shared: Path) -> None:
    table = pd.read_parquet(
        shared / "physics" / "reference.parquet", columns=["FeH", "CFe", "f_CEMP", "class"]
    )
    found = labels.classes(table["FeH"], table["CFe"])
    assert (found == table["f_CEMP"]).mean() > 0.999
    assert (np.array(labels.CLASSES)[found] == table["class"]).mean() > 0.999


def test_carbon_enhanced_stars_of_placco_2014_are_carbon_enhanced_here(shared: Path) -> None:
    table = pd.read_csv(shared / "labels" / "placco2014_cemp.csv")
    final = table.filter(like="[C/Fe]f").columns[0]
    enhanced = labels.carbon_enhanced(labels.values(labels.label("CFe"), table[final]))
    assert enhanced.sum() == 129


def test_a_metal_poor_star_without_a_luminosity_has_no_class_by_luminosity() -> None:
    nan = float("nan")
    found = labels.classes(
        [-2, -2, -2, 0], [1, 1, 1, 1], "aoki2007", [5000, nan, 5000, nan], [2, 2, nan, nan]
    )
    assert found.tolist() == [1, labels.MISSING, labels.MISSING, 2]


def test_any_two_carbon_labels_give_the_third() -> None:
    values = {"CFe": np.array([0.5]), "CH": np.array([-1.5]), "FeH": np.array([-2.0])}
    for name in labels.CARBON_LABELS:
        others = {other: value for other, value in values.items() if other != name}
        np.testing.assert_array_equal(labels.carbon_label(name, others), values[name])
    assert labels.carbon_residual(values["CFe"], values["CH"], values["FeH"]) == 0
    with pytest.raises(ValueError, match="labels: Teff is not one of CFe, CH, FeH"):
        labels.carbon_label("Teff", values)


def test_carbon_to_iron_prefers_its_own_values() -> None:
    own, ch, feh = np.array([0.5]), np.array([-1.0]), np.array([-2.0])
    assert labels.carbon_to_iron({"CFe": own, "CH": ch, "FeH": feh}) is own
    assert labels.carbon_to_iron({"CH": ch, "FeH": feh}) == np.array([1.0])
    assert labels.carbon_to_iron({"CH": ch}) is None


def test_every_criterion_has_a_function_its_labels_and_a_text() -> None:
    names = list(get_args(labels.Criterion))
    assert list(labels.CRITERIA) == list(labels.CRITERION_LABELS) == list(labels.CRITERION_TEXT) == names
    known = {row.name for row in labels.LABELS}
    assert all(set(needed) <= known for needed in labels.CRITERION_LABELS.values())
