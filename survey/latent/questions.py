"""The questions that classifiers answer: on which rows they learn each, and what they reach.

A network that has learned classes or labels has seen the answers for its own stars: their latents are not
those of other stars. Rows of stars that it was trained or validated on are left out. Shapes: N rows, C
components, S statistics.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey.ensemble.holdout import seen_in_training
from survey.latent.classifiers import labelled_rows, score_classifiers
from survey.latent.latents import Floats32, Latents, Rows
from survey.latent.row_labels import RowClasses, RowLabels, RowNumbers, key_table, object_names
from survey.latent.settings import Classifiers
from survey.stored_paths import LostFolderError, find_folder
from survey.training.run import RUN, run_document

STATISTICS, LATENT_FEATURES = "statistics", "latent"


@dataclass(frozen=True)
class LeftOut:
    """What classifiers leave out of the `labelled` rows: those `seen` in training, and of the `chosen` others
    those `without_statistics`. `unknown` counts the latter by statistic.
    """

    labelled: int
    seen: int
    chosen: int
    without_statistics: int
    unknown: Mapping[str, int]

    def texts(self) -> list[str]:
        """What is left out, in words."""
        texts = []
        if self.seen:
            texts.append(
                f"left out: {self.seen:,} of {self.labelled:,} rows, whose stars the network was trained or "
                "validated on"
            )
        if self.without_statistics:
            largest = sorted(self.unknown.items(), key=lambda item: -item[1])
            columns = ", ".join(f"{name} of {count:,}" for name, count in largest)
            texts.append(
                f"left out: {self.without_statistics:,} of {self.chosen:,} rows, whose statistics are "
                f"unknown ({columns}); statistics_columns= may name others"
            )
        return texts


@dataclass
class Learned:
    """What classifiers learn of all questions (see `classifiers.SCHEMA`), why nothing is learned of some, and
    what is left out of each. `missing_members` have unknown stars.
    """

    scores: list[dict[str, Any]] = field(default_factory=list)
    why_not: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    missing_members: int = 0


def learn_questions(
    latents: Latents, labels: RowLabels, component_NC: Floats32, settings: Classifiers
) -> Learned:
    """Learn every question from the latent, and from the statistics if there are some."""
    has_latent_N = np.isfinite(component_NC[:, 0])
    labelled = [np.flatnonzero(has_latent_N & (question.class_N >= 0)) for question in labels.questions]
    every = np.unique(np.concatenate(labelled))
    seen_N, missing = _seen_rows(latents, every)
    learned = Learned(missing_members=missing)
    unseen = every[~seen_N]
    chosen = [_part(np.intersect1d(rows, unseen, assume_unique=True), settings) for rows in labelled]
    every = np.unique(np.concatenate(chosen))
    object_N = object_names(latents, every)
    for question, rows, with_class in zip(labels.questions, chosen, labelled, strict=True):
        seen = len(with_class) - len(np.intersect1d(with_class, unseen, assume_unique=True))
        features: dict[str, Floats32] = {LATENT_FEATURES: component_NC[rows]}
        if labels.statistics:
            features[STATISTICS] = labels.statistics.value_NS[rows]
        without, unknown = _unknown(labels.statistics, features)
        learned.left_out[question.name] = LeftOut(len(with_class), seen, len(rows), without, unknown)
        _learn(question, rows, object_N[np.searchsorted(every, rows)], features, settings, learned)
    if missing:
        logging.getLogger(__name__).warning(
            "latent: %d members are not found any more; classifiers may be tested on their stars", missing
        )
    return learned


def _learn(
    question: RowClasses,
    rows: Rows,
    object_N: NDArray[np.object_],
    features: Mapping[str, Floats32],
    settings: Classifiers,
    learned: Learned,
) -> None:
    """Learn one question, or say why not."""
    left_out = learned.left_out[question.name].texts()
    known = labelled_rows(question, rows, object_N, features, settings)
    if isinstance(known, str):
        learned.why_not[question.name] = "; ".join([f"{question.name}: {known}", *left_out])
        return
    for text in left_out:
        logging.getLogger(__name__).warning("latent: %s: %s", question.name, text)
    learned.scores += score_classifiers(known, settings)


def _seen_rows(latents: Latents, rows: Rows) -> tuple[NDArray[np.bool_], int]:
    """Which of these rows are of stars that a member was trained or validated on, and how many members are
    not found any more. A member that learned without classes and labels has seen no answers.
    """
    owner = latents.predictions.path
    members = latents.predictions.member_ids
    taught = {path: identity for path, identity in members.items() if _has_task(path, identity, owner)}
    if not taught or not len(rows):
        return np.zeros(len(rows), bool), 0
    return seen_in_training(taught, owner, key_table(latents, rows))


def _has_task(path: str, identity: str, owner: str) -> bool:
    """Whether a member has learned classes or labels; a member that is not found may have."""
    try:
        run = find_folder(path, owner, RUN, identity)
    except LostFolderError:
        return True
    return run_document(run).task.kind != "none"


def _part(rows: Rows, settings: Classifiers) -> Rows:
    """The rows, or a random part of them."""
    if len(rows) <= settings.most:
        return rows
    return np.sort(np.random.default_rng(settings.seed).choice(rows, settings.most, replace=False))


def _unknown(statistics: RowNumbers | None, features: Mapping[str, Floats32]) -> tuple[int, dict[str, int]]:
    """How many rows have unknown statistics, and of how many each statistic is unknown."""
    if statistics is None:
        return 0, {}
    unknown_NS = ~np.isfinite(features[STATISTICS])
    counts = dict(zip(statistics.names, unknown_NS.sum(0).tolist(), strict=True))
    return int(unknown_NS.any(1).sum()), {name: count for name, count in counts.items() if count}
