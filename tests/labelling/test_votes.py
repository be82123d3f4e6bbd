"""Vote fractions of Galaxy Zoo become classes by the published cuts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey.labelling.vote_settings import VoteCuts
from survey.labelling.votes import classes_of_votes, vote_columns
from survey.settings import SettingsError
from survey.tables.read import open_table

SMOOTH, FEATURED = "smooth-or-featured_smooth", "smooth-or-featured_featured-or-disk"
GALAXIES = {
    "merger": {"merging_merger": 0.61},
    "round": {SMOOTH: 0.71, "how-rounded_round": 0.81},
    "in between": {SMOOTH: 0.71, "how-rounded_in-between": 0.86},
    "cigar-shaped": {SMOOTH: 0.51, "how-rounded_cigar-shaped": 0.61},
    "edge-on": {FEATURED: 0.51, "disk-edge-on_yes": 0.71},
    "no bar": {FEATURED: 0.51, "disk-edge-on_no": 0.51, "bar_no": 0.81},
    "weak bar": {FEATURED: 0.51, "disk-edge-on_no": 0.51, "bar_weak": 0.51},
    "strong bar": {FEATURED: 0.51, "disk-edge-on_no": 0.51, "bar_strong": 0.51},
}
"""Fractions a little above each published cut; all others are 0.1."""
ANSWERS = (
    *(name for fractions in GALAXIES.values() for name in fractions),
    "merging_none",
    "has-spiral-arms_yes",
    "has-spiral-arms_no",
    "spiral-winding_tight",
    "spiral-winding_loose",
)


def classes(
    folder: Path, galaxies: list[dict[str, float]], ending: str = "_fraction", **cuts: object
) -> dict[str, list[str | None]]:
    columns = {
        name + ending: [galaxy.get(name, 0.1) for galaxy in galaxies] for name in dict.fromkeys(ANSWERS)
    }
    pq.write_table(pa.table(columns), folder / "votes.parquet")
    table = open_table(str(folder / "votes.parquet"))
    found = vote_columns(table)
    decided = classes_of_votes(table.read(list(found.values())), found, VoteCuts.from_dict("", dict(cuts)))
    return {name: column.to_pylist() for name, column in decided.items()}


@pytest.mark.parametrize("ending", ["_fraction", "_debiased", ""])
def test_a_galaxy_above_the_published_cuts_has_the_class(tmp_path: Path, ending: str) -> None:
    assert classes(tmp_path, list(GALAXIES.values()), ending)["morphology"] == list(GALAXIES)


def test_a_galaxy_at_a_cut_has_no_class(tmp_path: Path) -> None:
    """Each fraction in turn is lowered to its cut."""
    lowered = [
        fractions | {name: fractions[name] - 0.01} for fractions in GALAXIES.values() for name in fractions
    ]
    assert "morphology" not in classes(tmp_path, lowered)


def test_a_cut_is_a_setting(tmp_path: Path) -> None:
    galaxies = [{SMOOTH: 0.6, "how-rounded_round": 0.81}]
    assert "morphology" not in classes(tmp_path, galaxies)
    assert classes(tmp_path, galaxies, round=[0.5, 0.8])["morphology"] == ["round"]
    with pytest.raises(SettingsError, match="round"):
        VoteCuts.from_dict("", {"round": [0.5]})


def test_a_merger_that_is_round_too_is_a_merger(tmp_path: Path) -> None:
    assert classes(tmp_path, [GALAXIES["round"] | GALAXIES["merger"]])["morphology"] == ["merger"]


def test_a_question_has_an_answer_where_it_was_reached(tmp_path: Path) -> None:
    disk = {FEATURED: 0.9, "disk-edge-on_no": 0.9}
    found = classes(
        tmp_path,
        [
            disk
            | {"bar_strong": 0.35, "bar_weak": 0.35, "has-spiral-arms_yes": 0.9, "spiral-winding_tight": 0.7},
            disk | {"bar_no": 0.7, "has-spiral-arms_no": 0.7, "spiral-winding_tight": 0.7},
            {SMOOTH: 0.9, "bar_no": 0.9, "how-rounded_round": 0.65, "merging_none": 0.9},
        ],
    )
    assert found["bar"] == ["yes", "no", None]
    assert found["arms"] == ["yes", "no", None]
    assert found["winding"] == ["tight", None, None]
    assert found["round"] == [None, None, "round"]
    assert found["merger"] == [None, None, "no"]
    assert "bulge" not in found  # the table has no such columns


def test_of_two_answers_above_a_low_cut_the_larger_counts(tmp_path: Path) -> None:
    galaxies = [
        {"merging_merger": 0.45, "merging_none": 0.42},
        {"merging_merger": 0.42, "merging_none": 0.45},
        {"merging_merger": 0.45, "merging_none": 0.45},
        {"merging_merger": 0.45, "merging_none": float("nan")},
    ]
    assert classes(tmp_path, galaxies, answer=0.4)["merger"] == ["yes", "no", None, "yes"]


def test_a_table_without_votes_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ra": [1.0], "smooth": [0.5]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no column of vote fractions, such as smooth-or-featured_smooth"):
        vote_columns(open_table(str(tmp_path / "x.parquet")))
