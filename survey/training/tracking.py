"""Numbers of a run for MLflow, beside the run's own folder: settings, metrics per epoch, plots, the run itself.

Without a server they go to a sqlite file beside the run. A run that goes on continues its MLflow run. Credentials of a server come from the
environment only (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN).
"""

import importlib.util
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from survey import files
from survey.settings import Settings, SettingsError
from survey.training.loop import StoppedError

TRACKED = "tracking.json"


class Tracking(Settings):
    """Where the numbers of a run go."""

    use: Literal["auto", "always", "never"] = Field(
        "auto", description="track in MLflow; auto = if it is installed (pip install 'survey[tracking]')"
    )
    uri: str | None = Field(
        None,
        description="MLflow server or database, such as http://host:5000; null = mlflow.db beside the run",
    )
    experiment: str = Field("survey", description="experiment that the run belongs to")
    parent: str | None = Field(None, description="MLflow run that this one is a child of, as in a sweep")

    @field_validator("uri")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        if value and urlsplit(value).password:
            raise ValueError(
                "holds a password; give it in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        return value

    def wanted(self) -> bool:
        """Whether to track."""
        there = importlib.util.find_spec("mlflow") is not None
        if self.use == "always" and not there:
            raise SettingsError(
                "train: tracking.use=always: MLflow is not installed; pip install 'survey[tracking]', or give tracking.use=auto"
            )
        return there and self.use != "never"

    def address(self, run: str) -> str:
        """The server or database of a run."""
        if self.uri:
            return self.uri
        folder = Path.cwd() if files.is_remote(run) else Path(run).absolute().parent
        return f"sqlite:///{folder / 'mlflow.db'}"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as MLflow wants them: names with dots, values as text."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)[:500]


class Tracker:
    """One MLflow run; does nothing where nothing is wanted."""

    def __init__(self, tracking: Tracking, run: str, params: Mapping[str, Any], active: bool = True) -> None:
        self.tracking, self.run, self.params = tracking, run, params
        self.client: Any = None
        self.id = ""
        self.active = active and tracking.wanted()

    def __enter__(self) -> Self:
        if self.active:
            self._open()
        return self

    def epoch(self, row: Mapping[str, float]) -> None:
        """The numbers of an epoch."""
        if self.client is None:
            return
        from mlflow.entities import Metric

        now, step = _now(), int(row["epoch"])
        found = [
            Metric(name, float(value), now, step)
            for name, value in row.items()
            if name != "epoch" and math.isfinite(value)
        ]
        with self._forgiving():
            self.client.log_batch(self.id, metrics=found)

    def keep(self, paths: list[str]) -> None:
        """Files of the run as artifacts; only those on this machine."""
        for path in paths:
            if self.client is not None and not files.is_remote(path):
                with self._forgiving():
                    self.client.log_artifact(self.id, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client is not None:
            with self._forgiving():
                self.client.set_terminated(self.id, _ending(kind))

    def _open(self) -> None:
        """A new MLflow run, or the one that this run already has."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # after the import, which sets levels of its own
            logging.getLogger(name).setLevel(logging.ERROR)
        address, noted = self.tracking.address(self.run), files.join(self.run, TRACKED)
        self.client = MlflowClient(tracking_uri=address)
        if (
            files.exists(noted)
            and (found := files.read_json(noted))["address"] == address
            and self._there(found["id"])
        ):
            self.id = found["id"]
            return
        tags = {"mlflow.runName": Path(self.run).name} | (
            {"mlflow.parentRunId": self.tracking.parent} if self.tracking.parent else {}
        )
        self.id = self.client.create_run(self._experiment(), tags=tags).info.run_id
        for name, value in flat(self.params):
            self.client.log_param(self.id, name, value)
        files.write_json(noted, {"address": address, "id": self.id})

    def _there(self, run: str) -> bool:
        """Whether MLflow still knows the run, which goes on now."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(run, status="RUNNING")
        except MlflowException:  # its database was removed
            return False
        return True

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        """A server that goes away in the middle costs the tracking, not the training."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            logging.getLogger(__name__).warning("tracking ends here, the training goes on: %s", error)
            self.client = None

    def _artifacts(self) -> str | None:
        """Where files go: beside a database of our own, as a server says where there is one."""
        address = self.tracking.address(self.run)
        if not address.startswith("sqlite:///"):
            return None
        return (Path(address.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()

    def _experiment(self) -> str:
        """The experiment's id; it is made if there is none of this name."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.tracking.experiment)
        if found is None:
            try:
                return str(
                    self.client.create_experiment(
                        self.tracking.experiment, artifact_location=self._artifacts()
                    )
                )
            except MlflowException:  # another run has made it in this moment
                found = self.client.get_experiment_by_name(self.tracking.experiment)
        return str(found.experiment_id)


def _ending(kind: type[BaseException] | None) -> str:
    """What MLflow calls an end: one that somebody wanted is no failure."""
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit | StoppedError) else "FAILED"


def _now() -> int:
    import time

    return int(time.time() * 1000)
