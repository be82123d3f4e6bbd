"""Ray Tune as a place of work: it puts trainings where there is room, one beside the other, and starts those again whose process has died.

It decides nothing. What is tried, stopped, finished or failed is said by `survey.search`, which has written it down before; so nothing hangs on
Ray's own state of an experiment (pickled, in a folder that is thrown away). Ray's `OptunaSearch` (2.60) would decide, and forget: it tells a training
that was stopped early as complete, with its last value; it keeps no reason of a failure; it asks for new trials where a killed driver has left some;
it prunes nothing itself. A trial of Tune costs a tenth of a second beside its training, processes being used again (`benchmarks/search.py`).
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import FailureConfig, RunConfig, TuneConfig
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from survey import machine
from survey.cluster import stream
from survey.search.schedule import Search, here
from survey.search.settings import Tune
from survey.search.trial import Row, work
from survey.settings import SettingsError
from survey.training.train import Train

ROW, TOLD = "row", "told"
"""What a training reports to Tune: the numbers of an epoch, or its end; as JSON, for Tune takes nested numbers apart."""
SET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard of what the study knows
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job, not only the trainings
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # nothing hangs on Tune's own state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def place(settings: Tune) -> Callable[[Search], None]:
    """Who does the work: this process where there is one worker, else Ray."""

    def run(search: Search) -> None:
        if settings.workers == 1:
            here(search)
        else:
            _tuned(settings, search)

    return run


def _tuned(settings: Tune, search: Search) -> None:
    stream.connect()
    room = _room(settings)
    os.environ.update({name: value for name, value in SET.items() if name not in os.environ})
    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # a process that dies is started again, or its trial is told as failed
    while not search.over and (broken := _broken(settings, search, room)):
        search.lost(settings.failures, broken)


def _broken(settings: Tune, search: Search, room: dict[str, float]) -> str:
    """Have Tune do all that there is to do. Where Ray kills for want of memory it ends in an error of its own (2.60), and its actors with it: why."""
    bridge = Bridge(search, settings.workers)
    with tempfile.TemporaryDirectory(prefix="survey-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(_work, room),
            tune_config=TuneConfig(
                search_alg=bridge, num_samples=-1, reuse_actors=True, metric=None, mode=None
            ),
            run_config=RunConfig(
                storage_path=folder,
                stop=Ear(bridge),
                failure_config=FailureConfig(max_failures=settings.failures),
                verbose=0,
                callbacks=[],
            ),
        )
        try:
            tuner.fit()
        except RuntimeError as error:
            if not isinstance(error.__cause__, RayError):
                raise
            return f"Ray has ended its process ({' '.join(str(error.__cause__).split())[:300]}); give fewer workers, or a smaller network or batch"
    return ""


def _room(settings: Tune) -> dict[str, float]:
    """The CPUs and GPUs of a training; the cluster must have them."""
    there = ray.cluster_resources()
    gpus = there.get("GPU", 0.0)
    gpu = (1.0 if gpus else 0.0) if settings.gpu is None else settings.gpu
    cpu = float(settings.threads or 1)
    if gpu > gpus:
        raise SettingsError(f"tune: gpu={gpu:g}: Ray has {gpus:g} GPUs; give a smaller share, or 0")
    widest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if cpu > widest:
        raise SettingsError(
            f"tune: threads={cpu:g}: the largest machine of Ray has {widest:g} CPUs; give fewer threads"
        )
    return {"CPU": cpu} | ({"GPU": gpu} if gpu else {})


class Bridge(Searcher):  # type: ignore[misc]
    """A search as Tune sees it: orders as suggestions, trials by the ids that Tune gives them."""

    def __init__(self, search: Search, most: int | None) -> None:
        super().__init__()
        self.search, self.most = search, most
        self.keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next order, as a configuration."""
        if self.search.over:
            return str(Searcher.FINISHED)
        if (self.most and len(self.keys) >= self.most) or (order := self.search.next()) is None:
            return None
        self.keys[trial_id] = order.key
        return {"settings": order.settings.model_dump_json(), "home": str(Path.cwd())}

    def heard(self, trial_id: str, row: Row) -> bool:
        """An epoch of a training; whether it is to be stopped."""
        if trial_id not in self.keys:
            return True
        stop = self.search.heard(self.keys[trial_id], row)
        if stop:
            del self.keys[trial_id]
        return stop

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A training is over; one that was stopped has been told already."""
        key = self.keys.pop(trial_id, None)
        if key is None:
            return
        told = (result or {}).get(TOLD)
        lost = "its processes died one after the other, likely for want of memory; give fewer workers, or a smaller network or batch"
        self.search.ended(key, json.loads(told) if told and not error else {"failed": lost})

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is to be kept is in the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on by itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_nothing, ())


class Ear(Stopper):  # type: ignore[misc]
    """Hears each report of a training first, and says whether it is to be stopped."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return TOLD not in result and self.bridge.heard(trial_id, json.loads(result[ROW]))

    def stop_all(self) -> bool:
        """When something is wrong with all of it."""
        return bool(self.bridge.search.trouble)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_nothing, ())


def _nothing() -> None:
    """What Tune's own files know of a search."""


def _work(config: dict[str, Any]) -> None:
    """One training on a worker."""
    if Path(config["home"]).is_dir():
        os.chdir(config["home"])
    settings = Train.model_validate_json(config["settings"])
    threads = settings.threads or 1
    side_by_side = max(machine.cpus() // threads, 1)
    room = settings.resident_gb or 0.5 * psutil.virtual_memory().available / side_by_side / 1e9
    settings = settings.model_copy(update={"threads": threads, "resident_gb": room})
    tune.report({TOLD: json.dumps(work(settings, lambda row: tune.report({ROW: json.dumps(dict(row))})))})
