"""The mirror test: the cut of each list where no star of the list can be.

How many hot stars, M stars, white dwarfs, galaxies, quasars and spectra of the sky have a score above the
threshold, if no flag is looked at? And how many F, G and K stars that are rich in metals by their lines? What
passes there passes among ordinary stars too. If the ensemble has a test population, its draws of carbon-rich
stars whose bands of carbon are blanked are such a group for the CEMP list. Shape: N stars.
"""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from survey.catalog.candidates import COLUMNS as LISTED
from survey.catalog.candidates import CandidateRules
from survey.catalog.check_settings import MirrorSettings
from survey.catalog.document import IntervalRecord, MirrorGroup, MirrorRecord
from survey.catalog.prior import ordinary_probabilities
from survey.catalog.settings import LIST_NAMES, ListName
from survey.catalog.visits import Flags, float_column, is_ruled_out
from survey.ensemble.draws import BASE, blanked
from survey.metrics.intervals import independent_share, wilson

GROUPS: tuple[MirrorGroup, ...] = get_args(MirrorGroup)
KINDS = tuple(group for group in GROUPS if group != "blanked")
"""The groups of stars of the survey."""
SCHEMA = pa.schema(
    [
        pa.field(name, type_, metadata={"description": text})
        for name, type_, text in (
            ("search", pa.string(), "the list: MP or CEMP"),
            (
                "group",
                pa.string(),
                "kind of stars; metal_rich = F, G and K stars rich in metals by their lines",
            ),
            ("n", pa.int64(), "stars of this kind with an answer"),
            ("passed", pa.int64(), "those of them that pass the cut of the list, whatever their flags"),
            ("share", pa.float64(), "their share; null without any star"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of its 95 % interval"),
            ("listed", pa.int64(), "those that are in the list: no flag keeps them out"),
        )
    ]
)


class Mirror:
    """Counts the stars of each group, those that pass the cut, and those in the list."""

    def __init__(
        self, rules: CandidateRules, settings: MirrorSettings, draws: pa.Table | None = None
    ) -> None:
        self.rules, self.settings = rules, settings
        self.blanked = None if draws is None else blanked(draws)
        self.counts: Counter[tuple[str, ...]] = Counter()

    def add(self, stars: pa.Table) -> None:
        """Add further stars."""
        groups = dict(self._groups(stars))
        for group, inside_N in groups.items():
            self.counts[group,] += int(inside_N.sum())
        for name, column in zip(LIST_NAMES, LISTED, strict=True):
            passed_N = self.rules.selected(stars, name)
            listed_N = stars[column].to_numpy(zero_copy_only=False)
            for group, inside_N in groups.items():
                self.counts[group, name, "passed"] += int((inside_N & passed_N).sum())
                self.counts[group, name, "listed"] += int((inside_N & listed_N).sum())

    def records(self) -> tuple[MirrorRecord, ...]:
        """The counts of all groups that have stars, by list."""
        records = [self._record(name, group) for name in LIST_NAMES for group in KINDS if self.counts[group,]]
        return (*records, *self._blanked())

    def _record(self, name: ListName, group: MirrorGroup) -> MirrorRecord:
        n, passed = self.counts[group,], self.counts[group, name, "passed"]
        return _record(name, group, n, passed, self.counts[group, name, "listed"])

    def _blanked(self) -> Iterator[MirrorRecord]:
        """The draws without bands of carbon; those of one spectrum are alike and count as fewer."""
        threshold = self.rules.thresholds.get("CEMP")
        if self.blanked is None or not self.blanked.num_rows or threshold is None:
            return
        passed_N = threshold.passes(ordinary_probabilities(self.blanked)) & ~is_ruled_out(self.blanked)
        allowed_N = ~self.rules.flags.keep_out(self.blanked)
        independent = independent_share(passed_N.astype(np.float64), self.blanked[BASE].to_numpy())
        passed, listed = int(passed_N.sum()), int((passed_N & allowed_N).sum())
        yield _record("CEMP", "blanked", len(passed_N), passed, listed, independent)

    def _groups(self, stars: pa.Table) -> Iterator[tuple[MirrorGroup, Flags]]:
        """The stars of each group that have an answer."""
        answered_N = ~stars["no_answer"].to_numpy(zero_copy_only=False)
        for group in KINDS:
            kind = "FGK" if group == "metal_rich" else group
            inside_N = np.asarray(pc.equal(stars["kind"], kind), bool) & answered_N
            yield group, inside_N & self._is_metal_rich(stars) if group == "metal_rich" else inside_N

    def _is_metal_rich(self, stars: pa.Table) -> Flags:
        feh_N, err_N = (float_column(stars, name) for name in ("FeH_lines", "FeH_lines_err"))
        return np.asarray(feh_N - self.settings.sigmas * err_N > self.settings.feh)


def _record(
    name: ListName, group: MirrorGroup, n: int, passed: int, listed: int, independent: float = 1.0
) -> MirrorRecord:
    """The counts of a group with the interval of its share, of so many independent stars."""
    low, high = (float(end) for end in wilson(passed * independent, n * independent))
    share = IntervalRecord(value=passed / n, low=low, high=high)
    return MirrorRecord(search=name, group=group, n=n, passed=passed, listed=listed, share=share)


def mirror_table(records: tuple[MirrorRecord, ...]) -> pa.Table:
    """The counts as a table."""
    rows = [
        {**record.model_dump(exclude={"share"}), "share": record.share.value}
        | {"low": record.share.low, "high": record.share.high}
        for record in records
    ]
    return pa.Table.from_pylist(rows, SCHEMA)
