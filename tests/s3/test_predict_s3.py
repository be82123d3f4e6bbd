"""Ensemble, store and predictions in buckets, and survey files straight from one; the driver is killed. SURVEY_KILLS=20 is the long form."""

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey import files
from survey.predict.output import open_predictions
from survey.predict.predict import Predict, Report, predict
from tests import survey_files
from tests.ensemble import askable
from tests.processes import Workplace
from tests.s3.conftest import SECRET, Server, put

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.s3, pytest.mark.timeout(120 + 60 * KILLS)]

SHARDS, SIZE = 8, 25


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def origin(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, their store, an ensemble that takes its time, and its predictions; all but these in s3://sky/said too."""
    folder = tmp_path_factory.mktemp("said")
    base = list(survey_files.named(range(25)).items())
    (folder / "files").mkdir()
    for number in range(SHARDS * SIZE):
        (folder / "files" / f"{number:04d}-{base[number % 25][0]}").write_bytes(base[number % 25][1])
    askable.three(folder / "ensemble", askable.store(folder, range(0), shard=SIZE), passes=80)
    put("s3://sky/said", contents(folder))
    asked(folder, ensemble="ensemble", store="store", predictions="here")
    return folder


def asked(folder: Path | str, **places: str) -> Report:
    """Predictions of what lies in a folder or a prefix."""
    given: dict[str, Any] = {name: files.join(str(folder), path) for name, path in places.items()}
    given |= {"ingest": {"shard": SIZE}, "threads": 1, "batch": 16}
    return predict(Predict.checked("predict", given))


def parts(said: str) -> dict[str, bytes]:
    """The tables, but for the provenance that tells where the spectra came from."""
    found = [entry.path for entry in files.walk(files.join(said, "predictions"))]
    return {path.rpartition("/")[2]: files.read(path) for path in found}


def test_a_bucket_gives_the_predictions_that_a_folder_gives(origin: Path):
    report = asked("s3://sky/said", ensemble="ensemble", store="store", predictions="there")
    assert report.path == "s3://sky/said/there"
    assert parts(report.path) == parts(str(origin / "here"))
    assert asked("s3://sky/said", ensemble="ensemble", store="store", predictions="there").made == 0
    assert open_predictions(report.path).about["rows"] == SHARDS * SIZE


def test_files_of_a_bucket_give_the_answers_that_their_store_gives(origin: Path):
    report = asked("s3://sky/said", ensemble="ensemble", input="files", predictions="fresh")
    one, two = (list(open_predictions(path).tables()) for path in (report.path, str(origin / "here")))
    for fresh, stored in zip(one, two, strict=True):
        assert np.array_equal(fresh["FeH"].to_numpy(), stored["FeH"].to_numpy())
        assert fresh["obsid"].equals(stored["obsid"])


def test_arrays_may_lie_in_a_bucket(origin: Path):
    values = {
        "ensemble": str(origin / "ensemble"),
        "store": "s3://sky/said/store",
        "predictions": "s3://sky/said/arrayed",
        "arrays": True,
        "batch": 16,
    }
    predict(Predict.checked("predict", values))
    ids = pq.read_table(files.bucket_system().open("s3://sky/said/arrayed/arrays/ids.parquet"))
    assert ids.num_rows == SHARDS * SIZE
    assert files.exists("s3://sky/said/arrayed/arrays/labels.npy")


@pytest.mark.kill
@pytest.mark.cluster
@pytest.mark.long
def test_a_driver_may_be_killed_while_its_predictions_are_in_a_bucket(origin: Path, place: Workplace):
    chance = random.Random(5)
    moments = []
    wanted = parts(str(origin / "here"))
    for number in range(KILLS):
        said = f"s3://sky/said/kill-{number}"
        given = [
            "ensemble=s3://sky/said/ensemble",
            "store=s3://sky/said/store",
            f"predictions={said}",
            "batch=16",
            "workers=2",
            "gpu=never",
        ]
        during = place.python("jobs/predict.py", *given)
        target = chance.randint(1, SHARDS - 3)
        assert during.until(
            lambda said=said, target=target: len(files.names(files.join(said, "markers"))) >= target
        ), during.err
        time.sleep(chance.uniform(0, 0.2))
        during.kill()
        moments.append(len(files.names(files.join(said, "markers"))))
        last = place.python("jobs/predict.py", *given)
        assert last.wait() == 0, last.err
        assert parts(said) == wanted
        assert open_predictions(said).about["rows"] == SHARDS * SIZE
        looked = [files.read(entry.path) for entry in files.walk(said)]
        assert not any(SECRET.encode() in data for data in looked)
    print(f"{KILLS} kills of the driver at so many shards: {moments}")
