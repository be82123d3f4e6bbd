"""Predictions -> a catalog: one row per star, which stars are candidates and why, and the purity and
completeness to be expected of the lists.

settings.json                  the settings
hats/  no_position.parquet     all stars, as a HATS catalog; the stars without a position (if there are any)
mp_candidates.*                metal-poor stars (CEMP stars too), best first: Parquet, VOTable, FITS, CSV
cemp_candidates.*              carbon-enhanced metal-poor stars, likewise
selection.parquet              expected purity and completeness by signal to noise and temperature
curves.parquet                 expected purity and completeness by threshold
flags.csv  columns.csv         descriptions of flags and columns
known.parquet  truth.parquet   the lists compared with lists of known stars and with true labels (if given)
catalog.json                   definitions, thresholds, counts, and what it was made from; written last
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from survey import __version__, files
from survey.catalog.candidates import CandidateLists, CandidateRules
from survey.catalog.criteria import definitions, has_labels
from survey.catalog.crossmatch import crossmatch, read_list
from survey.catalog.document import (
    CATALOG,
    CatalogDocument,
    EnsembleRecord,
    ExpectedRecord,
    PredictionsRecord,
)
from survey.catalog.exports import COLUMNS_FILE, ENDINGS, csv_bytes, export_table
from survey.catalog.flags import FlagRules, flag_table
from survey.catalog.hats import COLLECTION, HATS, NO_POSITION, HatsCounts, HatsWriter
from survey.catalog.purity import expected_number
from survey.catalog.selection import selection_function, threshold_curve
from survey.catalog.settings import LIST_NAMES, CatalogSettings, ListName, flag_bits
from survey.catalog.sky import make_tiles, margin_order
from survey.catalog.sorting import REGION_ROWS, stars_by_region
from survey.catalog.spill import publish, scratch_folder
from survey.catalog.stars import Stars, find_stars
from survey.catalog.thresholds import choose_thresholds, read_validation
from survey.folder import Folder
from survey.predict.output import Predictions, open_predictions
from survey.settings import SettingsError

if TYPE_CHECKING:
    from survey.catalog.truth import TrueLists

MAX_REGIONS = 200
"""Regions of the sky that rows are sorted into, about: one file each is open at the same time."""
FLAGS = "flags.csv"
SELECTION, CURVES = "selection.parquet", "curves.parquet"
KNOWN, TRUTH = "known.parquet", "truth.parquet"


@dataclass(frozen=True)
class CatalogResult:
    """A finished catalog: its folder, its document, and whether it was created just now."""

    folder: str
    document: CatalogDocument
    created: bool

    def table(self, name: str) -> pa.Table | None:
        """A Parquet table in the folder; None if there is none of that name."""
        path = files.join(self.folder, name)
        return files.read_table(path) if files.exists(path) else None


def make_catalog(settings: CatalogSettings) -> CatalogResult:
    """Make the catalog; a finished catalog of these predictions and settings is left as it is."""
    paths = {name: files.absolute(getattr(settings, name)) for name in ("predictions", "catalog")}
    settings = settings.model_copy(update=paths)
    predictions = open_predictions(settings.predictions)
    folder = Folder(settings.catalog, CATALOG)
    if not folder.agree(settings.plain(), started=folder.is_finished()):
        folder.begin(settings.plain())
    elif folder.is_finished():
        document = folder.document()
        if document.predictions.id == predictions.document.id:
            return CatalogResult(folder.path, document, created=False)
    document = _CatalogJob(settings, predictions, folder).document()
    folder.finish(document)
    return CatalogResult(folder.path, document, created=True)


class _CatalogJob:
    """The work on a catalog. All input is read first, so that an error in it comes before the work."""

    def __init__(
        self, settings: CatalogSettings, predictions: Predictions, folder: Folder[CatalogDocument]
    ) -> None:
        _check_criterion(settings, predictions)
        self.settings, self.predictions, self.folder = settings, predictions, folder
        self.origin = origin(predictions)
        ranges = predictions.document.ensemble.ranges
        flags = FlagRules(settings.limits, ranges, flag_bits(settings.leave_out))
        self.validation = read_validation(predictions, settings.visits, flags)
        thresholds = choose_thresholds(
            predictions, self.validation, settings.goals, settings.limits.domain_warn
        )
        self.rules = CandidateRules(settings.criterion, settings.visits, flags, thresholds)
        known_lists = [read_list(path) for path in settings.known]
        self.stars = find_stars(predictions)
        self.known = crossmatch(known_lists, self.stars.ra_S, self.stars.dec_S, settings.radius)
        self.truth = _read_truth(settings, predictions, self.stars) if settings.truth else None

    def document(self) -> CatalogDocument:
        """Write everything but the document, and return that."""
        self._withdraw()
        with scratch_folder(self.folder.path) as scratch:
            written, lists = self._write_stars(scratch)
            self._publish(scratch, written)
        ranked = {name: lists.ranked(name) for name in LIST_NAMES}
        tables, truth_counts = dict(self._tables(lists)), None
        if self.truth:
            tables[TRUTH], truth_counts = self.truth.compare(lists)
        for name, table in tables.items():
            files.write_table(self.folder.file(name), table.replace_schema_metadata(self.origin))
        self._export(ranked)
        return self._describe(written, lists, ranked, truth_counts)

    def _withdraw(self) -> None:
        """Remove the files of an earlier run, finished or not, that this run may not write again."""
        self.folder.withdraw()
        lists = [f"{name.lower()}_candidates.{ending}" for name in LIST_NAMES for ending in ENDINGS.values()]
        for file in (*lists, SELECTION, CURVES, KNOWN, TRUTH, FLAGS, COLUMNS_FILE):
            files.remove(self.folder.file(file))

    def _write_stars(self, scratch: Path) -> tuple[HatsCounts, CandidateLists]:
        """Write all stars to a HATS catalog in the scratch folder, and collect the candidates."""
        settings, stars = self.settings, self.stars
        pixel_S = stars.pixel_S[: stars.with_position]
        tiles = make_tiles(pixel_S, settings.rows_per_file, margin_order(settings.margin))
        default_columns = _default_columns(self.predictions)
        writer = HatsWriter(scratch, tiles, self.origin, settings.margin, default_columns)
        lists = CandidateLists()
        rows = max(min(REGION_ROWS, settings.rows_per_file), len(stars.star_N) // MAX_REGIONS)
        regions = scratch / "regions"
        for table in stars_by_region(self.predictions, stars, tiles, self.rules.stars, regions, rows):
            table = self.known.add_columns(table, lists.stars)
            writer.add(table)
            lists.add(table)
        return writer.finish(), lists

    def _publish(self, scratch: Path, written: HatsCounts) -> None:
        """Move the HATS catalog from the scratch folder to its place."""
        publish(scratch / HATS, self.folder.file(HATS), COLLECTION)
        files.remove(self.folder.file(NO_POSITION))
        if written.no_position:
            files.write(self.folder.file(NO_POSITION), (scratch / NO_POSITION).read_bytes())

    def _tables(self, lists: CandidateLists) -> Iterator[tuple[str, pa.Table]]:
        """The tables on what to expect of the lists, and on known stars."""
        thresholds = self.rules.thresholds.values()
        if self.validation is not None and thresholds:
            curves = [threshold_curve(self.validation, threshold) for threshold in thresholds]
            yield CURVES, pa.concat_tables(curves)
            bins = self.settings.bins
            functions = [selection_function(self.validation, threshold, bins) for threshold in thresholds]
            yield SELECTION, pa.concat_tables(functions)
        if self.known.lists:
            yield KNOWN, self.known.recovery({name: lists.is_candidate(name) for name in LIST_NAMES})

    def _export(self, ranked: dict[ListName, pa.Table]) -> None:
        """Write the lists of candidates in all formats, and the descriptions of columns and flags."""
        for name, table in ranked.items():
            file = f"{name.lower()}_candidates"
            export_table(table, self.folder.path, file, self.origin, ("parquet", *self.settings.exports))
        files.write(self.folder.file(FLAGS), csv_bytes(flag_table()))

    def _describe(
        self,
        written: HatsCounts,
        lists: CandidateLists,
        ranked: dict[ListName, pa.Table],
        truth_counts: dict[str, int] | None,
    ) -> CatalogDocument:
        thresholds, settings = self.rules.thresholds, self.settings.plain()
        predictions, ensemble = _records(self.predictions)
        expected = {}
        for name, threshold in thresholds.items():
            true, spread = expected_number(ranked[name][threshold.column].to_numpy())
            expected[name] = ExpectedRecord(true=true, spread=spread)
        content = json.dumps([predictions.id, settings], sort_keys=True).encode()
        return CatalogDocument(
            version=CATALOG.version,
            id=hashlib.sha256(content).hexdigest()[:16],
            created=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            predictions=predictions,
            ensemble=ensemble,
            definitions=definitions(self.settings.criterion),
            stars=written.stars,
            no_position=written.no_position,
            tiles=written.tiles,
            candidates={name: table.num_rows for name, table in ranked.items()},
            selected_by={name: self.rules.selected_by(name, self.predictions.labels) for name in LIST_NAMES},
            expected=expected,
            thresholds={name: threshold.record() for name, threshold in thresholds.items()},
            counts={name: dict(counted) for name, counted in lists.counts.items()},
            truth=truth_counts,
            settings=settings,
        )


def _read_truth(settings: CatalogSettings, predictions: Predictions, stars: Stars) -> "TrueLists":
    """What the table of true labels says about the stars."""
    from survey.catalog.truth import read_truth  # loads torch, to know what the members were trained on

    return read_truth(settings.join.model_copy(update={"table": settings.truth}), predictions, stars)


def _check_criterion(settings: CatalogSettings, predictions: Predictions) -> None:
    """The predicted labels must be enough for the criterion, if they say anything about carbon."""
    labels = set(predictions.labels)
    if labels & {"CFe", "CH"} and not has_labels(settings.criterion, labels):
        raise SettingsError(
            f"catalog: criterion={settings.criterion}: needs labels that are not among the predicted ones "
            f"({', '.join(predictions.labels)}); give carbon_0.7 or carbon_1.0, "
            "or predictions of an ensemble with these labels"
        )


def origin(predictions: Predictions) -> dict[str, str]:
    """What a catalog is made from; each of its files says so."""
    document = predictions.document
    members = (f"{member.name} ({member.model}) {member.id}" for member in document.ensemble.members)
    return {
        "code": f"survey {__version__}",
        "predictions": document.id,
        "ensemble": document.ensemble.id,
        "members": "; ".join(members),
        "source": f"{document.source.kind} {document.source.id}",
    }


def _records(predictions: Predictions) -> tuple[PredictionsRecord, EnsembleRecord]:
    """The predictions and the ensemble behind them, as the catalog's document holds them."""
    document, ensemble = predictions.document, predictions.document.ensemble
    return (
        PredictionsRecord(id=document.id, rows=document.rows, source=document.source, path=predictions.path),
        EnsembleRecord(path=ensemble.path, id=ensemble.id, members=ensemble.members),
    )


def _default_columns(predictions: Predictions) -> tuple[str, ...]:
    """The columns that a reader gets without asking: name, position, class and labels."""
    classes = [f"p_{name.lower()}" for name in predictions.document.classes]
    labels = [column for name in predictions.labels for column in (name, f"{name}_err")]
    scores = [f"score_{name.lower()}" for name in LIST_NAMES] if classes else []
    identity = ("star", "ra", "dec", "snr", "n_visits")
    flags = ("flag_warn", "flag_bad", "mp_candidate", "cemp_candidate")
    return (*identity, *classes, *scores, *labels, *flags)
