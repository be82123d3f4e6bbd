"""How far people agree beyond chance: kappa of two (Cohen 1960) and of several (Fleiss 1971).

Shapes: N stars, V kinds of verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Verdicts = dict[str, str]
"""Verdicts by star."""


@dataclass(frozen=True)
class Agreement:
    """How people agree: on how many stars, in what share of them, and kappa (None: not defined)."""

    who: tuple[str, ...]
    stars: int
    share: float
    kappa: float | None


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa of two lists of verdicts; None where chance alone makes them equal."""
    kinds = sorted({*first, *second})
    count_VV = np.zeros((len(kinds), len(kinds)))
    for one, other in zip(first, second, strict=True):
        count_VV[kinds.index(one), kinds.index(other)] += 1
    total = count_VV.sum()
    if not total:
        return None
    observed = np.trace(count_VV) / total
    chance = float(count_VV.sum(0) @ count_VV.sum(1)) / total**2
    return None if chance == 1 else float((observed - chance) / (1 - chance))


def fleiss_kappa(count_NV: np.ndarray) -> float | None:
    """Fleiss' kappa of how often each star got each verdict; each star has equally many verdicts."""
    people = count_NV.sum(1)
    if not len(people) or people[0] < 2:
        return None
    if (people != people[0]).any():
        raise ValueError("fleiss_kappa: stars have different numbers of verdicts; give those of equal number")
    share_V = count_NV.sum(0) / count_NV.sum()
    agree_N = ((count_NV**2).sum(1) - people[0]) / (people[0] * (people[0] - 1))
    chance = float((share_V**2).sum())
    return None if chance == 1 else float((agree_N.mean() - chance) / (1 - chance))


def pairs_agreement(by_person: dict[str, Verdicts]) -> list[Agreement]:
    """How each two people agree on the stars that both judged."""
    found = []
    for one, other in combinations(sorted(by_person), 2):
        both = sorted(by_person[one].keys() & by_person[other].keys())
        if both:
            first, second = ([by_person[who][star] for star in both] for who in (one, other))
            found.append(_agreement((one, other), first, second))
    return found


def _agreement(who: tuple[str, ...], first: Sequence[str], second: Sequence[str]) -> Agreement:
    equal = sum(one == other for one, other in zip(first, second, strict=True))
    return Agreement(who, len(first), equal / len(first), cohen_kappa(first, second))


def second_looks(first: dict[str, Verdicts], second: dict[str, Verdicts]) -> list[Agreement]:
    """How each person agrees with himself or herself, on the stars that were shown twice."""
    found = []
    for who in sorted(second):
        both = sorted(first.get(who, {}).keys() & second[who].keys())
        if both:
            found.append(
                _agreement((who,), [first[who][star] for star in both], [second[who][star] for star in both])
            )
    return found


def group_agreement(by_person: dict[str, Verdicts], kinds: Sequence[str]) -> Agreement | None:
    """How all people agree, on the stars that everybody judged; None for fewer than three people."""
    people = sorted(by_person)
    shared = sorted(set.intersection(*(set(by_person[who]) for who in people))) if people else []
    if len(people) < 3 or not shared:
        return None
    count_NV = np.array(
        [[sum(by_person[who][star] == kind for who in people) for kind in kinds] for star in shared]
    )
    equal = float((count_NV.max(1) == len(people)).mean())
    return Agreement(tuple(people), len(shared), equal, fleiss_kappa(count_NV))
