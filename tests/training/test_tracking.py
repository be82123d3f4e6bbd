"""What MLflow holds of a run; its own client is the judge."""

from pathlib import Path

import pytest

from survey.reports import train
from survey.settings import SettingsError
from survey.training.tracking import Tracker, Tracking, flat
from survey.training.train import begin
from survey.training.worker import learn
from tests.training import lessons

mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install 'survey[tracking]'")
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]  # MLflow's own


def test_a_run_is_tracked_with_settings_metrics_and_plots(tmp_path: Path):
    lessons.store(tmp_path / "store")
    settings = lessons.training(tmp_path, epochs=2, tracking={"use": "always", "experiment": "toys"})
    begin(settings)
    learn(settings)
    train.pictures(settings)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toys")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.lr"] == "0.003"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "validation_loss")] == [1, 2]
    assert "lr" in run.data.metrics
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {
        "curves.png",
        "model.txt",
        "model.safetensors",
        "run.json",
    }
    assert list((tmp_path / "mlartifacts").rglob("curves.png"))
    with Tracker(settings.tracking, settings.run, {}) as again:
        assert again.id == run.info.run_id
    child = Tracking(use="always", parent=run.info.run_id)
    with Tracker(child, str(tmp_path / "child"), {"a": 1}) as tracker:
        tracker.epoch({"epoch": 1, "loss": 0.5, "undefined": float("nan")})
    found = client.get_run(tracker.id)
    assert found.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert found.data.metrics == {"loss": 0.5}


def test_a_password_in_an_address_is_refused():
    with pytest.raises(SettingsError, match="holds a password; give it in MLFLOW_TRACKING_USERNAME"):
        Tracking.checked("train", {"uri": "http://me:secret@host:5000"})


def test_nested_settings_become_names_with_dots():
    assert dict(flat({"a": 1, "b": {"c": [1, 2], "d": {}}})) == {"a": "1", "b.c": "[1, 2]", "b.d": "{}"}


def test_a_password_in_an_address_is_refused_without_being_repeated():
    with pytest.raises(SettingsError, match="holds a password") as caught:
        Tracking.checked("train: tracking", {"uri": "http://me:hush@host:5000"})
    assert "hush" not in str(caught.value)
    assert "http://me:***@host:5000" in str(caught.value)
