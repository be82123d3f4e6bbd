"""The picture of the two keys: which stars are marked."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.catalog.flag_settings import CatalogFlag
from survey.reports.key_plots import plot_keys
from tests.catalog.test_catalog import list_of, run, write_survey
from tests.catalog.test_catalog_odd import change
from tests.catalog.test_short_lists import metal_rich_by_lines, next_of


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog of stars with both keys, which sometimes contradict each other."""
    folder: Path = tmp_path_factory.mktemp("keys")
    write_survey(folder)
    change(folder, metal_rich_by_lines)
    return run(folder, exports=[], limits={"keys_dex": 0.0})


def test_candidates_and_stars_kept_out_are_marked(with_keys: CatalogResult, figures: list[Figure]) -> None:
    assert plot_keys(with_keys) is not None
    [axis] = figures[0].axes
    shown, doubtful, left_out = axis.get_lines()[:3]
    listed, next_best = list_of(with_keys, "MP"), next_of(with_keys, "MP")
    is_denied_N = np.array(["keys disagree" in reason for reason in next_best["not_listed"].to_pylist()])
    is_doubtful_N = (listed["flag_warn"].to_numpy() & CatalogFlag.KEYS_DISAGREE) != 0
    assert is_denied_N.any()
    places = [
        np.stack([table[name].to_numpy() for name in ("FeH", "FeH_lines")]) for table in (listed, next_best)
    ]
    expected = (np.concatenate([places[0], places[1][:, is_denied_N]], 1), places[0][:, is_doubtful_N])
    for line, places_2N in zip(
        (shown, doubtful, left_out), (*expected, places[1][:, is_denied_N]), strict=True
    ):
        assert np.asarray(line.get_data(), float) == pytest.approx(places_2N)


def test_there_is_no_picture_without_a_second_key(result: CatalogResult, figures: list[Figure]) -> None:
    assert plot_keys(result) is None
    assert not figures
