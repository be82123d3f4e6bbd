"""The same objects in two surveys."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey.latent.components import apply_components, find_components
from survey.latent.latents import Latents, open_latents
from survey.latent.pairs import FoundPairs, find_pairs, pair_table, rank_pairs, summarise, survey_distances
from survey.latent.settings import Pairs
from survey.settings import JobError
from tests.latent.drawn_latents import drawn, write_predictions


def two_surveys(folder: Path, shift: int = 0) -> tuple[Latents, Latents]:
    """The second survey has the same places on the sky and other names of stars, if they are shifted."""
    latent_ND, _ = drawn(300, width=5)
    noise_ND = np.random.default_rng(4).normal(size=latent_ND.shape) / 20
    noisy_ND = latent_ND + noise_ND.astype(np.float32)
    stars = [f"star {number + shift}" for number in range(200)]
    return (
        open_latents(write_predictions(folder / "a", latent_ND)),
        open_latents(write_predictions(folder / "b", noisy_ND[:200], 70, stars)),
    )


def test_objects_are_found_by_star_visit_or_position(tmp_path: Path) -> None:
    first, other = two_surveys(tmp_path)
    for by in ("star", "visit", "position"):
        found = find_pairs(first, other, Pairs(by=by))
        assert found.first_P.tolist() == found.other_P.tolist() == list(range(200))
    assert find_pairs(first, other, Pairs()).by == "visit"


def test_equal_names_at_other_places_are_no_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both surveys count their files from 0."""
    latent_ND, _ = drawn(100, width=4)
    first = open_latents(write_predictions(tmp_path / "a", latent_ND))
    other = open_latents(write_predictions(tmp_path / "b", latent_ND, places=60))
    found = find_pairs(first, other, Pairs())
    assert found.by == "position"
    assert found.first_P.tolist() == list(range(60, 100))
    assert found.other_P.tolist() == list(range(40))
    assert "100 rows with the same visit are more than 3 arcsec apart, so they are no pairs" in caplog.text
    far = open_latents(write_predictions(tmp_path / "c", latent_ND, places=5000))
    assert len(find_pairs(first, far, Pairs()).first_P) == 0
    assert len(find_pairs(first, far, Pairs(by="visit")).first_P) == 100


