"""Folders are moved and copied between jobs, with claims in them, and the clock is set back: the next job
gives the same rows, or says where a folder has to be put back.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from survey import claim
from survey.catalog.catalog import CatalogResult, make_catalog
from survey.catalog.settings import CatalogSettings
from survey.claim import CLAIM
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.member_names import path_from
from survey.predict.output import open_predictions
from survey.settings import JobError
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.training.train import plan
from survey.training.worker import learn
from tests import survey_files
from tests.attack import hostile
from tests.catalog import skies
from tests.ensemble import untrained
from tests.finished import change_document
from tests.predict.small_predictions import predicted
from tests.training import lessons

FILES = 6
YEARS = (-40, 40)
CLASS_COLUMNS = ("predicted_class", "class_entropy", "class_entropy_model")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, an ensemble and predictions."""
    place = tmp_path_factory.mktemp("origin")
    untrained.three(place / "ensemble", untrained.store(place, range(FILES)))
    predicted(place)
    return place


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """A copy of all folders on another path."""
    for name in ("files", "store", "ensemble", "predictions"):
        shutil.copytree(origin / name, tmp_path / name)
    return tmp_path


def rows(predictions: Path) -> pa.Table:
    return pa.concat_tables(open_predictions(str(predictions)).tables())


def catalog(predictions: Path, folder: Path) -> CatalogResult:
    values = {"predictions": str(predictions), "catalog": str(folder)}
    return make_catalog(CatalogSettings.from_dict("catalog", values))


def sky(predictions: Path) -> None:
    """Predictions of 20 stars."""
    table = skies.rows(np.arange(20.0), np.arange(20.0), [f"J{number}" for number in range(20)])
    classes = [name for name in table.column_names if name.startswith("p_") or name in CLASS_COLUMNS]
    skies.write(predictions, table.drop_columns(classes), classes=())


def move(folder: Path) -> Path:
    """Move a folder to another one."""
    target = folder.parent / "far" / "away" / folder.name
    target.parent.mkdir(parents=True, exist_ok=True)
    return folder.rename(target)


def copy(folder: Path) -> Path:
    """Copy a folder to another one."""
    return Path(shutil.copytree(folder, folder.parent / "copies" / folder.name))


@pytest.mark.parametrize("transfer", [move, copy])
def test_every_folder_may_be_moved_between_jobs(
    origin: Path, place: Path, transfer: Callable[[Path], Path]
) -> None:
    expected, store = rows(origin / "predictions"), transfer(place / "store")
    assert predicted(place, store=str(store))[0].created == 0
    ensemble = transfer(place / "ensemble")
    assert predicted(place, store=str(store), ensemble=str(ensemble))[0].created == 0
    predictions = transfer(place / "predictions")
    changes = {"store": str(store), "ensemble": str(ensemble), "predictions": str(predictions)}
    result, table = predicted(place, **changes)
    assert result.created == 0
    assert table.equals(expected)


@pytest.mark.parametrize("transfer", hostile.some(1, move, copy))
def test_predictions_and_a_catalog_may_be_moved(tmp_path: Path, transfer: Callable[[Path], Path]) -> None:
    sky(tmp_path / "predictions")
    first = catalog(tmp_path / "predictions", tmp_path / "catalog")
    predictions = transfer(tmp_path / "predictions")
    assert not catalog(predictions, transfer(tmp_path / "catalog")).created
    again = catalog(predictions, tmp_path / "again")
    for name in ("mp_candidates.parquet", "cemp_candidates.parquet"):
        there, here = first.table(name), again.table(name)
        assert there is None or here == there


@pytest.mark.long
def test_a_run_may_be_moved_while_it_is_not_finished(tmp_path: Path) -> None:
    lessons.store(tmp_path / "store", 60)
    settings = lessons.training(tmp_path, epochs=1)
    assert plan(settings)
    run = move(tmp_path / "run")
    settings = lessons.training(tmp_path, epochs=1, run=str(run))
    assert plan(settings)
    learn(settings)
    assert not plan(lessons.training(tmp_path, epochs=1, run=str(move(run))))


def test_a_member_that_is_not_at_its_place_is_named_with_the_place(place: Path) -> None:
    ensemble = place / "ensemble"
    outside = (ensemble / "runs" / "both").rename(place / "both")
    document = json.loads((ensemble / "ensemble.json").read_text())
    members = document["members"]
    members[0]["path"] = path_from(str(ensemble), str(outside))
    change_document(ensemble / "ensemble.json", {"members": members})
    assert open_ensemble(str(move(ensemble))).members.runs[0].path == str(outside)
    move(outside)
    with pytest.raises(FileNotFoundError, match=f"{outside}; put the run back there"):
        open_ensemble(str(place / "far" / "away" / "ensemble"))


