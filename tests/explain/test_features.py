"""The list of lines and bands, against a list of others and against what spectra show."""

import csv
from pathlib import Path

import numpy as np
import pytest

from survey.explain.blocks import Blocks, element_masks, groups
from survey.explain.chosen import LEAST, answered
from survey.explain.features import FEATURES, features_between
from survey.settings import SettingsError

WAVE = np.arange(3900.0, 8800.0)


def test_every_line_of_the_shared_list_lies_in_a_window_of_its_element(shared: Path) -> None:
    with (shared / "lines" / "stellar_features.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "line"]
    for row in rows:
        element, wave = row["species"].split()[0], float(row["vac_A"])
        windows = [feature for feature in FEATURES if feature.low <= wave <= feature.high]
        if element in {feature.element for feature in FEATURES} and row["name"] != "H epsilon":
            assert element in {feature.element for feature in windows}, row["name"]


def test_every_molecular_band_of_the_shared_list_overlaps_one_of_ours(shared: Path) -> None:
    with (shared / "lines" / "stellar_features.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "band" and row["vac_lo_A"]]
    carbon = [
        row for row in rows if row["species"] in ("CH", "C2", "CN") and 3850 < float(row["vac_lo_A"]) < 5700
    ]
    assert carbon
    for row in carbon:
        found = features_between(float(row["vac_lo_A"]), float(row["vac_hi_A"]))
        assert "C" in {feature.element for feature in found}, row["name"]


def test_the_feature_that_fills_most_of_a_block_comes_first() -> None:
    assert [feature.name for feature in features_between(4280, 4350)][:2] == ["CH G band", "H gamma"]
    assert features_between(5700, 5800) == []
    assert [feature.name for feature in features_between(5890, 5900)] == ["Na D"]


@pytest.mark.parametrize("count", [2, 7, 60, 2000])
def test_every_pixel_is_in_one_block(count: int) -> None:
    blocks = Blocks.cut(WAVE, count)
    assert np.all(np.sum(blocks.masks(), axis=0) == 1)
    assert len(blocks) <= count
    low_P, high_P = blocks.low_K[blocks.block_P], blocks.high_K[blocks.block_P]
    assert np.all((low_P - 1e-6 <= WAVE) & (high_P + 1e-6 >= WAVE))
    sums = blocks.sums(np.ones((1, 1, len(WAVE))))[0, 0]
    assert np.array_equal(sums, np.bincount(blocks.block_P))


def test_elements_outside_the_grid_are_left_out() -> None:
    assert set(element_masks(np.arange(4000.0, 4600.0))) == {"C", "Ca", "Sr", "H", "Fe", "Ba"}


def test_spectra_without_an_answer_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """One of them made every mean NaN, while the text still named the lines that matter."""
    value_BT = np.zeros((LEAST + 2, 3))
    value_BT[4, 1] = np.nan
    assert 4 not in answered(value_BT, "split=test")
    assert "1 of 10 spectra get no answer" in caplog.text
    value_BT[:3] = np.nan
    with pytest.raises(SettingsError, match=r"split=test: 4 of 10 spectra get no answer, .*; 8 with one are"):
        answered(value_BT, "split=test")


def test_small_groups_are_left_out() -> None:
    names = np.array(["MP"] * 20 + ["CEMP"] * 3, object)
    found = groups(names, np.linspace(10, 60, 23))
    assert list(found) == ["all", "MP", "S/N 0 to 20", "S/N 20 to 40", "S/N above 40"]
