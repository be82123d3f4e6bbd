"""Runs and ensembles that are set against one another: all are asked about the same spectra, which none of them has learned from or chosen by.

What they tell need not be the same: a net of one element and one of many are compared by what both tell, and the rest is named.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from survey import machine
from survey.ensemble import split as parts
from survey.ensemble.ensemble import Ensemble, named, open_ensemble
from survey.ensemble.members import prepared_otherwise
from survey.labelling.samples import Samples
from survey.settings import SettingsError
from survey.store.store import Store


def opened(of: str, ensemble: Ensemble, against: Sequence[str]) -> dict[str, Ensemble]:
    """All of them by a short name, the one that is evaluated first; none where it is set against nobody."""
    if not against:
        return {}
    paths = [path.rstrip("/") for path in (of, *against)]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise SettingsError(
            f"evaluate: against: {', '.join(twice)} would be compared with itself; give each run or ensemble once"
        )
    others = [open_ensemble(path, machine.device()) for path in against]
    asked = dict(zip(named(paths), (ensemble, *others), strict=True))
    for name, one in list(asked.items())[1:]:
        one.fits(ensemble.about["grid"], f"evaluate: against: {of}")
        if not common([ensemble, one]):
            raise SettingsError(
                f"evaluate: against: {name} tells {_tells(one)}, {of} tells {_tells(ensemble)}: nothing in common; leave it out, or evaluate it alone"
            )
    return asked


def common(asked: Iterable[Ensemble]) -> list[str]:
    """What the first of them and at least one other tells: labels, and `classes`."""
    first, *others = asked
    told = {
        name
        for one in others
        for name in (*one.labels, *(["classes"] if one.classes == first.classes and one.classes else []))
    }
    return [name for name in (*first.labels, *(["classes"] if first.classes else [])) if name in told]


def _tells(one: Ensemble) -> str:
    return ", ".join([*one.labels, *(["classes"] if one.classes else [])])


def fair(asked: Mapping[str, Ensemble], some: Samples, split: str) -> tuple[Samples, dict[str, int]]:
    """The samples that all of them may be judged by, and how many each one's own learning costs: by the test none has learned or chosen, by the
    validation none has learned; all spectra stay where a part is wanted that serves neither.
    """
    keep_N, left_out = np.ones(len(some), bool), {}
    for name, one in list(asked.items())[1:]:
        fair_N = np.ones(len(some), bool)
        if split == "test":
            fair_N[:] = False
            fair_N[parts.unseen(one.members, some.about)] = True
        elif split == "validation":
            fair_N = ~parts.seen(one.members, some.about).train_N
        left_out[name] = int((~fair_N).sum())
        keep_N &= fair_N
    return (some if keep_N.all() else some.at(np.flatnonzero(keep_N))), left_out


def check(asked: Mapping[str, Ensemble], store: Store, some: Samples, left_out: Mapping[str, int]) -> None:
    """The comparison is one of networks, by the same spectra: there are some, and all have learned from such as these."""
    if asked and not len(some):
        told = ", ".join(f"{name} has seen {count:,}" for name, count in left_out.items())
        raise SettingsError(
            f"evaluate: against: no spectrum is left that nobody has learned from or chosen by ({told}); give others, or labels="
        )
    for name, one in asked.items():
        for run in one.members.runs:
            if differing := prepared_otherwise(run, store.about["settings"]["prepare"]):
                raise SettingsError(
                    f"evaluate: against: {name}: {run.path} has learned from spectra prepared otherwise than those of {store.path} "
                    f"({'; '.join(differing)}), which would count against it; leave it out, or evaluate each by its own store"
                )


def told(asked: Mapping[str, Ensemble], left_out: Mapping[str, int]) -> dict[str, Any]:
    """What is to be known of a comparison beside its numbers: who was compared, how many spectra each one costs, what only some tell."""
    if not asked:
        return {}
    shared = set(common(asked.values()))
    alone = {
        name: sorted({*one.labels, *(["classes"] if one.classes else [])} - shared)
        for name, one in asked.items()
    }
    paths = {name: one.path for name, one in asked.items()}
    return {
        "against": {
            "paths": paths,
            "left_out": dict(left_out),
            "alone": {name: names for name, names in alone.items() if names},
        }
    }
