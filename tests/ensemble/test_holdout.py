"""Which spectra may fit an ensemble and which may test it, with members of different splits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from survey.ensemble import holdout
from survey.ensemble.members import Members, open_members
from survey.labelling import samples
from survey.labelling.settings import Join
from survey.labels import classes
from survey.store.store import open_store
from tests.ensemble import small_runs
from tests.training import lessons

SPLITS = {"first": {"parts": [0.5, 0.3, 0.2]}, "second": {"parts": [0.5, 0.3, 0.2], "seed": 5}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with different splits, one fine-tuned from the first, three folds, one from another store."""
    folder = small_runs.place(tmp_path_factory.mktemp("parts"))
    for name, split in SPLITS.items():
        small_runs.train(folder, name, split=split, epochs=1)
    small_runs.train(
        folder,
        "tuned",
        split=SPLITS["first"],
        epochs=1,
        start_from=str(folder / "first"),
        join={"where": {"FeH": [-3, -0.5]}},
    )
    for fold in range(3):
        small_runs.train(
            folder, f"fold-{fold}", split={"folds": 3, "fold": fold, "validation": 0.3}, epochs=1
        )
    # The toy counts visits from 1000 on, so half of the stars are the same.
    lessons.store(folder / "more" / "store", count=150, seed=4)
    small_runs.train(
        folder,
        "elsewhere",
        store=str(folder / "more" / "store"),
        labels=str(folder / "more" / "labels.csv"),
        epochs=1,
        targets=["Teff", "FeH"],
    )
    return folder


def open_runs(folder: Path, *names: str) -> Members:
    return open_members([str(folder / name) for name in names])


def stars(folder: Path, run: str, part: str) -> set[str]:
    return set(samples.read(str(folder / run)).part(part).extra["star"].to_pylist())


def stars_of_all(folder: Path, name: str, *runs: str) -> set[str]:
    return set(
        holdout.part_samples(open_runs(folder, *runs), open_store(str(folder / "store")), name)
        .extra["star"]
        .to_pylist()
    )


def test_validation_stars_are_in_the_validation_part_of_a_member_and_in_no_train_part(folder: Path) -> None:
    selected = stars(folder, "first", "validation") | stars(folder, "second", "validation")
    trained = stars(folder, "first", "train") | stars(folder, "second", "train")
    assert stars_of_all(folder, "validation", "first", "second") == selected - trained
    assert selected & trained


def test_test_stars_are_in_no_train_or_validation_part(folder: Path) -> None:
    tested = stars_of_all(folder, "test", "first", "second")
    assert tested == stars(folder, "first", "test") & stars(folder, "second", "test")
    assert not tested & stars_of_all(folder, "validation", "first", "second")


def test_members_of_one_split_share_their_parts(folder: Path) -> None:
    shutil.copytree(folder / "first", folder / "twin", dirs_exist_ok=True)
    for name in ("train", "validation", "test", "all"):
        assert stars_of_all(folder, name, "first", "twin") == stars(folder, "first", name)


def test_a_single_run_has_its_own_parts(folder: Path) -> None:
    members = open_runs(folder, "first")
    for name in ("train", "validation", "test", "all"):
        found, wanted = (
            holdout.part_samples(members, open_store(str(folder / "store")), name),
            samples.read(str(folder / "first")).part(name),
        )
        assert np.array_equal(found.shard_row_N2, wanted.shard_row_N2)
        assert np.array_equal(found.label_NL, wanted.label_NL, equal_nan=True)


def test_all_folds_together_leave_no_test_and_little_validation(folder: Path) -> None:
    folds = ("fold-0", "fold-1", "fold-2")
    trained = set().union(*(stars(folder, fold, "train") for fold in folds))
    assert not stars_of_all(folder, "test", *folds)
    assert stars_of_all(folder, "validation", *folds) == stars_of_all(folder, "all", *folds) - trained
    assert len(stars_of_all(folder, "all", *folds)) == small_runs.COUNT


