"""The definition of CEMP that the members of an ensemble share.

Probabilities by different definitions have no common meaning, so members that learned different ones do not
answer together.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from survey.ensemble.settings import Population
from survey.labelling.rows import available_labels
from survey.labelling.settings import Join
from survey.labels import CRITERION_LABELS, CRITERION_TEXT, Criterion
from survey.settings import SettingsError
from survey.training.run import Run

USUAL = Join().criterion
"""The definition of CEMP where none is given."""


def criterion_of_run(settings: Mapping[str, Any]) -> Criterion:
    """The definition of CEMP that a run was trained with, from its settings."""
    return Join.from_dict("ensemble: join", settings.get("join", {})).criterion


def criterion_of(runs: Sequence[Run]) -> Criterion:
    """The definition of CEMP of some runs together: that of the first with classes, else of the first."""
    with_classes = [run for run in runs if run.net.task.classifies]
    return criterion_of_run((with_classes or runs)[0].document.settings)


def with_criterion(settings: Join, criterion: Criterion) -> Join:
    """The settings with this definition of CEMP, if none but the usual one is given and the table has the
    labels that it needs.
    """
    needed = CRITERION_LABELS[criterion]
    if settings.criterion != USUAL or set(needed) - set(available_labels(settings, needed)):
        return settings
    return settings.model_copy(update={"criterion": criterion})


def check_criteria(criteria: Mapping[str, Criterion]) -> None:
    """Checks that members, by their paths, have one definition of CEMP."""
    for path, criterion in criteria.items():
        first, wanted = next(iter(criteria.items()))
        if criterion != wanted:
            raise SettingsError(
                f"ensemble: {path}: its definition of CEMP is {criterion} ({CRITERION_TEXT[criterion]}), "
                f"that of {first} is {wanted} ({CRITERION_TEXT[wanted]}); give runs with one join.criterion"
            )


def check_population(population: Population, criterion: Criterion, labels: Collection[str]) -> None:
    """Checks that the classes of drawn stars follow from the labels that members predict."""
    missing = [name for name in CRITERION_LABELS[criterion] if name not in labels]
    if population.spectra and {"FeH", "CFe"} <= set(labels) and missing:
        raise SettingsError(
            f"ensemble: population: the definition of CEMP, {criterion}, needs {' and '.join(missing)} of "
            "drawn stars, which no member predicts; add it to the targets of a member, or give "
            "population.spectra=0"
        )
