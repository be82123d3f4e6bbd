"""What a fine-tuned run takes over from the runs before it: network, scaling, and above all which stars were seen.

The rule of a split alone does not say it: stratified parts depend on which stars are there, and another table may name stars otherwise.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.labelling import keys, samples, star_id
from survey.labelling.samples import Samples
from survey.settings import SettingsError
from survey.training import run as bundle

Parts = NDArray[np.int8]


def line(run: str | None) -> Iterator[str]:
    """A run, the one it was fine-tuned from, and so on."""
    while run:
        yield run
        link = bundle.about_run(run)["before"]
        run = link and link["path"]


def named_alike(known: Samples, about: pa.Table) -> tuple[list[str], list[str]]:
    """Names for the stars of samples and of other spectra by which they are the same stars: by name, visit or position."""

    def both(name: str) -> pa.Array:
        columns = (table[name].combine_chunks() for table in (known.about, about))
        return pa.concat_arrays(
            [column.cast(pa.string()) if name not in ("ra", "dec") else column for column in columns]
        )

    ra, dec = (keys.degrees(both(name)) for name in ("ra", "dec"))
    names = star_id.identities([both("star"), both("visit")], ra, dec, both("visit"))
    return names[: len(known)].tolist(), names[len(known) :].tolist()


def inherited(before: str | None, about: pa.Table, part_N: Parts) -> Parts:
    """Parts of a new run's spectra: a star that an earlier run trained on or chose by stays in that part."""
    part_N = part_N.copy()
    for run in reversed(list(line(before))):
        known = samples.read(run)
        theirs, ours = named_alike(known, about)
        seen: dict[str, int] = {}
        for star, part in zip(theirs, known.part_N.tolist(), strict=True):
            if part >= 0:
                seen[star] = min(part, seen.get(star, part))
        part_N = np.array(
            [seen.get(star, part) for star, part in zip(ours, part_N.tolist(), strict=True)], np.int8
        )
    return part_N


def unseen(run: str, about: pa.Table) -> NDArray[np.int64]:
    """Places of the spectra whose stars neither a run nor any run before it has trained on or chosen by."""
    fresh = np.ones(about.num_rows, bool)
    for one in line(run):
        known = samples.read(one)
        seen = known.at(np.flatnonzero((known.part_N == 0) | (known.part_N == 1)))
        theirs, ours = named_alike(seen, about)
        met = set(theirs)
        fresh &= np.array([star not in met for star in ours], bool)
    return np.flatnonzero(fresh)


def taken_over(
    plan: dict[str, Any], before: dict[str, Any], given: dict[str, Any], path: str, met: bool
) -> dict[str, Any]:
    """The plan of a fine-tuned run; task and grid must be those of the run before, the split too where it has `met` some of the stars, and what is
    `given` must not say otherwise.
    """
    where = f"train: before={path}"
    for name, advice in (
        ("task", "task, targets and loss.reg as there"),
        ("grid", "a store of the same grid"),
        ("split", "the same one, or stars that it has seen would test it"),
    ):
        if before[name] != plan[name] and (met or name != "split"):
            raise SettingsError(f"{where}: its {name} is {before[name]}, not {plan[name]}; give {advice}")
    own = {
        "model": before["model"],
        "options": before["options"],
        "scale": before["settings"]["scale"],
        "view": before.get("view", {}),
    }
    for name, value in given.items():
        if not _within(value, own[name]):
            raise SettingsError(
                f"{where}: its {name} is {own[name]}, not {value}; give {name} as there, or not at all"
            )
    kept = {name: before[name] for name in ("model", "options", "scaling")} | {"view": own["view"]}
    return kept | {"before": {"path": path, "id": before["id"]}}


def _within(value: Any, own: Any) -> bool:
    """Whether settings say nothing else than others do, as far as they go."""
    if isinstance(value, dict) and isinstance(own, dict):
        return all(name in own and _within(inner, own[name]) for name, inner in value.items())
    return (
        bool(list(value) == list(own))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else bool(value == own)
    )
