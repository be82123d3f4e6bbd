"""Rows of a catalogue find their stars of a survey: by id, by position, or not at all, with a reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.label_tables.match_stars import group_stars, match_rows
from survey.label_tables.settings import StarMatch, SurveyColumns
from survey.label_tables.survey_stars import SurveyStars, open_survey
from tests.label_tables.catalogues_by_hand import read, write_csv

ARCSEC = 1 / 3600


def survey_of(folder: Path, names: str, rows: Sequence[Sequence[Any]], **settings: Any) -> SurveyStars:
    return open_survey(write_csv(folder / "survey.csv", names, rows), SurveyColumns(**settings))


def match(
    folder: Path, names: str, rows: Sequence[Sequence[Any]], survey: SurveyStars, **settings: Any
) -> Any:
    """The star names and the reasons of the rows of a catalogue."""
    how = settings.pop("how", StarMatch())
    found = read(write_csv(folder / "labels.csv", names, rows), **settings)
    matches = match_rows(found, survey, how)
    stars = [str(survey.name_S[star]) if star >= 0 else "" for star in matches.star_R.tolist()]
    return stars, found.reason_R.tolist(), matches


def test_a_row_is_matched_by_visit_then_by_star_then_by_position(tmp_path: Path) -> None:
    survey = survey_of(
        tmp_path,
        "obsid gaia_source_id ra dec",
        [(101, 7, 10, 20), (102, 8, 11, 20), (103, 9, 12, 20), (104, 7, 10, 20)],
    )
    rows = [
        (104, "", "", "", -1),
        ("", 8, 11, 20, -1),
        ("", "", 12, 20 + ARCSEC, -1),
        ("", 5, 12, 20, -1),
        ("", "", 90, 20, -1),
    ]
    ids = {"obsid": "obsid", "gaia_dr3": "gaia"}
    stars, reasons, matches = match(tmp_path, "obsid gaia ra dec feh", rows, survey, ids=ids)
    assert stars[:3] == ["7", "8", "9"]
    assert matches.by_R.tolist()[:3] == ["obsid", "gaia_dr3", "position"]
    assert matches.arcsec_R[2] == pytest.approx(1.0, abs=1e-3)
    # the row with an id nearer to star 9 is that star; the row without an id is kept, too
    assert stars[3] == "9"
    assert reasons[4] == "no such star in the survey"


def test_an_id_whose_position_is_elsewhere_is_refused(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "obsid ra dec", [(101, 10, 20), (102, 30, 20)])
    rows = [(101, 10, 20 + 5 * ARCSEC, -1), (102, 30, 20 + 50 * ARCSEC, -1)]
    stars, reasons, _ = match(tmp_path, "obsid ra dec feh", rows, survey, ids={"obsid": "obsid"})
    assert stars[0] != ""
    assert reasons == ["", "id and position disagree"]


def test_ids_of_other_kinds_are_never_compared(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "obsid gaia_source_id", [(7, 101), (8, 102)])
    _, reasons, _ = match(
        tmp_path, "tic feh", [(101, -1), (7, -1)], survey, position={}, ids={"gaia_dr2": "tic"}
    )  # fmt: skip
    assert set(reasons) == {"no such star in the survey"}


def test_the_nearest_of_two_stars_is_taken_only_if_it_is_clearly_nearer(tmp_path: Path) -> None:
    survey = survey_of(
        tmp_path,
        "gaia_source_id ra dec",
        [(1, 10, 0), (2, 10, 3 * ARCSEC), (3, 20, 0), (4, 20, 2 * ARCSEC), (5, 40, 0), (6, 40, 0)],
    )
    rows = [(10, 0.2 * ARCSEC, -1), (20, 1.2 * ARCSEC, -1), (40, 0, -1)]
    stars, reasons, _ = match(tmp_path, "ra dec feh", rows, survey)
    assert stars[0] == "1"
    assert reasons == ["", *["two stars of the survey are as near"] * 2]
    stars, reasons, matches = match(
        tmp_path, "ra dec feh", rows, survey, how=StarMatch(ambiguous="nearest")
    )  # fmt: skip
    assert (stars[1], reasons[1]) == ("4", "")
    assert matches.is_ambiguous_R.tolist() == [False, True, True]


def test_a_star_just_beyond_the_radius_makes_a_match_ambiguous(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "gaia_source_id ra dec", [(1, 10, 0), (2, 10, 6.1 * ARCSEC)])
    _, reasons, _ = match(tmp_path, "ra dec feh", [(10, 2.8 * ARCSEC, -1)], survey)
    assert reasons == ["two stars of the survey are as near"]  # 2.8 and 3.3 arcsec


TWO_ROWS = "two stars of the catalogue are as near to one of the survey"
NEARER_ROW = "another star of the catalogue is nearer"


def test_two_stars_of_a_catalogue_at_one_position_are_refused(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "obsid ra dec", [(1, 10, 0), (2, 20, 0)])
    rows = [("a", 10, 0, -1), ("b", 10, 0.1 * ARCSEC, -2), ("c", 20, 0, -1), ("d", 20, 2.5 * ARCSEC, -2)]
    _, reasons, _ = match(tmp_path, "name ra dec feh", rows, survey, ids={"name": "name"})
    assert reasons == [TWO_ROWS, TWO_ROWS, "", NEARER_ROW]


def test_a_neighbour_of_a_star_that_an_id_matches_is_another_star(tmp_path: Path) -> None:
    """The neighbour is refused at any distance, and however it is preferred; the match by id stays."""
    survey = survey_of(tmp_path, "obsid gaia_source_id ra dec", [(1, 77, 10, 20)])
    for apart in (0, 0.3, 2.5):
        rows = [(78, 10, 20 + apart * ARCSEC, -0.3), (77, 10, 20, -2), ("", 10, 20, -2)]
        for ambiguous in ("refuse", "nearest"):
            how = StarMatch(ambiguous=ambiguous)
            stars, reasons, _ = match(
                tmp_path, "gaia ra dec feh", rows, survey, ids={"gaia_dr3": "gaia"}, how=how
            )  # fmt: skip
            assert stars == ["", "77", "77"]
            assert reasons == [NEARER_ROW, "", ""]


def test_rows_of_one_star_of_a_catalogue_are_no_two_stars(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "obsid ra dec", [(1, 10, 0)])
    rows = [("a", 10, 0, -1), ("a", 10, ARCSEC, -1.1)]
    stars, reasons, _ = match(tmp_path, "name ra dec feh", rows, survey, ids={"name": "name"})
    assert reasons == ["", ""]
    assert stars[0] == stars[1] != ""


@pytest.mark.parametrize(
    ("kind", "names", "is_one"),
    [
        ("name", ("BD+44_493", "BD+44-493"), True),
        ("name", ("CS 22892-052", "cs22892-52"), False),
        ("designation", ("J004000.00+200000.0", "J004000.01+200000.1"), True),
        ("designation", ("J004000.00+200000.0", "J004500.00+200000.0"), False),
        ("gaia_dr3", ("3210987654321098765", "3210987654321098766"), False),
    ],
)
def test_spellings_and_near_designations_are_one_star_and_other_ids_are_two(
    kind: str, names: tuple[str, str], is_one: bool, tmp_path: Path
) -> None:
    survey = survey_of(tmp_path, "obsid ra dec", [(1, 10, 0)])
    rows = [(names[0], 10, 0, -3.8), (names[1], 10, 0.2 * ARCSEC, -3.7)]
    _, reasons, _ = match(tmp_path, "id ra dec feh", rows, survey, ids={kind: "id"})
    assert reasons == (["", ""] if is_one else [TWO_ROWS, TWO_ROWS])


def test_a_fast_star_is_found_where_it_was_in_the_year_of_the_survey(tmp_path: Path) -> None:
    """Ten arcsec in 16 years: beyond the radius, unless its motion is known."""
    survey = survey_of(tmp_path, "obsid ra dec", [(1, 10, 0), (2, 10, 10 * ARCSEC)], epoch=2000.0)
    rows = [(10, 10 * ARCSEC, 0, 625, -1)]
    sky = {"ra": "ra", "dec": "dec", "epoch": 2016.0}
    stars, _, _ = match(tmp_path, "ra dec pmra pmdec feh", rows, survey, position=sky)
    assert stars == ["position 010.0000+00.0028"]  # without its motion: the other star
    sky |= {"pmra": "pmra", "pmdec": "pmdec"}
    stars, _, matches = match(tmp_path, "ra dec pmra pmdec feh", rows, survey, position=sky)
    assert stars == ["position 010.0000+00.0000"]
    assert matches.arcsec_R[0] < 0.01


def test_the_motions_of_the_survey_serve_as_well(tmp_path: Path) -> None:
    survey = survey_of(
        tmp_path, "obsid ra dec pmra pmdec", [(1, 10, 10 * ARCSEC, 0, 625)], epoch=2016.0
    )  # fmt: skip
    sky = {"ra": "ra", "dec": "dec", "epoch": 2000.0}
    stars, _, _ = match(tmp_path, "ra dec feh", [(10, 0, -1)], survey, position=sky)
    assert stars != [""]


def test_positions_meet_at_0_hours_and_at_the_pole(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, "obsid ra dec", [(1, 359.9999, 0), (2, 10, 89.9999)])
    stars, _, _ = match(tmp_path, "ra dec feh", [(0.0001, 0, -1), (190, 89.9999, -1)], survey)
    assert stars[0] != ""
    assert stars[1] != ""


def test_swapped_positions_that_would_match_are_an_error(tmp_path: Path) -> None:
    places = [(10 + n, 20 + 0.5 * n) for n in range(30)]
    survey = survey_of(tmp_path, "obsid ra dec", [(n, *place) for n, place in enumerate(places)])
    rows = [(dec, ra, -1) for ra, dec in places]
    with pytest.raises(
        ValueError, match=r"1 rows match stars of .*survey.csv, but 30 do with ra and dec swapped"
    ):
        match(tmp_path, "ra dec feh", rows, survey)


@pytest.mark.parametrize("seed", range(3))
def test_positions_match_as_every_pair_compared_says(seed: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    ra, dec = draw.uniform(0, 0.05, 300), draw.uniform(-0.03, 0.03, 300)
    star_ra = np.append(ra[:200] + draw.normal(0, 2 * ARCSEC, 200), draw.uniform(0, 0.05, 50))
    star_dec = np.append(dec[:200] + draw.normal(0, 2 * ARCSEC, 200), draw.uniform(-0.03, 0.03, 50))
    survey = survey_of(
        tmp_path, "gaia_source_id ra dec", list(zip(range(1, 251), star_ra, star_dec, strict=True))
    )  # fmt: skip
    rows = [(x, y, -1) for x, y in zip(ra, dec, strict=True)]
    how = StarMatch(radius=3, margin=1)
    stars, reasons, _ = match(tmp_path, "ra dec feh", rows, survey, how=how)
    cos = np.cos(np.radians(dec))
    for row in range(300):
        apart = np.hypot((star_ra - ra[row]) * cos[row], star_dec - dec[row]) * 3600
        first, second = np.sort(apart)[:2]
        if first > 3:
            assert reasons[row] == "no such star in the survey"
        elif second < first + 1:
            assert reasons[row] == "two stars of the survey are as near"
        else:
            assert stars[row] == str(1 + int(apart.argmin()))


def test_catalogues_are_grouped_by_shared_ids_and_by_position(tmp_path: Path) -> None:
    one = read(
        write_csv(tmp_path / "one.csv", "gaia ra dec feh", [(5, 10, 0, -1), (6, 20, 0, -1)]),
        ids={"gaia_dr3": "gaia"},
    )
    rows = [(6, 80, 0, -1), ("", 10, ARCSEC, -1), ("", 50, 0, -1)]
    two = read(write_csv(tmp_path / "two.csv", "gaia ra dec feh", rows), ids={"gaia_dr3": "gaia"})
    first, second = group_stars([one, two], 3.0)
    assert first[0] == second[1]
    assert first[1] == second[0]
    assert len({*first.tolist(), *second.tolist()}) == 3


@pytest.mark.parametrize("epoch", [2000.0, None])
def test_a_fast_star_is_one_star_where_only_one_catalogue_knows_its_motion(
    epoch: float | None, tmp_path: Path
) -> None:
    """0.3 arcsec per year: in 2016 it is 4.8 arcsec from where both catalogues have it."""
    motion = {"ra": "ra", "dec": "dec", "epoch": 2000.0, "pmra": "pmra", "pmdec": "pmdec"}
    fast = read(
        write_csv(tmp_path / "fast.csv", "ra dec pmra pmdec feh", [(10, 20, 300, 0, -2.5)]), position=motion
    )
    rows = [(10, 20, -2.4), (10 + 4.8 * ARCSEC / np.cos(np.radians(20)), 20, -1)]
    sky = {"ra": "ra", "dec": "dec", "epoch": epoch}
    slow = read(write_csv(tmp_path / "slow.csv", "ra dec feh", rows[:1]), position=sky)
    first, second = group_stars([fast, slow], 3.0)
    assert first[0] == second[0]
    later = read(write_csv(tmp_path / "later.csv", "ra dec feh", rows[1:]), position=sky | {"epoch": 2016.0})
    assert group_stars([fast, later], 3.0)[1][0] == 0
