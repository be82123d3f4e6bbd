"""Two processes of other settings in one folder: one of them works, the other ends with the reason."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.catalog.catalog import make_catalog
from survey.catalog.settings import CatalogSettings
from survey.claim import CLAIM
from survey.cluster.work import fit
from survey.ensemble.build import build
from survey.ensemble.settings import Build
from survey.predict.predict import predict
from survey.search.settings import Tune
from survey.search.tune import tune
from survey.settings import JobError
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store
from survey.training.settings import Train
from tests import survey_files
from tests.catalog import skies
from tests.ensemble import untrained
from tests.forks import INGEST, job_server
from tests.predict import small_predictions
from tests.processes import Job, Workplace, new_workplace
from tests.training import lessons


def run_ingest(place: Path, folder: str) -> Any:
    survey_files.write(place / "files", range(4))
    return ingest(Ingest.from_dict("ingest", {"input": str(place / "files"), "store": folder}))


def run_predict(place: Path, folder: str) -> Any:
    untrained.three(place / "ensemble", untrained.store(place, range(4)))
    return predict(small_predictions.settings(place, predictions=folder))


def run_train(place: Path, folder: str) -> Any:
    lessons.store(place / "store", 60)
    return fit(Train.from_dict("train", lessons.training(place).plain() | {"run": folder}))


def run_ensemble(place: Path, folder: str) -> Any:
    run = untrained.run(place / "run", untrained.store(place, range(4)))
    return build(Build.from_dict("ensemble", {"runs": [str(run)], "ensemble": folder}))


def run_catalog(place: Path, folder: str) -> Any:
    skies.write(place / "predictions", skies.rows(np.ones(1), np.ones(1), ["J1"], 0))
    values = {"predictions": str(place / "predictions"), "catalog": folder}
    return make_catalog(CatalogSettings.from_dict("catalog", values))


def run_tune(place: Path, folder: str) -> Any:
    lessons.store(place / "store", 60)
    train = lessons.training(place).plain()
    space = place / "space.yaml"
    space.write_text("space: {optimiser.lr: {choices: [0.001]}}")
    values = {name: train[name] for name in ("store", "labels")} | {"train": train, "space": str(space)}
    return tune(Tune.from_dict("tune", values | {"study": folder, "trials": 1}))


@pytest.mark.parametrize("job", [run_ingest, run_predict, run_train, run_ensemble, run_catalog, run_tune])
def test_a_job_ends_at_once_if_another_works_in_its_folder(
    tmp_path: Path, job: Callable[[Path, str], Any]
) -> None:
    folder = tmp_path / "result"
    folder.mkdir()
    other = {"job": "mock", "process": 7, "host": "far", "machine": "far", "started": "1", "folder": "/far"}
    (folder / CLAIM).write_text(json.dumps(other | {"since": "now", "settings": "", "token": "t"}))
    with pytest.raises(JobError, match=r"result: process 7 on far has been working in it since now"):
        job(tmp_path, str(folder))
    assert [path.name for path in folder.iterdir()] == [CLAIM], "nothing was written"


@pytest.fixture
def place() -> Any:
    with new_workplace() as workplace:
        yield workplace


@pytest.mark.long
@pytest.mark.kill
def test_of_two_drivers_of_other_settings_one_makes_the_store(place: Workplace) -> None:
    survey_files.write(place.folder / "files", range(24))
    store = str(place.folder / "store")

    def start(continuum: str) -> Job:
        values = (f"input={place.folder / 'files'}", f"store={store}", "shard=4", "workers=1")
        return place.python("jobs/ingest.py", *values, f"prepare.continuum={continuum}")

    jobs = {name: start(name) for name in ("spline", "msfl")}
    codes = {name: job.wait() for name, job in jobs.items()}
    assert sorted(codes.values()) == [0, 1], {name: job.err for name, job in jobs.items()}
    winner = next(name for name, code in codes.items() if code == 0)
    loser = jobs["msfl" if winner == "spline" else "spline"]
    assert "has been working in it" in loser.err or "was made with other settings" in loser.err
    assert open_store(store).prepare.continuum == winner
    values = {"input": str(place.folder / "files"), "store": store, "shard": 4}
    again = ingest(Ingest.from_dict("ingest", values | {"prepare": {"continuum": winner}}))
    assert again.created == 0


def tables_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.rglob("*.parquet")}


def test_a_second_driver_of_equal_settings_may_come_in_between(tmp_path: Path) -> None:
    """It makes what is missing; the first one goes on, and the store is that of one driver."""
    survey_files.write(tmp_path / "files", range(6))

    def settings(name: str) -> Ingest:
        values = {"input": str(tmp_path / "files"), "store": str(tmp_path / name), "shard": 2}
        return Ingest.from_dict("ingest", values)

    made = []

    def interrupted(function: Callable[[int], Any], shards: Iterable[int]) -> Iterator[Any]:
        for number, shard in enumerate(shards):
            if number == 1:
                made.append(ingest(settings("both")).created)
            yield function(shard)

    ingest(settings("both"), interrupted)
    ingest(settings("one"))
    assert made == [2]
    assert tables_of(tmp_path / "both") == tables_of(tmp_path / "one")
    assert ingest(settings("both")).created == 0


@pytest.mark.long
@pytest.mark.kill
def test_two_drivers_of_equal_settings_make_one_store(place: Workplace) -> None:
    survey_files.write(place.folder / "files", range(12))
    values = (f"input={place.folder / 'files'}", "shard=2", "workers=1", "preview=0")
    store = f"store={place.folder / 'both'}"
    with job_server(*INGEST) as forks:
        jobs = [forks.python(place, "jobs/ingest.py", *values, store) for _ in range(2)]
        assert [job.wait() for job in jobs] == [0, 0], [job.err for job in jobs]
    alone = {"input": str(place.folder / "files"), "store": str(place.folder / "one"), "shard": 2}
    ingest(Ingest.from_dict("ingest", alone))
    assert tables_of(place.folder / "both") == tables_of(place.folder / "one")
