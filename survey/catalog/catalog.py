"""Predictions -> a catalog: a row per star, who is a candidate and why, how pure and complete the lists are to be expected.

settings.json                  what was asked for
hats/  unplaced.parquet        all stars, as a HATS catalog; those without a position (only where there are some)
mp_candidates.*                metal-poor stars (CEMP stars among them), best first: Parquet, VOTable, FITS, CSV
cemp_candidates.*              carbon-enhanced metal-poor stars, likewise
selection.parquet              purity and completeness to be expected by signal to noise and temperature; curves.parquet: by the threshold
flags.csv  columns.csv         what bits and columns mean
known.parquet  truth.parquet   how lists of known stars, or known labels, compare (only where they were given)
catalog.json                   definitions, thresholds, counts, where all of it comes from: written last
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.csv
from pydantic import Field

from survey import __version__, files
from survey.catalog import crossmatch, flags, selection, thresholds_of, truth
from survey.catalog.candidates import Counts, Lists, Rules
from survey.catalog.criteria import definitions
from survey.catalog.exports import COLUMNS, ENDINGS, export
from survey.catalog.flags import Limits, dictionary
from survey.catalog.hats import HATS, PROOF, UNPLACED, Writer, Written
from survey.catalog.selection import Bins
from survey.catalog.sky import cut, margin_order
from survey.catalog.sorting import ROWS, by_region
from survey.catalog.spill import publish, scratch
from survey.catalog.stars import Stars, find
from survey.catalog.thresholds import KINDS, Kind, Search, expected
from survey.catalog.thresholds_of import Bars
from survey.catalog.visits import Visits
from survey.labelling.join import Labels
from survey.labels import Criterion
from survey.predict.output import Predictions, open_predictions
from survey.settings import Settings, SettingsError, differences
from survey.tables.read import absolute

CATALOG, SETTINGS = "catalog.json", "settings.json"
VERSION = 1
MOST_REGIONS = 200
"""Of the sky that rows are sorted into, about: a file for each is open at once."""
FLAGS, SELECTION, CURVES, KNOWN, TRUTH = (
    "flags.csv",
    "selection.parquet",
    "curves.parquet",
    "known.parquet",
    "truth.parquet",
)


class Catalog(Settings):
    """Settings of a catalog."""

    INERT: ClassVar[frozenset[str]] = frozenset({"predictions", "catalog"})

    predictions: str = Field(description="finished predictions")
    catalog: str = Field(description="folder or s3:// prefix of the catalog")
    criterion: Criterion = Field(
        "carbon_0.7", description="which [C/Fe] is carbon-enhanced, for the class by parameters"
    )
    mp: Search = Field(Search(goal="f1"), description="the list of metal-poor stars")
    cemp: Search = Field(Search(goal="f1"), description="the list of carbon-enhanced metal-poor stars")
    visits: Visits = Field(Visits(), description="how visits of a star become one row")
    limits: Limits = Field(Limits(), description="from where on a star is flagged")
    leave_out: tuple[str, ...] = Field(
        (),
        strict=False,
        description="warnings that keep a star out of the lists, beside every flag_bad, such as out_of_domain (flags.csv)",
    )
    bins: Bins = Field(Bins(), description="bins of the selection function")
    known: tuple[str, ...] = Field(
        (), strict=False, description="tables of known stars with positions: CSV, Parquet, FITS or VOTable"
    )
    radius: float = Field(3.0, gt=0, le=60, description="arcsec within which a star is a known one")
    truth: str = Field(
        "",
        description="a table of true labels: the lists are compared with it, stars that members have learned from left out",
    )
    join: Labels = Field(Labels(), description="how that table and the predictions find each other")
    exports: tuple[Literal["votable", "fits", "csv"], ...] = Field(
        ("votable", "fits", "csv"), strict=False, description="formats of the candidate lists beside Parquet"
    )
    rows_per_file: int = Field(500_000, ge=1000, description="most stars of one file of the HATS catalog")
    margin: float = Field(
        10.0, ge=0, le=3600, description="arcsec around each of its tiles that are kept beside it; 0 = none"
    )


@dataclass(frozen=True)
class Outcome:
    """A finished catalog: its folder, its description (catalog.json), and whether it was made just now."""

    folder: str
    about: dict[str, Any]
    made: bool

    def table(self, name: str) -> pa.Table | None:
        """A Parquet table of the catalog's folder; None where it has none of that name."""
        path = files.join(self.folder, name)
        return files.read_table(path) if files.exists(path) else None


