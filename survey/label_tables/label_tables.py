"""Catalogues of labels -> one table of labels for the stars of a survey, and what became of each row.

settings.json           the settings
labels.parquet          the reference set: a row for each visit, with labels, errors, sources, class, weight
matches.parquet         each row of each catalogue: its star, by what it was matched, or why it is not used
contradictions.parquet  the labels on which two catalogues differ by more than their errors
scales.parquet          the scale of each catalogue against that of the reference, with intervals
common.parquet          the values of the stars in common that these came from
weak.parquet            objects that the survey calls something else (with weak.kinds=)
repeats.parquet         pairs of visits of one star (with repeats=true)
*.png, report.txt       pictures and the summary
labels.json             counts; written last

The road: read each catalogue to plain arrays, compare their scales, match their rows to the stars of the
survey, combine them to one value for each star, select the reference set, write.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from survey import files
from survey.folder import Folder
from survey.label_tables.combine_labels import combine_labels
from survey.label_tables.common_scale import CommonStars, apply_scales, compare_scales, scale_table
from survey.label_tables.label_document import LABELS, LabelsDocument
from survey.label_tables.match_stars import StarMatches, group_stars, match_rows
from survey.label_tables.output_tables import LabelJob, matches_table, source_records
from survey.label_tables.own_stars import own_matches, own_stars
from survey.label_tables.read_catalogue import CatalogueRows, read_catalogue, source_path
from survey.label_tables.settings import LabelTables
from survey.label_tables.solar import own_scales, solar_scale
from survey.label_tables.survey_stars import SurveyStars, open_survey
from survey.labelling.star_id import Codes

TABLE, MATCHES, CONTRADICTIONS = "labels.parquet", "matches.parquet", "contradictions.parquet"
SCALES, COMMON, WEAK, REPEATS = "scales.parquet", "common.parquet", "weak.parquet", "repeats.parquet"
CONTENT = (TABLE, MATCHES, CONTRADICTIONS, SCALES, COMMON, WEAK, REPEATS)


@dataclass(frozen=True)
class LabelsResult:
    """A finished folder of labels, its document, and whether it was made just now."""

    folder: str
    document: LabelsDocument
    created: bool

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """A table of the folder, or some of its columns; None if there is none of that name."""
        if name not in self.document.content:
            return None
        return Folder(self.folder, LABELS).table(name, columns, self.document)


def make_labels(settings: LabelTables) -> LabelsResult:
    """Make the label table; a finished one of these files and settings is left as it is."""
    paths, skipped = _find_files(settings)
    solar_scale(settings.solar)
    identity = _identity(settings, paths)
    folder = Folder(files.absolute(settings.labels), LABELS)
    with folder.claim(settings.plain()):
        before = folder.sound_document()
        agrees = folder.agree(settings.plain(), started=folder.is_finished())
        if agrees and before is not None and before.id == identity:
            return LabelsResult(folder.path, before, created=False)
        catalogues = [
            read_catalogue(name, settings.sources[name], path, solar_scale(settings.solar))
            for name, path in paths.items()
        ]
        folder.withdraw()
        if not agrees or before is not None:
            folder.begin(settings.plain())
        for name in CONTENT:
            files.remove(folder.file(name))
        document = _write(settings, catalogues, skipped, folder, identity)
        content = [name for name in CONTENT if files.exists(folder.file(name))]
        document = folder.finish(document, content)
    return LabelsResult(folder.path, document, created=True)


def _find_files(settings: LabelTables) -> tuple[dict[str, str], list[str]]:
    """The file of each source, the preferred source first, and the sources that have none."""
    paths, skipped = {}, []
    for name in settings.by_priority():
        source = settings.sources[name]
        path = source_path(source, settings.folder)
        if files.exists(path):
            paths[name] = path
        elif settings.missing == "skip":
            skipped.append(name)
        else:
            where = f" It is {source.about}; from {source.where}." if source.where else ""
            raise FileNotFoundError(
                f"labels: sources.{name}.file: {path}: no such file; give folder= or sources.{name}.file=, "
                f"or missing=skip.{where}"
            )
    if not paths:
        raise FileNotFoundError(
            f"labels: none of the files of {', '.join(skipped)} is there; give folder=, the folder with them"
        )
    return paths, skipped


def _identity(settings: LabelTables, paths: dict[str, str]) -> str:
    """What the result follows from: the settings, size and time of all files, and the user's own Suns."""
    inputs = [*paths.values(), *([files.absolute(settings.to)] if settings.to else [])]
    if settings.to and files.is_folder(inputs[-1]):
        inputs[-1] = files.join(inputs[-1], "store.json")
    stamps = [files.stat_of(path) for path in inputs]
    found: list[Any] = [settings.plain(), [list(stamp) if stamp else None for stamp in stamps]]
    if own := own_scales([settings.solar, *(source.solar for source in settings.sources.values())]):
        found.append(own)
    text = json.dumps(found)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(
    settings: LabelTables,
    catalogues: list[CatalogueRows],
    skipped: list[str],
    folder: Folder[LabelsDocument],
    identity: str,
) -> LabelsDocument:
    """Writes the tables, and returns the document."""
    survey = open_survey(settings.to, settings.survey) if settings.to else None
    group = group_stars(catalogues, settings.match.radius)
    reference = settings.scale.reference
    if reference not in [rows.name for rows in catalogues]:
        reference = catalogues[0].name
    fits, common = compare_scales(catalogues, group, settings.scale, settings.combine, reference)
    to_scale = {(fit.source, fit.label): fit.apply for fit in fits if fit.is_fitted}
    if settings.scale.apply:
        apply_scales(catalogues, fits)
        to_scale = {}
    stars, matches = _match(settings, catalogues, survey, group)
    combined = combine_labels(
        catalogues, [found.star_R for found in matches], settings.combine, settings.by_priority(), to_scale
    )
    _check_any(settings, catalogues, combined.star_M)
    job = LabelJob(settings, stars, combined)
    _check_signal(settings, job)
    tables = {
        TABLE: job.label_table(),
        MATCHES: matches_table(catalogues, matches, stars),
        CONTRADICTIONS: job.contradictions(),
        SCALES: scale_table(fits),
        COMMON: _common_table(common),
    }
    if settings.weak.kinds and settings.to:
        tables[WEAK] = job.weak_table()
    if settings.repeats:
        tables[REPEATS] = job.repeat_table()
    for name, table in tables.items():
        files.write_table(folder.file(name), table, durable=True)
    return job.document(identity, source_records(catalogues, matches), skipped)


