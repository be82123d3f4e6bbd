"""What trainings would take: some steps are really done, in a temporary folder."""

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from survey import machine
from survey.cluster.connection import may_grow
from survey.ensemble.settings import Build, trainings
from survey.estimate.cost import WORKER_IS_GPU, Cost
from survey.estimate.settings import Prices
from survey.models.options import is_baseline
from survey.scratch import scratch_folder
from survey.search.settings import Tune
from survey.search.target import read_targets
from survey.settings import JobError, SettingsError
from survey.training.run import read_plan
from survey.training.settings import Train
from survey.training.train import plan
from survey.training.worker import learn

VALIDATION = 1 / 3
"""What a validation spectrum costs of a training spectrum: one pass forward, none back, which is twice as
much."""
PIXEL_BYTES = 8
"""Bytes of a pixel in memory: flux and ivar."""


class _EnoughError(Exception):
    """Ends a training that was measured for long enough."""


class _Steps:
    """A progress bar that measures: spectra and times of the steps, and the spectra of all epochs."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.total = seconds, 0
        self.times: list[tuple[float, int]] = []

    def __call__(self, title: str, total: int, unit: str) -> AbstractContextManager[Any]:
        """The bar of a training."""
        del title, unit
        self.total = total
        self.times = [(time.monotonic(), 0)]
        return nullcontext(self)

    def add(self, count: int, note: str = "") -> None:
        """A step of so many spectra is done."""
        del note
        now, done = time.monotonic(), self.times[-1][1] + count
        if count:
            self.times.append((now, done))
        if now - self.times[0][0] > self.seconds and len(self.times) > 2:
            raise _EnoughError

    def per_spectrum(self) -> float:
        """Seconds per spectrum in the second half: the first compares numbers of threads."""
        (start, before), (end, after) = self.times[len(self.times) // 2], self.times[-1]
        if after == before:
            raise JobError("plan: no step of the training was finished; give plan.seconds=, a longer time")
        return (end - start) / (after - before)


def estimate_training(settings: Train, prices: Prices) -> Cost:
    """A training, by the mean time of a spectrum in some of its steps."""
    with scratch_folder("plan") as folder:
        return _measure(settings, folder, prices)


def _measure(settings: Train, folder: str, prices: Prices) -> Cost:
    if is_baseline(settings.model):
        raise SettingsError(
            f"plan: model={settings.model}: is fitted at once and has no steps to measure; "
            "give a network, or train it: a baseline takes minutes"
        )
    tracking = settings.tracking.model_copy(update={"use": "never"})
    here = settings.model_copy(update={"run": folder, "workers": 1, "tracking": tracking})
    plan(here)
    planned, steps = read_plan(folder), _Steps(prices.seconds)
    with suppress(_EnoughError):
        learn(here, progress=steps)
    each = steps.per_spectrum()
    validated = planned.parts["validation"].spectra * settings.epochs
    seconds = each * (steps.total + VALIDATION * validated)
    gpu = settings.gpu == "auto" and machine.device().type == "cuda"
    rows = planned.parts["train"].spectra + planned.parts["validation"].spectra
    cost = Cost(
        work=f"{settings.epochs} epochs of {steps.total // settings.epochs:,} spectra, {settings.model}",
        measured=f"{steps.times[-1][1]:,} spectra in {steps.times[-1][0] - steps.times[0][0]:.1f} s, "
        f"{seconds / settings.epochs:.3g} s per epoch",
        seconds=seconds,
        workers=_machines(settings, prices, gpu),
        cpus=1 if gpu else machine.cpus(),
        bytes_read=float(rows * len(planned.grid) * PIXEL_BYTES),
        assumed=["a validation spectrum takes a third of the time of a training spectrum"],
    )
    if cost.workers > 1:
        alone = "a GPU" if gpu else f"{cost.cpus} CPUs as this machine has"
        cost.assumed.append(f"workers share each batch without loss, and each has {alone}")
    elif settings.workers > 1:
        cost.assumed.append(
            f"{settings.workers} workers here are as fast as one with all CPUs of this machine"
        )
    if settings.patience:
        cost.assumed.append(f"all {settings.epochs} epochs are needed (patience={settings.patience})")
    if gpu:
        cost.assumed.append(WORKER_IS_GPU)
    return cost


def _machines(settings: Train, prices: Prices, gpu: bool) -> int:
    """How many times as fast as here the training is: workers without GPUs share the CPUs of a machine."""
    return prices.workers or (settings.workers if gpu or may_grow() else 1)


def estimate_ensemble(settings: Build, prices: Prices) -> Cost:
    """The trainings of an ensemble; one of each kind of member is measured."""
    if settings.runs:
        raise SettingsError(
            f"plan: runs: {len(settings.runs)} finished runs are combined, nothing is trained: that takes "
            "seconds to a few minutes"
        )
    found, measured = trainings(settings), dict[str, Cost]()
    counts = Counter(_kind(training) for training in found)
    for training in found:
        if _kind(training) not in measured:
            measured[_kind(training)] = estimate_training(training, prices)
    costs = [(measured[kind], count) for kind, count in counts.items()]
    work = "; ".join(f"{count} × {cost.work}" for cost, count in costs)
    most = max(cost.workers for cost, _ in costs)
    total = _sum(costs, work, most, ["the members are trained one after the other"])
    total.seconds = sum(cost.hours * 3600 * count for cost, count in costs) * most
    return total


def _kind(training: Train) -> str:
    """The settings of a member without its seed and its folder."""
    return training.model_copy(update={"run": "", "seed": 0}).model_dump_json()


def estimate_search(settings: Tune, prices: Prices) -> Cost:
    """The trainings of a search, if each is as long as that of the recipe."""
    costs = []
    each = settings.trials + 3 * settings.seeds + settings.retrain
    for target in read_targets(settings):
        training = target.training("", {}, tracking={"use": "never"})
        costs.append((estimate_training(training, prices), each))
    workers = prices.workers or settings.workers or machine.cpus()
    work = f"{len(costs)} × {each} trainings ({settings.trials} trials, the rest with other seeds)"
    assumed = ["each takes as long as that of the recipe, on one CPU; poor ones are stopped early"]
    cost = _sum(costs, work, min(workers, len(costs) * each), assumed)
    cost.seconds *= costs[0][0].cpus
    cost.cpus = 1
    return cost


def _sum(costs: list[tuple[Cost, int]], work: str, workers: int, assumed: list[str]) -> Cost:
    """Several trainings as one work."""
    first = costs[0][0]
    read = sum((cost.bytes_read or 0.0) * count for cost, count in costs)
    return Cost(
        work=work,
        measured="; ".join(cost.measured for cost, _ in costs),
        seconds=sum(cost.seconds * count for cost, count in costs),
        workers=workers,
        cpus=first.cpus,
        bytes_read=read,
        assumed=[*first.assumed, *assumed],
    )