def catalog(settings: Catalog) -> Outcome:
    """Make the catalog; one that is finished, of these predictions and settings, is left alone."""
    settings = settings.model_copy(
        update={name: absolute(getattr(settings, name)) for name in ("predictions", "catalog")}
    )
    predictions = open_predictions(settings.predictions)
    note = files.join(settings.catalog, CATALOG)
    _agree(settings)
    if (
        files.exists(note)
        and (about := files.read_json(note))["predictions"]["id"] == predictions.about["id"]
    ):
        return Outcome(settings.catalog, about, made=False)
    _check_criterion(settings, predictions)
    ranges = predictions.about["ensemble"]["about"].get("ranges", {})
    bars = Bars(settings.visits, settings.limits, ranges, flags.named(settings.leave_out))
    validation = thresholds_of.validation(predictions, bars)
    searches: dict[Kind, Search] = {"MP": settings.mp, "CEMP": settings.cemp}
    rules = Rules(settings.criterion, bars, thresholds_of.thresholds(predictions, validation, searches, bars))
    known_lists = [
        crossmatch.read(path) for path in settings.known
    ]  # what is wrong with them is told before the work
    stars = find(predictions)
    met = crossmatch.matched(known_lists, stars.ra_S, stars.dec_S, settings.radius)
    true = (
        truth.read(settings.join.model_copy(update={"table": settings.truth}), predictions, stars)
        if settings.truth
        else None
    )
    _withdraw(settings.catalog)
    with scratch(settings.catalog) as room:
        written, found = _write(settings, predictions, stars, rules, room, met)
        _publish(settings, room, written)
    lists = {kind: found.ranked(kind) for kind in KINDS}
    about = _about(settings, predictions, rules, written, found.counts, lists)
    tables = dict(_tables(rules, validation, settings.bins, met, found))
    if true:
        tables[TRUTH], about["truth"] = true.compared(found)
    for name, table in tables.items():
        files.write_table(
            files.join(settings.catalog, name), table.replace_schema_metadata(origin(predictions))
        )
    _export(settings, predictions, lists)
    files.write_json(note, about)
    return Outcome(settings.catalog, about, made=True)


def _agree(settings: Catalog) -> None:
    """The folder is new, or holds a catalog of the same settings; with others, as long as none was finished."""
    if not files.is_remote(settings.catalog) and Path(settings.catalog).is_file():
        raise SettingsError(f"catalog: catalog: {settings.catalog}: is a file; give an empty or a new folder")
    path, lasting = (
        files.join(settings.catalog, SETTINGS),
        json.loads(json.dumps(settings.lasting(), default=str)),
    )
    if files.exists(path):
        differing = list(differences(files.read_json(path)["settings"], lasting))
        if differing and files.exists(files.join(settings.catalog, CATALOG)):
            raise SettingsError(
                f"catalog: catalog: {settings.catalog}: was made with other settings: {'; '.join(differing)}; give these again, or another catalog="
            )
        if not differing:
            return
    elif strangers := files.names(settings.catalog):
        raise SettingsError(
            f"catalog: catalog: {settings.catalog}: holds {', '.join(strangers[:3])} but is no catalog; give an empty or a new folder"
        )
    files.write_json(path, {"version": VERSION, "code": __version__, "settings": lasting})


def _check_criterion(settings: Catalog, predictions: Predictions) -> None:
    """The labels that are predicted tell carbon-enhanced stars by the criterion that is asked for, if by any."""
    told = set(predictions.labels)
    if settings.criterion == "aoki2007" and {"CFe", "CH"} & told and not {"Teff", "logg"} <= told:
        raise SettingsError(
            f"catalog: criterion=aoki2007: needs Teff and logg, the predictions are of {', '.join(predictions.labels)}; give carbon_0.7 or "
            "carbon_1.0, or predictions by an ensemble that tells them"
        )


def _withdraw(catalog: str) -> None:
    """What an earlier run has left, whole or not, is no catalog any more: files that this one does not write are gone."""
    lists = [f"{kind.lower()}_candidates.{ending}" for kind in KINDS for ending in ENDINGS.values()]
    for name in (CATALOG, *lists, SELECTION, CURVES, KNOWN, TRUTH, FLAGS, COLUMNS):
        files.remove(files.join(catalog, name))


