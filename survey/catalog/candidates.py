"""Which stars are candidates, and the lists of candidates with counts of all stars.

A star is a candidate if its score is high enough and it is asked (`survey.catalog.asked`). Without class
probabilities, its labels decide. A CEMP candidate is an MP candidate too. Shapes: N stars.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.answers import ColumnSpec
from survey.catalog import asked, flags, thresholds
from survey.catalog.criteria import add_criteria
from survey.catalog.flags import DEFINITIONS, FlagRules
from survey.catalog.prior import ordinary_probabilities
from survey.catalog.settings import LIST_NAMES, ListName, VisitSettings, inner_lists, list_classes
from survey.catalog.thresholds import Threshold
from survey.catalog.visit_groups import VisitScatter
from survey.catalog.visits import Flags, combine_visits, float_column, is_ruled_out
from survey.labelling.star_id import Codes
from survey.labels import CLASSES, MISSING, Criterion, metal_poor
from survey.tables.columns import described_field

COLUMNS: dict[str, ColumnSpec] = {
    f"{name.lower()}_candidate": (
        "bool",
        f"the star is in the list of {name} candidates: its score is high enough, no flag excludes it",
        "",
        "meta.code.class",
    )
    for name in LIST_NAMES
}
RANK: ColumnSpec = ("int32", "rank in the list, 1 = the best candidate", "", "stat.rank")
FIRST_COLUMNS = (
    "rank",
    "star",
    "ra",
    "dec",
    "score_mp",
    "score_cemp",
    "predicted_class",
    "class_by_labels",
    "feh_class",
    "flag_warn",
    "n_visits",
    "snr_total",
)
"""The columns that a list begins with."""
Counts = dict[str, Counter[str]]
"""Numbers of stars: for each column, by its values."""
NOT_SELECTED = "nothing: neither class probabilities nor the labels that the list needs are predicted"


@dataclass(frozen=True)
class CandidateRules:
    """How the rows of a star become one row, with its class, its flags, its scores, and whether it is a
    candidate.

    Without thresholds (the ensemble predicts no classes) a star is a candidate by its labels: metal-poor by
    [Fe/H] alone, even if carbon is unknown.
    """

    criterion: Criterion
    visits: VisitSettings
    flags: FlagRules
    thresholds: Mapping[ListName, Threshold]
    scatter: VisitScatter = field(default_factory=dict)

    def stars(self, rows: pa.Table, star_N: Codes) -> pa.Table:
        """The stars of some rows of predictions."""
        stars = add_criteria(combine_visits(rows, star_N, self.visits, self.scatter), self.criterion)
        p_NC = ordinary_probabilities(stars)
        for threshold in self.thresholds.values():
            column = thresholds.COLUMNS[threshold.column]
            stars = append_column(stars, threshold.column, column, threshold.score(p_NC))
        bits = self.flags.flags(stars)
        for (name, column), bits_N in zip(flags.COLUMNS.items(), bits, strict=True):
            stars = append_column(stars, name, column, bits_N)
        for name, values in asked.asked_columns(stars, bits, self.flags).items():
            stars = append_column(stars, name, asked.COLUMNS[name], values)
        asked_N = asked.is_asked(stars)
        for list_name, name in zip(LIST_NAMES, COLUMNS, strict=True):
            stars = append_column(stars, name, COLUMNS[name], self.selected(stars, list_name) & asked_N)
        return stars

    def selected(self, stars: pa.Table, name: ListName) -> Flags:
        """Stars that belong in a list by their score (without scores by their labels), whatever their flags.

        Stars that belong in an inner list belong in this one too: a CEMP star is metal-poor. Stars that a
        cascade has ruled out belong in none: not all members have seen them.
        """
        lists = (name, *inner_lists(name))
        selected = np.logical_or.reduce([self._selected(stars, one) for one in lists])
        return np.asarray(selected & ~is_ruled_out(stars))

    def selected_by(self, name: ListName, labels: Collection[str]) -> str:
        """What selects the candidates of a list, in words."""
        if name in self.thresholds:
            threshold = self.thresholds[name]
            inner = "".join(f" or a candidate of the {other} list" for other in inner_lists(name))
            return f"{threshold.column} >= {threshold.value:.6g}{inner}, no flag that excludes"
        if "FeH" not in labels or (name == "CEMP" and not {"CFe", "CH"} & set(labels)):
            return NOT_SELECTED
        return f"{'[Fe/H]' if name == 'MP' else '[Fe/H] and [C/Fe]'}, no flag that excludes"

    def _selected(self, stars: pa.Table, name: ListName) -> Flags:
        if name in self.thresholds:
            threshold = self.thresholds[name]
            score_N = stars[threshold.column].fill_null(-1).to_numpy()
            return np.asarray(score_N >= np.float32(threshold.value))
        if name == "MP":
            return metal_poor(float_column(stars, "FeH"))
        if "class_by_labels" not in stars.column_names:
            return np.zeros(stars.num_rows, bool)
        return np.isin(stars["class_by_labels"].fill_null(MISSING).to_numpy(), list_classes(name))


def append_column(stars: pa.Table, name: str, column: ColumnSpec, values: Any) -> pa.Table:
    """The stars with one more column; NaN becomes null."""
    field = described_field(name, *column)
    return stars.append_column(field, pa.array(values, field.type, from_pandas=values.dtype.kind == "f"))


@dataclass
class CandidateLists:
    """The candidates so far, a mark for each star that is one, and counts of all stars."""

    stars: int = 0
    counts: Counts = field(default_factory=dict)
    is_listed: dict[ListName, list[Flags]] = field(default_factory=lambda: {name: [] for name in LIST_NAMES})
    tables: dict[ListName, list[pa.Table]] = field(default_factory=lambda: {name: [] for name in LIST_NAMES})

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        self.stars += stars.num_rows
        for name, column in zip(LIST_NAMES, COLUMNS, strict=True):
            self.is_listed[name].append(stars[column].to_numpy(zero_copy_only=False))
            candidates = stars.filter(stars[column])
            if candidates.num_rows or not self.tables[name]:
                self.tables[name].append(candidates)
        for column, counted in _count(stars):
            self.counts.setdefault(column, Counter()).update(counted)

    def is_candidate(self, name: ListName) -> Flags:
        """For each star in the order of the catalog, whether it is in the list."""
        return np.concatenate([np.empty(0, bool), *self.is_listed[name]])

    def ranked(self, name: ListName) -> pa.Table:
        """The list, best candidate first."""
        return ranked(pa.concat_tables(self.tables[name]), name)


def ranking_column(columns: Collection[str], name: ListName) -> str | None:
    """The column that stars of a list are ranked by: the score, without scores a label, None without both."""
    by_label = ("CFe", "p_feh_mp") if name == "CEMP" else ("p_feh_mp",)
    return next((column for column in (f"score_{name.lower()}", *by_label) if column in columns), None)


def best_first(table: pa.Table, name: ListName) -> pa.Table:
    """The stars, best first.

    They are ordered by score. Equal scores, which a sure network gives often, are ordered by signal to noise,
    stars without a warning first.
    """
    keys = table.append_column("_warned", pc.not_equal(table["flag_warn"], 0).cast(pa.int8()))
    directions = {
        ranking_column(table.column_names, name): "descending",
        "_warned": "ascending",
        "snr_total": "descending",
        "ra": "ascending",
        "dec": "ascending",
    }
    sort_keys = [
        (column, direction) for column, direction in directions.items() if column in keys.column_names
    ]
    return table.take(pc.sort_indices(keys, sort_keys=sort_keys))


def ranked(table: pa.Table, name: ListName, second: Collection[str] = ()) -> pa.Table:
    """The stars of a list, best first, with their ranks; the most useful columns first."""
    table = best_first(table, name)
    table = append_column(table, "rank", RANK, np.arange(1, table.num_rows + 1, dtype=np.int32))
    names = (FIRST_COLUMNS[0], *second, *FIRST_COLUMNS[1:])
    first = [column for column in names if column in table.column_names]
    return table.select([*first, *(column for column in table.column_names if column not in first)])


def _count(stars: pa.Table) -> Iterator[tuple[str, dict[str, int]]]:
    """How many stars have each class, each class by [Fe/H], each flag, and several visits."""
    class_names = dict(enumerate(CLASSES)) | {MISSING: "no answer"}
    for column in ("predicted_class", "class_by_labels"):
        if column in stars.column_names:
            numbers, counts = np.unique(stars[column].fill_null(MISSING).to_numpy(), return_counts=True)
            pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
            yield column, {class_names[number]: count for number, count in pairs}
    if "feh_class" in stars.column_names:
        rows = pc.value_counts(stars["feh_class"]).to_pylist()
        yield "feh_class", {row["values"] or "unknown": row["counts"] for row in rows}
    for column, severity in zip(flags.COLUMNS, flags.SEVERITIES, strict=True):
        bits_N = stars[column].to_numpy()
        counted = {
            str(definition.bit.name): int(((bits_N & int(definition.bit)) != 0).sum())
            for definition in DEFINITIONS
            if definition.severity == severity
        }
        any_bit = {"any": int((bits_N != 0).sum())}
        yield column, any_bit | {name: count for name, count in counted.items() if count}
    yield from asked.count_asked(stars).items()
    visits_N = stars["n_visits"].to_numpy()
    yield "visits", {"stars with several": int((visits_N > 1).sum()), "total": int(visits_N.sum())}
