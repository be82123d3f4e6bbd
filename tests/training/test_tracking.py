"""What MLflow holds of a run, as its own client reads it."""

from pathlib import Path

import pytest

from survey.reports import train as report
from survey.training.settings import Tracking
from survey.training.tracking import Tracker, flatten
from tests.training import lessons

mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]  # warnings of MLflow itself


def test_a_run_is_tracked_with_settings_metrics_and_plots(tmp_path: Path) -> None:
    lessons.store(tmp_path / "store")
    changes = {"epochs": 2, "tracking": {"use": "always", "experiment": "toys"}}
    settings = lessons.training(tmp_path, **changes)
    lessons.train(tmp_path, **changes)
    report.pictures(settings)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
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


def test_nested_settings_become_names_with_dots() -> None:
    assert dict(flatten({"a": 1, "b": {"c": [1, 2], "d": {}}})) == {"a": "1", "b.c": "[1, 2]", "b.d": "{}"}
