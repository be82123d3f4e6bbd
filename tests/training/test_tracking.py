"""What MLflow holds of a run, as its own client reads it."""

import importlib
import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from survey.reports import train as report
from survey.search import tune
from survey.training import tracking as tracking_module
from survey.training.tracking import PATIENCE, Tracker, flatten, is_unsent
from survey.training.tracking_settings import Tracking
from tests.search import sweeps
from tests.training import lessons

pytestmark = [
    pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow"),
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # warnings of MLflow itself
]


def load() -> ModuleType:
    """MLflow, loaded by the process that runs these tests: the others need not take seconds for it."""
    return importlib.import_module("mlflow")


CHANGES = {"epochs": 2, "tracking": {"use": "always", "experiment": "toys"}}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, a tracked run, and the database of MLflow, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("tracked")
    lessons.store(folder / "store")
    lessons.train(folder, **CHANGES)
    return folder


@pytest.fixture
def place(tracked: Path, tmp_path: Path) -> Path:
    """A folder for a run, with a copy of that database."""
    shutil.copy(tracked / "mlflow.db", tmp_path)
    return tmp_path


def test_a_run_is_tracked_with_settings_metrics_and_plots(tracked: Path) -> None:
    settings = lessons.training(tracked, **CHANGES)
    report.pictures(settings)
    client = load().MlflowClient(tracking_uri=f"sqlite:///{tracked / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toys")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.lr"] == "0.003"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "validation_loss")] == [1, 2]
    assert "lr" in run.data.metrics
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"curves.png", "model.txt", "model.safetensors", "run.json"}
    assert list((tracked / "mlartifacts").rglob("curves.png"))
    with Tracker(settings.tracking, settings.run, {}) as again:
        assert again.id == run.info.run_id
    tracking = Tracking(use="always", experiment="toys", parent=run.info.run_id)
    with Tracker(tracking, str(tracked / "child"), {"a": 1}) as child:
        child.epoch({"epoch": 1, "loss": 0.5, "undefined": float("nan")})
    below = client.get_run(child.id)
    assert below.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert below.data.metrics == {"loss": 0.5}


def test_a_study_is_a_run_with_its_trials_below_it(tracked: Path, place: Path) -> None:
    tracking, train = {"use": "always"}, sweeps.TRAIN | {"epochs": 1}
    outcome = tune.tune(sweeps.search_settings(tracked, place, trials=1, train=train, tracking=tracking))
    schedule = outcome.schedules[0]
    client = load().MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("survey").experiment_id])
    parent = next(run for run in found if run.info.run_name == schedule.study.name)
    child = next(run for run in found if run.info.run_name == "0")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.info.status == child.info.status == "FINISHED"
    assert child.data.metrics["validation_mae_FeH"] > 0
    with tune.tracker(schedule) as tracker:
        tracker.keep([str(place / "study" / "study.json")])
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["study.json"]
    assert (place / "mlartifacts").is_dir()  # beside the database, wherever the job was started


ROWS = [{"epoch": float(number), "seconds": 1.0, "loss": 1 / number} for number in (1, 2, 3)]


def sent_steps(tracker: Tracker, name: str = "loss") -> list[int]:
    client = load().MlflowClient(tracking_uri=tracker.uri)
    return sorted(point.step for point in client.get_metric_history(tracker.id, name))


def break_server(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From now on, MLflow's server does not answer."""

    def fail(*_: object, **__: object) -> None:
        raise load().exceptions.MlflowException("Connection refused")

    for name in ("log_batch", "update_run", "create_run", "get_experiment_by_name", "log_artifact"):
        monkeypatch.setattr(load().MlflowClient, name, fail)
    return monkeypatch


def test_what_a_server_missed_is_sent_at_the_end_if_it_is_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking_module, "RETRY_S", 0.0)
    done: list[dict[str, float]] = []
    tracking = Tracking(use="always")
    with pytest.MonkeyPatch.context() as patch:
        with Tracker(tracking, str(place / "run"), {"a": 1}, history=lambda: done) as tracker:
            for row in ROWS:
                if row["epoch"] == 2:
                    break_server(patch)
                done.append(row)
                tracker.epoch(row)
            patch.undo()
        assert sent_steps(tracker) == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records if "survey" in record.name] == [
        f"tracking: {tracker.uri} does not answer, the work goes on (Connection refused)"
    ]
    assert not is_unsent(str(place / "run"))


def test_what_a_server_missed_is_sent_when_the_run_is_continued(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, tracking = str(place / "run"), Tracking(use="always")
    with pytest.MonkeyPatch.context() as patch:
        break_server(patch)
        with Tracker(tracking, run, {"a": 1}, history=lambda: ROWS[:2]) as tracker:
            tracker.epoch(ROWS[0])
            tracker.keep([str(place / "a.png")])
    assert is_unsent(run)
    messages = [record.getMessage() for record in caplog.records if "survey" in record.name]
    assert len(messages) == 2
    assert messages[1] == (
        f"tracking: not all was sent to {tracker.uri}; {run} has the numbers; "
        "run the same command again to send it"
    )
    with Tracker(tracking, run, {"a": 1}, history=lambda: ROWS) as tracker:
        assert sent_steps(tracker) == [1, 2, 3]
    assert not is_unsent(run)


def test_a_server_that_accepts_and_never_answers_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        tracking = Tracking(use="always", uri=f"http://127.0.0.1:{server.getsockname()[1]}")
        with Tracker(tracking, str(tmp_path / "run"), {}) as tracker:
            tracker.epoch(ROWS[0])
    assert "does not answer, the work goes on" in caplog.text
    assert set(PATIENCE) <= set(os.environ)


@pytest.mark.parametrize("uri", ["sqlite:///{}/text.db", "postgresql://127.0.0.1:1/db", "nonsense://x"])
def test_a_place_that_is_no_server_stops_no_training(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.db").write_text("no database")
    tracking = Tracking(use="always", uri=uri.format(tmp_path))
    with Tracker(tracking, str(tmp_path / "run"), {}) as tracker:
        tracker.epoch(ROWS[0])
    assert "does not answer, the work goes on" in caplog.text


def test_nested_settings_become_names_with_dots() -> None:
    assert dict(flatten({"a": 1, "b": {"c": [1, 2], "d": {}}})) == {"a": "1", "b.c": "[1, 2]", "b.d": "{}"}
