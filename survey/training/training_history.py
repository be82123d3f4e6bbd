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
from survey.labelling.common_stars import common_stars
from survey.labelling.samples import Samples
from survey.labelling.settings import PARTS
from survey.labelling.star_id import Codes
from survey.labelling.visit_names import FOLDER, array, distinct_names, with_folders
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


def stars_of_both(known: Samples, spectra: pa.Table) -> tuple[Codes, Codes]:
    """Codes for the stars of samples and of other spectra; equal codes = the same star by name, visit or
    position. Names and visits do not make one star of rows whose positions are far apart.
    """
    tables = [with_folders(table) for table in (known.extra, spectra)]

    def both(name: str, kind: pa.DataType | None = None) -> pa.Array:
        return pa.concat_arrays(
            [array(table[name]).cast(kind) if kind else array(table[name]) for table in tables]
        )

    ra, dec = (keys.to_floats(both(name)) for name in ("ra", "dec"))
    star, visit = star_id.clean_ids(both("star", pa.string())), both("visit", pa.string())
    table_N = np.repeat([0, 1], [len(known), spectra.num_rows])
    if all(FOLDER in table.column_names for table in tables):  # samples of old runs have no folders
        visit = distinct_names(visit, both(FOLDER, pa.string()), table_N)
    codes = (star_id.encode(star)[0], [star_id.encode(visit)[0]])
    code_N = common_stars(table_N, *codes, ra, dec)
    return code_N[: len(known)], code_N[len(known) :]


def inherit_parts(start_from: str | None, spectra: pa.Table, part_N: Parts) -> Parts:
    """The parts of a new run: a star in train or validation of an earlier run stays in that part."""
    part_N = part_N.copy()
    for run in reversed(list(ancestors(start_from))):
        known = samples.read(run)
        known_N, star_N = stars_of_both(known, spectra)
        none = np.int8(len(PARTS))
        part_S = np.full(max(known_N.max(initial=-1), star_N.max(initial=-1)) + 1, none)
        np.minimum.at(part_S, known_N, np.where(known.part_N >= 0, known.part_N, none))
        part_N = np.where(part_S[star_N] < none, part_S[star_N], part_N)
    return part_N


def unseen(run: str, spectra: pa.Table) -> NDArray[np.int64]:
    """Rows of the spectra whose stars are in no train or validation part of the run or the runs before it."""
    is_unseen = np.ones(spectra.num_rows, bool)
    train, validation = PARTS.index("train"), PARTS.index("validation")
    for path in ancestors(run):
        known = samples.read(path)
        seen = known.at(np.flatnonzero((known.part_N == train) | (known.part_N == validation)))
        seen_N, star_N = stars_of_both(seen, spectra)
        is_unseen &= ~np.isin(star_N, seen_N)
    return np.flatnonzero(is_unseen)


def inherit_plan(
    plan: Plan, start: RunDocument, given: dict[str, Any], path: str, has_seen_stars: bool
) -> Plan:
    """The plan of a run that is fine-tuned from another one (`start`).

    Task, classes and grid must be the same; the split too, if the other run has seen some of the stars.
    `given` holds settings of the user, which must not contradict the other run.
    """
    where, settings = f"train: start_from={path}", plan.model_dump(mode="json")
    earlier = start.model_dump(mode="json")
    for name, advice in (
        ("task", "give the same task, targets and loss.reg"),
        ("classes", "give the same join.class_names in the same order"),
        ("grid", "give a store of the same grid"),
        ("split", "give the same split, or stars that it has seen would test it"),
    ):
        if (name == "split" and not has_seen_stars) or (name == "classes" and not plan.task.classifies):
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
