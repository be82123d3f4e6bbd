"""Classifiers learn from stars that the network was not trained on, and say what they leave out."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from survey.labelling import samples
from survey.latent.latents import open_latents
from survey.latent.questions import Learned, learn_questions
from survey.latent.row_labels import RowClasses, RowLabels, RowNumbers
from survey.latent.settings import Classifiers
from survey.training.run import run_document
from tests.finished import change_document
from tests.latent.drawn_latents import write_predictions
from tests.training import lessons

SETTINGS = Classifiers(trees=30)
STARS = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 200 stars; predictions of these and of 200 others. The classes are drawn at random, and the
    latents know those of the stars in training only.
    """
    folder = tmp_path_factory.mktemp("seen")
    lessons.store(folder / "store", STARS)
    run = str(lessons.train(folder, epochs=1))
    write_predictions(
        folder / "p",
        random_latents(seen_rows(run)),
        stars=names(run),
        first=5000,
        members={run: run_document(run).id},
    )
    return folder


def names(run: str) -> list[str]:
    return [*samples.read(run).extra["star"].to_pylist(), *(f"other {number}" for number in range(STARS))]


def seen_rows(run: str) -> np.ndarray:
    """The rows of the predictions whose stars are in training or validation."""
    part_N = samples.read(run).part_N
    return np.flatnonzero((part_N == 0) | (part_N == 1))


def classes(rows: int = 2 * STARS) -> np.ndarray:
    return np.random.default_rng(0).integers(2, size=rows)


def random_latents(seen: np.ndarray) -> np.ndarray:
    latent_ND = np.random.default_rng(1).normal(size=(2 * STARS, 4)).astype(np.float32)
    latent_ND[seen, 0] += 20 * classes()[seen]
    return latent_ND


def learned(
    place: Path,
    statistics: RowNumbers | None = None,
    class_N: np.ndarray | None = None,
    latent_ND: np.ndarray | None = None,
) -> Learned:
    latents = open_latents(str(place / "p"))
    class_N = classes() if class_N is None else class_N
    question = RowClasses("kind", ("a", "b"), class_N.astype(np.int32))
    if latent_ND is None:
        latent_ND = random_latents(seen_rows(str(place / "run")))
    return learn_questions(latents, RowLabels([question], statistics), latent_ND, SETTINGS)


def accuracy(found: Learned) -> tuple[float, int]:
    """The accuracy of the forest, and all rows that it learned from or that tested it."""
    (row,) = (
        row
        for row in found.scores
        if (row["classifier"], row["features"], row["metric"]) == ("forest", "latent", "accuracy")
    )
    return row["value"], row["n"] + row["train"]


def test_stars_that_the_network_was_trained_on_do_not_count(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = learned(place)
    seen = len(seen_rows(str(place / "run")))
    value, rows = accuracy(found)
    assert value < 0.65
    assert rows == 2 * STARS - seen
    assert found.left_out["kind"].seen == seen > 100
    assert f"left out: {seen} of 400 rows, whose stars the network was trained or validated on" in caplog.text


def test_if_too_few_stars_remain_the_reason_is_named(place: Path) -> None:
    class_N = np.full(2 * STARS, -1)
    seen = seen_rows(str(place / "run"))
    class_N[seen] = classes()[seen]
    found = learned(place, class_N=class_N)
    assert not found.scores
    assert found.why_not["kind"] == (
        "kind: 0 classes with 10 stars or objects or more; two are needed (classifiers.least); left out: "
        f"{len(seen)} of {len(seen)} rows, whose stars the network was trained or validated on"
    )


def test_rows_without_statistics_are_counted_by_column(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    value_NS = np.random.default_rng(2).normal(size=(2 * STARS, 2)).astype(np.float32)
    value_NS[300:380, 1] = np.nan
    found = learned(place, RowNumbers(("size", "colour"), value_NS))
    chosen = 2 * STARS - len(seen_rows(str(place / "run")))
    assert found.left_out["kind"].unknown == {"colour": 80}
    assert accuracy(found)[1] == chosen - 80
    assert f"left out: 80 of {chosen} rows, whose statistics are unknown (colour of 80)" in caplog.text
    value_NS[:, 0] = np.nan
    found = learned(place, RowNumbers(("size", "colour"), value_NS))
    assert f"(size of {chosen}, colour of 80)" in found.why_not["kind"]


def test_a_member_that_is_lost_is_counted(tmp_path: Path) -> None:
    latent_ND = random_latents(np.arange(0))
    write_predictions(tmp_path / "p", latent_ND, first=5000, members={"gone": "x"})
    found = learned(tmp_path, latent_ND=latent_ND)
    assert found.missing_members == 1
    assert accuracy(found)[1] == 2 * STARS


def test_a_network_that_learned_without_labels_has_seen_no_answers(place: Path, tmp_path: Path) -> None:
    run = shutil.copytree(place / "run", tmp_path / "run")
    change_document(run / "run.json", lambda document: document["task"].update(kind="none"))
    latent_ND = random_latents(np.arange(0))
    stars, members = names(str(run)), {str(run): run_document(str(run)).id}
    write_predictions(tmp_path / "p", latent_ND, stars=stars, first=5000, members=members)
    found = learned(tmp_path, latent_ND=latent_ND)
    assert found.left_out["kind"].seen == 0
    assert accuracy(found)[1] == 2 * STARS
