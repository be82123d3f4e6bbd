"""Which labelled stars become the reference set: all, or so many of each class. A star is never split.

Shape: M labelled stars.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from survey import labels
from survey.label_tables.settings import PUBLISHED, ReferenceSet
from survey.labelling.split import hash_to_unit


def wanted_counts(settings: ReferenceSet, available: Mapping[str, int]) -> dict[str, int]:
    """The number of stars of each class that are taken; empty = all stars, also those without a class."""
    if settings.counts:
        wanted = dict(settings.counts)
        return _shrunk(wanted, available) if settings.shrink else _capped(wanted, available)
    if settings.balance == "published":
        return _shrunk(PUBLISHED, available)
    if settings.balance == "equal":
        return dict.fromkeys(labels.CLASSES, min(available.get(name, 0) for name in labels.CLASSES))
    return {}


def _capped(wanted: Mapping[str, int], available: Mapping[str, int]) -> dict[str, int]:
    return {name: min(count, available.get(name, 0)) for name, count in wanted.items()}


def _shrunk(wanted: Mapping[str, int], available: Mapping[str, int]) -> dict[str, int]:
    """The wanted numbers, all made smaller by one factor if a class has too few stars."""
    factor = min((available.get(name, 0) / count for name, count in wanted.items() if count), default=0.0)
    return {name: round(count * min(factor, 1.0)) for name, count in wanted.items()}


def select_stars(
    settings: ReferenceSet,
    class_M: NDArray[np.int8],
    snr_M: NDArray[np.float64],
    name_M: NDArray[np.object_],
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """The stars that are taken, and how many of each class there are.

    Random stars are chosen by a hash of their names, so the same are taken whatever else is in the table.
    """
    available = {name: int((class_M == number).sum()) for number, name in enumerate(labels.CLASSES)}
    wanted = wanted_counts(settings, available)
    if not wanted:
        return np.ones(len(class_M), bool), available
    taken_M = np.zeros(len(class_M), bool)
    for name, count in wanted.items():
        index = np.flatnonzero(class_M == labels.CLASSES.index(name))
        order = np.array([hash_to_unit(f"{settings.seed}:reference", name_M[star]) for star in index])
        if settings.prefer == "snr":
            order = -np.nan_to_num(snr_M[index], nan=-np.inf)
        taken_M[index[np.argsort(order, kind="stable")[:count]]] = True
    return taken_M, available
