"""Classes and other numbers of the rows of predictions, from tables that are joined to them.

A question is a column of classes of any names. Two rows of a table that belong to the same row of
predictions and contradict each other give no class. Shapes: R rows of a table, N rows of predictions, S
statistics.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from survey import files
from survey.labelling import star_id, votes
from survey.labelling.keys import KeyColumns, key_columns, to_floats
from survey.labelling.match import TOLERANCE, Match, best_match, match_by, match_by_row
from survey.labelling.settings import Key
from survey.labelling.visit_names import visits_of_files
from survey.latent.latents import KEYS, Latents, Rows
from survey.latent.settings import LatentSettings, RowKeys
from survey.predict.output import IDENTITY_COLUMNS
from survey.settings import SettingsError
from survey.tables import cells
from survey.tables.read import TableFile, open_table

CLASS_COLUMNS = ("class", "class_name", "morphology", "label", "f_CEMP")
"""The usual names of the column of classes, best first."""
MOST_CLASSES = 100
JOB = "latent"

Codes = NDArray[np.int32]
Strings = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class RowClasses:
    """A question: the names of its classes, and the class of each row of predictions (-1: unknown)."""

    name: str
    classes: tuple[str, ...]
    class_N: Codes
    contradicting: int = 0

    @property
    def known(self) -> int:
        """How many rows have a class."""
        return int((self.class_N >= 0).sum())


@dataclass(frozen=True)
class RowNumbers:
    """Other numbers (N, S) of the rows of predictions, NaN where unknown."""

    names: tuple[str, ...]
    value_NS: NDArray[np.float32]


class JoinRecord(BaseModel):
    """How a table was joined: its rows, its key, and how many rows of predictions it has found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    rows: int
    key: str
    matched: int


@dataclass
class RowLabels:
    """All that tables say about the rows of predictions."""

    questions: list[RowClasses] = field(default_factory=list)
    statistics: RowNumbers | None = None
    records: list[JoinRecord] = field(default_factory=list)


def read_labels(settings: LatentSettings, latents: Latents) -> RowLabels:
    """The classes of the label table and of the votes, and the statistics, as far as they are given."""
    found = RowLabels()
    if not (settings.has_labels or settings.statistics):
        return found
    spectra = key_table(latents)
    if settings.labels:
        table = open_table(settings.labels, JOB)
        columns, match = _joined(table, class_columns(settings, table), settings.join, spectra, found.records)
        for name in class_columns(settings, table):
            texts = _class_texts(table, name, columns[name].combine_chunks())
            found.questions.append(_question(name, texts, match))
    if settings.votes:
        table = open_table(settings.votes, JOB)
        answers = votes.vote_columns(table)
        columns, match = _joined(table, list(answers.values()), settings.join, spectra, found.records)
        decided = votes.classes_of_votes(columns, answers, settings.cuts)
        found.questions += [_question(name, texts, match) for name, texts in decided.items()]
    _check_names([question.name for question in found.questions])
    if settings.statistics:
        found.statistics = _statistics(settings, spectra, found)
    return found


def _check_names(names: Sequence[str]) -> None:
    """A question of the votes may have the name of a column of classes."""
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise SettingsError(
            f"latent: classes: {twice[0]} is a question of votes= too; rename that column, or give "
            "labels= and votes= to two looks in folders of their own"
        )


def key_table(latents: Latents, rows: Rows | None = None) -> pa.Table:
    """The columns that say which object each row of predictions is; null where there is no such column.

    With `rows`, only those of these rows, in their order.
    """
    present = [name for name in KEYS if name in latents.identity]
    if rows is None:
        tables = pa.concat_tables(table for _, table in latents.tables(present))
    else:
        tables = latents.take(rows, present)
    columns = {}
    for name in KEYS:
        kind = pa.type_for_alias(IDENTITY_COLUMNS[name][0])
        missing = pa.scalar(-1 if name == "row" else None, kind)  # row -1: a file of its own
        known = name in present
        columns[name] = tables[name].cast(kind) if known else pa.repeat(missing, tables.num_rows)
    return pa.table(columns).combine_chunks()


