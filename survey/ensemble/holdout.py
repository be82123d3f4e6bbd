"""Which labelled spectra may fit an ensemble, and which may test it, if its members were trained on
different stars.

Members may have different splits, folds, stores and label tables; a fine-tuned member has also seen the
stars of the runs before it. Therefore a star is looked up in all of these, by name, visit or position.
*Validation* stars are in the validation part of a member and in the train part of none. *Test* stars are in
the test part of a member and in the train or validation part of none. Stars that an ensemble was recalibrated
with do not test it. Shapes: N spectra, L labels.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.ensemble.criterion import criterion_of, criterion_of_run
from survey.ensemble.ensemble import ENSEMBLE, Ensemble
from survey.ensemble.members import Members
from survey.ensemble.other_kinds import columns_of
from survey.folder import Folder
from survey.labelling import join, samples
from survey.labelling.rows import add_columns, available_labels
from survey.labelling.samples import Samples
from survey.labelling.settings import PARTS, Join
from survey.labels import CLASSES, MISSING
from survey.store.store import Store
from survey.stored_paths import LostFolderError, find_folder
from survey.training import training_history
from survey.training.batches import Places
from survey.training.run import RUN, run_document
from survey.training.sources import with_input

Flags = NDArray[np.bool_]
STAR_COLUMNS = ["visit", "path", "row", "star", "ra", "dec"]
"""Columns of a store by which a star is known again."""


@dataclass(frozen=True)
class SeenParts:
    """Which spectra are of stars in the train, validation or test part of a member or of a run before it."""

    train_N: Flags
    validation_N: Flags
    test_N: Flags

    def part(self, name: str) -> NDArray[np.int64]:
        """The rows of the spectra that are train, validation or test for all members together; `all` for
        every row.
        """
        flags_of = {
            "train": self.train_N,
            "validation": self.validation_N & ~self.train_N,
            "test": self.test_N & ~self.train_N & ~self.validation_N,
            "all": np.ones(len(self.train_N), bool),
        }
        return np.flatnonzero(flags_of[name])


def seen_parts(members: Members, spectra: pa.Table) -> SeenParts:
    """The parts in which members, and the runs that they were fine-tuned from, have the stars of these
    spectra.
    """
    flags = np.zeros((len(PARTS), spectra.num_rows), bool)
    paths = [path for run in members.runs for path in training_history.ancestors(run.path)]
    for path in dict.fromkeys(paths):
        run_samples = samples.read(path)
        known_N, star_N = training_history.stars_of_both(run_samples, spectra)
        for number in range(len(PARTS)):
            flags[number] |= np.isin(star_N, known_N[run_samples.part_N == number])
    return SeenParts(*flags)


def not_held_out(members: Members, store: Store, place_N2: Places) -> Places:
    """The places of spectra, labelled or not, without those of validation and test stars."""
    if not len(place_N2):
        return place_N2
    seen = seen_parts(members, columns_of(store, place_N2, STAR_COLUMNS))
    return np.delete(place_N2, np.union1d(seen.part("validation"), seen.part("test")), 0)


def pool_samples(members: Members, store: Store) -> Samples:
    """The labelled spectra of a store that are in a part of at least one member, with the labels of all
    members.

    Where members disagree on a label, a class or a star's name, the first member that knows it counts.
    """
    each = [one.at(np.flatnonzero(one.part_N >= 0)) for one in _samples_of_runs(members, store)]
    keys = [one.shard_row_N2[:, 0] << 32 | one.shard_row_N2[:, 1] for one in each]
    key_N = np.unique(np.concatenate([np.empty(0, np.int64), *keys]))
    arrays = {name: np.full((len(key_N), len(members.labels)), np.nan) for name in ("label_NL", "error_NL")}
    class_N, row_N, rows_before = np.full(len(key_N), MISSING, np.int8), np.full(len(key_N), -1), 0
    for one, key in zip(each, keys, strict=True):
        row = np.searchsorted(key_N, key)
        class_N[row] = np.where(class_N[row] == MISSING, one.class_N, class_N[row])
        row_N[row] = np.where(row_N[row] < 0, rows_before + np.arange(len(key)), row_N[row])
        for number, name in enumerate(one.labels):
            column = members.labels.index(name)
            unknown = np.isnan(arrays["label_NL"][row, column])
            for kind, array in arrays.items():
                array[row, column] = np.where(unknown, getattr(one, kind)[:, number], array[row, column])
        rows_before += len(key)
    tables = [one.extra for one in each] or [samples.read(members.runs[0].path).extra]
    extra = pa.concat_tables(tables, promote_options="default")  # members may have different extra columns
    shard_row_N2 = np.stack([key_N >> 32, key_N & 0xFFFFFFFF], 1)
    part_N = np.full(len(key_N), -1, np.int8)
    extra = extra.take(pa.array(row_N))
    pool = Samples(members.labels, shard_row_N2, part_N, class_N, extra=extra, **arrays)
    return _with_answers(members, store, pool)


def _samples_of_runs(members: Members, store: Store) -> list[Samples]:
    """The samples of each member that was trained on a store.

    True classes are those of the members that predict classes. If none here does, they are those of members
    with the same names of classes and definition of CEMP, and with the names `CLASSES` if no member at all
    predicts classes.
    """
    runs = [run for run in members.runs if run.document.store.id == store.id]
    any_classifies = any(run.net.task.classifies for run in runs)
    wanted, found = (members.classes or CLASSES, criterion_of(members.runs)), []
    for run in runs:
        own = run.document.classes, criterion_of_run(run.document.settings)
        counts = run.net.task.classifies if any_classifies else own == wanted
        labelled = samples.read(run.path)
        found.append(labelled if counts else without_classes(labelled))
    return found


def without_classes(labelled: Samples) -> Samples:
    """The samples with unknown classes."""
    return replace(labelled, class_N=np.full_like(labelled.class_N, MISSING))


def part_samples(members: Members, store: Store, name: str) -> Samples:
    """The labelled spectra of a part of all members together; of a single run in its own store, the run's
    part.
    """
    if len(members.runs) == 1 and members.runs[0].document.store.id == store.id:
        return _with_answers(members, store, _samples_of_runs(members, store)[0].part(name))
    pool = pool_samples(members, store)
    return pool.at(seen_parts(members, pool.extra).part(name)) if len(pool) else pool


def unseen(members: Members, spectra: pa.Table) -> NDArray[np.int64]:
    """The rows of the spectra whose stars no member, and no run before it, was trained or validated on."""
    unseen_of = [training_history.unseen(run.path, spectra) for run in members.runs]
    return functools.reduce(np.intersect1d, unseen_of)


def unseen_by(ensemble: Ensemble, spectra: pa.Table) -> NDArray[np.int64]:
    """The rows of `unseen`, without the stars that the ensemble was recalibrated with."""
    rows = unseen(ensemble.members, spectra)
    return rows[~recalibrated(ensemble.path, spectra)[rows]]


def present_folder(path: str, owner: str, identity: str) -> str:
    """Where the ensemble that made the folder `owner` lies now; its old path if that is not known."""
    with suppress(LostFolderError):
        return find_folder(path, owner, ENSEMBLE, identity)
    return path


def recalibrated(ensemble: str, spectra: pa.Table) -> Flags:
    """Which spectra are of stars that the ensemble in this folder was recalibrated with; none of a run."""
    folder, none_N = Folder(ensemble, ENSEMBLE), np.zeros(spectra.num_rows, bool)
    document = folder.document() if folder.is_finished() else None
    if document is None or not document.recalibration.labels:
        return none_N
    if samples.SAMPLES not in document.content:
        logging.getLogger(__name__).warning(
            "%s: does not say which stars it was recalibrated with, which may be among those that test it; "
            "make the ensemble again",
            ensemble,
        )
        return none_N
    known_N, star_N = training_history.stars_of_both(samples.read(ensemble), spectra)
    return np.isin(star_N, known_N)


def seen_in_training(runs: Mapping[str, str], owner: str, spectra: pa.Table) -> tuple[Flags, int]:
    """Which spectra are of stars that one of the runs was trained or validated on.

    `runs` are paths, as the folder `owner` has them, with ids. The second value is the number of runs that
    are not found any more; their stars are unknown.
    """
    seen_N, missing = np.zeros(spectra.num_rows, bool), 0
    for path, identity in runs.items():
        try:
            run = find_folder(path, owner, RUN, identity)
        except LostFolderError:
            missing += 1
            continue
        unseen_N = np.zeros(spectra.num_rows, bool)
        unseen_N[training_history.unseen(run, spectra)] = True
        seen_N |= ~unseen_N
    return seen_N, missing


def with_own_columns(settings: Join, runs: Sequence[Mapping[str, Any]]) -> Join:
    """The settings with the names of columns that trainings were given (the settings of `runs`), as far as
    the table has them.
    """
    joins = [values.get("join") or {} for values in runs]
    for values in runs:
        joins += [source.get("join") or {} for source in (values.get("sources") or {}).values()]
    return add_columns(settings, [join.get("columns", {}) for join in joins])


def with_own_classes(settings: Join, predicted: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> Join:
    """The settings with the names of the predicted classes.

    Where none are predicted, classes only say how well they follow from labels: the names are `CLASSES`, and
    none are read if a training (the settings of `runs`) had other names.
    """
    if predicted:
        return settings.model_copy(update={"class_names": tuple(predicted)})
    names = {tuple((values.get("join") or {}).get("class_names", CLASSES)) for values in runs}
    changes = {"class_names": CLASSES} if names <= {CLASSES} else {"classes": "none"}
    return settings.model_copy(update=changes)


def member_settings(runs: Mapping[str, str], owner: str) -> list[dict[str, Any]]:
    """The settings of the runs that are found; `runs` are paths with ids, as the folder `owner` has them."""
    found = []
    for path, identity in runs.items():
        with suppress(LostFolderError):
            found.append(run_document(find_folder(path, owner, RUN, identity)).settings)
    return found


def label_samples(members: Members, store: Store, settings: Join) -> Samples:
    """The spectra of a store that a label table knows, with the labels that the members predict."""
    trainings = [run.document.settings for run in members.runs]
    settings = with_own_columns(settings, trainings)
    wanted = available_labels(settings, members.labels)
    settings = with_own_classes(settings, members.classes, trainings)
    labelled = samples.from_labelled(join.join(settings, store, wanted), members.labels)
    return _with_answers(members, store, labelled)


def _with_answers(members: Members, store: Store, labelled: Samples) -> Samples:
    """The samples of objects about which members can give classes and every label: for each of these, a
    member has its input. The log says how many others there are.
    """
    if store.image_shape is None or not len(labelled):  # without images every row has a spectrum
        return labelled
    predicting = [[run for run in members.runs if run.net.task.classifies]]
    predicting += [[run for run in members.runs if name in run.labels] for name in members.labels]
    groups = [group for group in predicting if group] or [list(members.runs)]
    needed = {frozenset(name for run in group for name in run.net.answers_from) for group in groups}
    for inputs in sorted(map(sorted, needed)):
        labelled, left_out = with_input(labelled, inputs, store.path)
        if left_out:
            logging.getLogger(__name__).warning("%s: %s", store.path, left_out)
    return labelled
