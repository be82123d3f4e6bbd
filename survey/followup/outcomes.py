"""A table of what observed stars are: true members of the list or not.

It has a column `star`, and `true` (or `verdict`): true, false, yes, no, 1 or 0; or the measured labels FeH
and CFe (or CH), to which the definition of the catalog is applied. Where there is a column `true`, or a
`verdict` in any row, labels are not used: they may be those that the networks predicted.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey.catalog.vetted import VERDICTS
from survey.followup.followup_document import FollowupDocument
from survey.labels import CLASSES, CRITERIA, Criterion, carbon_label, classes, label, metal_poor, values
from survey.settings import SettingsError
from survey.tables import cells
from survey.tables.ids import exact_ids
from survey.tables.read import TableFile, open_table

ANSWERS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0", "confirmed"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
NO_ANSWER = ("", "unknown", "?", "null", "none", "nan")
LABELS = ("FeH", "CFe", "CH", "Teff", "logg")
OWN = ("chosen_for", "inclusion_probability", "score_cemp", "score_mp")
"""Columns of a sample or of a list of a catalog: the labels of such a table are predicted."""


@dataclass(frozen=True)
class Outcomes:
    """For each observed star of the sample whether it belongs in the list; what became of all rows."""

    true_by_star: dict[str, bool]
    counts: dict[str, int]


def read_outcomes(
    path: str, document: FollowupDocument, sample: Collection[str], others: Collection[str]
) -> Outcomes:
    """The results in a table, for the stars of a sample; `others` are the other stars of the list.

    A star twice with the same result counts once; with two results it is an error.
    """
    table = open_table(path, "followup: results")
    star = table.find("star")
    if star is None:
        raise SettingsError(f"followup: results: {path}: no column star; {table.similar('star')}")
    ids = exact_ids(table.read([star])[star].combine_chunks(), star, f"followup: results: {path}")
    names = [text or "" for text in ids]
    true_R = _answers(table, path)
    if true_R is None or (not _has_answer(true_R) and table.find("true") is None):
        labelled_R = _by_labels(table, document, path)
        true_R = true_R if labelled_R is None else labelled_R
    if true_R is None:
        needed = "true (true or false), or FeH" + (" and CFe" if document.search == "CEMP" else "")
        raise SettingsError(f"followup: results: {path}: no column {needed}; {table.similar('true')}")
    known, rest = set(sample), set(others)
    found: dict[str, tuple[bool, int]] = {}
    counts: Counter[str] = Counter({"rows": len(names)})
    for row, (name, true) in enumerate(zip(names, true_R, strict=True)):
        if name not in known:
            counts["of the list, but not in the sample" if name in rest else "not in the list"] += 1
        elif true is None:
            counts["without a result"] += 1
        elif name not in found:
            found[name] = true, row + 2
            counts["used"] += 1
        elif found[name][0] == true:
            counts["twice"] += 1
        else:
            raise SettingsError(
                f"followup: results: {path}: star {name}: row {found[name][1]} and row {row + 2} say the "
                "opposite; keep one of them"
            )
    if not found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if reason != "rows")
        raise SettingsError(
            f"followup: results: {path}: none of its {len(names):,} rows is a result of a star of the sample "
            f"({reasons or 'empty'}); give names as in the column star of the sample"
        )
    return Outcomes({name: true for name, (true, _) in sorted(found.items())}, dict(counts))


def _has_answer(true_R: list[bool | None]) -> bool:
    return any(true is not None for true in true_R)


def _answers(table: TableFile, path: str) -> list[bool | None] | None:
    """The column `true`, or `verdict` if only that one is filled; None without such a column."""
    columns = [name for name in map(table.find, ("true", "verdict")) if name]
    answers = [_column_answers(table, name, path) for name in columns]
    return next(filter(_has_answer, answers), answers[0] if answers else None)


def _column_answers(table: TableFile, name: str, path: str) -> list[bool | None]:
    """What a column says of each row."""
    answers = []
    column = table.read([name])[name].combine_chunks()
    texts = column.cast(pa.string()) if pa.types.is_boolean(column.type) else cells.text(column)
    for row, text in enumerate(texts.to_pylist(), 2):
        word = (text or "").strip().lower()
        if word in VERDICTS:
            raise SettingsError(
                f"followup: results: {path}: row {row}: {word} is a verdict by eye, no result of an "
                "observation; give true or false, or give this table as verdicts="
            )
        if word not in ANSWERS and word not in NO_ANSWER:
            raise SettingsError(
                f"followup: results: {path}: row {row}: {name} is {text!r}; give true, false or nothing"
            )
        answers.append(ANSWERS.get(word))
    return answers


def _by_labels(table: TableFile, document: FollowupDocument, path: str) -> list[bool | None] | None:
    """What measured labels say by the definition of the catalog; None without the labels that it needs."""
    columns = {name: table.find(name, *label(name).aliases) for name in LABELS}
    if columns["FeH"] is None:
        return None
    if own := table.find(*OWN):
        raise SettingsError(
            f"followup: results: {path}: has the column {own}, so its {columns['FeH']} is what the networks "
            "predict; add a column true (true or false), or give a table of star and measured labels only"
        )
    read = table.read([name for name in columns.values() if name])
    found: dict[str, NDArray[np.float64]] = {}
    for name, column in columns.items():
        numbers = np.full(read.num_rows, np.nan)
        if column:
            numbers = (
                cells.numbers(read[column].combine_chunks()).fill_null(np.nan).to_numpy(zero_copy_only=False)
            )
        found[name] = values(label(name), numbers)
    if document.search == "MP":
        known = np.isfinite(found["FeH"])
        member = metal_poor(found["FeH"])
    else:
        cfe = np.where(np.isnan(found["CFe"]), carbon_label("CFe", found), found["CFe"])
        criterion: Criterion = next(name for name in CRITERIA if name == document.criterion)
        number = classes(found["FeH"], cfe, criterion, found["Teff"], found["logg"])
        known, member = number >= 0, number == CLASSES.index("CEMP")
    return [bool(true) if is_known else None for true, is_known in zip(member, known, strict=True)]
