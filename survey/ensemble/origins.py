"""The tables and stores that an ensemble is made from, by the settings that name them."""

from collections.abc import Sequence
from typing import Literal

from survey.ensemble.settings import RUNS, Build
from survey.labelling.unlabelled import NONE
from survey.training.made_from import MadeFrom, paths_of
from survey.training.settings import Train

ADVICE = "give another ensemble= to make one from these"


def made_from(settings: Build, planned: Sequence[Train], before: MadeFrom) -> MadeFrom:
    """The tables and stores as they are now; `planned` are the members that are trained, `before` is what a
    finished ensemble has kept.
    """
    tables, stores = _paths_of(settings, planned, "labels"), _paths_of(settings, planned, "store")
    return MadeFrom.of(tables, stores, before=before)


def _paths_of(settings: Build, planned: Sequence[Train], what: Literal["labels", "store"]) -> dict[str, str]:
    """The label tables, or the stores, by the settings that name them."""
    named = {f"recalibrate.{what}": getattr(settings.recalibrate, what)}
    if settings.runs:
        named[what] = getattr(settings, what)
    for training in planned:
        member = f"{RUNS}.{training.run.rpartition('/')[2]}"
        named |= {f"{member}.{name}": path for name, path in paths_of(training, what).items()}
    return {name: path for name, path in named.items() if path and path != NONE}
