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
from survey.training import tracking as tracking_module
from survey.training.tracking import PATIENCE, Tracker, flatten, is_unsent
from survey.training.tracking_settings import Tracking
from tests.training import lessons

pytestmark = [
    pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow"),
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # warnings of MLflow itself
]


def load() -> ModuleType:
    """MLflow, loaded by the process that runs these tests: the others need not take seconds for it."""
    return importlib.import_module("mlflow")


def test_a_run_is_tracked_with_settings_metrics_and_plots(tmp_path: Path) -> None:
    lessons.store(tmp_path / "store")
    changes = {"epochs": 2, "tracking": {"use": "always", "experiment": "toys"}}
    settings = lessons.training(tmp_path, **changes)
    lessons.train(tmp_path, **changes)
    report.pictures(settings)
    client = load().MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toys")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.lr"] == "0.003"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "validation_loss")] == [1, 2]
    assert "lr" in run.data.metrics
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"curves.png", "model.txt", "model.safetensors", "run.json"}
    assert list((tmp_path / "mlartifacts").rglob("curves.png"))
    with Tracker(settings.tracking, settings.run, {}) as again:
        assert again.id == run.info.run_id
    child = Tracking(use="always", parent=run.info.run_id)
    with Tracker(child, str(tmp_path / "child"), {"a": 1}) as tracker:
        tracker.epoch({"epoch": 1, "loss": 0.5, "undefined": float("nan")})
    tracked = client.get_run(tracker.id)
    assert tracked.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert tracked.data.metrics == {"loss": 0.5}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without runs, which takes seconds to make."""
    path = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    load().MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def place(empty: Path, tmp_path: Path) -> Path:
    """A folder for a run, with that database."""
    shutil.copy(empty, tmp_path)
    return tmp_path


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
