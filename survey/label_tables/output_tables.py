"""The tables that a training reads, and the counts of the document.

Shapes: R rows of a catalogue, M stars with labels, N visits and S stars of the survey.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey import labels
from survey.label_tables.combine_labels import CombinedLabels
from survey.label_tables.label_document import LabelRecord, LabelsDocument, SourceRecord
from survey.label_tables.match_stars import StarMatches
from survey.label_tables.read_catalogue import KEPT, CatalogueRows
from survey.label_tables.select_stars import select_stars
from survey.label_tables.settings import LabelTables
from survey.label_tables.solar import solar_scale
from survey.label_tables.survey_stars import SurveyStars
from survey.label_tables.weak_labels import repeat_pairs, weak_visits
from survey.labelling.star_id import Codes, Floats

ALWAYS = ("Teff", "logg", "FeH", "CFe", "CH")
"""Labels whose columns the table always has."""

SNR_EDGES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, np.inf)


class LabelJob:
    """The stars of a survey with their combined labels, as tables."""

    def __init__(self, settings: LabelTables, survey: SurveyStars, combined: CombinedLabels) -> None:
        self.settings, self.survey, self.combined = settings, survey, combined
        self.weak_counts: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self.repeats = 0
        self.name_M = survey.name_S[combined.star_M]
        self.class_M = self._classes()

    @cached_property
    def usable_N(self) -> NDArray[np.bool_]:  # noqa: N802
        """The visits with enough signal; an unknown S/N is enough only where none is asked for."""
        if self.settings.snr == 0:
            return np.ones(len(self.survey), bool)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.survey.snr_N >= self.settings.snr)

    @cached_property
    def best_S(self) -> Codes:  # noqa: N802
        """The best visit of each star."""
        return self.survey.best_visits(self.usable_N)

    @property
    def natal_carbon_M(self) -> Floats:  # noqa: N802
        """[C/Fe] with the evolutionary correction, where there is one."""
        return np.asarray(self.combined.label["CFe"] + self.combined.correction_M)

    def _classes(self) -> NDArray[np.int8]:
        """The class of each star by [Fe/H] and [C/Fe], or by the corrected [C/Fe] where there is one."""
        label = self.combined.label
        carbon_M = label["CFe"]
        if self.settings.natal:
            carbon_M = np.where(np.isfinite(self.natal_carbon_M), self.natal_carbon_M, carbon_M)
        none = np.full(len(self.combined), np.nan)
        teff, logg = label.get("Teff", none), label.get("logg", none)
        return labels.classes(label["FeH"], carbon_M, self.settings.criterion, teff, logg)

    @cached_property
    def has_label_M(self) -> NDArray[np.bool_]:  # noqa: N802
        """The stars with any label that is not left out."""
        known_M = np.zeros(len(self.combined), bool)
        for values in self.combined.label.values():
            known_M |= np.isfinite(values)
        return known_M & self.combined.kept_M

    @cached_property
    def candidates_M(self) -> NDArray[np.bool_]:  # noqa: N802
        """The labelled stars with a usable visit."""
        return self.has_label_M & (self.best_S[self.combined.star_M] >= 0)

    @cached_property
    def selection(self) -> tuple[Codes, dict[str, int]]:
        """The stars of the reference set, and how many of each class there are to choose from."""
        index = np.flatnonzero(self.candidates_M)
        snr_M = self.survey.snr_N[self.best_S[self.combined.star_M[index]]]
        taken, available = select_stars(
            self.settings.reference, self.class_M[index], snr_M, self.name_M[index]
        )
        return index[taken], available

    @cached_property
    def rows(self) -> tuple[Codes, Codes]:
        """The visits of the table and the star of each, in the order of the survey."""
        stars, _ = self.selection
        place_S = np.full(self.survey.stars, -1, np.int64)
        place_S[self.combined.star_M[stars]] = stars
        if self.settings.reference.visits == "all":
            visits = np.flatnonzero(self.usable_N & (place_S[self.survey.star_N] >= 0))
        else:
            visits = np.sort(self.best_S[self.combined.star_M[stars]])
        return visits, place_S[self.survey.star_N[visits]]

    def label_table(self) -> pa.Table:
        """The reference set: a row for each visit."""
        visits, star = self.rows
        columns = self._identity(visits)
        words = np.array([*labels.CLASSES, None], object)
        columns["class"] = pa.array(words[self.class_M[star]], pa.string())
        combined = self.combined
        names = [row.name for row in labels.LABELS if row.name in combined.label or row.name in ALWAYS]
        empty_M, no_M = np.full(len(combined), np.nan), np.full(len(combined), "", object)
        for name in names:
            columns[name] = _numbers(combined.label.get(name, empty_M)[star])
        for name in names:
            columns[f"e_{name}"] = _numbers(combined.error.get(name, empty_M)[star])
        for name in names:
            columns[f"source_{name}"] = _texts(combined.origin.get(name, no_M)[star])
        carbon = solar_scale(self.settings.solar).get("C", np.nan)
        columns["A_C"] = _numbers(combined.label["CH"][star] + carbon)
        columns["CFe_correction"] = _numbers(combined.correction_M[star])
        columns["CFe_natal"] = _numbers(self.natal_carbon_M[star])
        columns["n_sources"] = pa.array(combined.sources_M[star])
        columns["contradicts"] = _texts(combined.contradicts_M[star])
        columns["weight"] = pa.array(np.ones(len(visits)))
        return pa.table(columns)

    def _identity(self, visits: Codes, suffix: str = "") -> dict[str, pa.Array]:
        """The columns that say which visit a row is."""
        survey, index = self.survey, pa.array(visits)
        columns = {}
        if "obsid" in survey.ids:
            columns["obsid"] = _integers(survey.ids["obsid"].take(index))
        if "visit" in survey.ids:
            columns["visit"] = survey.ids["visit"].take(index)
        columns["star"] = pa.array([str(name) for name in survey.name_S[survey.star_N[visits]]], pa.string())
        positions = survey.positions
        known = positions.known[visits]
        columns["ra"] = _numbers(np.where(known, positions.ra_R[visits], np.nan))
        columns["dec"] = _numbers(np.where(known, positions.dec_R[visits], np.nan))
        columns["snr"] = _numbers(survey.snr_N[visits])
        for name, column in survey.carried.items():
            columns["survey_class" if name == "class" else name] = column.take(index)
        return {f"{name}{suffix}": column for name, column in columns.items()}

    def contradictions(self) -> pa.Table:
        """The contradictions with the names of the stars."""
        table = self.combined.contradictions
        names = self.survey.name_S[table["star"].to_numpy()]
        return table.set_column(0, "star", pa.array([str(name) for name in names], pa.string()))

    def weak_table(self) -> pa.Table:
        """The visits with weak labels."""
        settings = self.settings.weak
        has_label_S = np.zeros(self.survey.stars, bool)
        has_label_S[self.combined.star_M] = True
        visits, kinds, available = weak_visits(settings, self.survey, self.best_S, has_label_S)
        self.weak_counts = (dict(Counter(kinds.tolist())), available)
        columns = self._identity(visits)
        columns["class"] = pa.array([settings.label] * len(visits), pa.string())
        columns["kind"] = _texts(kinds)
        columns["weight"] = pa.array(np.full(len(visits), settings.weight))
        return pa.table(columns)

    def repeat_table(self) -> pa.Table:
        """Pairs of visits of one star."""
        first, second = repeat_pairs(self.survey, self.usable_N, self.best_S)
        self.repeats = len(first)
        columns = self._identity(first, "_1") | self._identity(second, "_2")
        star = columns.pop("star_1")
        columns.pop("star_2")
        return pa.table({"star": star} | columns)

    def document(
        self, identity: str, sources: Sequence[SourceRecord], skipped: Sequence[str]
    ) -> LabelsDocument:
        """The counts of everything."""
        visits, _ = self.rows
        taken, available = self.selection
        combined = self.combined
        pairs = combined.contradictions
        counted = Counter(
            f"{row['label']}: {row['source_1']} and {row['source_2']}" for row in pairs.to_pylist()
        )
        return LabelsDocument(
            version=1,
            id=identity,
            to=self.settings.to,
            survey_visits=len(self.survey) if self.settings.to else 0,
            survey_stars=self.survey.stars if self.settings.to else 0,
            too_noisy=int((~self.usable_N).sum()),
            sources=tuple(sources),
            skipped=tuple(skipped),
            labelled=int(self.has_label_M.sum()),
            dropped=int((~combined.kept_M).sum()),
            available=available,
            no_class=int((self.class_M[self.candidates_M] == labels.MISSING).sum()),
            stars=len(taken),
            visits=len(visits),
            classes=self._class_counts(taken),
            by_snr=_by_snr(self.survey.snr_N[visits]),
            labels=self._label_records(taken),
            contradictions=dict(counted),
            contradicting_stars=int((combined.contradicts_M != "").sum()),
            weak=self.weak_counts[0],
            weak_available=self.weak_counts[1],
            repeats=self.repeats,
            settings=self.settings.plain(),
        )

    def _class_counts(self, taken: Codes) -> dict[str, int]:
        counts = {
            name: int((self.class_M[taken] == number).sum()) for number, name in enumerate(labels.CLASSES)
        }
        return counts | {"no class": int((self.class_M[taken] == labels.MISSING).sum())}

    def _label_records(self, taken: Codes) -> tuple[LabelRecord, ...]:
        records = []
        for row in labels.LABELS:
            values = self.combined.label.get(row.name, np.empty(0))
            if not len(values) or not np.isfinite(values[taken]).any():
                continue
            known = taken[np.isfinite(values[taken])]
            low, middle, high = np.percentile(values[known], [5, 50, 95]).round(3).tolist()
            origin = Counter(self.combined.origin[row.name][known].tolist())
            records.append(
                LabelRecord(
                    name=row.name,
                    stars=len(known),
                    origin=dict(origin.most_common()),
                    low=low,
                    middle=middle,
                    high=high,
                )
            )
        return tuple(records)


def source_records(catalogues: Sequence[CatalogueRows], matches: Sequence[StarMatches]) -> list[SourceRecord]:
    """What became of the rows of each source; every row is counted once."""
    records = []
    for rows, found in zip(catalogues, matches, strict=True):
        reasons = Counter(rows.reason_R.tolist())
        used = reasons.pop(KEPT, 0)
        if used + sum(reasons.values()) != len(rows):
            raise RuntimeError(f"labels: {rows.name}: {len(rows)} rows, but {used} + {reasons} are counted")
        records.append(
            SourceRecord(
                name=rows.name,
                format=rows.source.format,
                file=rows.source.file,
                rows=len(rows),
                used=used,
                stars=len(np.unique(found.star_R[rows.kept & (found.star_R >= 0)])),
                by=dict(Counter(found.by_R[rows.kept].tolist())),
                ambiguous=int((found.is_ambiguous_R & rows.kept).sum()),
                refused=dict(reasons.most_common()),
                left_out={name: counts for name, counts in rows.labels.left_out.items() if counts},
            )
        )
    return records


def matches_table(
    catalogues: Sequence[CatalogueRows], matches: Sequence[StarMatches], survey: SurveyStars
) -> pa.Table:
    """Each row of each catalogue: the star it belongs to, or why it is not used."""
    parts = []
    names = np.array([*survey.name_S, None], object)
    for rows, found in zip(catalogues, matches, strict=True):
        kept = rows.kept
        star_R = np.where(kept, found.star_R, -1)
        ids = [text.cast(pa.string()) for text in rows.ids.values()]
        parts.append(
            pa.table(
                {
                    "source": pa.array([rows.name], pa.string()).take(
                        pa.array(np.zeros(len(rows), np.int64))
                    ),
                    "row": pa.array(np.arange(len(rows))),
                    "id": pc.coalesce(*ids) if ids else pa.nulls(len(rows), pa.string()),
                    "star": pa.array(names[star_R], pa.string()),
                    "by": _texts(np.where(kept, found.by_R, "")),
                    "arcsec": _numbers(found.arcsec_R),
                    "ambiguous": pa.array(found.is_ambiguous_R),
                    "reason": _texts(rows.reason_R),
                }
            )
        )
    return pa.concat_tables(parts)


def _numbers(values: Floats) -> pa.Array:
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


def _texts(values: NDArray[np.object_]) -> pa.Array:
    """Text, null where it is empty."""
    return pa.array([value or None for value in values.tolist()], pa.string())


def _integers(texts: pa.Array) -> pa.Array:
    """Texts of numbers as whole numbers, if all of them are."""
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return texts


def _by_snr(snr: Floats) -> dict[str, int]:
    counts, _ = np.histogram(snr[np.isfinite(snr)], SNR_EDGES)
    names = [f"{low:g} to {high:g}" for low, high in pairwise(SNR_EDGES[:-1])]
    named = dict(zip([*names, f"{SNR_EDGES[-2]:g} or more"], counts.tolist(), strict=True))
    return named | ({"unknown": int(np.isnan(snr).sum())} if np.isnan(snr).any() else {})
