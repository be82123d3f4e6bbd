"""The reference set: so many stars of each class, chosen by their names; weak labels; pairs of visits."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.arguments import load
from survey.label_tables.select_stars import select_stars, wanted_counts
from survey.label_tables.settings import PUBLISHED, LabelTables, ReferenceSet
from survey.settings import SettingsError
from tests.label_tables.catalogues_by_hand import make, write_csv

MP, CEMP, NMP = 0, 1, 2


def test_the_published_set_has_4723_and_5032_stars() -> None:
    assert PUBLISHED["NMP"] == 4723
    assert PUBLISHED["MP"] + PUBLISHED["CEMP"] == 5032
    assert PUBLISHED["CEMP"] == 167


def test_the_published_balance_is_kept_where_there_are_fewer_stars() -> None:
    available = {"MP": 9000, "CEMP": 100, "NMP": 90_000}
    counts = wanted_counts(ReferenceSet(balance="published"), available)
    assert counts == {"NMP": 2828, "MP": 2913, "CEMP": 100}
    assert wanted_counts(ReferenceSet(balance="published"), dict.fromkeys(available, 9000)) == PUBLISHED
    assert wanted_counts(ReferenceSet(balance="equal"), available) == {"MP": 100, "CEMP": 100, "NMP": 100}
    assert wanted_counts(ReferenceSet(), available) == {}


def test_wanted_numbers_are_taken_as_far_as_there_are_stars() -> None:
    available = {"MP": 50, "CEMP": 10, "NMP": 500}
    counts = {"NMP": 100, "MP": 100, "CEMP": 10}
    assert wanted_counts(ReferenceSet(counts=counts), available) == {"NMP": 100, "MP": 50, "CEMP": 10}
    assert wanted_counts(ReferenceSet(counts=counts, shrink=True), available) == {
        "NMP": 50,
        "MP": 50,
        "CEMP": 5,
    }
    with pytest.raises(SettingsError, match=r"there is no class 'VMP'; did you mean MP"):
        ReferenceSet.from_dict("labels", {"counts": {"VMP": 3}})


def test_a_balance_beside_the_counts_of_a_recipe_is_an_error(tmp_path: Path) -> None:
    given = ["cemp", f"labels={tmp_path}", "reference.balance=equal"]
    with pytest.raises(
        SettingsError, match=r"balance: equal: is not used beside reference.counts=\{'NMP': 4"
    ):
        load(LabelTables, "labels", given)
    assert load(LabelTables, "labels", [*given, "reference.counts={}"]).reference.balance == "equal"


def test_random_stars_are_the_same_whatever_else_is_there() -> None:
    names = np.array([f"star {number}" for number in range(200)], object)
    classes, snr = np.full(200, MP, np.int8), np.arange(200.0)
    wanted = ReferenceSet(counts={"MP": 50})
    taken, _ = select_stars(wanted, classes, snr, names)
    order = np.random.default_rng(0).permutation(200)
    mixed, _ = select_stars(wanted, classes, snr[order], names[order])
    assert set(names[taken]) == set(names[order][mixed])
    other, _ = select_stars(ReferenceSet(counts={"MP": 50}, seed=1), classes, snr, names)
    assert set(names[taken]) != set(names[other])
    best, _ = select_stars(ReferenceSet(counts={"MP": 50}, prefer="snr"), classes, snr, names)
    assert snr[best].min() == 150


SURVEY = "obsid gaia_source_id ra dec snrg class subclass"
VISITS = [
    (101, 1, 10, 0, 20, "STAR", "G5"),
    (102, 1, 10, 0, 50, "STAR", "G5"),
    (103, 1, 10, 0, 3, "STAR", "K1"),
    (201, 2, 20, 0, 30, "STAR", "F2"),
    (301, 3, 30, 0, 30, "STAR", "M3"),
    (302, 3, 30, 0, 10, "STAR", "M4"),
    (401, 4, 40, 0, 30, "STAR", "K7"),
    (501, 5, 50, 0, 30, "STAR", "A3IV"),
    (601, 6, 60, 0, 30, "GALAXY", "Non"),
    (701, 7, 70, 0, 30, "QSO", "Non"),
    (801, 8, 80, 0, 30, "STAR", "WD"),
    (901, 9, 90, 0, 30, "UNKNOWN", "Non"),
    (1001, 10, 100, 0, 30, "STAR", "Carbon"),
    (1101, 11, 110, 0, 30, "STAR", "B6"),
    (1201, 12, 120, 0, 30, "STAR", "M1"),
    (1202, 12, 120, 0, 20, "STAR", "G2"),  # called an M star once only
    (1301, 13, 130, 0, 2, "STAR", "M2"),  # too noisy
]
ALL_KINDS = ["M", "late_K", "A", "hot", "white_dwarf", "galaxy", "quasar", "unknown"]


def made(folder: Path, **settings: Any) -> Any:
    survey = write_csv(folder / "survey.csv", SURVEY, VISITS)
    labels = write_csv(folder / "labels.csv", "ra dec feh cfe", [(10, 0, -2, 1.0), (20, 0, -1.5, 0)])
    columns = {"FeH": {"column": "feh"}, "CFe": {"column": "cfe"}}
    return make(folder, {"one": {"file": labels, "labels": columns}}, to=survey, **settings)


def test_a_star_has_its_best_visit_or_all_that_have_enough_signal(tmp_path: Path) -> None:
    best = made(tmp_path).table("labels.parquet")
    assert best["obsid"].to_pylist() == [102, 201]
    every = made(tmp_path / "all", snr=5, reference={"visits": "all"}).table("labels.parquet")
    assert every["obsid"].to_pylist() == [101, 102, 201]
    assert every["class"].to_pylist() == ["CEMP", "CEMP", "MP"]
    assert every["FeH"].to_pylist() == [-2, -2, -1.5]
    assert set(every.column_names) >= {"star", "ra", "dec", "snr", "subclass", "survey_class"}


def test_what_the_survey_calls_something_else_gets_a_weak_label(tmp_path: Path) -> None:
    result = made(tmp_path, snr=5, weak={"kinds": ALL_KINDS, "weight": 0.1})
    weak = result.table("weak.parquet")
    assert dict(zip(weak["obsid"].to_pylist(), weak["kind"].to_pylist(), strict=True)) == {
        301: "M",
        401: "late_K",
        501: "A",
        601: "galaxy",
        701: "quasar",
        801: "white_dwarf",
        901: "unknown",
        1101: "hot",
    }
    assert set(weak["class"].to_pylist()) == {"NMP"}
    assert set(weak["weight"].to_pylist()) == {0.1}
    assert not set(weak["star"].to_pylist()) & set(result.table("labels.parquet")["star"].to_pylist())
    few = made(tmp_path / "b", weak={"kinds": ["M"], "most": 1, "label": "other"}).table("weak.parquet")
    assert few["class"].to_pylist() == ["other"]


def test_pairs_of_visits_are_listed_for_calibration(tmp_path: Path) -> None:
    result = made(tmp_path, snr=5, repeats=True)
    pairs = result.table("repeats.parquet").to_pylist()
    assert [(row["obsid_1"], row["obsid_2"]) for row in pairs] == [(102, 101), (301, 302), (1201, 1202)]
    assert result.document.repeats == 3


def test_a_star_is_never_split_whatever_the_balance(tmp_path: Path) -> None:
    visits = [(100 * star + visit, star, star, 5, 30) for star in range(1, 41) for visit in range(3)]
    survey = write_csv(tmp_path / "survey.csv", "obsid gaia_source_id ra dec snrg", visits)
    stars = [(star, 5, -2 if star % 2 else -0.2, 0.0) for star in range(1, 41)]
    labels = write_csv(tmp_path / "labels.csv", "ra dec feh cfe", stars)
    columns = {"FeH": {"column": "feh"}, "CFe": {"column": "cfe"}}
    reference = {"counts": {"MP": 7, "NMP": 9}, "visits": "all"}
    result = make(
        tmp_path, {"one": {"file": labels, "labels": columns}}, to=survey, reference=reference
    )  # fmt: skip
    table = result.table("labels.parquet")
    assert table is not None
    counts = Counter(table["star"].to_pylist())
    assert set(counts.values()) == {3}
    assert len(counts) == 16
    assert result.document.classes == {"MP": 7, "CEMP": 0, "NMP": 9, "no class": 0}
    assert result.document.available == {"MP": 20, "CEMP": 0, "NMP": 20}