def _write(
    settings: Catalog,
    predictions: Predictions,
    stars: Stars,
    rules: Rules,
    room: Path,
    met: crossmatch.Matched,
) -> tuple[Written, Lists]:
    """All stars into the HATS catalog, and the candidates among them."""
    tiles = cut(stars.pixel_S[: stars.placed], settings.rows_per_file, margin_order(settings.margin))
    writer, found = Writer(room, tiles, origin(predictions), settings.margin, _shown(predictions)), Lists()
    rows = max(min(ROWS, settings.rows_per_file), len(stars.star_N) // MOST_REGIONS)
    for table in by_region(predictions, stars, tiles, rules, room / "regions", rows):
        table = met.beside(table, found.stars)
        writer.add(table)
        found.add(table)
    return writer.finish(), found


def origin(predictions: Predictions) -> dict[str, str]:
    """Where all of it comes from, as every file of a catalog tells."""
    about = predictions.about
    ensemble, source = about["ensemble"], about["source"]
    members = "; ".join(f"{one['name']} ({one['model']}) {one['id']}" for one in ensemble["about"]["members"])
    return {
        "code": f"survey {__version__}",
        "predictions": str(about["id"]),
        "ensemble": str(ensemble["id"]),
        "members": members,
        "source": f"{source['kind']} {source['id']}",
    }


def _shown(predictions: Predictions) -> tuple[str, ...]:
    """The columns that are read where nobody says which: who, where, what class and labels."""
    classes = [f"p_{name.lower()}" for name in predictions.about["classes"]]
    labels = [column for name in predictions.labels for column in (name, f"{name}_err")]
    scores = [f"score_{kind.lower()}" for kind in KINDS] if classes else []
    return (
        "star",
        "ra",
        "dec",
        "snr",
        "n_visits",
        *classes,
        *scores,
        *labels,
        "flag_warn",
        "flag_bad",
        "mp_candidate",
        "cemp_candidate",
    )


def _about(
    settings: Catalog,
    predictions: Predictions,
    rules: Rules,
    written: Written,
    counts: Counts,
    lists: dict[Kind, pa.Table],
) -> dict[str, Any]:
    """What the catalog is."""
    source = {name: predictions.about[name] for name in ("id", "rows", "source")} | {"path": predictions.path}
    ensemble = predictions.about["ensemble"]
    lasting = json.loads(json.dumps(settings.lasting(), default=str))
    digest = hashlib.sha256(
        json.dumps([predictions.about["id"], lasting], sort_keys=True).encode()
    ).hexdigest()
    scored = {
        kind: expected(lists[kind][threshold.column].to_numpy())
        for kind, threshold in rules.thresholds.items()
    }
    return {
        "version": VERSION,
        "id": digest[:16],
        "code": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "predictions": source,
        "ensemble": {"path": ensemble["path"], "id": ensemble["id"], "members": ensemble["about"]["members"]},
        "definitions": definitions(settings.criterion),
        "stars": written.stars,
        "unplaced": written.unplaced,
        "tiles": written.tiles,
        "candidates": {kind: table.num_rows for kind, table in lists.items()},
        "told_by": {kind: rules.told_by(kind, predictions.labels) for kind in KINDS},
        "expected": {kind: {"true": true, "spread": spread} for kind, (true, spread) in scored.items()},
        "thresholds": {kind: threshold.told() for kind, threshold in rules.thresholds.items()},
        "counts": {name: dict(counted) for name, counted in counts.items()},
        "settings": lasting,
    }


def _tables(
    rules: Rules, validation: pa.Table | None, bins: Bins, met: crossmatch.Matched, found: Lists
) -> Iterator[tuple[str, pa.Table]]:
    """What is told beside the lists: what to expect of them, and what came of stars that were known."""
    if validation is not None and rules.thresholds:
        thresholds_of = rules.thresholds.values()
        yield (
            CURVES,
            pa.concat_tables([selection.curve(validation, threshold) for threshold in thresholds_of]),
        )
        yield (
            SELECTION,
            pa.concat_tables([selection.by_bins(validation, threshold, bins) for threshold in thresholds_of]),
        )
    if met.lists:
        yield KNOWN, met.recovery({kind: found.is_candidate(kind) for kind in KINDS})


def _publish(settings: Catalog, room: Path, written: Written) -> None:
    """What was made aside takes its place."""
    publish(room / HATS, files.join(settings.catalog, HATS), PROOF)
    files.remove(files.join(settings.catalog, UNPLACED))
    if written.unplaced:
        files.write(files.join(settings.catalog, UNPLACED), (room / UNPLACED).read_bytes())


def _export(settings: Catalog, predictions: Predictions, lists: dict[Kind, pa.Table]) -> None:
    """The candidates in all formats, and what their bits mean."""
    for kind, table in lists.items():
        export(
            table,
            settings.catalog,
            f"{kind.lower()}_candidates",
            origin(predictions),
            ("parquet", *settings.exports),
        )
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(dictionary(), sink)
    files.write(files.join(settings.catalog, FLAGS), memoryview(sink.getvalue()))