def test_of_files_with_one_name_the_folders_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second survey has a folder less; where each survey has one file of a name, the folder is free."""
    tables: list[Any] = []
    for files in (["a/x/0001", "a/y/0001", "a/0002"], ["b/y/0001", "c/0002"]):
        nothing = pa.nulls(len(files), pa.string())
        places = pa.nulls(len(files), pa.float64())
        table = {"visit": [file[-4:] for file in files], "star": nothing, "row": [-1] * len(files)}
        table |= {"ra": places, "dec": places}
        tables.append(pa.table(table | {"path": [f"/{file}.fits" for file in files]}))
    monkeypatch.setattr("survey.latent.pairs.key_table", lambda latents: latents)
    found = find_pairs(tables[0], tables[1], Pairs(by="visit"))
    assert (found.first_P.tolist(), found.other_P.tolist()) == ([1, 2], [0, 1])


def test_equal_names_without_positions_are_pairs(tmp_path: Path) -> None:
    first, other = two_surveys(tmp_path)
    placeless = replace(other, identity=tuple(name for name in other.identity if name not in ("ra", "dec")))
    found = find_pairs(first, placeless, Pairs())
    assert (found.by, len(found.first_P)) == ("visit", 200)


def test_stars_of_other_names_are_no_pairs_by_star(tmp_path: Path) -> None:
    first, other = two_surveys(tmp_path, shift=1000)
    with pytest.raises(JobError, match=r"no object is in .* too, by star"):
        find_pairs(first, other, Pairs(by="star"))
    assert len(find_pairs(first, other, Pairs(by="position")).first_P) == 200


def test_without_any_pair_there_are_no_ranks(tmp_path: Path) -> None:
    latent_ND, _ = drawn(100, width=4)
    first, other = two_surveys(tmp_path)
    far = [f"elsewhere {number}" for number in range(100)]
    lonely = open_latents(write_predictions(tmp_path / "c", latent_ND, stars=far, first=5000))
    found = find_pairs(first, lonely, Pairs())
    assert len(found.first_P) == 0
    summary = summarise(first, other, found, np.empty(0, np.int64), 100, ({"mmd": 0.1}, {"mmd": 0.0}))
    assert summary.median_rank is None


def test_ranks_are_those_of_a_plain_sort() -> None:
    first_NC, _ = drawn(150, width=4, spread=1)
    other_MC = first_NC[:120] + np.random.default_rng(2).normal(size=(120, 4)).astype(np.float32)
    found = FoundPairs("star", np.arange(120), np.arange(120), np.arange(120))
    ranked, distance_P, rank_P = rank_pairs(found, first_NC, other_MC, 1000, 0)
    for pair in range(120):
        distance_M = np.linalg.norm(other_MC - first_NC[pair], axis=1)
        assert rank_P[pair] == 1 + (distance_M < distance_M[pair]).sum()
        assert distance_P[pair] == pytest.approx(distance_M[pair], rel=1e-4)
    assert len(ranked.first_P) == 120
    assert len(rank_pairs(found, first_NC, other_MC, 50, 0)[2]) == 50


def test_further_visits_of_the_partner_are_no_rivals() -> None:
    """They made the median rank 3 in a latent space that knows each object perfectly."""
    first_NC, _ = drawn(60, width=4, spread=1)
    noise_MC = np.random.default_rng(3).normal(size=(180, 4)).astype(np.float32) / 1000
    other_MC = (np.tile(first_NC, (3, 1)) + noise_MC).astype(np.float32)
    other_MC[7] = np.nan  # the first visit of object 7 has no latent
    found = FoundPairs("star", np.arange(60), np.arange(60), np.tile(np.arange(60), 3))
    ranked, distance_P, rank_P = rank_pairs(found, first_NC, other_MC, 1000, 0)
    assert (rank_P == 1).all()
    for pair in range(60):
        distances = np.linalg.norm(other_MC[pair::60] - first_NC[pair], axis=1)
        assert distance_P[pair] == pytest.approx(np.nanmin(distances), rel=1e-4)
        assert ranked.other_P[pair] == pair + 60 * np.nanargmin(distances)


def test_rows_of_an_object_are_those_of_its_name_and_its_place(tmp_path: Path) -> None:
    latent_ND, _ = drawn(6, width=4)
    names = ["a", "b", "a", "c", "d", "e"]
    first = open_latents(write_predictions(tmp_path / "a", latent_ND, stars=names))
    object_M = find_pairs(first, first, Pairs(by="star")).object_M
    assert object_M[0] == object_M[2]
    assert len(set(object_M.tolist())) == 5


def test_a_pair_without_a_latent_is_left_out() -> None:
    first_NC, _ = drawn(40, width=3)
    first_NC[3] = np.nan
    found = FoundPairs("star", np.arange(40), np.arange(40), np.arange(40))
    ranked, _, rank_P = rank_pairs(found, first_NC, first_NC.copy(), 100, 0)
    assert 3 not in ranked.first_P
    assert (rank_P == 1).all()


def test_the_table_has_both_objects_the_farthest_first(tmp_path: Path) -> None:
    first, other = two_surveys(tmp_path)
    components = find_components(first, 5, by_spread=False)
    first_NC, other_MC = apply_components(components, first), apply_components(components, other)
    found = find_pairs(first, other, Pairs())
    table = pair_table(first, other, *rank_pairs(found, first_NC, other_MC, 1000, 0))
    assert table["star"].to_pylist() == table["star_other"].to_pylist()
    rank_P = table["rank"].to_numpy()
    assert (np.diff(rank_P) <= 0).all()
    assert (rank_P == 1).mean() > 0.9


def test_two_surveys_that_differ_are_farther_apart_than_two_halves_of_one() -> None:
    first_NC, _ = drawn(800, width=5)
    other_MC, _ = drawn(800, width=5, seed=9)
    same, within = survey_distances(first_NC, other_MC, 400, 0)
    moved, _ = survey_distances(first_NC, other_MC + np.float32(2), 400, 0)
    for name in ("mmd", "sinkhorn", "coral"):
        assert abs(same[name]) < 5 * abs(within[name]) + 0.02
        assert moved[name] > 3 * abs(within[name])


def test_a_survey_of_one_row_has_no_distances() -> None:
    first_NC, _ = drawn(100, width=5)
    other_MC = np.full((3, 5), np.nan, np.float32)
    other_MC[1] = 0
    assert survey_distances(first_NC, other_MC, 400, 0) == ({}, {})
