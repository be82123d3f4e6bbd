"""How a training is reported: on the screen, to MLflow, and to a search.

Without a server, MLflow's numbers go to a sqlite file beside the run. A run that is continued continues its
MLflow run. The credentials of a server come from the environment only (MLFLOW_TRACKING_USERNAME,
MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN).
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from survey import __version__, files
from survey.training.epochs import StoppedError
from survey.training.settings import Tracking

TRACKED = "tracking.json"
"""The file of a run that names its MLflow run."""
SHOWN = ("train_loss", "validation_loss", "validation_accuracy", "validation_f1_CEMP")
"""Numbers of an epoch on the screen, besides the monitored one."""

Watch = Callable[[dict[str, float]], None]
"""Gets the numbers of each epoch; it may end the training by StoppedError."""


def tracking_uri(tracking: Tracking, run: str) -> str:
    """The MLflow server or database of a run."""
    if tracking.uri:
        return tracking.uri
    folder = Path.cwd() if files.is_remote(run) else Path(run).absolute().parent
    return f"sqlite:///{folder / 'mlflow.db'}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as MLflow stores them: names with dots, values as text of at most 500 letters."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)[:500]


class Tracker:
    """One MLflow run; does nothing if it is not active."""

    def __init__(
        self,
        tracking: Tracking,
        run: str,
        params: Mapping[str, Any],
        is_active: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.tracking, self.run, self.params = tracking, run, params
        self.tags = dict(tags or {})
        self.uri = tracking_uri(tracking, run)
        self.client: Any = None
        self.id = ""
        self.is_active = is_active and tracking.is_on

    def __enter__(self) -> Self:
        if self.is_active:
            self._open()
        return self

    def epoch(self, row: Mapping[str, float]) -> None:
        """Log the numbers of an epoch."""
        if self.client is None:
            return
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(row["epoch"])
        metrics = [
            Metric(name, float(value), now, step)
            for name, value in row.items()
            if name != "epoch" and math.isfinite(value)
        ]
        with self._may_fail():
            self.client.log_batch(self.id, metrics=metrics)

    def keep(self, paths: list[str]) -> None:
        """Log files of the run as artifacts, if they are on this machine."""
        for path in paths:
            if self.client is not None and not files.is_remote(path):
                with self._may_fail():
                    self.client.log_artifact(self.id, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client is not None:
            with self._may_fail():
                self.client.set_terminated(self.id, _status(kind))

    def _open(self) -> None:
        """Create an MLflow run, or open the one that this run already has."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # after the import, which sets its own levels
            logging.getLogger(name).setLevel(logging.ERROR)
        self.client = MlflowClient(tracking_uri=self.uri)
        path = files.join(self.run, TRACKED)
        written = files.read_json(path) if files.exists(path) else None
        if written and written["address"] == self.uri and self._restart(written["id"]):
            self.id = written["id"]
            return
        tags = {"mlflow.runName": Path(self.run).name, "survey.version": __version__, **self.tags}
        if self.tracking.recipe:
            tags["survey.recipe"] = self.tracking.recipe
        if self.tracking.parent:
            tags["mlflow.parentRunId"] = self.tracking.parent
        self.id = self.client.create_run(self._experiment_id(), tags=tags).info.run_id
        for name, value in flatten(self.params):
            self.client.log_param(self.id, name, value)
        files.write_json(path, {"address": self.uri, "id": self.id})

    def _restart(self, run_id: str) -> bool:
        """Mark an MLflow run as running; false if it is not there any more."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException:  # its database was removed
            return False
        return True

    @contextmanager
    def _may_fail(self) -> Iterator[None]:
        """If the server goes away, the tracking ends and the training goes on."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            logging.getLogger(__name__).warning("tracking ends here, the training goes on: %s", error)
            self.client = None

    def _artifact_location(self) -> str | None:
        """The folder of files: beside our own database; a server has its own."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return (Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()

    def _experiment_id(self) -> str:
        """The id of the experiment, which is created if it is not there."""
        from mlflow.exceptions import MlflowException

        name = self.tracking.experiment
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                location = self._artifact_location()
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:  # another run has created it just now
                experiment = self.client.get_experiment_by_name(name)
        return str(experiment.experiment_id)


def _status(kind: type[BaseException] | None) -> str:
    """MLflow's word for an end; a training that was stopped on purpose has not failed."""
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit | StoppedError) else "FAILED"


@dataclass
class Reporter:
    """Reports a training to a progress bar, to the tracker and to a search (`watch`)."""

    bar: Any
    tracker: Tracker
    monitor: str
    watch: Watch | None = None
    note: str = ""
    where: str = ""

    def advance(self, count: int, where: str) -> None:
        """Report that so many more spectra are done."""
        self.where = where
        if self.bar:
            self.bar.add(count, f"{where}{self.note}")

    def epoch(self, row: dict[str, float]) -> None:
        """Report the numbers of an epoch."""
        names = dict.fromkeys((*SHOWN[:2], f"validation_{self.monitor}", *SHOWN[2:]))
        shown = [f"{name.removeprefix('validation_')} {row[name]:.4g}" for name in names if name in row]
        self.note = "".join(f", {text}" for text in shown)
        if self.bar:
            self.bar.add(0, f"{self.where}{self.note}")
        self.tracker.epoch(row)
        if self.watch:
            self.watch(row)
