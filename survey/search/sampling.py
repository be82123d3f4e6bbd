"""Who says what is tried next, and what is stopped: samplers and pruners of Optuna, so that a search that goes on does what an undisturbed one does.

A sampler is made anew for each trial, with a seed of its own: one that was seeded once would begin from the same values after each restart.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler

from survey.search.settings import Aim, Tune
from survey.search.space import checked
from survey.training.loop import seeded

STARTUP = 8
"""Trials before the estimator has something to go by."""


@contextmanager
def experimental() -> Iterator[None]:
    """What Optuna calls experimental for years is used here without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def sampler(settings: Tune, aim: Aim, number: int, fixed: Mapping[str, Any]) -> BaseSampler:
    """The sampler of the trial of this number; `fixed`: what stays as it is."""
    seed = seeded(settings.seed, number, *aim.name.encode()) % 2**32
    with experimental():
        base: BaseSampler = _estimator(seed) if settings.sampler == "tpe" else RandomSampler(seed=seed)
        return PartialFixedSampler(dict(fixed), base) if fixed else base


def _estimator(seed: int) -> BaseSampler:
    """Settings together, in groups as their conditions have it; trials under way count as poor, so that others look elsewhere."""
    return TPESampler(n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True, seed=seed)


def pruner(settings: Tune, aim: Aim) -> BasePruner:
    """The pruner of an aim's study; it keeps what it knows in the storage."""
    wanted = settings.prune
    name = ("halving" if len(aim.metrics) == 1 else "none") if wanted.name == "auto" else wanted.name
    epochs = most_epochs(aim)
    first = (
        wanted.first or epochs // (9 if name == "hyperband" else 3) + 1
    )  # one look at a third, for hyperband at a ninth too; none near the end
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=wanted.factor)
    if name == "hyperband":
        with experimental():
            return HyperbandPruner(
                min_resource=first, max_resource=max(epochs, first), reduction_factor=wanted.factor
            )
    if name == "median":
        return MedianPruner(n_startup_trials=wanted.startup, n_warmup_steps=first - 1)
    return NopPruner()


def most_epochs(aim: Aim) -> int:
    """The longest training of a search."""
    tried = next((one.ends() for one in aim.space.knobs if one.key == "epochs"), None)
    return int(max(tried)) if tried else checked("tune: train", aim.train).epochs
