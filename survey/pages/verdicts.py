"""Files of verdicts: read, and merged to one table, with the agreement of the people who gave them.

A file is what a vetting page saves (CSV or JSON): one row for each star and look. All files are of the same
list. Of two rows of the same person, star and look the newer counts; one without a verdict takes back what
that person said before. The merged verdict of a star is the most
frequent verdict; of a tie, unsure. Second looks say only how well people agree with themselves.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.csv

from survey import files
from survey.pages.agreement import Agreement, group_agreement, pairs_agreement, second_looks
from survey.pages.settings import ReportSettings
from survey.settings import SettingsError
from survey.tables.columns import described_field
from survey.tables.read import open_table

VERDICTS = ("accept", "reject", "unsure")
QUALITIES = (1, 2, 3, 4)
NEEDED = ("list_id", "star", "look", "verdict", "user")
LARGEST = 200 << 20
"""Bytes of a file of verdicts, at most."""
COLUMNS = {
    "star": ("string", "name of the star"),
    "verdict": ("string", "the most frequent verdict: accept, reject or unsure; of a tie, unsure"),
    "people": ("int32", "people who gave a verdict"),
    "accept": ("int32", "people who accept it"),
    "reject": ("int32", "people who reject it"),
    "unsure": ("int32", "people who are unsure"),
    "quality": ("float32", "median quality of the spectrum, 1 to 4; null if nobody gave one"),
    "verdicts": ("string", "the verdict of each person"),
    "notes": ("string", "the notes of all people"),
    "list": ("string", "name of the list"),
    "list_id": ("string", "id of the list of a catalog"),
}
"""The columns of merged verdicts: Arrow type, description."""


@dataclass(frozen=True)
class Verdict:
    """What a person says of a star at the first or the second look.

    `verdict` is empty where there is a note or a quality only, or where the verdict was taken back.
    """

    list_id: str
    list_name: str
    star: str
    look: int
    verdict: str
    quality: int | None
    note: str
    user: str
    time: str


@dataclass(frozen=True)
class MergedVerdicts:
    """The merged table, where it was written, and how people agree."""

    path: str
    table: pa.Table
    people: dict[str, int]
    pairs: list[Agreement]
    themselves: list[Agreement]
    group: Agreement | None


def read_verdicts(path: str) -> list[Verdict]:
    """The verdicts of a file. What is no file of verdicts is an error that names the place."""
    entry = files.stat_of(path)
    if entry is None:
        raise FileNotFoundError(f"report: merge: {path}: no such file; give files that a vetting page saved")
    if entry.size > LARGEST:
        raise ValueError(
            f"report: merge: {path}: {entry.size:,} bytes; a file of verdicts has at most {LARGEST:,}"
        )
    try:
        text = files.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"report: merge: {path}: byte {error.start} is no text in UTF-8; save it again"
        ) from None
    rows = _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text)
    return [_verdict(path, number, row) for number, row in enumerate(rows, 2)]


def _csv_rows(path: str, text: str) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(
            f"report: merge: {path}: no CSV ({error}); give a file that a vetting page saved"
        ) from None
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(
            f"report: merge: {path}: no column {missing[0]}; give a file that a vetting page saved, "
            f"with the columns {', '.join(NEEDED)}"
        )
    return rows


def _json_rows(path: str, text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"report: merge: {path}: no JSON ({error}); give a file that a vetting page saved"
        ) from None
    rows = found.get("verdicts")
    if found.get("format") != "survey-verdicts" or not isinstance(rows, list):
        raise ValueError(f"report: merge: {path}: no file of verdicts; give a file that a vetting page saved")
    wrong = next((number for number, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ValueError(f"report: merge: {path}: verdict {wrong}: is no object; save the file again")
    return rows


def _verdict(path: str, number: int, row: dict[str, Any]) -> Verdict:
    """The verdict of a row, checked."""
    values = {
        name: "" if row.get(name) is None else str(row[name]).strip() for name in (*NEEDED, "quality", "list")
    }
    where = f"report: merge: {path}: row {number}"
    if values["verdict"] and values["verdict"] not in VERDICTS:
        raise ValueError(f"{where}: the verdict is {values['verdict']!r}; give {', '.join(VERDICTS)}")
    if values["look"] not in ("1", "2"):
        raise ValueError(f"{where}: the look is {values['look']!r}; give 1 or 2")
    if values["quality"] and values["quality"] not in map(str, QUALITIES):
        raise ValueError(f"{where}: the quality is {values['quality']!r}; give 1, 2, 3 or 4")
    return Verdict(
        list_id=values["list_id"],
        list_name=values["list"],
        star=values["star"],
        look=int(values["look"]),
        verdict=values["verdict"],
        quality=int(values["quality"]) if values["quality"] else None,
        note=str(row.get("note") or ""),
        user=values["user"],
        time=str(row.get("time") or ""),
    )


def merge_verdicts(settings: ReportSettings) -> MergedVerdicts:
    """Read all files, and write the merged table."""
    path = _place_of(settings)
    newest = _newest(settings.merge)
    looks: dict[int, dict[str, dict[str, str]]] = {1: {}, 2: {}}
    for verdict in newest:
        if verdict.verdict:
            looks[verdict.look].setdefault(verdict.user, {})[verdict.star] = verdict.verdict
    if not any(looks.values()):
        raise ValueError(f"report: merge: {', '.join(settings.merge)}: no verdict in them")
    merged = _merged_table([verdict for verdict in newest if verdict.look == 1])
    _write(path, merged)
    return MergedVerdicts(
        path,
        merged,
        {who: len(verdicts) for who, verdicts in sorted(looks[1].items())},
        pairs_agreement(looks[1]),
        second_looks(looks[1], looks[2]),
        group_agreement(looks[1], VERDICTS),
    )


def _place_of(settings: ReportSettings) -> str:
    """Where the merged table goes. It replaces no file but an older merged table."""
    path = files.absolute(settings.table or "")
    if path in map(files.absolute, settings.merge):
        raise SettingsError(
            f"report: table: {settings.table}: is among the files of merge=, and would be lost; "
            "give another name for the merged verdicts"
        )
    if files.exists(path):
        missing = [name for name in COLUMNS if name not in open_table(path, "report: table").names]
        if missing:
            raise SettingsError(
                f"report: table: {settings.table}: is there and is no table of merged verdicts "
                f"(no column {missing[0]}); give another name"
            )
    return path


def _newest(paths: Iterable[str]) -> list[Verdict]:
    """The newest row of each person, star and look, with a verdict or without. All files are of one list."""
    newest: dict[tuple[str, str, int], Verdict] = {}
    first_path: dict[str, str] = {}
    for path in paths:
        for verdict in read_verdicts(path):
            if verdict.verdict and not verdict.user:
                raise ValueError(
                    f"report: merge: {path}: star {verdict.star}: the name of the person is missing; "
                    "open the file in the page, give your name, and save it"
                )
            first_path.setdefault(verdict.list_id, path)
            key = verdict.user, verdict.star, verdict.look
            if key not in newest or verdict.time >= newest[key].time:
                newest[key] = verdict
    if len(first_path) > 1:
        (one, path), (other, other_path) = list(first_path.items())[:2]
        raise ValueError(
            f"report: merge: {path} is of the list {one}, {other_path} of the list {other}; "
            "merge files of one list"
        )
    return list(newest.values())


def _merged_table(verdicts: list[Verdict]) -> pa.Table:
    """One row per star with a verdict, in the order of the stars' names."""
    by_star: dict[str, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda found: (found.star, found.user)):
        by_star.setdefault(verdict.star, []).append(verdict)
    rows = [_merged_row(star, found) for star, found in by_star.items() if any(row.verdict for row in found)]
    schema = pa.schema([described_field(name, *column) for name, column in COLUMNS.items()])
    return pa.Table.from_pylist(rows, schema)


