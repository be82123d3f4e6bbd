"""Optuna's samplers, which choose the next values, and its pruners, which stop poor trainings.

Each trial has a new sampler with its own seed. One sampler for all trials would begin again with the same
values after each restart; so a search that was stopped tries the same values as one that was not.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler

from survey.search.settings import Tune
from survey.search.target import Target
from survey.training.loop import derived_seed

STARTUP = 8
"""Trials at random before the estimator has enough to learn from."""


@contextmanager
def experimental() -> Iterator[None]:
    """Leave out Optuna's warning of features that it has called experimental for years."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def sampler(settings: Tune, target: Target, number: int, fixed: Mapping[str, Any]) -> BaseSampler:
    """The sampler of the trial with this number; `fixed`: stored values that stay as they are."""
    seed = derived_seed(settings.seed, number, *target.name.encode()) % 2**32
    with experimental():
        base: BaseSampler = _estimator(seed) if settings.sampler == "tpe" else RandomSampler(seed=seed)
        return PartialFixedSampler(dict(fixed), base) if fixed else base


def _estimator(seed: int) -> BaseSampler:
    """A Parzen estimator of all settings together, in groups by their conditions.

    Running trials count as poor, so that several workers try different regions.
    """
    return TPESampler(n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True, seed=seed)


def pruner(settings: Tune, target: Target) -> BasePruner:
    """The pruner of a target's study; its state is in the storage.

    Without `first` the first comparison is after a third of the epochs, and with hyperband after a ninth. A
    later one would save little.
    """
    prune, epochs = settings.prune, target.max_epochs
    single = len(target.metrics) == 1
    name = ("halving" if single else "none") if prune.name == "auto" else prune.name
    first = prune.first or epochs // (9 if name == "hyperband" else 3) + 1
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=prune.factor)
    if name == "hyperband":
        with experimental():
            return HyperbandPruner(
                min_resource=first, max_resource=max(epochs, first), reduction_factor=prune.factor
            )
    if name == "median":
        return MedianPruner(n_startup_trials=prune.startup, n_warmup_steps=first - 1)
    return NopPruner()