def object_names(latents: Latents, rows: Rows) -> NDArray[np.object_]:
    """The star or object of each of these rows; the row itself where nothing names it."""
    table = key_table(latents, rows)
    ra_N, dec_N = (to_floats(table[name].combine_chunks()) for name in ("ra", "dec"))
    numbers = pc.binary_join_element_wise("row", pc.cast(pa.array(rows), pa.string()), " ")
    visits = pc.coalesce(visits_of_files(table), numbers)
    return star_id.identify([table["star"].combine_chunks()], ra_N, dec_N, visits)


def class_columns(settings: LatentSettings, table: TableFile) -> list[str]:
    """The columns of classes: the user's, or one of the usual names."""
    for name in settings.classes:
        if name not in table.names:
            raise SettingsError(
                f"latent: classes: {table.path}: there is no column {name!r}; {table.similar(name)}"
            )
    if settings.classes:
        return list(settings.classes)
    column = table.find(*CLASS_COLUMNS)
    if not column:
        raise SettingsError(
            f"latent: labels: {table.path}: no column of classes among {', '.join(table.names[:40])}; "
            "give classes=[COLUMN]"
        )
    return [column]


def _joined(
    table: TableFile, wanted: Sequence[str], keys: RowKeys, spectra: pa.Table, records: list[JoinRecord]
) -> tuple[pa.Table, Match]:
    """The columns of a table, and the match of its rows with the rows of predictions."""
    key_names = key_columns(table, keys.columns, keys.star)
    columns = table.read([*wanted, *key_names.names()])
    keep_R = np.ones(columns.num_rows, bool)
    there = key_names.keys()
    offered = keys.offered(there)

    def match(key: Key) -> Match:
        return match_by(key, columns, key_names, spectra, keep_R)

    if missing := [key for key in offered if key not in there]:
        raise SettingsError(
            f"latent: join.key: {table.path}: there is no column for {missing[0]}; "
            f"{table.similar(missing[0])}; give join.columns= or another key"
        )
    best: tuple[str, Match] | None = best_match(offered, match)
    if best is None:
        by_row = match_by_row(files.absolute(table.path), bool(offered), spectra, keep_R)
        if by_row is None:
            raise SettingsError(_no_match(table, key_names, columns, spectra))
        best = "row", by_row
    key, found = best
    matched = int((found.code_N >= 0).sum())
    records.append(JoinRecord(table=table.path, rows=columns.num_rows, key=key, matched=matched))
    return columns, found


def _no_match(table: TableFile, names: KeyColumns, columns: pa.Table, spectra: pa.Table) -> str:
    offered = ", ".join(names.keys()) or "none"
    first = {name: columns[name][0].as_py() for name in names.names()}
    there = {name: spectra[name][0].as_py() for name in ("visit", "star", "obsid", "ra", "dec")}
    return (
        f"latent: {table.path}: no row belongs to a row of the predictions (keys: {offered}; "
        f"first row there {first}, here {there}); give join.columns= or another table"
    )


def _class_texts(table: TableFile, name: str, column: pa.Array) -> pa.Array:
    """The classes of a column as text."""
    if pa.types.is_floating(column.type):
        number_R = to_floats(column)
        if np.any(number_R[np.isfinite(number_R)] % 1):
            raise SettingsError(
                f"latent: classes: {table.path}: {name} holds fractions, no classes; give another column, "
                "or make classes of its numbers first"
            )
    texts = cells.text(column)
    if len(texts.unique()) > MOST_CLASSES + 1:
        examples = ", ".join(map(str, texts.unique().to_pylist()[:5]))
        raise SettingsError(
            f"latent: classes: {table.path}: {name} has more than {MOST_CLASSES} values ({examples}, ...); "
            "give a column of classes"
        )
    return texts


