"""Which stars are candidates, and what is counted and kept of all stars while the catalog is written. Shapes: N stars."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.catalog import criteria, flags, thresholds, visits
from survey.catalog.flags import BITS
from survey.catalog.thresholds import KINDS, Kind, Threshold, yes
from survey.catalog.thresholds_of import Bars
from survey.catalog.visits import Flags, numbers, probabilities
from survey.labelling.star_id import Codes
from survey.labels import CLASSES, MISSING, Criterion, metal_poor
from survey.predict.output import Column, described

COLUMNS: dict[str, Column] = {
    f"{kind.lower()}_candidate": (
        "bool",
        f"in the list of {kind} candidates: its score is high enough, no flag bars it",
        "",
        "meta.code.class",
    )
    for kind in KINDS
}
RANK: Column = ("int32", "place in the list, 1 = the best candidate", "", "meta.number")
FIRST = (
    "rank",
    "star",
    "ra",
    "dec",
    "score_mp",
    "score_cemp",
    "said",
    "said_labels",
    "feh_class",
    "flag_warn",
    "n_visits",
    "snr_total",
)
"""The columns that a list begins with."""
Counts = dict[str, Counter[str]]
"""How many stars are of each kind, by what they are told apart."""
NOTHING = "nothing: neither class probabilities nor the labels that it takes are predicted"
"""By what the candidates of a list are told that nobody can tell."""


@dataclass(frozen=True)
class Rules:
    """How rows of predictions become rows of stars: by what they are judged, from which score on they are candidates.

    Without thresholds (the ensemble tells no classes) a star is a candidate by its parameters: metal-poor by [Fe/H], whatever is known of carbon.
    """

    criterion: Criterion
    bars: Bars
    thresholds: Mapping[Kind, Threshold]

    def __call__(self, rows: pa.Table, star_N: Codes) -> pa.Table:
        """The stars of some rows."""
        stars = criteria.judged(visits.combined(rows, star_N, self.bars.visits), self.criterion)
        p_NC = probabilities(stars)
        for threshold in self.thresholds.values():
            stars = _with(
                stars, threshold.column, thresholds.COLUMNS[threshold.column], threshold.score(p_NC)
            )
        for name, bits in zip(
            flags.COLUMNS, flags.of(stars, self.bars.ranges, self.bars.limits), strict=True
        ):
            stars = _with(stars, name, flags.COLUMNS[name], bits)
        held_N = self.bars.hold(*(stars[name].to_numpy() for name in flags.COLUMNS))
        for kind, column in zip(KINDS, COLUMNS, strict=True):
            chosen_N = self._chosen(stars, kind) & ~held_N
            stars = _with(stars, column, COLUMNS[column], chosen_N)
        return stars

    def told_by(self, kind: Kind, labels: Collection[str]) -> str:
        """By what of these labels, if not by a score, stars come into a list."""
        if kind in self.thresholds:
            return f"{self.thresholds[kind].column} >= {self.thresholds[kind].value:.6g}, no barring flag"
        if "FeH" not in labels or (kind == "CEMP" and not {"CFe", "CH"} & set(labels)):
            return NOTHING
        return f"{'[Fe/H]' if kind == 'MP' else '[Fe/H] and [C/Fe]'}, no barring flag"

    def _chosen(self, stars: pa.Table, kind: Kind) -> Flags:
        """Whose score, or without scores whose parameters, are those of a candidate."""
        if kind in self.thresholds:
            threshold = self.thresholds[kind]
            return np.asarray(stars[threshold.column].fill_null(-1).to_numpy() >= np.float32(threshold.value))
        if kind == "MP":
            return metal_poor(numbers(stars, "FeH"))
        if "said_labels" not in stars.column_names:
            return np.zeros(stars.num_rows, bool)
        return np.isin(stars["said_labels"].fill_null(MISSING).to_numpy(), yes(kind))


def _with(stars: pa.Table, name: str, column: Column, values: Any) -> pa.Table:
    one = described(name, column)
    return stars.append_column(one, pa.array(values, one.type, from_pandas=values.dtype.kind == "f"))


@dataclass
class Lists:
    """The candidates met so far, who is one among all stars, and counts of all stars."""

    stars: int = 0
    counts: Counts = field(default_factory=dict)
    chosen: dict[Kind, list[Flags]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    parts: dict[Kind, list[pa.Table]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, stars: pa.Table) -> None:
        """Further stars."""
        self.stars += stars.num_rows
        for kind, column in zip(KINDS, COLUMNS, strict=True):
            self.chosen[kind].append(stars[column].to_numpy(zero_copy_only=False))
            found = stars.filter(stars[column])
            if found.num_rows or not self.parts[kind]:
                self.parts[kind].append(found)
        for name, values in _counted(stars):
            self.counts.setdefault(name, Counter()).update(values)

    def is_candidate(self, kind: Kind) -> Flags:
        """Of all stars in their order, which are in the list."""
        return np.concatenate([np.empty(0, bool), *self.chosen[kind]])

    def ranked(self, kind: Kind) -> pa.Table:
        """The list, best first: by score; among equals, of whom a sure network makes many, those without a warning, then by signal to noise."""
        table = pa.concat_tables(self.parts[kind])
        score = f"score_{kind.lower()}" if f"score_{kind.lower()}" in table.column_names else "p_feh_mp"
        order = {
            score: "descending",
            "_warned": "ascending",
            "snr_total": "descending",
            "ra": "ascending",
            "dec": "ascending",
        }
        sortable = table.append_column("_warned", pc.not_equal(table["flag_warn"], 0).cast(pa.int8()))
        table = table.take(
            pc.sort_indices(
                sortable,
                sort_keys=[(name, way) for name, way in order.items() if name in sortable.column_names],
            )
        )
        table = _with(table, "rank", RANK, np.arange(1, table.num_rows + 1, dtype=np.int32))
        first = [name for name in FIRST if name in table.column_names]
        return table.select([*first, *(name for name in table.column_names if name not in first)])


def _counted(stars: pa.Table) -> Iterator[tuple[str, dict[str, int]]]:
    """How many stars are of each class, of each kind of metal-poor star, and have each bit."""
    names = dict(enumerate(CLASSES)) | {MISSING: "no answer"}
    for column in ("said", "said_labels"):
        if column in stars.column_names:
            value, count = np.unique(stars[column].fill_null(MISSING).to_numpy(), return_counts=True)
            yield (
                column,
                {names[number]: many for number, many in zip(value.tolist(), count.tolist(), strict=True)},
            )
    if "feh_class" in stars.column_names:
        yield (
            "feh_class",
            {
                row["values"] or "not known": row["counts"]
                for row in pc.value_counts(stars["feh_class"]).to_pylist()
            },
        )
    for column, severity in (("flag_warn", "warn"), ("flag_bad", "bad")):
        bits_N = stars[column].to_numpy()
        found = {
            str(row.bit.name): int(((bits_N & int(row.bit)) != 0).sum())
            for row in BITS
            if row.severity == severity
        }
        yield (
            column,
            {"any": int((bits_N != 0).sum())} | {name: count for name, count in found.items() if count},
        )
    yield (
        "visits",
        {
            "stars with several": int((stars["n_visits"].to_numpy() > 1).sum()),
            "in all": int(stars["n_visits"].to_numpy().sum()),
        },
    )
