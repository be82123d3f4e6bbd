"""The page about a catalog: what is in its lists, how certain they are, and all its stars in planes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey import files
from survey.catalog.catalog import CURVES, SELECTION, CatalogResult
from survey.catalog.document import CatalogDocument, IntervalRecord
from survey.catalog.flags import flag_table
from survey.catalog.hats import HATS, STARS
from survey.catalog.settings import LIST_NAMES
from survey.pages.page_text import interval_text
from survey.pages.report_blocks import (
    Block,
    ReportPage,
    columns_of,
    facts,
    notes,
    picture_names,
    pictures,
    table,
    text,
    tiles,
)
from survey.pages.star_columns import absolute_carbon, plane_axes, sample_stars
from survey.reports import catalog as report

MOST_LISTED = 5000
"""Candidates of a list that a page has as a table."""
OVERLAY_COLORS = {"MP": "series-3", "CEMP": "series-4"}
LISTED = (
    *("rank", "star", "ra", "dec", "score_cemp", "score_mp", "purity_to_here", "Teff", "logg", "FeH", "CFe"),
    *("snr_best", "n_visits", "kind", "flag_warn", "flag_info", "verdict", "not_listed"),
)
DIGITS: dict[str, int | None] = {
    "ra": 5,
    "dec": 5,
    "Teff": 0,
    "snr_best": 0,
    "score_cemp": 3,
    "score_mp": 3,
    "purity_to_here": 2,
    "logg": 2,
    "FeH": 2,
    "CFe": 2,
}


def catalog_page(page: ReportPage, document: CatalogDocument, folder: str, points: int) -> None:
    """Put everything about a catalog into a page."""
    result = CatalogResult(folder, document, created=False)
    drawn = [files.join(folder, name) for name in picture_names(folder)]
    page.add(
        "Summary",
        _tiles(document),
        _warnings(document),
        text(_printed(result, drawn), "As the job prints it"),
    )
    page.add("Stars", *_planes(page, result, points), about=_planes_text(document, points))
    for name in LIST_NAMES:
        page.add(f"{name} list", *_list_blocks(page, result, name))
    page.add("Purity and completeness", *_curves(page, result), _selection(page, result))
    page.add("Flags", _flags(document))
    page.add("Definitions", facts(dict(document.definitions)))
    page.add("Plots", pictures(folder, picture_names(folder)))


def _printed(result: CatalogResult, drawn: list[str]) -> str:
    """The text that the job prints, without what it did."""
    return report.summary(result, drawn).replace("  (was finished: nothing to do)", "", 1)


def _tiles(document: CatalogDocument) -> Block:
    rows: list[tuple[str, Any, str]] = [
        ("stars", document.stars, f"from {document.predictions.rows:,} spectra")
    ]
    for name in LIST_NAMES:
        threshold = document.thresholds.get(name)
        purity = f"expected purity {_interval(threshold.purity)}" if threshold else ""
        if threshold and threshold.withheld:
            purity = "nothing is promised"
        rows.append((f"{name} candidates", document.candidates[name], purity))
    asked = document.counts.get("asked", {})
    rows.append(("asked", asked.get("yes"), f"{asked.get('not_fgk', 0):,} of other kinds"))
    bad = document.counts.get("flag_bad", {}).get("any")
    rows.append(("with a flag that forbids use", bad, ""))
    return tiles(rows)


def _interval(record: IntervalRecord) -> str:
    return interval_text(record.value, record.low, record.high)


def _warnings(document: CatalogDocument) -> Block | None:
    """What a reader must not miss."""
    rows = [f"{name} list: {why}" for name in LIST_NAMES for why in document.why_short.get(name, ())]
    if document.frequency and document.frequency.warning:
        rows.append(f"The CEMP list is {document.frequency.warning}.")
    if not document.ensemble.calibrated:
        rows.append("The ensemble is not calibrated: do not believe its errors and probabilities.")
    for name, threshold in document.thresholds.items():
        rows += [f"Nothing is promised of the {name} list: {why}" for why in threshold.withheld]
    return notes(rows, tone="warn")


def _planes_text(document: CatalogDocument, points: int) -> str:
    if document.stars <= points:
        return f"All {document.stars:,} stars. Many are drawn as their density, few as points."
    every = -(-document.stars // points)
    return f"Every {every}th of {document.stars:,} stars (points={points} decides). Candidates are all there."


def _planes(page: ReportPage, result: CatalogResult, points: int) -> list[Block | None]:
    stars = sample_stars(result.folder, _star_columns(result.folder), result.document.stars, points)
    overlays, known = [], []
    for name in LIST_NAMES:
        found = result.table(f"{name.lower()}_candidates.parquet")
        if found is None or not found.num_rows:
            continue
        columns = _plane_columns(found.slice(0, MOST_LISTED), list(stars.values))
        known.append(columns)
        first = f"first {MOST_LISTED:,} {name}" if found.num_rows > MOST_LISTED else name
        overlays.append({"name": f"{first} candidates", "color": OVERLAY_COLORS[name], "columns": columns})
    shown = [{key: np.array(_nan(values)) for key, values in columns.items()} for columns in known]
    return [page.planes("", stars, plane_axes(stars, *shown), overlays)]


def _nan(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _plane_columns(found: pa.Table, names: list[str]) -> dict[str, list[float | None]]:
    columns: dict[str, list[float | None]] = {}
    for name in names:
        if name in found.column_names:
            columns[name] = found[name].to_pylist()
        elif name == "AC":
            columns[name] = [
                value if np.isfinite(value) else None for value in absolute_carbon(found).tolist()
            ]
    return columns


def _star_columns(folder: str) -> list[str]:
    """The names of the columns of all stars."""
    for entry in files.walk(files.join(folder, HATS, STARS, "dataset")):
        if entry.path.rpartition("/")[2].startswith("Npix="):
            with files.open_file(entry.path) as stream:
                return list(pq.ParquetFile(stream).schema_arrow.names)
    return []


def _list_blocks(page: ReportPage, result: CatalogResult, name: str) -> list[Block | None]:
    """A list: how it was selected, its candidates, and the stars that come next."""
    document, low = result.document, name.lower()
    threshold = document.thresholds.get(name)  # type: ignore[call-overload]
    rows: dict[str, Any] = {"candidates": document.candidates[name]}  # type: ignore[index]
    if threshold:
        rows |= {
            "threshold": f"{threshold.score} of {threshold.value:.3f} or more",
            "chosen for": "the best F1"
            if threshold.goal == "f1"
            else f"{threshold.goal} {threshold.level:g}",
            "expected purity": _interval(threshold.purity),
            "expected completeness": _interval(threshold.completeness),
            "class shares of the survey": ", ".join(
                f"{share.share:.2%} {key}" for key, share in threshold.mix.classes.items()
            ),
        }
    else:
        rows["selected by"] = document.selected_by.get(name)  # type: ignore[call-overload]
    blocks: list[Block | None] = [facts(rows)]
    if threshold:
        blocks.append(notes(threshold.notes))
    for file, title in ((f"{low}_candidates", "Candidates"), (f"next_{low}", "Stars that come next")):
        found = result.table(f"{file}.parquet")
        if found is not None and found.num_rows:
            part = (
                f", the first {MOST_LISTED:,} of {found.num_rows:,}" if found.num_rows > MOST_LISTED else ""
            )
            columns = columns_of(found.slice(0, MOST_LISTED), LISTED)
            blocks.append(page.long_table(f"{title}{part}", columns, DIGITS))
    command = f"survey report of={files.relative(result.folder)} list={low}"
    if document.candidates[name]:  # type: ignore[index]
        blocks.append(text(command, "A page to vet them one by one"))
    return blocks


def _curves(page: ReportPage, result: CatalogResult) -> list[Block | None]:
    """Purity and completeness by threshold, of each list."""
    found = result.table(CURVES)
    if found is None:
        return []
    blocks: list[Block | None] = []
    for name in LIST_NAMES:
        rows = [row for row in found.to_pylist() if row["search"] == name]
        thresholds = sorted({row["threshold"] for row in rows})
        series = {}
        for metric in ("purity", "completeness"):
            values = {row["threshold"]: row["value"] for row in rows if row["metric"] == metric}
            series[metric] = _nan([values.get(threshold) for threshold in thresholds])
        title = f"{name} list: what to expect, by threshold"
        blocks.append(page.curves(title, ("threshold of the score", thresholds), series) if rows else None)
    return blocks


def _selection(page: ReportPage, result: CatalogResult) -> Block | None:
    found = result.table(SELECTION)
    if found is None:
        return None
    columns = columns_of(found, ("search", "snr", "Teff", "metric", "value", "low", "high", "n"))
    return page.long_table("By signal to noise and temperature", columns)


def _flags(document: CatalogDocument) -> Block | None:
    counts: dict[str, int] = {}
    for column in ("flag_bad", "flag_warn", "flag_info"):
        counts |= document.counts.get(column, {})
    rows = [
        [row["name"].lower().replace("_", " "), row["severity"], counts[row["name"]], row["description"]]
        for row in flag_table().to_pylist()
        if counts.get(row["name"])
    ]
    return table("Stars by flag", ["flag", "severity", "stars", "meaning"], rows, numeric=[2])
