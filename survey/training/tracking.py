"""How a training is reported: on the screen, to MLflow, and to a search.

Without a server, MLflow's numbers go to a sqlite file beside the run. A run that is continued continues its
MLflow run. The credentials of a server come from the environment only (MLFLOW_TRACKING_USERNAME,
MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN).

No training waits for a server that does not answer, or fails because of it. The run folder has all numbers,
so they are sent later: at the end of the training, or when the same command is run again.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from survey import __version__, files
from survey.messages import shorten, without_secrets
from survey.training.epochs import StoppedError
from survey.training.tracking_settings import Tracking

_log = logging.getLogger(__name__)

TRACKED = "tracking.json"
"""The file of a run that names its MLflow run, and says whether all is sent."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}
"""What is set for MLflow, where the user has not: it would wait for 4 minutes (3.17) for one answer."""
CONNECT_S = 5.0
"""Seconds in which a database has to accept a connection; MLflow itself would try for 100 s."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
RETRY_S = 30.0
"""At the end, a server is asked again if it has not answered for so long."""
MOST_METRICS = 1000
"""Numbers that MLflow takes in one request."""
SHOWN = ("train_loss", "validation_loss", "validation_accuracy", "validation_f1_CEMP", "train_align")
"""Numbers of an epoch on the screen, besides the monitored one."""

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
"""MLflow's answers about a run that was removed, perhaps with its database."""
ALWAYS = "seconds"
"""A number that every epoch has."""
OTHER_ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

History = Callable[[], Iterable[Mapping[str, float]]]
"""Gives the numbers of all epochs of a run so far."""
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


def is_unsent(run: str) -> bool:
    """Whether a run has numbers that its MLflow server did not get."""
    return not _read(files.join(run, TRACKED)).get("sent", True)


def _read(path: str) -> dict[str, Any]:
    """The content of ``tracking.json``; empty if it is not there or of somebody else."""
    with suppress(ValueError):
        content = files.read_json(path) if files.exists(path) else {}
        return content if isinstance(content, dict) else {}
    return {}


def _check_database(uri: str) -> None:
    """An error if a file is no database, or if the server of one accepts no connection."""
    address = urlsplit(uri)
    file = Path(uri.removeprefix("sqlite:///"))
    if address.scheme == "sqlite" and file.is_file() and file.stat().st_size:
        with file.open("rb") as stream:
            if not stream.read(16).startswith(b"SQLite format 3"):
                raise ValueError(f"{file}: no database of SQLite; remove it, or give another tracking.uri")
    kind = address.scheme.partition("+")[0]
    if kind in PORTS and address.hostname:
        place = (address.hostname, address.port or PORTS[kind])
        socket.create_connection(place, timeout=CONNECT_S).close()


class Tracker:
    """One MLflow run; does nothing if it is not active."""

    def __init__(
        self,
        tracking: Tracking,
        run: str,
        params: Mapping[str, Any],
        is_active: bool = True,
        tags: Mapping[str, str] | None = None,
        history: History | None = None,
    ) -> None:
        self.tracking, self.run, self.params, self.history = tracking, run, params, history
        self.tags = dict(tags or {})
        self.uri = tracking_uri(tracking, run)
        self.client: Any = None
        self.id = ""
        self.trouble, self.trouble_since = False, 0.0
        self.is_active = is_active and tracking.is_on
        self.unsent_files: list[str] = []

    def __enter__(self) -> Self:
        if self.is_active:
            with self._may_fail():
                self._open()
        return self

    def epoch(self, row: Mapping[str, float]) -> None:
        """Log the numbers of an epoch."""
        with self._may_fail():
            self._send([row])

    def keep(self, paths: list[str]) -> None:
        """Log files of the run as artifacts, if they are on this machine."""
        self.unsent_files += [path for path in paths if not files.is_remote(path)]
        with self._may_fail():
            self._send_files()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_active:
            return
        may_be_back = self.trouble and time.monotonic() - self.trouble_since >= RETRY_S
        if may_be_back and kind is None:
            with self._may_fail():
                self._open()
                self._send_files()
        with self._may_fail():
            if self.client is not None:
                self.client.set_terminated(self.id, _status(kind))
        self._note_end()

    def _note_end(self) -> None:
        """Write down whether all is sent, and say it if not; without a history there is nothing to send."""
        path, is_sent = files.join(self.run, TRACKED), self.client is not None
        written = _read(path)
        if not (is_sent and written.get("sent", True)):
            files.write_json(path, written | {"address": self.uri, "id": self.id, "sent": is_sent})
        if not is_sent and self.history:
            _log.warning(
                "tracking: not all was sent to %s; %s has the numbers; run the same command again to send it",
                self.uri,
                self.run,
            )

    def _send(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Log the numbers of some epochs."""
        if self.client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, int(row["epoch"]))
            for row in rows
            for name, value in row.items()
            if name != "epoch" and value is not None and math.isfinite(value)
        ]
        for first in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.id, metrics=metrics[first : first + MOST_METRICS])

    def _send_missing(self) -> None:
        """Log the epochs of the run that the MLflow run does not have."""
        if self.history is None:
            return
        sent = {point.step for point in self.client.get_metric_history(self.id, ALWAYS)}
        self._send([row for row in self.history() if int(row["epoch"]) not in sent])

    def _send_files(self) -> None:
        while self.client is not None and self.unsent_files:
            self.client.log_artifact(self.id, self.unsent_files[0])
            del self.unsent_files[0]

    def _open(self) -> None:
        """Create an MLflow run, or open the one that this run already has; send what it does not have."""
        _check_database(self.uri)
        for name, value in (OTHER_ENVIRONMENT | PATIENCE).items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # after the import, which sets its own levels
            logging.getLogger(name).setLevel(logging.ERROR)
        self.client = MlflowClient(tracking_uri=self.uri)
        self.id = self._known_run() or self._new_run()
        self._send_missing()
        self.trouble = False

    def _known_run(self) -> str:
        """The MLflow run that this run already has; empty if there is none, or not any more."""
        from mlflow.exceptions import MlflowException

        written = _read(files.join(self.run, TRACKED))
        known = str(written.get("id", "")) if written.get("address") == self.uri else ""
        if not known:
            return ""
        try:
            self.client.update_run(known, status="RUNNING")
        except MlflowException as error:
            if error.error_code in GONE:
                return ""
            raise
        return known

    def _new_run(self) -> str:
        """The id of a new MLflow run with the settings of this run."""
        tags = {"mlflow.runName": Path(self.run).name, "survey.version": __version__, **self.tags}
        if self.tracking.recipe:
            tags["survey.recipe"] = self.tracking.recipe
        if self.tracking.parent:
            tags["mlflow.parentRunId"] = self.tracking.parent
        created = str(self.client.create_run(self._experiment_id(), tags=tags).info.run_id)
        for name, value in flatten(self.params):
            self.client.log_param(created, name, value)
        files.write_json(files.join(self.run, TRACKED), {"address": self.uri, "id": created})
        return created

    @contextmanager
    def _may_fail(self) -> Iterator[None]:
        """If the server goes away, the tracking pauses and the training goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of MLflow or a database: no training depends on them
            if not self.trouble:
                text = shorten(without_secrets(" ".join(str(error).split())), 200)
                _log.warning("tracking: %s does not answer, the work goes on (%s)", self.uri, text)
            self.client, self.trouble = None, True
            self.trouble_since = time.monotonic()

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
