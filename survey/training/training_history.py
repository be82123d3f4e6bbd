"""What a fine-tuned run takes from the runs before it: model, scaling, and the parts of the stars they have
seen.

The rule of a split is not enough: stratified parts depend on which stars are there, and another label table
may name stars in another way.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.labelling import keys, samples, star_id
from survey.labelling.samples import Samples
from survey.labelling.settings import PARTS
from survey.settings import SettingsError, differences
from survey.stored_paths import find_folder
from survey.training.run import RUN, Plan, RunDocument, StartRun, run_document

Parts = NDArray[np.int8]


def ancestors(run: str | None) -> Iterator[str]:
    """A run, the run that it was fine-tuned from, and so on."""
    while run:
        yield run
        start = run_document(run).start_from
        run = find_folder(start.path, run, RUN, start.id, "put it back") if start else None


def common_names(known: Samples, spectra: pa.Table) -> tuple[list[str], list[str]]:
    """Names for the stars of samples and of other spectra; equal names = the same star by name, visit or
    position.
    """

    def both(name: str) -> pa.Array:
        columns = [table[name].combine_chunks() for table in (known.extra, spectra)]
        if name not in ("ra", "dec"):
            columns = [column.cast(pa.string()) for column in columns]
        return pa.concat_arrays(columns)

    ra, dec = (keys.to_floats(both(name)) for name in ("ra", "dec"))
    names = star_id.identify([both("star"), both("visit")], ra, dec, both("visit"))
    return names[: len(known)].tolist(), names[len(known) :].tolist()


def inherit_parts(start_from: str | None, spectra: pa.Table, part_N: Parts) -> Parts:
    """The parts of a new run: a star in train or validation of an earlier run stays in that part."""
    part_N = part_N.copy()
    for run in reversed(list(ancestors(start_from))):
        known = samples.read(run)
        known_names, names = common_names(known, spectra)
        part_of: dict[str, int] = {}
        for star, part in zip(known_names, known.part_N.tolist(), strict=True):
            if part >= 0:
                part_of[star] = min(part, part_of.get(star, part))
        parts = [part_of.get(star, part) for star, part in zip(names, part_N.tolist(), strict=True)]
        part_N = np.array(parts, np.int8)
    return part_N


def unseen(run: str, spectra: pa.Table) -> NDArray[np.int64]:
    """Rows of the spectra whose stars are in no train or validation part of the run or the runs before it."""
    is_unseen = np.ones(spectra.num_rows, bool)
    train, validation = PARTS.index("train"), PARTS.index("validation")
    for path in ancestors(run):
        known = samples.read(path)
        seen = known.at(np.flatnonzero((known.part_N == train) | (known.part_N == validation)))
        seen_names, names = common_names(seen, spectra)
        seen_stars = set(seen_names)
        is_unseen &= np.array([star not in seen_stars for star in names], bool)
    return np.flatnonzero(is_unseen)


def inherit_plan(
    plan: Plan, start: RunDocument, given: dict[str, Any], path: str, has_seen_stars: bool
) -> Plan:
    """The plan of a run that is fine-tuned from another one (`start`).

    Task and grid must be the same; the split too, if the other run has seen some of the stars. `given`
    holds settings of the user, which must not contradict the other run.
    """
    where, settings = f"train: start_from={path}", plan.model_dump(mode="json")
    earlier = start.model_dump(mode="json")
    for name, advice in (
        ("task", "give the same task, targets and loss.reg"),
        ("grid", "give a store of the same grid"),
        ("split", "give the same split, or stars that it has seen would test it"),
    ):
        if name == "split" and not has_seen_stars:
            continue
        if differing := list(differences(earlier[name], settings[name], name)):
            raise SettingsError(f"{where}: {'; '.join(differing)}; {advice}")
    kept = {
        "model": start.model,
        "options": start.options,
        "scale": start.settings["scale"],
        "view": earlier["view"],
    }
    for name, value in given.items():
        if not _agrees(value, kept[name]):
            raise SettingsError(
                f"{where}: its {name} is {kept[name]}, not {value}; "
                f"give {name}={kept[name]} (a recipe may name another one)"
            )
    return plan.model_copy(
        update={
            "model": start.model,
            "options": start.options,
            "scaling": start.scaling,
            "view": start.view,
            "start_from": StartRun(path=path, id=start.id),
        }
    )


def _agrees(value: Any, kept: Any) -> bool:
    """Whether given values are the same as the kept ones, as far as they go."""
    if isinstance(value, dict) and isinstance(kept, dict):
        return all(name in kept and _agrees(inner, kept[name]) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return list(value) == list(kept)
    return bool(value == kept)
