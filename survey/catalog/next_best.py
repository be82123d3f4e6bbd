"""The stars that come next after a list of candidates, and what keeps each of them out.

Each is one step away from the list: its score is below the threshold, or flags exclude it though its score
is high enough. Stars of another kind are not: no setting of the list lets them in. Shapes: N stars.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.answers import ColumnSpec
from survey.catalog.asked import SEPARATOR, UNSURE, is_asked
from survey.catalog.candidates import CandidateRules, append_column, best_first, ranked, ranking_column
from survey.catalog.criteria import definitions
from survey.catalog.settings import ListName
from survey.catalog.visits import Flags, float_column

NOT_LISTED: ColumnSpec = (
    "string",
    "why the star is not in the list: a score below the threshold, or the flags that exclude it",
    "",
    "meta.note",
)


RULED_OUT_BY = "all its visits were ruled out by the cascade"
"""Why a star with a high enough score that no flag excludes is not in the list."""


@dataclass
class NextBest:
    """The best stars so far that are not in a list: at most `size` below the threshold, and as many excluded.

    `excluded` counts by flag the stars with a high enough score that flags exclude; `any` counts the stars.
    `other_kinds` counts stars with such a score that are not asked because of their kind.
    """

    rules: CandidateRules
    name: ListName
    size: int
    below: list[pa.Table] = field(default_factory=list)
    flagged: list[pa.Table] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    other_kinds: int = 0

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        selected_N = self.rules.selected(stars, self.name)
        unsure_N = np.asarray(pc.equal(stars["asked"], UNSURE), bool)
        flagged_N = selected_N & unsure_N
        self.other_kinds += int((selected_N & ~unsure_N & ~is_asked(stars)).sum())
        for row in pc.value_counts(stars["asked_why"].filter(pa.array(flagged_N))).to_pylist():
            reasons = row["values"].split(SEPARATOR)
            self.excluded.update(dict.fromkeys(["any", *reasons], row["counts"]))
        below_N = ~selected_N & is_asked(stars) & self._comes_near(stars)
        self._keep(self.flagged, stars, flagged_N)
        self._keep(self.below, stars, below_N)

    @property
    def count(self) -> int:
        """The number of stars."""
        return sum(table.num_rows for table in (*self.below, *self.flagged))

    def ranked(self) -> pa.Table:
        """The stars, best first, with the reason why each is not in the list."""
        below, flagged = pa.concat_tables(self.below), pa.concat_tables(self.flagged)
        table = pa.concat_tables([below, flagged])
        reasons = np.array([*self._below_reasons(below), *self._flag_reasons(flagged)], object)
        table = append_column(table, "not_listed", NOT_LISTED, reasons)
        return ranked(table, self.name, second=("not_listed",))

    def _comes_near(self, stars: pa.Table) -> Flags:
        """Stars that can be ranked; without scores, CEMP stars are looked for among metal-poor ones."""
        column = ranking_column(stars.column_names, self.name)
        if column is None:
            return np.zeros(stars.num_rows, bool)
        known_N = np.isfinite(float_column(stars, column))
        if self.name == "CEMP" and self.name not in self.rules.thresholds:
            known_N &= self.rules.selected(stars, "MP") & ("class_by_labels" in stars.column_names)
        return np.asarray(known_N)

    def _keep(self, kept: list[pa.Table], stars: pa.Table, chosen_N: Flags) -> None:
        """Keep the best of the stars so far and the chosen ones."""
        column = ranking_column(stars.column_names, self.name)
        if column is not None and 0 < self.size < chosen_N.sum():  # only a few are worth a copy and a sort
            score_N = np.nan_to_num(float_column(stars, column), nan=-np.inf)
            chosen_N = chosen_N & (score_N >= np.sort(score_N[chosen_N])[-self.size])
        table = pa.concat_tables([*kept, stars.filter(pa.array(chosen_N))])
        kept[:] = [best_first(table, self.name).slice(0, self.size)]

    def _below_reasons(self, stars: pa.Table) -> list[str]:
        if self.name not in self.rules.thresholds:
            text = f"labels: not {definitions(self.rules.criterion)[self.name]}"
            return [text] * stars.num_rows
        threshold = self.rules.thresholds[self.name]
        text = f"is below the threshold {threshold.value:.4g}"
        return [
            RULED_OUT_BY if score >= threshold.value else f"{threshold.column} {score:.4g} {text}"
            for score in stars[threshold.column].to_pylist()
        ]

    def _flag_reasons(self, stars: pa.Table) -> list[str]:
        return [f"excluded by {reasons}" for reasons in stars["asked_why"].to_pylist()]
