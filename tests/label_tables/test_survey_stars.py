"""The stars of a survey's catalogue or a store: which visits are of one star, and which columns are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.label_tables.settings import SurveyColumns
from survey.label_tables.survey_stars import SurveyStars, open_survey
from survey.settings import SettingsError
from tests.label_tables.catalogues_by_hand import make, write_csv
from tests.labelling.small_stores import store, visit

ARCSEC = 1 / 3600


def survey_of(folder: Path, names: str, rows: list[tuple[Any, ...]], **settings: Any) -> SurveyStars:
    return open_survey(write_csv(folder / "survey.csv", names, rows), SurveyColumns(**settings))


def test_visits_of_one_id_or_within_3_arcsec_are_one_star(tmp_path: Path) -> None:
    rows = [
        (1, 77, 10.0, 20.0),
        (2, 77, 10.0001, 20.0),
        (3, 88, 10.0002, 20.0),  # another id of Gaia is another star, however near
        (4, "", 50.0, 20.0),
        (5, "", 50.0, 20.0 + 2 * ARCSEC),
        (6, "", 50.0, 20.1),
        (7, 99, 50.0, 20.1 + 0.3 * ARCSEC),
    ]
    survey = survey_of(tmp_path, "obsid gaia_source_id ra dec", rows)
    assert survey.stars == 4
    assert np.unique(survey.star_N, return_counts=True)[1].tolist() == [2, 1, 2, 2]
    assert survey.name_S[survey.star_N].tolist()[:3] == ["77", "77", "88"]
    assert survey.name_S[survey.star_N].tolist()[5:] == ["99", "99"]


def test_a_star_with_two_designations_is_one_star_with_its_best_visit(tmp_path: Path) -> None:
    """LAMOST makes designations from coordinates, which differ by 0.1 to 0.3 arcsec between visits."""
    rows = [
        (1, "J004000.00+200000.0", 10.0, 20.0, 30),
        (2, "J004000.01+200000.0", 10.00004, 20.0, 50),
    ]
    catalogue = write_csv(tmp_path / "survey.csv", "obsid designation ra dec snrg", rows)
    by_place: dict[str, Any] = {"file": write_csv(tmp_path / "place.csv", "ra dec feh", [(10.0, 20.0, -2.0)])}
    names = [(row[1], 10.0, 20.0, -2.0) for row in rows]
    by_name = {
        "file": write_csv(tmp_path / "name.csv", "lamost ra dec feh", names),
        "ids": {"designation": "lamost"},
    }
    for number, one in enumerate((by_place, by_name)):
        result = make(tmp_path / str(number), {"one": one}, to=catalogue)
        table = result.table("labels.parquet")
        assert table is not None
        assert table["obsid"].to_pylist() == [2]
        assert table["star"].to_pylist() == ["J004000.00+200000.0"]


@pytest.fixture
def visits(tmp_path: Path) -> str:
    """The path of a store: two visits of a star of two designations, and one of another star."""
    rows = [
        visit(1, gaia_source_id=77, star="J1", ra=10.0, dec=20.0, snr=5.0, snr_g=9.0),
        visit(2, gaia_source_id=77, star="J2", ra=10.0, dec=20 + 0.3 * ARCSEC, snr=9.0, snr_g=5.0),
        visit(3, gaia_source_id=88, star="J3", ra=50.0, dec=20.0),
    ]
    return store(tmp_path / "store", rows, size=2).path


def test_a_store_has_the_ids_and_columns_of_its_visits(visits: str, tmp_path: Path) -> None:
    for kind, settings in (("gaia_dr3", {}), ("gaia_dr2", {"ids": {"gaia_dr2": "gaia_source_id"}})):
        survey = open_survey(visits, SurveyColumns.from_dict("labels", settings))
        assert survey.ids[kind].to_pylist() == ["77", "77", "88"]
        assert survey.name_S[survey.star_N].tolist() == ["77", "77", "88"]
        assert survey.ids["obsid"].to_pylist() == ["1001", "1002", "1003"]
    assert "gaia_dr3" not in survey.ids
    assert survey.snr_N.tolist()[:2] == [9.0, 5.0]
    assert open_survey(visits, SurveyColumns(snr=("snr",))).snr_N.tolist()[:2] == [5.0, 9.0]


def test_a_visit_without_the_snr_of_lamost_has_another_one(tmp_path: Path) -> None:
    """Every store has the column snr_g; other surveys do not fill it."""
    sdss = {"survey": "sdss", "star": "J1", "ra": 10.0, "dec": 20.0, "snr_g": None}
    rows = [visit(1, **sdss, snr=9.0), visit(2, **sdss, snr=30.0), visit(3, ra=50.0, dec=20.0, snr_g=12.0)]
    path = store(tmp_path / "store", rows).path
    assert open_survey(path, SurveyColumns()).snr_N.tolist() == [9.0, 30.0, 12.0]
    labels = write_csv(tmp_path / "one.csv", "ra dec feh", [(10.0, 20.0, -2.0), (50.0, 20.0, -1.0)])
    table = make(tmp_path, {"one": {"file": labels}}, to=path, snr=10.0).table("labels.parquet")
    assert table is not None
    assert table["obsid"].to_pylist() == [1002, 1003]
    with pytest.raises(ValueError, match=r"snr=99: no visit of .*store has so much \(0 of 3 have no S/N\)"):
        make(tmp_path / "b", {"one": {"file": labels}}, to=path, snr=99.0)
    with pytest.raises(
        SettingsError, match=r"snr: 10: only visits have a S/N, and without to= there are none"
    ):
        make(tmp_path / "c", {"one": {"file": labels}}, snr=10.0)


def test_a_column_of_the_user_that_is_not_there_is_an_error(visits: str, tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "survey.csv", "obsid ra dec snr", [(1, 10, 20, 5)])
    for path in (visits, csv):
        for settings in ({"snr": ("snr_h",)}, {"ids": {"gaia_dr2": ("gaia2",)}}, {"pmra": ("pm_e",)}):
            with pytest.raises(ValueError, match=r"labels: survey\.\S+: .*: there is no column \w+; .*obsid"):
                open_survey(path, SurveyColumns(**settings))


def test_a_survey_without_ids_and_positions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no column of an id .* or a position; the columns are a, b; give"):
        survey_of(tmp_path, "a b", [(1, 2)])
