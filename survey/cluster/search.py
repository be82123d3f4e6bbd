"""A search on Ray Tune, which places trainings, limits how many run, stops them, and replaces dead processes.

What is tried, and which training stops early, is decided by `survey.search`, which has written it to the
study's storage before Tune hears of it. Tune calls it by two public interfaces: a `Searcher` for the next
training and its end, and a `Stopper` for each epoch. Tune's own `OptunaSearch` and `Tuner.restore` (Ray 2.60)
cannot do this, for four reasons:

- OptunaSearch reports a training that was stopped early to Optuna as complete, with its last value. It
  records no reason for a failed one. Optuna's pruners are not asked, so halving could not go on from the
  storage after a restart.
- OptunaSearch has one sampler for the whole search, which begins again with its seed after a restart. Then
  other values are tried than in a search that was not stopped.
- Tune saves the state of an experiment now and then, as a pickle. After a SIGKILL, trials that finished
  since then are trained again. A study should also be readable by another version of Python or Ray.
- After the trials come trainings with other seeds, and the winner once more, while trials of another
  element still run. Tune has one search algorithm for each experiment.

A trial of Tune costs a tenth of a second besides its training, because processes are used again
(`benchmarks/search.py`).
"""

import json
import logging
import os
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
from survey.cluster import connection
from survey.scratch import scratch_folder
from survey.search.queue import TrainingQueue
from survey.search.settings import Tune
from survey.search.trial import TrainingEnd, run_training
from survey.settings import SettingsError
from survey.training.settings import Train

ROW, END = "row", "end"
"""What a training reports to Tune: the numbers of an epoch, or its end. As JSON, because Tune flattens
dictionaries.
"""
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files of what the study holds
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job and not only the trainings
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",  # the state of the experiment is not needed
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
ADVICE = "give fewer workers, or a smaller network or batch"


def run_on_ray(settings: Tune, queue: TrainingQueue) -> None:
    """Run the trainings side by side. Where Ray itself breaks down, what was running is requested again."""
    connection.connect()
    connection.await_cpus(1)
    resources = _resources(settings)
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    # A process that has died is started again, or its trial fails with a reason: Tune need not log it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    while not queue.is_done and (breakdown := _run_tuner(settings, queue, resources)):
        queue.return_all(settings.failures, breakdown)


def _run_tuner(settings: Tune, queue: TrainingQueue, resources: dict[str, float]) -> str:
    """Let Tune run all trainings; returns the reason if Ray has broken down.

    If a node runs out of memory, Ray kills a process and Tune ends with a RuntimeError (2.60).
    """
    bridge = Bridge(queue, int(resources["CPU"]))
    with scratch_folder("tune") as folder:
        tuner = tune.Tuner(
            tune.with_resources(train_on_worker, resources),
            tune_config=TuneConfig(
                search_alg=bridge,
                num_samples=-1,
                max_concurrent_trials=settings.workers,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                storage_path=folder,
                stop=EpochStopper(bridge),
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
            cause = " ".join(str(error.__cause__).split())
            return f"Ray has ended its process ({cause[:300]}); {ADVICE}"
    return ""


def _resources(settings: Tune) -> dict[str, float]:
    """The CPUs and GPUs of a training; it is an error if the cluster does not have them."""
    gpus = ray.cluster_resources().get("GPU", 0.0)
    is_wanted = gpus > 0 and settings.train.get("gpu") != "never"
    gpu = float(is_wanted) if settings.gpu is None else settings.gpu
    if gpu > gpus:
        raise SettingsError(f"tune: gpu={gpu:g}: Ray has {gpus:g} GPUs; give a smaller share, or 0")
    cpu = 1.0 if settings.threads == "auto" else float(settings.threads)
    cpus = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    if cpu > max(cpus, default=0.0):
        raise SettingsError(
            f"tune: threads={cpu:g}: the largest machine of Ray has {max(cpus, default=0.0):g} CPUs; "
            "give fewer threads"
        )
    return {"CPU": cpu} | ({"GPU": gpu} if gpu else {})


class Bridge(Searcher):  # type: ignore[misc]
    """The queue as Tune's source of trials. Tune names its trials itself; `keys` are those of the queue.

    `threads`: the CPUs that Ray keeps for a training.
    """

    def __init__(self, queue: TrainingQueue, threads: int) -> None:
        super().__init__()
        self.queue, self.threads = queue, threads
        self.keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next training as a configuration; None if there is none now."""
        if self.queue.is_done:
            return str(Searcher.FINISHED)
        if (request := self.queue.next()) is None:
            return None
        self.keys[trial_id] = request.key
        return {
            "settings": request.settings.model_dump_json(),
            "folder": str(Path.cwd()),
            "threads": self.threads,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A training is over; the queue knows already of one that was stopped early."""
        if (key := self.keys.pop(trial_id, None)) is None:
            return
        reported = None if error else (result or {}).get(END)
        if reported:
            end = TrainingEnd.model_validate_json(reported)
        else:
            end = TrainingEnd(
                failed=f"its processes died one after the other, probably for lack of memory; {ADVICE}"
            )
        self.queue.end(key, end)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study continues by itself."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its settings at its start; the queue stays in this process."""
        return {}


class EpochStopper(Stopper):  # type: ignore[misc]
    """Reports each epoch to the queue, and tells Tune which trainings to stop."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the training is to stop after this report."""
        if END in result:
            return False
        key = self.bridge.keys.get(trial_id)
        if key is None:
            return True
        is_stopped = self.bridge.queue.report(key, json.loads(result[ROW]))
        if is_stopped:
            del self.bridge.keys[trial_id]
        return is_stopped

    def stop_all(self) -> bool:
        """Whether the search has ended with an error."""
        return bool(self.bridge.queue.error)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason as the bridge."""
        return {}


def train_on_worker(config: dict[str, Any]) -> None:
    """One training in a process of Ray. The trainings of a machine share half of its free memory."""
    if Path(config["folder"]).is_dir():
        os.chdir(config["folder"])
    settings = Train.model_validate_json(config["settings"])
    threads = int(config["threads"])
    side_by_side = max(machine.cpus() // threads, 1)
    memory = settings.resident_gb or 0.5 * psutil.virtual_memory().available / side_by_side / 1e9
    settings = settings.model_copy(update={"threads": threads, "resident_gb": memory})
    end = run_training(settings, lambda row: tune.report({ROW: json.dumps(dict(row))}))
    tune.report({END: end.model_dump_json()})