def _question(name: str, texts: pa.Array, match: Match) -> RowClasses:
    """The classes of the rows of predictions; the names in order."""
    code_R, words = star_id.encode(texts)
    order = np.argsort(words.to_numpy(zero_copy_only=False).astype(str))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    lowest_G, highest_G = _extremes(rank, code_R, match)
    contradicting_G = lowest_G < highest_G
    class_G = np.where(contradicting_G | (highest_G < 0), -1, highest_G)
    class_N = np.append(class_G, -1)[match.code_N].astype(np.int32)
    contradicting = int(np.append(contradicting_G & (highest_G >= 0), False)[match.code_N].sum())
    names = tuple(words.to_numpy(zero_copy_only=False)[order].astype(str).tolist())
    return RowClasses(name, names, class_N, contradicting)


def _extremes(
    rank: NDArray[np.int64], code_R: NDArray[np.int64], match: Match
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest class among the rows of each code of the match; -1 where there is none."""
    groups = int(max(match.code_R.max(initial=-1), match.code_N.max(initial=-1))) + 1
    lowest_G, highest_G = np.full(groups, np.iinfo(np.int64).max), np.full(groups, -1, np.int64)
    rows = np.flatnonzero((code_R >= 0) & (match.code_R >= 0))
    np.minimum.at(lowest_G, match.code_R[rows], rank[code_R[rows]])
    np.maximum.at(highest_G, match.code_R[rows], rank[code_R[rows]])
    return np.minimum(lowest_G, highest_G), highest_G


def _statistics(settings: LatentSettings, spectra: pa.Table, found: RowLabels) -> RowNumbers:
    """The numbers of the table of statistics at the rows of predictions; never what a question asks."""
    table = open_table(settings.statistics, JOB)
    keys = set(key_columns(table, settings.join.columns, settings.join.star).names())
    asked = {question.name.lower() for question in found.questions}

    def is_answer(name: str) -> bool:
        return name.lower() in asked or bool(settings.votes and votes.is_vote_column(name))

    wanted = list(settings.statistics_columns)
    if absent := [name for name in wanted if name not in table.names]:
        raise SettingsError(
            f"latent: statistics_columns: {table.path}: there is no column {absent[0]!r}; "
            f"{table.similar(absent[0])}"
        )
    if answers := [name for name in wanted if is_answer(name)]:
        raise SettingsError(f"latent: statistics_columns: {answers[0]} is what a question asks; leave it out")
    wanted = wanted or [name for name in table.names if name not in keys and not is_answer(name)]
    columns, match = _joined(table, wanted, settings.join, spectra, found.records)
    numbers = {name: to_floats(columns[name].combine_chunks()) for name in wanted}
    names = [name for name, value_R in numbers.items() if np.isfinite(value_R).mean() > 0.5]
    if not names:
        among = ", ".join(wanted[:40]) or "none"
        raise SettingsError(
            f"latent: statistics: {table.path}: no column of numbers among {among}; give statistics_columns="
        )
    value_NS, contradicting = _agreeing(np.stack([numbers[name] for name in names], 1), match)
    if contradicting:
        logging.getLogger(__name__).warning(
            "latent: statistics: %s: %d rows of the predictions have none, because rows of the table with "
            "the same %s contradict each other; a column path tells files of one name apart",
            *(table.path, contradicting, found.records[-1].key),
        )
    return RowNumbers(tuple(names), value_NS)


def _agreeing(value_RS: NDArray[np.float64], match: Match) -> tuple[NDArray[np.float32], int]:
    """The numbers of the rows of predictions, and for how many of these the rows of the table contradict each
    other. They have no numbers then, because it is unknown which of those rows is theirs.
    """
    groups = int(max(match.code_R.max(initial=-1), match.code_N.max(initial=-1))) + 1
    rows = np.flatnonzero(match.code_R >= 0)
    lowest_GS, highest_GS = np.full((2, groups + 1, value_RS.shape[1]), np.nan)  # the last: without a match
    np.fmin.at(lowest_GS, match.code_R[rows], value_RS[rows])
    np.fmax.at(highest_GS, match.code_R[rows], value_RS[rows])
    differ_G = (highest_GS - lowest_GS > TOLERANCE * np.maximum(1, np.abs(highest_GS))).any(1)
    highest_GS[differ_G] = np.nan
    return highest_GS[match.code_N].astype(np.float32), int(differ_G[match.code_N].sum())
