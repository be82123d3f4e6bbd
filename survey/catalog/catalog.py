"""Predictions -> a catalog: one row per star, which stars are candidates and why, and the purity and
completeness to be expected of the lists.

settings.json                  the settings
hats/  no_position.parquet     all stars, as a HATS catalog; the stars without a position (if there are any)
mp_candidates.*                metal-poor stars (CEMP stars too), best first: Parquet, VOTable, FITS, CSV
cemp_candidates.*              carbon-enhanced metal-poor stars, likewise
next_mp.*  next_cemp.*         the best stars that are not in a list, likewise, and what keeps each out
m_subdwarfs.*  carbon_stars.*  M subdwarfs, and stars rich in carbon, by their bands, likewise
not_fgk.parquet                all stars of other kinds than the lists were tested for, with few columns
unsure.parquet                 all stars about which flags forbid a promise, likewise
selection.parquet              expected purity and completeness by signal to noise and temperature
curves.parquet                 expected purity and completeness by threshold
mirror.parquet                 the cut of each list where no star of it can be: how many pass
flags.csv  columns.csv         descriptions of flags and columns
known.parquet  truth.parquet   the lists compared with lists of known stars and with true labels (if given)
truth_stars.parquet            the stars of known true class, listed or not (if true labels are given)
catalog.json                   definitions, thresholds, counts, and what it was made from; written last
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from survey import files
from survey.catalog import catalog_inputs as inputs
from survey.catalog.asked import ENDING, NOT_ASKED, NotAsked
from survey.catalog.candidates import CandidateLists, CandidateRules
from survey.catalog.criteria import definitions
from survey.catalog.crossmatch import crossmatch, read_list
from survey.catalog.document import CATALOG, CatalogDocument, ExpectedRecord, FrequencyRecord, ThresholdRecord
from survey.catalog.exports import COLUMNS_FILE, ENDINGS, FileFormat, csv_bytes, export_table
from survey.catalog.flag_settings import flag_bits
from survey.catalog.flags import FlagRules, flag_table
from survey.catalog.frequency import cemp_frequency
from survey.catalog.ground import Ground
from survey.catalog.hats import COLLECTION, HATS, NO_POSITION, HatsCounts, HatsWriter
from survey.catalog.kind_lists import KIND_LISTS, KindLists, about_kind
from survey.catalog.list_info import about_list, about_next_best
from survey.catalog.mirror import Mirror, mirror_table
from survey.catalog.names import with_lamost_names
from survey.catalog.next_best import NextBest
from survey.catalog.provenance import input_manifest, origin, records, shorten_paths
from survey.catalog.ranked_purity import with_ranked_purity
from survey.catalog.recovery import recovery_records
from survey.catalog.selection import selection_function, threshold_curve
from survey.catalog.settings import LIST_NAMES, CatalogSettings, ListName
from survey.catalog.short_lists import ShortLists
from survey.catalog.sky import make_tiles, margin_order
from survey.catalog.sorting import REGION_ROWS, stars_by_region
from survey.catalog.spill import publish, scratch_folder
from survey.catalog.stars import find_stars
from survey.catalog.thresholds import choose_thresholds
from survey.catalog.validation_stars import read_draws, read_validation
from survey.catalog.vetted import Vetted
from survey.catalog.visit_scatter import measure_scatter
from survey.catalog.votable import TableInfo
from survey.folder import Folder
from survey.predict.output import Predictions, open_predictions
from survey.tables.columns import column_table

MAX_REGIONS = 200
"""Regions of the sky that rows are sorted into, about: one file each is open at the same time."""
FLAGS, DRAWN = "flags.csv", (".png", "pictures.json")
SELECTION, CURVES, MIRROR = "selection.parquet", "curves.parquet", "mirror.parquet"
KNOWN, TRUTH, TRUTH_STARS = "known.parquet", "truth.parquet", "truth_stars.parquet"


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
    """Make the catalog; a finished catalog of these predictions, tables and settings is left as it is."""
    predictions = open_predictions(files.absolute(settings.predictions))
    inputs.check_subject(predictions)
    folder = Folder(files.absolute(settings.catalog), CATALOG)
    with folder.claim(settings.plain()):
        before = folder.sound_document()
        agrees = folder.agree(settings.plain(), started=folder.is_finished())
        if agrees and before is not None:
            if inputs.is_made_of(before, settings, predictions):
                return CatalogResult(folder.path, before, created=False)
            inputs.check_predictions(before, predictions, folder.path)
        job = _CatalogJob(settings, predictions, folder)
        if not agrees or before is not None:
            folder.withdraw()
            folder.begin(settings.plain())
        document = folder.finish(job.document(), job.content())
    return CatalogResult(folder.path, document, created=True)


@dataclass(frozen=True)
class FinishedLists:
    """The lists, best first, with what is to be said about them."""

    ranked: dict[ListName, pa.Table]
    why_short: dict[ListName, tuple[str, ...]]
    frequency: FrequencyRecord | None

    def notes(self, name: ListName) -> tuple[str, ...]:
        """Why a list is short, or that it is longer than can be."""
        warning = self.frequency.warning if self.frequency and name == "CEMP" else ""
        return (*self.why_short.get(name, ()), *([f"the list is {warning}"] if warning else []))


class _CatalogJob:
    """The work on a catalog. All input is read first, so that an error in it comes before the work."""

    def __init__(
        self, settings: CatalogSettings, predictions: Predictions, folder: Folder[CatalogDocument]
    ) -> None:
        inputs.check_criterion(settings, predictions)
        self.settings, self.predictions, self.folder = settings, predictions, folder
        self.catalogues = inputs.input_catalogues(settings, predictions)
        self.identity = inputs.catalog_id(settings, predictions, self.catalogues)
        self.origin = origin(predictions)
        ranges, leave_out = predictions.document.ensemble.ranges, flag_bits(settings.leave_out)
        flags = FlagRules(settings.limits, ranges, leave_out, settings.second_key, settings.ask)
        lists, self.vetted = list(map(read_list, settings.known)), Vetted.read(settings.verdicts)
        self.stars = find_stars(predictions)
        scatter = measure_scatter(predictions, self.stars.star_N)
        draws = read_draws(predictions)
        self.validation = read_validation(
            predictions, settings.visits, flags, settings.criterion, scatter, draws
        )
        thresholds = choose_thresholds(predictions, self.validation, settings.goals, flags, self.stars.star_N)
        self.rules = CandidateRules(settings.criterion, settings.visits, flags, thresholds, scatter)
        self.known = crossmatch(lists, self.stars.ra_S, self.stars.dec_S, settings.radius)
        manifest = input_manifest(predictions)
        self.input_folder = manifest.folder if manifest else ""
        self.added = inputs.added_columns(settings, self.stars, manifest)
        self.truth = inputs.read_truth(settings, predictions, self.stars) if settings.truth else None
        self.truth_stars: list[pa.Table] = []
        self.kind_lists = KindLists(settings.limits)
        self.ground = Ground(self.validation, flags, settings.ground)
        self.mirror = Mirror(self.rules, settings.mirror, draws)
        self.recovery = recovery_records(self.rules, draws)
        self.next_best = {name: NextBest(self.rules, name, settings.next_best) for name in LIST_NAMES}

    def document(self) -> CatalogDocument:
        """Write everything but the document, and return that."""
        self._withdraw()
        with scratch_folder(self.folder.path) as scratch:
            written, lists = self._write_stars(scratch)
            self._publish(scratch, written)
        ranked = {name: lists.ranked(name) for name in LIST_NAMES}
        self.rules = replace(self.rules, thresholds=self.ground.judge(self.rules.thresholds, ranked))
        ranked = {
            name: self._with_purity(self.vetted.add_to(table, name), name) for name, table in ranked.items()
        }
        frequency = cemp_frequency(ranked["MP"], ranked["CEMP"], self.settings.frequency)
        finished = FinishedLists(ranked, self._why_short(ranked), frequency)
        tables, truth_counts = dict(self._tables(lists)), None
        if self.truth:
            tables[TRUTH], truth_counts = self.truth.compare(lists)
            tables[TRUTH_STARS] = pa.concat_tables(self.truth_stars)
        for name, table in tables.items():
            files.write_table(self.folder.file(name), table.replace_schema_metadata(self.origin))
        self._export(finished)
        return self._describe(written, lists, finished, truth_counts)

    def _with_purity(self, ranked: pa.Table, name: ListName) -> pa.Table:
        """A list, best first, with the purity to be expected down to each row."""
        threshold = self.rules.thresholds.get(name)
        if threshold is None or self.validation is None:
            return ranked
        return with_ranked_purity(ranked, self.validation, threshold)

    def _why_short(self, ranked: dict[ListName, pa.Table]) -> dict[ListName, tuple[str, ...]]:
        """For each list that is empty or very short, why."""
        short_lists = ShortLists(self.predictions, self.rules, self.validation, self.stars.star_N)
        explained = {
            name: short_lists.explain(table.num_rows, self.next_best[name]) for name, table in ranked.items()
        }
        return {name: reasons for name, reasons in explained.items() if reasons}

    def _withdraw(self) -> None:
        """Remove the files of an earlier run, finished or not, that this run may not write again."""
        self.folder.withdraw()
        drawn = [name for name in files.names(self.folder.path) if name.endswith(DRAWN)]
        for file in (*_file_names(), *drawn):
            files.remove(self.folder.file(file))

    def content(self) -> list[str]:
        """The files of the catalog that exist, and the folder of all stars."""
        return [name for name in _file_names() if files.exists(self.folder.file(name))] + [f"{HATS}/"]

    def _write_stars(self, scratch: Path) -> tuple[HatsCounts, CandidateLists]:
        """Write all stars to a HATS catalog in the scratch folder, and collect the candidates."""
        settings, stars = self.settings, self.stars
        pixel_S = stars.pixel_S[: stars.with_position]
        tiles = make_tiles(pixel_S, settings.rows_per_file, margin_order(settings.margin))
        shown = inputs.default_columns(self.predictions)
        origin = {**self.origin, "begun": f"{self.folder.begun():%Y-%m-%dT%H:%MUTC}"}
        writer = HatsWriter(scratch, tiles, origin, settings.margin, shown)
        lists, not_asked = CandidateLists(), NotAsked(scratch, self.origin)
        rows = max(min(REGION_ROWS, settings.rows_per_file), len(stars.star_N) // MAX_REGIONS)
        regions = scratch / "regions"
        for table in stars_by_region(self.predictions, stars, tiles, self.rules.stars, regions, rows):
            table = self.known.add_columns(shorten_paths(table, self.input_folder), lists.stars)
            table = self.added.add_to(table, lists.stars)
            writer.add(table)
            for next_best in self.next_best.values():
                next_best.add(table)
            if self.truth:
                self.truth_stars.append(self.truth.known_stars(table, lists.stars))
            not_asked.add(table)
            self.mirror.add(table)
            self.ground.add(table)
            self.kind_lists.add(table)
            lists.add(table)
        not_asked.publish(self.folder.path)
        return writer.finish(), lists

    def _publish(self, scratch: Path, written: HatsCounts) -> None:
        """Move the HATS catalog from the scratch folder to its place."""
        publish(scratch / HATS, self.folder.file(HATS), COLLECTION)
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
        yield MIRROR, mirror_table(self.mirror.records())
        if self.known.lists:
            yield KNOWN, self.known.recovery({name: lists.is_candidate(name) for name in LIST_NAMES})

    def _export(self, finished: FinishedLists) -> None:
        """Write all lists in all formats, and the descriptions of columns and flags."""
        schemas = [self._export_list(self.kind_lists.ranked(kind), about_kind(kind)) for kind in KIND_LISTS]
        for name, table in finished.ranked.items():
            listed, next_best = list_files(name)
            about = about_list(name, listed, self.rules, self.predictions.labels, finished.notes(name))
            after = about_next_best(name, next_best, self.rules)
            schemas += [
                self._export_list(self.next_best[name].ranked(), after),
                self._export_list(table, about),
            ]
        fields = {field.name: field for schema in reversed(schemas) for field in schema}
        columns = with_lamost_names(column_table(pa.schema(list(fields.values()))))
        files.write(self.folder.file(COLUMNS_FILE), csv_bytes(columns))
        files.write(self.folder.file(FLAGS), csv_bytes(flag_table()))

    def _export_list(self, table: pa.Table, about: TableInfo) -> pa.Schema:
        """Write a list; returns its columns."""
        formats: tuple[FileFormat, ...] = ("parquet", *self.settings.exports)
        export_table(
            table, self.folder.path, about, self.origin, formats, self.settings.names, describe=False
        )
        return table.schema

    def _describe(
        self,
        written: HatsCounts,
        lists: CandidateLists,
        finished: FinishedLists,
        truth: dict[str, int] | None,
    ) -> CatalogDocument:
        thresholds, settings = self.rules.thresholds, self.settings.plain()
        predictions, ensemble = records(self.predictions)
        expected = {
            name: ExpectedRecord.of_list(finished.ranked[name].num_rows, threshold.record().purity)
            for name, threshold in thresholds.items()
        }
        return CatalogDocument(
            version=CATALOG.version,
            id=self.identity,
            created=f"{self.folder.begun():%Y-%m-%d %H:%M:%S %z}",
            predictions=predictions,
            ensemble=ensemble,
            definitions=definitions(self.settings.criterion),
            stars=written.stars,
            no_position=written.no_position,
            tiles=written.tiles,
            candidates={name: table.num_rows for name, table in finished.ranked.items()},
            selected_by={name: self.rules.selected_by(name, self.predictions.labels) for name in LIST_NAMES},
            expected=expected,
            thresholds=dict(self._threshold_records(finished)),
            counts={name: dict(counted) for name, counted in lists.counts.items()} | self.kind_lists.counts(),
            truth=truth,
            settings=settings,
            catalogues=self.catalogues,
            why_short=finished.why_short,
            next_best={name: next_best.count for name, next_best in self.next_best.items()},
            frequency=finished.frequency,
            mirror=self.mirror.records(),
            recovery=self.recovery,
            vetted=self.vetted.records(finished.ranked),
        )

    def _threshold_records(self, finished: FinishedLists) -> Iterator[tuple[ListName, ThresholdRecord]]:
        """The thresholds; the notes say first why a list is short, or too long."""
        for name, threshold in self.rules.thresholds.items():
            record = threshold.record()
            yield name, record.model_copy(update={"notes": (*finished.notes(name), *record.notes)})


def _file_names() -> tuple[str, ...]:
    """All files that a catalog may have besides its document and the folder of all stars."""
    names = [file for name in LIST_NAMES for file in list_files(name)]
    lists = [f"{name}.{ending}" for name in (*names, *KIND_LISTS) for ending in ENDINGS.values()]
    not_asked = [name + ENDING for name in NOT_ASKED]
    others = (SELECTION, CURVES, MIRROR, KNOWN, TRUTH, TRUTH_STARS, FLAGS, COLUMNS_FILE, NO_POSITION)
    return (*lists, *not_asked, *others)


def list_files(name: ListName) -> tuple[str, str]:
    """The names, without an ending, of the files of a list and of the stars that come next."""
    return f"{name.lower()}_candidates", f"next_{name.lower()}"
