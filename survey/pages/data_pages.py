"""Pages about data: stores, predictions, latent spaces, and folders of any other kind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.catalog.visits import float_column
from survey.folder import Folder
from survey.latent.latent_document import LatentDocument
from survey.pages.answer_blocks import answer_blocks
from survey.pages.report_blocks import (
    Block,
    ReportPage,
    as_json,
    columns_of,
    facts,
    notes,
    picture_names,
    pictures,
    table,
    text,
    tiles,
)
from survey.pages.star_columns import StarColumn, collect, plane_axes, star_columns
from survey.predict.output import PREDICTIONS, VALIDATION, PredictionsDocument, open_predictions
from survey.spectrum import REASONS
from survey.store.schema import FLAG_MEANINGS
from survey.store.store import StoreDocument, open_store
from survey.tables.read import report_damage

PREVIEW = "preview"
"""The folder of a store with pictures of some of its spectra."""
MOST_SHARDS = 24
"""Shards that are read for planes; of more, some that are evenly spread."""
BINS = 40
MOST_ROWS = 5000
"""Rows of a table in a folder without a page of its own."""


def _some_shards(shards: int) -> list[int]:
    return sorted(set(np.linspace(0, shards - 1, min(shards, MOST_SHARDS)).round().astype(int).tolist()))


def _part_text(shards: int) -> str:
    shown = len(_some_shards(shards)) if shards else 0
    return f"From {shown} of {shards:,} shards, evenly spread." if shown < shards else ""


def _histogram(
    page: ReportPage, title: str, name: str, value_N: np.ndarray, log: bool = False
) -> Block | None:
    """How many rows have which value; the ends are left out."""
    known_N = value_N[np.isfinite(value_N)]
    if log:
        known_N = known_N[known_N > 0]
    if len(known_N) < 2:
        return None
    low, high = np.percentile(known_N, [0.2, 99.8])
    if not low < high:
        return None
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    count_B, _ = np.histogram(known_N, edges)
    return page.curves(title, (name, (edges[1:] + edges[:-1]) / 2), {"spectra": count_B}, y="spectra")


def _reasons(refused: Mapping[str, int], rows_in: int) -> Block | None:
    rows = [
        [reason, count, f"{count / max(rows_in, 1):.2%}", REASONS.get(reason, "")]
        for reason, count in refused.items()
    ]
    return table("Refused, by reason", ["reason", "files", "share", "meaning"], rows, numeric=[1, 2])


def store_page(page: ReportPage, document: StoreDocument, folder: str) -> None:
    """Spectra on one grid: counts, refusals, flags, signal to noise, sky."""
    refused = sum(document.refused.values())
    page.add(
        "Summary",
        tiles(
            [
                ("spectra", document.written, f"of {document.rows_in:,} rows"),
                ("refused", refused, f"{refused / max(document.rows_in, 1):.2%}"),
                ("shards", document.shards, f"{document.files:,} files"),
                ("grid points", len(document.grid), str(document.grid)),
            ]
        ),
    )
    page.add("Refused files", _reasons(document.refused, document.rows_in))
    meanings = {str(flag.name).lower(): meaning for flag, meaning in FLAG_MEANINGS.items()}
    rows = [[name, count, meanings.get(name, "")] for name, count in document.flagged.items()]
    page.add("Flags", table("Spectra with each flag", ["flag", "spectra", "meaning"], rows, numeric=[1]))
    if document.shards and document.written:
        store = open_store(folder)
        wanted = ["snr", "ra", "dec", "class"]
        parts = [store.spectra(shard, wanted) for shard in _some_shards(store.shards)]
        _add_spectra(page, parts, store.shards, [("Sky", "ra", "dec")])
    page.add("Plots", pictures(folder, picture_names(folder, PREVIEW)))


def _add_spectra(
    page: ReportPage, parts: Sequence[pa.Table], shards: int, wanted: Sequence[tuple[str, str, str]]
) -> None:
    """Planes, signal to noise and classes of some shards."""
    columns = star_columns(parts[0].column_names)
    snr = StarColumn("snr", "S/N", 0.5, 0, ("snr",))
    stars = collect([*columns, snr], parts)
    classes: dict[str, int] = {}
    for part in parts:
        for row in part["class"].value_counts().to_pylist():
            classes[str(row["values"])] = classes.get(str(row["values"]), 0) + row["counts"]
    rows = [[name, count] for name, count in sorted(classes.items(), key=lambda item: -item[1])]
    page.add(
        "Spectra",
        page.planes("", stars, plane_axes(stars, wanted=wanted)),
        _histogram(page, "Signal to noise", "S/N", stars.values["snr"], log=True),
        table("The survey's own class", ["class", "spectra"], rows),
        about=_part_text(shards),
    )


def predictions_page(page: ReportPage, document: PredictionsDocument, folder: str) -> None:
    """Answers for every spectrum: counts, planes, domain, and answers about validation spectra."""
    ensemble, refused = document.ensemble, sum(document.refused.values())
    page.add(
        "Summary",
        tiles(
            [
                ("spectra", document.rows, f"of {document.rows_in:,} rows"),
                ("refused", refused, f"{refused / max(document.rows_in, 1):.2%}"),
                (
                    "out of the domain",
                    document.outside_training if ensemble.domain else None,
                    "domain above 1",
                ),
                ("without an answer", document.no_answer, ""),
                (
                    "ruled out by the fastest member alone",
                    document.cascade.ruled_out if document.cascade else None,
                    "cascade=true; in no list",
                ),
                *((name, count, "by class") for name, count in document.per_class.items()),
            ]
        ),
        None if ensemble.calibrated else notes(["The ensemble is not calibrated."], tone="warn"),
        facts(
            {
                "ensemble": ensemble.path,
                "members": ", ".join(member.name for member in ensemble.members),
                "from": document.source.path,
                "batch": document.choice.batch,
                "precision": document.choice.precision,
            }
        ),
    )
    page.add("Refused files", _reasons(document.refused, document.rows_in))
    predictions = open_predictions(folder)
    if predictions.shards and document.rows:
        names = ["ra", "dec", "snr", "class", *document.labels]
        names += ["domain"] if ensemble.domain else []
        parts = [predictions.table(shard, names) for shard in _some_shards(predictions.shards)]
        planes = [("Kiel diagram", "Teff", "logg"), ("Carbon and iron", "FeH", "CFe"), ("Sky", "ra", "dec")]
        _add_spectra(page, parts, predictions.shards, planes)
        if ensemble.domain:
            domain_N = np.concatenate([float_column(part, "domain") for part in parts])
            page.add("Distance from the training spectra", _histogram(page, "", "domain", domain_N))
    if files.exists(files.join(folder, VALIDATION)):
        answers = Folder(folder, PREDICTIONS).table(VALIDATION, document=document)
        found = (
            answer_blocks(page, answers, document.classes)
            if document.classes
            else answer_blocks(page, answers)
        )
        page.add("Validation spectra of the ensemble", *found)
    page.add("Plots", pictures(folder, picture_names(folder)))


def latent_page(page: ReportPage, document: LatentDocument, folder: str, points: int) -> None:
    """What the networks see: maps, clusters, outliers."""
    page.add(
        "Summary",
        tiles(
            [
                ("rows", document.rows, f"{document.no_latent:,} without a latent"),
                ("features", document.width, f"{len(document.shares)} components kept"),
                ("clusters", len([name for name in document.clusters if name != "-1"]), ""),
            ]
        ),
        facts({"predictions": document.predictions, "groups": document.groups.by}),
        notes([f"{name}: {why}" for name, why in document.left_out.items()]),
    )
    columns, wanted = [], []
    for name in document.maps:
        axes = [f"{name}_1", f"{name}_2"]
        columns += [StarColumn(axis, axis.replace("_", " "), 1e-4, 2, (axis,)) for axis in axes]
        wanted.append((name, *axes))
    columns.append(StarColumn("snr", "S/N", 0.5, 0, ("snr",)))
    every = max(1, -(-document.rows // points))
    stars = collect(columns, _map_tables(folder, [column.name for column in columns]), every)
    planes = plane_axes(stars, wanted=wanted)  # type: ignore[arg-type]
    shown = f"Every {every}th of {document.rows:,} rows (points={points} decides). " if every > 1 else ""
    about = f"{shown}A selection in one map is seen in the others."
    page.add("Maps", page.planes("", stars, planes), about=about)
    page.add("Plots", pictures(folder, picture_names(folder)))


def _map_tables(folder: str, names: Iterable[str]) -> Iterator[pa.Table]:
    with files.open_file(files.join(folder, "map.parquet")) as stream:
        file = pq.ParquetFile(stream)
        for group in range(file.num_row_groups):
            there = [name for name in names if name in file.schema_arrow.names]
            yield file.read_row_group(group, there, use_threads=False)


def other_page(page: ReportPage, document: Mapping[str, Any], folder: str) -> None:
    """A folder of a kind without a page of its own: the numbers of its document, its texts and its plots."""
    simple = {key: value for key, value in document.items() if isinstance(value, str | int | float)}
    nested = {key: value for key, value in document.items() if key not in simple and key not in ("content",)}
    page.add("Summary", facts(simple), *(as_json(key, value) for key, value in nested.items()))
    names = sorted(files.names(folder))
    for name in (name for name in names if name.endswith(".txt")):
        page.add(name, text(files.read(files.join(folder, name)).decode(errors="replace")))
    page.add("Plots", pictures(folder, picture_names(folder)))
    for name in (name for name in names if name.endswith(".parquet")):
        found, total = _first_rows(files.join(folder, name))
        part = f"the first {MOST_ROWS:,} of {total:,} rows" if total > MOST_ROWS else ""
        page.add(name, page.long_table(part, columns_of(found)))


def _first_rows(path: str) -> tuple[pa.Table, int]:
    """The first rows of a table without nested columns, and the number of all rows."""
    with files.open_file(path) as stream, report_damage(path, "report"):
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        names = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
        groups: list[int] = []
        rows = 0
        while len(groups) < file.num_row_groups and rows < MOST_ROWS:
            rows += file.metadata.row_group(len(groups)).num_rows
            groups.append(len(groups))
        found = file.read_row_groups(groups, names, use_threads=False)
        return found.slice(0, MOST_ROWS), file.metadata.num_rows