def test_stars_that_an_earlier_run_has_seen_count_as_seen(folder: Path) -> None:
    alike = small_runs.train(
        folder, "poor", split=SPLITS["second"], epochs=1, join={"where": {"FeH": [-3, -0.5]}}
    )
    seen = stars(folder, "first", "train")
    assert not stars_of_all(folder, "test", "tuned", "poor") & seen
    assert not stars_of_all(folder, "validation", "tuned", "poor") & seen
    assert Path(alike).name == "poor"


def test_the_pool_holds_the_spectra_and_the_labels_of_all_members(folder: Path) -> None:
    small_runs.train(
        folder, "rich", split=SPLITS["first"], epochs=1, join={"where": {"FeH": [-2, 1]}}, targets=["logg"]
    )
    small_runs.train(
        folder, "lean", split=SPLITS["first"], epochs=1, join={"where": {"FeH": [-3, -0.5]}}, targets=["FeH"]
    )
    members = open_runs(folder, "rich", "lean")
    pool = holdout.pool_samples(members, open_store(str(folder / "store")))
    truth = lessons.stars(small_runs.COUNT)
    row = pool.shard_row_N2[:, 0] * 50 + pool.shard_row_N2[:, 1]
    assert pool.labels == ("logg", "FeH")
    assert np.array_equal(row, np.sort(row))
    assert len(row) == small_runs.COUNT
    for number, name in enumerate(pool.labels):
        known = np.isfinite(pool.label_NL[:, number])
        assert np.allclose(pool.label_NL[known, number], truth[name][row[known]])
    assert np.array_equal(np.isfinite(pool.label_NL[:, 0]), truth["FeH"][row] >= -2)
    assert np.array_equal(np.isfinite(pool.label_NL[:, 1]), truth["FeH"][row] <= -0.5)
    assert pool.extra["obsid"].to_pylist() == truth["obsid"][row].tolist()


def test_true_classes_are_those_of_the_members_that_predict_classes(folder: Path) -> None:
    other = {"join": {"criterion": "carbon_1.0"}, "split": SPLITS["first"], "epochs": 1}
    small_runs.train(folder, "label-only", task="reg", **other)
    pool = holdout.pool_samples(open_runs(folder, "label-only", "first"), open_store(str(folder / "store")))
    truth = lessons.stars(small_runs.COUNT)
    row = pool.shard_row_N2[:, 0] * 50 + pool.shard_row_N2[:, 1]
    expected, others = (classes(truth["FeH"], truth["CFe"], name) for name in ("carbon_0.7", "carbon_1.0"))
    assert (expected != others).any()
    assert np.array_equal(pool.class_N, expected[row])


def test_stars_of_a_member_from_another_store_are_recognised(folder: Path) -> None:
    seen = stars(folder, "elsewhere", "train")
    assert not stars_of_all(folder, "validation", "first", "elsewhere") & seen
    assert stars_of_all(folder, "validation", "first", "elsewhere") == stars(
        folder, "first", "validation"
    ) - seen | (stars(folder, "elsewhere", "validation") - stars(folder, "first", "train"))


def test_a_store_that_no_member_knows_has_an_empty_pool(folder: Path, tmp_path: Path) -> None:
    lessons.store(tmp_path / "store", count=20, seed=9)
    members = open_runs(folder, "first", "second")
    pool = holdout.pool_samples(members, open_store(str(tmp_path / "store")))
    assert len(pool) == 0
    assert len(holdout.seen_parts(members, pool.extra).part("validation")) == 0


def test_other_stars_are_unseen_only_if_no_member_has_seen_them(folder: Path) -> None:
    members, store = open_runs(folder, "first", "second"), open_store(str(folder / "store"))
    chosen = holdout.label_samples(members, store, Join(table=str(folder / "labels.csv")))
    fresh = set(chosen.at(holdout.unseen(members, chosen.extra)).extra["star"].to_pylist())
    assert fresh == stars(folder, "first", "test") & stars(folder, "second", "test")
