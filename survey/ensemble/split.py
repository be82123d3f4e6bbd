"""Which labelled spectra an ensemble may choose by, and which may test it, when its members have learned from different stars.

Members may have other splits, folds, stores and tables of labels; some are fine-tuned and have seen what the runs before them saw. So a star is
looked for in all of these, by name, visit or position: *validation* is what some member chose by and none has learned from; *test* is what some
member keeps for its test and none has learned from or chosen by. Shapes: N spectra, L labels.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.ensemble.members import Members
from survey.labelling import join, samples
from survey.labelling.join import Labels
from survey.labelling.samples import Samples
from survey.labelling.split import PARTS
from survey.labels import MISSING
from survey.store.store import Store
from survey.training import training_history

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """Which spectra are of stars that a member, or a run that it goes back to, has in its train, validation and test part."""

    train_N: Flags
    validation_N: Flags
    test_N: Flags

    def part(self, name: str) -> NDArray[np.int64]:
        """The places of the spectra that are train, validation or test of them all; `all` for every one."""
        found = {
            "train": self.train_N,
            "validation": self.validation_N & ~self.train_N,
            "test": self.test_N & ~self.train_N & ~self.validation_N,
            "all": np.ones(len(self.train_N), bool),
        }
        return np.flatnonzero(found[name])


def seen(members: Members, about: pa.Table) -> Seen:
    """What members, and the runs that they were fine-tuned from, have done with the stars of spectra."""
    flags = np.zeros((len(PARTS), about.num_rows), bool)
    for run in dict.fromkeys(before for one in members.runs for before in training_history.line(one.path)):
        known = samples.read(run)
        theirs, ours = training_history.named_alike(known, about)
        for number in range(len(PARTS)):
            met = {star for star, part in zip(theirs, known.part_N.tolist(), strict=True) if part == number}
            flags[number] |= np.array([star in met for star in ours], bool)
    return Seen(*flags)


def pooled(members: Members, store: Store) -> Samples:
    """The labelled spectra of a store as its members know them: all that one of them has dealt a part to, with the labels of them all.

    Where members disagree on a label or a class, the first one that knows it is right; so it is with the star's name.
    """
    known = [samples.read(run.path) for run in members.runs if run.about["store"]["id"] == store.about["id"]]
    known = [one.at(np.flatnonzero(one.part_N >= 0)) for one in known]
    key_of = [one.place_N2[:, 0] << 32 | one.place_N2[:, 1] for one in known]
    key_N = np.unique(np.concatenate([np.empty(0, np.int64), *key_of]))
    shape = len(key_N), len(members.labels)
    arrays = {name: np.full(shape, np.nan) for name in ("label_NL", "error_NL")}
    class_N, row_N, before = np.full(len(key_N), MISSING, np.int8), np.full(len(key_N), -1), 0
    for one, key in zip(known, key_of, strict=True):
        place = np.searchsorted(key_N, key)
        class_N[place] = np.where(class_N[place] == MISSING, one.class_N, class_N[place])
        row_N[place] = np.where(row_N[place] < 0, before + np.arange(len(key)), row_N[place])
        for number, name in enumerate(one.labels):
            column = members.labels.index(name)
            fresh = np.isnan(arrays["label_NL"][place, column])
            for kind, array in arrays.items():
                array[place, column] = np.where(fresh, getattr(one, kind)[:, number], array[place, column])
        before += len(key)
    tables = [one.about for one in known] or [samples.read(members.runs[0].path).about]
    about = pa.concat_tables(tables, promote_options="default").take(
        pa.array(row_N)
    )  # what is known beside the labels may differ
    place_N2 = np.stack([key_N >> 32, key_N & 0xFFFFFFFF], 1)
    return Samples(members.labels, place_N2, np.full(len(key_N), -1, np.int8), class_N, about=about, **arrays)


def own(members: Members, store: Store, name: str) -> Samples:
    """The labelled spectra of a part of them all; of a run alone, in its own store, that is the part of its own."""
    if len(members.runs) == 1 and members.runs[0].about["store"]["id"] == store.about["id"]:
        return samples.read(members.runs[0].path).part(name)
    pool = pooled(members, store)
    return pool.at(seen(members, pool.about).part(name)) if len(pool) else pool


def unseen(members: Members, about: pa.Table) -> NDArray[np.int64]:
    """The places of the spectra whose stars no member, nor a run before it, has learned from or chosen by."""
    fresh = [training_history.unseen(run.path, about) for run in members.runs]
    return functools.reduce(np.intersect1d, fresh)


def joined(members: Members, store: Store, settings: Labels) -> Samples:
    """The spectra of a store that a table of labels knows, with the labels that the members give."""
    return samples.of(join.join(settings, store, join.present(settings, members.labels)), members.labels)
