"""Verdicts of people about stars, as `survey report merge=...` writes them: columns of the lists, and how
pure the judged part of each list is.

Verdicts belong to stars by their names, so they hold for every catalog that has these stars. A verdict is
about one list: who rejects a star as CEMP says nothing of whether it is metal-poor.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from survey.answers import ColumnSpec
from survey.catalog.document import IntervalRecord, VettedRecord
from survey.catalog.settings import ListName, inner_lists
from survey.metrics.intervals import share_measure
from survey.tables.columns import described_field
from survey.tables.read import open_table

NEEDED = ("star", "verdict", "people")
VERDICTS = ("accept", "reject", "unsure")
MOST_PEOPLE = 1_000_000
COLUMNS: dict[str, ColumnSpec] = {
    "verdict": (
        "string",
        "most frequent verdict about this list: accept, reject or unsure; empty if not judged",
        "",
        "meta.code",
    ),
    "verdict_people": ("int32", "people who judged the star; null if nobody did", "", "meta.number"),
    "verdict_quality": ("float32", "median quality of its spectrum by eye, 1 to 4", "", "meta.code.qual"),
    "verdict_notes": ("string", "what these people noted", "", "meta.note"),
}
"""The columns of verdicts in a list."""

Judgement = tuple[str | None, int | None, float | None, str | None]
"""The values of these columns for a star."""

ABOUT: dict[str, ListName] = {"mp": "MP", "next_mp": "MP", "cemp": "CEMP", "next_cemp": "CEMP"}
"""Which list people were asked about, by the name of the list that they saw."""


@dataclass(frozen=True)
class Vetted:
    """Verdicts by the name of the star, and the list that each is about (empty = not known); none if no file
    is given."""

    by_star: Mapping[str, Judgement] = field(default_factory=dict)
    list_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str, job: str = "catalog") -> Self:
        """The verdicts of a merged table; no verdicts for an empty path. `job` begins its errors."""
        if not path:
            return cls()
        table = open_table(path, f"{job}: verdicts")
        missing = [name for name in NEEDED if name not in table.names]
        if missing:
            raise ValueError(
                f"{job}: verdicts: {path}: no column {missing[0]}; "
                "give the table of survey report merge=[FILE, ...] table=TABLE.csv"
            )
        wanted = [*NEEDED, *(name for name in ("quality", "notes", "list") if name in table.names)]
        by_star, list_of = {}, {}
        for number, row in enumerate(table.read(wanted).to_pylist(), 2):
            if row["verdict"] not in VERDICTS:
                raise ValueError(
                    f"{job}: verdicts: {path}: row {number}: the verdict is {row['verdict']!r}; "
                    f"give {', '.join(VERDICTS)}"
                )
            name, place = str(row["star"] or "").strip(), f"{job}: verdicts: {path}: row {number}"
            if not name:
                raise ValueError(f"{place}: the star has no name; give its name, or leave the row out")
            if name in by_star:
                raise ValueError(f"{place}: the star {name} is there twice; keep one row of each star")
            by_star[name], list_of[name] = _verdict(row, place), row.get("list") or ""
        return cls(by_star, list_of)

    def add_to(self, ranked: pa.Table, name: ListName | None = None) -> pa.Table:
        """A list with the columns of `COLUMNS`; unchanged without verdicts.

        With the name of the list, verdicts that are about another one and say nothing of it are left out.
        """
        if not self.by_star:
            return ranked
        rows = [self._judgement(star, name) for star in ranked["star"].to_pylist()]
        for number, (column_name, column) in enumerate(COLUMNS.items()):
            kind = described_field(column_name, *column)
            ranked = ranked.append_column(kind, pa.array([row[number] for row in rows], kind.type))
        return ranked

    def _judgement(self, star: str, name: ListName | None) -> Judgement:
        """What is said of a star for a list. Quality and notes are those of its spectrum for any list."""
        verdict, people, quality, notes = self.by_star.get(star, (None, None, None, None))
        list_name = self.list_of.get(star, "")
        about = ABOUT.get(list_name)
        if name is None or not list_name or about == name:
            return verdict, people, quality, notes
        if about is not None:
            follows = about in inner_lists(name) and verdict == "accept"
            if follows or (name in inner_lists(about) and verdict == "reject"):
                return verdict, people, quality, notes
        return None, None, quality, notes

    def records(self, ranked: Mapping[ListName, pa.Table]) -> dict[ListName, VettedRecord]:
        """How many stars of each list were judged, and the share that is accepted."""
        return {name: _record(table) for name, table in ranked.items()} if self.by_star else {}


def _verdict(row: dict[str, Any], place: str) -> Judgement:
    people, quality = row["people"], row.get("quality")
    try:
        known = None if quality in (None, "") else float(quality)
        if float(people) != int(people) or not 0 <= int(people) <= MOST_PEOPLE:
            raise ValueError("half a person")  # noqa: TRY301 - the same sentence as for text
        return row["verdict"], int(people), known, row.get("notes") or None
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{place}: people is {people!r}, quality {quality!r}; give a whole number of people up to "
            f"{MOST_PEOPLE:,}, and a quality from 1 to 4 or nothing"
        ) from None


def _record(table: pa.Table) -> VettedRecord:
    counts = Counter(table["verdict"].drop_null().to_pylist())
    decided = counts["accept"] + counts["reject"]
    share = share_measure("list", "purity", counts["accept"], decided)
    interval = (share.value, share.low, share.high) if decided else (None, None, None)
    value, low, high = interval
    return VettedRecord(
        accept=counts["accept"],
        reject=counts["reject"],
        unsure=counts["unsure"],
        purity=IntervalRecord(value=value, low=low, high=high),
    )
