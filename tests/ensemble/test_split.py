"""Which spectra may choose and which may test, when members have learned from different stars."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from survey.ensemble import split as parts
from survey.ensemble.members import Members, open_members
from survey.labelling import samples
from survey.labelling.join import Labels
from survey.store.store import open_store
from tests.ensemble import teams
from tests.training import lessons

SPLITS = {"first": {"parts": [0.5, 0.3, 0.2]}, "second": {"parts": [0.5, 0.3, 0.2], "seed": 5}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs whose splits differ, one that is fine-tuned from the first, and three folds."""
    folder = teams.place(tmp_path_factory.mktemp("parts"))
    for name, split in SPLITS.items():
        teams.train(folder, name, split=split, epochs=1)
    teams.train(
        folder,
        "tuned",
        split=SPLITS["first"],
        epochs=1,
        before=str(folder / "first"),
        join={"where": {"FeH": [-3, -0.5]}},
    )
    for fold in range(3):
        teams.train(folder, f"fold-{fold}", split={"folds": 3, "fold": fold, "validation": 0.3}, epochs=1)
    lessons.store(
        folder / "more" / "store", count=150, seed=4
    )  # the toy counts visits from 1000 on, so half of the stars are the same
    teams.train(
        folder,
        "abroad",
        store=str(folder / "more" / "store"),
        labels=str(folder / "more" / "labels.csv"),
        epochs=1,
        targets=["Teff", "FeH"],
    )
    return folder


def opened(made: Path, *names: str) -> Members:
    return open_members([str(made / name) for name in names])


def stars(made: Path, run: str, part: str) -> set[str]:
    return set(samples.read(str(made / run)).part(part).about["star"].to_pylist())


def own(made: Path, name: str, *runs: str) -> set[str]:
    return set(
        parts.own(opened(made, *runs), open_store(str(made / "store")), name).about["star"].to_pylist()
    )


def test_validation_is_what_some_member_chose_by_and_none_has_learned_from(made: Path):
    chose = stars(made, "first", "validation") | stars(made, "second", "validation")
    learned = stars(made, "first", "train") | stars(made, "second", "train")
    assert own(made, "validation", "first", "second") == chose - learned
    assert chose & learned


def test_test_is_what_none_has_learned_from_or_chosen_by(made: Path):
    tested = own(made, "test", "first", "second")
    assert tested == stars(made, "first", "test") & stars(made, "second", "test")
    assert not tested & own(made, "validation", "first", "second")


def test_members_of_one_split_share_their_parts(made: Path):
    shutil.copytree(made / "first", made / "twin", dirs_exist_ok=True)
    for name in ("train", "validation", "test", "all"):
        assert own(made, name, "first", "twin") == stars(made, "first", name)


def test_a_run_alone_has_its_own_parts(made: Path):
    members = opened(made, "first")
    for name in ("train", "validation", "test", "all"):
        found, wanted = (
            parts.own(members, open_store(str(made / "store")), name),
            samples.read(str(made / "first")).part(name),
        )
        assert np.array_equal(found.place_N2, wanted.place_N2)
        assert np.array_equal(found.label_NL, wanted.label_NL, equal_nan=True)


def test_all_folds_together_leave_no_test_and_little_validation(made: Path):
    folds = ("fold-0", "fold-1", "fold-2")
    learned = set().union(*(stars(made, fold, "train") for fold in folds))
    assert not own(made, "test", *folds)
    assert own(made, "validation", *folds) == own(made, "all", *folds) - learned
    assert len(own(made, "all", *folds)) == teams.COUNT


def test_what_the_run_before_has_seen_counts_as_seen(made: Path):
    alike = teams.train(made, "poor", split=SPLITS["second"], epochs=1, join={"where": {"FeH": [-3, -0.5]}})
    seen = stars(made, "first", "train")
    assert not own(made, "test", "tuned", "poor") & seen
    assert not own(made, "validation", "tuned", "poor") & seen
    assert Path(alike).name == "poor"


def test_the_pool_holds_the_spectra_and_the_labels_of_all_members(made: Path):
    teams.train(
        made, "rich", split=SPLITS["first"], epochs=1, join={"where": {"FeH": [-2, 1]}}, targets=["logg"]
    )
    teams.train(
        made, "lean", split=SPLITS["first"], epochs=1, join={"where": {"FeH": [-3, -0.5]}}, targets=["FeH"]
    )
    members = opened(made, "rich", "lean")
    pool = parts.pooled(members, open_store(str(made / "store")))
    truth = lessons.stars(teams.COUNT)
    row = pool.place_N2[:, 0] * 50 + pool.place_N2[:, 1]
    assert pool.labels == ("logg", "FeH")
    assert np.array_equal(row, np.sort(row))
    assert len(row) == teams.COUNT
    for number, name in enumerate(pool.labels):
        known = np.isfinite(pool.label_NL[:, number])
        assert np.allclose(pool.label_NL[known, number], truth[name][row[known]])
    assert np.array_equal(np.isfinite(pool.label_NL[:, 0]), truth["FeH"][row] >= -2)
    assert np.array_equal(np.isfinite(pool.label_NL[:, 1]), truth["FeH"][row] <= -0.5)
    assert pool.about["obsid"].to_pylist() == truth["obsid"][row].tolist()


def test_stars_of_a_member_from_another_store_are_known_again(made: Path):
    seen = stars(made, "abroad", "train")
    assert not own(made, "validation", "first", "abroad") & seen
    assert own(made, "validation", "first", "abroad") == stars(made, "first", "validation") - seen | (
        stars(made, "abroad", "validation") - stars(made, "first", "train")
    )


def test_of_a_store_that_no_member_knows_nothing_is_known(made: Path, tmp_path: Path):
    lessons.store(tmp_path / "store", count=20, seed=9)
    members = opened(made, "first", "second")
    pool = parts.pooled(members, open_store(str(tmp_path / "store")))
    assert len(pool) == 0
    assert len(parts.seen(members, pool.about).part("validation")) == 0


def test_other_stars_are_unseen_only_if_no_member_has_seen_them(made: Path):
    members, store = opened(made, "first", "second"), open_store(str(made / "store"))
    some = parts.joined(members, store, Labels(table=str(made / "labels.csv")))
    fresh = set(some.at(parts.unseen(members, some.about)).about["star"].to_pylist())
    assert fresh == stars(made, "first", "test") & stars(made, "second", "test")
