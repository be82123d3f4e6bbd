"""The criterion of carbon-enhanced stars of an evaluation, if the user gives none: that of the trainings.

Classes by predicted labels are compared with true classes, so both must rest on one criterion.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from survey.ensemble.criterion import USUAL, with_criterion
from survey.evaluate.settings import Evaluate
from survey.labels import Criterion


def with_own_criterion(settings: Evaluate, runs: Sequence[Mapping[str, Any]]) -> Evaluate:
    """The settings with the criterion of the trainings (`runs` are their settings), where none is given.

    Where trainings differ, the settings stay as they are. True classes from another table follow it too, if
    the table has the labels that it needs; another criterion in `join` counts before it.
    """
    if "criterion" in settings.model_fields_set:
        return settings
    if settings.labels and settings.join.criterion != USUAL:
        return settings.model_copy(update={"criterion": settings.join.criterion})
    names = {name for values in runs for name in _criteria(values)}
    if len(names) != 1:
        return settings
    criterion = names.pop()
    if not settings.labels:
        return settings.model_copy(update={"criterion": criterion})
    join = settings.join.model_copy(update={"table": settings.labels})
    if with_criterion(join, criterion).criterion != criterion:
        return settings
    join = settings.join.model_copy(update={"criterion": criterion})
    return settings.model_copy(update={"criterion": criterion, "join": join})


def _criteria(run: Mapping[str, Any]) -> Iterator[Criterion]:
    """The criterion of each label table of a training; a run without this setting had its default."""
    main = run.get("join") or {}
    others = [source.get("join") or main for source in (run.get("sources") or {}).values()]
    for values in (main, *others):
        yield values.get("criterion", USUAL)
