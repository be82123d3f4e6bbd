"""Ensemble, store and predictions in buckets, and survey files from a bucket; the driver is killed.

SURVEY_KILLS=20 is the long form.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from survey import files
from survey.predict.output import open_predictions
from survey.predict.predict import PredictResult, predict
from survey.predict.settings import Predict
from survey.store.store import open_store
from tests import survey_files
from tests.ensemble import untrained
from tests.processes import Workplace
from tests.s3.conftest import SECRET, Server, put

KILLS = int(os.environ.get("SURVEY_KILLS", "1"))
pytestmark = [pytest.mark.s3, pytest.mark.timeout(1800 + 120 * KILLS)]

SHARDS, SIZE = (8, 25) if KILLS > 1 else (4, 8)
BUCKET = "s3://sky/predict"


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def origin(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, their store, an ensemble and its predictions.

    All but the predictions are in the bucket too.
    """
    folder = tmp_path_factory.mktemp("predict")
    base = list(survey_files.named(range(25)).items())
    (folder / "files").mkdir()
    for number in range(SHARDS * SIZE):
        name, data = base[number % len(base)]
        (folder / "files" / f"{number:04d}-{name}").write_bytes(data)
    untrained.three(folder / "ensemble", untrained.store(folder, range(0), shard=SIZE), passes=2)
    put(BUCKET, contents(folder))
    predicted(folder, ensemble="ensemble", store="store", predictions="local")
    return folder


def predicted(folder: Path | str, **names: str) -> PredictResult:
    """Predictions in a folder or a bucket, from these names inside."""
    values: dict[str, Any] = {key: files.join(str(folder), name) for key, name in names.items()}
    values |= {"ingest": {"shard": SIZE}, "threads": 1, "batch": 16}
    return predict(Predict.from_dict("predict", values))


def tables(predictions: str) -> dict[str, bytes]:
    """The bytes of the tables by name."""
    paths = [entry.path for entry in files.walk(files.join(predictions, "predictions"))]
    return {path.rpartition("/")[2]: files.read(path) for path in paths}


def test_a_bucket_gives_the_same_predictions_as_a_folder(origin: Path) -> None:
    names = {"ensemble": "ensemble", "store": "store", "predictions": "remote"}
    result = predicted(BUCKET, **names)
    assert result.path == f"{BUCKET}/remote"
    assert tables(result.path) == tables(str(origin / "local"))
    assert predicted(BUCKET, **names).created == 0
    assert open_predictions(result.path).document.rows == SHARDS * SIZE


def test_files_of_a_bucket_give_the_same_answers_as_their_store(origin: Path) -> None:
    result = predicted(BUCKET, ensemble="ensemble", input="files", predictions="fresh")
    from_files, from_store = (
        list(open_predictions(path).tables()) for path in (result.path, str(origin / "local"))
    )
    for fresh, stored in zip(from_files, from_store, strict=True):
        assert np.array_equal(fresh["FeH"].to_numpy(), stored["FeH"].to_numpy())
        assert fresh["obsid"].equals(stored["obsid"])


def test_arrays_may_be_in_a_bucket(origin: Path) -> None:
    values = {
        "ensemble": str(origin / "ensemble"),
        "store": f"{BUCKET}/store",
        "predictions": f"{BUCKET}/arrays",
        "arrays": True,
        "batch": 16,
    }
    predict(Predict.from_dict("predict", values))
    ids = pq.read_table(files.bucket_system().open(f"{BUCKET}/arrays/arrays/ids.parquet"))
    assert ids.num_rows == SHARDS * SIZE
    assert files.exists(f"{BUCKET}/arrays/arrays/labels.npy")


def markers(predictions: str) -> int:
    return len(files.names(files.join(predictions, "markers")))


def at_least(predictions: str, count: int) -> Callable[[], bool]:
    return lambda: markers(predictions) >= count


@pytest.mark.kill
@pytest.mark.cluster
@pytest.mark.long
def test_a_driver_may_be_killed_while_its_predictions_are_in_a_bucket(origin: Path, place: Workplace) -> None:
    chance = random.Random(5)
    moments = []
    untrained.three(origin / "slow", open_store(str(origin / "store")), passes=80)
    put(BUCKET + "/slow", contents(origin / "slow"))
    wanted = tables(predicted(origin, ensemble="slow", store="store", predictions="undisturbed").path)
    for number in range(KILLS):
        predictions = f"{BUCKET}/kill-{number}"
        given = [
            f"ensemble={BUCKET}/slow",
            f"store={BUCKET}/store",
            f"predictions={predictions}",
            "batch=16",
            "threads=1",
            "workers=2",
            "gpu=never",
        ]
        killed = place.python("jobs/predict.py", *given)
        assert killed.until(at_least(predictions, chance.randint(1, SHARDS - 3))), killed.err
        time.sleep(chance.uniform(0, 0.2))
        killed.kill()
        moments.append(markers(predictions))
        last = place.python("jobs/predict.py", *given)
        assert last.wait() == 0, last.err
        assert tables(predictions) == wanted
        assert open_predictions(predictions).document.rows == SHARDS * SIZE
        written = [files.read(entry.path) for entry in files.walk(predictions)]
        assert not any(SECRET.encode() in data for data in written)
    print(f"{KILLS} kills of the driver at so many shards: {moments}")