def _match(
    settings: LabelTables, catalogues: list[CatalogueRows], survey: SurveyStars | None, group: list[Codes]
) -> tuple[SurveyStars, list[StarMatches]]:
    """The stars that get labels, and the star of each row; without a survey, all stars of the catalogues."""
    if survey is None:
        return own_stars(catalogues, group), own_matches(catalogues, group)
    return survey, [match_rows(rows, survey, settings.match) for rows in catalogues]


def _check_any(settings: LabelTables, catalogues: list[CatalogueRows], star_M: Codes) -> None:
    """An error if no row of any catalogue found a star; says what became of the rows."""
    if len(star_M):
        return
    lines = []
    for rows in catalogues:
        reasons, counts = np.unique(rows.reason_R.astype(str), return_counts=True)
        why = ", ".join(f"{count:,} {reason}" for reason, count in zip(reasons, counts, strict=True))
        lines.append(f"{rows.name}: {why}")
    raise ValueError(
        f"labels: no row of any source is a star of {settings.to or 'the sky'} ({'; '.join(lines)}); "
        "give the catalogue of these stars as to=, or other ids, position or cuts of the sources"
    )


def _check_signal(settings: LabelTables, job: LabelJob) -> None:
    """An error if no visit has the wanted S/N."""
    if job.usable_N.any():
        return
    unknown, visits = int(np.isnan(job.survey.snr_N).sum()), len(job.survey)
    raise ValueError(
        f"labels: snr={settings.snr:g}: no visit of {settings.to} has so much "
        f"({unknown:,} of {visits:,} have no S/N); give a lower snr=, or the column of S/N as survey.snr="
    )


def _common_table(common: list[CommonStars]) -> pa.Table:
    """The stars in common as rows."""
    parts = [
        pa.table(
            {
                "label": [stars.label] * len(stars.value_P),
                "source": [stars.source] * len(stars.value_P),
                "reference": [stars.reference] * len(stars.value_P),
                "value": stars.value_P,
                "reference_value": stars.reference_P,
            }
        )
        for stars in common
        if len(stars.value_P)
    ]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("label", "source", "reference")),
            *((name, pa.float64()) for name in ("value", "reference_value")),
        ]
    )
    return pa.concat_tables([part.cast(schema) for part in parts]) if parts else schema.empty_table()
