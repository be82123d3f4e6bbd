"""Results of the observation of a sample -> the purity of the list, with its interval.

results/settings.json           the file of the results
results/results.parquet         each observed star of the sample, with what it is
results/purity.parquet          strata: expected before, observed, to be expected now
results/observed.json           the document; written last

The file of results may grow: it is read anew, and replaces what was there.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.catalog.document import IntervalRecord
from survey.folder import Folder
from survey.followup.choice import RANDOM, YIELD
from survey.followup.followup import SAMPLE, Followup
from survey.followup.followup_document import (
    RESULTS,
    RESULTS_FOLDER,
    FollowupDocument,
    ResultsDocument,
    StratumResult,
)
from survey.followup.outcomes import Outcomes, read_outcomes
from survey.followup.settings import FollowupSettings
from survey.followup.stratified import merge_unobserved, stratified_purity
from survey.metrics.intervals import Measure, share_measure

Floats = NDArray[np.float64]
PRIOR = 2.0
"""The expected share before the observation counts as much as this number of observed stars."""
PARTS = (YIELD, RANDOM)


@dataclass(frozen=True)
class Observed:
    """The results of a sample: their folder, their document, and whether they were read just now."""

    folder: str
    document: ResultsDocument
    created: bool

    def table(self, name: str) -> pa.Table:
        """A table of the folder."""
        return Folder(self.folder, RESULTS).table(name, document=self.document)


def take_results(settings: FollowupSettings, followup: Followup) -> Observed:
    """The results that the settings name, for this sample."""
    path = settings.results or ""
    sample = followup.table(f"{SAMPLE}.parquet")
    others = followup.table("not_chosen.parquet")["star"].to_pylist()
    outcomes = read_outcomes(path, followup.document, sample["star"].to_pylist(), others)
    made_from = json.dumps([followup.document.id, outcomes.true_by_star, outcomes.counts], sort_keys=True)
    identity = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    folder = Folder(files.join(followup.folder, RESULTS_FOLDER), RESULTS)
    values = {"results": files.relative(path)}
    with folder.claim(values):
        before = folder.sound_document()
        agrees = folder.agree(values, started=False)
        if agrees and before is not None and before.id == identity:
            return Observed(folder.path, before, created=False)
        folder.withdraw()
        folder.begin(values)
        observed = _with_outcomes(sample, outcomes)
        document = _document(identity, path, followup.document, outcomes, observed)
        files.write_table(folder.file("results.parquet"), observed)
        strata = [record.model_dump() | record.share.model_dump() for record in document.strata]
        table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "share"} for row in strata])
        files.write_table(folder.file("purity.parquet"), table)
        document = folder.finish(document, ["results.parquet", "purity.parquet"])
    return Observed(folder.path, document, created=True)


def _with_outcomes(sample: pa.Table, outcomes: Outcomes) -> pa.Table:
    """The observed stars of the sample with what they are."""
    true = [outcomes.true_by_star.get(star) for star in sample["star"].to_pylist()]
    table = sample.append_column("true", pa.array(true, pa.bool_()))
    return table.filter(table["true"].is_valid())


@dataclass(frozen=True)
class _Counts:
    """Stars, observed stars and true ones (parts, strata); the parts are those of `PARTS`."""

    size_PH: Floats
    n_PH: Floats
    true_PH: Floats
    outside_H: NDArray[np.int64]

    @classmethod
    def of(cls, document: FollowupDocument, observed: pa.Table) -> "_Counts":
        by_yield = np.array([record.by_yield for record in document.strata])
        stars = np.array([record.stars for record in document.strata])
        n, true = (np.zeros((len(PARTS), len(stars))) for _ in range(2))
        rows = observed.select(["chosen_for", "stratum", "true"]).to_pylist()
        for row in rows:
            place = PARTS.index(row["chosen_for"]), row["stratum"] - 1
            n[place] += 1
            true[place] += row["true"]
        outside = np.array([record.outside for record in document.strata])
        return cls(np.stack([by_yield, stars - by_yield]).astype(float), n, true, outside)

    def purity(self, subject: str, *, with_outside: bool) -> tuple[Measure, int]:
        """The stratified estimate, and how many strata had to be merged with a neighbour."""
        size_PH = self.size_PH
        if with_outside:  # those that cannot be observed count as stars of their stratum
            size_PH = size_PH * (1 + self.outside_H / self.size_PH.sum(0))
        parts, merged = [], 0
        for part in range(len(PARTS)):
            columns, count = merge_unobserved(size_PH[part], self.n_PH[part], self.true_PH[part])
            parts.append(columns)
            merged += count
        size, n, true = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return stratified_purity(size, n, true, subject), merged


def _document(
    identity: str, path: str, sample: FollowupDocument, outcomes: Outcomes, observed: pa.Table
) -> ResultsDocument:
    """What the results say."""
    counts = _Counts.of(sample, observed)
    n, true = int(counts.n_PH.sum()), int(counts.true_PH.sum())
    purity, merged = counts.purity("observable", with_outside=False)
    list_purity, _ = counts.purity("list", with_outside=True)
    strata, not_certified = tuple(_stratum_results(sample, counts)), _not_certified(counts)
    remaining = sum((record.stars - record.observed) * record.now for record in strata)
    outside = sum(record.outside * result.now for record, result in zip(sample.strata, strata, strict=True))
    return ResultsDocument(
        version=RESULTS.version,
        id=identity,
        sample_id=sample.id,
        results=files.relative(path),
        counts=outcomes.counts,
        observed=n,
        true=true,
        plain=_interval(share_measure("observed", "purity", true, n)),
        purity=_interval(purity),
        list_purity=_interval(list_purity),
        before=_expected_before(sample),
        expected=true + remaining + outside if not_certified else list_purity.value * sample.listed,
        strata=strata,
        by_verdict=_by_verdict(observed),
        not_certified=not_certified,
        notes=tuple(_notes(sample, counts, merged)),
    )


def _expected_before(sample: FollowupDocument) -> float:
    """The mean probability of the stars that can be observed, of which `purity` is."""
    stars_H = [record.stars for record in sample.strata]
    return float(np.average([record.expected for record in sample.strata], weights=stars_H))


def _interval(measure: Measure) -> IntervalRecord:
    ends = (measure.value, measure.low, measure.high)
    value, low, high = (end if np.isfinite(end) else None for end in ends)
    return IntervalRecord(value=value, low=low, high=high)


def _stratum_results(sample: FollowupDocument, counts: _Counts) -> list[StratumResult]:
    """Each stratum: what was expected, what was observed, what to expect of the stars that are left."""
    n_H, true_H = counts.n_PH.sum(0), counts.true_PH.sum(0)
    results = []
    for place, record in enumerate(sample.strata):
        n, true = int(n_H[place]), int(true_H[place])
        results.append(
            StratumResult(
                stratum=record.stratum,
                stars=record.stars,
                observed=n,
                true=true,
                before=record.expected,
                share=_interval(share_measure("stratum", "purity", true, n)),
                now=(true + PRIOR * record.expected) / (n + PRIOR),
            )
        )
    return results


def _by_verdict(observed: pa.Table) -> dict[str, tuple[int, int]]:
    """True and all observed stars by the verdict of people."""
    if "verdict" not in observed.column_names:
        return {}
    rows = [
        (row["verdict"] or "none", row["true"]) for row in observed.select(["verdict", "true"]).to_pylist()
    ]
    all_rows, true_rows = Counter(name for name, _ in rows), Counter(name for name, true in rows if true)
    return {name: (true_rows[name], count) for name, count in sorted(all_rows.items())}


def _not_certified(counts: _Counts) -> str:
    """Why the purity of all stars is not known; empty if it is."""
    for part, name in enumerate(("chosen by yield", "drawn at random")):
        if counts.size_PH[part].sum() and not counts.n_PH[part].sum():
            rest = "" if part == 0 else f", and {counts.size_PH[part].sum():,.0f} others stand behind these"
            return f"no star that was {name} has a result{rest}"
    return ""


def _notes(sample: FollowupDocument, counts: _Counts, merged: int) -> list[str]:
    """What the purity assumes."""
    notes = []
    missing = sample.by_yield - int(counts.n_PH[0].sum())
    if missing:
        notes.append(
            f"{missing:,} of {sample.by_yield:,} stars that were chosen by yield have no result: "
            "the others of their stratum stand for them"
        )
    missing = sample.random - int(counts.n_PH[1].sum())
    if missing:
        notes.append(
            f"{missing:,} of {sample.random:,} stars that were drawn at random have no result: this has no "
            "effect on the purity only if the reason has nothing to do with what they are"
        )
    if merged:
        notes.append(f"{merged} strata without a result were joined with the next one")
    if outside := int(counts.outside_H.sum()):
        notes.append(
            f"stars of the list that cannot be observed: {outside:,}; for the purity of the list they count "
            "as stars of equal probability that can"
        )
    return notes