def _merged_row(star: str, verdicts: list[Verdict]) -> dict[str, Any]:
    judged = [verdict for verdict in verdicts if verdict.verdict]
    counts = Counter(verdict.verdict for verdict in judged)
    (best, most), *others = counts.most_common()
    qualities = [verdict.quality for verdict in verdicts if verdict.quality]
    return {
        "star": star,
        "verdict": "unsure" if others and others[0][1] == most else best,
        "people": len(judged),
        **{name: counts[name] for name in VERDICTS},
        "quality": float(median(qualities)) if qualities else None,
        "verdicts": "; ".join(f"{verdict.user}: {verdict.verdict}" for verdict in judged),
        "notes": "; ".join(f"{verdict.user}: {verdict.note}" for verdict in verdicts if verdict.note),
        "list": verdicts[0].list_name,
        "list_id": verdicts[0].list_id,
    }


def _write(path: str, table: pa.Table) -> None:
    if path.endswith(".parquet"):
        files.write_table(path, table)
        return
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    files.write(path, memoryview(sink.getvalue()))


def merge_summary(merged: MergedVerdicts) -> str:
    """How many verdicts there are, and how people agree, for the terminal."""
    table = merged.table
    counts = Counter(table["verdict"].to_pylist())
    lines = [
        f"verdicts   {merged.path}  {table.num_rows:,} stars: "
        + ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS),
        f"people     {', '.join(f'{who} {count:,}' for who, count in merged.people.items())}",
    ]
    lines += [f"agree      {_agreement_text(found, ' and ')}" for found in merged.pairs]
    if merged.group:
        lines.append(f"agree      {_agreement_text(merged.group, ', ', 'Fleiss')}")
    lines += [f"again      {_agreement_text(found, '')}, at the second look" for found in merged.themselves]
    return "\n".join(lines)


def _agreement_text(found: Agreement, joint: str, name: str = "Cohen") -> str:
    kappa = "kappa is not defined (all verdicts are the same)"
    if found.kappa is not None:
        kappa = f"{name}'s kappa {found.kappa:.2f}"
    return f"{joint.join(found.who)}: {found.share:.0%} of {found.stars:,} stars alike, {kappa}"