def foreign_claim(place: Path, **changes: Any) -> None:
    """The claim of another process in a folder."""
    values = {"job": "predict", "process": os.getpid(), "host": socket.gethostname(), "since": "now"}
    values |= {"machine": claim._machine(), "started": claim._start_of(os.getpid()), "settings": "other"}
    values |= {"folder": os.path.realpath(place), "token": "t"}
    (place / CLAIM).write_text(json.dumps(values | changes))


@pytest.mark.parametrize(
    "changes",
    [{"folder": "copied"}, {"process": 2**22 + 1, "started": "1"}, {"machine": "far", "old": True}],
    ids=["copied with its folder", "its process is gone", "another machine, long ago"],
)
def test_a_claim_that_lies_in_a_moved_folder_is_taken_over(place: Path, changes: dict[str, Any]) -> None:
    predictions = move(place / "predictions")
    if "folder" in changes:  # there the process still works
        changes = {"folder": str(place / "original")}
        (place / "original").mkdir()
        foreign_claim(place / "original")
    foreign_claim(predictions, **changes)
    if "old" in changes:
        os.utime(predictions / CLAIM, (0, 0))
    assert predicted(place, predictions=str(predictions))[0].created == 0
    assert not (predictions / CLAIM).exists()


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_a_claim_of_another_machine_is_named_with_what_to_do(place: Path, seconds: float) -> None:
    """Also if its time is in the future, because a clock was set back."""
    foreign_claim(place / "predictions", machine="far", host="far")
    now = time.time() + seconds
    os.utime(place / "predictions" / CLAIM, (now, now))
    with pytest.raises(JobError, match=rf"on far .*if that process is gone, remove .*{CLAIM}"):
        predicted(place)


def set_clock(monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    """Let the clock of this process be wrong by so many years."""
    shift, now, now_ns = timedelta(days=365 * years), time.time, time.time_ns
    seconds = shift.total_seconds()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + shift

    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(seconds) * 10**9)
    for module in ("folder", "claim"):
        monkeypatch.setattr(f"survey.{module}.datetime", Shifted)


def set_times(folder: Path, years: int) -> None:
    """Let all files of a folder be so many years old, or of the future."""
    for number, path in enumerate(sorted(folder.rglob("*"))):
        stamp = time.time() + 365 * 86400 * years + number
        os.utime(path, (stamp, stamp))


def grow(origin: Path, place: Path, change: Callable[[Path], None]) -> pa.Table:
    """The rows of predictions that were made of a store in two steps, with a change between them."""
    untrained.store(place, range(FILES // 2))
    shutil.copytree(origin / "ensemble", place / "ensemble")
    predicted(place)
    survey_files.write(place / "files", range(FILES // 2, FILES))
    change(place)
    untrained.store(place, range(0))
    return predicted(place)[1]


def without_paths(table: pa.Table) -> pa.Table:
    return table.drop_columns("path")


@pytest.mark.parametrize("years", hostile.some(1, *YEARS))
def test_a_wrong_clock_changes_no_row(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    def change(place: Path) -> None:
        set_clock(monkeypatch, years)
        set_times(place, years)

    place = tmp_path / "clock"
    expected = grow(origin, tmp_path / "sound", lambda _: None)
    assert without_paths(grow(origin, place, change)).equals(without_paths(expected))
    set_times(place, -years)
    assert predicted(place)[0].created == 0


@pytest.mark.parametrize("years", hostile.some(0, *YEARS))
def test_a_wrong_clock_changes_no_star_of_a_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    sky(tmp_path / "predictions")
    sound = catalog(tmp_path / "predictions", tmp_path / "sound")
    set_clock(monkeypatch, years)
    set_times(tmp_path / "predictions", years)
    first = catalog(tmp_path / "predictions", tmp_path / "catalog")
    set_times(tmp_path / "catalog", -years)
    monkeypatch.undo()
    assert not catalog(tmp_path / "predictions", tmp_path / "catalog").created
    assert first.document.stars == sound.document.stars == 20
    assert first.document.candidates == sound.document.candidates


@pytest.mark.parametrize("years", YEARS)
@pytest.mark.parametrize("compare", ["time", "hash"])
def test_files_of_another_time_are_read_again_as_the_same_rows(
    origin: Path, place: Path, years: int, compare: str
) -> None:
    set_times(place / "files", years)
    values = {"input": str(origin / "files"), "store": str(place / "store"), "shard": 4, "compare": compare}
    values |= {"prepare": untrained.COARSE, "reread": True, "refuse_above": 1.0}
    before = {path.name: path.read_bytes() for path in (place / "store" / "spectra").iterdir()}
    times = {path: path.stat().st_mtime for path in (origin / "files").iterdir()}
    set_times(origin / "files", years)
    result = ingest(Ingest.from_dict("ingest", values))
    for path, stamp in times.items():
        os.utime(path, (stamp, stamp))
    assert result.plan.changed == (FILES if compare == "time" else 0)
    assert {path.name: path.read_bytes() for path in (place / "store" / "spectra").iterdir()} == before
