"""Vote fractions of Galaxy Zoo -> classes and answers to questions.

The table has a row for each galaxy and columns such as ``smooth-or-featured_smooth_fraction`` (Galaxy Zoo
DECaLS, Walmsley et al. 2022; DESI: Walmsley et al. 2023). Its ending may also be ``_debiased``, or there may
be none. A galaxy without a clear answer gets none. Shapes: R rows of the table, A answers to a question.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.labelling.keys import to_floats
from survey.labelling.vote_settings import VoteCuts
from survey.tables.read import TableFile

MORPHOLOGY = "morphology"
"""The name of the column of classes."""
ENDINGS = ("_fraction", "_debiased", "")
"""How the columns of fractions end, the preferred ending first."""

SMOOTH, FEATURED = "smooth-or-featured_smooth", "smooth-or-featured_featured-or-disk"
NOT_EDGE_ON, ARMS = "disk-edge-on_no", "has-spiral-arms_yes"
CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "merger": ("merger", ("merging_merger",)),
    "round": ("round", (SMOOTH, "how-rounded_round")),
    "in between": ("in_between", (SMOOTH, "how-rounded_in-between")),
    "cigar-shaped": ("cigar", (SMOOTH, "how-rounded_cigar-shaped")),
    "edge-on": ("edge_on", (FEATURED, "disk-edge-on_yes")),
    "no bar": ("no_bar", (FEATURED, NOT_EDGE_ON, "bar_no")),
    "weak bar": ("weak_bar", (FEATURED, NOT_EDGE_ON, "bar_weak")),
    "strong bar": ("strong_bar", (FEATURED, NOT_EDGE_ON, "bar_strong")),
}
"""The classes, with the setting of their cuts and the answers whose fractions must be above these.

A galaxy that two classes fit has the first.
"""


@dataclass(frozen=True)
class Question:
    """A question with its answers, each with the columns whose fractions are added; what leads to it."""

    answers: Mapping[str, tuple[str, ...]]
    before: tuple[str, ...] = ()


def _answers(question: str, *names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"{question}_{name}",) for name in names}


QUESTIONS = {
    "round": Question(_answers("how-rounded", "round", "in-between", "cigar-shaped"), (SMOOTH,)),
    "edge_on": Question(_answers("disk-edge-on", "yes", "no"), (FEATURED,)),
    "bar": Question({"yes": ("bar_strong", "bar_weak"), "no": ("bar_no",)}, (FEATURED, NOT_EDGE_ON)),
    "arms": Question(_answers("has-spiral-arms", "yes", "no"), (FEATURED, NOT_EDGE_ON)),
    "winding": Question(
        _answers("spiral-winding", "tight", "medium", "loose"), (FEATURED, NOT_EDGE_ON, ARMS)
    ),
    "bulge": Question(
        _answers("bulge-size", "dominant", "large", "moderate", "small", "none"), (FEATURED, NOT_EDGE_ON)
    ),
    "merger": Question({"yes": ("merging_merger",), "no": ("merging_none",)}),
}


VOTES = (
    *("smooth-or-featured_", "how-rounded_", "disk-edge-on_", "edge-on-bulge_", "has-spiral-arms_"),
    *("spiral-winding_", "spiral-arm-count_", "bulge-size_", "bar_strong", "bar_weak", "bar_no", "merging_"),
)
"""What the columns of votes and of their fractions begin with."""


def is_vote_column(name: str) -> bool:
    """Whether a column of a table has votes or fractions of votes."""
    return name.lower().startswith(VOTES)


def vote_columns(table: TableFile) -> dict[str, str]:
    """The column of the fraction of each answer that the table has."""
    wanted = {name for _, answers in CLASSES.values() for name in answers}
    for question in QUESTIONS.values():
        wanted.update(question.before, *question.answers.values())
    found = {}
    for name in sorted(wanted):
        column = next((name + ending for ending in ENDINGS if name + ending in table.names), None)
        if column:
            found[name] = column
    if not found:
        raise ValueError(
            f"{table.job}: {table.path}: no column of vote fractions, such as {SMOOTH}{ENDINGS[0]}; "
            f"the columns are {', '.join(table.names[:20])}; give a table of Galaxy Zoo, or labels="
        )
    return found


def classes_of_votes(columns: pa.Table, found: Mapping[str, str], cuts: VoteCuts) -> dict[str, pa.Array]:
    """The classes and the answers of all rows as text, null where there is none, by the question's name.

    What the columns that were `found` cannot decide is left out.
    """
    fraction = {name: to_floats(columns[column].combine_chunks()) for name, column in found.items()}
    decided = {MORPHOLOGY: _morphology(fraction, columns.num_rows, cuts)}
    for name, question in QUESTIONS.items():
        answers = {
            answer: parts for answer, parts in question.answers.items() if set(parts) <= fraction.keys()
        }
        if len(answers) > 1 and set(question.before) <= fraction.keys():
            decided[name] = _answered(fraction, answers, question.before, cuts)
    return {name: column for name, column in decided.items() if column.null_count < len(column)}


def _morphology(fraction: Mapping[str, NDArray[np.float64]], rows: int, cuts: VoteCuts) -> pa.Array:
    class_R = np.full(rows, None, object)
    for name, (setting, answers) in reversed(CLASSES.items()):
        if not set(answers) <= fraction.keys():
            continue
        limits = np.atleast_1d(getattr(cuts, setting))
        passes_R = np.ones(rows, bool)
        for answer, limit in zip(answers, limits, strict=True):
            passes_R &= fraction[answer] > limit  # False where the fraction is unknown
        class_R[passes_R] = name
    return pa.array(class_R, pa.string())


def _answered(
    fraction: Mapping[str, NDArray[np.float64]],
    answers: Mapping[str, tuple[str, ...]],
    before: tuple[str, ...],
    cuts: VoteCuts,
) -> pa.Array:
    """The answer with the largest fraction, if that is above the cut; null where two are equally large."""
    asked_R = np.all([fraction[name] > cuts.before for name in before], axis=0) if before else True
    total_RA = np.stack([np.sum([fraction[part] for part in parts], axis=0) for parts in answers.values()], 1)
    total_RA = np.where(np.isfinite(total_RA), total_RA, -np.inf)
    largest_R = total_RA.max(1)
    is_clear_R = (total_RA == largest_R[:, None]).sum(1) == 1
    names = np.array(list(answers), object)
    answer_R = names[total_RA.argmax(1)]
    answer_R[~(asked_R & is_clear_R & (largest_R > cuts.answer))] = None
    return pa.array(answer_R, pa.string())
