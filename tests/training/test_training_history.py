"""Which stars an earlier run has seen, where the surveys count their files from 0."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from survey.labelling import samples
from survey.labelling.unlabelled import unlabelled
from survey.training.training_history import inherit_parts, stars_of_both, unseen
from tests.labelling import small_stores


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> tuple[samples.Samples, samples.Samples]:
    """Two surveys of 20 objects each, which both count their files from 0. Of the second, five objects are in
    the first too, with other numbers.
    """
    found = []
    for name, first in (("one", 0), ("two", 15)):
        rows = [
            small_stores.visit(
                first + number,
                path=f"/{name}/{number:06d}.fits",
                visit=f"{number:06d}",
                star=None,
            )
            for number in range(20)
        ]
        store = small_stores.store(tmp_path_factory.mktemp(name), rows, 8)
        found.append(samples.from_labelled(unlabelled(store), ()))
    return found[0], found[1]


def test_equal_file_names_far_apart_on_the_sky_are_other_objects(
    placed: tuple[samples.Samples, samples.Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = placed
    one = samples.Samples(**{**vars(one), "part_N": np.zeros(20, np.int8)})
    samples.write(str(tmp_path), one)
    monkeypatch.setattr("survey.training.training_history.ancestors", lambda run: [run] if run else [])
    assert unseen(str(tmp_path), two.extra).tolist() == list(range(5, 20))
    parts = inherit_parts(str(tmp_path), two.extra, np.full(20, 2, np.int8))
    assert parts.tolist() == [0] * 5 + [2] * 15


@pytest.mark.parametrize("old", [False, True])
def test_equal_file_names_without_positions_are_one_object(
    placed: tuple[samples.Samples, samples.Samples], old: bool
) -> None:
    """Nobody knows whether these are copies; and runs of before say nothing of folders."""
    nowhere = []
    for each in placed:
        extra = each.extra
        for name in ("ra", "dec"):
            extra = extra.set_column(extra.column_names.index(name), name, pa.nulls(20, pa.float64()))
        star = pa.array([f"visit {visit}" for visit in extra["visit"].to_pylist()])
        extra = extra.set_column(extra.column_names.index("star"), "star", star)
        nowhere.append(samples.Samples(**{**vars(each), "extra": extra.drop("folder") if old else extra}))
    known_N, star_N = stars_of_both(nowhere[0], nowhere[1].extra)
    assert known_N.tolist() == star_N.tolist()
